//! Strict sliding windows, shared by leases.
//!
//! No I/O, no clocks, no threads: time goes in as numbers, transactions come out as values, answers
//! go in. So the same code runs in nginx, in the what-if replay and in the simulator.
//!
//! Times are milliseconds. *Gateway time* is the machine's `CLOCK_BOOTTIME`; *server time* is what a
//! Redis server says in `TIME`. The two meet only in [`clock`].

pub mod cell;
pub mod clock;
mod lease;
mod lives;
pub mod table;
pub mod trial;
pub mod units;
pub mod wire;
pub mod worker;

pub use table::{MAX_ASKS, Table, TableError};
pub use units::{Limit, Unit, Window};
pub use wire::{Answer, Counter, Part, Transaction, field_of, stamp_of};
pub use worker::{Ask, Decision, Fallback, LimitState, Mode, Why, Worker};
