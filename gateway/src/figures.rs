//! Who sends how much: figures of tiers, clients and unknown callers, counted over all workers in
//! shared memory. They are for looking at the traffic of this moment, in bounded memory; what is
//! billed comes from the records.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};
use weir_metering::Decision;
use weir_policy::{MAX_NAME_BYTES, Tables};

/// The words that a name takes.
const NAME: usize = MAX_NAME_BYTES / 8;
/// Slots that a name may lie in.
const WAYS: usize = 8;
/// A client that was not seen for so long makes room for another.
const IDLE_S: u64 = 900;
/// In place of a hash while a slot is being written.
const BUSY: u64 = 1;
/// At most this many tiers, and this many unknown callers, are told apart.
const MOST: usize = 64;

/// Room for one name. Zero in every word is a free one.
#[repr(C)]
struct Slot {
    hash: AtomicU64,
    seen_s: AtomicU64,
    len: AtomicU64,
    name: [AtomicU64; NAME],
    decisions: [AtomicU64; Decision::ALL.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// All figures of a gateway.
#[derive(Clone, Copy)]
pub struct Figures {
    tiers: &'static [Slot],
    unknown: &'static [Slot],
    clients: &'static [Slot],
}

/// Where somebody's figures were found last.
#[derive(Debug)]
pub(crate) struct Seat {
    hash: u64,
    at: Cell<usize>,
}

impl Seat {
    pub fn of(name: &str) -> Seat {
        Seat { hash: hash_of(name.as_bytes()), at: Cell::new(0) }
    }
}

/// One request, as far as figures go.
#[derive(Clone, Copy)]
pub(crate) struct Use {
    pub decision: Decision,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub now_s: u64,
}

/// What is known of one name.
pub(crate) struct Figure {
    pub name: String,
    pub decisions: [u64; Decision::ALL.len()],
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Figures {
    /// The figures in memory that holds zeroes, or what other workers count there. The more of it,
    /// the more clients are told apart; none is as good as any.
    ///
    /// # Safety
    /// `memory` is aligned to 8, valid for `len` bytes until the process ends, and used for nothing
    /// else.
    pub unsafe fn at(memory: *mut u8, len: usize) -> Figures {
        let slots = len / size_of::<Slot>();
        // SAFETY: the caller vouches for the memory; any bits are valid slots.
        let all: &'static [Slot] = unsafe { std::slice::from_raw_parts(memory.cast(), slots) };
        let few = (slots / 4).min(MOST);
        let (tiers, rest) = all.split_at(few);
        let (unknown, clients) = rest.split_at(few);
        Figures { tiers, unknown, clients }
    }

    pub(crate) fn tier(&self, seat: &Seat, name: &str, of: Use) {
        if let Some(slot) = seated(self.tiers, seat, name, of.now_s) {
            slot.decisions[of.decision as usize].fetch_add(1, Ordering::Relaxed);
            slot.seen_s.store(of.now_s, Ordering::Relaxed);
        }
    }

    pub(crate) fn client(&self, seat: &Seat, name: &str, of: Use) {
        if let Some(slot) = seated(self.clients, seat, name, of.now_s) {
            slot.count(of);
        }
    }

    /// Somebody whom the policy does not know. Those that come most often stay, whatever number of
    /// others come once: one that finds no room takes one request off the figure of another.
    pub(crate) fn unknown(&self, name: &str, of: Use) {
        let hash = hash_of(name.as_bytes());
        if let Some(slot) = find(self.unknown, hash) {
            return slot.count(of);
        }
        let lightest = ways(self.unknown, hash).min_by_key(|slot| slot.requests());
        let Some(slot) = lightest else { return };
        if slot.requests() <= 1 {
            slot.take(hash, name);
            slot.count(of);
        } else {
            let common = slot.decisions.iter().max_by_key(|count| count.load(Ordering::Relaxed));
            if let Some(count) = common {
                count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn tiers(&self) -> Vec<Figure> {
        told(self.tiers)
    }

    /// The heaviest first.
    pub(crate) fn clients(&self) -> Vec<Figure> {
        told(self.clients)
    }

    /// The heaviest first.
    pub(crate) fn unknown_callers(&self) -> Vec<Figure> {
        told(self.unknown)
    }
}

impl Figure {
    pub fn requests(&self) -> u64 {
        self.decisions.iter().sum()
    }

    pub fn refused(&self) -> u64 {
        let refused = Decision::ALL.iter().zip(self.decisions).filter(|(decision, _)| decision.is_refusal());
        refused.map(|(_, count)| count).sum()
    }

    /// As `weir_metrics` tells it, with the tier that the policy gives to a client.
    pub fn to_json(&self, book: &Tables) -> Value {
        let tier = book.client_tier(&self.name);
        let counts = Decision::ALL.iter().zip(self.decisions).filter(|(_, count)| *count > 0);
        let decisions: Map<String, Value> =
            counts.map(|(decision, count)| (decision.word().to_owned(), count.into())).collect();
        json!({
            "name": self.name,
            "tier": tier,
            "requests": self.requests(),
            "refused": self.refused(),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "decisions": decisions,
        })
    }
}

impl Slot {
    fn requests(&self) -> u64 {
        self.decisions.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn count(&self, of: Use) {
        self.decisions[of.decision as usize].fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(of.bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(of.bytes_out, Ordering::Relaxed);
        self.seen_s.store(of.now_s, Ordering::Relaxed);
    }

    /// Makes the slot another name's. Who loses the race for it goes uncounted this once.
    fn take(&self, hash: u64, name: &str) {
        let before = self.hash.load(Ordering::Relaxed);
        let free = before != BUSY
            && self.hash.compare_exchange(before, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !free {
            return;
        }
        let counts = self.decisions.iter().chain([&self.bytes_in, &self.bytes_out]);
        counts.for_each(|count| count.store(0, Ordering::Relaxed));
        let text = name.as_bytes().get(..name.len().min(MAX_NAME_BYTES)).unwrap_or_default();
        self.len.store(text.len() as u64, Ordering::Relaxed);
        for (word, bytes) in self.name.iter().zip(text.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        self.hash.store(hash, Ordering::Release);
    }

    /// What is in it, unless it is free or changes hands at this moment.
    fn told(&self) -> Option<Figure> {
        let hash = self.hash.load(Ordering::Acquire);
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let name: Vec<u8> = self.name.iter().flat_map(|word| load(word).to_le_bytes()).collect();
        let name = name.get(..usize::try_from(load(&self.len)).ok()?)?;
        let figure = Figure {
            name: String::from_utf8_lossy(name).into_owned(),
            decisions: std::array::from_fn(|at| load(&self.decisions[at])),
            bytes_in: load(&self.bytes_in),
            bytes_out: load(&self.bytes_out),
        };
        let same = self.hash.load(Ordering::Acquire) == hash;
        (same && hash > BUSY).then_some(figure)
    }
}

fn hash_of(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    // Neither free nor busy.
    hasher.finish().max(BUSY + 1)
}

fn ways(slots: &'static [Slot], hash: u64) -> impl Iterator<Item = &'static Slot> {
    let first = (hash as usize).checked_rem(slots.len()).unwrap_or(0);
    (0..WAYS.min(slots.len())).map(move |way| &slots[(first + way) % slots.len()])
}

fn find(slots: &'static [Slot], hash: u64) -> Option<&'static Slot> {
    ways(slots, hash).find(|slot| slot.hash.load(Ordering::Acquire) == hash)
}

/// The slot of a name that comes again and again, made if there is room.
fn seated(slots: &'static [Slot], seat: &Seat, name: &str, now_s: u64) -> Option<&'static Slot> {
    let last = slots.get(seat.at.get()).filter(|slot| slot.hash.load(Ordering::Relaxed) == seat.hash);
    if last.is_some() {
        return last;
    }
    let slot = find(slots, seat.hash).or_else(|| {
        let idlest = ways(slots, seat.hash).min_by_key(|slot| slot.seen_s.load(Ordering::Relaxed))?;
        let seen_s = idlest.seen_s.load(Ordering::Relaxed);
        (seen_s.saturating_add(IDLE_S) < now_s).then(|| idlest.take(seat.hash, name));
        find(slots, seat.hash)
    })?;
    let first = slots.as_ptr() as usize;
    seat.at.set((std::ptr::from_ref(slot) as usize - first) / size_of::<Slot>());
    Some(slot)
}

fn told(slots: &[Slot]) -> Vec<Figure> {
    let mut figures: Vec<Figure> = slots.iter().filter_map(Slot::told).collect();
    figures.sort_by(|a, b| b.requests().cmp(&a.requests()).then_with(|| a.name.cmp(&b.name)));
    figures
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Figures of their own, for the life of the test.
    pub(crate) fn room(slots: usize) -> Figures {
        let words: &'static mut [u64] = vec![0; slots * size_of::<Slot>() / 8].leak();
        // SAFETY: the memory is aligned to 8, leaked, and used for nothing else.
        unsafe { Figures::at(words.as_mut_ptr().cast(), size_of_val(words)) }
    }

    fn at(now_s: u64) -> Use {
        Use { decision: Decision::Passed, bytes_in: 1, bytes_out: 2, now_s }
    }

    #[test]
    fn clients_are_told_apart_and_the_heaviest_comes_first() {
        let figures = room(64);
        let (acme, other) = (Seat::of("acme"), Seat::of("other"));
        figures.client(&other, "other", at(1_000));
        figures.client(&acme, "acme", at(1_000));
        figures.client(&acme, "acme", Use { decision: Decision::Rejected, ..at(1_000) });
        // Another worker has a seat of its own.
        figures.client(&Seat::of("acme"), "acme", at(1_000));
        let told = figures.clients();
        assert_eq!((told[0].name.as_str(), told[0].requests(), told[0].refused()), ("acme", 3, 1));
        assert_eq!((told[0].bytes_in, told[0].bytes_out), (3, 6));
        assert_eq!((told[1].name.as_str(), told[1].requests()), ("other", 1));
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn a_full_room_keeps_who_is_there_until_they_are_idle() {
        let figures = room(64);
        for n in 0..500 {
            let name = format!("client-{n}");
            figures.client(&Seat::of(&name), &name, at(10_000));
        }
        let before: Vec<String> = figures.clients().into_iter().map(|figure| figure.name).collect();
        assert!((20..=32).contains(&before.len()), "{}", before.len());
        let late = Seat::of("late");
        figures.client(&late, "late", at(10_000 + IDLE_S));
        figures.client(&late, "late", at(10_001 + IDLE_S));
        assert!(figures.clients().iter().any(|figure| figure.name == "late"));
    }

    #[test]
    fn a_flood_of_callers_that_come_once_hides_nobody_that_comes_often() {
        let figures = room(64);
        for n in 0..10_000 {
            figures.unknown(&format!("once-{n}"), at(1));
            if n % 4 == 0 {
                figures.unknown("often", at(1));
            }
        }
        let first = &figures.unknown_callers()[0];
        assert_eq!(first.name, "often");
        assert!(first.requests() > 1_000 && first.requests() <= 2_500, "{}", first.requests());
    }

    #[test]
    fn no_room_is_as_good_as_any() {
        let figures = room(0);
        figures.client(&Seat::of("acme"), "acme", at(1));
        figures.unknown("somebody", at(1));
        figures.tier(&Seat::of("basic"), "basic", at(1));
        assert!(figures.clients().is_empty() && figures.unknown_callers().is_empty());
    }
}
