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

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
