//! `[unknown]`, `[routes]`, `[[endpoints]]`; addresses.

use std::collections::{HashMap, HashSet};

use super::limits;
use super::tiers::Known;
use super::words::unknown_word;
use crate::grammar::address::check_address;
use crate::grammar::name::check_name;
use crate::grammar::pattern;
use crate::model::{EndpointRule, Route, Unknown, UnknownAction};
use crate::node::{Node, Table};
use crate::routes::check_path;

/// More addresses than this are a list for a mail server to keep.
const MAX_ADDRESSES: usize = 50;

pub fn read_unknown(node: &Node<'_>, known: &Known) -> Unknown {
    let Some(table) = node.table(&["action", "tier"]) else {
        return Unknown::default();
    };
    let action = table.get("action").and_then(|node| read_action(&node)).unwrap_or_default();
    let tier = table.get("tier").and_then(|node| known.find(&node));
    if action == UnknownAction::Limit && table.get("tier").is_none() {
        table.problem("action = \"limit\" needs a tier", "add tier = \"…\"");
    }
    Unknown { action, tier }
}

fn read_action(node: &Node<'_>) -> Option<UnknownAction> {
    match node.text()? {
        "observe" => Some(UnknownAction::Observe),
        "limit" => Some(UnknownAction::Limit),
        "reject" => Some(UnknownAction::Reject),
        other => {
            unknown_word(node, other, &["observe", "limit", "reject"]);
            None
        }
    }
}

/// `[[endpoints]]`: limits over all clients together.
pub fn read_rules(node: &Node<'_>) -> Vec<EndpointRule> {
    limits::read_rules(node, &[]).into()
}

pub fn read_routes(node: &Node<'_>) -> Vec<Route> {
    let Some(table) = node.any_table() else {
        return Vec::new();
    };
    let mut shapes: HashMap<String, &str> = HashMap::new();
    let mut routes = Vec::new();
    for (name, node) in table.entries() {
        node.checked(check_name(name));
        let Some(route) = node.parsed(|text| parse_route(name, text)) else {
            continue;
        };
        if let Some(earlier) = shapes.insert(shape(&route), name) {
            let message = format!("route {earlier:?} has the same paths");
            node.problem(message, "keep one of the two, or tell them apart by method");
        }
        routes.push(route);
    }
    routes
}

fn parse_route(name: &str, text: &str) -> Result<Route, crate::Fault> {
    let pattern = pattern::parse(text)?;
    let path = pattern.target.unwrap_or_else(|| "*".into());
    check_path(&path)?;
    Ok(Route { name: name.into(), method: pattern.method, path })
}

/// What a route matches: its method and path, whatever its parameters are called.
fn shape(route: &Route) -> String {
    let plain = |segment: &str| if segment.starts_with('{') { "{}" } else { segment }.to_owned();
    let path: Vec<String> = route.path.split('/').map(plain).collect();
    format!("{} {}", route.method.as_deref().unwrap_or("*"), path.join("/"))
}

/// Warns of endpoint rules for names that no route gives. They are not wrong: a location of nginx, or
/// `weir_endpoint`, may give the name.
pub fn warn_of_unknown_routes(policy: &Table<'_>, routes: &[Route]) {
    if routes.is_empty() {
        return;
    }
    let names: HashSet<&str> = routes.iter().map(|route| &*route.name).collect();
    let by_path: HashMap<&str, &str> = routes.iter().map(|route| (&*route.path, &*route.name)).collect();
    let warn = |rules: &Table<'_>| warn_of_rules(rules, &names, &by_path);
    warn(policy);
    for key in ["tiers", "clients"] {
        let Some(owners) = policy.get(key) else {
            continue;
        };
        for (_, owner) in owners.any_table().iter().flat_map(|table| table.entries()) {
            owner.any_table().iter().for_each(warn);
        }
    }
}

fn warn_of_rules(owner: &Table<'_>, names: &HashSet<&str>, by_path: &HashMap<&str, &str>) {
    let Some(rules) = owner.get("endpoints") else {
        return;
    };
    for rule in rules.list().into_iter().flatten() {
        let Some(matcher) = rule.any_table().and_then(|table| table.get("match")) else {
            continue;
        };
        let Some(pattern) = matcher.text().and_then(|text| pattern::parse(text).ok()) else {
            continue;
        };
        let Some(endpoint) = pattern.target.filter(|target| !names.contains(&**target)) else {
            continue;
        };
        let remedy = match by_path.get(&*endpoint) {
            Some(name) => format!("did you mean the route's name, {name:?}?"),
            None => "keep it if a location or weir_endpoint gives this name".to_owned(),
        };
        matcher.warning(format!("no route is called {endpoint:?}"), remedy);
    }
}

/// A list of mail addresses, each once.
pub fn read_addresses(node: &Node<'_>) -> Vec<Box<str>> {
    let Some(items) = node.list() else {
        return Vec::new();
    };
    if items.len() > MAX_ADDRESSES {
        let message = format!("{} addresses are too many", items.len());
        node.problem(message, format!("at most {MAX_ADDRESSES}; use the address of a mailing list"));
        return Vec::new();
    }
    let mut addresses: Vec<Box<str>> = Vec::with_capacity(items.len());
    for item in items {
        let Some(address) = item.parsed(|text| check_address(text).map(|()| Box::from(text))) else {
            continue;
        };
        if addresses.contains(&address) {
            item.problem(format!("{address:?} stands here a second time"), "keep one");
        } else {
            addresses.push(address);
        }
    }
    addresses
}
