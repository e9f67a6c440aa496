//! `[tiers]`: what one buys.

use std::collections::HashSet;
use std::sync::Arc;

use super::limits::{read_limits, read_rules};
use super::words::read_webhooks;
use crate::grammar::name::{UNKNOWN_TIER, check_name};
use crate::grammar::{duration, over, share};
use crate::model::{DryRun, LatencyObjective, Objective, Over, Tier, Webhooks};
use crate::node::{Node, Table};
use crate::problem::quote;
use crate::suggest::did_you_mean;

const KEYS: [&str; 7] = ["limits", "over", "objective", "endpoints", "dry_run", "exempt", "webhooks"];

const DEFAULT_OBJECTIVE_WINDOW_S: u64 = 30 * 86_400;

/// The names of all tiers, also of those with something wrong in them: one fault should not make
/// every client of the tier a fault too.
pub struct Known {
    names: HashSet<Arc<str>>,
}

impl Known {
    /// The tier that a node names, or `None` after complaining.
    pub fn find(&self, node: &Node<'_>) -> Option<Arc<str>> {
        let name = node.text()?;
        let found = self.names.get(name).cloned();
        if found.is_none() {
            let remedy = did_you_mean(name, self.names.iter().map(|name| &**name), || {
                "name one of [tiers], or add this one there".to_owned()
            });
            node.problem(format!("no tier is called {}", quote(name)), remedy);
        }
        found
    }
}

/// Reads `[tiers]`. A policy has at least one: without, an empty file (an editor that is about to
/// write) would lift every limit.
pub fn read(policy: &Table<'_>) -> (Vec<Tier>, Known) {
    let node = policy.get("tiers");
    let entries = node.as_ref().and_then(Node::any_table);
    let tiers: Vec<Tier> =
        entries.iter().flat_map(|table| table.entries()).map(|(name, node)| read_tier(name, &node)).collect();
    if tiers.is_empty() && node.as_ref().is_none_or(Node::is_table) {
        policy.problem("the policy has no tiers", "add [tiers.basic] with its limits");
    }
    let names = tiers.iter().map(|tier| tier.name.clone()).collect();
    (tiers, Known { names })
}

fn read_tier(name: &str, node: &Node<'_>) -> Tier {
    check_tier_name(name, node);
    let mut tier = Tier {
        name: name.into(),
        limits: Box::default(),
        endpoints: Box::default(),
        objective: None,
        dry_run: DryRun::Nobody,
        exempt: false,
        over: Over::Reject,
        webhooks: Webhooks::Count,
    };
    if let Some(table) = node.table(&KEYS) {
        fill_tier(&mut tier, &table);
    }
    tier
}

fn check_tier_name(name: &str, node: &Node<'_>) {
    node.checked(check_name(name));
    if name == UNKNOWN_TIER {
        let remedy = "choose another name";
        node.problem("this tier name stands for callers without a tier", remedy);
    }
}

fn fill_tier(tier: &mut Tier, table: &Table<'_>) {
    tier.webhooks = read_webhooks(table).unwrap_or_default();
    tier.over = table.get("over").and_then(|node| node.parsed(over::parse)).unwrap_or_default();
    tier.limits = table.get("limits").map(|node| read_limits(&node, &[])).unwrap_or_default();
    tier.endpoints = table.get("endpoints").map(|node| read_rules(&node, &[])).unwrap_or_default();
    tier.objective = table.get("objective").and_then(|node| read_objective(&node));
    tier.dry_run = table.get("dry_run").and_then(|node| read_dry_run(&node)).unwrap_or_default();
    let exempt = table.get("exempt").map(|node| node.flag());
    tier.exempt = exempt.flatten().unwrap_or(false);
    // A flag that is none was complained about; whether limits are needed is not known then.
    if exempt != Some(None) {
        check_has_limits(tier.exempt, table);
    }
}

fn check_has_limits(exempt: bool, table: &Table<'_>) {
    let given = |key| table.get(key).filter(|node| !node.is_empty_list());
    match (given("limits").or(given("endpoints")), exempt) {
        (None, false) => {
            let remedy = "add limits = [\"100 requests/minute\"], or exempt = true";
            table.problem("this tier has no limits", remedy);
        }
        (Some(limits), true) => warn_of_exempt(&limits),
        _ => {}
    }
}

/// Warns of limits that `exempt = true` suspends.
pub fn warn_of_exempt(limits: &Node<'_>) {
    limits.warning("exempt = true beside this: nothing here is enforced", "keep one of the two");
}

fn read_dry_run(node: &Node<'_>) -> Option<DryRun> {
    if node.is_flag() {
        let everybody = node.flag()?;
        return Some(if everybody { DryRun::Everybody } else { DryRun::Nobody });
    }
    node.parsed(share::parse).map(DryRun::Share)
}

fn read_objective(node: &Node<'_>) -> Option<Objective> {
    let table = node.table(&["availability", "latency_ms", "latency_share", "window"])?;
    let availability = table.get("availability").and_then(|node| read_percent(&node));
    let latency = read_latency(&table);
    if ["availability", "latency_ms", "latency_share"].iter().all(|key| table.get(key).is_none()) {
        table.problem("this objective promises nothing", "add availability = 99.9");
    }
    let window = table.get("window").and_then(|node| node.parsed(duration::parse));
    let window_s = window.unwrap_or(DEFAULT_OBJECTIVE_WINDOW_S);
    Some(Objective { availability, latency, window_s })
}

fn read_latency(table: &Table<'_>) -> Option<LatencyObjective> {
    let (ms, share) = (table.get("latency_ms"), table.get("latency_share"));
    if ms.is_some() != share.is_some() {
        let remedy = "give latency_ms and latency_share together";
        table.problem("half of a latency objective", remedy);
    }
    let ms = ms.and_then(|node| {
        let ms = node.whole()?;
        if ms == 0 {
            node.problem("nothing is answered in 0 ms", "write the milliseconds that were promised");
        }
        Some(ms)
    });
    let share = share.and_then(|node| read_percent(&node));
    Some(LatencyObjective { ms: ms?, share: share? })
}

/// More than 0 and less than 100: a promise of 100 % leaves no budget to measure.
fn read_percent(node: &Node<'_>) -> Option<f64> {
    let percent = node.number()?;
    if percent > 0.0 && percent < 100.0 {
        return Some(percent);
    }
    node.problem(format!("{percent} is out of bounds"), "write percent between 0 and 100, like 99.9");
    None
}
