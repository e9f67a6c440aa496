//! One key's cell in shared memory: what was used here, and what is on lease.
//!
//! A cell is 58 words. Every change is made under the lock of the cell's segment and in an order in
//! which a death between two stores leaves more counted, never less.

use std::sync::atomic::Ordering;

use crate::trial::AtomicU64;

mod ring;

pub use ring::Slot;

/// Words of a cell. With its tag in the index a key takes 472 bytes, and with its share of all else that
/// the zone holds no more than 512.
pub const WORDS: usize = 58;

/// Leases that a key can hold at a time; another one is handed back.
pub const LEASES: usize = 4;

const FIELDS: usize = 14;
const LEASE_AT: usize = FIELDS;
const RING_AT: usize = FIELDS;
const LEASE_WORDS: usize = 3;

/// What a cell keeps besides leases and uses. Each is a word or a part of one, so that every change is
/// one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Part of the client's hash, beside that of the key in the index.
    Check,
    WindowMs,
    /// The limit's amount as last seen.
    Amount,
    /// Gateway time of the last use, question or grant: no later decision is of an earlier moment.
    Touched,
    /// Which entries of the ring are kept, see [`Cell::span`].
    Span,
    /// Gateway time at which the newest entry began.
    SlotStart,
    /// How much has been published, see [`Cell::published`].
    Settled,
    /// Server life that the leases and the published units belong to.
    Life,
    /// Grows whenever the amount is lowered: an answer to who asked before grants nothing, also where
    /// the amount had been raised in between. Another one in every cell that a key gets.
    Lowered,
    /// Until this gateway time requests are refused without asking.
    RefuseUntil,
    /// Gateway time at which enough units will have left the window for a request of some cost: see
    /// [`Cell::room`]; 0 where the last answer showed that there is room.
    Room,
    /// Units that nobody held at the last answer.
    Free,
    /// Gateway time until which an acquisition counts as under way.
    InFlightUntil,
    /// Demand: units per second (f32) and gateway time of its last update (low 32 bits).
    Rate,
    /// Gateway time at which the oldest unit counted anywhere leaves the window.
    ResetAt,
    /// Gateway time after which nobody asks for the key: see [`crate::Ask::until`].
    Until,
}

impl Field {
    /// The word that it lies in, from which bit on, and how many bits it has.
    const fn place(self) -> (usize, u32, u32) {
        match self {
            Field::Check => (0, 0, CHECK_BITS),
            Field::WindowMs => (0, CHECK_BITS, 64 - CHECK_BITS),
            Field::Lowered => (1, 0, 24),
            Field::Life => (1, 24, 40),
            Field::Amount => (2, 0, 64),
            Field::Touched => (3, 0, 64),
            Field::Span => (4, 0, 64),
            Field::SlotStart => (5, 0, 64),
            Field::Settled => (6, 0, 64),
            Field::RefuseUntil => (7, 0, 64),
            Field::Room => (8, 0, 64),
            Field::Free => (9, 0, 64),
            Field::InFlightUntil => (10, 0, 64),
            Field::Rate => (11, 0, 64),
            Field::ResetAt => (12, 0, 64),
            Field::Until => (13, 0, 64),
        }
    }
}

/// Bits of the client's hash that a cell keeps: with the key's, enough to tell all keys apart.
pub const CHECK_BITS: u32 = 24;

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

    #[inline]
    pub fn get(&self, field: Field) -> u64 {
        let (word, shift, bits) = field.place();
        (self.words[word].load(Ordering::Acquire) >> shift) & (u64::MAX >> (64 - bits))
    }

    #[inline]
    pub fn set(&self, field: Field, value: u64) {
        let (word, shift, bits) = field.place();
        let mask = (u64::MAX >> (64 - bits)) << shift;
        let others = if bits == 64 { 0 } else { self.words[word].load(Ordering::Acquire) & !mask };
        self.words[word].store(others | ((value << shift) & mask), Ordering::Release);
    }

    /// Makes the cell a fresh one. The check comes last: until then it belongs to nobody.
    pub fn reset(&self, check: u64, now: u64) {
        for word in self.words {
            word.store(0, Ordering::Release);
        }
        self.set(Field::Touched, now);
        self.set_span(1, 0);
        self.set_published((1, 0));
        self.set(Field::Until, u64::MAX);
        self.set(Field::Lowered, now);
        self.set(Field::Check, check);
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
mod tests;
