//! Keys of the policy whose meaning comes with a later version. They are checked, and then refused
//! rather than ignored: a limit that nobody enforces is worse than none.

use crate::node::{Node, Table};
use crate::problem::quote;
use crate::suggest::did_you_mean;

/// `webhooks`: whether calls to the client's own address count.
pub fn read_webhooks(table: &Table<'_>) {
    let Some(node) = table.get("webhooks") else {
        return;
    };
    match node.text() {
        None | Some("count") => {}
        Some(word @ ("meter" | "ignore")) => node.problem(
            format!("{word:?} is not enforced by this version yet"),
            "write webhooks = \"count\", or leave it out",
        ),
        Some(word) => unknown_word(&node, word, &["count", "meter", "ignore"]),
    }
}

/// Complains about a word that is none of a few.
pub fn unknown_word(node: &Node<'_>, word: &str, known: &[&str]) {
    let remedy = did_you_mean(word, known.iter().copied(), || format!("write {}", known.join(", ")));
    node.problem(format!("{} is not known here", quote(word)), remedy);
}
