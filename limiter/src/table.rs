//! The table of cells that lies in shared memory.
//!
//! ```text
//! header (16 words) | lives of servers | locks (8 words each) | tags (1 word each) | cells (58 words each)
//! ```
//! Everything is a word that is valid at every instruction; nothing is a pointer, so the region may
//! lie at another address in every process. Cells are grouped in segments, all cells of one client
//! in one; a segment has a lock that carries its owner, and who finds the owner dead takes it over.

use std::sync::atomic::{Ordering, fence};

use crate::cell::{self, Cell, Field};
use crate::lives::{self, Lives};
use crate::trial::{self, AtomicU64, Mutant};
use crate::wire::{Counter, Hashes};

const MAGIC: u64 = u64::from_le_bytes(*b"weirzone");
/// Changes with every change of the layout: a zone of another layout is not reused.
const VERSION: u64 = 5;

const LIVES: usize = 16;
const HEADER: usize = LIVES + lives::WORDS;
const LOCK: usize = 8;
const CELL: usize = cell::WORDS + 1;
/// Cells looked at for a key before an old one has to go.
const PROBES: usize = 32;
/// Tries for a lock before its owner is looked at, some 50 us; then the processor is offered to the
/// owner. Few times: on a busy machine each offer may cost the time slice of somebody else.
const SPINS: u32 = if cfg!(feature = "trial") { 1 } else { 1000 };
const YIELDS: u32 = if cfg!(feature = "trial") { 1 } else { 4 };
/// A request has at most this many limits, so its locks fit on the stack.
pub const MAX_ASKS: usize = 16;
const _: () = assert!(MAX_ASKS < PROBES, "keys of one request make room for none of them");

#[derive(Clone, Copy)]
#[repr(usize)]
enum Head {
    Magic = 0,
    Version = 1,
    Words = 2,
    Seed0 = 3,
    Seed1 = 4,
    Segments = 5,
    PerSegment = 6,
    Repaired = 7,
    Evicted = 8,
    Keys = 9,
    Forgotten = 10,
}

/// Why a region can't be a table.
#[derive(Debug, PartialEq, Eq)]
pub enum TableError {
    /// `needed` bytes would hold the smallest table.
    TooSmall { needed: usize },
    /// The region holds something else, or a table of another version or size.
    Foreign,
}

impl std::fmt::Display for TableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TableError::TooSmall { needed } => {
                write!(f, "the zone is too small, give it at least {} KiB", needed.div_ceil(1024))
            }
            TableError::Foreign => f.write_str("the zone was laid out by another version of weir"),
        }
    }
}

impl std::error::Error for TableError {}

/// Why no answer could be had from shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// A lock is held by a process that lives but does not run.
    Locked,
    /// More limits than [`MAX_ASKS`] apply to one request.
    TooMany,
}

/// A handle on the shared table. Copies refer to the same table.
#[derive(Clone, Copy)]
pub struct Table {
    words: &'static [AtomicU64],
    segments: usize,
    per_segment: usize,
}

/// Where a key lives, and who it is: a hash of its name and one of its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    segment: usize,
    tag: u64,
    check: u64,
}

impl std::hash::Hash for Place {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.tag);
    }
}

/// For maps of places: a place is a keyed hash already.
#[derive(Default)]
pub struct Hashed(u64);

