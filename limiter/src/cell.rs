//! One key's cell in shared memory: what was used here, and what is on lease.
//!
//! A cell is 63 words. Every change is made under the lock of the cell's segment and in an order in
//! which a death between two stores leaves more counted, never less.

use std::sync::atomic::Ordering;

use crate::trial::{AtomicU64, Mutant, broken};

/// Words of a cell. With its tag in the index a key takes 512 bytes.
pub const WORDS: usize = 63;

/// Leases that a key can hold at a time; another one is handed back.
pub const LEASES: usize = 4;

const FIELDS: usize = 17;
const LEASE_AT: usize = FIELDS;
const RING_AT: usize = FIELDS;
const LEASE_WORDS: usize = 3;

/// The named words of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// Hash of the client, beside that of the key in the index.
    Check = 0,
    /// The limit's amount as last seen.
    Amount = 1,
    WindowMs = 2,
    /// Gateway time of the last use, question or grant: no later decision is of an earlier moment.
    Touched = 3,
    /// Sequence number of the newest ring entry; entries are counted from 1.
    Head = 4,
    /// Sequence number of the oldest ring entry that is kept.
    Tail = 5,
    /// Gateway time at which the newest entry began.
    SlotStart = 6,
    /// Everything before this entry has been published ...
    SettledSeq = 7,
    /// ... and so many units of this entry.
    SettledUnits = 8,
    /// Server life that the leases and the published units belong to.
    Life = 9,
    /// Until this gateway time requests are refused without asking.
    RefuseUntil = 10,
    /// Gateway time at which enough units will have left the window for a request of some cost: see
    /// [`Cell::room`]; 0 where the last answer showed that there is room.
    Room = 11,
    /// Units that nobody held at the last answer.
    Free = 12,
    /// Gateway time until which an acquisition counts as under way.
    InFlightUntil = 13,
    /// Demand: units per second (f32) and gateway time of its last update (low 32 bits).
    Rate = 14,
    /// Gateway time at which the oldest unit counted anywhere leaves the window.
    ResetAt = 15,
    /// Gateway time after which nobody asks for the key: see [`crate::Ask::until`].
    Until = 16,
}

/// A stretch of use that shares one stamp: that of its last unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Gateway time, not before any use in it.
    pub stamp: u64,
    pub units: u64,
}

/// How stamps are read at a moment.
#[derive(Clone, Copy)]
struct Scale {
    tick_ms: u64,
    now_tick: u64,
}

impl Scale {
    fn read(self, word: &AtomicU64) -> Slot {
        let word = word.load(Ordering::Acquire);
        let behind = self.now_tick.wrapping_sub(word >> UNIT_BITS) & TICK_MASK;
        // A stamp may be a little ahead of now, since stamps are rounded up.
        let ahead = (TICK_MASK + 1).wrapping_sub(behind) & TICK_MASK;
        let past = behind <= TICK_MASK / 2;
        let tick = if past { self.now_tick.saturating_sub(behind) } else { self.now_tick + ahead };
        Slot { stamp: tick * self.tick_ms, units: word & UNIT_MAX }
    }
}

/// Units on lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Stamp at which the units are counted at the server; the lease ends when the server's clock
    /// may show it. 0: an empty place.
    pub end: u64,
    pub rest: u64,
    /// Used since the last settlement.
    pub used: u64,
}

/// Stamps are stored in 24 bits, in steps of 1/32768 of the window, and units in 40.
const UNIT_BITS: u32 = 40;
const UNIT_MAX: u64 = (1 << UNIT_BITS) - 1;
const TICK_MASK: u64 = (1 << 24) - 1;

/// Costs beyond this share one reckoning of when there is room.
const COST_BITS: u32 = 16;
const COST_MAX: u64 = (1 << COST_BITS) - 1;

/// A locked cell.
#[derive(Clone, Copy)]
pub struct Cell<'a> {
    words: &'a [AtomicU64],
    leased: bool,
}

