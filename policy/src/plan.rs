//! The limits of a tier (or of one client, or of all clients together) in the form that a request
//! asks them in.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use weir_limiter::{Counter, Limit, Unit, Window};

use crate::codec::{Reader, Writer};
use crate::grammar::limit::spell_limit;
use crate::model::{EndpointRule, Over};
use crate::period::Period;

/// The longest id of a limit, before a number that keeps it apart from others.
const MAX_ID: usize = 48;

/// One limit of a plan: all that is known about it without the client.
#[derive(Debug)]
pub(crate) struct Term {
    pub limit: Limit,
    pub counted_ms: u64,
    pub name: Arc<str>,
    pub id: Arc<str>,
    /// The end of the counter's name, after the client: `:requests:60000` and the rule, if any; for a
    /// calendar quota the period comes behind it. Two terms with the same end count the same.
    pub rest: Box<str>,
    /// What the rule says of requests over this limit.
    pub over: Option<Over>,
}

/// Limits that stand together, and which of them a request meets.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    terms: Vec<Term>,
    /// So many of the terms, from the first, apply to every request.
    always: usize,
    by_endpoint: HashMap<Box<str>, Vec<Rule>>,
    any_endpoint: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    method: Option<Box<str>>,
    terms: Range<usize>,
}

impl Plan {
    /// Limits of each client.
    pub fn new(limits: &[Limit], rules: &[EndpointRule], words: &mut Words) -> Plan {
        let mut plan = Plan::default();
        plan.terms.extend(limits.iter().map(|limit| words.term(limit, None)));
        plan.always = plan.terms.len();
        for rule in rules {
            let text = rule.to_string();
            plan.add(rule, |limit| Term { over: rule.over, ..words.term(limit, Some(&text)) });
        }
        plan
    }

    /// Limits over all clients together, and the hash tag of each of its terms: each rule has its
    /// own.
    pub fn over_all(rules: &[EndpointRule], words: &mut Words) -> (Plan, Vec<String>) {
        let mut plan = Plan::default();
        let mut tags = Vec::new();
        for rule in rules {
            let text = rule.to_string();
            let tag = format!("*:{}", encoded(&text));
            plan.add(rule, |limit| {
                tags.push(tag.clone());
                Term { over: rule.over, ..words.term_over_all(limit, &text) }
            });
        }
        (plan, tags)
    }

    fn add(&mut self, rule: &EndpointRule, term: impl FnMut(&Limit) -> Term) {
        let from = self.terms.len();
        self.terms.extend(rule.limits.iter().map(term));
        let terms = from..self.terms.len();
        let list = match &rule.endpoint {
            Some(endpoint) => self.by_endpoint.entry(endpoint.clone()).or_default(),
            None => &mut self.any_endpoint,
        };
        list.push(Rule { method: rule.method.clone(), terms });
    }

    /// The plan as bytes, for [`Plan::read`].
    pub fn write(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.count(self.terms.len());
        for term in &self.terms {
            out.limit(&term.limit);
            for text in [&*term.name, &*term.id, &*term.rest] {
                out.text(text);
            }
            out.byte(u8::from(term.over.is_some()));
            out.over(term.over.unwrap_or_default());
        }
        out.count(self.always);
        let named =
            self.by_endpoint.iter().flat_map(|(name, rules)| rules.iter().map(move |r| (Some(&**name), r)));
        let rules: Vec<_> = named.chain(self.any_endpoint.iter().map(|rule| (None, rule))).collect();
        out.count(rules.len());
        for (endpoint, rule) in rules {
            out.maybe_text(endpoint);
            out.maybe_text(rule.method.as_deref());
            out.count(rule.terms.start);
            out.count(rule.terms.end);
        }
        out.0
    }

