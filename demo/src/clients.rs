//! The eighty clients and the policy that governs them.

use std::fmt::Write as _;

use weir_testbed::gateway::key_hash;

use crate::service::ROUTES;

/// Requests a second of all clients together while nothing is wrong.
pub const RATE_PER_S: f64 = 300.0;
pub const COUNT: usize = 80;

/// Ranks by traffic, from 0, of those with a part in the story.
pub const PARTNER: usize = 9;
/// Will have used 80 % of its hourly limit, but not all of it.
pub const NEAR: usize = 14;
/// Will have used all of its hourly limit.
pub const OVER: usize = 17;

/// The partner's limits, which are those of its tier.
pub const PARTNER_PER_SECOND: usize = 100;
pub const PARTNER_PER_MINUTE: usize = 1_000;

pub const PLATFORM: &str = "platform@example.com";

const FIRST: [&str; 10] =
    ["Alder", "Beacon", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Harbor", "Iris", "Juniper"];
const SECOND: [&str; 8] = ["Freight", "Foods", "Retail", "Travel", "Labs", "Media", "Parts", "Bank"];

/// One API client.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub name: String,
    pub key: String,
    pub tier: &'static str,
    pub rate_per_s: f64,
    /// Replaces the tier's hourly limit.
    pub per_hour: Option<usize>,
}

impl Client {
    /// The name up to the first character that HTML escapes: there are several right ways to escape
    /// one. Still different for all clients.
    pub fn name_start(&self) -> &str {
        self.name.split('<').next().unwrap_or_default().trim_end()
    }

    pub fn contact(&self) -> String {
        format!("api@{}.example", self.id)
    }
}

/// All clients, busiest first: the one of rank r sends in proportion to 1 / r (Zipf), and has the
/// tier that leaves it room.
pub fn all() -> Vec<Client> {
    let harmonic: f64 = (1..=COUNT).map(|rank| 1.0 / rank as f64).sum();
    (0..COUNT).map(|i| client(i, RATE_PER_S / harmonic / (i + 1) as f64)).collect()
}

fn client(index: usize, rate_per_s: f64) -> Client {
    let name = format!("{} {}", FIRST[index % FIRST.len()], SECOND[index / FIRST.len()]);
    let id = name.to_lowercase().replace(' ', "-");
    let tier = match index {
        0..4 => "enterprise",
        4..66 => "professional",
        _ => "basic",
    };
    // A name that pages and mails have to show as text.
    let name = if index == NEAR { format!("{name} <b>& \"Sons\"</b>") } else { name };
    Client { key: format!("key-of-{id}"), id, name, tier, rate_per_s, per_hour: None }
}

/// The policy; with `limits_on` false, the partner of the retry loop is exempt.
pub fn policy(clients: &[Client], limits_on: bool) -> String {
    let mut text = String::from(TIERS);
    for route in &ROUTES {
        let _ = writeln!(text, "{} = \"{} {}\"", route.name, route.method, route.pattern);
    }
    for (rank, client) in clients.iter().enumerate() {
        let _ = write!(text, "\n[clients.{}]\nname = {:?}\n", client.id, client.name);
        let _ = writeln!(text, "tier = \"{}\"\nkeys = [\"{}\"]", client.tier, key_hash(&client.key));
        let _ = writeln!(text, "contacts = [\"{}\"]", client.contact());
        if let Some(amount) = client.per_hour {
            let _ = writeln!(text, "limits = [\"{amount} requests/hour\"]");
        }
        if rank == PARTNER && !limits_on {
            text.push_str("exempt = true\n");
        }
    }
    text + &format!("\n[alerts]\nto = [\"{PLATFORM}\"]\nthresholds = [80, 100]\n")
}

const TIERS: &str = r#"# What the business sells. Written by `make demo`.
default_tier = "basic"

[unknown]
action = "reject"

[tiers.basic]
limits = ["100 requests/minute", "2000 requests/hour", "500 MB/hour"]

[tiers.professional]
limits = ["100 requests/second", "1000 requests/minute", "20000 requests/hour"]

[tiers.enterprise]
limits = ["10000 requests/minute", "20 GB/24 hours"]

[routes]
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn eighty_clients_of_three_tiers_are_all_different_and_within_their_limits() {
        let clients = all();
        let distinct = |of: fn(&Client) -> String| clients.iter().map(of).collect::<BTreeSet<_>>();
        assert_eq!(distinct(|c| c.id.clone()).len(), 80);
        assert_eq!(distinct(|c| c.key.clone()).len(), 80);
        assert_eq!(distinct(|c| c.tier.to_owned()).len(), 3);
        let total: f64 = clients.iter().map(|c| c.rate_per_s).sum();
        assert!((total - RATE_PER_S).abs() < 1e-6);
        for client in &clients {
            let per_minute = match client.tier {
                "basic" => 100.0,
                "professional" => PARTNER_PER_MINUTE as f64,
                _ => 10_000.0,
            };
            // Six standard deviations of a Poisson count lie below the limit.
            let mean = 60.0 * client.rate_per_s;
            assert!(mean + 6.0 * mean.sqrt() < per_minute, "{client:?}");
        }
    }

    #[test]
    fn the_policy_frees_the_partner_only_while_limits_are_off() {
        let clients = all();
        assert_eq!(clients[PARTNER].tier, "professional");
        assert_eq!(policy(&clients, false).matches("exempt = true").count(), 1);
        assert!(!policy(&clients, true).contains("exempt"));
    }
}