impl<'a> Cell<'a> {
    /// A view of a cell whose segment is locked. `leased` says whether part of it holds leases
    /// (several gateways) or all of it the ring (this gateway alone).
    pub fn new(words: &'a [AtomicU64], leased: bool) -> Cell<'a> {
        debug_assert_eq!(words.len(), WORDS);
        Cell { words, leased }
    }

    pub fn get(&self, field: Field) -> u64 {
        self.words[field as usize].load(Ordering::Acquire)
    }

    pub fn set(&self, field: Field, value: u64) {
        self.words[field as usize].store(value, Ordering::Release);
    }

    /// Makes the cell a fresh one. The check comes last: until then it belongs to nobody.
    pub fn reset(&self, check: u64, now: u64) {
        for word in self.words {
            word.store(0, Ordering::Release);
        }
        self.set(Field::Touched, now);
        self.set(Field::Tail, 1);
        self.set(Field::SettledSeq, 1);
        self.set(Field::Until, u64::MAX);
        self.set(Field::Check, check);
    }

    // ---- the ring of uses ----

    fn ring(&self) -> &'a [AtomicU64] {
        let at = RING_AT + if self.leased { LEASES * LEASE_WORDS } else { 0 };
        &self.words[at..]
    }

    /// How many slots the ring holds.
    pub fn capacity(&self) -> u64 {
        self.ring().len() as u64
    }

    fn tick_ms(&self) -> u64 {
        (self.get(Field::WindowMs) >> 15).max(1)
    }

