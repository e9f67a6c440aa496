//! `[clients]`: who they are, by which keys one knows them, and what is special about them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_limiter::Limit;

use super::alerts::read_client_alerts;
use super::grants::read_grants;
use super::limits::{read_limits, read_rules};
use super::rest::read_addresses;
use super::tiers::{Known, warn_of_exempt};
use super::words::read_webhooks;
use crate::alerts::ClientAlerts;
use crate::grammar::key::parse_hash;
use crate::grammar::name::{check_client_id, check_name};
use crate::model::{Client, Grant, Key, Tier};
use crate::node::{Node, Table};
use crate::problem::{Fault, quote};

const KEYS: [&str; 12] = [
    "name",
    "tier",
    "keys",
    "contacts",
    "timezone",
    "limits",
    "endpoints",
    "grants",
    "dry_run",
    "exempt",
    "webhooks",
    "alerts",
];

type ById<T> = BTreeMap<Box<str>, T>;

/// What clients are read against, and what must be seen over all of them.
pub struct Context<'p> {
    known: &'p Known,
    tiers: HashMap<&'p str, &'p Tier>,
    /// Outer `None`: the policy has no default tier. Inner: it names one that does not exist, which is
    /// a problem already and not one of each client.
    default_tier: Option<Option<Arc<str>>>,
    /// Whose each key is: a key that two clients have would count for one of them by chance.
    owners: RefCell<HashMap<[u8; 32], Box<str>>>,
    /// Names that were checked: there are far fewer time zones than clients.
    timezones: RefCell<HashMap<Box<str>, Arc<str>>>,
    grants: RefCell<ById<Box<[Grant]>>>,
    alerts: RefCell<ById<ClientAlerts>>,
}

impl<'p> Context<'p> {
    pub fn new(known: &'p Known, tiers: &'p [Tier], default_tier: Option<Option<Arc<str>>>) -> Self {
        Context {
            known,
            tiers: tiers.iter().map(|tier| (&*tier.name, tier)).collect(),
            default_tier,
            owners: RefCell::default(),
            timezones: RefCell::default(),
            grants: RefCell::default(),
            alerts: RefCell::default(),
        }
    }

    /// What was granted to the clients that were read, and what they want to hear.
    pub fn apart(self) -> (ById<Box<[Grant]>>, ById<ClientAlerts>) {
        (self.grants.into_inner(), self.alerts.into_inner())
    }

    /// All clients, sorted by id.
    pub fn read(&self, node: &Node<'_>) -> Vec<Client> {
        let Some(table) = node.any_table() else {
            return Vec::new();
        };
        let mut clients = Vec::with_capacity(table.entries().len());
        clients.extend(table.entries().filter_map(|(id, node)| self.read_client(id, &node)));
        clients.sort_by(|a, b| a.id.cmp(&b.id));
        clients
    }

    fn read_client(&self, id: &str, node: &Node<'_>) -> Option<Client> {
        node.checked(check_client_id(id));
        let table = node.table(&KEYS)?;
        let tier = self.read_tier(&table);
        let of_tier = tier.as_ref().and_then(|tier| self.tiers.get(&**tier)).copied();
        let limits = read_own_limits(&table, of_tier);
        let all: Vec<&Limit> = limits.iter().chain(of_tier.iter().flat_map(|tier| &tier.limits)).collect();
        if let Some(node) = table.get("grants") {
            self.grants.borrow_mut().insert(id.into(), read_grants(&node, &all));
        }
        if let Some(alerts) = table.get("alerts").and_then(|node| read_client_alerts(&node)) {
            self.alerts.borrow_mut().insert(id.into(), alerts);
        }
        let client = Client {
            id: id.into(),
            name: table.get("name").and_then(|node| read_name(&node)),
            tier: tier.clone().unwrap_or_default(),
            keys: self.read_keys(id, &table),
            contacts: table.get("contacts").map(|n| read_addresses(&n)).unwrap_or_default().into(),
            timezone: table.get("timezone").and_then(|node| self.read_timezone(&node)),
            limits,
            endpoints: table
                .get("endpoints")
                .map(|node| read_rules(&node, of_tier.map_or(&[], |tier| &tier.endpoints)))
                .unwrap_or_default(),
            dry_run: table.get("dry_run").and_then(|node| node.flag()),
            exempt: table.get("exempt").and_then(|node| node.flag()),
            webhooks: read_webhooks(&table),
        };
        warn_if_exempt(&client, of_tier, &table);
        tier.map(|_| client)
    }

