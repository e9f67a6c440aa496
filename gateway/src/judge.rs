//! May it? From the limiter's decision to a verdict.

use smallvec::SmallVec;
use weir_limiter::{Ask, Decision as Found, Fallback, Unit, Why, Worker};
use weir_metering::Decision;
use weir_policy::{Action, Applied, Over};

use crate::beyond::Beyond;
use crate::fields::seconds;
use crate::settings::FallbackMode;
use crate::walk::{Outcome, Reason, Refusal, Verdict, Walk};

/// Seconds after which a client should come back when nobody can say more.
const TRY_AGAIN_S: u64 = 1;

/// Who is held back asks again at least so often: another gateway may have handed units back.
const ASK_AGAIN_MS: u64 = 250;
/// The version of [`weir_policy::Tables::none`].
const NO_POLICY: u64 = 0;

/// Everything a verdict depends on but the request itself.
pub(crate) struct Judge<'a> {
    pub worker: &'a mut Worker,
    pub now_ms: u64,
    /// Whether a request may wait: not twice.
    pub patient: bool,
    /// Whether Redis can be asked, so that a lease may come.
    pub link_up: bool,
    /// What the request waits for is no lease but a lock whose holder does not run just now.
    pub is_locked: bool,
    /// A limit at which others are held back, and when the first of them asks again.
    pub behind: Option<(usize, u64)>,
    /// Gateways that share the limits, for `weir_fallback local`.
    pub gateways: u32,
    /// Any number, another one each time.
    pub chance: u32,
}

