//! The one place that reads a clock. Everything else is told what time it is.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// One moment on the two clocks a gateway goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME` in milliseconds: goes on through suspend and is never stepped, so windows
    /// are measured by it.
    pub boot_ms: u64,
    /// Microseconds since the Unix epoch: for records, for the days on which an API key is valid, and
    /// for calendar quotas.
    pub unix_us: u64,
}

/// How far the Unix clock was ahead of the other when both were read last, in microseconds.
static AHEAD_US: AtomicU64 = AtomicU64::new(0);

impl Now {
    /// Reads both clocks.
    pub fn read() -> Now {
        let boot_us = micros(clock_gettime(ClockId::Boottime));
        let unix_us = micros(clock_gettime(ClockId::Realtime));
        AHEAD_US.store(unix_us.wrapping_sub(boot_us), Ordering::Relaxed);
        Now { boot_ms: boot_us / 1_000, unix_us }
    }

    /// Reads one clock and knows the other by what [`Now::read`], called every second, found: for
    /// the way of a request. A step of the Unix clock shows a second late.
    pub fn quick() -> Now {
        let boot_us = micros(clock_gettime(ClockId::Boottime));
        Now { boot_ms: boot_us / 1_000, unix_us: boot_us.wrapping_add(AHEAD_US.load(Ordering::Relaxed)) }
    }

    /// What the first clock shows when the second, as both stand now, shows this many seconds.
    pub fn boot_ms_at(self, unix_s: i64) -> u64 {
        let until_ms = unix_s.saturating_mul(1_000).saturating_sub((self.unix_us / 1_000) as i64);
        self.boot_ms.saturating_add_signed(until_ms)
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
        let third = Now::quick();
        assert!(third.boot_ms >= second.boot_ms);
        assert!(third.unix_us.abs_diff(second.unix_us) < 60_000_000, "{second:?}, then {third:?}");
    }

    #[test]
    fn a_time_before_the_epoch_is_the_epoch() {
        assert_eq!(micros(Timespec { tv_sec: -5, tv_nsec: 0 }), 0);
    }
}