    fn read_tier(&self, table: &Table<'_>) -> Option<Arc<str>> {
        if let Some(node) = table.get("tier") {
            return self.known.find(&node);
        }
        if self.default_tier.is_none() {
            let remedy = "add tier = \"…\" here, or default_tier = \"…\" at the top";
            table.problem("this client has no tier", remedy);
        }
        self.default_tier.clone().flatten()
    }

    fn read_keys(&self, id: &str, table: &Table<'_>) -> Box<[Key]> {
        let node = table.get("keys");
        let items = node.as_ref().and_then(Node::list);
        let keys: Box<[Key]> =
            items.into_iter().flatten().filter_map(|item| self.read_key(id, &item)).collect();
        if node.as_ref().is_none_or(Node::is_empty_list) {
            let remedy = "add a key (`weir key new`), unless it is authenticated elsewhere";
            table.warning("this client has no API key", remedy);
        }
        keys
    }

    fn read_key(&self, id: &str, node: &Node<'_>) -> Option<Key> {
        let key = if node.is_table() { read_key_table(node)? } else { read_bare_key(node)? };
        let earlier = self.owners.borrow_mut().insert(key.hash, id.into());
        if let Some(earlier) = earlier {
            let message = match *earlier == *id {
                true => "this client has this key already".to_owned(),
                false => format!("client {} has this key already", quote(&earlier)),
            };
            node.problem(message, "remove one of the two, or give each client a key of its own");
        }
        Some(key)
    }

    fn read_timezone(&self, node: &Node<'_>) -> Option<Arc<str>> {
        let name = node.text()?;
        if let Some(known) = self.timezones.borrow().get(name) {
            return Some(known.clone());
        }
        let found = node.checked(parse_timezone(name))?;
        self.timezones.borrow_mut().insert(name.into(), found.clone());
        Some(found)
    }
}

fn read_name(node: &Node<'_>) -> Option<Box<str>> {
    node.parsed(|text| check_name(text).map(|()| text.into()))
}

fn read_own_limits(table: &Table<'_>, tier: Option<&Tier>) -> Box<[Limit]> {
    let others = tier.map_or(&[][..], |tier| &tier.limits);
    table.get("limits").map(|node| read_limits(&node, others)).unwrap_or_default()
}

fn warn_if_exempt(client: &Client, tier: Option<&Tier>, table: &Table<'_>) {
    let exempt = client.exempt.unwrap_or(tier.is_some_and(|tier| tier.exempt));
    let given = |key| table.get(key).filter(|node| !node.is_empty_list());
    if let (true, Some(limits)) = (exempt, given("limits").or(given("endpoints"))) {
        warn_of_exempt(&limits);
    }
}

fn read_bare_key(node: &Node<'_>) -> Option<Key> {
    let hash = node.parsed(parse_hash)?;
    Some(Key { hash, valid_s: i64::MIN..i64::MAX })
}

fn read_key_table(node: &Node<'_>) -> Option<Key> {
    let table = node.table(&["hash", "not_before", "not_after"])?;
    let Some(hash) = table.get("hash") else {
        table.problem("this key has no hash", "add hash = \"sha256:…\"");
        return None;
    };
    let instant = |key| table.get(key).and_then(|node| node.instant());
    let from = instant("not_before").unwrap_or(i64::MIN);
    let until = instant("not_after").unwrap_or(i64::MAX);
    if until <= from {
        table.problem("this key ends before it begins", "put not_after after not_before");
    }
    Some(Key { hash: hash.parsed(parse_hash)?, valid_s: from..until })
}

/// The IANA name in its own spelling.
pub fn parse_timezone(name: &str) -> Result<Arc<str>, Fault> {
    let zone = jiff::tz::TimeZone::get(name).ok();
    zone.as_ref().and_then(|zone| zone.iana_name()).map(Arc::from).ok_or_else(|| {
        let message = format!("{} is not a time zone", quote(name));
        Fault::new(message, "write an IANA name, such as \"America/Chicago\"")
    })
}
