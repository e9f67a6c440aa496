//! What goes wrong, and when. Each fault of a scene is one item of a list, so that a story can be
//! told without those that do not matter.

use std::fmt;

/// Something that happens at a moment. Gateways and workers are numbered; numbers too high for a
/// scene that was made smaller are taken modulo what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// kill -9 between two events; nginx starts another worker at once.
    WorkerDies {
        gateway: usize,
        worker: usize,
    },
    /// kill -9 before the n-th store to shared memory from now on, whatever the worker is doing.
    WorkerDiesAtStore {
        gateway: usize,
        worker: usize,
        store: u32,
    },
    /// SIGSTOP before the n-th store of its next decision; SIGCONT after a while.
    WorkerStops {
        gateway: usize,
        worker: usize,
        store: u32,
        for_ms: u64,
    },
    /// The machine is gone with its shared memory, and comes back empty.
    GatewayDies {
        gateway: usize,
        back_ms: u64,
    },
    /// New workers on the same memory; the old ones finish what they have and close.
    Reload {
        gateway: usize,
    },
    /// The connection breaks: what is under way is lost, executed or not.
    Cut {
        gateway: usize,
        worker: usize,
    },
    /// A second connection opens while answers of the first are still to come.
    SecondConnection {
        gateway: usize,
        worker: usize,
    },
    /// The server is busy with something else.
    ServerPauses {
        for_ms: u64,
    },
    /// The server restarts with its data, or without.
    ServerRestarts {
        keeps: bool,
    },
    /// A replica that is behind by so much takes over.
    Failover {
        lag_ms: u64,
    },
    Flush,
    /// One key of one limit is evicted.
    Evict {
        limit: usize,
        client: usize,
    },
    ClockSteps {
        by_ms: i64,
    },
    /// Another amount for a limit; workers learn of it within the scene's lag.
    LimitChanges {
        limit: usize,
        amount: u64,
    },
    /// What the gateways think their number is.
    GatewaysCounted {
        n: u32,
    },
}

impl Fault {
    /// Whether the server forgets something: then windows may exceed the limit, see docs/limiter.md.
    pub fn forgets(self) -> bool {
        match self {
            Fault::ServerRestarts { keeps } => !keeps,
            Fault::Failover { .. } | Fault::Flush | Fault::Evict { .. } => true,
            Fault::ClockSteps { by_ms } => by_ms > 0,
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::WorkerDies { gateway, worker } => {
                write!(f, "worker {worker} of gateway {gateway} dies between two events")
            }
            Fault::WorkerDiesAtStore { gateway, worker, store } => {
                write!(f, "worker {worker} of gateway {gateway} will die at its store number {store}")
            }
            Fault::WorkerStops { gateway, worker, store, for_ms } => write!(
                f,
                "worker {worker} of gateway {gateway} will stop at store {store} of a decision for {for_ms} ms"
            ),
            Fault::GatewayDies { gateway, back_ms } => {
                write!(f, "gateway {gateway} dies with its memory and is back after {back_ms} ms")
            }
            Fault::Reload { gateway } => write!(f, "gateway {gateway} reloads"),
            Fault::Cut { gateway, worker } => {
                write!(f, "the connection of worker {worker} of gateway {gateway} breaks")
            }
            Fault::SecondConnection { gateway, worker } => {
                write!(f, "worker {worker} of gateway {gateway} opens a second connection")
            }
            Fault::ServerPauses { for_ms } => write!(f, "the server pauses for {for_ms} ms"),
            Fault::ServerRestarts { keeps } => {
                write!(f, "the server restarts {} its data", if keeps { "with" } else { "without" })
            }
            Fault::Failover { lag_ms } => write!(f, "a replica takes over that is {lag_ms} ms behind"),
            Fault::Flush => f.write_str("FLUSHALL"),
            Fault::Evict { limit, client } => {
                write!(f, "the key of limit {limit} and client {client} is evicted")
            }
            Fault::ClockSteps { by_ms } => write!(f, "the server's clock steps by {by_ms} ms"),
            Fault::LimitChanges { limit, amount } => write!(f, "limit {limit} becomes {amount}"),
            Fault::GatewaysCounted { n } => write!(f, "gateways believe that they are {n}"),
        }
    }
}

/// A fault and its moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    pub at_ms: u64,
    pub fault: Fault,
}
