//! Reads the roll-ups: what pages and exports show.

mod ledger;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::de::IgnoredAny;

use crate::bundle::{Files, Reading};
use crate::calendar::{DAY_US, Partition, day_of_folder, hour_of_folder, partition_of_path};
use crate::columns::{self, REQUESTS_OF_CLIENTS, requests_from_batch};
use crate::completeness::Known;
use crate::generation::{self, Note};
use crate::held::Held;
use crate::parquet_file::{self, FileError};
use crate::part;
use crate::records::Records;
use crate::rollup;
use crate::store::Store;
use crate::table::{BYTES_IN, BYTES_OUT, LATENCY_SUM_US, PASSED, REQUESTS, STATUS_0, Table};
use crate::view::{Completeness, Grain, Totals, Usage};
use ledger::Ledger;

/// Requests to the store under way at a time.
const REQUESTS_AT_ONCE: usize = 8;

/// How often a partition is looked up again when it is tidied up while being read.
const TRIES: u32 = 5;

/// How far back a stream is looked for that went on into the range: one life of a worker without a
/// single record for longer is taken for one that lost its beginning.
const STREAM_PAUSE_US: i64 = 31 * DAY_US;

/// Stands for all clients that are not told one by one. No client of a policy can have this id.
pub const OTHERS: &str = "\0all others";

/// Which clients are told one by one: those that have a name here, and the busiest of all others.
#[derive(Clone, Copy)]
pub struct Each<'a> {
    pub named: &'a dyn Fn(&str) -> bool,
    pub others: usize,
}

impl Each<'_> {
    /// Nobody by name, and so many of the busiest.
    pub const BUSIEST: Each<'static> = Each { named: &|_| false, others: MOST_OTHERS };
}

/// Clients that are told one by one though nobody asked for them.
pub const MOST_OTHERS: usize = 10_000;

/// Rows of a file in memory at a time.
const ROWS: usize = 16_384;

/// Usage in a range of time, of all clients and of each.
#[derive(Clone, Debug)]
pub struct Books {
    /// Rows of clients that are not told one by one are those of [`OTHERS`].
    pub platform: Usage,
    /// By the client's id, but for [`OTHERS`].
    pub clients: BTreeMap<String, Usage>,
    /// By method and endpoint, as [`endpoint_name`] puts them together.
    pub endpoints: BTreeMap<String, Usage>,
}

/// One name for a method and an endpoint: `GET /orders`.
pub fn endpoint_name(method: &str, endpoint: &str) -> String {
    format!("{method} {endpoint}").trim_start().to_owned()
}

/// Reads the usage of a range (microseconds UTC, half open, widened to whole steps of `grain`).
///
/// Only generations count, so everything that is shown was rolled up. `complete_to_us` is what the
/// collector knows ([`crate::collect::Collected::complete_to_us`]); without it the newest step is told.
/// Numbers that are missing are told to every client alike: nobody knows whose records they were.
pub async fn read(
    store: &Store,
    from_us: i64,
    to_us: i64,
    grain: Grain,
    complete_to_us: Option<i64>,
) -> Result<Books, FileError> {
    read_of(store, from_us..to_us, grain, complete_to_us, Each::BUSIEST).await
}

/// The same with a choice of clients. What is in memory grows with those that are told one by one; of
/// the others, only their names and requests are.
pub async fn read_of(
    store: &Store,
    range: Range<i64>,
    grain: Grain,
    complete_to_us: Option<i64>,
    each: Each<'_>,
) -> Result<Books, FileError> {
    let from_us = grain.floor(range.start);
    let floor_us = grain.floor(range.end);
    let to_us = if floor_us == range.end { floor_us } else { grain.next(floor_us) };
    let partitions = Partition::covering(grain, from_us, to_us);
    let mut ledger = Ledger::new(each, None);
    ledger.read(store, &partitions, from_us..to_us).await?;
    if ledger.is_full() {
        let busiest = busiest(store, &partitions, from_us..to_us, each).await?;
        ledger = Ledger::new(each, Some(busiest));
        ledger.read(store, &partitions, from_us..to_us).await?;
    }
    let all = all_held(store, from_us, to_us).await?;
    let missing = i64::try_from(ledger.held.missing(&all)).unwrap_or(i64::MAX);
    let known = Known::of(&ledger.held, &all, from_us..to_us, complete_to_us);
    let told = Completeness { records: 0, missing, complete_to_us, known };
    Ok(ledger.close(from_us, to_us, grain, told))
}

