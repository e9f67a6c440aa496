//! One request on its way: who, what, what was decided.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use weir_limiter::{Counter, Limit, LimitState};
use weir_metering::{Card, Decision, Record};
use weir_policy::{MAX_KEY_BYTES, Tables, hash_key, spell_hash};

use crate::beyond::Beyond;
use crate::clock::Now;
use crate::names;
use crate::profile::{Profile, Profiles};
use crate::settings::Rules;

/// What a request carries, as far as it matters here. Empty where there is nothing. All of it is
/// what a client may have made up, but for `place`, `client`, `tier` and `webhook`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestFacts<'a> {
    /// The API key. It is hashed and looked up, and goes nowhere else.
    pub key: &'a [u8],
    /// The client that this request of ours goes to: a webhook.
    pub webhook: &'a [u8],
    /// A client id that was authenticated elsewhere.
    pub client: &'a [u8],
    /// The tier that the authenticator named.
    pub tier: &'a [u8],
    pub method: &'a [u8],
    /// The normalised path.
    pub path: &'a [u8],
    /// The value of `weir_endpoint`.
    pub endpoint: &'a [u8],
    /// The name of the location.
    pub place: &'a [u8],
    /// Units that the request costs.
    pub cost: u64,
    /// The client's address, in text.
    pub address: &'a [u8],
    /// A browser's question before another request (CORS preflight).
    pub is_preflight: bool,
}

/// What has to be done with a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Refuse(Refusal),
    /// The limit has no room yet: the request is held back until it has, but not beyond `until_ms` of the
    /// gateway's clock. The gateway names it when it need not be held any longer.
    Hold {
        until_ms: u64,
    },
    /// A lease is on its way, or the holder of a lock does not run just now. The gateway names the request
    /// when it can be decided; whoever holds the gateway says when it has waited long enough.
    Wait,
}

impl Verdict {
    /// Whether another one follows.
    pub fn is_pending(self) -> bool {
        matches!(self, Verdict::Hold { .. } | Verdict::Wait)
    }
}

/// How a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub reason: Reason,
    /// Whole seconds after which the request will pass, at least 1; `None` where no time helps.
    pub retry_after_s: Option<u64>,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A limit is used up.
    Limit,
    /// It could not be decided, and `weir_fallback deny` stands.
    CannotDecide,
    /// The policy turns away callers that nobody knows.
    UnknownCaller,
}

/// What became of a request, known in the log phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: u16,
    pub latency_us: u64,
    /// `None` where no upstream was asked.
    pub upstream_us: Option<u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// One limit that applies to a request, with what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota<'a> {
    /// Safe in a structured field: `requests-60s`.
    pub id: &'a str,
    /// As the policy spells it: `100 requests/minute`.
    pub name: &'a str,
    pub limit: Limit,
    /// The length of the window, or of this period of the calendar.
    pub window_ms: u64,
    /// Units left.
    pub remaining: u64,
    /// Milliseconds until the first of the counted units leaves the window, or the period ends.
    pub reset_ms: u64,
}

/// One request on its way through the gateway.
#[derive(Debug)]
pub struct Walk {
    pub(crate) profile: Rc<Profile>,
    pub(crate) dry_run: bool,
    pub(crate) is_preflight: bool,
    /// Only asked what is left: nothing is charged, told in fields, counted or booked.
    pub(crate) is_look: bool,
    pub(crate) rules: Rules,
    pub(crate) cost: u64,
    /// When the request came.
    pub(crate) came: Now,
    /// One for each limit once it was asked; empty before and where nothing is limited.
    pub(crate) states: Vec<LimitState>,
    pub(crate) verdict: Verdict,
    pub(crate) decision: Decision,
    /// Limits that it has gone beyond.
    pub(crate) beyond: Beyond,
    /// The limit that holds it back, or did.
    pub(crate) held_by: Option<usize>,
    /// When there will be room for it.
    pub(crate) again_ms: u64,
    /// The limit that refused.
    pub(crate) refused_by: Option<usize>,
    /// By what a caller that nobody knows can be told from others.
    pub(crate) stranger: Option<Box<str>>,
}

impl Walk {
    /// Finds out who asks and what for. Nothing is asked of the limiter yet.
    pub(crate) fn new(
        book: &Tables,
        profiles: &mut Profiles,
        facts: &RequestFacts<'_>,
        rules: Rules,
        now: Now,
    ) -> Walk {
        let now_s = now.unix_s();
        let method = names::method(facts.method);
        let endpoint = endpoint(book, facts, method);
        let profile = match who(facts) {
            Who::Key(key) => profiles.of_key(book, key, method, &endpoint, now_s),
            Who::Receiver(id) => profiles.of(book, &book.by_webhook(id), method, &endpoint, now_s),
            Who::Client(id, tier) => profiles.of(book, &book.by_client(id, tier), method, &endpoint, now_s),
            Who::Nobody => profiles.of(book, &book.by_key(facts.key, now_s), method, &endpoint, now_s),
        };
        let stranger = (!profile.is_known).then(|| stranger(facts));
        Walk {
            dry_run: rules.dry_run || profile.dry_run,
            is_preflight: facts.is_preflight,
            is_look: false,
            profile,
            rules,
            cost: facts.cost,
            came: now,
            states: Vec::new(),
            verdict: Verdict::Pass,
            decision: Decision::Passed,
            beyond: Beyond::default(),
            held_by: None,
            again_ms: 0,
            refused_by: None,
            stranger,
        }
    }

