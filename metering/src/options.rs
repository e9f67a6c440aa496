//! How a spool is set up.

use std::path::PathBuf;

use crate::error::SpoolError;
use crate::segment::{MAX_GATEWAY, MAX_SEGMENT_BYTES};

/// What goes when the spool has reached its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The oldest sealed segments, with a note of how many records of whom.
    Oldest,
    /// New records; each one counted.
    Newest,
}

#[derive(Clone, Debug)]
pub struct SpoolOptions {
    pub dir: PathBuf,
    /// This gateway's name in every segment; 1 to 255 bytes.
    pub gateway: String,
    /// Cap on the directory, all workers' files together.
    pub max_bytes: u64,
    /// Size of a segment in use, 64 KiB to 256 MiB, a multiple of 64 KiB.
    pub segment_bytes: u64,
    /// A segment with records in it is sealed at this age.
    pub seal_after_ms: u64,
    /// A power cut loses what was appended since the last sync: this long, at least 10 ms.
    pub sync_every_ms: u64,
    pub full: Full,
}

impl SpoolOptions {
    /// The defaults: cap 1 GiB, segments of 4 MiB, sealed after 5 s, synced every second, oldest go.
    pub fn new(dir: impl Into<PathBuf>, gateway: impl Into<String>) -> SpoolOptions {
        SpoolOptions {
            dir: dir.into(),
            gateway: gateway.into(),
            max_bytes: 1 << 30,
            segment_bytes: 4 << 20,
            seal_after_ms: 5_000,
            sync_every_ms: 1_000,
            full: Full::Oldest,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), SpoolError> {
        let gateway = (1..=MAX_GATEWAY).contains(&self.gateway.len());
        require(gateway, "weir_gateway", "give a name of 1 to 255 bytes")?;
        let unit = 64 << 10;
        let size = self.segment_bytes.is_multiple_of(unit)
            && (unit..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes);
        require(size, "segment size", "use a multiple of 64 KiB up to 256 MiB")?;
        let cap = self.max_bytes / 4 >= self.segment_bytes;
        require(
            cap,
            "weir_spool max",
            "use at least four times the segment size (16 MiB by default), better 1 GiB",
        )?;
        require(self.sync_every_ms >= 10, "weir_spool sync", "use 10 ms or more")
    }
}

fn require(holds: bool, setting: &'static str, problem: &str) -> Result<(), SpoolError> {
    let problem = problem.to_owned();
    holds.then_some(()).ok_or(SpoolError::Options { setting, problem })
}
