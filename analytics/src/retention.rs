//! Retention: what is old leaves the store, once the coarser grain is known to have it.
//!
//! Rows are removed by a generation without rows, which keeps the list of what was folded: a segment
//! that comes again is ignored, and one that comes late is added to the coarser grains.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::books::hours_of_records;
use crate::bundle;
use crate::calendar::{DAY_US, Partition, partition_of_path};
use crate::columns::table_from_batch;
use crate::compaction::{QUIET_US, compact};
use crate::generation::{self, Generation, Note, empty_mark};
use crate::held::Stream;
use crate::parquet_file::{self, FileError};
use crate::part::{self, RECORDS};
use crate::rollup::{RollupError, by_hour};
use crate::store::{Created, Object, Store};
use crate::table::{REQUESTS, SUMS, Table};
use crate::view::Grain;

/// How many days each kind is kept after it ended, or after the last of it came. Days and months stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub records_days: u32,
    pub minute_days: u32,
    pub hour_days: u32,
}

/// What one run of [`retain`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retained {
    /// Files of records deleted.
    pub records: u64,
    /// Bundles made of records that were still apart.
    pub bundles: u64,
    /// Hours of minutes, and days of hours, whose rows were removed.
    pub minutes: u64,
    pub hours: u64,
    /// What is old and was kept, because the coarser grain does not add up to it.
    pub failed: Vec<String>,
}

/// Removes what is older than it has to be. Running it again, or twice at a time, changes nothing.
pub async fn retain(store: &Store, keep: &Keep, now_us: i64) -> Result<Retained, RollupError> {
    let before = |days: u32| now_us - i64::from(days) * DAY_US;
    let mut run = Run { store, now_us, done: Retained::default(), parent: None };
    run.done.minutes = run.thin(Grain::Minute, before(keep.minute_days), &BTreeSet::new()).await?;
    // A day's hours can be rebuilt as long as its minutes are there, and are removed after them.
    let minutes = partitions(store, Grain::Minute).await?;
    let whole = minutes.iter().filter(|(_, p)| !p.is_empty).filter_map(|(m, _)| m.parent()).collect();
    run.done.hours = run.thin(Grain::Hour, before(keep.hour_days), &whole).await?;
    run.records(before(keep.records_days)).await?;
    Ok(run.done)
}

/// Rows of a file in memory at a time.
const ROWS: usize = 16_384;

/// Where it is noted on which day everything old was removed.
const NOTED: &str = "ledger/retained";

/// The same once a day (UTC); `None` when it was done today. A run that had to keep something does not
/// count, so that the next one says so again.
pub async fn retain_daily(store: &Store, keep: &Keep, now_us: i64) -> Result<Option<Retained>, RollupError> {
    let today = format!("{NOTED}/{}", Partition::at(Grain::Hour, now_us).key());
    if store.modified_us(&today).await?.is_some() {
        return Ok(None);
    }
    let mut done = retain(store, keep, now_us).await?;
    bundle_all(store, now_us, &mut done).await?;
    if done.failed.is_empty() {
        store.create(&today, Default::default()).await?;
        for earlier in store.list(NOTED).await?.iter().filter(|o| o.path < today) {
            store.delete(&earlier.path).await?;
        }
    }
    Ok(Some(done))
}

/// What came late, of hours that were compacted, a file or two at a time: now these go together too.
async fn bundle_all(store: &Store, now_us: i64, done: &mut Retained) -> Result<(), RollupError> {
    for hour in hours_of_records(store).await? {
        if hour.end_us() > now_us - QUIET_US {
            continue;
        }
        match compact(store, hour, now_us, 2).await {
            Err(e) if e.is_of_store() => return Err(e),
            Err(e) => done.failed.push(e.to_string()),
            Ok(compacted) => {
                done.bundles += compacted.bundles;
                done.failed.extend(compacted.failed);
            }
        }
    }
    Ok(())
}

/// A partition as a listing shows it.
struct Listed {
    generations: usize,
    newest: Generation,
    /// Whether the newest is known to have no rows.
    is_empty: bool,
}

