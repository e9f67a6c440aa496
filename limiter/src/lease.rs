//! Leases: units are taken from the server ahead of need, used from shared memory, and settled.
//!
//! Every rule here errs to one side: what is not certain stays counted at the server until it
//! leaves the window.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cell::{Cell, Field, LEASES, Lease};
use crate::table::{Guard, Place};
use crate::trial::{Mutant, broken};
use crate::wire::{Counter, Part, Transaction};
use crate::worker::{Ask, Decision, LimitState, Refusal, Why, Worker};

mod answers;

/// A refused key is probed at most so often, in ms, since another gateway may hand units back.
const PROBE_MS: u64 = 250;
/// An acquisition counts as under way for so long, in ms; then another worker may try.
const IN_FLIGHT_MS: u64 = 100;
/// All gateways together lease at most 1/33 of what is left ahead of need: a client that keeps to
/// 97 % of its limit is not refused because units lie idle elsewhere.
const IDLE_SHARE: u64 = 33;

/// What a client is told leaves so much time, in ms: an answer that took longer shows a later moment
/// for the same room, and the promise has to hold nevertheless.
const PROMISE_MS: u64 = 20;

/// How long a lease lasts: a tenth of the window.
fn lease_ms(window_ms: u64) -> u64 {
    (window_ms / 10).max(50)
}

/// How long a unit is counted after its stamp: by 0.1 % longer than the window, since the server's
/// clock may go faster than that of who looks at the window.
fn counted_ms(window_ms: u64) -> u64 {
    window_ms + window_ms.div_ceil(1000)
}

/// How much later than the use a unit may be counted: the slot that it shares, the rounding of its
/// stamp, and what passes between decision and answer.
fn slack_ms(window_ms: u64, fields: usize) -> u64 {
    window_ms / 1024 + rounding_ms(window_ms, fields) + 10
}

/// Stamps are rounded up to this: fine while the hash is small, coarse when it has many fields.
fn rounding_ms(window_ms: u64, fields: usize) -> u64 {
    if broken(Mutant::CoarseStamps) {
        return window_ms / 8;
    }
    let fine = window_ms / 1000;
    if fields > 64 { (fine * 8).max(1) } else { fine.max(1) }
}

/// A key that this worker has touched: what it needs to settle it.
pub(crate) struct Known {
    pub counter: Arc<Counter>,
    pub window_ms: u64,
    /// When to settle, gateway time; also its place in `Worker::due`.
    pub due: u64,
    /// Fields at the server that the last answer showed to have left the window.
    drops: Vec<u64>,
    /// Units to return: (life, stamp of the lease, units). Another life has never seen them.
    hand_back: Vec<(u64, u64, u64)>,
    /// Used beyond a lease and published by a transaction that was lost: nothing else stands for
    /// them at the server, so they are published again, at worst twice. (life, stamp, units).
    owed: Vec<(u64, u64, i64)>,
    quiet_until: u64,
    fields: usize,
    /// Whether a transaction that acquires is under way from this worker.
    acquiring: bool,
    /// Whether one that only looks is.
    probing: bool,
    /// Units that requests asked for since then ...
    wanted: u64,
    /// ... and that were still wanted when the answer came.
    waiting: u64,
}

/// A transaction under way.
pub(crate) struct Sent {
    at: u64,
    life: u64,
    parts: Vec<SentPart>,
}

struct SentPart {
    place: Place,
    acquire: Option<Acquire>,
    /// The cost of a request that waits to know when there is room.
    probe: Option<u64>,
    /// What was published of units used beyond a lease: (stamp, units).
    overdraft: Vec<(u64, i64)>,
}

/// One key's part of a transaction in the making.
struct Draft {
    place: Place,
    part: Part,
    acquire: Option<Acquire>,
    probe: Option<u64>,
    overdraft: Vec<(u64, i64)>,
}

#[derive(Clone, Copy)]
struct Acquire {
    end: u64,
    units: u64,
    /// The least that is of use to the request that waits.
    cost: u64,
    /// The limit for which it was asked.
    amount: u64,
}

