//! The numbers that stand for names in the segment being written.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// The fields of a record that are names; each remembers the name it had last.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Client = 0,
    Tier = 1,
    Endpoint = 2,
    Method = 3,
    Limit = 4,
}

/// The numbers of a record's six names, kept between records that have the same names: whoever keeps
/// it must use it with no others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Card {
    /// The [`Names::life`] in which the numbers hold; none has 0.
    life: u64,
    ids: [u32; 6],
}

impl Card {
    pub(crate) fn new(names: &Names, ids: [u32; 6]) -> Card {
        Card { life: names.life, ids }
    }

    /// The numbers, if they hold in this segment.
    pub(crate) fn ids(self, names: &Names) -> Option<[u32; 6]> {
        (self.life == names.life).then_some(self.ids)
    }
}

/// Names of one segment. One worker has one of these, emptied at each new segment.
pub(crate) struct Names {
    ids: HashMap<Box<str>, u32, Seeded>,
    last: [Last; 5],
    /// A handful at most: a new one appears when a policy is applied.
    policies: Vec<(u64, u32)>,
    next: u32,
    /// Odd, begun by chance, and another one in each segment.
    life: u64,
}

#[derive(Default)]
struct Last {
    text: String,
    id: Option<u32>,
}

impl Names {
    /// The seed keeps clients, who choose methods, from choosing collisions.
    pub(crate) fn new(seed: u64) -> Names {
        Names {
            ids: HashMap::with_hasher(Seeded(seed)),
            last: Default::default(),
            policies: Vec::new(),
            next: 0,
            life: seed | 1,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.last = Default::default();
        self.policies.clear();
        self.next = 0;
        self.life = self.life.wrapping_add(2);
    }

    /// The number of a name already in this segment.
    pub(crate) fn find(&mut self, role: Role, text: &str) -> Option<u32> {
        let last = &mut self.last[role as usize];
        if last.id.is_some() && last.text == text {
            return last.id;
        }
        let id = *self.ids.get(text)?;
        last.text.clear();
        last.text.push_str(text);
        last.id = Some(id);
        Some(id)
    }

    /// The number that the next new name gets; [`Names::add`] uses it up.
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    pub(crate) fn add(&mut self, text: &str) -> u32 {
        self.ids.insert(text.into(), self.next);
        self.take()
    }

    pub(crate) fn find_policy(&self, version: u64) -> Option<u32> {
        self.policies.iter().rev().find_map(|(known, id)| (*known == version).then_some(*id))
    }

    pub(crate) fn add_policy(&mut self, version: u64) -> u32 {
        self.policies.push((version, self.next));
        self.take()
    }

    fn take(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }
}

/// Multiply-and-fold over eight bytes at a time: a few nanoseconds for a short name.
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold(self.0)
    }
}

struct Fold(u64);

impl Fold {
    fn mix(&mut self, word: u64) {
        // An odd constant with no pattern in its bits (the fraction of the golden ratio).
        let product = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut tail = [0; 8];
        tail[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(tail) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_in_every_role() {
        let mut names = Names::new(1);
        assert_eq!(names.find(Role::Client, "acme"), None);
        let id = names.add("acme");
        assert_eq!(names.find(Role::Client, "acme"), Some(id));
        assert_eq!(names.find(Role::Tier, "acme"), Some(id));
        assert_eq!(names.find(Role::Client, "acm"), None);
        let policy = names.add_policy(5);
        assert_ne!(policy, id);
        assert_eq!(names.find_policy(5), Some(policy));
    }

    #[test]
    fn nothing_outlives_a_segment() {
        let mut names = Names::new(1);
        names.add("");
        let card = Card::new(&names, [1, 2, 3, 4, 5, 6]);
        assert!(names.find(Role::Limit, "").is_some());
        assert_eq!((card.ids(&names), Card::default().ids(&names)), (Some([1, 2, 3, 4, 5, 6]), None));
        names.clear();
        assert_eq!(card.ids(&names), None);
        assert_eq!(names.find(Role::Limit, ""), None);
        assert_eq!(names.next(), 0);
    }

    #[test]
    fn ten_thousand_similar_names_spread() {
        let mut buckets = [0u32; 256];
        for i in 0..10_000 {
            buckets[(Seeded(3).hash_one(format!("client-{i}")) & 255) as usize] += 1;
        }
        assert!(buckets.iter().all(|n| (10..100).contains(n)), "{buckets:?}");
    }
}
