//! What a server's answers change: clocks and lives, what is granted, when there will be room.

use super::{Acquire, PROBE_MS, PROMISE_MS, SentPart, counted_ms, lease_ms, slack_ms};
use crate::cell::{Cell, Field, LEASES, Lease};
use crate::trial::{Mutant, broken};
use crate::wire::Answer;
use crate::worker::Worker;

/// After a lost transaction a key is left alone for so long, in ms.
const QUIET_MS: u64 = 250;
/// In the first moments of a new server life a gateway leases no more than its share.
const SHARE_MS: u64 = 2000;
/// A client at its limit waits for 1/400 of the window, so that one transaction fetches what has
/// come free in the meantime.
const PAUSES: u64 = 400;
/// Old fields dropped in one transaction.
const MAX_DROPS: usize = 256;

impl Worker {
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
    pub(super) fn notice_life(&mut self, now: u64) {
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
        // The answer of a former life says nothing of this one.
        let former = sent.life != self.table.life().1;
        let heard = !former && self.hear(sent.at, now, answer.time_ms, answer.life);
        let current = (heard || former && broken(Mutant::FormerLifeCredited))
            && answer.fields.len() == sent.parts.len();
        for (i, part) in sent.parts.iter().enumerate() {
            if let Some(known) = self.known.get_mut(&part.place) {
                known.acquiring &= part.acquire.is_none();
                known.probing &= part.probe.is_none();
            }
            if current {
                self.credit(now, part, answer.time_ms, &answer.fields[i]);
            }
        }
        self.tick(now);
    }

    /// Transaction `id` will not be answered. It is never repeated: what it acquired, settled or
    /// returned is forgotten here and stays counted there. Only units used beyond a lease are
    /// published again, since nothing else may stand for them.
    pub fn lost(&mut self, now: u64, id: u64) {
        let Some(sent) = self.sent.remove(&id) else {
            return;
        };
        for part in sent.parts {
            let Some(known) = self.known.get_mut(&part.place) else {
                continue;
            };
            known.quiet_until = now + QUIET_MS;
            known.probing &= part.probe.is_none();
            known.acquiring &= part.acquire.is_none() || broken(Mutant::LostNotTold);
            if !part.overdraft.is_empty() && !broken(Mutant::OverdraftForgotten) {
                known.owed.extend(part.overdraft.into_iter().map(|(stamp, n)| (sent.life, stamp, n)));
                self.schedule(part.place, now + QUIET_MS);
            }
        }
    }

