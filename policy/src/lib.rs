//! What the business decides: tiers, clients, API keys, endpoints, alerts, objectives.
//!
//! A policy is text (`policy.toml`). [`parse`] turns it into a [`Policy`] or into every [`Problem`]
//! it has, each with its place and its remedy. [`Tables::image`] turns a policy into
//! bytes that any number of processes share, and [`Tables::open`] into what a request is looked up in.
//!
//! No disks, no network, no clock: text and times come in as arguments.
//!
//! ```
//! use weir_policy::{Book, hash_key, parse, spell_hash};
//!
//! let key = spell_hash(&hash_key(b"weir_secret"));
//! let policy = parse(&format!(
//!     "tiers.basic.limits = [\"100 requests/minute\"]
//!      clients.acme = {{ tier = \"basic\", keys = [\"{key}\"] }}"
//! ))
//! .expect("the policy is right");
//! let book = Book::compile(policy);
//!
//! let caller = book.by_key(b"weir_secret", 1_800_000_000);
//! assert_eq!((caller.id, caller.tier), ("acme", "basic"));
//! let mut limits = Vec::new();
//! book.limits(&caller, "GET", "/orders", 1_800_000_000, &mut limits);
//! assert_eq!(limits[0].counter.name, "{acme}:requests:60000");
//! ```

/// Counts the forms of policies: one that an older gateway would misread has a higher number. It goes
/// with what is published, not into the text.
pub const SCHEMA: u32 = 1;

mod alerts;
mod book;
mod caller;
mod codec;
mod difference;
mod frame;
mod grammar;
mod grant;
mod image;
mod index;
mod model;
mod node;
mod period;
mod places;
mod plan;
mod problem;
mod read;
mod routes;
mod seat;
mod suggest;

pub use alerts::{ALERT_KINDS, Alerts, ClientAlerts, Mute, Quiet};
pub use book::{Book, Tables};
pub use caller::{Action, Caller, Kind, Note};
pub use difference::difference;
pub use grammar::address::check_address;
pub use grammar::duration::parse as parse_duration;
pub use grammar::key::{MAX_KEY_BYTES, hash_key, parse_hash, spell_hash};
pub use grammar::limit::{MAX_AMOUNT, parse_limit, spell_limit};
pub use grammar::name::{ANONYMOUS, MAX_NAME_BYTES, check_client_id, check_name};
pub use image::{IMAGE_FORMAT, ImageError};
pub use model::{
    Client, DryRun, EndpointRule, Grant, Key, LatencyObjective, Objective, Over, Policy, Route, Tier,
    Unknown, UnknownAction, Webhooks,
};
pub use places::Places;
pub use problem::{Fault, Problem};
pub use read::{MAX_POLICY_BYTES, parse, parse_bytes, version_of};
pub use seat::Applied;
