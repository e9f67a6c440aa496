//! What goes to Redis and what comes back, as values.

use std::sync::Arc;

/// One counter: (unit, window, client[, endpoint]); never the limit's amount or the tier, so that
/// history survives every change of policy.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Counter {
    /// The Redis key without the installation's prefix, hash tag included:
    /// `{acme}:requests:60000` or `{acme}:requests:60000:POST /orders`.
    pub name: String,
    /// How many leading bytes of `name` are the hash tag: counters with the same tag live in one
    /// slot of a Redis Cluster and go in one transaction.
    pub tag_len: usize,
}

impl Counter {
    /// A counter named `{tag}` + `rest`.
    pub fn new(tag: &str, rest: &str) -> Arc<Counter> {
        let name = format!("{{{tag}}}{rest}");
        Arc::new(Counter { tag_len: tag.len() + 2, name })
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
