//! The roll-up: parts are folded into minutes, and each coarser grain is made from the finer one.
//!
//! Minutes list the parts they hold, so a part counts once however often it comes. A coarser
//! generation lists the generation of each finer partition it was made from, and replaces that
//! partition's rows as a whole when a newer one appears. So every grain is a function of the parts
//! alone: doing anything twice, half and again, in any order or at the same time changes nothing.

mod again;
mod coarser;
mod minutes;
#[cfg(test)]
mod tests;
mod tidy;

pub use again::roll_up_again;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::bundle::{self, Files};
use crate::calendar::{Partition, hour_of_folder};
use crate::generation::{self, Generation, Note};
use crate::merge::Merged;
use crate::parquet_file::FileError;
use crate::part::{self, PartError};
use crate::store::{Created, Object, Store, StoreError};
use crate::view::Grain;

/// How often a lost race is run again. Each loss means that somebody else made progress.
pub(crate) const RACES: u32 = 50;

/// Requests to the store under way at a time.
const REQUESTS_AT_ONCE: usize = 8;

/// Why a partition could not be rolled up. The next run tries again.
#[derive(Debug, thiserror::Error)]
pub enum RollupError {
    #[error(
        "{partition} does not add up: {rows} requests in its rows and {moved} moved on, {numbers} record numbers; nothing was written, please report this"
    )]
    DoesNotAddUp { partition: String, rows: i64, moved: u64, numbers: u64 },
    #[error(
        "{partition} holds rows since retention that do not follow on what {parent} has of it; nothing was written, please report this"
    )]
    Apart { partition: String, parent: String },
    #[error(
        "{partition} can't be made again: retention has removed some of what it was made from; it is left as it is"
    )]
    Removed { partition: String },
    #[error("{partition} was changed by others {RACES} times in a row; run it again")]
    Races { partition: String },
    #[error(transparent)]
    Part(#[from] PartError),
}

impl From<StoreError> for RollupError {
    fn from(e: StoreError) -> RollupError {
        RollupError::Part(e.into())
    }
}

impl From<FileError> for RollupError {
    fn from(e: FileError) -> RollupError {
        RollupError::Part(e.into())
    }
}

impl RollupError {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, RollupError::Part(PartError::File(e)) if e.is_missing())
    }

    pub(crate) fn is_of_store(&self) -> bool {
        matches!(self, RollupError::Part(e) if e.is_of_store())
    }
}

/// What one run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RolledUp {
    /// Parts folded into minutes.
    pub parts: u64,
    /// Generations made, of any grain.
    pub generations: u64,
    /// Bundles made of the records of hours that are over.
    pub bundles: u64,
    /// Superseded generations, and parts that were folded or bundled, deleted.
    pub deleted: u64,
    /// What could not be done; it is tried again by the next run.
    pub failed: Vec<String>,
}

/// Told of the hours that are done and of how many there are.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// Folds all parts in the queue, brings every coarser grain up to date and tidies up.
///
/// It costs as much as the parts of the last hour or so and the partitions they fall into, however
/// much the store holds. The store's failure ends it; what is wrong with one partition is noted and
/// does not keep others back.
pub async fn roll_up(store: &Store, now_us: i64, progress: Progress<'_>) -> Result<RolledUp, RollupError> {
    let queue = by_hour(store.list(part::QUEUE).await?);
    let mut run = Run { store, done: RolledUp::default(), broken: BTreeSet::new() };
    for (i, (&hour, parts)) in queue.iter().enumerate() {
        progress(i, queue.len());
        run.fold_hour(hour, parts).await?;
    }
    run.derive_all(queue.keys().copied().collect()).await?;
    run.tidy(&queue, now_us).await?;
    progress(queue.len(), queue.len());
    Ok(run.done)
}