impl std::hash::Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a place is one word");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Table {
    /// Formats a region. `seed` keys the hashes and must be unpredictable to clients.
    ///
    /// # Safety
    /// `memory` is valid for reads and writes of `len` bytes and aligned to 8 for as long as any
    /// copy of the table is used (in nginx: until the process ends), and nobody else uses the region.
    ///
    /// # Errors
    /// [`TableError::TooSmall`].
    pub unsafe fn create(memory: *mut u8, len: usize, seed: [u64; 2]) -> Result<Table, TableError> {
        let (segments, per_segment) = Table::geometry(len / 8)?;
        // SAFETY: the caller vouches for the region; AtomicU64 has the layout of u64.
        let words = unsafe { std::slice::from_raw_parts(memory as *const AtomicU64, len / 8) };
        for word in words {
            word.store(0, Ordering::Relaxed);
        }
        let table = Table { words, segments, per_segment };
        table.set(Head::Words, words.len() as u64);
        table.set(Head::Seed0, seed[0]);
        table.set(Head::Seed1, seed[1]);
        table.set(Head::Segments, segments as u64);
        table.set(Head::PerSegment, per_segment as u64);
        table.set(Head::Version, VERSION);
        table.set(Head::Magic, MAGIC);
        Ok(table)
    }

    /// Takes over a region that [`Table::create`] formatted, in this process or another.
    ///
    /// # Safety
    /// As for [`Table::create`], and all who use the region use it through a `Table`.
    ///
    /// # Errors
    /// [`TableError::TooSmall`] or [`TableError::Foreign`]; the region is left as it is.
    pub unsafe fn attach(memory: *mut u8, len: usize) -> Result<Table, TableError> {
        let (segments, per_segment) = Table::geometry(len / 8)?;
        // SAFETY: as above.
        let words = unsafe { std::slice::from_raw_parts(memory as *const AtomicU64, len / 8) };
        let table = Table { words, segments, per_segment };
        let same = table.head(Head::Magic) == MAGIC
            && table.head(Head::Version) == VERSION
            && table.head(Head::Words) == words.len() as u64
            && table.head(Head::Segments) == segments as u64
            && table.head(Head::PerSegment) == per_segment as u64;
        if same { Ok(table) } else { Err(TableError::Foreign) }
    }

    /// Bytes that a table of at least `keys` keys takes.
    pub fn bytes_for(keys: usize) -> usize {
        let keys = keys.max(PROBES);
        let segments = (keys / 64).clamp(1, 256);
        8 * (HEADER + segments * LOCK + (keys + segments) * CELL)
    }

    fn geometry(words: usize) -> Result<(usize, usize), TableError> {
        let smallest = HEADER + LOCK + PROBES * CELL;
        if words < smallest {
            return Err(TableError::TooSmall { needed: smallest * 8 });
        }
        let segments = ((words - HEADER) / CELL / 64).clamp(1, 256);
        Ok((segments, (words - HEADER - segments * LOCK) / CELL / segments))
    }

    fn head(&self, field: Head) -> u64 {
        self.words[field as usize].load(Ordering::Acquire)
    }

    fn set(&self, field: Head, value: u64) {
        self.words[field as usize].store(value, Ordering::Release);
    }

    fn count(&self, field: Head) {
        self.words[field as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Keys that have a cell.
    pub fn keys(&self) -> u64 {
        self.head(Head::Keys)
    }

    /// Keys that could have one.
    pub fn capacity(&self) -> u64 {
        (self.segments * self.per_segment) as u64
    }

    /// Locks taken over from a dead owner.
    pub fn repaired(&self) -> u64 {
        self.head(Head::Repaired)
    }

    /// Cells that were still in use when they had to make room.
    pub fn evicted(&self) -> u64 {
        self.head(Head::Evicted)
    }

    /// Those among them that held units of which nobody else knew: windows of their keys may exceed
    /// the limit by these.
    pub fn forgotten(&self) -> u64 {
        self.head(Head::Forgotten)
    }

    // ---- the servers ----

    pub(crate) fn lives(&self) -> Lives {
        Lives::new(&self.words[LIVES..LIVES + lives::WORDS])
    }

    /// Runs `change` with the lives locked; `None` where somebody who does not run holds the lock.
    pub(crate) fn change_lives<T>(
        &self,
        me: u64,
        alive: fn(u64) -> bool,
        change: impl FnOnce(Lives) -> T,
    ) -> Option<T> {
        let lives = self.lives();
        self.lock_word(lives.lock_word(), me, alive).then(|| {
            let changed = change(lives);
            lives.lock_word().store(0, Ordering::Release);
            changed
        })
    }

    // ---- places and locks ----

    /// Where a counter's cell lives. Keyed, so that clients can't choose names that collide.
    pub(crate) fn place(&self, counter: &Counter) -> Place {
        // Together 88 bits: two keys that share both hashes are not to be met.
        let seed = [self.head(Head::Seed0), self.head(Head::Seed1)];
        let hashes = counter.hashes(seed, |counter| Hashes {
            seed,
            tag: hash(seed[0], counter.tag()).max(1),
            name: hash(seed[1], &counter.name).max(1),
        });
        let check = (hashes.tag >> (64 - cell::CHECK_BITS)).max(1);
        Place { segment: hashes.tag as usize % self.segments, tag: hashes.name, check }
    }

    fn segment_lock(&self, segment: usize) -> &'static AtomicU64 {
        &self.words[HEADER + segment * LOCK]
    }

    /// Locks the segments of all `places`, lowest first, or none.
    pub(crate) fn lock(&self, places: &[Place], me: u64, alive: fn(u64) -> bool) -> Result<Guard, Busy> {
        if places.len() > MAX_ASKS {
            return Err(Busy::TooMany);
        }
        let mut guard = Guard { table: *self, segments: [0; MAX_ASKS], n: 0 };
        let first = places.first().map_or(0, |place| place.segment);
        // All limits of one client lie in one segment; only those over all clients lie elsewhere.
        if places.iter().all(|place| place.segment == first) {
            return if places.is_empty() || guard.take(first, me, alive) {
                Ok(guard)
            } else {
                Err(Busy::Locked)
            };
        }
        let mut wanted = [usize::MAX; MAX_ASKS];
        for (slot, place) in wanted.iter_mut().zip(places) {
            *slot = place.segment;
        }
        wanted.sort_unstable();
        for (i, &segment) in wanted.iter().enumerate().take_while(|(_, s)| **s != usize::MAX) {
            if i > 0 && wanted[i - 1] == segment {
                continue;
            }
            if !guard.take(segment, me, alive) {
                return Err(Busy::Locked);
            }
        }
        Ok(guard)
    }

    fn lock_word(&self, word: &AtomicU64, me: u64, alive: fn(u64) -> bool) -> bool {
        for round in 0..SPINS + YIELDS {
            if word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return true;
            }
            if round < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let owner = word.load(Ordering::Relaxed);
        // A lock of a former owner with my name is one, too: a process does not hold a lock twice.
        let orphaned = owner == me || (owner != 0 && (!alive(owner) || trial::broken(Mutant::LockStolen)));
        let taken =
            orphaned && word.compare_exchange(owner, me, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.count(Head::Repaired);
        }
        taken
    }

    // ---- cells ----

    fn tag_word(&self, index: usize) -> &'static AtomicU64 {
        &self.words[HEADER + self.segments * LOCK + index]
    }

    fn cell_at(&self, index: usize, leased: bool) -> Cell<'static> {
        let at = HEADER + self.segments * LOCK + self.segments * self.per_segment + index * cell::WORDS;
        Cell::new(&self.words[at..at + cell::WORDS], leased)
    }

    /// The indices at which a key may live, in the order in which they are tried.
    fn probes(&self, place: Place) -> impl Iterator<Item = usize> + '_ {
        let first = place.segment * self.per_segment;
        let start = (place.tag as usize) % self.per_segment;
        let to_end = (start..self.per_segment).chain(0..start);
        to_end.take(PROBES).map(move |i| first + i)
    }
}

