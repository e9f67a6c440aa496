//! The walk of one request through a gateway, without nginx: who asks, for what, may it, what is it
//! told, and what is booked.
//!
//! A [`Gateway`] is what one worker process of a gateway owns: the limiter's worker, the link to
//! Redis, the spool and the policy in force. Whoever holds it (the nginx module) says what a request
//! carries, passes the time in, and does what the verdict says. Nothing in here waits or blocks.

pub mod accept;
pub mod answer;
mod beyond;
pub mod books;
pub mod clock;
pub mod fields;
pub mod figures;
pub mod gateway;
mod judge;
pub mod metrics;
pub mod names;
pub mod policy_file;
mod profile;
pub mod published;
mod queue;
mod reader;
pub mod settings;
mod shelf;
mod usage;
pub mod walk;
pub mod walks;

pub use answer::{Answer, Links};
pub use clock::Now;
pub use figures::Figures;
pub use gateway::{Gateway, GatewayOptions, Level, Line, StartError};
pub use metrics::Counters;
pub use policy_file::{LoadError, PolicyFile};
pub use published::Source;
pub use settings::{FallbackMode, Headers, Rules};
pub use walk::{Outcome, Reason, Refusal, RequestFacts, Verdict, Walk};
pub use walks::Token;