/// The busiest of those whom nobody asked for.
async fn busiest(
    store: &Store,
    partitions: &[Partition],
    range: Range<i64>,
    each: Each<'_>,
) -> Result<HashSet<String>, FileError> {
    let mut requests: HashMap<String, i64> = HashMap::new();
    for &partition in partitions {
        let Some(file) = newest_file(store, partition).await? else { continue };
        let (batches, IgnoredAny) =
            parquet_file::open_columns(file.bytes, &file.path, ROWS, &REQUESTS_OF_CLIENTS)?;
        for batch in batches {
            requests_from_batch(&batch?, &file.path, &mut |time_us, client, n| {
                if !range.contains(&time_us) || (each.named)(client) {
                } else if let Some(known) = requests.get_mut(client) {
                    *known += n;
                } else {
                    requests.insert(client.to_owned(), n);
                }
            })?;
        }
    }
    let mut all: Vec<(i64, String)> = requests.into_iter().map(|(client, n)| (-n, client)).collect();
    if all.len() > each.others {
        all.select_nth_unstable(each.others);
        all.truncate(each.others);
    }
    Ok(all.into_iter().map(|(_, client)| client).collect())
}

/// A file of usage that counts, as it lies in the store.
struct UsageFile {
    bytes: Bytes,
    path: String,
    note: Note,
}

impl UsageFile {
    /// Hands the rows to `each`, some at a time.
    fn tables(self, each: &mut dyn FnMut(&Table)) -> Result<(), FileError> {
        let (batches, IgnoredAny) = parquet_file::open(self.bytes, &self.path, ROWS)?;
        for batch in batches {
            each(&columns::table_from_batch(&batch?, &self.path)?);
        }
        Ok(())
    }
}

/// The partition's file as it counts; `None` where there is nothing.
async fn newest_file(store: &Store, partition: Partition) -> Result<Option<UsageFile>, FileError> {
    let mut tries = 0;
    loop {
        let Some(newest) = generation::newest(store, partition).await? else { return Ok(None) };
        match newest.file(store).await {
            Err(e) if e.is_missing() && tries < TRIES => tries += 1,
            // What is left of a partition after retention is no whole.
            Ok((_, note)) if note.moved > 0 => return Ok(None),
            Ok((bytes, note)) => return Ok(Some(UsageFile { bytes, path: newest.object.path, note })),
            Err(e) => return Err(e),
        }
    }
}

/// The partition as it counts, whole in memory; `None` where there is nothing.
pub async fn newest_usage(store: &Store, partition: Partition) -> Result<Option<(Table, Note)>, FileError> {
    let Some(file) = newest_file(store, partition).await? else { return Ok(None) };
    let (batch, IgnoredAny) = parquet_file::decode(file.bytes, &file.path)?;
    Ok(Some((columns::table_from_batch(&batch, &file.path)?, file.note)))
}

/// Hands the rows of a partition to `each`, some at a time; `None` where there is nothing.
pub async fn each_usage(
    store: &Store,
    partition: Partition,
    each: &mut dyn FnMut(&Table),
) -> Result<Option<Note>, FileError> {
    let Some(file) = newest_file(store, partition).await? else { return Ok(None) };
    let note = file.note.clone();
    file.tables(each).map(|()| Some(note))
}

/// What is held of each stream in the months of a range and around it: where streams come from, and
/// whether they go on.
pub(crate) async fn all_held(store: &Store, from_us: i64, to_us: i64) -> Result<Held, FileError> {
    let months = Partition::covering(Grain::Day, from_us - STREAM_PAUSE_US, to_us + STREAM_PAUSE_US);
    let notes = months.into_iter().map(|month| async move {
        match generation::newest(store, month).await? {
            Some(newest) => newest.note(store).await,
            None => Ok(Note::default()),
        }
    });
    let notes: Vec<Note> = futures::stream::iter(notes).buffered(REQUESTS_AT_ONCE).try_collect().await?;
    let mut all = Held::default();
    notes.iter().for_each(|note| all.union(&note.streams));
    Ok(all)
}

