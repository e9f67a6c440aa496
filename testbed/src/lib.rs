//! Real servers for tests, the demo and the benchmarks: Redis, nginx, an SMTP server, an
//! S3-compatible store, a browser, a backend, and a client that sends load.
//!
//! Every starter takes free loopback ports and a folder of its own, waits until the server answers
//! in its own protocol, and ends exactly what it started when it is dropped. A part that is not
//! installed is an error that names the `make` target which installs it; nothing is skipped.

// This crate drives real processes: the clock, sleeping and the environment are its business.
#![allow(clippy::disallowed_methods)]

pub mod azure;
pub mod backend;
pub mod browser;
pub mod error;
pub mod gateway;
pub mod http;
pub mod load;
pub mod nginx;
pub mod parts;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod s3;
pub mod scene;
pub mod smtp;
pub mod tls;
pub mod wait;
pub mod weir;
pub mod windows;

pub use error::StartError;
pub use fastrand;
pub use tempfile::TempDir;

/// A new empty folder that is removed when dropped.
pub fn temp_dir() -> TempDir {
    tempfile::Builder::new().prefix("weir-").tempdir().expect("the temporary folder is writable")
}
