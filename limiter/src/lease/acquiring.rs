//! Units that are acquired, for requests that wait and ahead of need.

use super::{Acquire, Draft, lease_ms, pause_ms, rounding_ms};
use crate::cell::{Cell, Field};
use crate::table::Place;
use crate::trial::{Mutant, broken};
use crate::wire::field_of;
use crate::worker::{Ask, Decision, Why, Worker};

/// Units used beyond a lease are unknown to others until they are published: within so long, in ms.
const OVERDRAFT_MS: u64 = 100;
/// An acquisition counts as under way for so long, in ms; then another worker may try.
const IN_FLIGHT_MS: u64 = 100;
/// All gateways together lease at most 1/33 of what is left ahead of need: a client that keeps to
/// 97 % of its limit is not refused because units lie idle elsewhere.
const IDLE_SHARE: u64 = 33;

/// At the limit a gateway leases what it needs for a few pauses: what lay idle here would be missed elsewhere.
const AHEAD_PAUSES: u64 = 3;

impl Worker {
    /// Acquires for the keys that are short: those of one client together, and only then those of
    /// all clients, so that nothing is leased for a request that its own client's limit refuses.
    pub(super) fn wait_for(
        &mut self,
        now: u64,
        asks: &[Ask<'_>],
        places: &[Place],
        cells: &[Cell<'static>],
        short: &[usize],
    ) -> Decision {
        if !self.up {
            return Decision::CannotDecide(Why::Down);
        }
        let tag = asks[short[0]].counter.tag();
        let together = || short.iter().copied().filter(|&i| asks[i].counter.tag() == tag);
        // Looked at before anything is begun: what is put into a transaction has to be sent.
        if together().any(|i| self.known.get(&places[i]).is_some_and(|known| now < known.quiet_until)) {
            return Decision::CannotDecide(Why::Lost);
        }
        let mut parts = Vec::new();
        for i in together() {
            let (ask, place) = (&asks[i], places[i]);
            self.remember(now, place, ask);
            if self.known[&place].acquiring {
                self.await_too(place, ask);
            } else {
                parts.push(self.acquisition(&cells[i], now, place, ask));
            }
        }
        if !parts.is_empty() {
            self.send(now, parts);
        }
        Decision::Wait
    }

    /// Another request waits for the same key: the next acquisition has to reach for it, too.
    fn await_too(&mut self, place: Place, ask: &Ask<'_>) {
        if let Some(known) = self.known.get_mut(&place) {
            if known.round != self.round {
                (known.round, known.wanted) = (self.round, 0);
            }
            known.wanted += ask.cost.max(1);
        }
    }

    /// Settles a key and acquires more for it.
    fn acquisition(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) -> Draft {
        let rounding = rounding_ms(ask.window_ms, self.known[&place].fields);
        let end = (self.upper(cell, now) + lease_ms(ask.window_ms)).next_multiple_of(rounding);
        let waiting = self.known[&place].waiting + ask.cost.max(1);
        let rate = cell.demand(now, 0);
        let units = self.lease_size(cell, rate, ask).max(waiting.min(ask.amount));
        let mut draft = self.settlement(cell, now, place);
        draft.part.add.push((field_of(end, ask.window_ms), units as i64));
        draft.acquire =
            Some(Acquire { end, units, cost: ask.cost.max(1), lowered: cell.get(Field::Lowered) });
        cell.set(Field::InFlightUntil, now + IN_FLIGHT_MS);
        if let Some(known) = self.known.get_mut(&place) {
            known.acquiring = true;
            known.wanted = 0;
            known.waiting = 0;
        }
        draft
    }

    /// What the key's own rate will need while the lease lasts. Far from the limit no more than a
    /// share of what is left; at the limit there is no more idle room to keep, and what is asked for
    /// is mostly not granted.
    fn lease_size(&self, cell: &Cell<'_>, rate: f64, ask: &Ask<'_>) -> u64 {
        let at_limit = cell.get(Field::Room) > 0;
        let ahead_ms =
            if at_limit { AHEAD_PAUSES * pause_ms(ask.window_ms) } else { lease_ms(ask.window_ms) };
        let need = rate * ahead_ms as f64 / 1000.0;
        let share = if broken(Mutant::IdleUnbounded) { 1 } else { IDLE_SHARE };
        let most = if at_limit { ask.amount } else { cell.get(Field::Free).min(ask.amount) / share };
        (need as u64).min(most / u64::from(self.gateways)).max(ask.cost.max(1))
    }

    /// Uses leased units, and renews in the background what runs low.
    pub(crate) fn use_lease(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) {
        let upper = self.lease_bound(cell, now);
        let beyond = cell.take(upper, ask.cost) < ask.cost;
        let rate = cell.demand(now, ask.cost);
        self.remember(now, place, ask);
        if beyond && self.known.get(&place).is_some_and(|known| known.due > now + OVERDRAFT_MS) {
            self.schedule(place, now + OVERDRAFT_MS);
        }
        let size = self.lease_size(cell, rate, ask);
        // What would be a single request's worth is fetched when that request comes.
        let low = size > ask.cost.max(1) && cell.usable(upper).saturating_mul(10) < size.saturating_mul(3);
        let calm = now >= cell.get(Field::InFlightUntil) && cell.get(Field::Room) == 0;
        if low && calm && self.up && self.may_acquire(now, place) {
            let draft = self.acquisition(cell, now, place, ask);
            self.send(now, vec![draft]);
        }
    }

    fn may_acquire(&self, now: u64, place: Place) -> bool {
        self.known.get(&place).is_some_and(|known| !known.acquiring && now >= known.quiet_until)
    }
}
