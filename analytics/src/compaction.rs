//! Compaction of records: when an hour is over and quiet, its many small parts become few files.
//!
//! A bundle is created in one piece and lists its parts, so that readers see each record once at any
//! moment; the parts are deleted an hour after, when nobody reads them any more. Whoever is killed on
//! the way leaves nothing but work for the next run.

use crate::bundle::{self, Bundle, BundleNote, Files, Reading};
use crate::calendar::{MINUTE_US, Partition};
use crate::columns::{self, RECORDS, SORTED_BY};
use crate::generation::{self, KEPT_US};
use crate::parquet_file::{FileError, Writer};
use crate::part::{self, PartError};
use crate::records::Records;
use crate::rollup::{RACES, RollupError, is_listed, note_of};
use crate::store::{Created, Object, Store};

/// An hour is quiet when nothing has come for so long since it ended.
pub const QUIET_US: i64 = 10 * MINUTE_US;

/// Late parts of an hour that are left as they are until the day's run.
pub const FEW: usize = 8;

/// Records of a bundle, which are in memory together.
const MOST_ROWS: usize = 1 << 20;

/// A part of so many bytes is no small file.
const LARGE_BYTES: u64 = 8 << 20;

/// Rows that are written at a time.
const CHUNK_ROWS: usize = 65_536;

/// What came of it.
#[derive(Debug, Default)]
pub struct Compacted {
    pub bundles: u64,
    /// Parts deleted that stand in bundles.
    pub deleted: u64,
    /// What could not be done, or must not be deleted.
    pub failed: Vec<String>,
    /// Whether nothing is left to do later: no part is waiting to be deleted.
    pub is_done: bool,
}

/// Puts the parts of an hour into bundles where there are so many of them as are worth it (two are the
/// first time), and deletes what was put into one an hour ago. Only parts that minutes list are taken.
pub async fn compact(
    store: &Store,
    hour: Partition,
    now_us: i64,
    worth: usize,
) -> Result<Compacted, RollupError> {
    compact_of(store, hour, now_us, worth, MOST_ROWS).await
}

async fn compact_of(
    store: &Store,
    hour: Partition,
    now_us: i64,
    worth: usize,
    most_rows: usize,
) -> Result<Compacted, RollupError> {
    let mut done = Compacted::default();
    let newest = generation::newest(store, hour).await?;
    let minutes = note_of(store, newest.as_ref()).await?;
    for _ in 0..RACES {
        let files = match Files::of_hour(store, hour).await {
            Err(e) if e.is_missing() => continue,
            files => files?,
        };
        let is_small = |part: &&Object| part.size < LARGE_BYTES && part.modified_us <= now_us - QUIET_US;
        let small: Vec<&Object> =
            files.parts.iter().filter(is_small).filter(|part| is_listed(&minutes, part)).collect();
        if small.len() < if files.bundles.is_empty() { 2 } else { worth } {
            done.delete_bundled(store, &files, now_us).await?;
            return Ok(done);
        }
        let gathered = match done.gather(store, &small, most_rows).await {
            Err(e) if e.is_missing() => continue,
            gathered => gathered?,
        };
        let Some((records, note)) = gathered else {
            done.delete_bundled(store, &files, now_us).await?;
            return Ok(done);
        };
        let (rows, numbers) = (records.rows().len(), note.held.streams.count());
        if rows as u64 != numbers {
            let (partition, rows) = (format!("{}/{}", part::RECORDS, hour.key()), rows as i64);
            return Err(RollupError::DoesNotAddUp { partition, rows, moved: 0, numbers });
        }
        let number = files.bundles.last().map_or(0, |bundle| bundle.number) + 1;
        let created = store.create(&bundle::path(hour, number), encode(records, &note)?.into()).await?;
        done.bundles += u64::from(created == Created::New);
    }
    Err(RollupError::Races { partition: format!("{}/{}", part::RECORDS, hour.key()) })
}

fn encode(mut records: Records, note: &BundleNote) -> Result<Vec<u8>, PartError> {
    records.sort();
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, RECORDS.clone(), &SORTED_BY)?;
    for rows in records.rows().chunks(CHUNK_ROWS) {
        writer.write(&columns::rows_to_batch(&records, rows)?)?;
    }
    writer.finish(note)?;
    Ok(file)
}

impl Compacted {
    /// Reads parts until so many rows are together; `None` when that are not at least two parts. One
    /// that can't be read is told, and stays.
    async fn gather(
        &mut self,
        store: &Store,
        parts: &[&Object],
        most_rows: usize,
    ) -> Result<Option<(Records, BundleNote)>, RollupError> {
        let (mut all, mut note, mut taken) = (Records::default(), BundleNote::default(), 0);
        for part in parts {
            let (records, of_part) = match part::read_records(store, &part.path).await {
                Err(e) if !e.is_of_store() => {
                    self.failed.push(e.to_string());
                    continue;
                }
                read => read?,
            };
            if taken >= 2 && all.rows().len() + records.rows().len() > most_rows {
                break;
            }
            all.append(&records);
            note.add(&of_part);
            taken += 1;
        }
        Ok((taken >= 2).then_some((all, note)))
    }

    /// Deletes parts that stand in bundles, once nobody reads them any more.
    async fn delete_bundled(&mut self, store: &Store, files: &Files, now_us: i64) -> Result<(), RollupError> {
        self.is_done = true;
        for part in &files.bundled {
            let Some(bundle) = files.bundle_of(part) else { continue };
            if bundle.object.modified_us > now_us - KEPT_US {
                self.is_done = false;
            } else if part.modified_us < bundle.object.modified_us || has_same(store, bundle, part).await? {
                store.delete(&part.path).await?;
                self.deleted += 1;
            } else {
                self.is_done = false;
                self.failed.push(PartError::Conflict { path: part.path.clone() }.to_string());
            }
        }
        Ok(())
    }
}

/// Whether a part that came again, after the bundle was made, has the records that the bundle has.
async fn has_same(store: &Store, bundle: &Bundle, part: &Object) -> Result<bool, FileError> {
    let (mut mine, note) = match part::read_records(store, &part.path).await {
        // Somebody else has deleted it.
        Err(e) if e.is_missing() => return Ok(true),
        Err(e) if !e.is_of_store() => return Ok(false),
        read => read?,
    };
    let mut rows = Vec::new();
    let mut theirs = Records::default();
    for records in Reading::of(store, &bundle.object.path).await? {
        let records = records?;
        let is_in = |row: &&crate::records::Row| {
            records.names().get(row.stream) == note.stream && note.held.contains(row.number)
        };
        rows.extend(records.rows().iter().filter(is_in).cloned());
        theirs.append(&Records::from_parts(records.names().clone(), std::mem::take(&mut rows)));
    }
    mine.sort();
    theirs.sort();
    let told = |records: &Records| {
        columns::records_to_batch(records).map_err(|e| FileError::unreadable(&part.path, e))
    };
    Ok(told(&mine)? == told(&theirs)?)
}

#[cfg(test)]
mod tests;
