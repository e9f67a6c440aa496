//! The one place that reads a clock. Everything else is told what time it is.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// One moment on the two clocks a gateway goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME` in milliseconds: goes on through suspend and is never stepped, so windows
    /// are measured by it.
    pub boot_ms: u64,
    /// Microseconds since the Unix epoch: for records and for the days on which an API key is valid.
    pub unix_us: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Now {
        Now { boot_ms: boot_ms(), unix_us: micros(clock_gettime(ClockId::Realtime)) }
    }

    /// Seconds since the Unix epoch.
    pub fn unix_s(self) -> i64 {
        (self.unix_us / 1_000_000) as i64
    }
}

/// `CLOCK_BOOTTIME` in milliseconds.
pub fn boot_ms() -> u64 {
    micros(clock_gettime(ClockId::Boottime)) / 1_000
}

/// A clock that was set to before its epoch reads as the epoch.
fn micros(time: Timespec) -> u64 {
    let whole = u64::try_from(time.tv_sec).unwrap_or(0);
    let part = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000;
    whole.saturating_mul(1_000_000).saturating_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_advance_and_know_this_century() {
        let first = Now::read();
        let second = Now::read();
        assert!(second.boot_ms >= first.boot_ms);
        assert!(first.unix_s() > 1_700_000_000, "microseconds, not milliseconds: {first:?}");
    }

    #[test]
    fn a_time_before_the_epoch_is_the_epoch() {
        assert_eq!(micros(Timespec { tv_sec: -5, tv_nsec: 0 }), 0);
    }
}
