//! What a server's answers change: clocks and lives, what is granted, when there will be room.

use super::{
    Acquire, PROMISE_MS, SentPart, alone_ms, counted_ms, lease_ms, leave_life, pause_ms, probe_ms, slack_ms,
};
use crate::cell::{Cell, Field, LEASES, Lease};
use crate::lives::NOBODY;
use crate::table::Place;
use crate::trial::{Mutant, broken};
use crate::wire::{Answer, stamp_of};
use crate::worker::Worker;

/// After a lost transaction a key is left alone for so long, in ms.
const QUIET_MS: u64 = 250;
/// In the first moments of a new server life a gateway leases no more than its share.
const SHARE_MS: u64 = 2000;
/// Old fields dropped in one transaction.
const MAX_DROPS: usize = 64;

impl Worker {
    /// The only server said `time_ms` on a connection that opened between `sent` and `received`; if
    /// it is another one than before, or its process is, all other lives have ended.
    pub fn connected(&mut self, sent: u64, received: u64, time_ms: u64, life: u64) {
        self.up = true;
        self.change_lives(|lives| lives.end_others(life));
        self.heard(sent, received, time_ms, life);
    }

    /// One of several servers, each with a part of the keys, said `time_ms` between `sent` and
    /// `received`.
    pub fn heard(&mut self, sent: u64, received: u64, time_ms: u64, life: u64) {
        self.hear(sent, received, time_ms, life);
        self.notice_lives(received);
    }

    /// The server that called its life so is gone, or does not keep its keys any more.
    pub fn ended(&mut self, now: u64, life: u64) {
        self.change_lives(|lives| lives.named(life).into_iter().for_each(|id| lives.end(id)));
        self.notice_lives(now);
    }

    /// Takes in a reading of a server's clock. Its life, and whether that was known already.
    fn hear(&self, sent: u64, received: u64, time_ms: u64, name: u64) -> (u64, bool) {
        let lives = self.table.lives();
        let known = lives.named(name).filter(|&id| lives.hear(id, sent, received, time_ms));
        if let Some(id) = known {
            return (id, true);
        }
        let begun = self.change_lives(|lives| match lives.named(name) {
            // Another worker was faster.
            Some(id) if lives.hear(id, sent, received, time_ms) => id,
            former => {
                former.into_iter().for_each(|id| lives.end(id));
                lives.begin(name, sent, received, time_ms)
            }
        });
        (begun.unwrap_or(NOBODY), false)
    }

    /// A life that ended forgot what this gateway used: its keys are published again, at once.
    pub(super) fn notice_lives(&mut self, now: u64) {
        let lives = self.table.lives();
        let changes = lives.changes();
        if changes == self.seen_changes {
            return;
        }
        self.seen_changes = changes;
        let homeless = self.known.iter().filter(|(_, known)| !lives.lasts(known.life));
        for place in homeless.map(|(place, _)| *place).collect::<Vec<_>>() {
            self.schedule(place, now);
        }
    }

    /// The answer to transaction `id`, late or not. Requests that wait should be decided again.
    pub fn answered(&mut self, now: u64, id: u64, answer: &Answer) {
        self.round += 1;
        let Some(sent) = self.sent.remove(&id) else {
            return;
        };
        // The answer of a former life says nothing of this one.
        let former = sent.life != NOBODY && !self.table.lives().lasts(sent.life);
        let (life, same) =
            if former { (sent.life, false) } else { self.hear(sent.at, now, answer.time_ms, answer.life) };
        let is_its = sent.life == life || sent.life == NOBODY;
        let current = (same && is_its || former && broken(Mutant::FormerLifeCredited))
            && answer.fields.len() == sent.parts.len();
        let source = Source { life, made_for: sent.life, time_ms: answer.time_ms };
        for (i, part) in sent.parts.iter().enumerate() {
            if let Some(known) = self.known.get_mut(&part.place) {
                known.heard_of(part);
            }
            if current {
                self.credit(now, part, source, &answer.fields[i]);
            }
        }
        self.tick(now);
    }

    /// Transaction `id` will not be answered. It is never repeated: what it acquired, settled or
    /// returned is forgotten here and stays counted there. Only units used beyond a lease are
    /// published again, since nothing else may stand for them.
    pub fn lost(&mut self, now: u64, id: u64) {
        self.round += 1;
        let Some(sent) = self.sent.remove(&id) else {
            return;
        };
        for part in sent.parts {
            let Some(known) = self.known.get_mut(&part.place) else {
                continue;
            };
            known.quiet_until = now + QUIET_MS;
            let acquiring = known.acquiring;
            known.heard_of(&part);
            known.acquiring |= acquiring && broken(Mutant::LostNotTold);
            // Where it was made for no life, nobody vouches for what it published, not even one that goes on.
            self.say_again(now + QUIET_MS, part, sent.life, sent.life == NOBODY);
        }
    }