/// Adds one usage row to totals.
pub fn add_row(totals: &mut Totals, table: &Table, row: usize) {
    let sum = |column: usize| table.sums[column][row];
    totals.requests += sum(REQUESTS);
    for (i, class) in totals.status_class.iter_mut().enumerate() {
        *class += sum(STATUS_0 + i);
    }
    for (i, decision) in totals.decisions.iter_mut().enumerate() {
        *decision += sum(PASSED + i);
    }
    totals.bytes_in += sum(BYTES_IN);
    totals.bytes_out += sum(BYTES_OUT);
    totals.latency_sum_us += sum(LATENCY_SUM_US);
    for (bin, count) in table.latency.row(row) {
        *totals.latencies.bins.entry(bin).or_default() += count;
    }
}

/// Hands every usage row of a range (microseconds UTC, half open) to `each`, some at a time, by table
/// and positions,
/// and says how complete they are.
pub async fn rows(
    store: &Store,
    grain: Grain,
    range: Range<i64>,
    each: &mut dyn FnMut(&Table, &[usize]),
) -> Result<Completeness, FileError> {
    let mut told = Completeness::default();
    let mut held = Held::default();
    let mut oldest_us: Option<i64> = None;
    let overlaps = |p: Partition| p.start_us < range.end && p.end_us() > range.start;
    for path in rollup::files(store, grain).await? {
        if !partition_of_path(grain, &path).is_none_or(overlaps) {
            continue;
        }
        let bytes = store.get(&path).await?;
        let (_, note) = parquet_file::open::<Note>(bytes.clone(), &path, 1)?;
        if note.moved > 0 {
            continue;
        }
        let mut has_rows = false;
        UsageFile { bytes, path, note: Note::default() }.tables(&mut |table| {
            let rows: Vec<usize> = (0..table.len()).filter(|&r| range.contains(&table.time_us[r])).collect();
            if rows.is_empty() {
                return;
            }
            has_rows = true;
            each(table, &rows);
            for row in rows {
                told.records += table.sums[REQUESTS][row];
                told.complete_to_us = told.complete_to_us.max(Some(table.time_us[row]));
                oldest_us = Some(oldest_us.unwrap_or(i64::MAX).min(table.time_us[row]));
            }
        })?;
        if has_rows {
            held.union(&note.streams);
        }
    }
    let newest_us = told.complete_to_us.unwrap_or(0);
    let all = all_held(store, oldest_us.unwrap_or(0), newest_us).await?;
    let from_us = range.start.max(oldest_us.unwrap_or(0));
    told.known = Known::of(&held, &all, from_us..range.end, None);
    told.missing = i64::try_from(held.missing(&all)).unwrap_or(i64::MAX);
    Ok(told)
}

/// Hands the records of every hour that overlaps a range (microseconds UTC, half open) to `each`, some at
/// a time. A file that can't be read is an error: what is exported as records has to be all of them.
pub async fn records(
    store: &Store,
    range: Range<i64>,
    each: &mut dyn FnMut(&Records),
) -> Result<(), FileError> {
    for hour in hours_of_records(store).await? {
        if hour.start_us < range.end && hour.end_us() > range.start {
            for object in Files::of_hour(store, hour).await?.counting() {
                for records in Reading::of(store, &object.path).await? {
                    each(&records?);
                }
            }
        }
    }
    Ok(())
}

/// The hours that have records, in their order.
pub async fn hours_of_records(store: &Store) -> Result<BTreeSet<Partition>, FileError> {
    Ok(store.list(part::RECORDS).await?.iter().filter_map(|object| hour_of_folder(&object.path)).collect())
}

/// The files of records that count.
pub async fn record_files(store: &Store) -> Result<Vec<String>, FileError> {
    let mut paths = Vec::new();
    for objects in rollup::by_hour(store.list(part::RECORDS).await?).into_values() {
        paths.extend(Files::of(store, objects).await?.counting().map(|object| object.path.clone()));
    }
    Ok(paths)
}

/// When the newest hour with records begins; `None` where there is nothing yet.
pub async fn newest_hour(store: &Store) -> Result<Option<i64>, FileError> {
    for folder in store.folders("usage/grain=hour").await?.iter().rev() {
        let Some(day) = day_of_folder(folder) else { continue };
        // A day may have signs of life alone.
        let mut newest = None;
        each_usage(store, day, &mut |table| newest = newest.max(table.time_us.iter().max().copied())).await?;
        if newest.is_some() {
            return Ok(newest);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
