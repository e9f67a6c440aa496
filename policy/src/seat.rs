//! The limits of one client: its own and its tier's, and the counters they stand in.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use weir_limiter::{Counter, Limit};

use crate::grammar::name::ANONYMOUS;
use crate::model::{Client, Policy, UnknownAction};
use crate::plan::{Plan, Term, Words, client_tag};

/// What compiling adds to a client. Small: there may be 100,000.
#[derive(Debug)]
pub(crate) struct Member {
    /// Position among the policy's tiers.
    pub tier: u32,
    pub dry_run: bool,
    pub exempt: bool,
    /// Limits of this client alone.
    pub own: Option<Box<Plan>>,
    /// For each term of its own and of its tier, in this order. Made by the client's first request:
    /// most of 100,000 clients are not there today.
    pub counters: OnceLock<Box<[Arc<Counter>]>>,
}

/// Where a caller's limits are found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat<'a> {
    pub own: Option<&'a Plan>,
    pub tier: Option<&'a Plan>,
    /// Where the counters of these very plans are kept, if anywhere.
    pub counters: Option<&'a OnceLock<Box<[Arc<Counter>]>>>,
}

/// One limit that applies to a request.
#[derive(Clone, Debug)]
pub struct Applied {
    pub counter: Arc<Counter>,
    pub limit: Limit,
    pub window_ms: u64,
    /// For people: `100 requests/minute`, `600 requests/minute POST /orders`.
    pub name: Arc<str>,
    /// For machines: `requests-60s`; letters, digits and hyphens, unique within the policy.
    pub id: Arc<str>,
}

impl Seat<'_> {
    /// Adds the limits of this client and its tier.
    pub fn limits(&self, id: &str, method: &str, endpoint: &str, out: &mut Vec<Applied>) {
        let kept = self.counters.map(|cell| cell.get_or_init(|| self.all_counters(id)));
        let counter = |term: &Term, at: usize| match kept {
            Some(counters) => counters[at].clone(),
            None => Counter::new(&client_tag(id), &term.rest),
        };
        let applied = |term: &Term, at: usize| Applied::new(term, counter(term, at));
        if let Some(own) = self.own {
            out.extend(own.applying(method, endpoint).map(|at| applied(&own.terms()[at], at)));
        }
        let first = self.own.map_or(0, |own| own.terms().len());
        let replaced = |term: &Term| self.own.is_some_and(|own| own.replaces(term));
        let Some(tier) = self.tier else { return };
        for at in tier.applying(method, endpoint) {
            let term = &tier.terms()[at];
            if !replaced(term) {
                out.push(applied(term, first + at));
            }
        }
    }

    /// In the order in which [`Seat::limits`] counts terms.
    fn all_counters(&self, id: &str) -> Box<[Arc<Counter>]> {
        let tag = client_tag(id);
        let plans = self.own.into_iter().chain(self.tier);
        plans.flat_map(Plan::terms).map(|term| Counter::new(&tag, &term.rest)).collect()
    }
}

impl Applied {
    pub(crate) fn new(term: &Term, counter: Arc<Counter>) -> Applied {
        Applied {
            counter,
            limit: term.limit,
            window_ms: term.window_ms,
            name: term.name.clone(),
            id: term.id.clone(),
        }
    }
}

/// One member for each client of the policy, in its order.
pub(crate) fn members(policy: &Policy, tiers: &HashMap<Arc<str>, usize>, words: &mut Words) -> Box<[Member]> {
    let member = |client: &Client| {
        let position = tiers.get(&client.tier).copied().unwrap_or_default();
        let tier = &policy.tiers[position];
        let own = Plan::new(&client.limits, &client.endpoints, words);
        Member {
            tier: position as u32,
            dry_run: client.dry_run.unwrap_or_else(|| tier.dry_run.covers(&client.id)),
            exempt: client.exempt.unwrap_or(tier.exempt),
            own: (!own.is_empty()).then(|| Box::new(own)),
            counters: OnceLock::new(),
        }
    };
    policy.clients.iter().map(member).collect()
}

/// The member that all unknown callers share, if they are limited.
pub(crate) fn anonymous(policy: &Policy, tiers: &HashMap<Arc<str>, usize>) -> Option<Member> {
    let name = policy.unknown.tier.as_ref();
    let name = name.filter(|_| policy.unknown.action == UnknownAction::Limit)?;
    let position = *tiers.get(name)?;
    let tier = &policy.tiers[position];
    Some(Member {
        tier: position as u32,
        dry_run: tier.dry_run.covers(ANONYMOUS),
        exempt: tier.exempt,
        own: None,
        counters: OnceLock::new(),
    })
}
