//! A policy compiled for look-ups: a caller's key in, its limits out, without searching or copying.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use crate::caller::{Action, Caller, Kind, Note};
use crate::grammar::key::{MAX_KEY_BYTES, hash_key};
use crate::grammar::name::{ANONYMOUS, UNKNOWN_TIER, check_client_id};
use crate::grant;
use crate::index::Index;
use crate::model::{Client, Key, Policy, UnknownAction, Webhooks};
use crate::period::{Moment, Zones};
use crate::plan::{Common, Plan, Words};
use crate::routes::Routes;
use crate::seat::{Applied, Member, Seat, anonymous, members};

/// A policy compiled for look-ups. It never changes, so one copy serves all threads through an `Arc`;
/// a new policy is a new book.
pub struct Book {
    policy: Policy,
    /// One for each tier of the policy, in its order.
    tiers: Box<[Plan]>,
    tier_positions: HashMap<Arc<str>, usize>,
    /// One for each client of the policy, in its order.
    clients: Box<[Member]>,
    /// There is one only if unknown callers are limited.
    anonymous: Option<Member>,
    over_all: Plan,
    /// One for each term of `over_all`.
    over_all_counters: Box<[Common]>,
    zones: Zones,
    by_id: Index,
    /// Seeded by chance, so that nobody can choose ids that collide.
    id_hasher: RandomState,
    by_key: Index,
    /// What the positions of `by_key` stand for: client and key within the client.
    keys: Box<[(u32, u32)]>,
    routes: Routes,
}

impl Book {
    /// Compiles a policy.
    pub fn compile(policy: Policy) -> Book {
        let mut words = Words::default();
        let tiers: Box<[Plan]> =
            policy.tiers.iter().map(|tier| Plan::new(&tier.limits, &tier.endpoints, &mut words)).collect();
        let (over_all, over_all_counters) = Plan::over_all(&policy.endpoints, &mut words);
        let tier_positions: HashMap<Arc<str>, usize> =
            (0..).zip(&policy.tiers).map(|(at, tier)| (tier.name.clone(), at)).collect();
        let id_hasher = RandomState::new();
        let keys = key_positions(&policy.clients);
        Book {
            clients: members(&policy, &tier_positions, &mut words),
            anonymous: anonymous(&policy, &tier_positions),
            by_id: Index::new(policy.clients.iter().map(|client| id_hasher.hash_one(&*client.id))),
            by_key: Index::new(keys.iter().map(|&at| index_hash(&key_at(&policy, at).hash))),
            routes: Routes::new(&policy.routes),
            zones: Zones::of(&policy),
            keys,
            id_hasher,
            tier_positions,
            over_all,
            over_all_counters,
            tiers,
            policy,
        }
    }

    /// No policy, as version 0: nobody is known and nothing is limited.
    pub fn none() -> Book {
        Book::compile(Policy::default())
    }

    /// See [`Policy::version`].
    pub fn version(&self) -> u64 {
        self.policy.version
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The client whose API key this is. No key, an unknown one, one of more than
    /// [`MAX_KEY_BYTES`] and one outside its time (`now_s`, seconds since 1970) are all anonymous.
    ///
    /// What is compared is the SHA-256 of the key, not the key. How long that takes shows at most how
    /// many leading bits of the two hashes agree, and whoever could use that to steer towards a known
    /// hash would have to find keys with a chosen SHA-256 first.
    pub fn by_key(&self, api_key: &[u8], now_s: i64) -> Caller<'_> {
        if api_key.is_empty() {
            return self.anonymous(Note::NoKey);
        }
        if api_key.len() > MAX_KEY_BYTES {
            return self.anonymous(Note::KeyTooLong);
        }
        self.by_key_hash(&hash_key(api_key), now_s).0
    }

