//! Redis, beside nginx's event loop.
//!
//! One [`Link`] per worker process: one thread, one connection. Transactions of the limiter go in,
//! [`Event`]s come out; nothing here blocks the caller and nothing is ever sent twice.
//!
//! - [`options`]: what an operator writes, checked without touching the network.
//! - [`mailbox`]: events on their way out, and tickets, which see to it that every transaction gets
//!   exactly one answer or one "lost".
//! - [`gate`]: the breaker.
//! - [`dial`], [`guard`]: a connection, and what a server may say on it.
//! - [`exchange`]: transactions as commands, replies as values.
//! - [`keeper`]: connects, probes, announces this gateway.
//! - [`link`]: the thread and its handle.

mod dial;
mod error;
mod exchange;
mod gate;
mod guard;
mod keeper;
mod link;
mod mailbox;
mod options;
mod secret;
mod tls;

pub use error::LinkError;
pub use link::Link;
pub use mailbox::Event;
pub use options::LinkOptions;
