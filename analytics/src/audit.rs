//! Looks through the books of a range for what must not be in them: more admitted than a limit allows,
//! records twice or missing, grains that do not add up. It knows nothing of buckets or leases.

mod limits;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use weir_policy::Book;

use crate::books::all_held;
use crate::bundle::{BundleNote, Files, Reading};
use crate::calendar::{Partition, civil};
use crate::completeness::{Known, Silence};
use crate::generation::{self, Generation, Note};
use crate::held::{Held, Numbers, Stream};
use crate::parquet_file::FileError;
use crate::part::RECORDS;
use crate::retention::{ByClient, add_by_client, by_client};
use crate::store::{Object, Store};
use crate::table::{REQUESTS, Table};
use crate::view::Grain;
use limits::Admitted;
pub use limits::Watched;

/// Intervals of numbers that a finding names at most.
const TOLD: usize = 5;

/// One thing that must not be, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Breach {
    /// `limit`, `double`, `gap`, `silent`, `sum`, `file` or `redis`.
    pub kind: &'static str,
    pub evidence: String,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    pub hours: u64,
    pub records: u64,
    /// Limits of clients, and limits over all of them, that something was admitted under.
    pub limits: u64,
    /// Counters that Redis was asked for, see [`Audit::compare`].
    pub compared: u64,
    /// What Redis counted there, less what records say was admitted: leases, requests under way, and
    /// whatever was lost on the way to Redis or back.
    pub beyond: i64,
    pub breaches: Vec<Breach>,
    #[serde(skip)]
    watched: Vec<Watched>,
    #[serde(skip)]
    skew_us: i64,
}

/// What Redis counts of one limit.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// When it was asked, by the clock that records are stamped by, microseconds UTC.
    pub at_us: i64,
    pub units: u64,
}

impl Audit {
    /// The limits that something was admitted under, whose counters Redis can be asked for.
    pub fn watched(&self) -> &[Watched] {
        &self.watched
    }

    /// Compares what Redis counts with the records of the same window: one for each of
    /// [`Audit::watched`], in that order. Redis counts a unit from before it is used until a window
    /// after it, so it may count more than there are records, and never less.
    pub fn compare(&mut self, counted: &[Counted]) {
        for (watched, counted) in self.watched.iter().zip(counted) {
            self.compared += 1;
            let admitted = watched.admitted(counted.at_us, self.skew_us);
            let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            self.beyond = self.beyond.saturating_add(signed(counted.units) - signed(admitted));
            if let Some(evidence) = watched.missed(counted.at_us, self.skew_us, counted.units) {
                self.breaches.push(Breach { kind: "redis", evidence });
            }
        }
    }

    fn found(&mut self, kind: &'static str, evidence: String) {
        self.breaches.push(Breach { kind, evidence });
    }
}

/// What an audit takes for granted.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// By how much the clocks of gateways may differ, microseconds.
    pub skew_us: i64,
    /// Records that ended before may have been removed by retention, microseconds UTC.
    pub records_from_us: i64,
}

/// Audits what ended in a range (microseconds UTC, half open, widened to whole hours).
///
/// Limits are looked at for records of the policy's present version, if there is a policy.
pub async fn audit(
    store: &Store,
    book: Option<&Book>,
    range: Range<i64>,
    given: Given,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Audit, FileError> {
    let mut auditor = Auditor {
        store,
        records_from_us: given.records_from_us,
        done: Audit::default(),
        held: Held::default(),
        of: BTreeMap::new(),
        admitted: book.map(Admitted::new),
    };
    let hours = Partition::covering(Grain::Minute, Grain::Hour.floor(range.start), range.end);
    for (i, &hour) in hours.iter().enumerate() {
        progress(i, hours.len());
        auditor.hour(hour).await?;
    }
    auditor.gaps(&range).await?;
    for grain in [Grain::Hour, Grain::Day, Grain::Month] {
        for coarse in Partition::covering(grain, range.start, range.end) {
            auditor.adds_up(coarse, &range).await?;
        }
    }
    let Auditor { mut done, admitted, .. } = auditor;
    let mut watched = admitted.map(Admitted::close).unwrap_or_default();
    for limit in &mut watched {
        if let Some(evidence) = limit.breach(given.skew_us) {
            done.found("limit", evidence);
        }
    }
    (done.limits, done.watched, done.skew_us) = (watched.len() as u64, watched, given.skew_us);
    progress(hours.len(), hours.len());
    Ok(done)
}

struct Auditor<'a> {
    store: &'a Store,
    records_from_us: i64,
    done: Audit,
    held: Held,
    /// Stream -> gateway and boot.
    of: BTreeMap<String, (String, String)>,
    admitted: Option<Admitted<'a>>,
}