    /// Transaction `id` was not sent, since another server keeps its keys now: they belong to the one
    /// that answers next.
    pub fn moved(&mut self, now: u64, id: u64) {
        let Some(sent) = self.sent.remove(&id) else {
            return;
        };
        for part in sent.parts {
            if let Some(known) = self.known.get_mut(&part.place) {
                known.heard_of(&part);
            }
            self.say_again(now, part, sent.life, true);
        }
        self.tick(now);
    }

    /// Has published again, at `at`, what nobody may have heard of: all uses, where the key is to leave
    /// a life that it may be in still, else those beyond a lease.
    fn say_again(&mut self, at: u64, part: SentPart, life: u64, leaves: bool) {
        let left = leaves && self.leave(part.place, life);
        if leaves || !part.overdraft.is_empty() {
            self.schedule(part.place, at);
        }
        if let Some(known) = self.known.get_mut(&part.place)
            && !left
            && !broken(Mutant::OverdraftForgotten)
        {
            known.owed.extend(part.overdraft.into_iter().map(|(stamp, n)| (life, stamp, n)));
        }
    }

    /// Takes a key out of a life; false where it is not in it, or can't be looked at.
    fn leave(&mut self, place: Place, life: u64) -> bool {
        let Ok(guard) = self.lock(&[place]) else {
            return false;
        };
        let cell = guard.find(place, true).filter(|cell| cell.get(Field::Life) == life);
        cell.inspect(leave_life).is_some()
    }

    /// Reads one key's fields: what is granted, what goes back, when there will be room.
    fn credit(&mut self, now: u64, part: &SentPart, source: Source, fields: &[(u64, i64)]) {
        let Some(known) = self.known.get_mut(&part.place) else {
            return;
        };
        let (window, time_ms) = (counted_ms(known.window_ms), source.time_ms);
        known.learn(source.life);
        let stamps = fields.iter().map(|&(field, n)| (stamp_of(field, known.window_ms, time_ms), n));
        known.drops = stamps.clone().map(|field| field.0).collect();
        known.drops.sort_unstable();
        known.drops.truncate(MAX_DROPS);
        let mut live: Vec<(u64, i64)> = stamps.filter(|&(stamp, _)| stamp + window > time_ms).collect();
        known.fields = live.len();
        live.retain(|field| field.1 > 0);
        let mut live: Vec<(u64, u64)> = live.into_iter().map(|(stamp, n)| (stamp, n as u64)).collect();
        live.sort_unstable();
        // Anybody may have put anything there.
        let sum = total(live.iter());
        let slack = slack_ms(known.window_ms, known.fields);
        let looked = Acquire { end: 0, units: 0, cost: part.probe.unwrap_or(0), lowered: 0 };
        let acquired = part.acquire.unwrap_or(looked);
        // That rule, too, would hide what the mutant breaks.
        let saying = if broken(Mutant::FormerLifeCredited) { 0 } else { known.saying };
        let granted = match self.lock(&[part.place]) {
            Ok(guard) => guard.find(part.place, true).map_or(0, |cell| {
                let published = part.published;
                let view = View { now, source, time_ms, live: &live, sum, slack, published, saying };
                self.grant(&cell, acquired, &view)
            }),
            Err(_) => 0,
        };
        if let Some(known) = self.known.get_mut(&part.place) {
            known.waiting = known.wanted.saturating_sub(granted);
            known.wanted = 0;
        }
        if granted < acquired.units && !broken(Mutant::GrantKept) {
            let known = self.known.get_mut(&part.place).expect("looked up above");
            known.hand_back.push((source.life, acquired.end, acquired.units - granted));
            self.schedule(part.place, now);
        }
    }

