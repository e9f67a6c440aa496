//! The ring of uses: what was used here and when, oldest first.

use std::sync::atomic::Ordering;

use super::{Cell, Field, LEASE_WORDS, LEASES, RING_AT};
use crate::trial::{AtomicU64, Mutant, broken};

/// Stamps are stored in 24 bits, in steps of 1/32768 of the window, and units in 40.
const UNIT_BITS: u32 = 40;
const UNIT_MAX: u64 = (1 << UNIT_BITS) - 1;
const TICK_MASK: u64 = (1 << 24) - 1;

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

impl<'a> Cell<'a> {
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
        let ((tail, head), ring, scale) = (self.span(), self.ring(), self.scale(now));
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
            let head = self.span().1;
            self.set_published((head + 1, 0));
            self.set_span(head + 1, head);
        }
        self.set(Field::Touched, now.max(last));
    }

    /// When the key is of no use any more: its window has passed twice, or nobody asks for it.
    pub fn done(&self) -> u64 {
        (self.get(Field::Touched) + 2 * self.get(Field::WindowMs)).min(self.get(Field::Until))
    }

    /// Units used here of which nobody else knows: what goes beyond the leases, which stand for theirs
    /// at the server until they are published.
    pub fn untold(&self, now: u64) -> u64 {
        let leases = if self.leased { LEASES } else { 0 };
        let leased: u64 = (0..leases).map(|i| self.lease(i).used).sum();
        self.unsettled(now).iter().map(|slot| slot.units).sum::<u64>().saturating_sub(leased)
    }

    /// Units used here that are inside the window at gateway time `now`.
    pub fn used(&self, now: u64) -> u64 {
        self.live_slots(now).map(|(_, s)| s.units).sum()
    }

    /// The sequence numbers of the oldest and the newest entry, counted from 1; the newest comes before
    /// the oldest where there is none.
    pub fn span(&self) -> (u64, u64) {
        let word = self.get(Field::Span);
        let (head, entries) = (word >> 8, word & 0xff);
        ((head + 1).saturating_sub(entries), head)
    }

    pub(super) fn set_span(&self, tail: u64, head: u64) {
        self.set(Field::Span, (head << 8) | (head + 1 - tail));
    }

    /// How much has been published: everything before an entry, and so many units of it. The entry is
    /// one that is kept, or the next.
    pub fn published(&self) -> (u64, u64) {
        let (word, (tail, head)) = (self.get(Field::Settled), self.span());
        let seq = tail + ((word >> UNIT_BITS).wrapping_sub(tail) & TICK_MASK);
        if seq <= head + 1 { (seq, word & UNIT_MAX) } else { (tail, 0) }
    }

    pub(super) fn set_published(&self, (seq, units): (u64, u64)) {
        self.set(Field::Settled, (seq << UNIT_BITS) | units.min(UNIT_MAX));
    }

    /// Units of what was once [`Cell::published`] of which every one is inside the window at `now`:
    /// what shares a slot with an older use, or may do so, is left out.
    pub fn surely_used(&self, now: u64, published: (u64, u64)) -> u64 {
        let window = self.get(Field::WindowMs);
        let (mut sum, mut began, head) = (0, 0, self.span().1);
        for (seq, slot) in self.slots(now) {
            // Of the newest it is known when it began.
            began = if seq == head { self.get(Field::SlotStart) } else { began };
            let units = match seq.cmp(&published.0) {
                std::cmp::Ordering::Less => slot.units,
                std::cmp::Ordering::Equal => slot.units.min(published.1),
                std::cmp::Ordering::Greater => 0,
            };
            sum += if began + window > now { units } else { 0 };
            began = slot.stamp;
        }
        sum
    }

    /// How finely uses are noted: finely at first, more coarsely the more slots wait to be
    /// published, so that the ring has room for the window before them.
    pub fn grain_ms(&self) -> u64 {
        let waiting = self.span().1.saturating_sub(self.published().0);
        let coarser = if self.leased { (waiting / 8).min(3) } else { 0 };
        (self.get(Field::WindowMs) / 1024) << coarser
    }

    /// Notes `units` used at gateway time `now`. Uses within `grain_ms` share a slot.
    pub fn note(&self, now: u64, units: u64, grain_ms: u64) {
        let ((tail, head), units) = (self.span(), units.min(UNIT_MAX));
        // The decision is taken within the millisecond `now`: the stamp is its end.
        let stamp = if broken(Mutant::StampAtStart) { now } else { now + 1 };
        if head >= tail && now <= self.get(Field::SlotStart) + grain_ms {
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
        self.set_span(self.span().0, head + 1);
    }

    /// Frees one place: what has left the window goes, else the two neighbours that lie closest
    /// together become one, at the later stamp. Rounding to later costs patience, never strictness.
    fn make_room(&self, now: u64) {
        let ((mut tail, head), window) = (self.span(), self.get(Field::WindowMs));
        while tail <= head && self.slot(tail, now).stamp + window <= now {
            tail += 1;
        }
        // What has left the window is not to be published any more.
        if self.published().0 < tail {
            self.set_published((tail, 0));
        }
        self.set_span(tail, head);
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
        self.shift_settled(at, older_units);
        self.set_span(tail + 1, head);
        if broken(Mutant::TornMerger) {
            self.entry(at + 1).store(self.pack(merged), Ordering::Release);
        }
    }

    /// The entry whose merger with its successor delays units the least. Units that are not
    /// published yet keep their own stamps as long as there is another pair to merge.
    fn closest_pair(&self, tail: u64, head: u64, now: u64) -> u64 {
        let settled = self.published().0;
        let span = |seq: u64| self.slot(seq + 1, now).stamp.saturating_sub(self.slot(seq - 1, now).stamp);
        let best = |to: u64| (tail + 1..to).min_by_key(|&seq| span(seq));
        let published = if self.leased { settled.saturating_sub(1).min(head) } else { head };
        best(published).or_else(|| best(head)).unwrap_or(tail)
    }

    /// Keeps the mark of what is published true after entry `at` went into its successor.
    fn shift_settled(&self, at: u64, older_units: u64) {
        let (seq, units) = self.published();
        if seq <= at {
            self.set_published((seq + 1, units));
        } else if seq == at + 1 {
            self.set_published((seq, units + older_units));
        }
    }

    /// Uses that are inside the window and not yet published, oldest first.
    pub fn unsettled(&self, now: u64) -> Vec<Slot> {
        let (seq, units) = self.published();
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
        let (tail, head) = self.span();
        self.set_published(if head >= tail { (head, self.slot(head, now).units) } else { (tail, 0) });
    }

    /// Nothing counts as published any more: the server forgot.
    pub fn unsettle_all(&self) {
        self.set_published((self.span().0, 0));
    }
}
