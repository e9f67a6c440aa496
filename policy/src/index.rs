//! Finding one of 100,000 by a hash, in a table that lies in an image.

use zerocopy::little_endian::U32;

/// Positions 0, 1, 2 … of a list whose items have these hashes, each where its hash says or at the next
/// free place: 0 is a free place, and each other number one more than a position. Half of it is free at
/// least.
pub(crate) fn index(hashes: impl ExactSizeIterator<Item = u64>) -> Vec<U32> {
    let mut places = vec![U32::ZERO; (2 * hashes.len()).next_power_of_two()];
    for (number, hash) in (1..).zip(hashes) {
        let free = probe(places.len(), hash).find(|&at| places[at] == U32::ZERO);
        if let Some(at) = free {
            places[at] = U32::new(number);
        }
    }
    places
}

/// The position of an item with this hash that is the one that the caller looks for.
pub(crate) fn find(places: &[U32], hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
    let numbers = probe(places.len(), hash).map(|at| places[at].get() as usize);
    numbers.take_while(|&number| number != 0).map(|number| number - 1).find(|&at| is_it(at))
}

/// `len` is a power of two, or none.
fn probe(len: usize, hash: u64) -> impl Iterator<Item = usize> {
    let first = hash as usize;
    (0..len).map(move |step| first.wrapping_add(step) & (len - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_found_also_when_all_hashes_are_equal() {
        let items: Vec<u64> = (0..5_000).map(|n| n * 7).collect();
        let spread = index(items.iter().map(|&item| item.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let crowded = index(items[..200].iter().map(|_| 1));
        for (position, item) in items.iter().enumerate() {
            let hash = item.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            assert_eq!(find(&spread, hash, |at| items[at] == *item), Some(position));
        }
        assert_eq!(find(&crowded, 1, |at| items[at] == 7 * 150), Some(150));
        assert_eq!(find(&crowded, 1, |_| false), None);
        assert_eq!(find(&index(std::iter::empty()), 2, |_| true), None);
    }
}