    pub fn read(from: &mut Reader<'_>) -> Option<Plan> {
        let mut plan = Plan::default();
        for _ in 0..from.count()? {
            let limit = from.limit()?;
            let (name, id, rest) = (from.text()?.into(), from.text()?.into(), from.text()?.into());
            let has_over = from.byte()? == 1;
            let over = from.over()?;
            let (counted_ms, over) = (counted_ms(limit.window), has_over.then_some(over));
            plan.terms.push(Term { limit, counted_ms, name, id, rest, over });
        }
        let is_there = |&at: &usize| at <= plan.terms.len();
        plan.always = from.count().filter(is_there)?;
        for _ in 0..from.count()? {
            let (endpoint, method) = (from.maybe_text()?, from.maybe_text()?.map(Into::into));
            let terms = from.count()?..from.count().filter(is_there)?;
            let rule = Rule { method, terms };
            match endpoint {
                Some(endpoint) => plan.by_endpoint.entry(endpoint.into()).or_default().push(rule),
                None => plan.any_endpoint.push(rule),
            }
        }
        Some(plan)
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Which terms a request meets.
    pub fn applying(&self, method: &str, endpoint: &str) -> impl Iterator<Item = usize> {
        let here = self.by_endpoint.get(endpoint).into_iter().flatten();
        let rules = here.chain(&self.any_endpoint);
        let fits = move |rule: &&Rule| rule.method.as_deref().is_none_or(|known| known == method);
        (0..self.always).chain(rules.filter(fits).flat_map(|rule| rule.terms.clone()))
    }

    /// Whether this plan has a limit that counts the same, and so replaces it.
    pub fn replaces(&self, term: &Term) -> bool {
        self.terms.iter().any(|own| own.rest == term.rest)
    }
}

/// Where a limit over all clients is counted.
pub(crate) struct Common {
    tag: Box<str>,
    /// None for a calendar quota, which has one for each period.
    counter: Option<Arc<Counter>>,
}

impl Common {
    pub fn new(tag: &str, limit: &Limit) -> Common {
        Common { tag: tag.into(), counter: lasting_counter(limit, tag, &counted(limit)) }
    }

    pub fn counter(&self, limit: &Limit, period: Option<&Period>) -> Arc<Counter> {
        self.counter.clone().unwrap_or_else(|| counter_of(&self.tag, &counted(limit), period))
    }
}

/// The counter of a limit whose window slides: it has one for all times.
pub(crate) fn lasting_counter(limit: &Limit, tag: &str, rest: &str) -> Option<Arc<Counter>> {
    matches!(limit.window, Window::Sliding { .. }).then(|| Counter::new(tag, rest))
}

/// `{acme}:requests:60000`, `{acme}:requests:day:2026-11-24`
pub(crate) fn counter_of(tag: &str, rest: &str, period: Option<&Period>) -> Arc<Counter> {
    match period {
        Some(period) => Counter::new(tag, &format!("{rest}:{}", period.name)),
        None => Counter::new(tag, rest),
    }
}

/// The counter that stands beside that of a limit for what is over it: `{acme}:requests:60000:over`, and
/// `{acme}:requests:60000:delay:2000` for how many are held back. No rule ends like this: each has a
/// blank in it.
pub(crate) fn counter_over(counter: &Counter, over: Over) -> Option<Arc<Counter>> {
    let end = match over {
        Over::Reject => return None,
        Over::Delay { ms, .. } => format!(":delay:{ms}"),
        Over::Degrade { .. } => ":over".to_owned(),
    };
    // The tag stands in braces.
    let (tag, rest) = (&counter.name[1..counter.tag_len - 1], &counter.name[counter.tag_len..]);
    Some(Counter::new(tag, &format!("{rest}{end}")))
}

/// The hash tag of a client's counters. Braces would end the tag early, and a star at the beginning
/// belongs to the limits over all clients.
pub(crate) fn client_tag(id: &str) -> String {
    match id.strip_prefix('*') {
        Some(rest) => format!("%2A{}", encoded(rest)),
        None => encoded(id),
    }
}

fn encoded(text: &str) -> String {
    text.replace('%', "%25").replace('{', "%7B").replace('}', "%7D")
}

/// What a limit counts and over which window: `:requests:60000`, `:requests:day`. Never how much.
fn counted(limit: &Limit) -> String {
    match limit.window {
        Window::Sliding { ms } => format!(":{}:{ms}", limit.unit.word()),
        period => format!(":{}:{period}", limit.unit.word()),
    }
}

/// For how long a unit is counted. A calendar quota has a counter for each period, in which nothing may
/// be forgotten while anybody uses it: two days more than the period has leave room for 25-hour days, a
/// client that moves to another time zone, and gateways whose clocks are hours apart. It is the same
/// for all periods, since a counter's window must not change.
fn counted_ms(window: Window) -> u64 {
    const DAY_MS: u64 = 86_400_000;
    match window {
        Window::Sliding { ms } => ms,
        Window::Day => 3 * DAY_MS,
        Window::Month => 33 * DAY_MS,
    }
}

/// The texts that go with limits, each kept once however many clients share it.
#[derive(Default)]
pub(crate) struct Words {
    names: HashSet<Arc<str>>,
    ids: HashMap<String, Arc<str>>,
    taken: HashSet<Arc<str>>,
}

impl Words {
    fn term(&mut self, limit: &Limit, rule: Option<&str>) -> Term {
        let counted = counted(limit);
        let rest = match rule {
            Some(rule) => format!("{counted}:{}", encoded(rule)),
            None => counted,
        };
        self.made(limit, rule, rest, "")
    }

