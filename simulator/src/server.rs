//! A Redis server as far as the protocol can see: hashes of integers that expire, and a clock.

use std::collections::HashMap;

use weir_limiter::{Answer, Transaction};

#[derive(Clone, Default)]
struct Hash {
    /// (stamp, units), ascending.
    fields: Vec<(u64, i64)>,
    expires: u64,
}

/// One server.
pub struct Server {
    hashes: HashMap<String, Hash>,
    /// Its run id; another one after every restart.
    pub life: u64,
    /// Its clock is the world's plus this ...
    pub offset_ms: i64,
    /// ... and goes faster by so many parts per million.
    pub drift_ppm: i64,
    pub transactions: u64,
    kept: Option<HashMap<String, Hash>>,
}

impl Server {
    pub fn new(offset_ms: i64) -> Server {
        Server { hashes: HashMap::new(), life: 1, offset_ms, drift_ppm: 0, transactions: 0, kept: None }
    }

    /// What `TIME` says at world time `now`.
    pub fn time_ms(&self, now: u64) -> u64 {
        let drift = now as i64 * self.drift_ppm / 1_000_000;
        now.saturating_add_signed(self.offset_ms + drift)
    }

    /// Runs one transaction, or nothing where it was made for another life.
    pub fn execute(&mut self, now: u64, transaction: &Transaction) -> Option<Answer> {
        if transaction.life != self.life {
            return None;
        }
        self.transactions += 1;
        let time_ms = self.time_ms(now);
        let fields = transaction.parts.iter().map(|part| {
            if !self.hashes.contains_key(&part.counter.name) {
                self.hashes.insert(part.counter.name.clone(), Hash::default());
            }
            let hash = self.hashes.get_mut(&part.counter.name).expect("just made");
            if hash.expires <= time_ms {
                hash.fields.clear();
            }
            for &(stamp, n) in &part.add {
                match hash.fields.binary_search_by_key(&stamp, |f| f.0) {
                    Ok(at) => hash.fields[at].1 += n,
                    Err(at) => hash.fields.insert(at, (stamp, n)),
                }
            }
            let all = hash.fields.clone();
            if !part.drop.is_empty() {
                hash.fields.retain(|f| !part.drop.contains(&f.0));
            }
            hash.expires = time_ms + part.expire_ms;
            all
        });
        let fields = fields.collect();
        Some(Answer { time_ms, life: self.life, fields })
    }

    /// Restarts as another life, with its data or without.
    pub fn restart(&mut self, keep: bool) {
        self.life += 1;
        if !keep {
            self.hashes.clear();
        }
    }

    /// What a replica that is behind knows; [`Server::fail_over`] goes back to it.
    pub fn replicate(&mut self) {
        self.kept = Some(self.hashes.clone());
    }

    /// The replica takes over: another life.
    pub fn fail_over(&mut self) {
        self.life += 1;
        self.hashes = self.kept.take().unwrap_or_default();
    }

    /// Loses its data without a restart.
    pub fn flush(&mut self) {
        self.hashes.clear();
    }

    /// Loses one key.
    pub fn evict(&mut self, name: &str) {
        self.hashes.remove(name);
    }

    /// The most fields that a hash has.
    pub fn most_fields(&self) -> usize {
        self.hashes.values().map(|h| h.fields.len()).max().unwrap_or(0)
    }
}
