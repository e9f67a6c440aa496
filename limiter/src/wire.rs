//! What goes to Redis and what comes back, as values.

use std::sync::{Arc, OnceLock};

/// One counter: (unit, window, client[, endpoint]); never the limit's amount or the tier, so that
/// history survives every change of policy.
#[derive(Debug)]
pub struct Counter {
    /// The Redis key without the installation's prefix, hash tag included:
    /// `{acme}:requests:60000` or `{acme}:requests:60000:POST /orders`.
    pub name: String,
    /// How many leading bytes of `name` are the hash tag: counters with the same tag live in one
    /// slot of a Redis Cluster and go in one transaction.
    pub tag_len: usize,
    /// Kept for the first table that asked: a process has one.
    hashes: OnceLock<Hashes>,
}

/// Hashes of a counter's tag and name, keyed with a table's secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashes {
    pub seed: [u64; 2],
    pub tag: u64,
    pub name: u64,
}

impl PartialEq for Counter {
    fn eq(&self, other: &Counter) -> bool {
        self.name == other.name && self.tag_len == other.tag_len
    }
}

impl Eq for Counter {}

impl Counter {
    /// A counter named `{tag}` + `rest`.
    pub fn new(tag: &str, rest: &str) -> Arc<Counter> {
        let name = format!("{{{tag}}}{rest}");
        Arc::new(Counter { tag_len: tag.len() + 2, name, hashes: OnceLock::new() })
    }

    /// What `make` says for `seed`, made once.
    pub(crate) fn hashes(&self, seed: [u64; 2], make: impl Fn(&Counter) -> Hashes) -> Hashes {
        let kept = self.hashes.get_or_init(|| make(self));
        if kept.seed == seed { *kept } else { make(self) }
    }

    /// The part that decides the slot.
    pub fn tag(&self) -> &str {
        &self.name[..self.tag_len]
    }
}

/// Which fields a hash can have: that many steps of a stamp's grid. Redis keeps numbers below 2^23 in
/// four bytes, and a whole stamp would take nine.
const FIELDS: u64 = 1 << 23;

/// All stamps of a counter are multiples of this, in ms.
pub(crate) fn grid_ms(window_ms: u64) -> u64 {
    (window_ms / 1000).max(1)
}

/// The field of a counter's hash that stands for a stamp.
pub fn field_of(stamp: u64, window_ms: u64) -> u64 {
    stamp.div_ceil(grid_ms(window_ms)) % FIELDS
}

/// The stamp that a field stands for at server time `time_ms`: of all that share the field, which lie
/// more than 8,000 windows apart, the one that is nearest.
pub fn stamp_of(field: u64, window_ms: u64, time_ms: u64) -> u64 {
    let (grid, now) = (grid_ms(window_ms), time_ms / grid_ms(window_ms));
    let ahead = (field % FIELDS + FIELDS - now % FIELDS) % FIELDS;
    let behind = if ahead < FIELDS / 2 { 0 } else { FIELDS };
    (now + ahead).saturating_sub(behind) * grid
}

/// What one transaction does to one counter, in this order: `HINCRBY` for each of `add`, `HGETALL`,
/// `HDEL` of `drop`, `PEXPIRE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub counter: Arc<Counter>,
    /// (field, units), see [`field_of`].
    pub add: Vec<(u64, i64)>,
    /// Fields that an earlier answer showed to have left the window.
    pub drop: Vec<u64>,
    pub expire_ms: u64,
}

/// One MULTI/EXEC on one server: `TIME`, then the parts. All parts share one hash tag. It is sent at
/// most once: what became of a transaction whose answer was lost is never asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Unique within the worker.
    pub id: u64,
    /// Server life that this transaction was made for; a server of another life must not run it.
    /// 0 stands for "whichever".
    pub life: u64,
    pub parts: Vec<Part>,
}

/// What a transaction saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `TIME`, in milliseconds, rounded down.
    pub time_ms: u64,
    /// Identifies this life of this server (a hash of its run id, never 0).
    pub life: u64,
    /// For each part all fields of its hash with their units.
    pub fields: Vec<Vec<(u64, i64)>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn a_field_stands_for_its_stamp_for_thousands_of_windows() {
        for window_ms in [500, 1_000, 60_000, 3_600_000, 33 * DAY] {
            let grid = grid_ms(window_ms);
            for now in [1_700_000_000_000, 1_800_000_012_345] {
                for away in [0, 1, 1_000, 1_100, 4_000_000] {
                    let (later, earlier) =
                        ((now / grid + away) * grid, (now / grid - away.min(now / grid)) * grid);
                    assert_eq!(stamp_of(field_of(later, window_ms), window_ms, now), later);
                    assert_eq!(stamp_of(field_of(earlier, window_ms), window_ms, now), earlier);
                }
            }
        }
    }

    #[test]
    fn a_field_is_short_and_never_of_an_earlier_moment() {
        for stamp in [1, 59, 60, 1_800_000_012_345] {
            let field = field_of(stamp, 60_000);
            assert!(field < FIELDS);
            assert!((stamp..stamp + 60).contains(&stamp_of(field, 60_000, stamp)));
        }
        // Whatever somebody else may have put there.
        assert_eq!(stamp_of(u64::MAX, 60_000, 7) % 60, 0);
    }
}
