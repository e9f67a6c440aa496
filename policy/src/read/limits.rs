//! `limits = [...]` and `[[….endpoints]]`, wherever they stand.

use std::collections::HashSet;

use weir_limiter::{Limit, Window};

use crate::grammar::limit::{parse_limit, spell_limit};
use crate::grammar::{over, pattern};
use crate::model::EndpointRule;
use crate::node::{Node, Table};

/// Reads `limits`. `others` are limits that apply besides, unless one of these replaces them.
pub fn read_limits(node: &Node<'_>, others: &[Limit]) -> Box<[Limit]> {
    let mut read: Vec<(Limit, Node<'_>)> = Vec::new();
    for item in node.list().into_iter().flatten() {
        let Some(limit) = item.parsed(parse_limit) else {
            continue;
        };
        match read.iter().find(|(earlier, _)| is_same(earlier, &limit)) {
            Some((earlier, _)) => item.problem(
                format!("a second limit of {} in the same window", limit.unit.word()),
                format!("keep one of \"{}\" and \"{}\"", spell_limit(earlier), spell_limit(&limit)),
            ),
            None => read.push((limit, item)),
        }
    }
    let limits: Box<[Limit]> = read.iter().map(|(limit, _)| *limit).collect();
    let kept = others.iter().filter(|other| !limits.iter().any(|limit| is_same(limit, other)));
    let all: Vec<Limit> = limits.iter().chain(kept).copied().collect();
    for (limit, item) in &read {
        warn_if_idle(item, limit, &all);
    }
    limits
}

/// Whether both count the same, so that one replaces the other.
fn is_same(a: &Limit, b: &Limit) -> bool {
    (a.unit, a.window) == (b.unit, b.window)
}

/// Warns of a limit that another one keeps from ever being reached.
fn warn_if_idle(node: &Node<'_>, limit: &Limit, all: &[Limit]) {
    let Some((other, most)) = all.iter().find_map(|other| Some((other, most_beside(limit, other)?))) else {
        return;
    };
    let window = limit.window;
    node.warning(
        format!(
            "this limit is never reached: \"{}\" lets at most {most} through in this window ({window})",
            spell_limit(other)
        ),
        format!("remove it, or set it below {most}"),
    );
}

/// The most that `other` lets through in the window of `limit`, if `limit` can then never refuse.
/// Bytes are known only afterwards and may overrun, so about them nothing is sure.
fn most_beside(limit: &Limit, other: &Limit) -> Option<u64> {
    if limit.unit != other.unit || limit.unit.is_known_afterwards() || limit.window == other.window {
        return None;
    }
    let most = other.amount.saturating_mul(covering(limit.window, other.window));
    (most > 0 && most <= limit.amount).then_some(most)
}

/// How many of the `other` windows cover one window, at most.
fn covering(window: Window, other: Window) -> u64 {
    const HOUR_MS: u64 = 3_600_000;
    let longest_ms = match window {
        Window::Sliding { ms } => ms,
        Window::Day => 25 * HOUR_MS,
        Window::Month => (31 * 24 + 1) * HOUR_MS,
    };
    match (window, other) {
        (_, Window::Sliding { ms }) => longest_ms.div_ceil(ms),
        (Window::Month, Window::Day) => 31,
        (Window::Day | Window::Month, _) => 1,
        // It may begin and end in the middle of a period.
        (Window::Sliding { ms }, Window::Day) => ms.div_ceil(23 * HOUR_MS) + 1,
        (Window::Sliding { ms }, Window::Month) => ms.div_ceil(28 * 24 * HOUR_MS) + 1,
    }
}

/// Reads a list of endpoint rules; `others` are the rules that apply besides.
pub fn read_rules(node: &Node<'_>, others: &[EndpointRule]) -> Box<[EndpointRule]> {
    let mut seen = HashSet::new();
    let mut rules = Vec::new();
    for item in node.list().into_iter().flatten() {
        let Some(rule) = item.table(&["match", "limits", "over"]).and_then(|t| read_rule(&t, others)) else {
            continue;
        };
        if seen.insert(rule.to_string()) {
            rules.push(rule);
        } else {
            let message = format!("a second rule for \"{rule}\"");
            item.problem(message, "put all limits of this endpoint into one rule");
        }
    }
    rules.into()
}

fn read_rule(table: &Table<'_>, others: &[EndpointRule]) -> Option<EndpointRule> {
    let Some(matcher) = table.get("match") else {
        table.problem("this rule has no match", "add match = \"POST /orders\"");
        return None;
    };
    let pattern = matcher.parsed(pattern::parse);
    if let Some(target) = pattern.as_ref().and_then(|pattern| pattern.target.as_deref())
        && target.contains('*')
    {
        matcher.warning(
            format!("this matches only an endpoint whose name is {target:?}, star included"),
            "a * stands for any endpoint only on its own",
        );
    }
    let beside = others.iter().find(|other| {
        pattern.as_ref().is_some_and(|p| (&p.method, &p.target) == (&other.method, &other.endpoint))
    });
    let beside = beside.map_or(&[][..], |other| &other.limits);
    let limits = table.get("limits").map(|node| read_limits(&node, beside)).unwrap_or_default();
    if table.get("limits").is_none_or(|node| node.is_empty_list()) {
        table.problem("this rule has no limits", "add limits = [\"100 requests/minute\"]");
    }
    let over = table.get("over").and_then(|node| node.parsed(over::parse));
    pattern.map(|pattern| EndpointRule { method: pattern.method, endpoint: pattern.target, limits, over })
}
