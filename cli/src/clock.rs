//! The one place where the clock and chance are read.

use std::fs::File;
use std::io::{self, Read};
use std::time::SystemTime;

/// Microseconds since the Unix epoch, UTC.
#[allow(clippy::disallowed_methods)] // This is the place.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds since the Unix epoch, UTC.
pub fn now_ms() -> u64 {
    u64::try_from(now_us() / 1_000).unwrap_or_default()
}

/// Who runs this, for the history of what was published: `bob@desk`.
#[allow(clippy::disallowed_methods)] // This is the place.
pub fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let user = user.filter(|user| !user.is_empty()).unwrap_or_else(|| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{}", host.trim())
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
