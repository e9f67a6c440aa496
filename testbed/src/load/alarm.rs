//! A timer that wakes within some tens of microseconds. Tokio's own has steps of a millisecond, which
//! would be most of the latency that a fast server shows.

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;

pub(super) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    pub(super) fn new() -> Result<Alarm> {
        // SAFETY: timerfd_create takes two numbers; what it returns is a new descriptor that nobody
        // else owns, or -1.
        let fd = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: an OwnedFd keeps its one descriptor open until it is dropped, and nobody takes it
        // out of the AsyncFd.
        Ok(Alarm(unsafe { AsyncFd::register(fd) }?))
    }

    /// Waits until `moment`; returns at once when it has passed.
    pub(super) async fn at(&self, moment: Instant) -> Result<()> {
        let Some(left) = moment.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
            return Ok(());
        };
        self.set(left)?;
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(read) = ready.try_io(|fd| take(fd.as_raw_fd())) {
                return read;
            }
        }
    }

    fn set(&self, left: Duration) -> Result<()> {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos() as libc::c_long,
        };
        let spec = libc::itimerspec { it_interval: zero, it_value: value };
        // SAFETY: the descriptor is a timer of ours; spec lives through the call; the old value is
        // not asked for.
        let done =
            unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
        if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
    }
}

/// Reads the number of expirations, which makes the timer unreadable again.
fn take(fd: i32) -> Result<()> {
    let mut count = 0_u64;
    // SAFETY: the buffer has the eight bytes that a timer writes.
    let read = unsafe { libc::read(fd, (&raw mut count).cast(), size_of::<u64>()) };
    if read == 8 { Ok(()) } else { Err(Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_at_the_moment_and_not_before_and_again() {
        let alarm = Alarm::new().unwrap();
        for micros in [0, 300, 2_500] {
            let moment = Instant::now() + Duration::from_micros(micros);
            alarm.at(moment).await.unwrap();
            assert!(Instant::now() >= moment);
        }
    }

    #[tokio::test]
    async fn half_of_its_calls_come_within_half_a_millisecond() {
        let alarm = Alarm::new().unwrap();
        let mut late = Vec::new();
        for _ in 0..101 {
            let moment = Instant::now() + Duration::from_micros(700);
            alarm.at(moment).await.unwrap();
            late.push(Instant::now() - moment);
        }
        late.sort_unstable();
        assert!(late[50] < Duration::from_micros(500), "median {:?}", late[50]);
    }
}
