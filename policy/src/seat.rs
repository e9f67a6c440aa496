//! The limits of one client: its own and its tier's, and the counters they stand in.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use weir_limiter::{Counter, Limit};

use crate::codec::Reader;
use crate::model::{Client, Over, Policy};
use crate::period::{Moment, Period};
use crate::plan::{Plan, Term, Words, client_tag, counter_of, counter_over};

/// What compiling adds to a client.
#[derive(Debug)]
pub(crate) struct Member {
    /// Position among the policy's tiers.
    pub tier: u32,
    pub dry_run: bool,
    pub exempt: bool,
    /// Limits of this client alone, see [`Plan::write`]; empty where it has none.
    pub own: Vec<u8>,
}

/// Where a caller's limits are found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat<'a> {
    /// As in [`Member`].
    pub own: &'a [u8],
    pub tier: Option<&'a Plan>,
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
    /// slides. Then this is out of date, and [`crate::Tables::limits`] tells of the next one.
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
        let own = Plan::read(&mut Reader(self.own)).unwrap_or_default();
        let tag = client_tag(id);
        let applied = |term: &Term| {
            let over = term.over.unwrap_or(self.over);
            Applied::new(term, over, moment, |period| counter_of(&tag, &term.rest, period))
        };
        out.extend(own.applying(method, endpoint).map(|at| applied(&own.terms()[at])));
        let Some(tier) = self.tier else { return };
        let terms = tier.applying(method, endpoint).map(|at| &tier.terms()[at]);
        out.extend(terms.filter(|term| !own.replaces(term)).map(applied));
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
pub(crate) fn members(policy: &Policy, tiers: &HashMap<&str, usize>, words: &mut Words) -> Box<[Member]> {
    let member = |client: &Client| {
        let position = tiers.get(&*client.tier).copied().unwrap_or_default();
        let tier = &policy.tiers[position];
        let own = Plan::new(&client.limits, &client.endpoints, words);
        Member {
            tier: position as u32,
            dry_run: client.dry_run.unwrap_or_else(|| tier.dry_run.covers(&client.id)),
            exempt: client.exempt.unwrap_or(tier.exempt),
            own: if own.is_empty() { Vec::new() } else { own.write() },
        }
    };
    policy.clients.iter().map(member).collect()
}
