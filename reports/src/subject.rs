//! One client as the policy knows it: all that its portal and its mails may say besides its usage.
//!
//! Nothing of any other client is reachable from here; this is what keeps tenants apart.

use std::sync::Arc;

use weir_analytics::books::OTHERS;
use weir_limiter::Limit;
use weir_policy::{ANONYMOUS, Client, EndpointRule, Policy, spell_limit};

use crate::name::shown;
use crate::when::Zone;

/// A client and its own limits.
#[derive(Clone, Debug, Hash)]
pub struct Subject {
    /// Fit to be shown.
    pub name: String,
    /// `None` for a client that the policy does not list.
    pub tier: Option<Arc<str>>,
    pub zone: Zone,
    pub contacts: Vec<String>,
    pub limits: Vec<OwnLimit>,
    /// Its limits are told but not enforced.
    pub dry_run: bool,
    /// It has no limits.
    pub exempt: bool,
}

/// One limit of a client.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct OwnLimit {
    pub limit: Limit,
    /// `500 MB/hour`, as the policy and the findings spell it.
    pub spelled: String,
    /// `POST /orders` where it holds for some endpoint alone.
    pub endpoint: Option<String>,
}

impl Subject {
    /// The client `id`. One that was deleted, or was only ever known to another authenticator, has
    /// its id as its name, no limits that are known here and nobody to write to.
    pub fn of(policy: &Policy, id: &str) -> Subject {
        match policy.client(id) {
            Some(client) => listed(policy, client),
            None => unlisted(policy, id),
        }
    }
}

fn listed(policy: &Policy, client: &Client) -> Subject {
    let tier = policy.tier(&client.tier);
    let exempt = client.exempt.unwrap_or(tier.is_some_and(|t| t.exempt));
    let mut limits = merged(tier.map_or(&[], |t| &t.limits), &client.limits, None);
    limits.extend(rules(tier.map_or(&[], |t| &t.endpoints), &client.endpoints));
    if exempt {
        limits.clear();
    }
    Subject {
        name: shown(client.display_name()),
        tier: Some(client.tier.clone()),
        zone: client.timezone.as_deref().map_or_else(Zone::utc, Zone::named),
        contacts: client.contacts.iter().map(ToString::to_string).collect(),
        limits,
        dry_run: client.dry_run.unwrap_or(tier.is_some_and(|t| t.dry_run.covers(&client.id))),
        exempt,
    }
}

fn unlisted(policy: &Policy, id: &str) -> Subject {
    let is_anonymous = id == ANONYMOUS;
    let tier = policy.unknown.tier.as_ref().filter(|_| is_anonymous).and_then(|name| policy.tier(name));
    Subject {
        name: match id {
            ANONYMOUS => "Unknown callers".to_string(),
            OTHERS => "All others".to_string(),
            _ => shown(id),
        },
        tier: tier.map(|t| t.name.clone()),
        zone: Zone::utc(),
        contacts: Vec::new(),
        limits: tier.map_or_else(Vec::new, |t| merged(&t.limits, &[], None)),
        dry_run: false,
        exempt: false,
    }
}

/// The client's limit in place of the tier's of the same unit and window; each where its kind first
/// stood.
fn merged(tier: &[Limit], own: &[Limit], endpoint: Option<&str>) -> Vec<OwnLimit> {
    let same = |a: &Limit, b: &Limit| a.unit == b.unit && a.window == b.window;
    let replaced = tier.iter().map(|limit| own.iter().find(|mine| same(mine, limit)).unwrap_or(limit));
    let added = own.iter().filter(|mine| !tier.iter().any(|limit| same(mine, limit)));
    let line = |limit: &Limit| OwnLimit {
        limit: *limit,
        spelled: spell_limit(limit),
        endpoint: endpoint.map(str::to_string),
    };
    replaced.chain(added).map(line).collect()
}

fn rules(tier: &[EndpointRule], own: &[EndpointRule]) -> Vec<OwnLimit> {
    let limits_of = |rules: &[EndpointRule], name: &str| -> Vec<Limit> {
        rules.iter().filter(|r| r.to_string() == name).flat_map(|r| r.limits.iter().copied()).collect()
    };
    let mut names: Vec<String> = Vec::new();
    for rule in tier.iter().chain(own) {
        let name = rule.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.iter().flat_map(|name| merged(&limits_of(tier, name), &limits_of(own, name), Some(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [tiers.basic]
        limits = ["100 requests/minute", "2000 requests/hour", "500 MB/hour"]
        [[tiers.basic.endpoints]]
        match = "POST /orders"
        limits = ["10 requests/minute"]
        [clients.acme]
        name = "Acme Corp"
        tier = "basic"
        contacts = ["api@acme.example"]
        timezone = "America/Chicago"
        limits = ["150 requests/minute", "1 requests/second"]
        [clients.free]
        tier = "basic"
        exempt = true
    "#;

    fn subject(id: &str) -> Subject {
        Subject::of(&weir_policy::parse(POLICY).unwrap(), id)
    }

    #[test]
    fn own_limits_replace_the_tiers_of_the_same_unit_and_window() {
        let acme = subject("acme");
        let limits: Vec<(&str, Option<&str>)> =
            acme.limits.iter().map(|l| (l.spelled.as_str(), l.endpoint.as_deref())).collect();
        assert_eq!(
            limits,
            [
                ("150 requests/minute", None),
                ("2000 requests/hour", None),
                ("500 MB/hour", None),
                ("1 requests/second", None),
                ("10 requests/minute", Some("POST /orders")),
            ]
        );
        assert_eq!((acme.name.as_str(), acme.zone.name()), ("Acme Corp", "America/Chicago"));
    }

    #[test]
    fn an_exempt_client_has_no_limits() {
        assert!(subject("free").exempt && subject("free").limits.is_empty());
    }

    #[test]
    fn a_deleted_client_is_its_id_and_nobody_is_written_to() {
        let gone = subject("gone");
        assert_eq!((gone.name.as_str(), gone.tier, gone.contacts.len()), ("gone", None, 0));
        assert_eq!(subject(ANONYMOUS).name, "Unknown callers");
    }
}
