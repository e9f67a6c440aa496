//! Who asks for what: all about a request that is the same for every one like it, worked out once.

use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::rc::Rc;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};
use siphasher::sip128::{Hash128, SipHasher24};
use weir_metering::Card;
use weir_policy::{Action, Applied, Caller, Kind, Tables, hash_key};

use crate::answer::Answers;
use crate::fields::policy_field;
use crate::figures::Seat;

/// Profiles kept; when there are more, all are forgotten and made again as they are needed.
const KEPT: usize = 10_000;

/// A caller at an endpoint, under one policy.
#[derive(Debug)]
pub(crate) struct Profile {
    pub client: Box<str>,
    /// How the policy calls the client.
    pub shown: Box<str>,
    pub tier: Rc<str>,
    pub endpoint: Rc<str>,
    pub method: &'static str,
    pub action: Action,
    pub dry_run: bool,
    pub limits: Box<[Applied]>,
    /// The value of `RateLimit-Policy`.
    pub policy_field: Rc<str>,
    pub policy_version: u64,
    /// The seconds since 1970 in which the calendar periods of its limits and its grants last.
    pub valid_s: Range<i64>,
    pub answers: Answers,
    /// Where its figures are, as a client and as one of its tier.
    pub seat: Seat,
    pub tier_seat: Seat,
    /// Known to the policy.
    pub is_known: bool,
    /// How the spool numbers the names in records of each limit, the last those where no limit is named.
    pub cards: Box<[Cell<Card>]>,
}

impl Profile {
    pub fn new(
        book: &Tables,
        caller: &Caller<'_>,
        method: &'static str,
        endpoint: &str,
        now_s: i64,
    ) -> Profile {
        let mut limits = Vec::new();
        book.limits(caller, method, endpoint, now_s, &mut limits);
        let periods = limits.iter().filter_map(|limit: &Applied| limit.period_s.clone());
        let steady_s = book.steady_s(caller, now_s);
        let name = book.client_name(caller.id).unwrap_or(caller.id);
        Profile {
            client: caller.id.into(),
            shown: name.into(),
            tier: caller.tier.into(),
            endpoint: endpoint.into(),
            method,
            action: caller.action,
            dry_run: caller.dry_run,
            policy_field: policy_field(&limits).into(),
            valid_s: periods.fold(steady_s, common),
            cards: vec![Cell::default(); limits.len() + 1].into(),
            limits: limits.into(),
            policy_version: book.version(),
            answers: Answers::default(),
            seat: Seat::of(caller.id),
            tier_seat: Seat::of(caller.tier),
            is_known: caller.kind == Kind::Known,
        }
    }

    fn is_of(&self, caller: &Caller<'_>, method: &str, endpoint: &str) -> bool {
        *self.client == *caller.id
            && *self.endpoint == *endpoint
            && *self.tier == *caller.tier
            && self.action == caller.action
            && self.method == method
    }
}

/// The seconds that both have.
fn common(a: Range<i64>, b: Range<i64>) -> Range<i64> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// API keys that came last, each at its endpoint: known clients in one step, and what nobody knows takes
/// no place here.
const RECENT: usize = 4096;

struct Recent {
    /// What stands for the key, which is kept nowhere. SipHash under a key that never leaves this process:
    /// nobody can look for two API keys that share a tag, and it costs a tenth of the policy's SHA-256.
    tag: Hash128,
    valid_s: Range<i64>,
    profile: Rc<Profile>,
}

/// Of profiles that are to go so many go with each new one: all at once would take milliseconds.
const LEAVE_AT_ONCE: usize = 8;

/// Profiles under the policy in force. One of an older policy is replaced when it is found.
pub(crate) struct Profiles {
    kept: HashTable<Rc<Profile>>,
    leaving: hash_table::IntoIter<Rc<Profile>>,
    recent: Box<[Option<Recent>]>,
    /// Texts that many profiles share: then those that are read for every request stay near.
    texts: HashSet<Rc<str>>,
    /// Seeded by chance: some of what is hashed is chosen by clients.
    hasher: DefaultHashBuilder,
    tags: SipHasher24,
}

impl Default for Profiles {
    fn default() -> Profiles {
        Profiles {
            kept: HashTable::new(),
            leaving: HashTable::new().into_iter(),
            recent: std::iter::repeat_with(|| None).take(RECENT).collect(),
            texts: HashSet::new(),
            hasher: DefaultHashBuilder::default(),
            // What the system drew by chance, two halves that tell nothing of each other.
            tags: SipHasher24::new_with_keys(RandomState::new().hash_one(0), RandomState::new().hash_one(1)),
        }
    }
}

impl Profiles {
    /// The profile of whoever has this API key.
    pub fn of_key(
        &mut self,
        book: &Tables,
        key: &[u8],
        method: &'static str,
        endpoint: &str,
        now_s: i64,
    ) -> Rc<Profile> {
        let tag = self.tags.hash(key);
        let place = self.hasher.hash_one((tag.h1, method, endpoint)) as usize % RECENT;
        if let Some(Recent { tag: known, valid_s, profile }) = &self.recent[place]
            && *known == tag
            && profile.policy_version == book.version()
            && valid_s.contains(&now_s)
            && profile.method == method
            && *profile.endpoint == *endpoint
        {
            return Rc::clone(profile);
        }
        let (caller, valid_s) = book.by_key_hash(&hash_key(key), now_s);
        let profile = self.of(book, &caller, method, endpoint, now_s);
        let valid_s = common(valid_s, profile.valid_s.clone());
        if !valid_s.is_empty() {
            self.recent[place] = Some(Recent { tag, valid_s, profile: Rc::clone(&profile) });
        }
        profile
    }

    pub fn of(
        &mut self,
        book: &Tables,
        caller: &Caller<'_>,
        method: &'static str,
        endpoint: &str,
        now_s: i64,
    ) -> Rc<Profile> {
        let hasher = &self.hasher;
        let hash = hasher.hash_one((caller.id, caller.tier, method, endpoint));
        let texts = &mut self.texts;
        let mut make = || {
            let mut profile = Profile::new(book, caller, method, endpoint, now_s);
            for text in [&mut profile.tier, &mut profile.endpoint, &mut profile.policy_field] {
                share(texts, text);
            }
            Rc::new(profile)
        };
        if let Some(profile) = self.kept.find_mut(hash, |profile| profile.is_of(caller, method, endpoint)) {
            if profile.policy_version != book.version() || !profile.valid_s.contains(&now_s) {
                *profile = make();
            }
            return Rc::clone(profile);
        }
        let profile = make();
        self.leaving.by_ref().take(LEAVE_AT_ONCE).for_each(drop);
        if self.kept.len() >= KEPT {
            self.leaving = std::mem::take(&mut self.kept).into_iter();
            self.texts.clear();
        }
        let again = |p: &Rc<Profile>| hasher.hash_one((&*p.client, &*p.tier, p.method, &*p.endpoint));
        self.kept.insert_unique(hash, Rc::clone(&profile), again);
        profile
    }
}

/// Puts the one text that all share in the place of an equal one.
fn share(texts: &mut HashSet<Rc<str>>, text: &mut Rc<str>) {
    match texts.get(text) {
        Some(known) => *text = Rc::clone(known),
        None => drop(texts.insert(Rc::clone(text))),
    }
}
