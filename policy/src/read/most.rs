//! How many limits one request can meet: the limiter asks no more than [`MAX_ASKS`] together.

use std::collections::BTreeMap;

use weir_limiter::{Limit, MAX_ASKS};

use crate::model::{EndpointRule, Policy};
use crate::node::{Node, Table};

/// Refuses a policy with which some request would meet more limits than the limiter can ask together.
/// What `over` adds does not count: it is asked in place of the limit that it stands beside.
pub fn check(policy: &Policy, table: &Table<'_>) {
    let common = || policy.endpoints.iter().map(whole);
    let alone = most(common());
    if alone > MAX_ASKS {
        complain(table.get("endpoints"), None, alone, "over all clients");
        return;
    }
    let mut of_tiers = 0;
    for tier in &policy.tiers {
        let found = tier.limits.len() + most(tier.endpoints.iter().map(whole).chain(common()));
        if found > MAX_ASKS {
            complain(table.get("tiers"), Some(&tier.name), found, "of the tier and over all clients");
        }
        of_tiers = of_tiers.max(found);
    }
    for client in &policy.clients {
        let own = client.limits.len() + client.endpoints.iter().map(|rule| rule.limits.len()).sum::<usize>();
        // Nearly all have few of their own, or none.
        if own == 0 || own + of_tiers <= MAX_ASKS || of_tiers > MAX_ASKS {
            continue;
        }
        // The authenticator may name any tier for it.
        let with = policy.tiers.iter().map(|tier| {
            let besides = |rule: &EndpointRule| {
                client
                    .endpoints
                    .iter()
                    .find(|own| (&own.method, &own.endpoint) == (&rule.method, &rule.endpoint))
            };
            let kept = |rule| {
                let own = besides(rule).map_or(&[][..], |own| &own.limits);
                Counted { limits: union(own, &rule.limits) - own.len(), ..whole(rule) }
            };
            let rules = client.endpoints.iter().map(whole).chain(tier.endpoints.iter().map(kept));
            union(&client.limits, &tier.limits) + most(rules.chain(common()))
        });
        let found = with.max().unwrap_or(0);
        if found > MAX_ASKS {
            let whose = "of the client, of a tier that it can have and over all clients";
            complain(table.get("clients"), Some(&client.id), found, whose);
        }
    }
}

fn complain(tables: Option<Node<'_>>, name: Option<&str>, found: usize, whose: &str) {
    let message = format!(
        "a request can meet {found} limits here ({whose} together), and no more than {MAX_ASKS} can be asked at once"
    );
    let remedy = format!("remove {} of those that apply to the same method and endpoint", found - MAX_ASKS);
    let Some(node) = tables else { return };
    match name {
        Some(name) => {
            if let Some(node) = node.any_table().and_then(|owners| owners.get(name)) {
                node.problem(message, remedy);
            }
        }
        None => node.problem(message, remedy),
    }
}

/// How many limits both have together, those that count the same once.
fn union(own: &[Limit], others: &[Limit]) -> usize {
    let replaced =
        |other: &&Limit| own.iter().any(|own| (own.unit, own.window) == (other.unit, other.window));
    own.len() + others.iter().filter(|other| !replaced(other)).count()
}

/// A rule, and how many of its limits count.
struct Counted<'p> {
    method: Option<&'p str>,
    endpoint: Option<&'p str>,
    limits: usize,
}

fn whole(rule: &EndpointRule) -> Counted<'_> {
    Counted { method: rule.method.as_deref(), endpoint: rule.endpoint.as_deref(), limits: rule.limits.len() }
}

/// Limits by method, and those of any method.
#[derive(Default)]
struct Tally<'p> {
    any: usize,
    by_method: BTreeMap<&'p str, usize>,
}

/// The most limits of these rules that one request can meet.
fn most<'p>(rules: impl Iterator<Item = Counted<'p>>) -> usize {
    let mut anywhere = Tally::default();
    let mut by_endpoint: BTreeMap<&str, Tally<'p>> = BTreeMap::new();
    for rule in rules {
        let tally = match rule.endpoint {
            Some(endpoint) => by_endpoint.entry(endpoint).or_default(),
            None => &mut anywhere,
        };
        match rule.method {
            Some(method) => *tally.by_method.entry(method).or_default() += rule.limits,
            None => tally.any += rule.limits,
        }
    }
    let general = anywhere.by_method.values().copied().max().unwrap_or(0);
    let here = |tally: &Tally<'_>| {
        let of = |(method, n): (&&str, &usize)| n + anywhere.by_method.get(method).unwrap_or(&0);
        tally.any + tally.by_method.iter().map(of).max().unwrap_or(0).max(general)
    };
    anywhere.any + by_endpoint.values().map(here).max().unwrap_or(0).max(general)
}
