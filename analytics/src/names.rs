//! Text columns as numbers: names repeat in almost every row, so each is kept once.

use std::collections::HashMap;

/// A list of distinct names; a row holds a name's position.
#[derive(Clone, Debug, Default)]
pub struct Names {
    list: Vec<String>,
    positions: HashMap<String, u32>,
}

impl Names {
    /// The position of a name, which is added if it is new.
    pub fn intern(&mut self, name: &str) -> u32 {
        if let Some(&at) = self.positions.get(name) {
            return at;
        }
        let at = self.list.len() as u32;
        self.list.push(name.to_owned());
        self.positions.insert(name.to_owned(), at);
        at
    }

    pub fn get(&self, at: u32) -> &str {
        &self.list[at as usize]
    }

    pub fn list(&self) -> &[String] {
        &self.list
    }

    /// All names of several lists in ascending order, and for each list where its names went.
    /// So positions compare as the names do.
    pub fn merged<'a>(lists: impl Iterator<Item = &'a Names> + Clone) -> (Names, Vec<Vec<u32>>) {
        let mut all: Vec<&str> = lists.clone().flat_map(|n| n.list.iter().map(String::as_str)).collect();
        all.sort_unstable();
        all.dedup();
        let mut names = Names::default();
        all.iter().for_each(|name| {
            names.intern(name);
        });
        let moved =
            lists.map(|n| n.list.iter().map(|name| names.positions[name.as_str()]).collect()).collect();
        (names, moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_positions_are_in_the_order_of_the_names() {
        let (mut a, mut b) = (Names::default(), Names::default());
        for name in ["z", "b", "z"] {
            a.intern(name);
        }
        for name in ["b", "a"] {
            b.intern(name);
        }
        let (all, moved) = Names::merged([&a, &b].into_iter());
        assert_eq!(all.list(), ["a", "b", "z"]);
        assert_eq!(moved, [vec![2, 1], vec![1, 0]]);
    }
}
