//! The policy as a value: checked, without places, in the words of the policy file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use weir_limiter::Limit;

use crate::alerts::Alerts;
use crate::grammar::key::hash_key;
use crate::problem::Problem;

/// Everything that the business decides. Made by [`crate::parse`], so every tier that is named here
/// exists and every text obeys its grammar.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The first 8 bytes, big-endian, of the SHA-256 of the text.
    pub version: u64,
    /// The tier of known clients that name none.
    pub default_tier: Option<Arc<str>>,
    pub unknown: Unknown,
    /// In the order of the text.
    pub tiers: Vec<Tier>,
    /// Limits over all clients together.
    pub endpoints: Vec<EndpointRule>,
    /// In the order of the text.
    pub routes: Vec<Route>,
    /// Sorted by id.
    pub clients: Vec<Client>,
    /// By the id of a client. Apart from the clients, of whom few have any and there may be 100,000.
    pub grants: BTreeMap<Box<str>, Box<[Grant]>>,
    pub alerts: Alerts,
    pub(crate) warnings: Vec<Problem>,
}

impl Policy {
    /// What is allowed but probably not meant, in the order of the text.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    pub fn tier(&self, name: &str) -> Option<&Tier> {
        self.tiers.iter().find(|tier| &*tier.name == name)
    }

    pub fn client(&self, id: &str) -> Option<&Client> {
        let at = self.clients.binary_search_by(|client| (*client.id).cmp(id)).ok()?;
        Some(&self.clients[at])
    }

    /// How many API keys all clients have together.
    pub fn key_count(&self) -> usize {
        self.clients.iter().map(|client| client.keys.len()).sum()
    }
}

/// `[unknown]`: callers nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    pub action: UnknownAction,
    /// Always there for [`UnknownAction::Limit`].
    pub tier: Option<Arc<str>>,
}

/// What happens to callers nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownAction {
    /// They are met and recorded, never refused.
    #[default]
    Observe,
    /// They share the limits of one tier.
    Limit,
    /// They are refused.
    Reject,
}

/// `[tiers.NAME]`
#[derive(Clone, Debug)]
pub struct Tier {
    pub name: Arc<str>,
    /// No two have the same unit and window.
    pub limits: Box<[Limit]>,
    /// Limits of each client on some endpoints, in addition.
    pub endpoints: Box<[EndpointRule]>,
    pub objective: Option<Objective>,
    pub dry_run: DryRun,
    /// Clients of this tier have no limits.
    pub exempt: bool,
    /// What happens beyond the limits of this tier and of its clients.
    pub over: Over,
    pub webhooks: Webhooks,
}

/// `webhooks`: what becomes of our own calls to a client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Webhooks {
    /// They count like requests of the client.
    #[default]
    Count,
    /// They are recorded, and limited by nothing.
    Meter,
    /// They are neither.
    Ignore,
}

/// `over`: what happens to a request that is over a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// It is refused.
    #[default]
    Reject,
    /// It is held back until the limit has room, for `ms` at most, and if in no `ms` more than `burst`
    /// are.
    Delay { ms: u64, burst: u64 },
    /// It passes as one that is over the limit, as long as all that pass stay within so many percent
    /// of the limit.
    Degrade { percent: u64 },
}

/// For which clients of a tier limits are decided and told, but not enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    #[default]
    Nobody,
    Everybody,
    /// This many percent of the clients.
    Share(u8),
}

impl DryRun {
    /// Whether it is a dry run for this client. A share goes by a hash of the id: the same clients at
    /// every gateway, and a larger share only adds to them.
    pub fn covers(self, client: &str) -> bool {
        match self {
            DryRun::Nobody => false,
            DryRun::Everybody => true,
            DryRun::Share(percent) => percentile(client) < percent,
        }
    }
}

/// 0 to 99, spread evenly over clients.
fn percentile(client: &str) -> u8 {
    let [high, low, ..] = hash_key(client.as_bytes());
    // The top 16 bits, scaled; 65,536 steps are fine enough for whole percent.
    ((u32::from(u16::from_be_bytes([high, low])) * 100) >> 16) as u8
}

