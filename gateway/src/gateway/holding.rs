//! Verdicts, and those who have to wait for theirs: for a lease, or until a limit has room.

use weir_redis_link::Link;

use super::{Gateway, chance};
use crate::judge::Judge;
use crate::walk::{Verdict, Walk};
use crate::walks::Token;

/// A lock is tried again within so long, in ms.
const LOCK_PAUSE_MS: u64 = 32;

impl Gateway {
    /// Decides about a request, for the first time or again. `patient`: it may wait for a lease. Returns
    /// whether there is something new to be done with it.
    pub(super) fn judge(&mut self, now_ms: u64, token: Token, patient: bool) -> bool {
        let link_up = self.link.as_ref().is_some_and(Link::is_up);
        let gateways = self.gateways.max(self.gateways_min);
        let chance = chance(&mut self.chance);
        let Some(walk) = self.walks.get_mut(token) else {
            return false;
        };
        let queues = &self.queues;
        let behind = behind(walk, |counter| queues.due_of(counter));
        let worker = &mut self.worker;
        let mut judge =
            Judge { worker, now_ms, patient, link_up, is_locked: false, behind, gateways, chance };
        judge.judge(walk);
        let is_locked = judge.is_locked;
        let held_at = walk.held_at().map(|counter| counter.name.as_str());
        match (walk.verdict, held_at) {
            (Verdict::Hold { .. }, Some(counter)) => self.queues.hold(counter, token, walk.again_ms),
            (Verdict::Wait, held_at) => {
                let waiting = if is_locked { &mut self.locked_out } else { &mut self.waiting };
                waiting.push_back(token);
                if let Some(counter) = held_at {
                    self.queues.wait(counter, token);
                }
                false
            }
            (_, Some(counter)) => {
                self.queues.leave(counter, token);
                true
            }
            (_, None) => true,
        }
    }

    /// Decides about those who wait for a lock. The longer it is held, the more rarely it is tried: each
    /// try spins.
    pub(super) fn try_locks(&mut self, now_ms: u64, ready: &mut Vec<Token>) {
        if now_ms < self.locks_due_ms {
            return;
        }
        for token in std::mem::take(&mut self.locked_out) {
            if self.judge(now_ms, token, true) {
                ready.push(token);
            }
        }
        let is_any = !self.locked_out.is_empty();
        self.lock_pause_ms = if is_any { (2 * self.lock_pause_ms).clamp(1, LOCK_PAUSE_MS) } else { 0 };
        self.locks_due_ms = now_ms + self.lock_pause_ms;
    }

    /// Asks for those who are held back, as far as their time has come.
    pub(super) fn serve_queues(&mut self, now_ms: u64, ready: &mut Vec<Token>) {
        while let Some(token) = self.queues.first_due(now_ms) {
            if self.judge(now_ms, token, true) {
                ready.push(token);
            }
        }
    }

    /// Takes a request out of all that waits.
    pub(super) fn leave(&mut self, token: Token) {
        self.waiting.retain(|waiting| *waiting != token);
        self.locked_out.retain(|waiting| *waiting != token);
        let held_at = self.walks.get(token).and_then(Walk::held_at);
        if let Some(counter) = held_at {
            self.queues.leave(&counter.name, token);
        }
    }
}

/// The limit of a newcomer at which others are held back already, and when the first of them asks again.
fn behind(walk: &Walk, due_of: impl Fn(&str) -> Option<u64>) -> Option<(usize, u64)> {
    if walk.held_by.is_some() || walk.dry_run {
        return None;
    }
    let limits = walk.profile.limits.iter().enumerate();
    let mut held = limits.filter(|(_, applied)| applied.counter_over.is_some());
    held.find_map(|(at, applied)| Some((at, due_of(&applied.counter.name)?)))
}
