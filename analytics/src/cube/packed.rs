//! The sums of a row as varints: a year of days is some dozen bytes a row instead of some hundred.

use super::COUNTS;

/// Where a row lies.
pub type Place = usize;

/// The sums of many rows, one behind the other: the counts, then latencies and status codes as pairs,
/// each with the number of its bytes before it.
#[derive(Clone, Debug, Default)]
pub struct Packed(Vec<u8>);

/// Sums of one or more rows.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    pub counts: [i64; COUNTS.len()],
    /// Bins and codes with their counts, ascending once they are merged.
    pub latency: Vec<(i32, i64)>,
    pub status: Vec<(i32, i64)>,
}

impl Sums {
    pub fn clear(&mut self) {
        self.counts = Default::default();
        self.latency.clear();
        self.status.clear();
    }

    /// Adds up what stands there more than once.
    pub fn merge(&mut self) {
        for pairs in [&mut self.latency, &mut self.status] {
            if !pairs.is_sorted_by_key(|(number, _)| *number) {
                pairs.sort_unstable();
            }
            pairs.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                if same {
                    kept.1 += next.1;
                }
                same
            });
        }
    }
}

impl Packed {
    pub fn push(
        &mut self,
        counts: &[i64; COUNTS.len()],
        latency: impl Iterator<Item = (i32, i64)>,
        status: impl Iterator<Item = (i32, i64)>,
    ) -> Place {
        let place = self.0.len();
        counts.iter().for_each(|&n| varint(&mut self.0, n.max(0) as u64));
        for packed in [pairs(latency), pairs(status)] {
            varint(&mut self.0, packed.len() as u64);
            self.0.extend(packed);
        }
        place
    }

    pub fn add_to(&self, sums: &mut Sums, place: Place) {
        let mut at = place;
        sums.counts.iter_mut().for_each(|sum| *sum += self.varint(&mut at) as i64);
        for pairs in [&mut sums.latency, &mut sums.status] {
            let end = self.varint(&mut at) as usize + at;
            let mut number = 0;
            while at < end {
                number += self.varint(&mut at) as i32;
                pairs.push((number, self.varint(&mut at) as i64));
            }
        }
    }

    /// All that is said of one row.
    pub fn bytes(&self, place: Place) -> &[u8] {
        let mut end = place;
        for _ in COUNTS {
            self.varint(&mut end);
        }
        for _ in 0..2 {
            end = self.varint(&mut end) as usize + end;
        }
        &self.0[place..end]
    }

    fn varint(&self, at: &mut usize) -> u64 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = self.0[*at];
            *at += 1;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return n;
            }
            shift += 7;
        }
    }
}

/// Ascending numbers and their counts as varints: how much the number grew, the count.
pub fn pairs(counts: impl Iterator<Item = (i32, i64)>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut last = 0;
    for (number, count) in counts {
        varint(&mut out, (number.max(last) - last) as u64);
        varint(&mut out, count.max(0) as u64);
        last = number.max(last);
    }
    out
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_what_grew_and_the_count() {
        let counts = [(0, 1), (200, 300), (201, 5)];
        assert_eq!(pairs(counts.into_iter()), [0, 1, 0xc8, 1, 0xac, 2, 1, 5]);
        assert_eq!(pairs([].into_iter()), [0u8; 0]);
    }

    #[test]
    fn rows_add_up_to_what_was_put_in() {
        let mut packed = Packed::default();
        let counts = |n: i64| [n; COUNTS.len()];
        let places = [
            packed.push(&counts(i64::MAX / 4), [(3, 7), (900, 1)].into_iter(), [(200, 8)].into_iter()),
            packed.push(&counts(0), [].into_iter(), [].into_iter()),
            packed.push(&counts(5), [(3, 2), (4, 1)].into_iter(), [(200, 1), (503, 2)].into_iter()),
        ];
        let mut sums = Sums::default();
        places.iter().for_each(|&place| packed.add_to(&mut sums, place));
        sums.merge();
        assert_eq!(sums.counts, counts(i64::MAX / 4 + 5));
        assert_eq!(sums.latency, [(3, 9), (4, 1), (900, 1)]);
        assert_eq!(sums.status, [(200, 9), (503, 2)]);
        let lengths: usize = places.iter().map(|&place| packed.bytes(place).len()).sum();
        assert_eq!(lengths, packed.0.len(), "rows lie one behind the other");
    }
}