impl Over {
    /// How many units of a limit may pass beyond it. All that pass in any window of the limit are then
    /// within the ceiling.
    pub fn beyond(self, amount: u64) -> u64 {
        match self {
            Over::Reject | Over::Delay { .. } => 0,
            Over::Degrade { percent } => {
                let more = u128::from(amount) * u128::from(percent.saturating_sub(100)) / 100;
                u64::try_from(more).unwrap_or(u64::MAX)
            }
        }
    }
}

/// Limits for some methods on some endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRule {
    /// `None` stands for any.
    pub method: Option<Box<str>>,
    /// The name of the endpoint; `None` stands for any.
    pub endpoint: Option<Box<str>>,
    /// Never empty; no two have the same unit and window.
    pub limits: Box<[Limit]>,
    /// Over what the tier says; for a limit over all clients `None` is [`Over::Reject`].
    pub over: Option<Over>,
}

/// `POST /orders`, `* /reports`: the rule's `match` in its one spelling, as in names of counters.
impl fmt::Display for EndpointRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, endpoint) = (self.method.as_deref(), self.endpoint.as_deref());
        write!(f, "{} {}", method.unwrap_or("*"), endpoint.unwrap_or("*"))
    }
}

/// `NAME = "METHOD /path/{id}"`: an endpoint name for paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub name: Box<str>,
    /// `None` stands for any.
    pub method: Option<Box<str>>,
    /// Begins with `/`; a segment in braces stands for any one segment that is not empty.
    pub path: Box<str>,
}

/// `[clients.ID]`
#[derive(Clone, Debug)]
pub struct Client {
    pub id: Box<str>,
    /// What people call it, where that is not the id.
    pub name: Option<Box<str>>,
    pub tier: Arc<str>,
    pub keys: Box<[Key]>,
    /// Mail addresses.
    pub contacts: Box<[Box<str>]>,
    /// An IANA name; UTC where there is none.
    pub timezone: Option<Arc<str>>,
    /// Each replaces the tier's limit of the same unit and window, or adds one.
    pub limits: Box<[Limit]>,
    /// Each limit replaces the tier's with the same match, unit and window, or adds one.
    pub endpoints: Box<[EndpointRule]>,
    /// Over the tier's.
    pub dry_run: Option<bool>,
    /// Over the tier's.
    pub exempt: Option<bool>,
    /// Over the tier's.
    pub webhooks: Option<Webhooks>,
}

impl Client {
    /// What people call the client.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

/// `[[clients.ID.grants]]`: more of one of the client's limits for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// So much more; unit and window are those of the limit that it adds to.
    pub limit: Limit,
    /// When it holds, in seconds since 1970; `i64::MIN` where no beginning is said.
    pub valid_s: Range<i64>,
    pub reason: Option<Box<str>>,
}

/// An API key of a client, by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// SHA-256 of the key's bytes.
    pub hash: [u8; 32],
    /// When the key is valid, in seconds since 1970; `i64::MIN` and `i64::MAX` where nothing is said.
    pub valid_s: Range<i64>,
}

/// What a tier's clients were promised of the API itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Percent of requests that are answered without an error of the service.
    pub availability: Option<f64>,
    pub latency: Option<LatencyObjective>,
    /// Over how many seconds both are judged.
    pub window_s: u64,
}

/// `share` percent of requests are answered within `ms` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyObjective {
    pub ms: u64,
    pub share: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_and_only_grows() {
        let ids: Vec<String> = (0..20_000).map(|n| format!("client-{n}")).collect();
        let covered = |share| ids.iter().filter(|id| DryRun::Share(share).covers(id)).count();
        assert_eq!(covered(0), 0);
        assert_eq!(covered(100), ids.len());
        assert!((1_800..2_200).contains(&covered(10)), "{}", covered(10));
        let grows = |id: &String| !DryRun::Share(10).covers(id) || DryRun::Share(25).covers(id);
        assert!(ids.iter().all(grows));
    }
}
