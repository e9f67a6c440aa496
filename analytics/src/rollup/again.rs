//! A range rolled up once more, from the records upwards, as if nothing had been rolled up before.

use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::{Progress, RACES, RolledUp, RollupError, Run, Try, by_hour, note_of};
use crate::bundle::{Files, Reading};
use crate::calendar::Partition;
use crate::columns::{table_from_batch, table_to_batch};
use crate::generation::{self, Generation, Note};
use crate::merge::Merge;
use crate::parquet_file;
use crate::part::{self, PartError};
use crate::store::{Created, Store};
use crate::table::Table;
use crate::view::Grain;

/// Rows of two files that are compared at a time.
const COMPARED_ROWS: usize = 8_192;

/// Rolls up all records that ended in a range (microseconds UTC, half open, widened to whole hours),
/// and every coarser step above them. A generation is made only where the rows differ from those that
/// stand there. What retention has removed can't be made again: it is told, and left as it is.
pub async fn roll_up_again(
    store: &Store,
    range: Range<i64>,
    progress: Progress<'_>,
) -> Result<RolledUp, RollupError> {
    let in_range = |hour: &Partition| hour.start_us < range.end && hour.end_us() > range.start;
    let mut hours = by_hour(store.list(part::RECORDS).await?);
    hours.retain(|hour, _| in_range(hour));
    let mut run = Run { store, done: RolledUp::default(), broken: Default::default() };
    for (i, &hour) in hours.keys().enumerate() {
        progress(i, hours.len());
        let made = run.until_done(hour).await;
        run.settle(hour, made)?;
    }
    for grain in [Grain::Hour, Grain::Day, Grain::Month] {
        let mut above: Vec<Partition> =
            hours.keys().map(|hour| Partition::at(grain, hour.start_us)).collect();
        above.dedup();
        for partition in above {
            let made = run.until_done(partition).await;
            run.settle(partition, made)?;
        }
    }
    progress(hours.len(), hours.len());
    Ok(run.done)
}

impl Run<'_> {
    pub(super) async fn until_done(&mut self, partition: Partition) -> Result<(), RollupError> {
        for _ in 0..RACES {
            let newest = generation::newest(self.store, partition).await?;
            let made = self.again(partition, newest.as_ref()).await;
            if Try::of(made)? == Try::Done {
                return Ok(());
            }
        }
        Err(RollupError::Races { partition: partition.folder() })
    }

    async fn again(
        &mut self,
        partition: Partition,
        newest: Option<&Generation>,
    ) -> Result<Created, RollupError> {
        let before = note_of(self.store, newest).await?;
        if before.moved > 0 {
            return Err(RollupError::Removed { partition: partition.folder() });
        }
        let (merge, note) = match partition.grain {
            Grain::Minute => from_records(self.store, partition).await?,
            _ => from_finer(self.store, partition).await?,
        };
        let lost = before.parts.iter().any(|(stream, segments)| {
            !note.parts.get(stream).is_some_and(|found| found.contains_all(segments))
        });
        if lost || before.from.keys().any(|key| !note.from.contains_key(key)) {
            return Err(RollupError::Removed { partition: partition.folder() });
        }
        let merged = merge.finish(&note)?;
        if let Some(generation) = newest {
            let (stands, stands_note) = generation.file(self.store).await?;
            if stands_note == note && have_same_rows(stands, merged.file.clone(), &generation.object.path)? {
                return Ok(Created::New);
            }
        }
        self.create(partition, newest, merged, &note).await
    }
}

/// Whether two files of usage hold the same rows in the same order; `path` is for messages.
fn have_same_rows(a: Bytes, b: Bytes, path: &str) -> Result<bool, RollupError> {
    let open = |file: Bytes| parquet_file::open::<IgnoredAny>(file, path, COMPARED_ROWS);
    let ((mut a, _), (mut b, _)) = (open(a)?, open(b)?);
    let told = |batch| Ok::<_, PartError>(table_to_batch(&table_from_batch(&batch, path)?)?);
    loop {
        match (a.next().transpose()?, b.next().transpose()?) {
            (None, None) => return Ok(true),
            (Some(a), Some(b)) if told(a.clone())? == told(b.clone())? => {}
            _ => return Ok(false),
        }
    }
}

async fn from_records(store: &Store, hour: Partition) -> Result<(Merge, Note), RollupError> {
    let (mut merge, mut note) = (Merge::new(Grain::Minute), Note::default());
    for object in Files::of_hour(store, hour).await?.counting() {
        let reading = Reading::of(store, &object.path).await?;
        note.add(&reading.note.held);
        for records in reading {
            merge.table(Table::of_records(&records?))?;
        }
    }
    Ok((merge, note))
}

/// From all finer partitions that lie in this one.
async fn from_finer(store: &Store, partition: Partition) -> Result<(Merge, Note), RollupError> {
    let finer = Grain::ALL[partition.grain as usize - 1];
    let (mut merge, mut note) = (Merge::new(partition.grain), Note::default());
    for child in Partition::covering(finer, partition.start_us, partition.end_us()) {
        let Some(newest) = generation::newest(store, child).await? else { continue };
        let (file, child_note) = newest.file(store).await?;
        if child_note.moved > 0 {
            return Err(RollupError::Removed { partition: child.folder() });
        }
        merge.file(file, &newest.object.path, Vec::new());
        note.from.insert(child.key(), newest.number);
        note.streams.union(&child_note.streams);
    }
    Ok((merge, note))
}
