//! Leases: units are taken from the server ahead of need, used from shared memory, and settled.
//!
//! Every rule here errs to one side: what is not certain stays counted at the server until it
//! leaves the window.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cell::{Cell, Field, LEASES, Lease};
use crate::table::{Guard, Place};
use crate::wire::{Answer, Counter, Part, Transaction};
use crate::worker::{Ask, Decision, LimitState, Refusal, Why, Worker};

/// A refused key is probed at most so often, in ms, since another gateway may hand units back.
const PROBE_MS: u64 = 250;
/// After a lost transaction a key is left alone for so long, in ms.
const QUIET_MS: u64 = 250;
/// An acquisition counts as under way for so long, in ms; then another worker may try.
const IN_FLIGHT_MS: u64 = 100;
/// In the first moments of a new server life a gateway leases no more than its share.
const SHARE_MS: u64 = 2000;
/// All gateways together lease at most 1/33 of what is left ahead of need: a client that keeps to
/// 97 % of its limit is not refused because units lie idle elsewhere.
const IDLE_SHARE: u64 = 33;
/// A client at its limit waits for 1/400 of the window, so that one transaction fetches what has
/// come free in the meantime.
const PAUSES: u64 = 400;
/// Old fields dropped in one transaction.
const MAX_DROPS: usize = 256;

/// How long a lease lasts: a tenth of the window.
fn lease_ms(window_ms: u64) -> u64 {
    (window_ms / 10).max(50)
}

/// Stamps are rounded up to this: fine while the hash is small, coarse when it has many fields.
fn rounding_ms(window_ms: u64, fields: usize) -> u64 {
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
    /// Units to return: (stamp of the lease, units).
    hand_back: Vec<(u64, u64)>,
    quiet_until: u64,
    fields: usize,
    /// Whether a transaction that acquires is under way from this worker.
    acquiring: bool,
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
}

