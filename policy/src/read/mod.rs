//! From text to a policy, or to everything that is wrong with the text.

mod alerts;
mod clients;
mod document;
mod grants;
mod limits;
mod most;
mod rest;
mod tiers;
mod words;

pub use document::{MAX_POLICY_BYTES, parse, parse_bytes, version_of};
