//! What happened, in sentences. A story is kept only when somebody wants to read it.

use std::fmt::Display;

/// Lines of a run, each with its moment and the client that it is about.
#[derive(Clone, Debug, Default)]
pub struct Story {
    wanted: bool,
    lines: Vec<(u64, Option<usize>, String)>,
}

impl Story {
    pub fn new(wanted: bool) -> Story {
        Story { wanted, lines: Vec::new() }
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Adds a sentence; `client` is none where it concerns all.
    pub fn say<T: Display>(&mut self, at_ms: u64, client: Option<usize>, sentence: impl FnOnce() -> T) {
        if self.wanted {
            self.lines.push((at_ms, client, sentence().to_string()));
        }
    }

    /// The last `most` lines up to `until` that concern `client`.
    pub fn end(&self, until: u64, client: Option<usize>, most: usize) -> Vec<String> {
        let concerns = |c: &Option<usize>| c.is_none() || client.is_none() || *c == client;
        let lines: Vec<String> = self
            .lines
            .iter()
            .filter(|(at, c, _)| *at <= until && concerns(c))
            .map(|(at, _, line)| format!("{at:>7} ms  {line}"))
            .collect();
        lines[lines.len().saturating_sub(most)..].to_vec()
    }
}
