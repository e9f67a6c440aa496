//! Requests that are held back, in the order in which they came: one queue for each limit that holds
//! them. Only the first of a queue asks for room; the others wait for their turn.

use std::collections::{HashMap, VecDeque};

use crate::walks::Token;

/// The queues of one worker.
#[derive(Debug, Default)]
pub(crate) struct Queues(HashMap<String, Queue>);

#[derive(Debug, Default)]
struct Queue {
    /// When the first one asks again; never while it waits for a lease.
    due_ms: u64,
    tokens: VecDeque<Token>,
}

const NEVER: u64 = u64::MAX;

impl Queues {
    /// When the first of the queue of this counter asks again, if anybody stands there.
    pub fn due_of(&self, counter: &str) -> Option<u64> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(counter).map(|queue| queue.due_ms)
    }

    /// When the next queue is due.
    pub fn next_due(&self) -> Option<u64> {
        self.0.values().map(|queue| queue.due_ms).min().filter(|due_ms| *due_ms != NEVER)
    }

    /// The first of some queue that is due.
    pub fn first_due(&self, now_ms: u64) -> Option<Token> {
        let due = self.0.values().find(|queue| queue.due_ms <= now_ms)?;
        due.tokens.front().copied()
    }

    /// Holds a request, which asks again at `due_ms` if it is the first. Whether it came new.
    pub fn hold(&mut self, counter: &str, token: Token, due_ms: u64) -> bool {
        let queue = self.0.entry(counter.to_owned()).or_default();
        let is_new = !queue.tokens.contains(&token);
        if is_new {
            queue.tokens.push_back(token);
        }
        if queue.tokens.front() == Some(&token) {
            queue.due_ms = due_ms;
        }
        is_new
    }

    /// The request waits for a lease: its queue with it, if it is the first.
    pub fn wait(&mut self, counter: &str, token: Token) {
        if let Some(queue) = self.0.get_mut(counter)
            && queue.tokens.front() == Some(&token)
        {
            queue.due_ms = NEVER;
        }
    }

    /// The request has its verdict, or is gone. The next one has its turn at once.
    pub fn leave(&mut self, counter: &str, token: Token) {
        let Some(queue) = self.0.get_mut(counter) else {
            return;
        };
        if queue.tokens.front() == Some(&token) {
            queue.due_ms = 0;
        }
        queue.tokens.retain(|held| *held != token);
        if queue.tokens.is_empty() {
            self.0.remove(counter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(n: u64) -> Token {
        Token::from_bits((1 << 32) | n)
    }

    #[test]
    fn only_the_first_of_a_queue_asks_and_the_next_follows_it_at_once() {
        let mut queues = Queues::default();
        assert!(queues.hold("a", token(1), 50) && queues.hold("a", token(2), 10));
        assert!(queues.hold("b", token(3), 90));
        assert_eq!((queues.first_due(49), queues.next_due()), (None, Some(50)));
        assert_eq!(queues.first_due(50), Some(token(1)));
        assert!(!queues.hold("a", token(1), 60), "it is there already");
        assert_eq!((queues.first_due(59), queues.due_of("a")), (None, Some(60)));
        queues.wait("a", token(1));
        assert_eq!((queues.first_due(89), queues.next_due()), (None, Some(90)));
        queues.leave("a", token(1));
        assert_eq!(queues.first_due(0), Some(token(2)));
        queues.leave("a", token(2));
        queues.leave("b", token(3));
        assert_eq!((queues.next_due(), queues.due_of("a")), (None, None));
    }

    #[test]
    fn one_that_goes_away_in_the_middle_hurries_nobody() {
        let mut queues = Queues::default();
        queues.hold("a", token(1), 50);
        queues.hold("a", token(2), 50);
        queues.leave("a", token(2));
        queues.leave("a", token(9));
        assert_eq!((queues.first_due(49), queues.first_due(50)), (None, Some(token(1))));
    }
}