async fn partitions(store: &Store, grain: Grain) -> Result<BTreeMap<Partition, Listed>, RollupError> {
    let mut found: BTreeMap<Partition, Listed> = BTreeMap::new();
    let objects = store.list(&format!("usage/grain={}", grain.word())).await?;
    let names: BTreeSet<String> = objects.iter().map(|o| o.path.clone()).collect();
    for object in objects {
        let Some(partition) = partition_of_path(grain, &object.path) else { continue };
        let Some(newest) = generation::parse(object) else { continue };
        let is_empty = names.contains(&empty_mark(partition, newest.number));
        let generations = 1 + found.get(&partition).map_or(0, |p| p.generations);
        match found.get_mut(&partition) {
            Some(known) if known.newest.number > newest.number => known.generations = generations,
            _ => drop(found.insert(partition, Listed { generations, newest, is_empty })),
        }
    }
    Ok(found)
}

/// The file of a coarser partition.
struct Coarser {
    file: Bytes,
    path: String,
    note: Note,
}

struct Run<'a> {
    store: &'a Store,
    now_us: i64,
    done: Retained,
    /// The coarser partition read last: the next one mostly has the same.
    parent: Option<(Partition, Option<Coarser>)>,
}

impl Run<'_> {
    /// Removes the rows of a grain's partitions that are older than `before_us`, but for `kept`.
    async fn thin(
        &mut self,
        grain: Grain,
        before_us: i64,
        kept: &BTreeSet<Partition>,
    ) -> Result<u64, RollupError> {
        let mut thinned = 0;
        for (partition, listed) in partitions(self.store, grain).await? {
            let is_old = partition.end_us() <= before_us && listed.newest.object.modified_us <= before_us;
            if is_old && !listed.is_empty && !kept.contains(&partition) {
                thinned += u64::from(self.empty(partition, &listed.newest).await?);
            } else if partition.end_us() <= before_us && listed.generations > 1 {
                generation::tidy(self.store, partition, self.now_us).await?;
            }
        }
        Ok(thinned)
    }

    /// Makes a generation without rows, if the coarser grain has them all.
    async fn empty(&mut self, partition: Partition, newest: &Generation) -> Result<bool, RollupError> {
        let (sums, mut note) = match sums_of(self.store, newest).await {
            // Somebody else is at it.
            Err(e) if e.is_missing() => return Ok(false),
            Err(e) if !e.is_of_store() => return Ok(self.keep(partition, &e.to_string())),
            read => read?,
        };
        if sums.is_empty() {
            self.store.create(&empty_mark(partition, newest.number), Default::default()).await?;
            return Ok(false);
        }
        if let Err(why) = self.has_all(partition, newest.number, &sums, &note).await? {
            return Ok(self.keep(partition, &why));
        }
        note.moved = note.streams.count();
        let number = newest.number + 1;
        let file = part::usage_file(&Table::default(), &note)?;
        let created = generation::create(self.store, partition, number, file).await?;
        if created == Created::New {
            self.store.create(&empty_mark(partition, number), Default::default()).await?;
        }
        Ok(created == Created::New)
    }

    fn keep_records(&mut self, of: &str, why: &str) {
        self.done.failed.push(format!("records of {of} are kept though they are old: {why}"));
    }

    fn keep(&mut self, partition: Partition, why: &str) -> bool {
        self.done.failed.push(format!("{} is kept though it is old: {why}", partition.folder()));
        false
    }

    /// Whether the coarser grain has every sum of these rows, for each client.
    async fn has_all(
        &mut self,
        partition: Partition,
        number: u64,
        mine: &ByClient,
        note: &Note,
    ) -> Result<Result<(), String>, RollupError> {
        let Some(parent) = partition.parent() else { return Ok(Err("nothing is coarser".to_owned())) };
        if self.parent.as_ref().is_none_or(|(at, _)| *at != parent) {
            let read = match generation::newest(self.store, parent).await? {
                Some(newest) => {
                    let (file, note) = newest.file(self.store).await?;
                    Some(Coarser { file, path: newest.object.path, note })
                }
                None => None,
            };
            self.parent = Some((parent, read));
        }
        let Some((_, Some(coarser))) = &self.parent else {
            return Ok(Err(format!("there is no {}", parent.folder())));
        };
        if coarser.note.from.get(&partition.key()) != Some(&number) {
            return Ok(Err(format!("{} was made from another generation of it", parent.folder())));
        }
        // Rows of the coarser grain that were removed themselves were compared before that.
        if coarser.note.moved > 0 {
            return Ok(Ok(()));
        }
        let theirs = sums_of_file(coarser.file.clone(), &coarser.path, Some(partition.start_us))?;
        let adds_up = match note.moved {
            0 => *mine == theirs,
            moved => u64::try_from(requests(&theirs) - requests(mine)) == Ok(moved),
        };
        Ok(if adds_up { Ok(()) } else { Err(format!("{} does not add up to it", parent.folder())) })
    }

    /// Deletes the record parts that minutes have, or had.
    async fn records(&mut self, before_us: i64) -> Result<(), RollupError> {
        for folder in self.store.folders(RECORDS).await? {
            let path = format!("{RECORDS}/{folder}");
            if partition_of_path(Grain::Hour, &path).is_none_or(|day| day.start_us >= before_us) {
                continue;
            }
            for (hour, parts) in by_hour(self.store.list(&path).await?) {
                let old: Vec<Object> = parts.into_iter().filter(|p| p.modified_us <= before_us).collect();
                if hour.end_us() <= before_us && !old.is_empty() {
                    self.records_of(hour, &old).await?;
                }
            }
        }
        Ok(())
    }

    async fn records_of(&mut self, hour: Partition, parts: &[Object]) -> Result<(), RollupError> {
        let Some(newest) = generation::newest(self.store, hour).await? else {
            self.keep_records(&hour.key(), "they were never rolled up; run `weir rollup --rebuild`");
            return Ok(());
        };
        let (sums, note) = match sums_of(self.store, &newest).await {
            Err(e) if e.is_missing() => return Ok(()),
            Err(e) if !e.is_of_store() => {
                self.keep_records(&hour.key(), &e.to_string());
                return Ok(());
            }
            read => read?,
        };
        let rows = u64::try_from(requests(&sums)).unwrap_or(0);
        if rows + note.moved != note.streams.count() {
            self.keep_records(&hour.key(), &format!("{} does not add up to them", hour.folder()));
            return Ok(());
        }
        for part in parts {
            if has_all_of(self.store, &note, part).await? {
                self.store.delete(&part.path).await?;
                self.done.records += 1;
            } else {
                self.keep_records(&part.path, "minutes do not have them; run `weir rollup --rebuild`");
            }
        }
        Ok(())
    }
}

