//! Generations: a partition of usage is its highest `g<n>.parquet`, created once, never overwritten.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::calendar::Partition;
use crate::columns;
use crate::held::{Held, Numbers};
use crate::parquet_file::{self, FileError};
use crate::store::{Created, Object, Store, StoreError};
use crate::table::Table;

/// How long a generation stays after the next one was made: somebody may be reading it.
pub const KEPT_US: i64 = 3_600 * 1_000_000;

/// What a generation says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Minutes only: the parts folded into it and its predecessors, as segments of streams.
    #[serde(default)]
    pub parts: BTreeMap<String, Numbers>,
    /// Coarser grains only: the generation of each finer partition that it was made from.
    #[serde(default)]
    pub from: BTreeMap<String, u64>,
    /// The record numbers behind its rows.
    #[serde(default)]
    pub streams: Held,
    /// How many of those stand in the coarser grain alone, because retention removed their rows here.
    /// The rows are then those that came since the generation before, which the coarser grain adds.
    #[serde(default)]
    pub moved: u64,
}

impl Note {
    /// Adds the parts and numbers of another.
    pub fn add(&mut self, other: &Note) {
        for (stream, segments) in &other.parts {
            self.parts.entry(stream.clone()).or_default().union(segments);
        }
        self.streams.union(&other.streams);
    }

    /// Whether everything that another lists is listed.
    pub fn lists_all(&self, other: &Note) -> bool {
        let all =
            |(stream, segments)| self.parts.get(stream).is_some_and(|s: &Numbers| s.contains_all(segments));
        other.parts.iter().all(all)
    }

    pub fn lists(&self, stream: &str, segment: u32) -> bool {
        self.parts.get(stream).is_some_and(|segments| segments.contains(u64::from(segment)))
    }
}

/// One generation as a listing shows it.
#[derive(Clone, Debug)]
pub struct Generation {
    pub number: u64,
    pub object: Object,
}

/// All generations of a partition, ascending.
pub async fn all(store: &Store, partition: Partition) -> Result<Vec<Generation>, StoreError> {
    let listed = store.list(&partition.folder()).await?;
    let mut found: Vec<Generation> = listed.into_iter().filter_map(parse).collect();
    found.sort_by_key(|g| g.number);
    Ok(found)
}

/// The generation that counts.
pub async fn newest(store: &Store, partition: Partition) -> Result<Option<Generation>, StoreError> {
    Ok(all(store, partition).await?.pop())
}

/// A generation's number, if the object is one.
pub fn parse(object: Object) -> Option<Generation> {
    let number = object.name().strip_prefix('g')?.strip_suffix(".parquet")?.parse().ok()?;
    Some(Generation { number, object })
}

impl Generation {
    pub async fn note(&self, store: &Store) -> Result<Note, FileError> {
        parquet_file::read_note(store, &self.object).await
    }

    pub async fn read(&self, store: &Store) -> Result<(Table, Note), FileError> {
        read_usage(store, &self.object.path).await
    }

    /// The file as it lies there, and its note.
    pub async fn file(&self, store: &Store) -> Result<(Bytes, Note), FileError> {
        let file = store.get(&self.object.path).await?;
        let (_, note) = parquet_file::open(file.clone(), &self.object.path, 1)?;
        Ok((file, note))
    }
}

/// Reads a file of usage rows with its note.
pub async fn read_usage<N: serde::de::DeserializeOwned>(
    store: &Store,
    path: &str,
) -> Result<(Table, N), FileError> {
    let (batch, note) = parquet_file::read(store, path).await?;
    Ok((columns::table_from_batch(&batch, path)?, note))
}

/// Name of the object beside generation `number` that says it has no rows, so that a listing is enough
/// to know.
pub fn empty_mark(partition: Partition, number: u64) -> String {
    format!("{}/g{number}.empty", partition.folder())
}

/// Creates generation `number`; `Existed` when somebody else was faster.
pub async fn create(
    store: &Store,
    partition: Partition,
    number: u64,
    file: Bytes,
) -> Result<Created, StoreError> {
    store.create(&format!("{}/g{number}.parquet", partition.folder()), file).await
}

/// Deletes generations that were superseded an hour ago, oldest first. Returns how many.
pub async fn tidy(store: &Store, partition: Partition, now_us: i64) -> Result<u64, StoreError> {
    let all = all(store, partition).await?;
    let mut deleted = 0;
    for pair in all.windows(2) {
        if pair[1].object.modified_us <= now_us - KEPT_US {
            store.delete(&empty_mark(partition, pair[0].number)).await?;
            store.delete(&pair[0].object.path).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}
