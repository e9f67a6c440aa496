//! Windows of (time, units), and an exact sliding log.

use std::collections::VecDeque;

/// The first moment at which a window holds too much, with what `judge` says to it, who gets
/// (time, units in the window). Both ends of the window belong to it: times are whole milliseconds, so
/// that two admissions marked `window_ms` apart may be a little less apart.
pub fn first_over<T>(
    admitted: &[(u64, u64)],
    window_ms: u64,
    judge: impl Fn(u64, u64) -> Option<T>,
) -> Option<(u64, T)> {
    let (mut low, mut sum) = (0, 0);
    for &(at, units) in admitted {
        sum += units;
        while admitted[low].0 + window_ms < at {
            sum -= admitted[low].1;
            low += 1;
        }
        if let Some(verdict) = judge(at, sum) {
            return Some((at, verdict));
        }
    }
    None
}

/// A sliding log, exact and unshared: what the same arrivals would have got from a limiter that
/// knows everything at once.
pub struct SlidingLog {
    window_ms: u64,
    amount: u64,
    sum: u64,
    log: VecDeque<(u64, u64)>,
}

impl SlidingLog {
    pub fn new(amount: u64, window_ms: u64) -> SlidingLog {
        SlidingLog { window_ms, amount, sum: 0, log: VecDeque::new() }
    }

    /// Whether `units` at `now` fit.
    pub fn has_room(&mut self, now: u64, units: u64) -> bool {
        while self.log.front().is_some_and(|f| f.0 + self.window_ms <= now) {
            self.sum -= self.log.pop_front().map_or(0, |f| f.1);
        }
        self.sum + units <= self.amount
    }

    /// Charges `units` at `now`.
    pub fn take(&mut self, now: u64, units: u64) {
        self.sum += units;
        self.log.push_back((now, units));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_found_wherever_it_starts() {
        let admitted = [(0, 1), (900, 2), (1000, 2), (1900, 1), (2001, 5)];
        let over = |limit: u64| first_over(&admitted, 1000, |_, n| (n > limit).then_some(n));
        assert_eq!(over(4), Some((1000, 5)), "both ends of a window belong to it");
        assert_eq!(over(5), Some((2001, 6)));
        assert_eq!(over(6), None);
    }

    #[test]
    fn the_exact_log_has_room_again_when_units_left() {
        let mut log = SlidingLog::new(2, 100);
        log.take(0, 1);
        log.take(50, 1);
        assert!(!log.has_room(99, 1) && log.has_room(100, 1) && !log.has_room(100, 2));
    }
}
