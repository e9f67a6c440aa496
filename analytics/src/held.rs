//! Which record numbers are in the books: the proof of completeness.
//!
//! Each stream numbers its records from 0. What is held of a stream is a set of numbers, kept as
//! intervals; sets are merged by union, so telling the same numbers twice changes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::completeness::Life;

/// Sorted, disjoint, non-touching half-open intervals of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Numbers(Vec<(u64, u64)>);

impl Numbers {
    /// Of numbers in any order, some perhaps twice.
    pub fn of(mut numbers: Vec<u64>) -> Numbers {
        numbers.sort_unstable();
        let mut all = Numbers::default();
        numbers.into_iter().for_each(|n| all.insert(n));
        all
    }

    /// Adds one number; cheapest in ascending order.
    pub fn insert(&mut self, number: u64) {
        match self.0.last_mut() {
            Some(last) if last.1 == number => last.1 = number.saturating_add(1),
            Some(last) if last.0 <= number && number < last.1 => {}
            Some(last) if last.1 > number => self.add(number, number + 1),
            _ => self.0.push((number, number.saturating_add(1))),
        }
    }

    /// Adds a half-open interval.
    pub fn add(&mut self, from: u64, to: u64) {
        self.union(&Numbers(vec![(from, to)]));
    }

    pub fn union(&mut self, other: &Numbers) {
        let mut all: Vec<(u64, u64)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        self.0.clear();
        for (from, to) in all {
            match self.0.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => self.0.push((from, to)),
            }
        }
    }

    pub fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|i| i.0 <= number);
        after > 0 && number < self.0[after - 1].1
    }

    /// Whether all of `other` is in it.
    pub fn contains_all(&self, other: &Numbers) -> bool {
        other.0.iter().all(|&(from, to)| {
            let after = self.0.partition_point(|i| i.0 <= from);
            after > 0 && to <= self.0[after - 1].1
        })
    }

    /// Numbers that are in both.
    pub fn common(&self, other: &Numbers) -> u64 {
        let mut both = self.clone();
        both.union(other);
        self.count() + other.count() - both.count()
    }

    /// What lies between two numbers and is not in it, as half-open intervals.
    pub fn holes(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let (mut holes, mut at) = (Vec::new(), from);
        for &(begin, end) in self.0.iter().filter(|i| i.1 > from && i.0 < to) {
            if begin > at {
                holes.push((at, begin));
            }
            at = at.max(end);
        }
        if at < to {
            holes.push((at, to));
        }
        holes
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|i| i.0)
    }

    /// One past the highest number held.
    pub fn end(&self) -> Option<u64> {
        self.0.last().map(|i| i.1)
    }

    /// One past the highest number held below `number`.
    fn end_below(&self, number: u64) -> Option<u64> {
        self.0.iter().take_while(|i| i.0 < number).last().map(|i| i.1.min(number))
    }
}

/// What is held of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub held: Numbers,
    /// The number its next record will have, as far as the segments tell: records lost at the end
    /// of a segment lie below it.
    pub next: u64,
    /// When its worker is known to have lived; `None` where nothing says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<Life>,
    /// Numbers that its gateway says it lost, by its reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<String, Numbers>,
}

/// What is held of every stream, by the stream's id in hex.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Held(pub BTreeMap<String, Stream>);

impl Held {
    pub fn union(&mut self, other: &Held) {
        for (id, stream) in &other.0 {
            let mine = self.0.entry(id.clone()).or_default();
            mine.held.union(&stream.held);
            mine.next = mine.next.max(stream.next);
            match (&mut mine.life, &stream.life) {
                (Some(mine), Some(life)) => mine.union(life),
                (mine @ None, life) => *mine = life.clone(),
                _ => {}
            }
            for (reason, numbers) in &stream.lost {
                mine.lost.entry(reason.clone()).or_default().union(numbers);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Records held.
    pub fn count(&self) -> u64 {
        self.0.values().map(|s| s.held.count()).sum()
    }

    /// Numbers that are skipped. `all` says what is held of the same streams at any time, so that a
    /// stream which began before this range isn't taken for one that lost its beginning. A hole is
    /// booked where the stream goes on after it; one at the very end, where the stream ends.
    pub fn missing(&self, all: &Held) -> u64 {
        self.0.iter().map(|(id, stream)| stream.missing(all.0.get(id))).sum()
    }
}

impl Stream {
    /// The numbers that are missing, see [`Held::missing`], less those that stand elsewhere.
    pub fn holes(&self, all: &Stream) -> Vec<(u64, u64)> {
        let first = self.held.first().unwrap_or(self.next);
        let end = self.held.end().unwrap_or(first);
        let goes_on = all.held.end().is_some_and(|all_end| all_end > end);
        let end = if goes_on { end } else { end.max(self.next) };
        let mut known = all.held.clone();
        known.union(&self.held);
        known.holes(all.held.end_below(first).unwrap_or(0), end)
    }

    fn missing(&self, all: Option<&Stream>) -> u64 {
        // A stretch that lost all its records still says up to where.
        let first = self.held.first().unwrap_or(self.next);
        let end = self.held.end().unwrap_or(first);
        let begin = all.and_then(|s| s.held.end_below(first)).unwrap_or(0);
        let goes_on = all.and_then(|s| s.held.end()).is_some_and(|all_end| all_end > end);
        let end = if goes_on { end } else { end.max(self.next) };
        end - begin - self.held.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(intervals: &[(u64, u64)]) -> Numbers {
        let mut all = Numbers::default();
        for &(from, to) in intervals {
            all.union(&Numbers(vec![(from, to)]));
        }
        all
    }

    fn held(intervals: &[(u64, u64)], next: u64) -> Held {
        Held(BTreeMap::from([(
            "a".to_owned(),
            Stream { held: numbers(intervals), next, ..Stream::default() },
        )]))
    }

    #[test]
    fn numbers_in_any_order_make_the_same_set() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let mut some: Vec<u64> = (0..40).map(|_| rng.u64(0..60)).collect();
            let mut set = Numbers::default();
            some.iter().for_each(|&n| set.insert(n));
            some.sort_unstable();
            some.dedup();
            assert_eq!(set.count(), some.len() as u64);
            (0..60).for_each(|n| assert_eq!(set.contains(n), some.contains(&n)));
            let mut again = set.clone();
            again.union(&set);
            assert_eq!(again, set);
        }
    }

    #[test]
    fn holes_are_what_is_not_there() {
        let some = numbers(&[(2, 5), (7, 9)]);
        assert_eq!(some.holes(0, 12), [(0, 2), (5, 7), (9, 12)]);
        assert_eq!(some.holes(3, 8), [(5, 7)]);
        assert_eq!(Numbers::default().holes(3, 8), [(3, 8)]);
        assert_eq!((some.common(&numbers(&[(4, 8)])), some.common(&numbers(&[(5, 7)]))), (2, 0));
    }

    #[test]
    fn what_is_missing_is_counted_once_where_the_stream_goes_on() {
        let (early, late) = (held(&[(0, 10), (12, 20)], 20), held(&[(25, 30)], 33));
        let mut all = early.clone();
        all.union(&late);
        assert_eq!(early.missing(&all), 2);
        assert_eq!(late.missing(&all), 5 + 3);
        assert_eq!(all.missing(&all), 10);
        assert_eq!(all.count(), 23);
    }

    #[test]
    fn a_stream_whose_beginning_never_arrived_misses_it() {
        let only = held(&[(4, 6)], 6);
        assert_eq!(only.missing(&only), 4);
        assert_eq!(Held::default().missing(&only), 0);
    }
}
