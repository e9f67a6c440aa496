//! Leases: units are taken from the server ahead of need, used from shared memory, and settled.
//!
//! Every rule here errs to one side: what is not certain stays counted at the server until it
//! leaves the window.

use std::sync::Arc;

use crate::cell::{Cell, Field, LEASES, Lease};
use crate::lives::NOBODY;
use crate::table::Place;
use crate::trial::{Mutant, broken};
use crate::wire::{Counter, Part, Transaction, grid_ms};
use crate::worker::{Ask, Decision, LimitState, Refusal, Worker};

mod acquiring;
mod answers;
mod settling;

/// A refused key is probed at most so often, in ms, since another gateway may hand units back: in
/// good time for its window.
fn probe_ms(window_ms: u64) -> u64 {
    (window_ms / 400).clamp(250, 2_000)
}

/// Where no other gateway is known, nobody hands units back: a refused key is probed at most so often, in
/// ms, for what people mend at the server itself.
fn alone_ms(window_ms: u64) -> u64 {
    (window_ms / 10).min(10_000).max(probe_ms(window_ms))
}

/// What a client is told leaves so much time, in ms: an answer that took longer shows a later moment
/// for the same room, and the promise has to hold nevertheless.
const PROMISE_MS: u64 = 20;

/// Windows longer than this lease as if they were so long, in ms: what lies on lease here is missed
/// elsewhere, whatever the window.
const LONG_MS: u64 = 3_600_000;

/// A client at its limit waits for 1/400 of the window, so that one transaction fetches what has
/// come free in the meantime.
fn pause_ms(window_ms: u64) -> u64 {
    window_ms.min(LONG_MS) / 400
}

/// How long a lease lasts, in ms: a tenth of the window.
fn lease_ms(window_ms: u64) -> u64 {
    (window_ms.min(LONG_MS) / 10).max(50)
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
    let fine = grid_ms(window_ms);
    if fields > 64 { fine.max(window_ms / 1000 * 8) } else { fine }
}

/// A key that this worker has touched: what it needs to settle it.
pub(crate) struct Known {
    pub counter: Arc<Counter>,
    pub window_ms: u64,
    /// When to settle, gateway time; also its place in `Worker::due`.
    pub due: u64,
    /// The life that the uses of this key were last settled with ...
    life: u64,
    /// ... and the one that the next belong to.
    learned: u64,
    /// Fields at the server that have left the window, or leave it next, ascending.
    drops: Vec<u64>,
    /// Units to return: (life, stamp of the lease, units). Another life has never seen them.
    hand_back: Vec<(u64, u64, u64)>,
    /// Used beyond a lease and published by a transaction that was lost: nothing else stands for
    /// them at the server, so they are published again, at worst twice. (life, stamp, units).
    owed: Vec<(u64, u64, i64)>,
    /// Units used beyond a lease whose publication is under way.
    saying: u64,
    quiet_until: u64,
    fields: usize,
    /// Whether a transaction that acquires is under way from this worker.
    acquiring: bool,
    /// Whether one that only looks is.
    probing: bool,
    /// Units that requests have asked for since the last piece of news, those that wait included:
    /// they ask again after each ...
    wanted: u64,
    round: u64,
    /// ... and that were still wanted when the answer came.
    waiting: u64,
}

impl Known {
    /// What another life's fields were is of no use to this one.
    fn learn(&mut self, life: u64) {
        if self.learned != life {
            self.drops.clear();
            self.learned = life;
        }
    }
}

impl Known {
    /// What one part of a transaction said is no longer under way.
    fn heard_of(&mut self, part: &SentPart) {
        self.acquiring &= part.acquire.is_none();
        self.probing &= part.probe.is_none();
        self.saying = self.saying.saturating_sub(part.said());
    }
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
    /// See [`Cell::published`], with what this part says.
    published: (u64, u64),
}

impl SentPart {
    /// Units used beyond a lease that it publishes.
    fn said(&self) -> u64 {
        self.overdraft.iter().map(|(_, n)| n.unsigned_abs()).sum()
    }
}

/// What is to be said about one key, to one life of a server.
struct Draft {
    place: Place,
    life: u64,
    part: Part,
    acquire: Option<Acquire>,
    probe: Option<u64>,
    overdraft: Vec<(u64, i64)>,
    published: (u64, u64),
}

#[derive(Clone, Copy)]
struct Acquire {
    end: u64,
    units: u64,
    /// The least that is of use to the request that waits.
    cost: u64,
    /// See [`Field::Lowered`], when it was asked for.
    lowered: u64,
}

