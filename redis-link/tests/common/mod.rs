//! Real Redis servers, servers that misbehave, and a link whose events are watched.
#![allow(dead_code)] // Each test binary uses its own part of this.

pub mod fake;
pub mod server;
pub mod watched;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_limiter::{Counter, Part, Transaction};
use weir_redis_link::LinkOptions;

pub const PREFIX: &str = "weirtest";

/// `CLOCK_BOOTTIME` in milliseconds.
pub fn boottime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Options for `url`. The time-out is long enough for a machine that is busy with other tests.
pub fn options(url: &str) -> LinkOptions {
    LinkOptions {
        prefix: PREFIX.to_owned(),
        timeout: Duration::from_millis(500),
        gateway: "gw-1".to_owned(),
        ..LinkOptions::new(url, boottime_ms)
    }
}

/// A file with this content that only its owner may read.
pub fn private_file(dir: &std::path::Path, name: &str, content: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Asks again and again until it is so, for 20 seconds.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A transaction on one counter of `tag`.
pub fn add(id: u64, tag: &str, add: &[(u64, i64)]) -> Transaction {
    Transaction { id, life: 0, parts: vec![part(tag, ":requests:60000", add, &[])] }
}

pub fn part(tag: &str, rest: &str, add: &[(u64, i64)], drop: &[u64]) -> Part {
    let counter: Arc<Counter> = Counter::new(tag, rest);
    Part { counter, add: add.to_vec(), drop: drop.to_vec(), expire_ms: 120_000 }
}
