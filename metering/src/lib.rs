//! The metering record and the crash-safe spool with its written format (docs/record.md).

pub mod decision;
pub mod reader;
pub mod record;
pub mod segment;
pub mod writer;

pub use decision::Decision;
pub use reader::{Gap, Segment, SegmentHeader, sealed_segments};
pub use record::Record;
pub use writer::{SpoolOptions, SpoolWriter};