    fn term_over_all(&mut self, limit: &Limit, rule: &str) -> Term {
        let rest = format!("*:{rule}{}", counted(limit));
        self.made(limit, Some(rule), rest, "all-")
    }

    fn made(&mut self, limit: &Limit, rule: Option<&str>, rest: String, scope: &str) -> Term {
        let spelt = spell_limit(limit);
        let name = self.name(rule.map_or(spelt.clone(), |rule| format!("{spelt} {rule}")));
        let id = self.id(&rest, || id_of(limit, rule, scope));
        Term { limit: *limit, counted_ms: counted_ms(limit.window), name, id, rest: rest.into(), over: None }
    }

    fn name(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.names.get(&*text) {
            return known.clone();
        }
        let name: Arc<str> = text.into();
        self.names.insert(name.clone());
        name
    }

    /// One id for each thing that is counted, and no id for two.
    fn id(&mut self, rest: &str, wanted: impl FnOnce() -> String) -> Arc<str> {
        if let Some(known) = self.ids.get(rest) {
            return known.clone();
        }
        let wanted = wanted();
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        let mut free = std::iter::once(wanted.clone()).chain(numbered);
        let id = free.find(|id| !self.taken.contains(&**id)).unwrap_or(wanted);
        let id: Arc<str> = id.into();
        self.taken.insert(id.clone());
        self.ids.insert(rest.to_owned(), id.clone());
        id
    }
}

/// `requests-60s`, `requests-day`, `all-requests-1s-any-reports`: letters, digits and hyphens, so that it stands in a
/// structured field (RFC 9651) and in a URL as it is.
fn id_of(limit: &Limit, rule: Option<&str>, scope: &str) -> String {
    let unit = match limit.unit {
        Unit::BytesIn => "bytes-in",
        Unit::BytesOut => "bytes-out",
        unit => unit.word(),
    };
    let mut id = match limit.window {
        Window::Sliding { ms } => format!("{scope}{unit}-{}s", ms / 1_000),
        period => format!("{scope}{unit}-{period}"),
    };
    let rule = rule.unwrap_or_default().replace('*', "any");
    for word in rule.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        id.push('-');
        id.push_str(word);
    }
    id.truncate(MAX_ID);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::limit::parse_limit;

    fn limit(text: &str) -> Limit {
        parse_limit(text).unwrap()
    }

    #[test]
    fn a_tag_is_ended_only_by_its_own_brace() {
        assert_eq!(client_tag("acme"), "acme");
        assert_eq!(client_tag("a{b}c%"), "a%7Bb%7Dc%25");
        assert_eq!(client_tag("*:POST /orders"), "%2A:POST /orders");
        assert_ne!(client_tag("%2A"), client_tag("*"));
    }

    #[test]
    fn equal_texts_are_kept_once() {
        let mut words = Words::default();
        let one = words.term(&limit("100 requests/minute"), Some("POST /orders"));
        let two = words.term(&limit("100 requests/60 seconds"), Some("POST /orders"));
        let more = words.term(&limit("200 requests/minute"), Some("POST /orders"));
        assert_eq!(&*one.name, "100 requests/minute POST /orders");
        assert_eq!(&*one.rest, ":requests:60000:POST /orders");
        assert!(Arc::ptr_eq(&one.name, &two.name) && Arc::ptr_eq(&one.id, &two.id));
        assert!(Arc::ptr_eq(&one.id, &more.id), "the amount is not part of the id");
    }

    #[test]
    fn ids_are_safe_in_fields_and_differ() {
        let mut words = Words::default();
        let per_minute = limit("1 requests/minute");
        let long = format!("GET /{}", "x".repeat(200));
        let rules = ["GET /a/b", "GET /a-b", "GET /a b", "GET \u{e9}", "GET \u{ea}", "* *", &long];
        let mut ids: Vec<_> = rules.map(|rule| words.term(&per_minute, Some(rule)).id).into();
        ids.extend(rules.map(|rule| words.term_over_all(&per_minute, rule).id));
        assert_eq!(&*ids[0], "requests-60s-GET-a-b");
        assert_eq!(&*ids[1], "requests-60s-GET-a-b-2");
        assert_eq!(&*ids[7], "all-requests-60s-GET-a-b");
        let distinct: HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        let safe = |id: &Arc<str>| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        assert!(ids.iter().all(safe));
    }
}
