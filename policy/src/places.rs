//! On which lines of the text the limits, clients and keys of a policy stand, for people who ask why.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::caller::Caller;
use crate::grammar::limit::{parse_limit, spell_limit};
use crate::grammar::pattern;
use crate::seat::Applied;

/// Where a limit stands: whose it is (a client, a tier, all), and what it counts ([`kind`]).
type Key = (Scope, String);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Client(String),
    Tier(String),
    All,
}

/// The lines of a policy's text, counted from 1.
#[derive(Default)]
pub struct Places {
    limits: HashMap<Key, usize>,
    clients: HashMap<String, usize>,
    tiers: HashMap<String, usize>,
}

impl Places {
    /// Of a text that was found right; of another one, nothing.
    pub fn of(text: &str) -> Places {
        // The mark is no part of the first line, as where the text is parsed.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut places = Places::default();
        if !errors.is_empty() {
            return places;
        }
        let lines = Lines::of(text);
        let document = document.into_inner();
        for (name, value) in entries(&document, "tiers") {
            places.tiers.insert(name.to_owned(), lines.at(value.0));
            places.read(&lines, &Scope::Tier(name.to_owned()), value.1);
        }
        for (name, value) in entries(&document, "clients") {
            places.clients.insert(name.to_owned(), lines.at(value.0));
            places.read(&lines, &Scope::Client(name.to_owned()), value.1);
        }
        places.read_rules(&lines, &Scope::All, &document);
        places
    }

    /// The line of the limit that a caller meets.
    pub fn limit(&self, caller: &Caller<'_>, applied: &Applied) -> Option<usize> {
        let kind = kind(&applied.name);
        let own = (Scope::Client(caller.id.to_owned()), kind.clone());
        let tier = (Scope::Tier(caller.tier.to_owned()), kind.clone());
        let all = (Scope::All, kind);
        match applied.counter.tag().starts_with("{*:") {
            true => self.limits.get(&all),
            false => self.limits.get(&own).or_else(|| self.limits.get(&tier)),
        }
        .copied()
    }

    pub fn client(&self, id: &str) -> Option<usize> {
        self.clients.get(id).copied()
    }

    pub fn tier(&self, name: &str) -> Option<usize> {
        self.tiers.get(name).copied()
    }

    fn read(&mut self, lines: &Lines, scope: &Scope, table: &DeTable<'_>) {
        self.read_limits(lines, scope, table, None);
        self.read_rules(lines, scope, table);
    }

    fn read_rules(&mut self, lines: &Lines, scope: &Scope, table: &DeTable<'_>) {
        let rules = table.get("endpoints").and_then(|rules| rules.get_ref().as_array());
        for rule in rules.into_iter().flatten().filter_map(|rule| rule.get_ref().as_table()) {
            let matches = rule.get("match").and_then(|text| text.get_ref().as_str());
            let Some(found) = matches.and_then(|text| pattern::parse(text).ok()) else {
                continue;
            };
            self.read_limits(lines, scope, rule, Some(&found.to_string()));
        }
    }

    fn read_limits(&mut self, lines: &Lines, scope: &Scope, table: &DeTable<'_>, rule: Option<&str>) {
        let limits = table.get("limits").and_then(|limits| limits.get_ref().as_array());
        for item in limits.into_iter().flatten() {
            let Some(limit) = item.get_ref().as_str().and_then(|text| parse_limit(text).ok()) else {
                continue;
            };
            let spelt = spell_limit(&limit);
            let name = rule.map_or(spelt.clone(), |rule| format!("{spelt} {rule}"));
            self.limits.insert((scope.clone(), kind(&name)), lines.at(item.span().start));
        }
    }
}

/// `bytes/hour` of `500 MB/hour`: all but the amount, which a grant adds to. Nobody has two of a kind.
fn kind(name: &str) -> String {
    let rest = name.split_once(' ').map_or(name, |(_, rest)| rest);
    let end = rest.find(['/', ' ']).unwrap_or(rest.len());
    match rest.split_at(end) {
        ("KB" | "MB" | "GB" | "TB" | "KiB" | "MiB" | "GiB" | "TiB", window) => format!("bytes{window}"),
        _ => rest.to_owned(),
    }
}

/// Names, offsets and tables within a table of tables.
fn entries<'a>(
    document: &'a DeTable<'_>,
    key: &str,
) -> impl Iterator<Item = (&'a str, (usize, &'a DeTable<'a>))> {
    let tables = document.get(key).and_then(|value| value.get_ref().as_table());
    tables.into_iter().flatten().filter_map(|(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        Some((&**name, (value.span().start, value.get_ref().as_table()?)))
    })
}

/// Where lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Book, parse};

    const TEXT: &str = r#"default_tier = "basic"
[tiers.basic]
limits = [
    "100 requests/minute",
    "2000 requests/hour",
]
[[tiers.basic.endpoints]]
match = "POST /orders"
limits = ["6 requests/minute"]
[[endpoints]]
match = "* /reports"
limits = ["100 requests/minute"]
[clients.acme]
limits = ["200 requests/60 seconds"]
[clients.initech]
[clients.hooli]
limits = ["900 MB/hour"]
[[clients.hooli.grants]]
limit  = "5 GB/hour"
until  = 2100-01-01T00:00:00Z
reason = "a sale"
[[clients.hooli.grants]]
limit  = "7 requests/minute"
until  = 2100-01-01T00:00:00Z
reason = "a sale"
"#;

    fn lines(client: &str, method: &str, endpoint: &str) -> Vec<Option<usize>> {
        let book = Book::compile(parse(TEXT).unwrap());
        let caller = book.by_client(client, None);
        let mut applied = Vec::new();
        book.limits(&caller, method, endpoint, 0, &mut applied);
        let places = Places::of(TEXT);
        applied.iter().map(|limit| places.limit(&caller, limit)).collect()
    }

    #[test]
    fn each_limit_has_the_line_on_which_it_stands() {
        assert_eq!(lines("initech", "GET", "/"), [Some(4), Some(5)]);
        assert_eq!(lines("acme", "GET", "/"), [Some(14), Some(5)], "its own, then its tier's");
        assert_eq!(lines("initech", "POST", "/orders"), [Some(4), Some(5), Some(9)]);
        assert_eq!(lines("initech", "GET", "/reports"), [Some(4), Some(5), Some(12)]);
        let granted = lines("hooli", "GET", "/");
        assert_eq!(granted, [Some(17), Some(4), Some(5)], "what a grant adds to");
        let places = Places::of(TEXT);
        assert_eq!((places.client("acme"), places.client("nobody")), (Some(13), None));
        assert_eq!(places.tier("basic"), Some(2));
    }

    #[test]
    fn what_is_no_policy_has_no_places() {
        for text in ["[", "", "tiers = 3", "[tiers]\nx = 1\n[clients]\na = []"] {
            let places = Places::of(text);
            assert!(places.limits.is_empty() && places.clients.is_empty(), "{text}");
        }
    }
}
