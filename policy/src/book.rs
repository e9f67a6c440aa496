//! A policy compiled for look-ups: a caller's key in, its limits out, without searching or copying.

use std::collections::HashMap;
use std::ops::{Deref, Range};

use crate::caller::{Action, Caller, Kind, Note};
use crate::frame::{self, Frame, TierFrame};
use crate::grammar::key::{MAX_KEY_BYTES, hash_key};
use crate::grammar::name::{ANONYMOUS, UNKNOWN_TIER, check_client_id};
use crate::grant;
use crate::image::{self, ClientRow, Image, ImageError};
use crate::model::{Grant, Policy, UnknownAction, Webhooks};
use crate::period::Moment;
use crate::plan::Words;
use crate::seat::{Applied, Seat, members};

/// A policy and its tables, for whoever wants to know all that it says.
pub struct Book {
    policy: Policy,
    tables: Tables,
}

impl Book {
    /// Compiles a policy.
    pub fn compile(policy: Policy) -> Book {
        Book { tables: Tables::compile(&policy), policy }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl Deref for Book {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

/// A policy compiled for look-ups: an image, in which the clients are, and all else ready for use. They
/// never change, so one copy serves all threads through an `Arc`; a new policy has new ones.
pub struct Tables {
    image: Image,
    frame: Frame,
}

impl Tables {
    /// A policy as bytes for [`Tables::open`], with nothing in it that belongs to one process.
    pub fn image(policy: &Policy) -> Vec<u8> {
        let mut words = Words::default();
        let positions: HashMap<&str, usize> =
            (0..).zip(&policy.tiers).map(|(at, tier)| (&*tier.name, at)).collect();
        let mut zones: Vec<&str> = policy.clients.iter().filter_map(|c| c.timezone.as_deref()).collect();
        zones.sort_unstable();
        zones.dedup();
        let frame = frame::write(policy, &zones, &mut words);
        let members = members(policy, &positions, &mut words);
        image::write(policy, &members, frame, |client| {
            let zone = client.timezone.as_deref().and_then(|name| zones.binary_search(&name).ok());
            zone.map_or(0, |at| at as u32 + 1)
        })
    }

    /// The tables of an image, wherever its bytes are.
    ///
    /// # Errors
    /// [`ImageError`]: these are not the bytes that [`Tables::image`] of this version gave.
    pub fn open(bytes: Box<dyn AsRef<[u8]> + Send + Sync>) -> Result<Tables, ImageError> {
        let image = Image::open(bytes)?;
        let frame = Frame::read(&mut image.frame()).ok_or(ImageError::Damaged)?;
        Ok(Tables { image, frame })
    }

    /// Compiles a policy for this process alone.
    ///
    /// # Panics
    /// If what was just written can't be read: a bug.
    pub fn compile(policy: &Policy) -> Tables {
        Tables::open(Box::new(Tables::image(policy))).expect("an image that was just written is one")
    }

    /// No policy, as version 0: nobody is known and nothing is limited.
    pub fn none() -> Tables {
        Tables::compile(&Policy::default())
    }

    /// See [`Policy::version`].
    pub fn version(&self) -> u64 {
        self.image.version
    }

    /// Bytes of the image.
    pub fn size(&self) -> usize {
        self.image.size()
    }

    /// What people call a client of the policy.
    pub fn client_name(&self, id: &str) -> Option<&str> {
        Some(self.image.name(self.row(id)?))
    }

    /// The tier that the policy gives to a client of its own.
    pub fn client_tier(&self, id: &str) -> Option<&str> {
        Some(&self.frame.tiers.get(self.row(id)?.tier())?.name)
    }

    /// The seconds around `now_s` during which the same grants of a caller hold.
    pub fn steady_s(&self, caller: &Caller<'_>, now_s: i64) -> Range<i64> {
        grant::steady_s(&self.grants(caller), now_s)
    }

    fn grants(&self, caller: &Caller<'_>) -> Vec<Grant> {
        caller.listed.map_or(Vec::new(), |row| self.image.grants(row))
    }

    fn row(&self, id: &str) -> Option<&ClientRow> {
        self.image.client(self.image.find_id(id)?)
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
        let found = self.image.find_key(hash);
        let known = found.as_ref().and_then(|found| self.known(self.image.client(found.client)?));
        match (known, found) {
            (Some(known), Some(found)) => match trouble(&found.valid_s, now_s) {
                Some(note) => (self.anonymous(note), 0..0),
                None => (known, found.valid_s),
            },
            _ => (self.anonymous(Note::UnknownKey), 0..0),
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
        let position = named.and_then(|name| self.frame.position(name));
        let note = (named.is_some() && position.is_none()).then_some(Note::UnknownTier);
        let named_or_default = position.or(self.frame.default_tier).and_then(|at| self.frame.tiers.get(at));
        let caller = match (self.row(id).and_then(|row| self.known_in(row, position)), named_or_default) {
            (Some(caller), _) => caller,
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
        let of_tier = self.frame.position(caller.tier).and_then(|at| self.frame.tiers.get(at));
        let of_tier = of_tier.map(|tier| tier.webhooks);
        let of_client = caller.listed.and_then(ClientRow::webhooks);
        let action = match of_client.or(of_tier).unwrap_or_default() {
            Webhooks::Count => caller.action,
            Webhooks::Meter => Action::Observe,
            Webhooks::Ignore => Action::Ignore,
        };
        Caller { action, ..caller }
    }

    /// The name that `[routes]` gives to a normalised path.
    pub fn endpoint(&self, method: &str, path: &str) -> Option<&str> {
        self.frame.routes.find(method, path)
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
        let utc = Moment { zones: &self.frame.zones, zone: None, now_s };
        let zone = caller.listed.and_then(|row| (row.zone.get() as usize).checked_sub(1));
        caller.seat.limits(caller.id, method, endpoint, Moment { zone, ..utc }, out);
        grant::add(&self.grants(caller), now_s, out);
        let Frame { over_all, over_all_counters, .. } = &self.frame;
        out.extend(over_all.applying(method, endpoint).map(|at| {
            let (term, common) = (&over_all.terms()[at], &over_all_counters[at]);
            Applied::new(term, term.over.unwrap_or_default(), utc, |period| {
                common.counter(&term.limit, period)
            })
        }));
    }

    fn known<'a>(&'a self, row: &'a ClientRow) -> Option<Caller<'a>> {
        let tier = self.frame.tiers.get(row.tier())?;
        Some(Caller {
            id: self.image.id(row),
            tier: &tier.name,
            kind: Kind::Known,
            action: enforced_unless(row.is_exempt()),
            dry_run: row.is_dry_run(),
            note: None,
            listed: Some(row),
            seat: Seat { own: self.image.own(row), ..tier.seat() },
        })
    }

    /// A listed client in the tier that somebody named.
    fn known_in<'a>(&'a self, row: &'a ClientRow, tier: Option<usize>) -> Option<Caller<'a>> {
        let caller = self.known(row)?;
        let Some(tier) = tier.filter(|&tier| tier != row.tier()) else {
            return Some(caller);
        };
        let other = self.unlisted(caller.id, self.frame.tiers.get(tier)?);
        let exempt = row.exempt().unwrap_or(other.action == Action::Exempt);
        Some(Caller {
            action: enforced_unless(exempt),
            dry_run: row.dry_run().unwrap_or(other.dry_run),
            listed: Some(row),
            seat: Seat { own: caller.seat.own, ..other.seat },
            ..other
        })
    }

    /// A client that is known by its tier alone.
    fn unlisted<'a>(&'a self, id: &'a str, tier: &'a TierFrame) -> Caller<'a> {
        Caller {
            id,
            tier: &tier.name,
            kind: Kind::Known,
            action: enforced_unless(tier.exempt),
            dry_run: tier.dry_run.covers(id),
            note: None,
            listed: None,
            seat: tier.seat(),
        }
    }

    fn anonymous(&self, note: Note) -> Caller<'_> {
        let limited = match self.frame.unknown {
            UnknownAction::Limit => self.frame.unknown_tier.and_then(|at| self.frame.tiers.get(at)),
            UnknownAction::Observe | UnknownAction::Reject => None,
        };
        let caller = match limited {
            Some(tier) => Caller { kind: Kind::Anonymous, ..self.unlisted(ANONYMOUS, tier) },
            None => self.unlimited(),
        };
        Caller { note: Some(note), ..caller }
    }

    /// An anonymous caller where those are not limited.
    fn unlimited(&self) -> Caller<'_> {
        let action = match self.frame.unknown {
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
            listed: None,
            seat: Seat::default(),
        }
    }
}

fn enforced_unless(exempt: bool) -> Action {
    if exempt { Action::Exempt } else { Action::Enforce }
}

fn trouble(valid_s: &Range<i64>, now_s: i64) -> Option<Note> {
    if now_s < valid_s.start {
        Some(Note::KeyNotYetValid)
    } else if now_s >= valid_s.end {
        Some(Note::KeyExpired)
    } else {
        None
    }
}
