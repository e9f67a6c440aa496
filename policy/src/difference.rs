//! What changes from one policy to another, in words.

use std::collections::{BTreeMap, HashMap};

use toml::{Table, Value};

use crate::grammar::limit::{parse_limit, spell_limit};
use crate::model::Policy;

/// Characters of a key's hash that are shown: enough to tell keys apart.
const HASH_SHOWN: usize = "sha256:".len() + 8;

/// What a policy says of one tier, client or the like: each saying in words, under a name by which it
/// is found in another policy.
type Sayings = BTreeMap<String, String>;

/// One line for each change from one policy's text to another's, in the order of what they are about:
/// `client acme: tier basic becomes tier enterprise`. Both are texts that [`crate::parse`] takes; `to`
/// is the policy that `new` is. Empty where only comments, order or spelling differ.
pub fn difference(old: &str, new: &str, to: &Policy) -> Vec<String> {
    let (mut old, mut new) = (document(old), document(new));
    for key in ["tiers", "clients"] {
        if let (Some(Value::Table(old)), Some(Value::Table(new))) = (old.get_mut(key), new.get_mut(key)) {
            drop_same(old, new);
        }
    }
    let (old, new, clients) = (subjects(&old), subjects(&new), clients_of(to));
    let mut lines = Vec::new();
    for (subject, before) in &old {
        match new.get(subject) {
            Some(after) => compare(&titled(subject, &clients), before, after, &mut lines),
            None => lines.push(format!("{subject} is gone")),
        }
    }
    for (subject, sayings) in new.iter().filter(|(subject, _)| !old.contains_key(*subject)) {
        let said: Vec<&str> = sayings.values().map(String::as_str).collect();
        let colon = if said.is_empty() { "" } else { ": " };
        lines.push(format!("{subject} is new{colon}{}", said.join("; ")));
    }
    lines
}

fn compare(subject: &str, before: &Sayings, after: &Sayings, lines: &mut Vec<String>) {
    for (name, was) in before {
        match after.get(name) {
            Some(is) if is == was => {}
            Some(is) => lines.push(format!("{subject}: {was} becomes {is}")),
            None => lines.push(format!("{subject}: {was} is gone")),
        }
    }
    let added = after.iter().filter(|(name, _)| !before.contains_key(*name));
    lines.extend(added.map(|(_, is)| format!("{subject}: {is} is new")));
}

/// How many clients are in each tier.
fn clients_of(policy: &Policy) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for client in &policy.clients {
        *counts.entry(format!("tier {}", client.tier)).or_default() += 1;
    }
    counts
}

fn titled(subject: &str, clients: &HashMap<String, usize>) -> String {
    match clients.get(subject) {
        Some(1) => format!("{subject} (1 client)"),
        Some(count) => format!("{subject} ({count} clients)"),
        None => subject.to_owned(),
    }
}

fn document(text: &str) -> Table {
    text.trim_start_matches('\u{feff}').parse().unwrap_or_default()
}

/// What is the same in both need not be put into words: of 100,000 clients most are.
fn drop_same(old: &mut Table, new: &mut Table) {
    old.retain(|name, was| {
        let is_same = new.get(name) == Some(&*was);
        if is_same {
            // No tier and no client is one.
            new[name] = Value::Boolean(false);
        }
        !is_same
    });
    new.retain(|_, is| !is.is_bool());
}

/// All that a policy is about.
fn subjects(document: &Table) -> BTreeMap<String, Sayings> {
    let mut subjects = BTreeMap::new();
    for (key, value) in document {
        match (key.as_str(), value) {
            ("tiers", Value::Table(tiers)) => add_each("tier", tiers, &mut subjects),
            ("clients", Value::Table(clients)) => add_each("client", clients, &mut subjects),
            ("endpoints", Value::Array(rules)) => {
                let all = subjects.entry("all clients together".to_owned()).or_default();
                rules.iter().for_each(|rule| say_rule("", rule, all));
            }
            (other, Value::Table(table)) => {
                let sayings = subjects.entry(format!("[{other}]")).or_default();
                table.iter().for_each(|(key, value)| say(key, value, sayings));
            }
            (other, value) => say(other, value, subjects.entry("the policy".to_owned()).or_default()),
        }
    }
    subjects
}

fn add_each(what: &str, tables: &Table, subjects: &mut BTreeMap<String, Sayings>) {
    for (name, value) in tables {
        let sayings = subjects.entry(format!("{what} {name}")).or_default();
        value.as_table().into_iter().flatten().for_each(|(key, value)| say(key, value, sayings));
    }
}

fn say(key: &str, value: &Value, sayings: &mut Sayings) {
    match (key, value) {
        ("limits", Value::Array(limits)) => limits.iter().for_each(|limit| say_limit("", limit, sayings)),
        ("endpoints", Value::Array(rules)) => rules.iter().for_each(|rule| say_rule(" at ", rule, sayings)),
        ("keys", Value::Array(keys)) => keys.iter().for_each(|key| say_key(key, sayings)),
        ("grants", Value::Array(grants)) => {
            for grant in grants {
                let shown = format!("grant of {}", plain(grant));
                sayings.insert(shown.clone(), shown);
            }
        }
        _ => {
            sayings.insert(key.to_owned(), format!("{key} {}", plain(value)));
        }
    }
}

