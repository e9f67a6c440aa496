//! What the server is told of uses, ended leases and units to hand back, and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Draft, Known, counted_ms, lease_ms, rounding_ms};
use crate::cell::{Cell, Field, LEASES, Lease};
use crate::table::Place;
use crate::trial::{Mutant, broken};
use crate::wire::{Part, field_of};
use crate::worker::Worker;

impl Worker {
    /// What the next transaction on a key has to say: units used move from the lease's stamp to
    /// their own, ended leases and units to hand back return, units used beyond a lease are added.
    pub(super) fn settlement(&mut self, cell: &Cell<'_>, now: u64, place: Place) -> Draft {
        let upper = self.upper(cell, now);
        let (lives, life) = (self.table.lives(), cell.get(Field::Life));
        let known = self.known.get_mut(&place).expect("a key is remembered before it is settled");
        known.life = life;
        known.learn(life);
        let rounding = rounding_ms(known.window_ms, known.fields);
        let mut add: BTreeMap<u64, i64> = BTreeMap::new();
        let mut published = 0;
        for slot in cell.unsettled(now) {
            let mut stamp = lives.upper(life, slot.stamp).next_multiple_of(rounding);
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
        let mut overdraft = newest(&uses, published);
        overdraft.extend(known.say(life, upper.next_multiple_of(rounding), &mut add));
        cell.mark_settled(now);
        // What has left the window for certain by now.
        let bound = if broken(Mutant::TrimmedEarly) {
            lives.upper(life, now) + known.window_ms / 10
        } else {
            lives.lower(life, now)
        };
        let gone = known.drops.partition_point(|stamp| stamp + counted_ms(known.window_ms) <= bound);
        let drop = known.drops.drain(..gone).map(|stamp| field_of(stamp, known.window_ms)).collect();
        let (part, published) = (known.part(add, drop), cell.published());
        Draft { place, life, part, acquire: None, probe: None, overdraft, published }
    }

    /// What is left to say on a key whose cell had to make room, which only this worker knows.
    fn last_words(&mut self, now: u64, place: Place) -> Option<Draft> {
        let under_way = self.sent.values().flat_map(|sent| &sent.parts).any(|part| part.place == place);
        let (lives, known) = (self.table.lives(), self.known.get_mut(&place)?);
        let life = if lives.lasts(known.life) { known.life } else { lives.sole() };
        let upper = lives.upper(life, now + 1).next_multiple_of(rounding_ms(known.window_ms, known.fields));
        let mut add = BTreeMap::new();
        let overdraft = known.say(life, upper, &mut add);
        if add.is_empty() && !under_way {
            self.known.remove(&place);
            return None;
        }
        let (part, soon) = (known.part(add, Vec::new()), now + lease_ms(known.window_ms));
        self.schedule(place, soon);
        Some(Draft { place, life, part, acquire: None, probe: None, overdraft, published: (0, 0) })
    }

    // ---- timers ----

    /// Settles the keys that are due. Returns when to call again.
    pub fn tick(&mut self, now: u64) -> Option<u64> {
        self.notice_lives(now);
        self.charge_unpaid(now);
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
        // What could not be charged is tried again as soon as can be.
        if self.unpaid.is_empty() { self.due.first().map(|d| d.0) } else { Some(0) }
    }

    /// Settles one key if there is something to say, and sees when it is due again.
    fn settle_one(&mut self, now: u64, place: Place) -> Option<Draft> {
        let window = self.known[&place].window_ms;
        if !self.up || !self.table.lives().any() {
            self.schedule(place, now + lease_ms(window));
            return None;
        }
        let Ok(guard) = self.lock(&[place]) else {
            self.schedule(place, now + 1);
            return None;
        };
        let Some(cell) = guard.find(place, true) else {
            return self.last_words(now, place).filter(|draft| !draft.part.add.is_empty());
        };
        self.enter_life(&cell);
        let draft = self.settlement(&cell, now, place);
        let busy = (0..LEASES).any(|i| cell.lease(i).end != 0) || self.known[&place].acquiring;
        let gone = (cell.get(Field::Touched) + window).min(cell.get(Field::Until));
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

impl Known {
    /// Adds what this worker alone knows of a key, whatever became of its cell: units to hand back, and
    /// those used beyond a lease that nobody may have heard of, at the stamp that they had in this
    /// life, else at `upper`. Returns the latter.
    fn say(&mut self, life: u64, upper: u64, add: &mut BTreeMap<u64, i64>) -> Vec<(u64, i64)> {
        for (_, end, units) in self.hand_back.drain(..).filter(|h| h.0 == life) {
            *add.entry(end).or_default() -= units as i64;
        }
        let stamped = |(then, stamp, units)| (if then == life { stamp } else { upper }, units);
        let owed: Vec<(u64, i64)> = self.owed.drain(..).map(stamped).collect();
        owed.iter().for_each(|&(stamp, units)| *add.entry(stamp).or_default() += units);
        owed
    }

    fn part(&self, add: BTreeMap<u64, i64>, drop: Vec<u64>) -> Part {
        let add = add.into_iter().filter(|&(_, n)| n != 0);
        let add = add.map(|(stamp, n)| (field_of(stamp, self.window_ms), n)).collect();
        let rounding = rounding_ms(self.window_ms, self.fields);
        let mut expire_ms = 2 * self.window_ms + lease_ms(self.window_ms) + rounding + 1000;
        if broken(Mutant::ShortTtl) {
            expire_ms = self.window_ms;
        }
        Part { counter: Arc::clone(&self.counter), add, drop, expire_ms }
    }
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