    fn entry(&self, seq: u64) -> &'a AtomicU64 {
        let ring = self.ring();
        &ring[(seq % ring.len() as u64) as usize]
    }

    fn pack(&self, slot: Slot) -> u64 {
        let tick = slot.stamp.div_ceil(self.tick_ms()) & TICK_MASK;
        (tick << UNIT_BITS) | slot.units.min(UNIT_MAX)
    }

    fn slot(&self, seq: u64, now: u64) -> Slot {
        self.scale(now).read(self.entry(seq))
    }

    fn scale(&self, now: u64) -> Scale {
        let tick_ms = self.tick_ms();
        Scale { tick_ms, now_tick: now.div_ceil(tick_ms) }
    }

    /// The slots from the oldest to the newest with their sequence numbers.
    pub fn slots(&self, now: u64) -> impl Iterator<Item = (u64, Slot)> + 'a {
        let (tail, head, ring, scale) =
            (self.get(Field::Tail), self.get(Field::Head), self.ring(), self.scale(now));
        let oldest = (tail % ring.len() as u64) as usize;
        let words = ring[oldest..].iter().chain(ring);
        (tail..=head).zip(words).map(move |(seq, word)| (seq, scale.read(word)))
    }

    /// Slots still inside the window at gateway time `now`.
    pub fn live_slots(&self, now: u64) -> impl Iterator<Item = (u64, Slot)> + 'a {
        let window = self.get(Field::WindowMs);
        self.slots(now).filter(move |(_, s)| s.units > 0 && s.stamp + window > now)
    }

    /// Notes that the key is asked for. What it used before an idle window is forgotten here and
    /// now: stamps are too short to tell it from the future for ever.
    pub fn touch(&self, now: u64, window_ms: u64) {
        let last = self.get(Field::Touched);
        self.set(Field::WindowMs, window_ms);
        if last + window_ms + self.tick_ms() + 1 < now {
            let next = self.get(Field::Head) + 1;
            self.set(Field::Tail, next);
            self.set(Field::SettledUnits, 0);
            self.set(Field::SettledSeq, next);
        }
        self.set(Field::Touched, now.max(last));
    }

    /// When the key is of no use any more: its window has passed twice, or nobody asks for it.
    pub fn done(&self) -> u64 {
        (self.get(Field::Touched) + 2 * self.get(Field::WindowMs)).min(self.get(Field::Until))
    }

    /// Units used here that are inside the window at gateway time `now`.
    pub fn used(&self, now: u64) -> u64 {
        self.live_slots(now).map(|(_, s)| s.units).sum()
    }

    /// Units used here until gateway time `until` of which every one is inside the window at `now`:
    /// what shares a slot with an older use, or may do so, is left out.
    pub fn surely_used(&self, now: u64, until: u64) -> u64 {
        let window = self.get(Field::WindowMs);
        let (mut sum, mut began) = (0, 0);
        for (seq, slot) in self.slots(now) {
            // Of the newest it is known when it began.
            began = if seq == self.get(Field::Head) { self.get(Field::SlotStart) } else { began };
            sum += if began + window > now && slot.stamp <= until { slot.units } else { 0 };
            began = slot.stamp;
        }
        sum
    }

    /// How finely uses are noted: finely at first, more coarsely the more slots wait to be
    /// published, so that the ring has room for the window before them.
    pub fn grain_ms(&self) -> u64 {
        let waiting = self.get(Field::Head).saturating_sub(self.get(Field::SettledSeq));
        let coarser = if self.leased { (waiting / 8).min(3) } else { 0 };
        (self.get(Field::WindowMs) / 1024) << coarser
    }

    /// Notes `units` used at gateway time `now`. Uses within `grain_ms` share a slot.
    pub fn note(&self, now: u64, units: u64, grain_ms: u64) {
        let (head, units) = (self.get(Field::Head), units.min(UNIT_MAX));
        // The decision is taken within the millisecond `now`: the stamp is its end.
        let stamp = if broken(Mutant::StampAtStart) { now } else { now + 1 };
        if head >= self.get(Field::Tail) && now <= self.get(Field::SlotStart) + grain_ms {
            let slot = self.slot(head, now);
            if slot.units + units <= UNIT_MAX {
                let slot = Slot { stamp: stamp.max(slot.stamp), units: slot.units + units };
                self.entry(head).store(self.pack(slot), Ordering::Release);
                return;
            }
        }
        self.make_room(now);
        self.entry(head + 1).store(self.pack(Slot { stamp, units }), Ordering::Release);
        self.set(Field::SlotStart, now);
        self.set(Field::Head, head + 1);
    }

    /// Frees one place: what has left the window goes, else the two neighbours that lie closest
    /// together become one, at the later stamp. Rounding to later costs patience, never strictness.
    fn make_room(&self, now: u64) {
        let (head, window) = (self.get(Field::Head), self.get(Field::WindowMs));
        let mut tail = self.get(Field::Tail);
        while tail <= head && self.slot(tail, now).stamp + window <= now {
            tail += 1;
        }
        self.set(Field::Tail, tail);
        if head + 1 - tail < self.capacity() {
            return;
        }
        let at = self.closest_pair(tail, head, now);
        let older_units = self.slot(at, now).units;
        let newer = self.slot(at + 1, now);
        let mut merged = Slot { units: (older_units + newer.units).min(UNIT_MAX), ..newer };
        if broken(Mutant::MergedToEarlier) {
            merged.stamp = self.slot(at, now).stamp;
        }
        // A death on the way leaves units twice, never missing.
        if !broken(Mutant::TornMerger) {
            self.entry(at + 1).store(self.pack(merged), Ordering::Release);
        }
        for seq in (tail..at).rev() {
            let older = self.entry(seq).load(Ordering::Acquire);
            self.entry(seq + 1).store(older, Ordering::Release);
        }
        self.set(Field::Tail, tail + 1);
        if broken(Mutant::TornMerger) {
            self.entry(at + 1).store(self.pack(merged), Ordering::Release);
        }
        self.shift_settled(at, older_units);
    }

    /// The entry whose merger with its successor delays units the least. Units that are not
    /// published yet keep their own stamps as long as there is another pair to merge.
    fn closest_pair(&self, tail: u64, head: u64, now: u64) -> u64 {
        let settled = self.get(Field::SettledSeq);
        let span = |seq: u64| self.slot(seq + 1, now).stamp.saturating_sub(self.slot(seq - 1, now).stamp);
        let best = |to: u64| (tail + 1..to).min_by_key(|&seq| span(seq));
        let published = if self.leased { settled.saturating_sub(1).min(head) } else { head };
        best(published).or_else(|| best(head)).unwrap_or(tail)
    }

    /// Keeps the mark of what is published true after entry `at` went into its successor.
    fn shift_settled(&self, at: u64, older_units: u64) {
        let settled = self.get(Field::SettledSeq);
        if settled <= at {
            self.set(Field::SettledSeq, settled + 1);
        } else if settled == at + 1 {
            self.set(Field::SettledUnits, self.get(Field::SettledUnits) + older_units);
        }
    }

    /// Uses that are inside the window and not yet published, oldest first.
    pub fn unsettled(&self, now: u64) -> Vec<Slot> {
        let (seq, units) = (self.get(Field::SettledSeq), self.get(Field::SettledUnits));
        self.live_slots(now)
            .filter(|&(s, _)| s >= seq)
            .map(
                |(s, slot)| {
                    if s == seq { Slot { units: slot.units.saturating_sub(units), ..slot } } else { slot }
                },
            )
            .filter(|slot| slot.units > 0)
            .collect()
    }

    /// Everything noted so far counts as published.
    pub fn mark_settled(&self, now: u64) {
        let head = self.get(Field::Head);
        let units = if head >= self.get(Field::Tail) { self.slot(head, now).units } else { 0 };
        // Whatever a death leaves of these three, too much counts as unpublished and never too little.
        self.set(Field::SettledUnits, 0);
        self.set(Field::SettledSeq, head.max(1));
        self.set(Field::SettledUnits, units);
    }

    /// Nothing counts as published any more: the server forgot.
    pub fn unsettle_all(&self) {
        // In this order a death in between publishes too much, never too little.
        self.set(Field::SettledUnits, 0);
        self.set(Field::SettledSeq, self.get(Field::Tail));
    }

    // ---- the leases ----

    pub fn lease(&self, i: usize) -> Lease {
        let at = LEASE_AT + i * LEASE_WORDS;
        let word = |k: usize| self.words[at + k].load(Ordering::Acquire);
        Lease { end: word(0), rest: word(1), used: word(2) }
    }

    pub fn set_lease(&self, i: usize, lease: Lease) {
        let at = LEASE_AT + i * LEASE_WORDS;
        // The rest goes down before anything else is said, and up only when the end is right.
        // What a former lease had used is gone before the place counts as empty.
        self.words[at + 1].store(0, Ordering::Release);
        self.words[at + 2].store(lease.used, Ordering::Release);
        self.words[at].store(lease.end, Ordering::Release);
        self.words[at + 1].store(lease.rest, Ordering::Release);
    }

    /// Units that may still be used at server time `upper`.
    pub fn usable(&self, upper: u64) -> u64 {
        if !self.leased {
            return 0;
        }
        (0..LEASES).map(|i| self.lease(i)).filter(|l| l.end >= upper).map(|l| l.rest).sum()
    }

    /// Takes up to `units` from the leases that end first; says how many were to be had.
    pub fn take(&self, upper: u64, units: u64) -> u64 {
        let mut left = units;
        while left > 0 {
            let usable =
                (0..LEASES).map(|i| (i, self.lease(i))).filter(|(_, l)| l.end >= upper && l.rest > 0);
            let Some((i, lease)) = usable.min_by_key(|(_, l)| l.end) else {
                break;
            };
            let n = left.min(lease.rest);
            self.set_lease(i, Lease { rest: lease.rest - n, used: lease.used + n, ..lease });
            left -= n;
        }
        units - left
    }

    /// Puts a lease where there is an empty place; false where there is none.
    pub fn add_lease(&self, lease: Lease) -> bool {
        let Some(i) = (0..LEASES).find(|&i| self.lease(i).end == 0) else {
            return false;
        };
        self.set_lease(i, lease);
        true
    }

    pub fn drop_leases(&self) {
        for i in 0..LEASES {
            self.set_lease(i, Lease::default());
        }
    }

    // ---- refusals ----

    /// When there will be room for a request, in gateway time, and for which cost that was reckoned.
    pub fn room(&self) -> (u64, u64) {
        let word = self.get(Field::Room);
        (word >> COST_BITS, word & COST_MAX)
    }

    pub fn set_room(&self, at: u64, cost: u64) {
        self.set(Field::Room, (at << COST_BITS) | cost.min(COST_MAX));
    }

    // ---- demand ----

    /// Units per second, forgetting with a time constant of a thirtieth of the window, but of two
    /// minutes at most: it is what sizes leases, and those last three times as long.
    pub fn demand(&self, now: u64, units: u64) -> f64 {
        let word = self.get(Field::Rate);
        let (rate, then) = (f64::from(f32::from_bits((word >> 32) as u32)), word as u32);
        let tau = (self.get(Field::WindowMs) as f64 / 30.0).clamp(1000.0, 120_000.0);
        let elapsed = (now as u32).wrapping_sub(then);
        let faded = if elapsed == 0 { rate } else { rate * (-f64::from(elapsed) / tau).exp() };
        let rate = faded + units as f64 * 1000.0 / tau;
        self.set(Field::Rate, (u64::from((rate as f32).to_bits()) << 32) | u64::from(now as u32));
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(leased: bool, window: u64, test: impl FnOnce(Cell<'_>)) {
        let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let cell = Cell::new(&words, leased);
        cell.reset(7, 0);
        cell.set(Field::WindowMs, window);
        test(cell);
    }

    #[test]
    fn a_unit_counts_for_a_window_and_hardly_longer() {
        cell(false, 60_000, |c| {
            c.note(5_000, 1, 60);
            assert_eq!(c.used(5_000), 1);
            assert_eq!(c.used(65_000), 1, "the interval [5000, 65000] is one window long");
            assert_eq!(c.used(65_001), 0);
        });
    }

    #[test]
    fn nothing_is_forgotten_when_the_ring_is_full() {
        for leased in [false, true] {
            cell(leased, 60_000, |c| {
                let mut log: Vec<u64> = Vec::new();
                let mut now = 1_000;
                for i in 0..5_000u64 {
                    now += i * 7_919 % 97;
                    c.note(now, 1, 58);
                    log.push(now);
                    let exact = log.iter().filter(|&&t| t + 60_000 >= now).count() as u64;
                    let generous = log.iter().filter(|&&t| t + 64_000 >= now).count() as u64;
                    let used = c.used(now);
                    assert!(used >= exact, "{used} < {exact} at {now}");
                    assert!(used <= generous, "{used} > {generous} at {now}");
                }
            });
        }
    }

    #[test]
    fn an_old_use_is_not_taken_for_one_to_come() {
        for idle in [61_100, 5_000_000, 9_000_000, 16_700_000, 20_000_000, 90_000_000] {
            cell(false, 60_000, |c| {
                c.note(5_000, 7, 58);
                c.set(Field::Touched, 5_000);
                c.touch(5_000 + idle, 60_000);
                assert_eq!(c.used(5_000 + idle), 0, "idle for {idle} ms");
                c.note(5_000 + idle, 1, 58);
                assert_eq!(c.used(5_000 + idle), 1);
            });
        }
    }

    #[test]
    fn a_burst_keeps_its_own_stamps() {
        cell(false, 60_000, |c| {
            for i in 0..80u64 {
                c.note(100_000 + i * 12, 1, 58);
            }
            // Half a second into the next burst, a minute later, half of the first has left.
            assert!(c.used(160_500) <= 44, "{}", c.used(160_500));
        });
    }

    #[test]
    fn what_was_published_is_not_published_again() {
        cell(true, 60_000, |c| {
            c.note(1_000, 3, 58);
            assert_eq!(c.unsettled(1_000), vec![Slot { stamp: 1_001, units: 3 }]);
            c.mark_settled(1_000);
            assert!(c.unsettled(1_000).is_empty());
            c.note(1_010, 2, 58);
            assert_eq!(c.unsettled(1_010), vec![Slot { stamp: 1_011, units: 2 }]);
            c.unsettle_all();
            assert_eq!(c.unsettled(1_010).iter().map(|s| s.units).sum::<u64>(), 5);
        });
    }

    #[test]
    fn published_and_unpublished_units_survive_mergers() {
        cell(true, 60_000, |c| {
            let (mut published, mut noted) = (0, 0);
            for i in 0..2_000u64 {
                let now = 1_000 + i * 61;
                c.note(now, 2, 58);
                noted += 2;
                if i % 20 == 19 {
                    published += c.unsettled(now).iter().map(|s| s.units).sum::<u64>();
                    c.mark_settled(now);
                }
            }
            assert_eq!(published, noted);
        });
    }

    #[test]
    fn leases_are_taken_from_the_one_that_ends_first() {
        cell(true, 60_000, |c| {
            assert!(c.add_lease(Lease { end: 500, rest: 5, used: 0 }));
            assert!(c.add_lease(Lease { end: 400, rest: 3, used: 0 }));
            assert_eq!(c.usable(400), 8);
            assert_eq!(c.usable(401), 5);
            assert_eq!(c.take(400, 4), 4);
            assert_eq!(c.lease(1), Lease { end: 400, rest: 0, used: 3 });
            assert_eq!(c.lease(0), Lease { end: 500, rest: 4, used: 1 });
            assert_eq!(c.take(450, 9), 4);
        });
    }

    #[test]
    fn a_fifth_lease_finds_no_place() {
        cell(true, 1_000, |c| {
            for end in 1..=LEASES as u64 {
                assert!(c.add_lease(Lease { end, rest: 1, used: 0 }));
            }
            assert!(!c.add_lease(Lease { end: 9, rest: 1, used: 0 }));
        });
    }
}
