//! One word of a few.

use crate::model::Webhooks;
use crate::node::{Node, Table};
use crate::problem::quote;
use crate::suggest::did_you_mean;

/// `webhooks`: whether calls to the client's own address count.
pub fn read_webhooks(table: &Table<'_>) -> Option<Webhooks> {
    let node = table.get("webhooks")?;
    match node.text()? {
        "count" => Some(Webhooks::Count),
        "meter" => Some(Webhooks::Meter),
        "ignore" => Some(Webhooks::Ignore),
        other => {
            unknown_word(&node, other, &["count", "meter", "ignore"]);
            None
        }
    }
}

/// Complains about a word that is none of a few.
pub fn unknown_word(node: &Node<'_>, word: &str, known: &[&str]) {
    let remedy = did_you_mean(word, known.iter().copied(), || format!("write {}", known.join(", ")));
    node.problem(format!("{} is not known here", quote(word)), remedy);
}