impl Auditor<'_> {
    /// Reads the records of an hour; compares them with its minutes.
    async fn hour(&mut self, hour: Partition) -> Result<(), FileError> {
        let listed = Files::of_hour(self.store, hour).await;
        let Some(files) = self.readable(listed)? else { return Ok(()) };
        let segments = files.segments();
        self.done.hours += u64::from(segments > 0);
        let mut sums = ByClient::new();
        for object in files.counting() {
            let read = Reading::of(self.store, &object.path).await;
            let Some(reading) = self.readable(read)? else { continue };
            let read = self.file(object, reading, &mut sums);
            self.readable(read)?;
        }
        let Some((_, minutes, note)) = self.newest(hour).await? else {
            if segments > 0 {
                self.done
                    .found("sum", format!("records of {} were not rolled up; run `weir rollup`", hour.key()));
            }
            return Ok(());
        };
        // Where retention has begun, records and minutes are no wholes any more.
        let listed: u64 = note.parts.values().map(|segments| segments.count()).sum();
        let gone = listed.saturating_sub(segments);
        if gone > 0 && hour.end_us() > self.records_from_us {
            let told = format!("{gone} segments that {} was made from are not in {RECORDS}", hour.folder());
            self.done.found("gap", told);
        }
        if note.moved == 0 && gone == 0 {
            self.same(
                &format!("{RECORDS}/{}", hour.key()),
                &sums,
                &hour.folder(),
                &by_client(&minutes, None),
            );
        }
        Ok(())
    }

    /// Reads a file of records, adds it to the sums and compares it with what it says of itself.
    fn file(&mut self, object: &Object, reading: Reading, sums: &mut ByClient) -> Result<(), FileError> {
        let BundleNote { held, of } = reading.note.clone();
        let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for records in reading {
            let records = records?;
            self.done.records += records.rows().len() as u64;
            for row in records.rows() {
                let stream = records.names().get(row.stream);
                match numbers.get_mut(stream) {
                    Some(known) => known.push(row.number),
                    None => drop(numbers.insert(stream.to_owned(), vec![row.number])),
                }
            }
            add_by_client(sums, &Table::of_records(&records), None);
            if let Some(admitted) = &mut self.admitted {
                admitted.add(&records);
            }
        }
        let (mut twice, mut differs) = (0, numbers.keys().any(|stream| !of.contains_key(stream)));
        for (stream, writer) in of {
            let rows = numbers.remove(&stream).unwrap_or_default();
            let (count, rows) = (rows.len() as u64, Numbers::of(rows));
            let said = held.streams.0.get(&stream).cloned().unwrap_or_default();
            differs |= rows != said.held;
            let known = self.held.0.entry(stream.clone()).or_default();
            twice += count - rows.count() + known.held.common(&rows);
            known.held.union(&rows);
            known.next = known.next.max(said.next);
            self.of.insert(stream, (writer.gateway, writer.boot));
        }
        if twice > 0 {
            self.done
                .found("double", format!("{}: {twice} record numbers are in the books already", object.path));
        }
        if differs {
            let told = format!("{}: it says that it holds other numbers than it does", object.path);
            self.done.found("double", told);
        }
        Ok(())
    }

    /// Notes a file that can't be read, and goes on; only the store's failure ends the audit.
    fn readable<T>(&mut self, read: Result<T, FileError>) -> Result<Option<T>, FileError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) if e.is_of_store() => Err(e),
            Err(e) => {
                self.done.found("file", e.to_string());
                Ok(None)
            }
        }
    }

    async fn newest(&mut self, at: Partition) -> Result<Option<(Generation, Table, Note)>, FileError> {
        let Some(newest) = generation::newest(self.store, at).await? else { return Ok(None) };
        let read = newest.read(self.store).await;
        Ok(self.readable(read)?.map(|(table, note)| (newest, table, note)))
    }

    fn same(&mut self, a: &str, of_a: &ByClient, b: &str, of_b: &ByClient) {
        let clients = of_a.keys().chain(of_b.keys().filter(|client| !of_a.contains_key(*client)));
        for client in clients.filter(|client| of_a.get(*client) != of_b.get(*client)) {
            let requests = |of: &ByClient| of.get(client).map_or(0, |sums| sums[REQUESTS]);
            let (n, m) = (requests(of_a), requests(of_b));
            let what = if n == m { "another sum differs" } else { "requests differ" };
            let told = format!("client {client:?}: {a} has {n} requests, {b} has {m} ({what})");
            self.done.breaches.push(Breach { kind: "sum", evidence: told });
        }
    }

    /// Tells the numbers that no record has, by stream.
    async fn gaps(&mut self, range: &Range<i64>) -> Result<(), FileError> {
        let mut all = all_held(self.store, range.start, range.end).await?;
        all.union(&self.held);
        for silence in Known::of(&self.held, &all, range.clone(), None).silent {
            let Silence { gateway, from_us, to_us } = silence;
            let told = format!(
                "gateway {gateway:?} left no sign of life from {}Z to {}Z: nobody knows what it served",
                civil(from_us),
                civil(to_us)
            );
            self.done.found("silent", told);
        }
        for (id, stream) in &self.held.0 {
            let holes = stream.holes(all.0.get(id).unwrap_or(&Stream::default()));
            let missing: u64 = holes.iter().map(|(from, to)| to - from).sum();
            if missing == 0 {
                continue;
            }
            let told: Vec<String> =
                holes.iter().take(TOLD).map(|(from, to)| format!("{from} to {}", to - 1)).collect();
            let more = if holes.len() > TOLD { ", …" } else { "" };
            let (gateway, boot) = self.of.get(id).cloned().unwrap_or_default();
            let told = told.join(", ");
            let evidence = format!(
                "gateway {gateway:?}, boot {boot}, stream {id}: {missing} records missing, numbers {told}{more}"
            );
            self.done.found("gap", evidence);
        }
        Ok(())
    }

    /// Compares a partition with the finer ones of the range that it was made from.
    async fn adds_up(&mut self, coarse: Partition, range: &Range<i64>) -> Result<(), FileError> {
        let finer = Grain::ALL[coarse.grain as usize - 1];
        let own = self.newest(coarse).await?;
        let (from_us, to_us) = (coarse.start_us.max(range.start), coarse.end_us().min(range.end));
        for child in Partition::covering(finer, from_us, to_us) {
            let Some((generation, table, note)) = self.newest(child).await? else { continue };
            let Some((_, coarse_table, coarse_note)) = &own else {
                self.done.found("sum", format!("there is no {}; run `weir rollup`", coarse.folder()));
                return Ok(());
            };
            if coarse_note.from.get(&child.key()).copied().unwrap_or(0) < generation.number {
                if !table.is_empty() {
                    let told =
                        format!("{} lags behind {}; run `weir rollup`", coarse.folder(), child.folder());
                    self.done.found("sum", told);
                }
            } else if note.moved == 0 && coarse_note.moved == 0 {
                let theirs = by_client(coarse_table, Some(child.start_us));
                self.same(&child.folder(), &by_client(&table, None), &coarse.folder(), &theirs);
            }
        }
        Ok(())
    }
}
