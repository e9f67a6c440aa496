//! Polling with a deadline, in place of sleeping and hoping.

use std::time::{Duration, Instant};

/// How long the polls of this crate wait between two looks.
const STEP: Duration = Duration::from_millis(10);

/// Looks every 10 ms until `probe` says true; false when it did not within `deadline`.
pub fn until(deadline: Duration, mut probe: impl FnMut() -> bool) -> bool {
    until_some(deadline, || probe().then_some(())).is_some()
}

/// Looks every 10 ms until `probe` has something; `None` when it had not within `deadline`.
pub fn until_some<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(STEP);
    }
}

/// Lets time pass, where a test is about time itself, as of a window that has to slide.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_until_it_finds_or_gives_up() {
        let mut looks = 0;
        let found = until_some(Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, Some(3));
        assert!(!until(Duration::from_millis(15), || false));
    }
}
