//! Bundles: the records of many parts of one hour in one file, `b<n>.parquet`.
//!
//! A part that a bundle lists does not count, whether it is still there or came again. Bundles are
//! added, never replaced: who makes `b<n+1>` has read what all before it list, and of several makers of
//! one name exactly one wins, so no two of them list the same part.

use std::collections::BTreeMap;

use futures::StreamExt;
use serde::{Deserialize, Serialize};

use crate::calendar::Partition;
use crate::columns;
use crate::generation::Note;
use crate::held::{Held, Numbers, Stream};
use crate::parquet_file::{self, FileError};
use crate::part::{self, PartNote, RECORDS};
use crate::records::Records;
use crate::store::{Object, Store};

/// Rows of a file in memory at a time.
const ROWS: usize = 16_384;

/// What a bundle says about itself; a part's note in the same words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleNote {
    /// Its parts, and the record numbers in them.
    pub held: Note,
    /// Whose streams these are.
    pub of: BTreeMap<String, Writer>,
}

/// Who wrote a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    pub gateway: String,
    /// As in [`PartNote::boot`].
    pub boot: String,
    /// Numbers that are missing within the stream's segments.
    pub missing: u64,
}

impl BundleNote {
    pub fn add(&mut self, part: &PartNote) {
        add_part(&mut self.held, part);
        let missing: u64 = part.gaps.iter().map(|(from, to)| to - from).sum();
        let new = || Writer { gateway: part.gateway.clone(), boot: part.boot.clone(), missing: 0 };
        self.of.entry(part.stream.clone()).or_insert_with(new).missing += missing;
    }

    fn lists(&self, part: &Object) -> bool {
        part::parse_name(&part.path).is_some_and(|(stream, segment)| self.held.lists(stream, segment))
    }
}

/// Adds what a part says about itself to what is said of several.
pub fn add_part(note: &mut Note, part: &PartNote) {
    note.parts.entry(part.stream.clone()).or_default().insert(u64::from(part.segment));
    let stream =
        Stream { held: part.held.clone(), next: part.next, life: part.life.clone(), lost: part.lost.clone() };
    note.streams.union(&part.others);
    note.streams.union(&Held(BTreeMap::from([(part.stream.clone(), stream)])));
}

/// One bundle as it lies in the store.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub number: u64,
    pub object: Object,
    pub note: BundleNote,
}

/// Number of a bundle, if the path is one's.
pub fn parse_name(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.strip_prefix('b')?.strip_suffix(".parquet")?.parse().ok()
}

/// Where a bundle lies.
pub fn path(hour: Partition, number: u64) -> String {
    format!("{RECORDS}/{}/b{number}.parquet", hour.key())
}

/// The files of an hour's records.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Ascending.
    pub bundles: Vec<Bundle>,
    /// Parts that count.
    pub parts: Vec<Object>,
    /// Parts that bundles list: they do not count.
    pub bundled: Vec<Object>,
}

impl Files {
    /// What lies there now. Files that count then stay for an hour at least, but for retention.
    pub async fn of_hour(store: &Store, hour: Partition) -> Result<Files, FileError> {
        Files::of(store, store.list(&format!("{RECORDS}/{}", hour.key())).await?).await
    }

    /// What was listed of one hour.
    pub async fn of(store: &Store, objects: Vec<Object>) -> Result<Files, FileError> {
        let mut files = Files::default();
        for object in objects {
            if let Some(number) = parse_name(&object.path) {
                let note = parquet_file::read_note(store, &object).await?;
                files.bundles.push(Bundle { number, object, note });
            } else if part::parse_name(&object.path).is_some() {
                files.parts.push(object);
            }
        }
        files.bundles.sort_by_key(|bundle| bundle.number);
        let bundles = &files.bundles;
        let is_bundled = |part: &Object| bundles.iter().any(|bundle| bundle.note.lists(part));
        (files.bundled, files.parts) = std::mem::take(&mut files.parts).into_iter().partition(is_bundled);
        Ok(files)
    }

    /// The files that count.
    pub fn counting(&self) -> impl Iterator<Item = &Object> {
        self.bundles.iter().map(|bundle| &bundle.object).chain(&self.parts)
    }

    /// The bundle that lists a part.
    pub fn bundle_of(&self, part: &Object) -> Option<&Bundle> {
        self.bundles.iter().find(|bundle| bundle.note.lists(part))
    }

    /// How many parts are in them.
    pub fn segments(&self) -> u64 {
        let of = |bundle: &Bundle| bundle.note.held.parts.values().map(Numbers::count).sum::<u64>();
        self.bundles.iter().map(of).sum::<u64>() + self.parts.len() as u64
    }
}

/// What a bundle or a part says about itself.
pub async fn read_note(store: &Store, object: &Object) -> Result<BundleNote, FileError> {
    if parse_name(&object.path).is_some() {
        return parquet_file::read_note(store, object).await;
    }
    let mut note = BundleNote::default();
    note.add(&parquet_file::read_note(store, object).await?);
    Ok(note)
}

/// A file of records, read some rows at a time.
pub struct Reading {
    pub note: BundleNote,
    batches: parquet_file::Reading,
    path: String,
}

impl Reading {
    /// Begins to read a bundle or a part.
    pub async fn of(store: &Store, path: &str) -> Result<Reading, FileError> {
        let bytes = store.get(path).await?;
        let (batches, note) = if parse_name(path).is_some() {
            parquet_file::open::<BundleNote>(bytes, path, ROWS)?
        } else {
            let (batches, part) = parquet_file::open::<PartNote>(bytes, path, ROWS)?;
            let mut note = BundleNote::default();
            note.add(&part);
            (batches, note)
        };
        Ok(Reading { note, batches, path: path.to_owned() })
    }
}

impl Iterator for Reading {
    type Item = Result<Records, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        Some(batch.and_then(|batch| columns::records_from_batch(&batch, &self.path)))
    }
}

/// Requests to the store under way at a time.
const REQUESTS_AT_ONCE: usize = 4;

/// Hands an hour's records to `each`, some at a time; files that can't be read are passed over.
pub async fn each_readable(
    store: &Store,
    hour: Partition,
    each: &mut dyn FnMut(&Records),
) -> Result<(), FileError> {
    let is_no_matter = |e: &FileError| e.is_missing() || !e.is_of_store();
    let files = match Files::of_hour(store, hour).await {
        Err(e) if is_no_matter(&e) => return Ok(()),
        files => files?,
    };
    let reads = files.counting().map(|object| Reading::of(store, &object.path));
    let mut reads = futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE);
    while let Some(read) = reads.next().await {
        let reading = match read {
            Err(e) if is_no_matter(&e) => continue,
            reading => reading?,
        };
        reading.map_while(Result::ok).for_each(|records| each(&records));
    }
    Ok(())
}
