//! Grants: more of a limit for a while. They begin and end by the clock, without a new policy.

use std::ops::Range;

use crate::grammar::limit::{MAX_AMOUNT, spell_limit};
use crate::model::{Grant, Policy};
use crate::seat::Applied;

impl Policy {
    /// What a client was granted, over or not.
    pub fn grants_of(&self, client: &str) -> &[Grant] {
        self.grants.get(client).map_or(&[], |grants| grants)
    }
}

/// The seconds around `now_s` during which the same of these grants hold.
pub(crate) fn steady_s(grants: &[Grant], now_s: i64) -> Range<i64> {
    let mut steady = i64::MIN..i64::MAX;
    for edge in grants.iter().flat_map(|grant| [grant.valid_s.start, grant.valid_s.end]) {
        if edge <= now_s {
            steady.start = steady.start.max(edge);
        } else {
            steady.end = steady.end.min(edge);
        }
    }
    steady
}

/// Adds what is granted now to limits of a client that stand for every request. A limit of one
/// endpoint is known by its name, in which the endpoint follows.
pub(crate) fn add(grants: &[Grant], now_s: i64, out: &mut [Applied]) {
    for applied in out {
        let limit = &mut applied.limit;
        let holds = |grant: &&Grant| {
            (grant.limit.unit, grant.limit.window) == (limit.unit, limit.window)
                && grant.valid_s.contains(&now_s)
        };
        let more = grants.iter().filter(holds).fold(0u64, |sum, g| sum.saturating_add(g.limit.amount));
        if more > 0 && *applied.name == spell_limit(limit) {
            limit.amount = limit.amount.saturating_add(more).min(MAX_AMOUNT);
            applied.name = spell_limit(limit).into();
        }
    }
}
