//! The requests on their way, each under a token that no other request ever has.

use crate::walk::Walk;

/// A request on its way. A token outlives its request harmlessly: it then finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    slot: u32,
    life: u32,
}

impl Token {
    /// The token as one number, for memory that only holds plain values. Never 0.
    pub fn to_bits(self) -> u64 {
        (u64::from(self.life) << 32) | u64::from(self.slot)
    }

    /// The inverse of [`Token::to_bits`].
    pub fn from_bits(bits: u64) -> Token {
        Token { slot: bits as u32, life: (bits >> 32) as u32 }
    }
}

/// A slab of walks. A slot that is used again gets the next life, so that an old token misses it.
#[derive(Debug)]
pub struct Walks {
    slots: Vec<(u32, Option<Walk>)>,
    free: Vec<u32>,
    first_life: u32,
}

impl Walks {
    /// `first_life` has to differ from that of an earlier slab of this process: then its tokens find
    /// nothing here.
    pub fn new(first_life: u32) -> Walks {
        Walks { slots: Vec::new(), free: Vec::new(), first_life: first_life.max(1) }
    }

    pub fn insert(&mut self, walk: Walk) -> Token {
        if let Some(slot) = self.free.pop() {
            let (life, place) = &mut self.slots[slot as usize];
            *place = Some(walk);
            return Token { slot, life: *life };
        }
        self.slots.push((self.first_life, Some(walk)));
        Token { slot: self.slots.len() as u32 - 1, life: self.first_life }
    }

    pub fn get(&self, token: Token) -> Option<&Walk> {
        let (life, walk) = self.slots.get(token.slot as usize)?;
        walk.as_ref().filter(|_| *life == token.life)
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut Walk> {
        let (life, walk) = self.slots.get_mut(token.slot as usize)?;
        walk.as_mut().filter(|_| *life == token.life)
    }

    /// Whether there was such a walk.
    pub fn remove(&mut self, token: Token) -> bool {
        let is_there = self.get(token).is_some();
        if is_there {
            let (life, walk) = &mut self.slots[token.slot as usize];
            *life = life.wrapping_add(1).max(1);
            *walk = None;
            self.free.push(token.slot);
        }
        is_there
    }

    /// A first life that no token of this slab has.
    pub fn next_life(&self) -> u32 {
        let last = self.slots.iter().map(|(life, _)| *life).max();
        last.unwrap_or(self.first_life).wrapping_add(1).max(1)
    }

    /// How many requests are on their way.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::walk_of;

    #[test]
    fn an_old_token_finds_nothing() {
        let mut walks = Walks::new(1);
        let old = walks.insert(walk_of("acme"));
        assert_eq!(walks.get(old).map(Walk::client), Some("acme"));
        assert!(walks.remove(old));
        let new = walks.insert(walk_of("initech"));
        assert_eq!(new.slot, old.slot, "the slot is used again");
        assert!(walks.get(old).is_none() && walks.get_mut(old).is_none() && !walks.remove(old));
        assert_eq!(walks.get(new).map(Walk::client), Some("initech"));
        assert_eq!(walks.len(), 1);
    }

    #[test]
    fn tokens_survive_as_numbers_and_are_never_zero() {
        let mut walks = Walks::new(0);
        for _ in 0..3 {
            let token = walks.insert(walk_of("acme"));
            assert_ne!(token.to_bits(), 0);
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }

    #[test]
    fn another_slab_does_not_know_the_tokens_of_the_first() {
        let mut first = Walks::new(1);
        let released = first.insert(walk_of("acme"));
        first.remove(released);
        let token = first.insert(walk_of("acme"));
        let mut second = Walks::new(first.next_life());
        second.insert(walk_of("initech"));
        assert!(second.get(token).is_none());
    }
}
