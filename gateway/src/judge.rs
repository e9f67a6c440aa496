//! May it? From the limiter's decision to a verdict.

use smallvec::SmallVec;
use weir_limiter::{Ask, Decision as Found, Fallback, Unit, Worker};
use weir_metering::Decision;
use weir_policy::{Action, Applied};

use crate::fields::seconds;
use crate::settings::FallbackMode;
use crate::walk::{Outcome, Reason, Refusal, Verdict, Walk};

/// Seconds after which a client should come back when nobody can say more.
const TRY_AGAIN_S: u64 = 1;

/// The version of [`weir_policy::Book::none`].
const NO_POLICY: u64 = 0;

/// Everything a verdict depends on but the request itself.
pub(crate) struct Judge<'a> {
    pub worker: &'a mut Worker,
    pub now_ms: u64,
    /// Whether a request may wait for a lease: not when Redis is known to be away, and not twice.
    pub may_wait: bool,
    /// Gateways that share the limits, for `weir_fallback local`.
    pub gateways: u32,
}

/// Whether the limiter decided by itself or by `weir_fallback`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    Exact,
    Degraded,
}

impl Judge<'_> {
    /// Decides about `walk`, for the first time or again after it waited.
    pub fn judge(&mut self, walk: &mut Walk) {
        if walk.profile.policy_version == NO_POLICY {
            return self.without_policy(walk);
        }
        match walk.profile.action {
            Action::Reject => self.refuse(walk, Reason::UnknownCaller, None, Ground::Exact),
            Action::Enforce if !walk.profile.limits.is_empty() => self.ask(walk),
            Action::Enforce | Action::Observe | Action::Exempt => pass(walk, Ground::Exact),
        }
    }

    /// The published policy has not come yet, and none was kept.
    fn without_policy(&mut self, walk: &mut Walk) {
        match walk.rules.fallback {
            FallbackMode::Deny => self.refuse(walk, Reason::CannotDecide, None, Ground::Degraded),
            FallbackMode::Local | FallbackMode::Allow => pass(walk, Ground::Degraded),
        }
    }

    fn ask(&mut self, walk: &mut Walk) {
        let mut states = std::mem::take(&mut walk.states);
        let found = self.worker.decide(self.now_ms, &asks(walk), &mut states);
        walk.states = states;
        match found {
            Found::Allow => pass(walk, Ground::Exact),
            Found::Refuse { by, retry_after_ms } => self.limit(walk, by, retry_after_ms, Ground::Exact),
            Found::Wait if self.may_wait => walk.verdict = Verdict::Wait,
            Found::Wait | Found::CannotDecide(_) => self.fall_back(walk),
        }
    }

    fn fall_back(&mut self, walk: &mut Walk) {
        let fallback = match walk.rules.fallback {
            FallbackMode::Local => Fallback::Local { gateways: self.gateways },
            FallbackMode::Allow => Fallback::Allow,
            // Nobody's quota is used up, so this is no 429, and no quota is told.
            FallbackMode::Deny => {
                walk.states.clear();
                return self.refuse(walk, Reason::CannotDecide, None, Ground::Degraded);
            }
        };
        let mut states = std::mem::take(&mut walk.states);
        let found = self.worker.decide_fallback(self.now_ms, &asks(walk), fallback, &mut states);
        walk.states = states;
        match found {
            Found::Refuse { by, retry_after_ms } => {
                self.limit(walk, by, retry_after_ms, Ground::Degraded);
            }
            Found::Allow | Found::Wait | Found::CannotDecide(_) => pass(walk, Ground::Degraded),
        }
    }

    fn limit(&self, walk: &mut Walk, by: usize, retry_after_ms: u64, ground: Ground) {
        walk.refused_by = Some(by);
        self.refuse(walk, Reason::Limit, Some(retry_after_ms), ground);
    }

    fn refuse(&self, walk: &mut Walk, reason: Reason, retry_ms: Option<u64>, ground: Ground) {
        walk.decision = match ground {
            _ if walk.dry_run => Decision::RejectedDryRun,
            Ground::Exact => Decision::Rejected,
            Ground::Degraded => Decision::RejectedDegraded,
        };
        walk.verdict =
            if walk.dry_run { Verdict::Pass } else { Verdict::Refuse(refusal(walk, reason, retry_ms)) };
    }
}

fn pass(walk: &mut Walk, ground: Ground) {
    walk.verdict = Verdict::Pass;
    walk.decision = match ground {
        Ground::Exact => Decision::Passed,
        Ground::Degraded => Decision::PassedDegraded,
    };
}

fn refusal(walk: &Walk, reason: Reason, retry_ms: Option<u64>) -> Refusal {
    let (status, retry_after_s) = match reason {
        Reason::Limit => (walk.rules.status, Some(retry_after(walk, retry_ms))),
        Reason::CannotDecide => (503, Some(TRY_AGAIN_S)),
        Reason::UnknownCaller => (403, None),
    };
    Refusal { status, reason, retry_after_s }
}

/// `Retry-After` never points before the end of the effective window that `RateLimit` names.
fn retry_after(walk: &Walk, retry_ms: Option<u64>) -> u64 {
    let window_s = walk.nearest().map_or(0, |quota| seconds(quota.reset_ms));
    seconds(retry_ms.unwrap_or(0)).max(window_s).max(TRY_AGAIN_S)
}

/// What the limiter is asked. Bytes cost nothing now: they are charged when they are known.
fn asks(walk: &Walk) -> Asks<'_> {
    let cost = |unit| match unit {
        Unit::Requests => 1,
        Unit::Cost => walk.cost,
        Unit::Bytes | Unit::BytesIn | Unit::BytesOut => 0,
    };
    walk.profile.limits.iter().map(|applied| ask(walk, applied, cost(applied.limit.unit))).collect()
}

/// Few clients have more limits at an endpoint.
type Asks<'a> = SmallVec<[Ask<'a>; 6]>;

/// What the limiter is told when the request is over: the bytes of one that was admitted, for each
/// limit that counts bytes.
pub(crate) fn charges<'a>(walk: &'a Walk, outcome: &Outcome) -> impl Iterator<Item = Ask<'a>> {
    let (bytes_in, bytes_out) = (outcome.bytes_in, outcome.bytes_out);
    let cost = move |unit| match unit {
        Unit::Requests | Unit::Cost => None,
        Unit::Bytes => Some(bytes_in.saturating_add(bytes_out)),
        Unit::BytesIn => Some(bytes_in),
        Unit::BytesOut => Some(bytes_out),
    };
    let admitted = walk.verdict == Verdict::Pass && !walk.states.is_empty();
    let limits = if admitted { &*walk.profile.limits } else { &[] };
    limits.iter().filter_map(move |applied| Some(ask(walk, applied, cost(applied.limit.unit)?)))
}

/// Finds out what is left without taking any of it.
pub(crate) fn peek(worker: &mut Worker, now_ms: u64, walk: &mut Walk) {
    let asks: Asks<'_> = walk.profile.limits.iter().map(|applied| ask(walk, applied, 0)).collect();
    worker.decide(now_ms, &asks, &mut walk.states);
}

fn ask<'a>(walk: &Walk, applied: &'a Applied, cost: u64) -> Ask<'a> {
    Ask {
        counter: &applied.counter,
        amount: applied.limit.amount,
        window_ms: applied.counted_ms,
        cost,
        until: applied.period_s.as_ref().map_or(u64::MAX, |period| walk.came.boot_ms_at(period.end)),
    }
}

#[cfg(test)]
mod tests;