/// Puts every record part that no generation lists back into the queue and rolls up everything there
/// is: repairs a store whose queue was lost.
pub async fn rebuild(store: &Store, now_us: i64, progress: Progress<'_>) -> Result<RolledUp, RollupError> {
    let mut again = Vec::new();
    for (hour, objects) in by_hour(store.list(part::RECORDS).await?) {
        let newest = generation::newest(store, hour).await?;
        let note = note_of(store, newest.as_ref()).await?;
        let files = Files::of(store, objects).await?;
        // A bundle has no parts any more that could be folded one by one.
        if !files.bundles.iter().all(|bundle| note.lists_all(&bundle.note.held)) {
            again.push(hour);
            continue;
        }
        for object in files.parts.iter().filter(|o| !is_listed(&note, o)) {
            let (records, note) = part::read_records(store, &object.path).await?;
            part::enqueue(store, hour, &note, &records).await?;
        }
    }
    let mut run = Run { store, done: RolledUp::default(), broken: BTreeSet::new() };
    for hour in again {
        let made = run.until_done(hour).await;
        run.settle(hour, made)?;
    }
    let mut done = roll_up(store, now_us, progress).await?;
    let listed = store.list("usage/grain=minute").await?;
    run.derive_all(listed.iter().filter_map(|o| hour_of_folder(&o.path)).collect()).await?;
    done.generations += run.done.generations;
    done.failed.extend(run.done.failed);
    Ok(done)
}

/// The files that count, for engines that would otherwise read superseded generations too.
pub async fn files(store: &Store, grain: Grain) -> Result<Vec<String>, StoreError> {
    let listed = store.list(&format!("usage/grain={}", grain.word())).await?;
    let empty: BTreeSet<String> =
        listed.iter().filter_map(|o| o.path.strip_suffix("empty")).map(str::to_owned).collect();
    let mut newest: BTreeMap<String, Generation> = BTreeMap::new();
    for generation in listed.into_iter().filter_map(generation::parse) {
        let folder = generation.object.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let known = newest.get(&folder).map_or(0, |g| g.number);
        if generation.number > known {
            newest.insert(folder, generation);
        }
    }
    let mut files: Vec<String> = newest.into_values().map(|g| g.object.path).collect();
    files.retain(|path| !empty.contains(path.trim_end_matches("parquet")));
    Ok(files)
}

/// One run in progress.
struct Run<'a> {
    store: &'a Store,
    done: RolledUp,
    /// Partitions that failed: what they are made from stays in the queue.
    broken: BTreeSet<Partition>,
}

impl Run<'_> {
    /// Ends the run when the store fails; else notes what is wrong with the partition and goes on.
    fn settle(&mut self, partition: Partition, result: Result<(), RollupError>) -> Result<(), RollupError> {
        match result {
            Err(e) if e.is_of_store() => return Err(e),
            Err(e) => {
                self.done.failed.push(e.to_string());
                self.broken.insert(partition);
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// Creates the generation after `newest`, if its rows are as many as the records behind them.
    async fn create(
        &mut self,
        partition: Partition,
        newest: Option<&Generation>,
        merged: Merged,
        note: &Note,
    ) -> Result<Created, RollupError> {
        let (rows, numbers) = (merged.requests, note.streams.count());
        if u64::try_from(rows).map(|rows| rows + note.moved) != Ok(numbers) {
            let partition = partition.folder();
            return Err(RollupError::DoesNotAddUp { partition, rows, moved: note.moved, numbers });
        }
        let number = newest.map_or(0, |g| g.number) + 1;
        let created = generation::create(self.store, partition, number, merged.file).await?;
        self.done.generations += u64::from(created == Created::New);
        Ok(created)
    }
}

/// What came of one try to make a partition's next generation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Try {
    /// It is up to date.
    Done,
    /// Somebody else was faster, or tidied up what was being read: look again.
    Again,
}

impl Try {
    fn of(result: Result<Created, RollupError>) -> Result<Try, RollupError> {
        match result {
            Ok(Created::New) => Ok(Try::Done),
            Ok(Created::Existed) => Ok(Try::Again),
            Err(e) if e.is_missing() => Ok(Try::Again),
            Err(e) => Err(e),
        }
    }
}

pub(crate) async fn note_of(store: &Store, newest: Option<&Generation>) -> Result<Note, FileError> {
    match newest {
        Some(generation) => generation.note(store).await,
        None => Ok(Note::default()),
    }
}

pub(crate) fn by_hour(objects: Vec<Object>) -> BTreeMap<Partition, Vec<Object>> {
    let mut hours: BTreeMap<Partition, Vec<Object>> = BTreeMap::new();
    for object in objects {
        let is_ours = part::parse_name(&object.path).is_some() || bundle::parse_name(&object.path).is_some();
        if let Some(hour) = hour_of_folder(&object.path).filter(|_| is_ours) {
            hours.entry(hour).or_default().push(object);
        }
    }
    hours
}

pub(crate) fn is_listed(note: &Note, part: &Object) -> bool {
    part::parse_name(&part.path).is_some_and(|(stream, segment)| note.lists(stream, segment))
}