    /// The same by [`hash_key`] of a key, and during which seconds the answer stays the same (none
    /// where nobody is known by it).
    pub fn by_key_hash(&self, hash: &[u8; 32], now_s: i64) -> (Caller<'_>, Range<i64>) {
        let key = |at: usize| key_at(&self.policy, self.keys[at]);
        let Some(at) = self.by_key.find(index_hash(hash), |at| key(at).hash == *hash) else {
            return (self.anonymous(Note::UnknownKey), 0..0);
        };
        match trouble(key(at), now_s) {
            Some(note) => (self.anonymous(note), 0..0),
            None => (self.known(self.keys[at].0 as usize), key(at).valid_s.clone()),
        }
    }

    /// A client that was authenticated elsewhere, in a tier that the authenticator may name (none and
    /// an empty name are the same). A client that is not in the policy is known by its tier alone, or
    /// by the policy's default tier; then, and for a listed client in another tier than its own, each
    /// request makes its counters' names anew.
    pub fn by_client<'a>(&'a self, id: &'a str, tier: Option<&str>) -> Caller<'a> {
        if id.is_empty() {
            return self.anonymous(Note::NoKey);
        }
        let named = tier.filter(|name| !name.is_empty());
        let position = named.and_then(|name| self.tier_positions.get(name)).copied();
        let note = (named.is_some() && position.is_none()).then_some(Note::UnknownTier);
        let caller = match (self.client_position(id), position.or(self.default_tier())) {
            (Some(client), _) => self.known_in(client, position),
            (None, _) if check_client_id(id).is_err() => self.anonymous(Note::BadClientId),
            (None, None) => self.anonymous(Note::UnknownClient),
            (None, Some(tier)) => self.unlisted(id, tier),
        };
        Caller { note: note.or(caller.note), ..caller }
    }

    /// The client that a call of ours goes to, and what the policy says of such calls: they count, are
    /// only met, or ignored.
    pub fn by_webhook<'a>(&'a self, id: &'a str) -> Caller<'a> {
        let caller = self.by_client(id, None);
        let of_tier = self.tier_positions.get(caller.tier).map(|&tier| self.policy.tiers[tier].webhooks);
        let of_client = caller.client.and_then(|client| client.webhooks);
        let action = match of_client.or(of_tier).unwrap_or_default() {
            Webhooks::Count => caller.action,
            Webhooks::Meter => Action::Observe,
            Webhooks::Ignore => Action::Ignore,
        };
        Caller { action, ..caller }
    }

    /// The name that `[routes]` gives to a normalised path.
    pub fn endpoint(&self, method: &str, path: &str) -> Option<&str> {
        self.routes.find(method, path)
    }

    /// All limits that apply to a request: the client's own, then its tier's, then those over all
    /// clients. Calendar quotas are those of `now_s`, seconds since 1970: of the day or month in the
    /// client's time zone, and over all clients in UTC. `out` is cleared first; it stays empty unless
    /// the caller's action is [`Action::Enforce`].
    pub fn limits(
        &self,
        caller: &Caller<'_>,
        method: &str,
        endpoint: &str,
        now_s: i64,
        out: &mut Vec<Applied>,
    ) {
        out.clear();
        if caller.action != Action::Enforce {
            return;
        }
        let utc = Moment { zones: &self.zones, zone: None, now_s };
        let zone = caller.client.and_then(|client| client.timezone.as_deref());
        caller.seat.limits(caller.id, method, endpoint, Moment { zone, ..utc }, out);
        grant::add(self.policy.grants_of(caller.id), now_s, out);
        out.extend(self.over_all.applying(method, endpoint).map(|at| {
            let (term, common) = (&self.over_all.terms()[at], &self.over_all_counters[at]);
            Applied::new(term, term.over.unwrap_or_default(), utc, |period| {
                common.counter(&term.limit, period)
            })
        }));
    }