    /// Reads one key's fields: what is granted, what goes back, when there will be room.
    fn credit(&mut self, now: u64, part: &SentPart, time_ms: u64, fields: &[(u64, i64)]) {
        let Some(known) = self.known.get_mut(&part.place) else {
            return;
        };
        let window = counted_ms(known.window_ms);
        let (live, mut gone): (Vec<_>, Vec<_>) =
            fields.iter().copied().partition(|&(stamp, _)| stamp + window > time_ms);
        known.fields = live.len();
        if broken(Mutant::TrimmedEarly) {
            let upper = self.table.clock().upper(now) + window / 10;
            gone = fields.iter().copied().filter(|&(stamp, _)| stamp + window <= upper).collect();
        }
        known.drops = gone.into_iter().map(|(stamp, _)| stamp).take(MAX_DROPS).collect();
        let mut live: Vec<(u64, u64)> =
            live.into_iter().filter(|f| f.1 > 0).map(|(s, n)| (s, n as u64)).collect();
        live.sort_unstable();
        let sum: u64 = live.iter().map(|f| f.1).sum();
        let slack = slack_ms(known.window_ms, known.fields);
        let looked = Acquire { end: 0, units: 0, cost: part.probe.unwrap_or(0), amount: 0 };
        let acquired = part.acquire.unwrap_or(looked);
        let granted = match self.lock(&[part.place]) {
            Ok(guard) => guard.find(part.place, true).map_or(0, |cell| {
                let view = View { now, time_ms, live: &live, sum, slack };
                self.grant(&cell, acquired, &view)
            }),
            Err(_) => 0,
        };
        if let Some(known) = self.known.get_mut(&part.place) {
            known.waiting = known.wanted.saturating_sub(granted);
            known.wanted = 0;
        }
        if granted < acquired.units && !broken(Mutant::GrantKept) {
            let life = self.table.life().1;
            let known = self.known.get_mut(&part.place).expect("looked up above");
            known.hand_back.push((life, acquired.end, acquired.units - granted));
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
        let own = if broken(Mutant::OwnGrantUncounted) { acquired.units } else { 0 };
        let over = view.sum.saturating_sub(own).saturating_sub(amount);
        let mut granted = acquired.units - acquired.units.min(over);
        let share = self.share_left(cell, now);
        granted = granted.min(share);
        let limited = granted < acquired.units;
        // Asked for before the limit was lowered: what others were granted since then is not in it.
        let outdated = acquired.amount > amount && !broken(Mutant::OutdatedCredited);
        if outdated || granted < acquired.cost || acquired.end < self.ended(now) {
            granted = 0;
        }
        if granted > 0 && !cell.add_lease(Lease { end: acquired.end, rest: granted, used: 0 }) {
            granted = 0;
        }
        let counted = view.sum - (acquired.units - granted).min(view.sum);
        cell.set(Field::Free, amount.saturating_sub(counted).min(share - granted));
        let longest = cell.get(Field::WindowMs) + lease_ms(cell.get(Field::WindowMs));
        let window = counted_ms(cell.get(Field::WindowMs));
        cell.set(
            Field::ResetAt,
            view.live.first().map_or(now + window, |f| now + (f.0 + window).saturating_sub(view.time_ms)),
        );
        let cost = acquired.cost.max(1);
        let mut retry_at =
            view.room_at(window, counted.saturating_add(cost).saturating_sub(amount), acquired.end);
        if limited {
            retry_at = retry_at.max(now + window / PAUSES);
        }
        // A clock that stepped back leaves stamps far ahead.
        retry_at = retry_at.min(now + longest - PROMISE_MS);
        if retry_at > now && broken(Mutant::RetryEarly) {
            retry_at = now + (retry_at - now) / 2;
        }
        if retry_at > now && broken(Mutant::RetryLate) {
            retry_at += window;
        }
        if retry_at <= now {
            cell.set(Field::RefuseUntil, 0);
        } else if acquired.cost == 0 {
            // Nobody asked for room, so who is refused goes on as it was told.
            return granted;
        } else if granted < acquired.units || acquired.units == 0 {
            cell.set(Field::RefuseUntil, retry_at.min(now + PROBE_MS));
        } else {
            // All was granted: whether the next is refused is asked when it comes.
            cell.set(Field::RefuseUntil, 0);
        }
        cell.set_room(retry_at, cost);
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
        !broken(Mutant::FlushIgnored) && view.sum.saturating_sub(acquired.units) < (settled + leased) / 2
    }

    /// In the first moments of a new life others have not published their uses yet.
    fn share_left(&self, cell: &Cell<'_>, now: u64) -> u64 {
        let (_, life, since) = self.table.life();
        if life <= 1 || now >= since + SHARE_MS || broken(Mutant::ShareIgnored) {
            return u64::MAX;
        }
        let leased: u64 = (0..LEASES).map(|i| cell.lease(i).rest).sum();
        (cell.get(Field::Amount) / u64::from(self.gateways)).saturating_sub(cell.used(now) + leased)
    }
}

/// What an answer showed of one key.
struct View<'a> {
    now: u64,
    time_ms: u64,
    /// (stamp, units) inside the window, ascending.
    live: &'a [(u64, u64)],
    sum: u64,
    /// By how much a unit used now may be counted longer than the window.
    slack: u64,
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
        if left == 0 { self.now } else { self.now + window + self.slack }
    }
}
