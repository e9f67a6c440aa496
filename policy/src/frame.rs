//! All of a policy that a gateway needs, but its clients: small, so each process has its own.

use std::sync::Arc;

use crate::codec::{Reader, Writer};
use crate::image::{webhooks, webhooks_code};
use crate::model::{DryRun, Over, Policy, Route, UnknownAction, Webhooks};
use crate::period::Zones;
use crate::plan::{Common, Plan, Words};
use crate::routes::Routes;
use crate::seat::Seat;

pub(crate) struct Frame {
    /// In the order of the policy.
    pub tiers: Box<[TierFrame]>,
    pub default_tier: Option<usize>,
    pub unknown: UnknownAction,
    pub unknown_tier: Option<usize>,
    pub over_all: Plan,
    /// One for each term of `over_all`.
    pub over_all_counters: Box<[Common]>,
    pub routes: Routes,
    pub zones: Zones,
}

pub(crate) struct TierFrame {
    pub name: Arc<str>,
    pub dry_run: DryRun,
    pub exempt: bool,
    pub webhooks: Webhooks,
    over: Over,
    plan: Plan,
}

impl TierFrame {
    pub fn seat(&self) -> Seat<'_> {
        Seat { own: &[], tier: Some(&self.plan), over: self.over }
    }
}

impl Frame {
    /// Few enough to look at each.
    pub fn position(&self, tier: &str) -> Option<usize> {
        self.tiers.iter().position(|known| *known.name == *tier)
    }

    /// What [`write()`] wrote; none where it did not.
    pub fn read(from: &mut Reader<'_>) -> Option<Frame> {
        let tiers: Box<[TierFrame]> = (0..from.count()?).map(|_| read_tier(from)).collect::<Option<_>>()?;
        let over_all = Plan::read(from)?;
        let counters = over_all.terms().iter().map(|term| Some(Common::new(from.text()?, &term.limit)));
        let over_all_counters = counters.collect::<Option<_>>()?;
        let routes: Vec<Route> = (0..from.count()?).map(|_| read_route(from)).collect::<Option<_>>()?;
        let unknown = match from.byte()? {
            0 => UnknownAction::Observe,
            1 => UnknownAction::Limit,
            _ => UnknownAction::Reject,
        };
        let named = [from.maybe_text()?, from.maybe_text()?];
        let [unknown_tier, default_tier] =
            named.map(|name| name.and_then(|name| tiers.iter().position(|tier| *tier.name == *name)));
        let zones: Vec<&str> = (0..from.count()?).map(|_| from.text()).collect::<Option<_>>()?;
        let (routes, zones) = (Routes::new(&routes), Zones::new(zones.into_iter()));
        Some(Frame { tiers, default_tier, unknown, unknown_tier, over_all, over_all_counters, routes, zones })
    }
}

fn read_tier(from: &mut Reader<'_>) -> Option<TierFrame> {
    let name = from.text()?.into();
    let dry_run = match (from.byte()?, from.byte()?) {
        (0, _) => DryRun::Nobody,
        (1, _) => DryRun::Everybody,
        (_, percent) => DryRun::Share(percent),
    };
    let (exempt, webhooks, over) = (from.byte()? == 1, webhooks(from.byte()?)?, from.over()?);
    Some(TierFrame { name, dry_run, exempt, webhooks, over, plan: Plan::read(from)? })
}

fn read_route(from: &mut Reader<'_>) -> Option<Route> {
    let (name, method, path) = (from.text()?.into(), from.maybe_text()?.map(Into::into), from.text()?.into());
    Some(Route { name, method, path })
}

/// The frame as bytes. `zones`: those of the clients.
pub(crate) fn write(policy: &Policy, zones: &[&str], words: &mut Words) -> Vec<u8> {
    let mut out = Writer::default();
    out.count(policy.tiers.len());
    for tier in &policy.tiers {
        out.text(&tier.name);
        let (kind, percent) = match tier.dry_run {
            DryRun::Nobody => (0, 0),
            DryRun::Everybody => (1, 0),
            DryRun::Share(percent) => (2, percent),
        };
        for byte in [kind, percent, u8::from(tier.exempt), webhooks_code(tier.webhooks)] {
            out.byte(byte);
        }
        out.over(tier.over);
        out.0.extend(Plan::new(&tier.limits, &tier.endpoints, words).write());
    }
    let (over_all, tags) = Plan::over_all(&policy.endpoints, words);
    out.0.extend(over_all.write());
    tags.iter().for_each(|tag| out.text(tag));
    out.count(policy.routes.len());
    for route in &policy.routes {
        out.text(&route.name);
        out.maybe_text(route.method.as_deref());
        out.text(&route.path);
    }
    out.byte(match policy.unknown.action {
        UnknownAction::Observe => 0,
        UnknownAction::Limit => 1,
        UnknownAction::Reject => 2,
    });
    out.maybe_text(policy.unknown.tier.as_deref());
    out.maybe_text(policy.default_tier.as_deref());
    out.count(zones.len());
    zones.iter().for_each(|zone| out.text(zone));
    out.0
}