/// What a limit without room has for a request.
enum Place {
    None,
    /// A lease that has to come first.
    Later,
    Held {
        until_ms: u64,
    },
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
        match walk.profile.action {
            // A browser asks on its own, without the key, whether a script may ask: no quota is used.
            _ if walk.is_preflight => pass(walk, Ground::Exact),
            _ if walk.is_look => self.look(walk),
            _ if walk.profile.policy_version == NO_POLICY => self.without_policy(walk),
            Action::Reject => self.refuse(walk, Reason::UnknownCaller, None, Ground::Exact),
            Action::Enforce if !walk.profile.limits.is_empty() => self.ask(walk),
            Action::Enforce | Action::Observe | Action::Exempt | Action::Ignore => pass(walk, Ground::Exact),
        }
    }

    /// The published policy has not come yet, and none was kept.
    fn without_policy(&mut self, walk: &mut Walk) {
        match walk.rules.fallback {
            FallbackMode::Deny => self.refuse(walk, Reason::CannotDecide, None, Ground::Degraded),
            FallbackMode::Local | FallbackMode::Allow => pass(walk, Ground::Degraded),
        }
    }

    /// Asks all limits, then again without those that refused and let some more pass beyond them.
    fn ask(&mut self, walk: &mut Walk) {
        walk.beyond = Beyond::default();
        if let Some((at, due_ms)) = self.behind {
            self.peek(walk);
            let retry_ms = due_ms.saturating_sub(self.now_ms);
            return self.hold_or_limit(walk, at, retry_ms, Ground::Exact);
        }
        let mut ground = Ground::Exact;
        loop {
            let found = match ground {
                Ground::Exact => self.decide(walk),
                Ground::Degraded => self.decide_fallback(walk),
            };
            match found {
                Some(Found::Allow) => return pass(walk, ground),
                Some(Found::Refuse { by, retry_after_ms }) => {
                    if !go_beyond(walk, by, retry_after_ms) {
                        return self.hold_or_limit(walk, by, retry_after_ms, ground);
                    }
                }
                Some(found) if ground == Ground::Exact && self.may_come(found) => {
                    return walk.verdict = Verdict::Wait;
                }
                Some(Found::Wait | Found::CannotDecide(_)) if ground == Ground::Exact => {
                    walk.beyond = Beyond::default();
                    ground = Ground::Degraded;
                }
                Some(Found::Wait | Found::CannotDecide(_)) => return pass(walk, ground),
                // Nobody's quota is used up, so this is no 429, and no quota is told.
                None => {
                    walk.states.clear();
                    return self.refuse(walk, Reason::CannotDecide, None, ground);
                }
            }
        }
    }

    fn look(&mut self, walk: &mut Walk) {
        let found = self.peek(walk);
        if self.may_come(found) { walk.verdict = Verdict::Wait } else { pass(walk, Ground::Exact) }
    }

    /// Whether waiting may bring a decision.
    fn may_come(&mut self, found: Found) -> bool {
        self.is_locked = self.patient && found == Found::CannotDecide(Why::Busy);
        self.is_locked || (self.patient && self.link_up && found == Found::Wait)
    }

    /// Finds out what is left without taking any of it.
    fn peek(&mut self, walk: &mut Walk) -> Found {
        let mut states = std::mem::take(&mut walk.states);
        let limits = walk.profile.limits.iter().enumerate();
        let asks: Asks<'_> = limits.map(|(at, applied)| ask(walk, at, applied, 0)).collect();
        let found = self.worker.decide(self.now_ms, &asks, &mut states);
        drop(asks);
        walk.states = states;
        found
    }

    fn decide(&mut self, walk: &mut Walk) -> Option<Found> {
        let mut states = std::mem::take(&mut walk.states);
        let asks = asks(walk);
        let found = match may_go_beyond(walk) {
            true => self.worker.decide_once_more(self.now_ms, &asks, &mut states),
            false => self.worker.decide(self.now_ms, &asks, &mut states),
        };
        drop(asks);
        walk.states = states;
        Some(found)
    }

    fn fallback(&self, walk: &Walk) -> Option<Fallback> {
        match walk.rules.fallback {
            FallbackMode::Local => Some(Fallback::Local { gateways: self.gateways }),
            FallbackMode::Allow => Some(Fallback::Allow),
            FallbackMode::Deny => None,
        }
    }

    /// `None`: nothing is to be decided without Redis.
    fn decide_fallback(&mut self, walk: &mut Walk) -> Option<Found> {
        let fallback = self.fallback(walk)?;
        let mut states = std::mem::take(&mut walk.states);
        let found = self.worker.decide_fallback(self.now_ms, &asks(walk), fallback, &mut states);
        walk.states = states;
        Some(found)
    }

    /// The limit has no room now: the request is held back if it may be, else refused.
    fn hold_or_limit(&mut self, walk: &mut Walk, by: usize, retry_ms: u64, ground: Ground) {
        match self.place(walk, by, retry_ms) {
            Place::None => self.limit(walk, by, retry_ms, ground),
            Place::Later => walk.verdict = Verdict::Wait,
            Place::Held { .. } if walk.dry_run => {
                walk.verdict = Verdict::Pass;
                walk.decision = Decision::DelayedDryRun;
            }
            Place::Held { until_ms } => {
                (walk.held_by, walk.again_ms) = (Some(by), self.now_ms + retry_ms.clamp(1, ASK_AGAIN_MS));
                walk.verdict = Verdict::Hold { until_ms };
                walk.decision = match ground {
                    Ground::Exact => Decision::Delayed,
                    Ground::Degraded => Decision::DelayedDegraded,
                };
            }
        }
    }

    /// A place among those that are held back: so many in any interval as long as one can be held, which
    /// is a limit like any other. One that has a place keeps it.
    fn place(&mut self, walk: &Walk, by: usize, retry_ms: u64) -> Place {
        let Some(Applied { over: Over::Delay { ms, burst }, counter_over: Some(counter), .. }) =
            walk.profile.limits.get(by)
        else {
            return Place::None;
        };
        let until_ms = walk.came.boot_ms.saturating_add(*ms);
        if self.now_ms.saturating_add(retry_ms) > until_ms {
            return Place::None;
        }
        if walk.held_by.is_some() {
            return Place::Held { until_ms };
        }
        let ask = Ask { counter, amount: *burst, window_ms: *ms, cost: 1, until: u64::MAX };
        let mut states = Vec::new();
        let found = self.worker.decide(self.now_ms, &[ask], &mut states);
        if self.may_come(found) {
            return Place::Later;
        }
        let found = match (found, self.fallback(walk)) {
            (Found::Wait | Found::CannotDecide(_), Some(fallback)) => {
                self.worker.decide_fallback(self.now_ms, &[ask], fallback, &mut states)
            }
            (found, _) => found,
        };
        if found == Found::Allow { Place::Held { until_ms } } else { Place::None }
    }

    fn limit(&self, walk: &mut Walk, by: usize, retry_after_ms: u64, ground: Ground) {
        walk.refused_by = Some(by);
        tell_limits(walk);
        let retry_after_ms = walk.beyond.retry_ms(by).map_or(retry_after_ms, |ms| ms.min(retry_after_ms));
        self.refuse(walk, Reason::Limit, Some(retry_after_ms), ground);
    }

    fn refuse(&self, walk: &mut Walk, reason: Reason, retry_ms: Option<u64>, ground: Ground) {
        walk.decision = match ground {
            _ if walk.dry_run => Decision::RejectedDryRun,
            Ground::Exact => Decision::Rejected,
            Ground::Degraded => Decision::RejectedDegraded,
        };
        walk.verdict =
            if walk.dry_run { Verdict::Pass } else { Verdict::Refuse(self.refusal(walk, reason, retry_ms)) };
    }

    fn refusal(&self, walk: &Walk, reason: Reason, retry_ms: Option<u64>) -> Refusal {
        let (status, retry_after_s) = match reason {
            Reason::Limit => (walk.rules.status, Some(retry_after(walk, retry_ms) + self.jitter_s(walk))),
            Reason::CannotDecide => (503, Some(TRY_AGAIN_S + self.jitter_s(walk))),
            Reason::UnknownCaller => (403, None),
        };
        Refusal { status, reason, retry_after_s }
    }

    /// Clients that were refused at one moment do not come back at one moment.
    fn jitter_s(&self, walk: &Walk) -> u64 {
        u64::from(self.chance) % (u64::from(walk.rules.retry_jitter_s) + 1)
    }
}

