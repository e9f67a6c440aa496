//! The limits that a request has gone beyond, because the policy lets some do so.

use smallvec::SmallVec;
use weir_limiter::LimitState;

/// What is asked instead of these limits is how much may pass beyond them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beyond(SmallVec<[Gone; 1]>);

#[derive(Clone, Copy, Debug)]
struct Gone {
    /// Position among the limits of the request.
    limit: usize,
    /// When the limit itself has room again.
    retry_ms: u64,
    /// What was left of the limit.
    state: LimitState,
}

impl Beyond {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is_of(&self, limit: usize) -> bool {
        self.get(limit).is_some()
    }

    /// Whether it was not beyond this limit before.
    pub fn add(&mut self, limit: usize, retry_ms: u64, state: LimitState) -> bool {
        let is_new = !self.is_of(limit);
        if is_new {
            self.0.push(Gone { limit, retry_ms, state });
        }
        is_new
    }

    pub fn retry_ms(&self, limit: usize) -> Option<u64> {
        self.get(limit).map(|gone| gone.retry_ms)
    }

    pub fn state(&self, limit: usize) -> Option<LimitState> {
        self.get(limit).map(|gone| gone.state)
    }

    fn get(&self, limit: usize) -> Option<&Gone> {
        self.0.iter().find(|gone| gone.limit == limit)
    }
}
