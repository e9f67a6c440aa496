//! `[[clients.ID.grants]]`: more of a limit for a while.

use weir_limiter::Limit;

use crate::grammar::limit::{parse_limit, spell_limit};
use crate::grammar::name::check_name;
use crate::model::Grant;
use crate::node::{Node, Table};

/// Reads the grants of a client that has these limits.
pub fn read_grants(node: &Node<'_>, limits: &[&Limit]) -> Box<[Grant]> {
    let items = node.list().into_iter().flatten();
    items.filter_map(|item| read_grant(&item.table(&["limit", "from", "until", "reason"])?, limits)).collect()
}

fn read_grant(table: &Table<'_>, limits: &[&Limit]) -> Option<Grant> {
    let (Some(limit), Some(until)) = (table.get("limit"), table.get("until")) else {
        let remedy = "add limit = \"500 requests/hour\" and until = 2026-12-01T18:00:00Z";
        table.problem("this grant has no limit or no end", remedy);
        return None;
    };
    let instant = |key| table.get(key).and_then(|node| node.instant());
    let valid_s = instant("from").unwrap_or(i64::MIN)..until.instant()?;
    if valid_s.is_empty() {
        table.problem("this grant ends before it begins", "put until after from");
    }
    let granted = limit.parsed(parse_limit)?;
    if !limits.iter().any(|known| (known.unit, known.window) == (granted.unit, granted.window)) {
        let known: Vec<String> = limits.iter().map(|known| format!("{:?}", spell_limit(known))).collect();
        let remedy = match known.is_empty() {
            true => "remove it: nothing limits this client but endpoints".to_owned(),
            false => format!("a grant adds to a limit of the same unit and window: {}", known.join(", ")),
        };
        limit.problem("this client has no such limit to add to", remedy);
    }
    let reason =
        table.get("reason").and_then(|node| node.parsed(|text| check_name(text).map(|()| text.into())));
    Some(Grant { limit: granted, valid_s, reason })
}
