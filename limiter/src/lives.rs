//! The lives of servers, in shared memory: what each calls itself, since when it is known, and the
//! bounds of its clock.
//!
//! ```text
//! lock | lives begun | lives ended | places used | ... (8 words) | lives (8 words each)
//! ```
//! A life is named by its *id*, a number that is never given twice, with the place of the life in
//! its low bits: so a cell finds its life in one step, and sees when another has taken the place.
//! Whoever begins or ends a life holds the lock; reading takes none. A place without an id is empty:
//! the id is taken away first and given last.

use std::sync::atomic::Ordering;

use crate::clock::{self, ServerClock};
use crate::trial::AtomicU64;

/// Lives that are known at a time; the one that was not heard for longest makes room.
const LIVES: usize = 64;
const HEAD: usize = 8;
const LIFE: usize = 8;
/// Words of shared memory.
pub const WORDS: usize = HEAD + LIVES * LIFE;
/// A server that is in use is heard every 10 seconds. One that was not heard for so long says nothing
/// about the clocks of others.
const SILENT_MS: u64 = 60_000;

/// A life that no server has: that of a cell which was not told where it belongs.
pub const NOBODY: u64 = 0;

/// The name of a life that is over: no server has it.
const OVER: u64 = u64::MAX;

#[derive(Clone, Copy)]
#[repr(usize)]
enum Head {
    Lock = 0,
    Begun = 1,
    Ended = 2,
    Used = 3,
}

#[derive(Clone, Copy)]
#[repr(usize)]
enum Word {
    Id = 0,
    /// The server's own name for this life.
    Name = 1,
    /// Gateway time from which it has to be reckoned with that others have not published yet what a
    /// former life forgot; 0 where there was no former life.
    Since = 2,
    /// Gateway time at which it was heard last.
    Heard = 3,
    Clock = 4,
}

/// A view of the lives; those that change something hold [`Lives::lock_word`].
#[derive(Clone, Copy)]
pub struct Lives {
    words: &'static [AtomicU64],
}

impl Lives {
    /// A view of [`WORDS`] words.
    pub fn new(words: &'static [AtomicU64]) -> Lives {
        debug_assert_eq!(words.len(), WORDS);
        Lives { words }
    }

    pub fn lock_word(self) -> &'static AtomicU64 {
        &self.words[Head::Lock as usize]
    }

    fn head(self, word: Head) -> u64 {
        self.words[word as usize].load(Ordering::Acquire)
    }

    fn word(self, place: usize, word: Word) -> &'static AtomicU64 {
        &self.words[HEAD + place * LIFE + word as usize]
    }

    fn get(self, place: usize, word: Word) -> u64 {
        self.word(place, word).load(Ordering::Acquire)
    }

    fn set(self, place: usize, word: Word, value: u64) {
        self.word(place, word).store(value, Ordering::Release);
    }

    fn clock(self, place: usize) -> ServerClock<'static> {
        let at = HEAD + place * LIFE + Word::Clock as usize;
        ServerClock::new(&self.words[at..at + clock::WORDS])
    }

    /// Places that hold a life, with its id.
    fn known(self) -> impl Iterator<Item = (usize, u64)> {
        let used = (self.head(Head::Used) as usize).min(LIVES);
        (0..used).map(move |place| (place, self.get(place, Word::Id))).filter(|life| life.1 != NOBODY)
    }

    /// Grows with every life that begins or ends.
    pub fn changes(self) -> u64 {
        self.head(Head::Begun) + self.head(Head::Ended)
    }

    /// Whether any server was ever heard.
    pub fn any(self) -> bool {
        self.head(Head::Begun) > 0
    }

    /// Whether this life has not ended, as far as is known.
    pub fn lasts(self, id: u64) -> bool {
        id != NOBODY && self.get(place_of(id), Word::Id) == id
    }

    /// What a server must call its life to run what was made for this one: 0 for any.
    pub fn name(self, id: u64) -> u64 {
        let name = self.get(place_of(id), Word::Name);
        match id {
            NOBODY => 0,
            _ if self.lasts(id) => name,
            _ => OVER,
        }
    }

    /// See [`Word::Since`].
    pub fn since(self, id: u64) -> u64 {
        self.get(place_of(id), Word::Since)
    }

    /// The only life there is, else [`NOBODY`].
    pub fn sole(self) -> u64 {
        let mut known = self.known();
        match (known.next(), known.next()) {
            (Some((_, id)), None) => id,
            _ => NOBODY,
        }
    }

    /// The life that a server calls so.
    pub fn named(self, name: u64) -> Option<u64> {
        self.known().find(|&(place, _)| self.get(place, Word::Name) == name).map(|life| life.1)
    }

    /// The latest that the clock of this life's server can show at gateway time `t`; without a life,
    /// the latest that any server's can: later is never wrong.
    pub fn upper(self, id: u64, t: u64) -> u64 {
        let upper = self.clock(place_of(id)).upper(t);
        // Asked afterwards: if the words were another life's by then, this one has ended.
        if self.lasts(id) { upper } else { self.latest(t) }
    }

    /// The earliest that the clock of this life's server can show at gateway time `t`.
    pub fn lower(self, id: u64, t: u64) -> u64 {
        self.clock(place_of(id)).lower(t)
    }

    fn latest(self, t: u64) -> u64 {
        let upper = |(place, _)| self.clock(place).upper(t);
        let fresh = self.known().filter(|&(place, _)| self.get(place, Word::Heard) + SILENT_MS > t);
        fresh.map(upper).max().or_else(|| self.known().map(upper).max()).unwrap_or(0)
    }

    /// Takes in a reading of a life's clock; false where it can't be that life's.
    pub fn hear(self, id: u64, sent: u64, received: u64, time_ms: u64) -> bool {
        let (place, clock) = (place_of(id), self.clock(place_of(id)));
        let agrees = self.lasts(id) && clock.agrees(sent, received, time_ms);
        if agrees {
            clock.observe(sent, received, time_ms);
            self.set(place, Word::Heard, received);
        }
        agrees
    }

    /// A life begins. Under the lock.
    pub fn begin(self, name: u64, sent: u64, received: u64, time_ms: u64) -> u64 {
        let place = self.free_place();
        let number = self.head(Head::Begun) + 1;
        let id = number * LIVES as u64 + place as u64;
        self.words[Head::Begun as usize].store(number, Ordering::Release);
        self.set(place, Word::Id, NOBODY);
        self.set(place, Word::Name, name);
        let has_former = self.head(Head::Ended) > 0;
        self.set(place, Word::Since, if has_former { received } else { 0 });
        self.set(place, Word::Heard, received);
        // The clock first: who sees the new life must not reckon by the old clock.
        self.clock(place).observe(sent, received, time_ms);
        let used = self.head(Head::Used).max(place as u64 + 1);
        self.words[Head::Used as usize].store(used, Ordering::Release);
        self.set(place, Word::Id, id);
        id
    }

    fn free_place(self) -> usize {
        let heard = |place| match self.get(place, Word::Id) {
            NOBODY => 0,
            _ => self.get(place, Word::Heard),
        };
        (0..LIVES).min_by_key(|&place| heard(place)).unwrap_or(0)
    }

    /// A life is over. Under the lock.
    pub fn end(self, id: u64) {
        if self.lasts(id) {
            self.words[Head::Ended as usize].fetch_add(1, Ordering::AcqRel);
            self.set(place_of(id), Word::Id, NOBODY);
        }
    }

    /// All lives but that of this name are over. Under the lock.
    pub fn end_others(self, name: u64) {
        for (place, id) in self.known() {
            if self.get(place, Word::Name) != name {
                self.end(id);
            }
        }
    }
}

