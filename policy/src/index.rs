//! Finding one of 100,000 by a hash, in a table that lies in an image.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A place of the table. Of an item it holds the upper half of its hash, so that the items themselves,
/// each of which is likely to be in no cache, are looked at for what is almost surely found there.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Slot {
    /// One more than the place of the item; 0: this one is free.
    item: U32,
    tag: U32,
}

/// A table of items, each by its hash and by where it is; there it stands where its hash says or at the
/// next free place. Half of the places are free at least.
pub(crate) fn index(items: &[(u64, u32)]) -> Vec<Slot> {
    let mut slots = vec![Slot::default(); (2 * items.len()).next_power_of_two()];
    for &(hash, item) in items {
        let free = probe(slots.len(), hash).find(|&at| slots[at].item == U32::ZERO);
        if let Some(at) = free {
            slots[at] = Slot { item: U32::new(item + 1), tag: tag(hash) };
        }
    }
    slots
}

/// Where the item with this hash is that the caller looks for.
pub(crate) fn find(slots: &[Slot], hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
    let taken = probe(slots.len(), hash).map(|at| slots[at]).take_while(|slot| slot.item != U32::ZERO);
    let alike = taken.filter(|slot| slot.tag == tag(hash));
    alike.map(|slot| slot.item.get() as usize - 1).find(|&at| is_it(at))
}

/// Its lower half says where to look.
fn tag(hash: u64) -> U32 {
    U32::new((hash >> 32) as u32)
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
        let hash = |item: u32| u64::from(item).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let items = || (0..5_000).map(|n| n * 7);
        let spread = index(&items().map(|item| (hash(item), item)).collect::<Vec<_>>());
        let crowded = index(&items().take(200).map(|item| (1, item)).collect::<Vec<_>>());
        for item in items() {
            let item = item as usize;
            assert_eq!(find(&spread, hash(item as u32), |at| at == item), Some(item));
        }
        assert_eq!(find(&crowded, 1, |at| at == 7 * 150), Some(7 * 150));
        assert_eq!(find(&crowded, 1, |_| false), None);
        assert_eq!(find(&index(&[]), 2, |_| true), None);
    }
}
