//! What a gateway is made of, why it can't start, and what it has to say.

use std::sync::Arc;

use weir_metering::SpoolOptions;
use weir_policy::Tables;
use weir_redis_link::{LinkError, LinkOptions};

use crate::figures::Figures;
use crate::metrics::Counters;
use crate::published::Source;

/// What a gateway is made of.
pub struct GatewayOptions {
    /// Shared by all workers.
    pub counters: &'static Counters,
    /// Shared by all workers.
    pub figures: Figures,
    /// `None`: this gateway is alone and its own authority.
    pub link: Option<LinkOptions>,
    /// `None`: no records are kept.
    pub spool: Option<SpoolOptions>,
    pub policy: Source,
    /// The policy in force until another comes.
    pub book: Arc<Tables>,
    /// `weir_fallback local` shares a limit by at least this many gateways.
    pub gateways_min: u32,
    /// This process, by a name that no other process ever has.
    pub owner: u64,
    /// Whether the process of such a name lives.
    pub alive: fn(u64) -> bool,
    /// This boot of the machine.
    pub boot: u128,
    pub random: fn() -> u128,
    /// Gives memory that is free back to the system.
    pub trim: fn(),
    /// Of the first token; see [`Gateway::next_life`].
    pub first_life: u32,
}

/// Why a gateway can't start. A spool that can't be opened is no reason: it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the link to Redis: {0}")]
    Link(#[from] LinkError),
    #[error("the thread that reads policies: {0}")]
    Thread(std::io::Error),
}

/// How much an operator should care about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Notice,
}

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub text: String,
}