#[derive(Clone, Copy)]
struct Acquire {
    end: u64,
    units: u64,
    /// The least that is of use to the request that waits.
    cost: u64,
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
        let mut short: Vec<usize> = Vec::new();
        for (i, (ask, &place)) in asks.iter().zip(places).enumerate() {
            let cell = self.open(guard, now, place, ask);
            states.push(shared_state(&cell, now, self.upper(now)));
            match self.judge(&cell, now, place, ask) {
                Judgement::Enough => {}
                Judgement::Short => short.push(i),
                Judgement::Refused(retry_after_ms) => refusal.add(i, retry_after_ms),
            }
        }
        if let Some(refused) = refusal.decision() {
            return refused;
        }
        if !short.is_empty() {
            return self.wait_for(now, asks, places, guard, &short);
        }
        for ((ask, &place), state) in asks.iter().zip(places).zip(states) {
            let cell = guard.find_or_make(place, true, now);
            self.note(&cell, now, ask);
            self.use_lease(&cell, now, place, ask);
            state.remaining = state.remaining.saturating_sub(ask.cost);
        }
        Decision::Allow
    }

    /// The latest that the server's clock can show within this millisecond.
    fn upper(&self, now: u64) -> u64 {
        self.table.clock().upper(now + 1)
    }

    /// The cell of a key, brought up to the policy and the server life in force.
    fn open(&mut self, guard: &Guard, now: u64, place: Place, ask: &Ask<'_>) -> Cell<'static> {
        let cell = guard.find_or_make(place, true, now);
        cell.set(Field::Touched, now);
        cell.set(Field::WindowMs, ask.window_ms);
        self.enter_life(&cell);
        let amount = cell.get(Field::Amount);
        if ask.amount != amount {
            if ask.amount < amount {
                self.recall(&cell, now, place, ask);
            }
            // History stays; what was concluded from the old amount does not.
            cell.set(Field::Amount, ask.amount);
            cell.set(Field::RefuseUntil, 0);
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
        cell.drop_leases();
        if known != 0 {
            cell.unsettle_all();
        }
        cell.set(Field::RefuseUntil, 0);
        cell.set(Field::Free, cell.get(Field::Amount));
        cell.set(Field::Life, life);
    }

    /// The limit was lowered: units on lease go back.
    fn recall(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) {
        self.remember(now, place, ask);
        let known = self.known.get_mut(&place).expect("just remembered");
        for i in 0..LEASES {
            let lease = cell.lease(i);
            if lease.rest > 0 {
                cell.set_lease(i, Lease { rest: 0, ..lease });
                known.hand_back.push((lease.end, lease.rest));
            }
        }
        self.schedule(place, now);
    }

    fn judge(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) -> Judgement {
        if cell.usable(self.upper(now)) >= ask.cost.max(1) {
            return Judgement::Enough;
        }
        if ask.cost.max(1) > ask.amount {
            return Judgement::Refused(ask.window_ms);
        }
        let retry_at = cell.get(Field::RetryAt);
        if now < cell.get(Field::RefuseUntil) {
            return Judgement::Refused(retry_at.saturating_sub(now).max(1));
        }
        if now < retry_at && cell.get(Field::RefuseUntil) > 0 {
            cell.set(Field::RefuseUntil, (now + PROBE_MS).min(retry_at));
            self.probe(cell, now, place, ask);
            return Judgement::Refused(retry_at - now);
        }
        Judgement::Short
    }

    /// Looks whether another gateway handed units back, without taking any.
    fn probe(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) {
        self.remember(now, place, ask);
        if self.up && !self.known[&place].acquiring {
            let part = self.settlement(cell, now, place);
            self.send(now, vec![(place, part, None)]);
        }
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
        let mut parts = Vec::new();
        for &i in short.iter().filter(|&&i| asks[i].counter.tag() == tag) {
            let (ask, place) = (&asks[i], places[i]);
            self.remember(now, place, ask);
            let known = &self.known[&place];
            if now < known.quiet_until {
                return Decision::CannotDecide(Why::Lost);
            }
            if known.acquiring {
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
    fn acquisition(
        &mut self,
        cell: &Cell<'_>,
        now: u64,
        place: Place,
        ask: &Ask<'_>,
    ) -> (Place, Part, Option<Acquire>) {
        let rounding = rounding_ms(ask.window_ms, self.known[&place].fields);
        let end = (self.upper(now) + lease_ms(ask.window_ms)).next_multiple_of(rounding);
        let waiting = self.known[&place].waiting + ask.cost.max(1);
        let units = self.lease_size(cell, now, ask).max(waiting.min(ask.amount));
        let mut part = self.settlement(cell, now, place);
        part.add.push((end, units as i64));
        cell.set(Field::InFlightUntil, now + IN_FLIGHT_MS);
        if let Some(known) = self.known.get_mut(&place) {
            known.acquiring = true;
            known.wanted = 0;
            known.waiting = 0;
        }
        (place, part, Some(Acquire { end, units, cost: ask.cost.max(1) }))
    }

    /// What the key's own rate will need while the lease lasts. Far from the limit no more than a
    /// share of what is left; at the limit there is no more idle room to keep, and what is asked for
    /// is mostly not granted.
    fn lease_size(&self, cell: &Cell<'_>, now: u64, ask: &Ask<'_>) -> u64 {
        let need = cell.demand(now, 0) * lease_ms(ask.window_ms) as f64 / 1000.0;
        let at_limit = cell.get(Field::RefuseUntil) > 0;
        let most = if at_limit { ask.amount } else { cell.get(Field::Free).min(ask.amount) / IDLE_SHARE };
        (need as u64).min(most / u64::from(self.gateways)).max(ask.cost.max(1))
    }

    /// Uses leased units, and renews in the background what runs low.
    pub(crate) fn use_lease(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) {
        let upper = self.upper(now);
        cell.take(upper, ask.cost);
        cell.demand(now, ask.cost);
        self.remember(now, place, ask);
        let size = self.lease_size(cell, now, ask);
        // What would be a single request's worth is fetched when that request comes.
        let low = size > ask.cost.max(1) && cell.usable(upper).saturating_mul(10) < size.saturating_mul(3);
        let calm = now >= cell.get(Field::InFlightUntil) && cell.get(Field::RefuseUntil) == 0;
        let known = &self.known[&place];
        if low && calm && self.up && !known.acquiring && now >= known.quiet_until {
            let part = self.acquisition(cell, now, place, ask);
            self.send(now, vec![part]);
        }
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
            quiet_until: 0,
            fields: 0,
            acquiring: false,
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
    fn settlement(&mut self, cell: &Cell<'_>, now: u64, place: Place) -> Part {
        let upper = self.upper(now);
        let clock = self.table.clock();
        let known = self.known.get_mut(&place).expect("a key is remembered before it is settled");
        let rounding = rounding_ms(known.window_ms, known.fields);
        let mut add: BTreeMap<u64, i64> = BTreeMap::new();
        let mut published = 0;
        for slot in cell.unsettled(now) {
            *add.entry(clock.upper(slot.stamp).next_multiple_of(rounding)).or_default() += slot.units as i64;
            published += slot.units;
        }
        for i in 0..LEASES {
            let lease = cell.lease(i);
            // Only what is published at its own stamp may leave the lease's.
            let moved = lease.used.min(published);
            published -= moved;
            let ended = lease.end < upper;
            let returned = if ended { lease.rest } else { 0 };
            if moved + returned > 0 {
                *add.entry(lease.end).or_default() -= (moved + returned) as i64;
            }
            let over = ended || lease.rest == 0;
            cell.set_lease(i, if over { Lease::default() } else { Lease { used: 0, ..lease } });
        }
        for (end, units) in known.hand_back.drain(..) {
            *add.entry(end).or_default() -= units as i64;
        }
        cell.mark_settled(now);
        let drop = known.drops.drain(..).collect();
        let expire_ms = 2 * known.window_ms + lease_ms(known.window_ms) + rounding + 1000;
        let add = add.into_iter().filter(|&(_, n)| n != 0).collect();
        Part { counter: Arc::clone(&known.counter), add, drop, expire_ms }
    }

    fn send(&mut self, now: u64, parts: Vec<(Place, Part, Option<Acquire>)>) {
        let (name, life, _) = self.table.life();
        let id = self.next_id;
        self.next_id += 1;
        let sent = parts.iter().map(|&(place, _, acquire)| SentPart { place, acquire }).collect();
        self.sent.insert(id, Sent { at: now, life, parts: sent });
        self.out.push(Transaction {
            id,
            life: name,
            parts: parts.into_iter().map(|(_, part, _)| part).collect(),
        });
    }

    // ---- answers ----

    /// A server said `time_ms` on a connection that opened between `sent` and `received`.
    pub fn connected(&mut self, sent: u64, received: u64, time_ms: u64, life: u64) {
        self.up = true;
        self.hear(sent, received, time_ms, life);
        self.notice_life(received);
    }

    /// Takes in a reading of the server's clock. False where it belongs to a new life.
    fn hear(&mut self, sent: u64, received: u64, time_ms: u64, name: u64) -> bool {
        let clock = self.table.clock();
        let (known, number, _) = self.table.life();
        let same = number != 0 && known == name && clock.agrees(sent, received, time_ms);
        // The clock first: who sees the new life must not reckon by the old clock.
        clock.observe(sent, received, time_ms);
        if !same {
            self.table.begin_life(number, name, received);
        }
        same
    }

    /// A new life forgot what this gateway used: every key is published again, at once.
    fn notice_life(&mut self, now: u64) {
        let life = self.table.life().1;
        if life == self.seen_life {
            return;
        }
        self.seen_life = life;
        for place in self.known.keys().copied().collect::<Vec<_>>() {
            self.schedule(place, now);
        }
    }

    /// The answer to transaction `id`, late or not. Requests that wait should be decided again.
    pub fn answered(&mut self, now: u64, id: u64, answer: &Answer) {
        let Some(sent) = self.sent.remove(&id) else {
            return;
        };
        let same = self.hear(sent.at, now, answer.time_ms, answer.life);
        let current = same && sent.life == self.table.life().1 && answer.fields.len() == sent.parts.len();
        for (i, part) in sent.parts.iter().enumerate() {
            if let (Some(_), Some(known)) = (part.acquire, self.known.get_mut(&part.place)) {
                known.acquiring = false;
            }
            if current {
                self.credit(now, part, answer.time_ms, &answer.fields[i]);
            }
        }
        self.tick(now);
    }

    /// Transaction `id` will not be answered. It is never repeated: what it acquired, settled or
    /// returned is forgotten here and stays counted there.
    pub fn lost(&mut self, now: u64, id: u64) {
        let Some(sent) = self.sent.remove(&id) else {
            return;
        };
        for part in sent.parts {
            if let Some(known) = self.known.get_mut(&part.place) {
                known.quiet_until = now + QUIET_MS;
                known.acquiring &= part.acquire.is_none();
            }
        }
    }

    /// Reads one key's fields: what is granted, what goes back, when there will be room.
    fn credit(&mut self, now: u64, part: &SentPart, time_ms: u64, fields: &[(u64, i64)]) {
        let Some(known) = self.known.get_mut(&part.place) else {
            return;
        };
        let window = known.window_ms;
        let (live, gone): (Vec<_>, Vec<_>) =
            fields.iter().copied().partition(|&(stamp, _)| stamp + window > time_ms);
        known.fields = live.len();
        known.drops = gone.into_iter().map(|(stamp, _)| stamp).take(MAX_DROPS).collect();
        let mut live: Vec<(u64, u64)> =
            live.into_iter().filter(|f| f.1 > 0).map(|(s, n)| (s, n as u64)).collect();
        live.sort_unstable();
        let sum: u64 = live.iter().map(|f| f.1).sum();
        let acquired = part.acquire.unwrap_or(Acquire { end: 0, units: 0, cost: 1 });
        let granted = match self.lock(&[part.place]) {
            Ok(guard) => guard.find(part.place, true).map_or(0, |cell| {
                let view = View { now, time_ms, live: &live, sum };
                self.grant(&cell, acquired, &view)
            }),
            Err(_) => 0,
        };
        if let Some(known) = self.known.get_mut(&part.place) {
            known.waiting = known.wanted.saturating_sub(granted);
            known.wanted = 0;
        }
        if granted < acquired.units {
            let known = self.known.get_mut(&part.place).expect("looked up above");
            known.hand_back.push((acquired.end, acquired.units - granted));
            self.schedule(part.place, now);
        }
    }

    /// Puts what is granted into the cell; the rest has to go back.
    fn grant(&self, cell: &Cell<'_>, acquired: Acquire, view: &View<'_>) -> u64 {
        let (now, amount) = (view.now, cell.get(Field::Amount));
        if cell.get(Field::Life) != self.table.life().1 {
            return 0;
        }
        if self.was_forgotten(cell, acquired, view) {
            cell.drop_leases();
            cell.unsettle_all();
            return 0;
        }
        cell.set(Field::InFlightUntil, 0);
        let mut granted = acquired.units - acquired.units.min(view.sum.saturating_sub(amount));
        granted = granted.min(self.share_left(cell, now));
        if granted < acquired.cost || acquired.end < self.upper(now) {
            granted = 0;
        }
        if granted > 0 && !cell.add_lease(Lease { end: acquired.end, rest: granted, used: 0 }) {
            granted = 0;
        }
        let counted = view.sum - (acquired.units - granted).min(view.sum);
        cell.set(Field::Free, amount.saturating_sub(counted));
        let window = cell.get(Field::WindowMs);
        cell.set(
            Field::ResetAt,
            view.live.first().map_or(now + window, |f| now + (f.0 + window).saturating_sub(view.time_ms)),
        );
        let mut retry_at =
            view.room_at(window, counted.saturating_add(acquired.cost).saturating_sub(amount), acquired.end);
        if granted < acquired.units {
            retry_at = retry_at.max(now + window / PAUSES);
        }
        cell.set(Field::RetryAt, retry_at);
        cell.set(Field::RefuseUntil, if retry_at > now { retry_at.min(now + PROBE_MS) } else { 0 });
        granted
    }

    /// Whether the server holds far less than this gateway alone has put there: it was flushed, or
    /// the key was evicted. Half is the line, since uses beyond a lease may still be on their way.
    fn was_forgotten(&self, cell: &Cell<'_>, acquired: Acquire, view: &View<'_>) -> bool {
        // Uses about to leave the window may have left it at the server.
        let margin = cell.get(Field::WindowMs) / 50 + 50;
        let unsettled: u64 = cell.unsettled(view.now + margin).iter().map(|s| s.units).sum();
        let settled = cell.surely_used(view.now + margin).saturating_sub(unsettled);
        let counted = |l: &Lease| l.end + cell.get(Field::WindowMs) > view.time_ms + margin;
        let leased: u64 = (0..LEASES).map(|i| cell.lease(i)).filter(counted).map(|l| l.rest + l.used).sum();
        view.sum.saturating_sub(acquired.units) < (settled + leased) / 2
    }

    /// In the first moments of a new life others have not published their uses yet.
    fn share_left(&self, cell: &Cell<'_>, now: u64) -> u64 {
        let (_, life, since) = self.table.life();
        if life <= 1 || now >= since + SHARE_MS {
            return u64::MAX;
        }
        let leased: u64 = (0..LEASES).map(|i| cell.lease(i).rest).sum();
        (cell.get(Field::Amount) / u64::from(self.gateways)).saturating_sub(cell.used(now) + leased)
    }

    // ---- timers ----

    /// Settles the keys that are due. Returns when to call again.
    pub fn tick(&mut self, now: u64) -> Option<u64> {
        self.notice_life(now);
        let mut settled: BTreeMap<String, Vec<(Place, Part, Option<Acquire>)>> = BTreeMap::new();
        while let Some(&(at, place)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.remove(&(at, place));
            if let Some(known) = self.known.get_mut(&place) {
                known.due = u64::MAX;
                if let Some(part) = self.settle_one(now, place) {
                    settled.entry(part.counter.tag().to_owned()).or_default().push((place, part, None));
                }
            }
        }
        for parts in settled.into_values() {
            self.send(now, parts);
        }
        self.next_due()
    }

    /// When [`Worker::tick`] wants to be called next, gateway time.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|d| d.0)
    }

    /// Settles one key if there is something to say, and sees when it is due again.
    fn settle_one(&mut self, now: u64, place: Place) -> Option<Part> {
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
        let part = self.settlement(&cell, now, place);
        let busy = (0..LEASES).any(|i| cell.lease(i).end != 0) || self.known[&place].acquiring;
        let gone = cell.get(Field::Touched) + window;
        if busy {
            self.schedule(place, now + lease_ms(window) / 4);
        } else if gone > now {
            self.schedule(place, gone);
        } else {
            self.known.remove(&place);
        }
        (!part.add.is_empty()).then_some(part)
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
    Refused(u64),
}

/// What an answer showed of one key.
struct View<'a> {
    now: u64,
    time_ms: u64,
    /// (stamp, units) inside the window, ascending.
    live: &'a [(u64, u64)],
    sum: u64,
}

impl View<'_> {
    /// The gateway time at which `units` of what is counted have left the window; now, if none need
    /// to. What was acquired at `own` and goes back does not count. The server's clock showed
    /// `time_ms` before `now`, so reckoning from `now` errs to later.
    fn room_at(&self, window: u64, units: u64, own: u64) -> u64 {
        let mut left = units;
        for &(stamp, n) in self.live.iter().filter(|f| f.0 != own) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(n);
            if left == 0 {
                return self.now + (stamp + window).saturating_sub(self.time_ms) + 1;
            }
        }
        if left == 0 { self.now } else { self.now + window }
    }
}

/// What is left of a limit, as far as is known here: units on lease, and those nobody held.
fn shared_state(cell: &Cell<'_>, now: u64, upper: u64) -> LimitState {
    let remaining = (cell.usable(upper) + cell.get(Field::Free)).min(cell.get(Field::Amount));
    let reset = cell.get(Field::ResetAt).saturating_sub(now);
    LimitState { remaining, reset_ms: if reset == 0 { cell.get(Field::WindowMs) } else { reset } }
}