impl Worker {
    pub(crate) fn decide_shared(
        &mut self,
        now: u64,
        asks: &[Ask<'_>],
        places: &[Place],
        cells: &[Cell<'static>],
        states: &mut Vec<LimitState>,
    ) -> Decision {
        let mut refusal = Refusal::default();
        let (mut short, mut stale): (Vec<usize>, Vec<(usize, u64)>) = (Vec::new(), Vec::new());
        for (i, (ask, &place)) in asks.iter().zip(places).enumerate() {
            let cell = &cells[i];
            self.open(cell, now, place, ask);
            let usable = cell.usable(self.lease_bound(cell, now));
            states.push(shared_state(cell, now, usable, ask));
            match self.judge(cell, now, place, ask, usable) {
                Judgement::Enough => {}
                Judgement::Short => short.push(i),
                Judgement::Stale(retry_after_ms) => stale.push((i, retry_after_ms)),
                Judgement::Refused(retry_after_ms) => refusal.add(i, retry_after_ms),
            }
        }
        if refusal.decision().is_some() {
            stale.iter().for_each(|&(i, retry_after_ms)| refusal.add(i, retry_after_ms));
            for &i in &short {
                if let Some(retry_after_ms) = full_for(&cells[i], now, &asks[i]) {
                    refusal.add(i, retry_after_ms);
                }
            }
        }
        if let Some(refused) = refusal.decision() {
            if broken(Mutant::PartialCharge) {
                for ((ask, &place), cell) in asks.iter().zip(places).zip(cells) {
                    if cell.usable(self.lease_bound(cell, now)) >= ask.cost {
                        self.note(cell, now, ask);
                        self.use_lease(cell, now, place, ask);
                    }
                }
            }
            if let Decision::Refuse { by, .. } = refused
                && !self.undecided
            {
                self.return_idle(now, asks, places, cells, by);
            }
            return refused;
        }
        if !stale.is_empty() {
            let unknown: Vec<usize> = stale.iter().map(|s| s.0).chain(short).collect();
            return self.probe(now, asks, places, cells, &unknown);
        }
        if !short.is_empty() {
            return self.wait_for(now, asks, places, cells, &short);
        }
        let charged = if broken(Mutant::OneLimitForAll) { &asks[..1] } else { asks };
        for (i, (ask, &place)) in charged.iter().zip(places).enumerate() {
            self.note(&cells[i], now, ask);
            self.use_lease(&cells[i], now, place, ask);
            states[i].remaining = states[i].remaining.saturating_sub(ask.cost);
        }
        Decision::Allow
    }

    /// A limit refused: what is on lease here of the client's others goes back, since it may come to
    /// another gateway next. What is leased for all clients serves the others.
    fn return_idle(
        &mut self,
        now: u64,
        asks: &[Ask<'_>],
        places: &[Place],
        cells: &[Cell<'static>],
        by: usize,
    ) {
        let tag = asks[by].counter.tag();
        let others = asks.iter().zip(places).enumerate().filter(|(i, _)| *i != by);
        for (i, (ask, &place)) in others.filter(|(_, (ask, _))| ask.counter.tag() == tag) {
            let cell = &cells[i];
            if cell.usable(0) > 0 {
                self.recall(cell, now, place, ask);
                // What goes back makes room: that is to be asked about, not remembered.
                cell.set(Field::RefuseUntil, 0);
            }
        }
    }

    /// The latest that the clock of the key's server can show within this millisecond.
    fn upper(&self, cell: &Cell<'_>, now: u64) -> u64 {
        self.table.lives().upper(cell.get(Field::Life), now + 1)
    }

    /// Leases that end before this server time are not used any more.
    fn lease_bound(&self, cell: &Cell<'_>, now: u64) -> u64 {
        if broken(Mutant::LeaseAfterEnd) {
            0
        } else if broken(Mutant::LeaseByLowerBound) {
            self.table.lives().lower(cell.get(Field::Life), now)
        } else {
            self.upper(cell, now)
        }
    }

    /// Brings the cell of a key up to the policy and the server life in force.
    fn open(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) {
        ask.touch(cell, now);
        self.enter_life(cell);
        let amount = cell.get(Field::Amount);
        if ask.amount != amount {
            if ask.amount < amount {
                if !broken(Mutant::NoRecall) {
                    self.recall(cell, now, place, ask);
                }
                cell.set(Field::Lowered, cell.get(Field::Lowered) + 1);
            }
            // History stays; what was concluded from the old amount does not.
            cell.set(Field::Amount, ask.amount);
            cell.set(Field::RefuseUntil, 0);
            cell.set(Field::Room, 0);
            cell.set(Field::Free, ask.amount);
        }
    }

    /// A key whose life is over belongs to the only one there is, else to the one that answers next.
    pub(crate) fn enter_life(&self, cell: &Cell<'_>) {
        let lives = self.table.lives();
        let life = cell.get(Field::Life);
        if lives.lasts(life) {
            return;
        }
        if life != NOBODY && !broken(Mutant::LivesIgnored) {
            leave_life(cell);
        }
        cell.set(Field::Life, lives.sole());
    }

    /// Units on lease go back.
    fn recall(&mut self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>) {
        self.remember(now, place, ask);
        let life = cell.get(Field::Life);
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

    fn judge(&self, cell: &Cell<'_>, now: u64, place: Place, ask: &Ask<'_>, usable: u64) -> Judgement {
        let needed = if broken(Mutant::UsedBeyondLease) { 1 } else { ask.cost.max(1) };
        if usable >= needed {
            return Judgement::Enough;
        }
        if ask.cost.max(1) > ask.amount {
            return Judgement::Refused(ask.at_most(now, ask.window_ms));
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
        now: u64,
        asks: &[Ask<'_>],
        places: &[Place],
        cells: &[Cell<'static>],
        unknown: &[usize],
    ) -> Decision {
        let tag = asks[unknown[0]].counter.tag();
        let mut drafts = Vec::new();
        for &i in unknown.iter().filter(|&&i| asks[i].counter.tag() == tag) {
            let (ask, place, cell) = (&asks[i], places[i], &cells[i]);
            if cell.get(Field::RefuseUntil) > 0 {
                cell.set(Field::RefuseUntil, (now + probe_ms(ask.window_ms)).min(cell.room().0));
            }
            self.remember(now, place, ask);
            if let Some(known) = self.known.get_mut(&place).filter(|known| !known.acquiring && !known.probing)
            {
                known.probing = true;
                let draft = self.settlement(cell, now, place);
                drafts.push(Draft { probe: Some(ask.cost.max(1)), ..draft });
            }
        }
        if !drafts.is_empty() {
            self.send(now, drafts);
        }
        Decision::Wait
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
            life: NOBODY,
            learned: NOBODY,
            drops: Vec::new(),
            hand_back: Vec::new(),
            owed: Vec::new(),
            saying: 0,
            quiet_until: 0,
            fields: 0,
            acquiring: false,
            probing: false,
            wanted: 0,
            round: 0,
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

    /// Sends drafts of one tag, those for one life in one transaction.
    fn send(&mut self, now: u64, mut drafts: Vec<Draft>) {
        while let Some(Draft { life, .. }) = drafts.first() {
            let life = *life;
            let (these, others): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|d| d.life == life);
            drafts = others;
            let id = self.next_id;
            self.next_id += 1;
            let (mut sent, mut parts) = (Vec::with_capacity(these.len()), Vec::with_capacity(these.len()));
            for Draft { place, part, acquire, probe, overdraft, published, .. } in these {
                let said = SentPart { place, acquire, probe, overdraft, published };
                if let Some(known) = self.known.get_mut(&place) {
                    known.saying += said.said();
                }
                sent.push(said);
                parts.push(part);
            }
            self.sent.insert(id, Sent { at: now, life, parts: sent });
            self.out.push(Transaction { id, life: self.table.lives().name(life), parts });
        }
    }
}

/// Leases of a former life are void, and what was published then has to be published again.
fn leave_life(cell: &Cell<'_>) {
    cell.drop_leases();
    cell.unsettle_all();
    cell.set(Field::RefuseUntil, 0);
    cell.set(Field::Room, 0);
    cell.set(Field::Free, cell.get(Field::Amount));
    cell.set(Field::Life, NOBODY);
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
    let (room_at, cost) = cell.room();
    // What is free may do for a request of lower cost than that for which this was reckoned.
    let fits = ask.cost.max(1) < cost && ask.cost.max(1) <= cell.get(Field::Free);
    let full = now < room_at && !fits;
    full.then(|| ask.at_most(now, room_at - now + PROMISE_MS))
}

/// What is left of a limit, as far as is known here: units on lease, and those nobody held.
fn shared_state(cell: &Cell<'_>, now: u64, usable: u64, ask: &Ask<'_>) -> LimitState {
    let remaining = (usable + cell.get(Field::Free)).min(cell.get(Field::Amount));
    let reset = cell.get(Field::ResetAt).saturating_sub(now);
    let reset = if reset == 0 { ask.window_ms } else { reset };
    LimitState { remaining, reset_ms: ask.at_most(now, reset) }
}
