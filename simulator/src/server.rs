//! A Redis server as far as the protocol can see: hashes of integers that expire, and a clock.

use std::collections::{BTreeMap, HashMap};

use weir_limiter::{Answer, Transaction};

/// One server. Its clock is the world's plus `offset_ms`.
pub struct Server {
    hashes: HashMap<String, (BTreeMap<u64, i64>, u64)>,
    /// Its run id; another one after every restart.
    pub life: u64,
    pub offset_ms: i64,
    pub transactions: u64,
}

impl Server {
    pub fn new(offset_ms: i64) -> Server {
        Server { hashes: HashMap::new(), life: 1, offset_ms, transactions: 0 }
    }

    /// What `TIME` says at world time `now`.
    pub fn time_ms(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.offset_ms)
    }

    /// Runs one transaction, or nothing where it was made for another life.
    pub fn execute(&mut self, now: u64, transaction: &Transaction) -> Option<Answer> {
        if transaction.life != self.life {
            return None;
        }
        self.transactions += 1;
        let time_ms = self.time_ms(now);
        let fields = transaction.parts.iter().map(|part| {
            let (hash, expires) = self.hashes.entry(part.counter.name.clone()).or_default();
            if *expires <= time_ms {
                hash.clear();
            }
            for &(stamp, n) in &part.add {
                *hash.entry(stamp).or_default() += n;
            }
            let all = hash.iter().map(|(&s, &n)| (s, n)).collect();
            for stamp in &part.drop {
                hash.remove(stamp);
            }
            *expires = time_ms + part.expire_ms;
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

    /// Loses its data without a restart.
    pub fn flush(&mut self) {
        self.hashes.clear();
    }

    /// The lowest value of any field: below zero, more was taken back than was ever put there.
    pub fn lowest(&self) -> i64 {
        self.hashes.values().flat_map(|(h, _)| h.values()).copied().min().unwrap_or(0)
    }

    /// The most fields that a hash has.
    pub fn most_fields(&self) -> usize {
        self.hashes.values().map(|(h, _)| h.len()).max().unwrap_or(0)
    }
}
