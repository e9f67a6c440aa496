//! Redis, beside nginx's event loop.
//!
//! One [`Link`] per worker process: one thread, one connection per server that takes writes.
//! Transactions of the limiter go in, [`Event`]s come out; nothing here blocks the caller and nothing
//! is ever sent twice.
//!
//! - [`options`], [`place`]: what an operator writes, checked without touching the network.
//! - [`mailbox`]: events on their way out, and tickets, which see to it that every transaction gets
//!   exactly one answer or one "lost".
//! - [`gate`]: the breaker of one server; [`crowd`]: what all of them amount to.
//! - [`dial`], [`guard`]: a connection, and what a server may say on it.
//! - [`exchange`]: transactions as commands, replies as values.
//! - [`keeper`]: connects, probes, announces this gateway.
//! - [`sentinel`]: asks Sentinels for the server that takes writes.
//! - [`cluster`], [`slots`]: the servers of a Redis Cluster, and which of them keeps which keys.
//! - [`published`]: the policy as it lies there; [`follow`], [`parcel`]: for gateways, [`desk`]: for who publishes.
//! - [`look`]: what Redis holds, for people.
//! - [`link`]: the thread and its handle.

mod cluster;
mod crowd;
mod desk;
mod dial;
mod error;
mod exchange;
mod follow;
mod gate;
mod guard;
mod keeper;
mod link;
mod look;
mod mailbox;
mod options;
mod parcel;
mod place;
mod published;
mod secret;
mod sentinel;
mod slots;
mod tls;

pub use desk::{Desk, DeskError, Draft};
pub use error::LinkError;
pub use follow::{Follow, News};
pub use link::Link;
pub use look::{Facts, Look, LookError, Used};
pub use mailbox::Event;
pub use options::LinkOptions;
pub use parcel::Parcel;
pub use place::is_metadata;
pub use published::{Brake, ImageSize, Release};
