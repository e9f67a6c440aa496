//! The metering record and the crash-safe spool with its written format (docs/record.md).

mod allocate;
mod cap;
#[cfg(test)]
mod crash_model;
pub mod decision;
mod dir;
mod entries;
pub mod error;
mod guard;
mod helper;
mod mapped;
mod names;
mod options;
mod pen;
pub mod reader;
pub mod record;
mod records;
mod seal;
#[cfg(test)]
mod seal_steps;
pub mod segment;
mod sweep;
mod thread;
mod varint;
pub mod writer;

pub use decision::Decision;
pub use error::{ReadError, SpoolError};
pub use names::Card;
pub use options::{Full, SpoolOptions};
pub use reader::{Dropped, Entry, Gap, Segment, sealed_segments, unsealed_segments};
pub use record::Record;
pub use records::Records;
pub use segment::{Ending, Reason, SealedBy, SegmentHeader};
pub use sweep::{boot_id, seal_orphans};
pub use thread::spawn as spawn_thread;
pub use writer::{SpoolCounts, SpoolWriter};
