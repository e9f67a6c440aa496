//! The limits of one client: its own and its tier's, and the counters they stand in.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use weir_limiter::{Counter, Limit};

use crate::grammar::name::ANONYMOUS;
use crate::model::{Client, Over, Policy, UnknownAction};
use crate::period::{Moment, Period};
use crate::plan::{Plan, Term, Words, client_tag, counter_of, counter_over, lasting_counter};

/// What compiling adds to a client. Small: there may be 100,000.
#[derive(Debug)]
pub(crate) struct Member {
    /// Position among the policy's tiers.
    pub tier: u32,
    pub dry_run: bool,
    pub exempt: bool,
    /// Limits of this client alone.
    pub own: Option<Box<Plan>>,
    pub counters: Counters,
}

/// For each term of a client's own and of its tier, in this order; none for calendar quotas, which have
/// one for each period. Made by the client's first request: most of 100,000 clients are not there today.
pub(crate) type Counters = OnceLock<Box<[Option<Arc<Counter>>]>>;

/// Where a caller's limits are found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat<'a> {
    pub own: Option<&'a Plan>,
    pub tier: Option<&'a Plan>,
    /// Where the counters of these very plans are kept, if anywhere.
    pub counters: Option<&'a Counters>,
    /// What the tier says of requests over a limit.
    pub over: Over,
}

/// One limit that applies to a request.
#[derive(Clone, Debug)]
pub struct Applied {
    pub counter: Arc<Counter>,
    pub limit: Limit,
    /// The length of the window, or of this period of the calendar.
    pub window_ms: u64,
    /// For how long the counter has to count a unit: the window, or longer than any period lasts.
    pub counted_ms: u64,
    /// When this period of the calendar begins and ends, in seconds since 1970; none for a window that
    /// slides. Then this is out of date, and [`crate::Book::limits`] tells of the next one.
    pub period_s: Option<Range<i64>>,
    /// For people: `100 requests/minute`, `600 requests/minute POST /orders`.
    pub name: Arc<str>,
    /// For machines: `requests-60s`, `requests-day`; letters, digits and hyphens, unique within the policy.
    pub id: Arc<str>,
    /// What happens to a request that is over the limit ...
    pub over: Over,
    /// ... and where is counted what is let through or held back then; none for [`Over::Reject`].
    pub counter_over: Option<Arc<Counter>>,
}

impl Seat<'_> {
    /// Adds the limits of this client and its tier.
    pub fn limits(&self, id: &str, method: &str, endpoint: &str, moment: Moment<'_>, out: &mut Vec<Applied>) {
        let kept = self.counters.map(|cell| cell.get_or_init(|| self.all_counters(id)));
        let applied = |term: &Term, at: usize| {
            let kept = kept.and_then(|counters| counters[at].clone());
            let counter = |period: Option<&Period>| counter_of(&client_tag(id), &term.rest, period);
            let over = term.over.unwrap_or(self.over);
            Applied::new(term, over, moment, |period| kept.unwrap_or_else(|| counter(period)))
        };
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
    fn all_counters(&self, id: &str) -> Box<[Option<Arc<Counter>>]> {
        let tag = client_tag(id);
        let plans = self.own.into_iter().chain(self.tier);
        plans.flat_map(Plan::terms).map(|term| lasting_counter(&term.limit, &tag, &term.rest)).collect()
    }
}

impl Applied {
    /// A limit at a moment, counted where `counter` says.
    pub(crate) fn new(
        term: &Term,
        over: Over,
        moment: Moment<'_>,
        counter: impl FnOnce(Option<&Period>) -> Arc<Counter>,
    ) -> Applied {
        let period = moment.period(term.limit.window);
        let counter = counter(period.as_ref());
        Applied {
            over,
            counter_over: counter_over(&counter, over),
            counter,
            limit: term.limit,
            window_ms: period.as_ref().map_or(term.counted_ms, Period::length_ms),
            counted_ms: term.counted_ms,
            period_s: period.map(|period| period.span_s),
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