    pub fn client(&self) -> &str {
        &self.profile.client
    }

    /// How the policy calls the client.
    pub fn client_name(&self) -> &str {
        &self.profile.shown
    }

    pub fn tier(&self) -> &str {
        &self.profile.tier
    }

    pub fn endpoint(&self) -> &str {
        &self.profile.endpoint
    }

    pub fn decision(&self) -> Decision {
        self.decision
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The settings of the place that decided.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// All limits that apply, with what is left of them; nothing before they were asked.
    pub fn quotas(&self) -> impl Iterator<Item = Quota<'_>> {
        self.profile.limits.iter().zip(&self.states).map(|(applied, state)| Quota {
            id: &applied.id,
            name: &applied.name,
            limit: applied.limit,
            window_ms: applied.window_ms,
            remaining: state.remaining,
            reset_ms: state.reset_ms,
        })
    }

    /// The limit that refused, else the one of which the smallest share is left: what a client has
    /// to go by. Of two with the same share, the one that takes longer to recover.
    pub fn nearest(&self) -> Option<Quota<'_>> {
        self.quotas().nth(self.nearest_at()?)
    }

    fn nearest_at(&self) -> Option<usize> {
        if let Some(refused_by) = self.refused_by {
            return Some(refused_by).filter(|&index| index < self.states.len());
        }
        let nearest = self.quotas().enumerate().min_by(|(_, a), (_, b)| {
            let share =
                |q: &Quota<'_>, other: &Quota<'_>| u128::from(q.remaining) * u128::from(other.limit.amount);
            share(a, b).cmp(&share(b, a)).then(b.reset_ms.cmp(&a.reset_ms))
        });
        nearest.map(|(index, _)| index)
    }

    /// The counter of the limit that holds it back.
    pub(crate) fn held_at(&self) -> Option<&Arc<Counter>> {
        Some(&self.profile.limits.get(self.held_by?)?.counter)
    }

    /// The refusal that the client is told, if any.
    pub fn refusal(&self) -> Option<Refusal> {
        match self.verdict {
            Verdict::Refuse(refusal) => Some(refusal),
            Verdict::Pass | Verdict::Hold { .. } | Verdict::Wait => None,
        }
    }

    /// The record of this request. A request that went away while it waited was let through to
    /// nobody and refused by nobody: it counts as passed.
    pub fn record(&self, outcome: &Outcome, time_us: u64) -> Record<'_> {
        Record {
            time_us,
            client: &self.profile.client,
            tier: &self.profile.tier,
            endpoint: &self.profile.endpoint,
            method: self.profile.method,
            status: outcome.status,
            latency_us: outcome.latency_us,
            upstream_us: outcome.upstream_us,
            bytes_in: outcome.bytes_in,
            bytes_out: outcome.bytes_out,
            decision: self.decision,
            limit: self.nearest().map_or("", |quota| quota.name),
            policy_version: self.profile.policy_version,
        }
    }

    /// What goes with the names of [`Walk::record`]: they follow from the profile and the limit.
    pub(crate) fn card(&self) -> &Cell<Card> {
        let cards = &self.profile.cards;
        &cards[self.nearest_at().unwrap_or(cards.len() - 1)]
    }
}

/// A key as the policy would have it, so that whoever owns it can be enrolled; else the address.
fn stranger(facts: &RequestFacts<'_>) -> Box<str> {
    match who(facts) {
        Who::Client(id, _) | Who::Receiver(id) => format!("client {id}").into(),
        Who::Key(key) => spell_hash(&hash_key(key)).into(),
        Who::Nobody => address(&String::from_utf8_lossy(facts.address)),
    }
}

/// An address in its one spelling: a socket for both families has 192.0.2.1 as `::ffff:192.0.2.1`.
fn address(text: &str) -> Box<str> {
    text.parse::<IpAddr>().map_or_else(|_| text.into(), |ip| ip.to_canonical().to_string().into())
}

/// By what a caller is known.
enum Who<'a> {
    /// The receiver of a webhook.
    Receiver(&'a str),
    Client(&'a str, Option<&'a str>),
    Key(&'a [u8]),
    /// No key, or one that is longer than any.
    Nobody,
}

/// The receiver of a webhook wins over whoever sends it, a client that was authenticated elsewhere over
/// the API key. An id that is not text cannot be in the policy.
fn who<'a>(facts: &RequestFacts<'a>) -> Who<'a> {
    if !facts.webhook.is_empty() {
        return std::str::from_utf8(facts.webhook).map_or(Who::Nobody, Who::Receiver);
    }
    match std::str::from_utf8(facts.client) {
        Ok(id) if !id.is_empty() => {
            Who::Client(id, std::str::from_utf8(facts.tier).ok().filter(|tier| !tier.is_empty()))
        }
        _ if facts.key.is_empty() || facts.key.len() > MAX_KEY_BYTES => Who::Nobody,
        _ => Who::Key(facts.key),
    }
}

fn endpoint<'a>(book: &'a Tables, facts: &RequestFacts<'a>, method: &str) -> Cow<'a, str> {
    let route = std::str::from_utf8(facts.path).ok().and_then(|path| book.endpoint(method, path));
    names::endpoint(facts.endpoint, route, facts.place)
}

#[cfg(test)]
pub(crate) mod tests;
