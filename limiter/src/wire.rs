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

/// What one transaction does to one counter, in this order: `HINCRBY` for each of `add`, `HGETALL`,
/// `HDEL` of `drop`, `PEXPIRE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub counter: Arc<Counter>,
    /// (stamp in ms of server time, units).
    pub add: Vec<(u64, i64)>,
    /// Stamps that an earlier answer showed to have left the window.
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
    /// For each part all fields of its hash: (stamp, units).
    pub fields: Vec<Vec<(u64, i64)>>,
}