/// Whether minutes list all that a file of records holds.
async fn has_all_of(store: &Store, note: &Note, file: &Object) -> Result<bool, RollupError> {
    let held = match bundle::read_note(store, file).await {
        // Damaged or gone: not for us to delete.
        Err(e) if !e.is_of_store() || e.is_missing() => return Ok(false),
        read => read?.held,
    };
    let has = |(id, stream): (&String, &Stream)| match note.streams.0.get(id) {
        Some(known) => known.held.contains_all(&stream.held),
        None => false,
    };
    Ok(note.lists_all(&held) && held.streams.0.iter().all(has))
}

/// Every sum, by client.
pub(crate) type ByClient = BTreeMap<String, [i64; SUMS.len()]>;

fn requests(sums: &ByClient) -> i64 {
    sums.values().map(|sums| sums[REQUESTS]).sum()
}

/// Every sum of each client in a generation, and its note.
async fn sums_of(store: &Store, generation: &Generation) -> Result<(ByClient, Note), FileError> {
    let (file, note) = generation.file(store).await?;
    Ok((sums_of_file(file, &generation.object.path, None)?, note))
}

/// Every sum of each client, read some rows at a time; in the step that starts then or in all.
fn sums_of_file(file: Bytes, path: &str, step_us: Option<i64>) -> Result<ByClient, FileError> {
    let (batches, IgnoredAny) = parquet_file::open(file, path, ROWS)?;
    let mut clients = ByClient::new();
    for batch in batches {
        add_by_client(&mut clients, &table_from_batch(&batch?, path)?, step_us);
    }
    Ok(clients)
}

/// Every sum of each client, in the step that starts then or in all.
pub(crate) fn by_client(table: &Table, step_us: Option<i64>) -> ByClient {
    let mut clients = ByClient::new();
    add_by_client(&mut clients, table, step_us);
    clients
}

pub(crate) fn add_by_client(clients: &mut ByClient, table: &Table, step_us: Option<i64>) {
    let rows = (0..table.len()).filter(|&row| step_us.is_none_or(|us| table.time_us[row] == us));
    for row in rows {
        let client = table.names.get(table.texts[0][row]).to_owned();
        let sums = clients.entry(client).or_insert([0; SUMS.len()]);
        sums.iter_mut().zip(&table.sums).for_each(|(sum, column)| *sum += column[row]);
    }
}

#[cfg(test)]
mod tests;
