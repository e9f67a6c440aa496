//! Finding one of 100,000 by a hash, at about six bytes each.

use hashbrown::HashTable;

/// Positions in a list, found by the hash of what stands there. The list itself is not kept here:
/// the caller says whether a position is the one it looks for.
pub(crate) struct Index {
    positions: HashTable<u32>,
}

impl Index {
    /// Positions 0, 1, 2 … of a list that never changes, whose items have these hashes.
    pub fn new(hashes: impl ExactSizeIterator<Item = u64>) -> Index {
        let mut positions = HashTable::with_capacity(hashes.len());
        for (position, hash) in (0..).zip(hashes) {
            // Never called: the table was made large enough for all of them.
            let rehash = |_: &u32| unreachable!("the index grew");
            positions.insert_unique(hash, position, rehash);
        }
        Index { positions }
    }

    pub fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let found = self.positions.find(hash, |&position| is_it(position as usize))?;
        Some(*found as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_found_also_when_all_hashes_are_equal() {
        let items: Vec<u64> = (0..5_000).map(|n| n * 7).collect();
        let spread = Index::new(items.iter().map(|&item| item.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let crowded = Index::new(items[..200].iter().map(|_| 1));
        for (position, item) in items.iter().enumerate() {
            let hash = item.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            assert_eq!(spread.find(hash, |at| items[at] == *item), Some(position));
        }
        assert_eq!(crowded.find(1, |at| items[at] == 7 * 150), Some(150));
        assert_eq!(crowded.find(1, |_| false), None);
        assert_eq!(crowded.find(2, |at| items[at] == 0), None);
    }
}
