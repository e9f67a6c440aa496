//! What the steps of a tick say.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::installation::CommandError;

/// The outcome of one step.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    pub step: &'static str,
    /// For people.
    pub line: String,
    /// For programs.
    pub done: Value,
    /// What could not be done.
    pub failed: Vec<String>,
}

impl Told {
    pub fn new(step: &'static str, line: String, done: &impl Serialize, failed: Vec<String>) -> Told {
        Told { step, line, done: serde_json::to_value(done).unwrap_or_default(), failed }
    }

    /// A step that could not be done at all.
    pub fn error(step: &'static str, error: &CommandError) -> Told {
        Told { step, line: "failed".to_owned(), done: Value::Null, failed: vec![error.to_string()] }
    }

    /// A step that this installation does not have.
    pub fn skipped(step: &'static str, why: &str) -> Told {
        Told { step, line: format!("nothing to do: {why}"), done: Value::Null, failed: Vec::new() }
    }

    /// Prints it, failures to standard error, and returns whether there were none.
    pub fn print(&self, json: bool) -> bool {
        if json {
            say(&serde_json::to_string(self).unwrap_or_default());
        } else {
            say(&format!("{:<10}{}", self.step, self.line));
        }
        self.failed.iter().for_each(|failure| eprintln!("weir {}: {failure}", self.step));
        self.failed.is_empty()
    }
}

/// Prints a line. Whoever stopped reading our output does not stop our work.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// `1 segment`, `2 segments`.
pub fn counted(n: u64, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}