    /// Puts what is granted into the cell; the rest has to go back.
    fn grant(&self, cell: &Cell<'_>, acquired: Acquire, view: &View<'_>) -> u64 {
        let (now, amount) = (view.now, cell.get(Field::Amount));
        if cell.get(Field::Life) == NOBODY && view.source.made_for == NOBODY {
            cell.set(Field::Life, view.source.life);
        }
        if cell.get(Field::Life) != view.source.life && !broken(Mutant::FormerLifeCredited) {
            return 0;
        }
        if self.was_forgotten(cell, acquired, view) {
            cell.drop_leases();
            cell.unsettle_all();
            return 0;
        }
        cell.set(Field::InFlightUntil, 0);
        let own = if broken(Mutant::OwnGrantUncounted) { acquired.units } else { 0 };
        // What was used beyond leases since it was asked is not in the answer, be it published meanwhile.
        let since = cell.untold(now).saturating_add(view.saying);
        let over = view.sum.saturating_add(since).saturating_sub(own).saturating_sub(amount);
        let mut granted = acquired.units - acquired.units.min(over);
        let share = self.share_left(cell, now);
        granted = granted.min(share);
        let cost = acquired.cost.max(1);
        let limited = granted < acquired.units || share < cost;
        // Asked for before the limit was lowered: what others were granted since then is not in it.
        let outdated = acquired.lowered != cell.get(Field::Lowered) && !broken(Mutant::OutdatedCredited);
        let ended = acquired.end < self.lease_bound(cell, now);
        if outdated || ended || granted < acquired.cost || !view.outlives(acquired.end, cell) {
            granted = 0;
        }
        if granted > 0 && !cell.add_lease(Lease { end: acquired.end, rest: granted, used: 0 }) {
            granted = 0;
        }
        if granted > 0 {
            // Who read the clock before it was granted, and comes to use it now, is of this moment.
            cell.set(Field::Touched, now.max(cell.get(Field::Touched)));
        }
        let counted = view.sum - (acquired.units - granted).min(view.sum);
        cell.set(Field::Free, amount.saturating_sub(counted).min(share - granted));
        cell.set(Field::ResetAt, view.reset_at(counted_ms(cell.get(Field::WindowMs))));
        note_room(cell, acquired, view, Outcome { granted, counted, limited, alone: self.gateways == 1 });
        granted
    }

    /// Whether the server holds far less than this gateway alone has put there: it was flushed, or
    /// the key was evicted. Half is the line, since uses beyond a lease may still be on their way.
    fn was_forgotten(&self, cell: &Cell<'_>, acquired: Acquire, view: &View<'_>) -> bool {
        // Uses about to leave the window may have left it at the server.
        let margin = cell.get(Field::WindowMs) / 50 + 50;
        // An answer may be older than what others published or leased since.
        let settled = cell.surely_used(view.now + margin, view.published.min(cell.published()));
        let window = cell.get(Field::WindowMs);
        let counted = |l: &Lease| {
            l.end + window > view.time_ms + margin
                && l.end.saturating_sub(lease_ms(window)) + 1_000 < view.time_ms
        };
        let leased: u64 = (0..LEASES).map(|i| cell.lease(i)).filter(counted).map(|l| l.rest + l.used).sum();
        !broken(Mutant::FlushIgnored) && view.sum.saturating_sub(acquired.units) < (settled + leased) / 2
    }

    /// In the first moments of a new life others have not published their uses yet.
    fn share_left(&self, cell: &Cell<'_>, now: u64) -> u64 {
        let since = self.table.lives().since(cell.get(Field::Life));
        let ignored = broken(Mutant::ShareIgnored) || broken(Mutant::FormerLifeCredited);
        if since == 0 || now >= since + SHARE_MS || ignored {
            return u64::MAX;
        }
        let leased: u64 = (0..LEASES).map(|i| cell.lease(i).rest).sum();
        (cell.get(Field::Amount) / u64::from(self.gateways)).saturating_sub(cell.used(now) + leased)
    }
}

/// Units of fields; more than there can be count as the most.
fn total<'a>(fields: impl Iterator<Item = &'a (u64, u64)>) -> u64 {
    fields.fold(0, |sum, field| sum.saturating_add(field.1))
}

/// Where an answer comes from.
#[derive(Clone, Copy)]
struct Source {
    life: u64,
    /// The life that the transaction was made for.
    made_for: u64,
    time_ms: u64,
}

/// What an acquisition came to.
struct Outcome {
    granted: u64,
    /// Units in the window, without what goes back.
    counted: u64,
    /// Whether less was granted than was asked for or would do.
    limited: bool,
    /// Whether nobody else is known who might hand units back.
    alone: bool,
}

