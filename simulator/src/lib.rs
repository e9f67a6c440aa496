//! Many gateways, one Redis, a bad network: the limiter's own code in a world that a seed decides.
//!
//! The world knows the protocol's messages, and nothing of stamps or leases; the judges know only
//! what was asked, admitted and told to whom and when.

pub mod server;

#[cfg(feature = "trial")]
pub mod fault;
#[cfg(feature = "trial")]
pub mod judge;
#[cfg(feature = "trial")]
pub mod mutants;
#[cfg(feature = "trial")]
mod process;
#[cfg(feature = "trial")]
pub mod scene;
#[cfg(feature = "trial")]
pub mod shrink;
#[cfg(feature = "trial")]
pub mod story;
#[cfg(feature = "trial")]
pub mod window;
#[cfg(feature = "trial")]
pub mod world;

#[cfg(feature = "trial")]
pub use {
    judge::Failure,
    scene::{Kind, LimitSpec, Scene, Traffic, Whose},
    world::{Outcome, run, run_broken},
};
