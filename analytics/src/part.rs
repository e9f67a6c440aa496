//! Parts: the records of one sealed segment and hour, and their roll-up to minutes.
//!
//! A part's name follows from its segment, and it is created, never overwritten, so doing it twice
//! changes nothing. `records/` keeps the records; `parts/` is the queue of the roll-up.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};

use crate::calendar::Partition;
use crate::columns::{self, SORTED_BY};
use crate::completeness::Life;
use crate::fold::{FoldError, fold};
use crate::held::{Held, Numbers};
use crate::parquet_file::{self, FileError};
use crate::records::Records;
use crate::store::{Created, Store, StoreError};
use crate::table::Table;
use crate::view::Grain;

/// Where the roll-ups of single parts wait to be folded.
pub const QUEUE: &str = "parts";

/// Where records are kept.
pub const RECORDS: &str = "records";

/// Why a part could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    #[error(
        "`{path}` is in the store already with other records; two machines use one stream id (a cloned spool?): keep the segment, find out which one is right"
    )]
    Conflict { path: String },
    #[error("could not encode a part: {0}; please report this")]
    Encode(#[from] ParquetError),
    #[error("could not arrange a part's columns: {0}; please report this")]
    Columns(#[from] ArrowError),
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<StoreError> for PartError {
    fn from(e: StoreError) -> PartError {
        PartError::File(FileError::Store(e))
    }
}

impl PartError {
    /// Whether the store failed, so that trying further parts is of no use now.
    pub fn is_of_store(&self) -> bool {
        matches!(self, PartError::File(e) if e.is_of_store())
    }
}

/// What a part's file says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartNote {
    pub gateway: String,
    /// The stream's id, 32 hex digits.
    pub stream: String,
    /// Index of the segment in its stream.
    pub segment: u32,
    /// The boot of the machine that the records were written in, hex; empty for imports.
    pub boot: String,
    /// Numbers of the records in this part.
    pub held: Numbers,
    /// The segment's first number, and the one after its last.
    pub first: u64,
    pub next: u64,
    /// Numbers between the two that are known to be missing, half open.
    pub gaps: Vec<(u64, u64)>,
    /// From when to when the segment proves that its worker lived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<Life>,
    /// Those of the missing numbers that the gateway says it lost, by its reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<String, Numbers>,
    /// What the segment says of other streams: numbers that the gateway removed for its spool's cap.
    #[serde(default, skip_serializing_if = "Held::is_empty")]
    pub others: Held,
}

impl PartNote {
    pub fn name(&self) -> String {
        part_name(&self.stream, self.segment)
    }
}

/// `<stream>-<segment>.parquet`
pub fn part_name(stream: &str, segment: u32) -> String {
    format!("{stream}-{segment:010}.parquet")
}

/// Stream and segment of a part's path.
pub fn parse_name(path: &str) -> Option<(&str, u32)> {
    let name = path.rsplit('/').next()?.strip_suffix(".parquet")?;
    let (stream, segment) = name.split_once('-')?;
    Some((stream, segment.parse().ok()?))
}

/// Stores the records of one hour and puts their roll-up into the queue.
///
/// `Existed` says that the records were in the store already; the queue is filled all the same, for
/// the case that whoever stored them was killed before.
pub async fn put(
    store: &Store,
    hour: Partition,
    note: &PartNote,
    mut records: Records,
) -> Result<Created, PartError> {
    records.of(&note.gateway, &note.stream);
    records.sort();
    let path = format!("{RECORDS}/{}/{}", hour.key(), note.name());
    let batch = columns::records_to_batch(&records)?;
    let file = parquet_file::encode(&batch, note, &SORTED_BY)?;
    let created = store.create(&path, file).await?;
    if created == Created::Existed {
        verify(store, &path, note, &batch).await?;
    }
    enqueue(store, hour, note, &records).await?;
    Ok(created)
}

/// Numbers alone do not tell the records of a machine from those of its running copy.
async fn verify(store: &Store, path: &str, note: &PartNote, batch: &RecordBatch) -> Result<(), PartError> {
    let (found, found_note) = read_records(store, path).await?;
    let same = (&found_note.held, &found_note.boot) == (&note.held, &note.boot);
    if same && columns::records_to_batch(&found)? == *batch {
        return Ok(());
    }
    Err(PartError::Conflict { path: path.to_owned() })
}

/// Puts the roll-up of a part into the queue.
pub async fn enqueue(
    store: &Store,
    hour: Partition,
    note: &PartNote,
    records: &Records,
) -> Result<(), PartError> {
    let path = format!("{QUEUE}/{}/{}", hour.key(), note.name());
    let minutes = fold(&[&Table::of_records(records)], Grain::Minute)?;
    store.create(&path, usage_file(&minutes, note)?).await?;
    Ok(())
}

/// Reads a record part.
pub async fn read_records(store: &Store, path: &str) -> Result<(Records, PartNote), FileError> {
    let (batch, note) = parquet_file::read(store, path).await?;
    Ok((columns::records_from_batch(&batch, path)?, note))
}

/// Reads a part's roll-up from the queue or, if that is damaged, makes it again from the records.
pub async fn read_queued(store: &Store, path: &str) -> Result<(Table, PartNote), PartError> {
    let damaged = match parquet_file::read(store, path).await {
        Ok((batch, note)) => return Ok((columns::table_from_batch(&batch, path)?, note)),
        Err(e) if e.is_of_store() => return Err(e.into()),
        Err(e) => e,
    };
    let Ok((records, note)) = read_records(store, &path.replacen(QUEUE, RECORDS, 1)).await else {
        return Err(damaged.into());
    };
    Ok((fold(&[&Table::of_records(&records)], Grain::Minute)?, note))
}

/// Encodes usage rows with a note.
pub fn usage_file<N: Serialize>(table: &Table, note: &N) -> Result<Bytes, PartError> {
    Ok(parquet_file::encode(&columns::table_to_batch(table)?, note, &SORTED_BY)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_stream_and_segment() {
        let name = part_name("00ff", 12);
        assert_eq!(name, "00ff-0000000012.parquet");
        assert_eq!(parse_name(&format!("parts/date=x/{name}")), Some(("00ff", 12)));
        assert_eq!(parse_name("parts/other.txt"), None);
    }
}
