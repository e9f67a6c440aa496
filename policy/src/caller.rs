//! Who sent a request, as far as the policy knows.

use std::fmt;

use crate::image::ClientRow;
use crate::seat::Seat;

/// The sender of one request.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The client's id; `anonymous` for all that nobody knows.
    pub id: &'a str,
    pub tier: &'a str,
    pub kind: Kind,
    pub action: Action,
    /// Limits are decided and told, but not enforced.
    pub dry_run: bool,
    /// Why this is not the caller that was claimed; for logs and records, never for the answer.
    pub note: Option<Note>,
    /// The client's row, if it is listed in the policy.
    pub(crate) listed: Option<&'a ClientRow>,
    pub(crate) seat: Seat<'a>,
}

/// Whether the caller is a client of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Known,
    /// One of all the unknown callers, who share one client.
    Anonymous,
}

/// What to do with a request before any limit is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the limits.
    Enforce,
    /// Let it pass and record it.
    Observe,
    /// Refuse it.
    Reject,
    /// Let it pass: nothing limits this client.
    Exempt,
    /// Let it pass, and do not even record it.
    Ignore,
}

/// Why a caller is anonymous, or not quite what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// It showed neither a key nor an id.
    NoKey,
    KeyTooLong,
    UnknownKey,
    KeyNotYetValid,
    KeyExpired,
    /// Authenticated elsewhere, but there is no tier for it.
    UnknownClient,
    /// Authenticated elsewhere under an id that no client can have.
    BadClientId,
    /// The authenticator named a tier that the policy does not have; the client's own was taken.
    UnknownTier,
}

/// The note in words that follow "the caller …".
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Note::NoKey => "showed no API key",
            Note::KeyTooLong => "showed an API key of more than 256 bytes",
            Note::UnknownKey => "showed an API key that no client has",
            Note::KeyNotYetValid => "showed an API key that is not valid yet",
            Note::KeyExpired => "showed an API key that is no longer valid",
            Note::UnknownClient => "is not in the policy, which has no default_tier",
            Note::BadClientId => "has an id that no client can have",
            Note::UnknownTier => "has a tier that the policy does not have",
        })
    }
}