/// Limits of one unit and window are the same limit with another amount.
fn say_limit(at: &str, value: &Value, sayings: &mut Sayings) {
    let text = plain(value);
    let (name, shown) = match parse_limit(&text) {
        Ok(limit) => (format!("{}/{}", limit.unit.word(), limit.window), spell_limit(&limit)),
        Err(_) => (text.clone(), text),
    };
    sayings.insert(format!("limit{at} {name}"), format!("{shown}{at}"));
}

fn say_rule(at: &str, rule: &Value, sayings: &mut Sayings) {
    let matched = rule.get("match").map(plain).unwrap_or_default();
    let at = format!("{}{matched}", if at.is_empty() { " at " } else { at });
    for (key, value) in rule.as_table().into_iter().flatten().filter(|(key, _)| *key != "match") {
        match (key.as_str(), value) {
            ("limits", Value::Array(limits)) => {
                limits.iter().for_each(|limit| say_limit(&at, limit, sayings))
            }
            _ => drop(sayings.insert(format!("{key}{at}"), format!("{key} {}{at}", plain(value)))),
        }
    }
}

fn say_key(key: &Value, sayings: &mut Sayings) {
    let hash = key.get("hash").unwrap_or(key).as_str().unwrap_or_default();
    let mut shown = format!("key {}…", hash.chars().take(HASH_SHOWN).collect::<String>());
    for (field, word) in [("not_before", "from"), ("not_after", "until")] {
        if let Some(time) = key.get(field) {
            shown += &format!(" {word} {}", plain(time));
        }
    }
    sayings.insert(format!("key {hash}"), shown);
}

/// A value without TOML's signs, where it has few.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Table(table) => {
            let pair = |(key, value): (&String, &Value)| format!("{key} {}", plain(value));
            table.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    const OLD: &str = r#"
default_tier = "basic"
[tiers.basic]
limits = ["100 requests/minute", "2000 requests/hour"]
[tiers.gold]
limits = ["1000 requests/minute"]
[[tiers.gold.endpoints]]
match = "POST /orders"
limits = ["60 requests/minute"]
[[endpoints]]
match = "* /reports"
limits = ["50 requests/second"]
[clients.acme]
name = "Acme Corp"
keys = ["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]
contacts = ["a@acme.example"]
[clients.initech]
tier = "gold"
"#;

    fn changed(edits: &[(&str, &str)]) -> Vec<String> {
        let mut new = OLD.to_owned();
        for (from, to) in edits {
            assert!(new.contains(from), "{from}");
            new = new.replace(from, to);
        }
        difference(OLD, &new, &parse(&new).unwrap())
    }

    #[test]
    fn amounts_tiers_and_clients_are_told_in_words() {
        let lines = changed(&[
            ("\"100 requests/minute\", \"2000 requests/hour\"", "\"200 requests/minute\", \"1 GB/day\""),
            ("[\"60 requests/minute\"]", "[\"90 requests/minute\"]\nover = \"degrade up to 150%\""),
            ("50 requests/second", "40 requests/second"),
            ("tier = \"gold\"", "tier = \"basic\"\nexempt = true"),
            ("name = \"Acme Corp\"", "name = \"Acme\""),
        ]);
        assert_eq!(
            lines,
            [
                "all clients together: 50 requests/second at * /reports becomes 40 requests/second at * /reports",
                "client acme: name Acme Corp becomes name Acme",
                "client initech: tier gold becomes tier basic",
                "client initech: exempt true is new",
                "tier basic (2 clients): 2000 requests/hour is gone",
                "tier basic (2 clients): 100 requests/minute becomes 200 requests/minute",
                "tier basic (2 clients): 1 GB/day is new",
                "tier gold: 60 requests/minute at POST /orders becomes 90 requests/minute at POST /orders",
                "tier gold: over degrade up to 150% at POST /orders is new",
            ]
        );
    }

    #[test]
    fn what_comes_and_goes_is_told_once() {
        let lines = changed(&[
            ("[clients.initech]\ntier = \"gold\"\n", "[clients.hooli]\ntier = \"gold\"\ncontacts = []\n"),
            ("\"sha256:ba78", "{ hash = \"sha256:ba78"),
            ("15ad\"", "15ad\", not_after = 2027-01-01T00:00:00Z }"),
        ]);
        assert_eq!(
            lines,
            [
                "client acme: key sha256:ba7816bf… becomes key sha256:ba7816bf… until 2027-01-01T00:00:00Z",
                "client initech is gone",
                "client hooli is new: contacts none; tier gold",
            ]
        );
        assert!(lines.iter().all(|line| !line.contains("ba7816bf8f01")), "a hash is not shown whole");
    }

    #[test]
    fn comments_order_and_spelling_are_no_change() {
        let lines = changed(&[
            ("default_tier", "# a comment\ndefault_tier"),
            (
                "\"100 requests/minute\", \"2000 requests/hour\"",
                "\"2000 requests/1 hour\", \"100 requests / minute\"",
            ),
        ]);
        assert!(lines.is_empty(), "{lines:?}");
    }
}