fn hash(seed: u64, text: &str) -> u64 {
    use std::hash::Hasher;
    // SipHash-1-3 with the secret as prefix: std offers no keyed constructor that isn't random.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Holds the locks of the segments of one request.
pub(crate) struct Guard {
    table: Table,
    /// Small numbers, so that a guard is not much to move.
    segments: [u16; MAX_ASKS],
    n: usize,
}

impl Guard {
    fn take(&mut self, segment: usize, me: u64, alive: fn(u64) -> bool) -> bool {
        let taken = self.table.lock_word(self.table.segment_lock(segment), me, alive);
        if taken {
            self.segments[self.n] = segment as u16;
            self.n += 1;
        }
        taken
    }

    /// The cell of a key, if it has one. Its segment must be among those that are locked.
    pub(crate) fn find(&self, place: Place, leased: bool) -> Option<Cell<'static>> {
        debug_assert!(self.segments[..self.n].contains(&(place.segment as u16)));
        for index in self.table.probes(place) {
            match self.table.tag_word(index).load(Ordering::Relaxed) {
                0 => return None,
                tag if tag == place.tag => {
                    let cell = self.table.cell_at(index, leased);
                    if cell.get(Field::Check) == place.check {
                        return Some(cell);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The cell of a key, made if need be in an empty place or in that of another key: a full table
    /// never refuses a client. Those of `request` stay, all keys of one request that there are.
    pub(crate) fn find_or_make(
        &self,
        place: Place,
        request: &[Place],
        leased: bool,
        now: u64,
    ) -> Cell<'static> {
        if let Some(cell) = self.find(place, leased) {
            return cell;
        }
        let index = self.empty(place).unwrap_or_else(|| self.evict(place, request, leased, now));
        let cell = self.table.cell_at(index, leased);
        cell.reset(place.check, now);
        self.table.tag_word(index).store(place.tag, Ordering::Release);
        cell
    }

    fn empty(&self, place: Place) -> Option<usize> {
        let index =
            self.table.probes(place).find(|&i| self.table.tag_word(i).load(Ordering::Relaxed) == 0)?;
        self.table.count(Head::Keys);
        Some(index)
    }

    /// Where a key has to make room: one of whose uses others know, if there is any, and of these the
    /// one that is of no use the soonest.
    fn evict(&self, place: Place, request: &[Place], leased: bool, now: u64) -> usize {
        let others = self.table.probes(place).filter(|&index| {
            let tag = self.table.tag_word(index).load(Ordering::Relaxed);
            request.iter().all(|p| p.tag != tag)
        });
        let missed = others.map(|index| {
            let cell = self.table.cell_at(index, leased);
            // A gateway alone tells nobody, but once a period is over nobody asks either.
            let asked = leased || now < cell.get(Field::Until);
            let missed = asked && cell.untold(now) > 0 && !trial::broken(Mutant::CrowdedOut);
            (missed, cell.done(), index)
        });
        let (missed, done, index) = missed.min().expect("more cells are looked at than a request has keys");
        if missed {
            self.table.count(Head::Forgotten);
        }
        if done > now {
            self.table.count(Head::Evicted);
        }
        index
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if trial::died() {
            return;
        }
        fence(Ordering::Release);
        for &segment in &self.segments[..self.n] {
            self.table.segment_lock(usize::from(segment)).store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
pub(crate) mod tests;