/// Notes when there will be room for a request like the one that asked, and until when others are
/// refused without asking.
fn note_room(cell: &Cell<'_>, acquired: Acquire, view: &View<'_>, outcome: Outcome) {
    let (now, cost, amount) = (view.now, acquired.cost.max(1), cell.get(Field::Amount));
    let longest = cell.get(Field::WindowMs) + lease_ms(cell.get(Field::WindowMs));
    let window = counted_ms(cell.get(Field::WindowMs));
    let missing = outcome.counted.saturating_add(cost).saturating_sub(amount);
    let mut retry_at = view.room_at(window, missing, acquired.end);
    if outcome.limited {
        retry_at = retry_at.max(now + pause_ms(window));
    }
    // A clock that stepped back leaves stamps far ahead.
    let latest = now + longest - PROMISE_MS;
    retry_at = retry_at.min(latest);
    if retry_at > now && broken(Mutant::RetryEarly) {
        retry_at = now + (retry_at - now) / 2;
    }
    if retry_at > now && broken(Mutant::RetryLate) {
        retry_at += window;
    }
    let in_vain = outcome.granted < acquired.units || acquired.units == 0;
    let length = cell.get(Field::WindowMs);
    let look_ms = if outcome.alone { alone_ms(length) } else { probe_ms(length) };
    // Where all was granted, whether the next is refused is asked when it comes.
    let mut asks_at = if in_vain { retry_at.min(now + look_ms) } else { 0 };
    if outcome.granted > 0 && asks_at > now {
        // Its client was served, and may take elsewhere what leaves the window until this gateway asks
        // again. Who is refused in between is told what is true nevertheless; where that is far off, it
        // is asked at once.
        let left = view.left_by(asks_at, window, acquired.end);
        let surely = retry_at.max(view.room_at(window, left.saturating_add(cost), acquired.end));
        let near = surely <= latest.min(retry_at + pause_ms(window));
        (retry_at, asks_at) = if near { (surely, asks_at) } else { (retry_at, 0) };
    }
    remember_room(cell, now, retry_at, acquired.cost, asks_at);
}

/// Notes when there will be room for a request of `cost` (0: nobody asked), and until when others are
/// refused without asking: 0 where it is asked when the next comes.
fn remember_room(cell: &Cell<'_>, now: u64, retry_at: u64, cost: u64, asks_at: u64) {
    let window = counted_ms(cell.get(Field::WindowMs));
    let pausing = cell.room().0 <= now + pause_ms(window);
    if cost == 0 && (retry_at > now || pausing) {
        // Nobody asked for room, so who is refused goes on as it was told.
        return;
    }
    if retry_at <= now {
        // Where little has come free, leases stay short: see `lease_size`.
        let still = cell.get(Field::Room) > 0 && cell.get(Field::Free) < cell.get(Field::Amount) / 8;
        cell.set_room(if still { now } else { 0 }, u64::from(still));
        cell.set(Field::RefuseUntil, 0);
        return;
    }
    cell.set(Field::RefuseUntil, asks_at);
    cell.set_room(retry_at, cost.max(1));
}

/// What an answer showed of one key.
struct View<'a> {
    now: u64,
    source: Source,
    time_ms: u64,
    /// (stamp, units) inside the window, ascending.
    live: &'a [(u64, u64)],
    sum: u64,
    /// By how much a unit used now may be counted longer than the window.
    slack: u64,
    /// What the server had been told of this gateway's uses, see [`Cell::published`].
    published: (u64, u64),
    /// Units that this worker has published since it asked, and that are not in the answer.
    saying: u64,
}

impl View<'_> {
    /// The gateway time at which the first of the counted units leaves the window.
    fn reset_at(&self, window: u64) -> u64 {
        let stays = |first: &(u64, u64)| (first.0 + window).saturating_sub(self.time_ms);
        self.now + self.live.first().map_or(window, stays)
    }

    /// Whether the key expires only when units counted at `end` have left the window, even if nothing
    /// is said of it any more. A stamp can be further ahead where the clocks of several servers differ.
    fn outlives(&self, end: u64, cell: &Cell<'_>) -> bool {
        let window = cell.get(Field::WindowMs);
        end <= self.time_ms + window + lease_ms(window) + 1000
    }

    /// Units of what is counted that may have left the window at gateway time `at`; what was acquired
    /// at `own` and goes back does not count. The server's clock is ahead of `time_ms` by how long the
    /// answer took.
    fn left_by(&self, at: u64, window: u64, own: u64) -> u64 {
        let by = self.time_ms + (at - self.now) + PROMISE_MS;
        let leaves = |f: &&(u64, u64)| f.0 != own && f.0 + window <= by;
        total(self.live.iter().filter(leaves))
    }

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
        if left == 0 { self.now } else { self.now + window + self.slack }
    }
}