impl Worker {
    pub(crate) fn decide_shared(
        &mut self,
        now: u64,
        asks: &[Ask<'_>],
        places: &[Place],
        guard: &Guard,
        states: &mut Vec<LimitState>,
    ) -> Decision {
        if self.table.life().1 == 0 {
            return Decision::CannotDecide(Why::NoClock);
        }
        let mut refusal = Refusal::default();
        let (mut short, mut stale): (Vec<usize>, Vec<(usize, u64)>) = (Vec::new(), Vec::new());
        for (i, (ask, &place)) in asks.iter().zip(places).enumerate() {
            let cell = self.open(guard, now, place, ask);
            states.push(shared_state(&cell, now, self.ended(now)));
            match self.judge(&cell, now, place, ask) {
                Judgement::Enough => {}
                Judgement::Short => short.push(i),
                Judgement::Stale(retry_after_ms) => stale.push((i, retry_after_ms)),
                Judgement::Refused(retry_after_ms) => refusal.add(i, retry_after_ms),
            }
        }
        if refusal.decision().is_some() {
            stale.iter().for_each(|&(i, retry_after_ms)| refusal.add(i, retry_after_ms));
            for &i in &short {
                let cell = guard.find_or_make(places[i], true, now);
                if let Some(retry_after_ms) = full_for(&cell, now, &asks[i]) {
                    refusal.add(i, retry_after_ms);
                }
            }
        }
        if let Some(refused) = refusal.decision() {
            self.return_idle(guard, now, asks, places);
            if broken(Mutant::PartialCharge) {
                for (ask, &place) in asks.iter().zip(places) {
                    let cell = guard.find_or_make(place, true, now);
                    self.use_lease(&cell, now, place, ask);
                }
            }
            return refused;
        }
        if !stale.is_empty() {
            let unknown: Vec<usize> = stale.iter().map(|s| s.0).chain(short).collect();
            return self.probe(guard, now, asks, places, &unknown);
        }
        if !short.is_empty() {
            return self.wait_for(now, asks, places, guard, &short);
        }
        let charged = if broken(Mutant::OneLimitForAll) { &asks[..1] } else { asks };
        for ((ask, &place), state) in charged.iter().zip(places).zip(states) {
            let cell = guard.find_or_make(place, true, now);
            self.note(&cell, now, ask);
            self.use_lease(&cell, now, place, ask);
            state.remaining = state.remaining.saturating_sub(ask.cost);
        }
        Decision::Allow
    }

    /// A limit refused: what is on lease here of the others goes back, since the client may come to
    /// another gateway next.
    fn return_idle(&mut self, guard: &Guard, now: u64, asks: &[Ask<'_>], places: &[Place]) {
        for (ask, &place) in asks.iter().zip(places).filter(|_| asks.len() > 1) {
            let cell = guard.find_or_make(place, true, now);
            if cell.usable(0) > 0 {
                self.recall(&cell, now, place, ask);
            }
        }
    }

    /// The latest that the server's clock can show within this millisecond.
    fn upper(&self, now: u64) -> u64 {
        self.table.clock().upper(now + 1)
    }

    /// Leases that end before this server time are not used any more.
    fn ended(&self, now: u64) -> u64 {
        if broken(Mutant::LeaseAfterEnd) {
            0
        } else if broken(Mutant::LeaseByLowerBound) {
            self.table.clock().lower(now)
        } else {
            self.upper(now)
        }
    }

    /// The cell of a key, brought up to the policy and the server life in force.
    fn open(&mut self, guard: &Guard, now: u64, place: Place, ask: &Ask<'_>) -> Cell<'static> {
        let cell = guard.find_or_make(place, true, now);
        cell.touch(now, ask.window_ms);
        self.enter_life(&cell);
        let amount = cell.get(Field::Amount);
        if ask.amount != amount {
            if ask.amount < amount && !broken(Mutant::NoRecall) {
                self.recall(&cell, now, place, ask);
            }
            // History stays; what was concluded from the old amount does not.
            cell.set(Field::Amount, ask.amount);
            cell.set(Field::RefuseUntil, 0);
            cell.set(Field::Room, 0);
            cell.set(Field::Free, ask.amount);
        }
        cell
    }

    /// Leases of a former life are void, and what was published then has to be published again.
    fn enter_life(&self, cell: &Cell<'_>) {
        let life = self.table.life().1;
        let known = cell.get(Field::Life);
        if known == life {
            return;
        }
        if !broken(Mutant::LivesIgnored) {
            cell.drop_leases();
            if known != 0 {
                cell.unsettle_all();
            }
        }
        cell.set(Field::RefuseUntil, 0);
        cell.set(Field::Room, 0);
        cell.set(Field::Free, cell.get(Field::Amount));
        cell.set(Field::Life, life);
    }

    /// Units on lease go back.
    fn recall(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) {
        self.remember(now, place, ask);
        let life = self.table.life().1;
        let known = self.known.get_mut(&place).expect("just remembered");
        for i in 0..LEASES {
            let lease = cell.lease(i);
            if lease.rest > 0 {
                cell.set_lease(i, Lease { rest: 0, ..lease });
                known.hand_back.push((life, lease.end, lease.rest));
            }
        }
        self.schedule(place, now);
    }

    fn judge(&self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) -> Judgement {
        let needed = if broken(Mutant::UsedBeyondLease) { 1 } else { ask.cost.max(1) };
        if cell.usable(self.ended(now)) >= needed {
            return Judgement::Enough;
        }
        if ask.cost.max(1) > ask.amount {
            return Judgement::Refused(ask.window_ms);
        }
        let refused_until = cell.get(Field::RefuseUntil);
        let Some(retry_after_ms) = full_for(cell, now, ask).filter(|_| refused_until > 0) else {
            return Judgement::Short;
        };
        let cost = cell.room().1;
        let quiet = self.known.get(&place).is_some_and(|known| now < known.quiet_until);
        if (now >= refused_until || ask.cost > cost) && self.up && !quiet {
            return Judgement::Stale(retry_after_ms);
        }
        Judgement::Refused(retry_after_ms)
    }

    /// Looks whether there is room after all, since another gateway may have handed units back,
    /// without taking any. The request waits for the answer; others are refused meanwhile.
    fn probe(
        &mut self,
        guard: &Guard,
        now: u64,
        asks: &[Ask<'_>],
        places: &[Place],
        unknown: &[usize],
    ) -> Decision {
        let tag = asks[unknown[0]].counter.tag();
        let mut drafts = Vec::new();
        for &i in unknown.iter().filter(|&&i| asks[i].counter.tag() == tag) {
            let (ask, place) = (&asks[i], places[i]);
            let cell = guard.find_or_make(place, true, now);
            if cell.get(Field::RefuseUntil) > 0 {
                cell.set(Field::RefuseUntil, (now + PROBE_MS).min(cell.room().0));
            }
            self.remember(now, place, ask);
            if let Some(known) = self.known.get_mut(&place).filter(|known| !known.acquiring && !known.probing)
            {
                known.probing = true;
                let draft = self.settlement(&cell, now, place);
                drafts.push(Draft { probe: Some(ask.cost.max(1)), ..draft });
            }
        }
        if !drafts.is_empty() {
            self.send(now, drafts);
        }
        Decision::Wait
    }

    /// Acquires for the keys that are short: those of one client together, and only then those of
    /// all clients, so that nothing is leased for a request that its own client's limit refuses.
    fn wait_for(
        &mut self,
        now: u64,
        asks: &[Ask<'_>],
        places: &[Place],
        guard: &Guard,
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
                let cell = guard.find_or_make(place, true, now);
                parts.push(self.acquisition(&cell, now, place, ask));
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
            known.wanted += ask.cost.max(1);
        }
    }

    /// Settles a key and acquires more for it.
    fn acquisition(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) -> Draft {
        let rounding = rounding_ms(ask.window_ms, self.known[&place].fields);
        let end = (self.upper(now) + lease_ms(ask.window_ms)).next_multiple_of(rounding);
        let waiting = self.known[&place].waiting + ask.cost.max(1);
        let rate = cell.demand(now, 0);
        let units = self.lease_size(cell, now, rate, ask).max(waiting.min(ask.amount));
        let mut draft = self.settlement(cell, now, place);
        draft.part.add.push((end, units as i64));
        draft.acquire = Some(Acquire { end, units, cost: ask.cost.max(1), amount: ask.amount });
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
    fn lease_size(&self, cell: &Cell<'_>, now: u64, rate: f64, ask: &Ask<'_>) -> u64 {
        let need = rate * lease_ms(ask.window_ms) as f64 / 1000.0;
        let at_limit = now < cell.room().0;
        let share = if broken(Mutant::IdleUnbounded) { 1 } else { IDLE_SHARE };
        let most = if at_limit { ask.amount } else { cell.get(Field::Free).min(ask.amount) / share };
        (need as u64).min(most / u64::from(self.gateways)).max(ask.cost.max(1))
    }

    /// Uses leased units, and renews in the background what runs low.
    pub(crate) fn use_lease(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) {
        let upper = self.ended(now);
        cell.take(upper, ask.cost);
        let rate = cell.demand(now, ask.cost);
        self.remember(now, place, ask);
        let size = self.lease_size(cell, now, rate, ask);
        // What would be a single request's worth is fetched when that request comes.
        let low = size > ask.cost.max(1) && cell.usable(upper).saturating_mul(10) < size.saturating_mul(3);
        let calm = now >= cell.get(Field::InFlightUntil).max(cell.room().0);
        if low && calm && self.up && self.may_acquire(now, place) {
            let part = self.acquisition(cell, now, place, ask);
            self.send(now, vec![part]);
        }
    }

    fn may_acquire(&self, now: u64, place: Place) -> bool {
        self.known.get(&place).is_some_and(|known| !known.acquiring && now >= known.quiet_until)
    }

    /// Keeps a key in mind until its uses have left the window, and has it settled in time.
    pub(crate) fn remember(&mut self, now: u64, place: Place, ask: &Ask<'_>) {
        if !self.leased() {
            return;
        }
        let soon = now + lease_ms(ask.window_ms);
        let known = self.known.entry(place).or_insert_with(|| Known {
            counter: Arc::clone(ask.counter),
            window_ms: ask.window_ms,
            due: u64::MAX,
            drops: Vec::new(),
            hand_back: Vec::new(),
            owed: Vec::new(),
            quiet_until: 0,
            fields: 0,
            acquiring: false,
            probing: false,
            wanted: 0,
            waiting: 0,
        });
        if known.due > soon {
            self.schedule(place, soon);
        }
    }

    fn schedule(&mut self, place: Place, at: u64) {
        let Some(known) = self.known.get_mut(&place) else {
            return;
        };
        self.due.remove(&(known.due, place));
        known.due = at;
        self.due.insert((at, place));
    }

    /// What the next transaction on a key has to say: units used move from the lease's stamp to
    /// their own, ended leases and units to hand back return, units used beyond a lease are added.
    fn settlement(&mut self, cell: &Cell<'_>, now: u64, place: Place) -> Draft {
        let (upper, life) = (self.upper(now), self.table.life().1);
        let clock = self.table.clock();
        let known = self.known.get_mut(&place).expect("a key is remembered before it is settled");
        let rounding = rounding_ms(known.window_ms, known.fields);
        let mut add: BTreeMap<u64, i64> = BTreeMap::new();
        let mut published = 0;
        for slot in cell.unsettled(now) {
            let mut stamp = clock.upper(slot.stamp).next_multiple_of(rounding);
            if broken(Mutant::StampsRoundedDown) {
                stamp -= rounding;
            }
            *add.entry(stamp).or_default() += slot.units as i64;
            published += slot.units;
        }
        let uses: Vec<(u64, i64)> = add.iter().map(|(&s, &n)| (s, n)).collect();
        for i in 0..LEASES {
            let lease = cell.lease(i);
            // Only what is published at its own stamp may leave the lease's.
            let all = lease.end != 0 && broken(Mutant::OverdraftFromLease);
            let moved = if all { published } else { lease.used.min(published) };
            published -= moved;
            let ended = lease.end < upper;
            let returned = if ended { lease.rest } else { 0 };
            if moved + returned > 0 {
                *add.entry(lease.end).or_default() -= (moved + returned) as i64;
            }
            let over = (ended && !broken(Mutant::ReturnedTwice)) || lease.rest == 0;
            cell.set_lease(i, if over { Lease::default() } else { Lease { used: 0, ..lease } });
        }
        for (_, end, units) in known.hand_back.drain(..).filter(|h| h.0 == life) {
            *add.entry(end).or_default() -= units as i64;
        }
        let mut overdraft = newest(&uses, published);
        // A new life has every use published again as it is.
        for (_, stamp, units) in known.owed.drain(..).filter(|o| o.0 == life) {
            *add.entry(stamp).or_default() += units;
            overdraft.push((stamp, units));
        }
        cell.mark_settled(now);
        let drop = known.drops.drain(..).collect();
        let mut expire_ms = 2 * known.window_ms + lease_ms(known.window_ms) + rounding + 1000;
        if broken(Mutant::ShortTtl) {
            expire_ms = known.window_ms;
        }
        let add = add.into_iter().filter(|&(_, n)| n != 0).collect();
        let part = Part { counter: Arc::clone(&known.counter), add, drop, expire_ms };
        Draft { place, part, acquire: None, probe: None, overdraft }
    }

    fn send(&mut self, now: u64, drafts: Vec<Draft>) {
        let (name, life, _) = self.table.life();
        let id = self.next_id;
        self.next_id += 1;
        let (mut sent, mut parts) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
        for draft in drafts {
            let Draft { place, part, acquire, probe, overdraft } = draft;
            sent.push(SentPart { place, acquire, probe, overdraft });
            parts.push(part);
        }
        self.sent.insert(id, Sent { at: now, life, parts: sent });
        self.out.push(Transaction { id, life: name, parts });
    }

    // ---- timers ----

    /// Settles the keys that are due. Returns when to call again.
    pub fn tick(&mut self, now: u64) -> Option<u64> {
        self.notice_life(now);
        let mut settled: BTreeMap<String, Vec<Draft>> = BTreeMap::new();
        while let Some(&(at, place)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.remove(&(at, place));
            if let Some(known) = self.known.get_mut(&place) {
                known.due = u64::MAX;
                if let Some(draft) = self.settle_one(now, place) {
                    settled.entry(draft.part.counter.tag().to_owned()).or_default().push(draft);
                }
            }
        }
        for drafts in settled.into_values() {
            self.send(now, drafts);
        }
        self.next_due()
    }

    /// When [`Worker::tick`] wants to be called next, gateway time.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|d| d.0)
    }

    /// Settles one key if there is something to say, and sees when it is due again.
    fn settle_one(&mut self, now: u64, place: Place) -> Option<Draft> {
        let window = self.known[&place].window_ms;
        if !self.up || self.table.life().1 == 0 {
            self.schedule(place, now + lease_ms(window));
            return None;
        }
        let Ok(guard) = self.lock(&[place]) else {
            self.schedule(place, now + 1);
            return None;
        };
        let Some(cell) = guard.find(place, true) else {
            // The cell had to make room: what it knew stays counted at the server.
            self.known.remove(&place);
            return None;
        };
        self.enter_life(&cell);
        let draft = self.settlement(&cell, now, place);
        let busy = (0..LEASES).any(|i| cell.lease(i).end != 0) || self.known[&place].acquiring;
        let gone = cell.get(Field::Touched) + window;
        if busy {
            self.schedule(place, now + lease_ms(window) / 4);
        } else if gone > now {
            self.schedule(place, gone);
        } else {
            self.known.remove(&place);
        }
        (!draft.part.add.is_empty()).then_some(draft)
    }

    /// Queues what this worker still has to say before it ends. Units on lease stay in shared
    /// memory for the other workers.
    pub fn close(&mut self, now: u64) {
        for place in self.known.keys().copied().collect::<Vec<_>>() {
            self.schedule(place, now);
        }
        self.tick(now);
    }
}

enum Judgement {
    Enough,
    Short,
    /// What is known of a full window may be out of date.
    Stale(u64),
    Refused(u64),
}

/// In how many ms there will be room for a request, where there is none as far as is known here.
fn full_for(cell: &Cell<'_>, now: u64, ask: &Ask<'_>) -> Option<u64> {
    let room_at = cell.room().0;
    let full = now < room_at && ask.cost.max(1) > cell.get(Field::Free);
    full.then(|| room_at - now + PROMISE_MS)
}

/// The `units` that were used last, of `uses` in ascending order of their stamps.
fn newest(uses: &[(u64, i64)], units: u64) -> Vec<(u64, i64)> {
    let mut left = units as i64;
    let last = uses.iter().rev().map(|&(stamp, n)| {
        let n = n.min(left);
        left -= n;
        (stamp, n)
    });
    last.take_while(|&(_, n)| n > 0).collect()
}

/// What is left of a limit, as far as is known here: units on lease, and those nobody held.
fn shared_state(cell: &Cell<'_>, now: u64, upper: u64) -> LimitState {
    let remaining = (cell.usable(upper) + cell.get(Field::Free)).min(cell.get(Field::Amount));
    let reset = cell.get(Field::ResetAt).saturating_sub(now);
    LimitState { remaining, reset_ms: if reset == 0 { cell.get(Field::WindowMs) } else { reset } }
}
