//! Bounds of a server's clock, seen from the gateway's own.
//!
//! `TIME` was read by a server at some moment between sending and receiving, so at gateway time `t`
//! the server's clock shows at most `TIME + (t - sent)` and at least `TIME + (t - received)`,
//! widened by 0.1 % of the time since, for clocks that drift apart. Each bound is a straight line
//! in `t` and fits in one word of shared memory, so that workers need no lock to read or renew it.

use std::sync::atomic::Ordering;

use crate::trial::AtomicU64;

/// Drift that is allowed for, in parts per thousand.
const DRIFT: i64 = 1;

/// The words that one clock takes in shared memory.
pub const WORDS: usize = 4;

/// Bounds of one server's clock; all zero before the first `TIME`.
#[derive(Clone, Copy)]
pub struct ServerClock<'a> {
    words: &'a [AtomicU64],
}

impl<'a> ServerClock<'a> {
    /// A view of [`WORDS`] words of shared memory.
    pub fn new(words: &'a [AtomicU64]) -> ServerClock<'a> {
        debug_assert_eq!(words.len(), WORDS);
        ServerClock { words }
    }

    fn word(&self, i: usize) -> i64 {
        self.words[i].load(Ordering::Acquire) as i64
    }

    /// Takes in that a server said `time_ms` (rounded down) between `sent` and `received`. Any
    /// answer gives valid bounds, so it does not matter in which order workers store theirs.
    pub fn observe(&self, sent: u64, received: u64, time_ms: u64) {
        let (sent, received, time) = (sent as i64, received as i64, time_ms as i64 * 1000);
        let above = time + 1000;
        // Upper bounds after and before `sent`, lower bounds after and before `received`.
        let lines = [
            above - (1000 + DRIFT) * sent,
            above - (1000 - DRIFT) * sent,
            time - (1000 - DRIFT) * received,
            time - (1000 + DRIFT) * received,
        ];
        for (word, line) in self.words.iter().zip(lines) {
            word.store(line as u64, Ordering::Release);
        }
    }

    /// The latest that the server's clock can show at gateway time `t`, in ms, rounded up. For a
    /// moment before the observation the other line is the higher one.
    pub fn upper(&self, t: u64) -> u64 {
        let after = (1000 + DRIFT) * t as i64 + self.word(0);
        let before = (1000 - DRIFT) * t as i64 + self.word(1);
        (after.max(before) + 999).div_euclid(1000).max(0) as u64
    }

    /// The earliest that the server's clock can show at gateway time `t`, in ms, rounded down.
    pub fn lower(&self, t: u64) -> u64 {
        let after = (1000 - DRIFT) * t as i64 + self.word(2);
        let before = (1000 + DRIFT) * t as i64 + self.word(3);
        after.min(before).div_euclid(1000).max(0) as u64
    }

    /// Whether `time_ms`, read between `sent` and `received`, agrees with what is known.
    pub fn agrees(&self, sent: u64, received: u64, time_ms: u64) -> bool {
        time_ms <= self.upper(received) && time_ms + 1 >= self.lower(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock<T>(f: impl FnOnce(ServerClock<'_>) -> T) -> T {
        let words: [AtomicU64; WORDS] = Default::default();
        f(ServerClock::new(&words))
    }

    #[test]
    fn bounds_hold_whenever_the_server_read_its_clock() {
        // The true offset is 1,000,000; the server may have answered at any moment in between.
        for at in 100..=140u64 {
            clock(|c| {
                c.observe(100, 140, 1_000_000 + at);
                for t in [0, 50, 100, 120, 140, 150, 5_000, 100_000] {
                    assert!(c.upper(t) >= 1_000_000 + t, "upper at {t}, read at {at}");
                }
                for t in [0, 50, 140, 150, 5_000, 100_000] {
                    assert!(c.lower(t) <= 1_000_000 + t, "lower at {t}, read at {at}");
                }
            });
        }
    }

    #[test]
    fn bounds_widen_with_drift_and_no_more() {
        clock(|c| {
            c.observe(100, 102, 1_000_101);
            assert!(c.upper(10_100) <= 1_010_101 + 10 + 3);
            assert!(c.lower(10_102) >= 1_010_101 - 10 - 3);
        });
    }

    #[test]
    fn a_step_of_the_server_clock_is_noticed_both_ways() {
        clock(|c| {
            c.observe(100, 101, 1_000_100);
            assert!(c.agrees(200, 201, 1_000_200));
            assert!(!c.agrees(200, 201, 1_000_700));
            assert!(!c.agrees(200, 201, 999_900));
        });
    }
}