fn place_of(id: u64) -> usize {
    id as usize % LIVES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives() -> Lives {
        Lives::new((0..WORDS).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak())
    }

    #[test]
    fn each_life_has_its_own_clock_and_no_life_has_the_latest() {
        let lives = lives();
        assert!(!lives.any() && lives.sole() == NOBODY);
        let a = lives.begin(7, 1_000, 1_001, 50_000);
        assert_eq!((lives.sole(), lives.named(7), lives.name(a)), (a, Some(a), 7));
        let b = lives.begin(8, 1_000, 1_001, 90_000);
        assert_eq!(lives.sole(), NOBODY);
        assert!((50_100..50_110).contains(&lives.upper(a, 1_100)));
        assert!((90_100..90_110).contains(&lives.upper(b, 1_100)));
        assert_eq!(lives.upper(NOBODY, 1_100), lives.upper(b, 1_100));
        lives.end(b);
        assert_eq!((lives.sole(), lives.name(b), lives.lasts(b)), (a, OVER, false));
        assert_eq!(lives.upper(b, 1_100), lives.upper(a, 1_100));
    }

    #[test]
    fn a_life_that_returns_after_its_end_is_another() {
        let lives = lives();
        let a = lives.begin(7, 0, 1, 5);
        assert_eq!(lives.since(a), 0, "there was nobody before who could have forgotten something");
        lives.end(a);
        let again = lives.begin(7, 500, 501, 505);
        assert_ne!(a, again);
        assert!(!lives.lasts(a) && lives.lasts(again));
        assert_eq!(lives.since(again), 501);
    }

    #[test]
    fn a_clock_that_steps_is_no_longer_that_lifes() {
        let lives = lives();
        let a = lives.begin(7, 1_000, 1_001, 50_000);
        assert!(lives.hear(a, 1_100, 1_101, 50_100));
        assert!(!lives.hear(a, 1_200, 1_201, 49_000));
        assert!(!lives.hear(a + LIVES as u64, 1_200, 1_201, 50_200), "another life's");
    }

    #[test]
    fn the_one_not_heard_for_longest_makes_room() {
        let lives = lives();
        let first = lives.begin(1, 0, 1, 5);
        let others: Vec<u64> = (2..=64).map(|n| lives.begin(n, n, n, 5 + n)).collect();
        assert!(lives.hear(first, 100, 101, 105));
        let next = lives.begin(65, 102, 103, 107);
        assert!(lives.lasts(first) && lives.lasts(next) && !lives.lasts(others[0]));
        assert!(others[1..].iter().all(|&id| lives.lasts(id)));
    }

    #[test]
    fn a_silent_server_says_nothing_about_the_clocks_of_others() {
        let lives = lives();
        lives.begin(7, 0, 1, 900_000);
        let b = lives.begin(8, 100_000, 100_001, 50_000);
        assert_eq!(lives.upper(NOBODY, 100_100), lives.upper(b, 100_100));
    }
}
