//! Judges of a run. They know nothing of the limiter: only (time, units).

use std::collections::VecDeque;

/// An interval that holds more than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub client: usize,
    /// World time of the admission that was too much, ms.
    pub at_ms: u64,
    pub units: u64,
    pub limit: u64,
}

/// The most units in any interval of `window_ms`, both ends included: times are whole milliseconds,
/// so that two admissions marked `window_ms` apart may be a little less apart.
pub fn worst_window(admitted: &[(u64, u64)], window_ms: u64) -> u64 {
    let (mut low, mut sum, mut worst) = (0, 0, 0);
    for &(t, units) in admitted {
        sum += units;
        while admitted[low].0 + window_ms < t {
            sum -= admitted[low].1;
            low += 1;
        }
        worst = worst.max(sum);
    }
    worst
}

/// The first admission after which its window holds more than the limit then in force.
/// `limits` are (from, amount), ascending.
pub fn first_violation(
    client: usize,
    admitted: &[(u64, u64)],
    window_ms: u64,
    limits: &[(u64, u64)],
) -> Option<Violation> {
    let (mut low, mut sum) = (0, 0);
    for &(at_ms, units) in admitted {
        sum += units;
        while admitted[low].0 + window_ms < at_ms {
            sum -= admitted[low].1;
            low += 1;
        }
        let limit = limits.iter().rev().find(|l| l.0 <= at_ms).map_or(u64::MAX, |l| l.1);
        if sum > limit {
            return Some(Violation { client, at_ms, units: sum, limit });
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

    /// Whether `units` at `now` would have been admitted; if so they are.
    pub fn admit(&mut self, now: u64, units: u64) -> bool {
        while self.log.front().is_some_and(|f| f.0 + self.window_ms <= now) {
            self.sum -= self.log.pop_front().map_or(0, |f| f.1);
        }
        let fits = self.sum + units <= self.amount;
        if fits {
            self.sum += units;
            self.log.push_back((now, units));
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_found_wherever_it_starts() {
        let admitted = [(0, 1), (900, 2), (1000, 2), (1900, 1), (2001, 5)];
        assert_eq!(worst_window(&admitted, 1000), 6);
        assert_eq!(first_violation(3, &admitted, 1000, &[(0, 5)]).map(|v| v.at_ms), Some(2001));
        assert_eq!(first_violation(3, &admitted, 1000, &[(0, 6)]), None);
        assert_eq!(first_violation(3, &admitted, 1000, &[(0, 6), (1500, 4)]).map(|v| v.at_ms), Some(1900));
    }

    #[test]
    fn the_exact_log_admits_again_when_room_came_up() {
        let mut log = SlidingLog::new(2, 100);
        assert!(log.admit(0, 1) && log.admit(50, 1) && !log.admit(99, 1));
        assert!(log.admit(100, 1) && !log.admit(149, 1) && log.admit(150, 1));
    }
}