    fn known(&self, client: usize) -> Caller<'_> {
        self.seated(&self.policy.clients[client].id, &self.clients[client], Kind::Known)
            .listed(&self.policy.clients[client])
    }

    /// A listed client in the tier that somebody named.
    fn known_in(&self, client: usize, tier: Option<usize>) -> Caller<'_> {
        let (caller, member) = (self.known(client), &self.clients[client]);
        let Some(tier) = tier.filter(|&tier| tier != member.tier as usize) else {
            return caller;
        };
        let listed = &self.policy.clients[client];
        let other = self.unlisted(caller.id, tier);
        let exempt = listed.exempt.unwrap_or(other.action == Action::Exempt);
        Caller {
            action: enforced_unless(exempt),
            dry_run: listed.dry_run.unwrap_or(other.dry_run),
            client: Some(listed),
            seat: Seat { own: member.own.as_deref(), ..other.seat },
            ..other
        }
    }

    /// A client that is known by its tier alone.
    fn unlisted<'a>(&'a self, id: &'a str, tier: usize) -> Caller<'a> {
        let of_tier = &self.policy.tiers[tier];
        Caller {
            id,
            tier: &of_tier.name,
            kind: Kind::Known,
            action: enforced_unless(of_tier.exempt),
            dry_run: of_tier.dry_run.covers(id),
            note: None,
            client: None,
            seat: Seat { own: None, tier: Some(&self.tiers[tier]), counters: None, over: of_tier.over },
        }
    }

    fn anonymous(&self, note: Note) -> Caller<'_> {
        let caller = match &self.anonymous {
            Some(member) => self.seated(ANONYMOUS, member, Kind::Anonymous),
            None => self.unlimited(),
        };
        Caller { note: Some(note), ..caller }
    }

    /// An anonymous caller where those are not limited.
    fn unlimited(&self) -> Caller<'_> {
        let action = match self.policy.unknown.action {
            UnknownAction::Reject => Action::Reject,
            UnknownAction::Observe | UnknownAction::Limit => Action::Observe,
        };
        Caller {
            id: ANONYMOUS,
            tier: UNKNOWN_TIER,
            kind: Kind::Anonymous,
            action,
            dry_run: false,
            note: None,
            client: None,
            seat: Seat::default(),
        }
    }

    fn seated<'a>(&'a self, id: &'a str, member: &'a Member, kind: Kind) -> Caller<'a> {
        let tier = member.tier as usize;
        Caller {
            id,
            tier: &self.policy.tiers[tier].name,
            kind,
            action: enforced_unless(member.exempt),
            dry_run: member.dry_run,
            note: None,
            client: None,
            seat: Seat {
                own: member.own.as_deref(),
                tier: Some(&self.tiers[tier]),
                counters: Some(&member.counters),
                over: self.policy.tiers[tier].over,
            },
        }
    }

    fn client_position(&self, id: &str) -> Option<usize> {
        let hash = self.id_hasher.hash_one(id);
        self.by_id.find(hash, |at| *self.policy.clients[at].id == *id)
    }

    fn default_tier(&self) -> Option<usize> {
        self.tier_positions.get(self.policy.default_tier.as_ref()?).copied()
    }
}

impl<'a> Caller<'a> {
    fn listed(self, client: &'a Client) -> Caller<'a> {
        Caller { client: Some(client), ..self }
    }
}

fn enforced_unless(exempt: bool) -> Action {
    if exempt { Action::Exempt } else { Action::Enforce }
}

fn trouble(key: &Key, now_s: i64) -> Option<Note> {
    if now_s < key.valid_s.start {
        Some(Note::KeyNotYetValid)
    } else if now_s >= key.valid_s.end {
        Some(Note::KeyExpired)
    } else {
        None
    }
}

/// Every key of every client, as client and key within the client.
fn key_positions(clients: &[Client]) -> Box<[(u32, u32)]> {
    let of_client = |(at, client): (u32, &Client)| (0..client.keys.len() as u32).map(move |k| (at, k));
    (0..).zip(clients).flat_map(of_client).collect()
}

fn key_at(policy: &Policy, (client, key): (u32, u32)) -> &Key {
    &policy.clients[client as usize].keys[key as usize]
}

/// Eight bytes of a SHA-256 are as good a hash as any. A caller can try keys until many fall into one
/// place of the table, but the table holds only the policy's keys, so that slows nothing down.
fn index_hash(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
