//! Many gateways, one Redis, a bad network: the limiter's own code in a world that a seed decides.
//!
//! The world knows the protocol's messages, and nothing of stamps or leases; the checker knows only
//! what was admitted when.

pub mod checker;
pub mod scene;
pub mod server;
pub mod world;

pub use scene::{Faults, Scene, Traffic};
pub use world::{Outcome, run};