fn pass(walk: &mut Walk, ground: Ground) {
    walk.verdict = Verdict::Pass;
    walk.decision = match (walk.beyond.is_empty(), ground) {
        (true, Ground::Exact) if walk.held_by.is_some() => Decision::Delayed,
        (true, Ground::Degraded) if walk.held_by.is_some() => Decision::DelayedDegraded,
        (true, Ground::Exact) => Decision::Passed,
        (true, Ground::Degraded) => Decision::PassedDegraded,
        (false, _) if walk.dry_run => Decision::OverDryRun,
        (false, Ground::Exact) => Decision::Over,
        (false, Ground::Degraded) => Decision::OverDegraded,
    };
    tell_limits(walk);
}

/// What is told of a limit is what is left of it, not of what may pass beyond it.
fn tell_limits(walk: &mut Walk) {
    for (at, state) in walk.states.iter_mut().enumerate() {
        if let Some(limit) = walk.beyond.state(at) {
            *state = limit;
        }
    }
}

/// Whether a limit that refuses lets some more pass beyond it.
fn may_go_beyond(walk: &Walk) -> bool {
    let mut limits = walk.profile.limits.iter().enumerate();
    limits.any(|(at, applied)| matches!(applied.over, Over::Degrade { .. }) && !walk.beyond.is_of(at))
}

/// Whether the limit that refused lets the request be asked about as one beyond it.
fn go_beyond(walk: &mut Walk, by: usize, retry_after_ms: u64) -> bool {
    let (Some(applied), Some(state)) = (walk.profile.limits.get(by), walk.states.get(by)) else {
        return false;
    };
    matches!(applied.over, Over::Degrade { .. }) && walk.beyond.add(by, retry_after_ms, *state)
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
    let limits = walk.profile.limits.iter().enumerate();
    limits.map(|(at, applied)| ask(walk, at, applied, cost(applied.limit.unit))).collect()
}

/// Few clients have more limits at an endpoint; it is moved with every request.
type Asks<'a> = SmallVec<[Ask<'a>; 4]>;

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
    let limits = limits.iter().enumerate();
    limits.filter_map(move |(at, applied)| Some(ask(walk, at, applied, cost(applied.limit.unit)?)))
}

/// One limit, or what may pass beyond it.
fn ask<'a>(walk: &Walk, at: usize, applied: &'a Applied, cost: u64) -> Ask<'a> {
    let beyond = applied.counter_over.as_ref().filter(|_| walk.beyond.is_of(at));
    Ask {
        counter: beyond.unwrap_or(&applied.counter),
        amount: beyond.map_or(applied.limit.amount, |_| applied.over.beyond(applied.limit.amount)),
        window_ms: applied.counted_ms,
        cost,
        until: applied.period_s.as_ref().map_or(u64::MAX, |period| walk.came.boot_ms_at(period.end)),
    }
}

#[cfg(test)]
mod tests;
