//! Reads the roll-ups: what pages and exports show.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use futures::{StreamExt, TryStreamExt};

use crate::calendar::{DAY_US, Partition, day_of_folder, hour_of_folder};
use crate::completeness::Known;
use crate::generation::{self, Note};
use crate::held::Held;
use crate::parquet_file::FileError;
use crate::part::{self, PartNote};
use crate::records::Records;
use crate::rollup;
use crate::store::Store;
use crate::table::{BYTES_IN, BYTES_OUT, LATENCY_SUM_US, PASSED, REQUESTS, STATUS_0, Table};
use crate::view::{Completeness, Grain, Row, Series, Totals, Usage};

/// Requests to the store under way at a time.
const REQUESTS_AT_ONCE: usize = 8;

/// How often a partition is looked up again when it is tidied up while being read.
const TRIES: u32 = 5;

/// How far back a stream is looked for that went on into the range: one life of a worker without a
/// single record for longer is taken for one that lost its beginning.
const STREAM_PAUSE_US: i64 = 31 * DAY_US;

/// Usage in a range of time, of all clients and of each.
#[derive(Clone, Debug)]
pub struct Books {
    pub platform: Usage,
    /// By the client's id.
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
    let from_us = grain.floor(from_us);
    let to_us = if grain.floor(to_us) == to_us { to_us } else { grain.next(grain.floor(to_us)) };
    let mut ledger = Ledger::default();
    let partitions = Partition::covering(grain, from_us, to_us);
    let reads = partitions.into_iter().map(|partition| newest_usage(store, partition));
    let mut reads = futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE);
    while let Some(read) = reads.next().await {
        if let Some((table, note)) = read? {
            ledger.add(&table, from_us..to_us);
            ledger.held.union(&note.streams);
        }
    }
    let all = all_held(store, from_us, to_us).await?;
    let missing = i64::try_from(ledger.held.missing(&all)).unwrap_or(i64::MAX);
    let known = Known::of(&ledger.held, &all, from_us..to_us, complete_to_us);
    let told = Completeness { records: 0, missing, complete_to_us, known };
    Ok(ledger.close(from_us, to_us, grain, told))
}

/// The partition as it counts; `None` where there is nothing.
pub async fn newest_usage(store: &Store, partition: Partition) -> Result<Option<(Table, Note)>, FileError> {
    let mut tries = 0;
    loop {
        let Some(newest) = generation::newest(store, partition).await? else { return Ok(None) };
        match newest.read(store).await {
            Err(e) if e.is_missing() && tries < TRIES => tries += 1,
            // What is left of a partition after retention is no whole.
            Ok((_, note)) if note.moved > 0 => return Ok(None),
            read => return read.map(Some),
        }
    }
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

/// Client, tier, endpoint and method.
type Line = [String; 4];

/// The sums of one client or one endpoint while the books are being read.
#[derive(Default)]
struct Account {
    lines: HashMap<Line, Totals>,
    series: BTreeMap<i64, Totals>,
    status: BTreeMap<u16, i64>,
}

#[derive(Default)]
struct Ledger {
    accounts: BTreeMap<String, Account>,
    endpoints: BTreeMap<String, Account>,
    held: Held,
}

impl Ledger {
    fn add(&mut self, table: &Table, range: Range<i64>) {
        for row in (0..table.len()).filter(|&row| range.contains(&table.time_us[row])) {
            let line: Line = std::array::from_fn(|i| table.names.get(table.texts[i][row]).to_owned());
            let endpoint = endpoint_name(&line[3], &line[2]);
            self.endpoints.entry(endpoint).or_default().add(&line, table, row);
            self.accounts.entry(line[0].clone()).or_default().add(&line, table, row);
        }
    }

    fn close(self, from_us: i64, to_us: i64, grain: Grain, mut told: Completeness) -> Books {
        let newest = self.accounts.values().filter_map(|a| a.series.keys().next_back()).max().copied();
        told.complete_to_us = newest.and(told.complete_to_us).or(newest);
        let empty = || Usage {
            from_us,
            to_us,
            totals: Totals::default(),
            series: Series { grain, points: Vec::new() },
            rows: Vec::new(),
            status: BTreeMap::new(),
            completeness: told.clone(),
        };
        let mut books = Books { platform: empty(), clients: BTreeMap::new(), endpoints: BTreeMap::new() };
        let mut series: BTreeMap<i64, Totals> = BTreeMap::new();
        for (client, account) in self.accounts {
            account.series.iter().for_each(|(&at, totals)| series.entry(at).or_default().add(totals));
            let usage = account.close(empty());
            books.platform.totals.add(&usage.totals);
            books.platform.rows.extend(usage.rows.iter().cloned());
            usage.status.iter().for_each(|(&code, n)| *books.platform.status.entry(code).or_default() += n);
            books.clients.insert(client, usage);
        }
        for (endpoint, account) in self.endpoints {
            books.endpoints.insert(endpoint, account.close(empty()));
        }
        books.platform.series.points = series.into_iter().collect();
        books.platform.completeness.records = books.platform.totals.requests;
        books
    }
}

impl Account {
    fn add(&mut self, line: &Line, table: &Table, row: usize) {
        if !self.lines.contains_key(line) {
            self.lines.insert(line.clone(), Totals::default());
        }
        if let Some(totals) = self.lines.get_mut(line) {
            add_row(totals, table, row);
        }
        add_row(self.series.entry(table.time_us[row]).or_default(), table, row);
        for (code, count) in table.status.row(row) {
            *self.status.entry(u16::try_from(code).unwrap_or(0)).or_default() += count;
        }
    }

    /// Fills a usage that has nothing in it yet.
    fn close(self, mut usage: Usage) -> Usage {
        let mut lines: Vec<(Line, Totals)> = self.lines.into_iter().collect();
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        for ([client, tier, endpoint, method], totals) in lines {
            usage.totals.add(&totals);
            usage.rows.push(Row { client, tier, endpoint, method, totals });
        }
        usage.series.points = self.series.into_iter().collect();
        usage.status = self.status;
        usage.completeness.records = usage.totals.requests;
        usage
    }
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

/// Hands every usage row of a range (microseconds UTC, half open) to `each`, by table and positions,
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
    for path in rollup::files(store, grain).await? {
        let (table, note): (Table, Note) = generation::read_usage(store, &path).await?;
        if note.moved > 0 {
            continue;
        }
        let rows: Vec<usize> = (0..table.len()).filter(|&r| range.contains(&table.time_us[r])).collect();
        if !rows.is_empty() {
            held.union(&note.streams);
            each(&table, &rows);
        }
        for row in rows {
            told.records += table.sums[REQUESTS][row];
            told.complete_to_us = told.complete_to_us.max(Some(table.time_us[row]));
            oldest_us = Some(oldest_us.unwrap_or(i64::MAX).min(table.time_us[row]));
        }
    }
    let newest_us = told.complete_to_us.unwrap_or(0);
    let all = all_held(store, oldest_us.unwrap_or(0), newest_us).await?;
    let from_us = range.start.max(oldest_us.unwrap_or(0));
    told.known = Known::of(&held, &all, from_us..range.end, None);
    told.missing = i64::try_from(held.missing(&all)).unwrap_or(i64::MAX);
    Ok(told)
}

/// Hands every record part that overlaps a range (microseconds UTC, half open) to `each`. A part that
/// can't be read is an error: what is exported as records has to be all of them.
pub async fn records(
    store: &Store,
    range: Range<i64>,
    each: &mut dyn FnMut(&PartNote, &Records),
) -> Result<(), FileError> {
    for object in store.list(part::RECORDS).await? {
        let overlaps = |hour: Partition| hour.start_us < range.end && hour.end_us() > range.start;
        if hour_of_folder(&object.path).is_some_and(overlaps) {
            let (records, note) = part::read_records(store, &object.path).await?;
            each(&note, &records);
        }
    }
    Ok(())
}

/// When the newest hour with records begins; `None` where there is nothing yet.
pub async fn newest_hour(store: &Store) -> Result<Option<i64>, FileError> {
    for folder in store.folders("usage/grain=hour").await?.iter().rev() {
        let Some(day) = day_of_folder(folder) else { continue };
        // A day may have signs of life alone.
        let usage = newest_usage(store, day).await?;
        if let Some(newest) = usage.and_then(|(table, _)| table.time_us.iter().max().copied()) {
            return Ok(Some(newest));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::calendar::{HOUR_US, MINUTE_US};
    use crate::testing::{SAMPLE_START_US, put_segment, roll_up, runtime, sample_records};

    const START_US: i64 = SAMPLE_START_US as i64;

    /// Numbers 0 to 900 of one stream around midnight, less those of the segment in the middle.
    fn store() -> Store {
        let store = Store::new(Arc::new(InMemory::new()));
        runtime().block_on(async {
            for (segment, numbers) in [(0, 0..300), (2, 500..900)] {
                put_segment(&store, 1, segment, numbers).await.unwrap();
            }
            roll_up(&store, 0).await.unwrap();
        });
        store
    }

    fn books(store: &Store, from_us: i64, to_us: i64, grain: Grain) -> Books {
        runtime().block_on(read(store, from_us, to_us, grain, None)).unwrap()
    }

    #[test]
    fn the_platform_is_the_sum_of_its_clients() {
        let books = books(&store(), START_US, START_US + HOUR_US, Grain::Minute);
        let mut sum = Totals::default();
        books.clients.values().for_each(|usage| sum.add(&usage.totals));
        assert_eq!((books.platform.totals.clone(), sum.requests), (sum.clone(), 700));
        let mut points = Totals::default();
        books.platform.series.points.iter().for_each(|(_, totals)| points.add(totals));
        assert_eq!(points, sum);
        let rows: i64 = books.platform.rows.iter().map(|r| r.totals.requests).sum();
        let status: i64 = books.platform.status.values().sum();
        assert_eq!((rows, status), (700, 700));
        let acme = &books.clients["acme"];
        assert!(acme.rows.iter().all(|r| r.client == "acme") && acme.totals.requests < 700);
        assert_eq!(acme.completeness.records, acme.totals.requests);
        let endpoints: i64 = books.endpoints.values().map(|usage| usage.totals.requests).sum();
        assert_eq!(endpoints, 700);
    }

    #[test]
    fn percentiles_of_any_grain_are_those_of_the_records() {
        let store = store();
        let mut exact: Vec<i64> = [0..300, 500..900]
            .into_iter()
            .flat_map(|numbers| sample_records(1, numbers).rows().to_vec())
            .filter_map(|row| row.latency_us)
            .collect();
        exact.sort_unstable();
        for grain in Grain::ALL {
            let totals = books(&store, START_US, START_US + HOUR_US, grain).platform.totals;
            for q in [0.5, 0.95, 0.99] {
                let want = exact[(q * exact.len() as f64).ceil() as usize - 1] as f64;
                let got = totals.latencies.quantile_us(q).unwrap();
                assert!((got / want - 1.0).abs() <= 0.01, "{grain:?} {q}: {got} for {want}");
            }
            assert_eq!(totals.latencies.count(), exact.len() as i64);
        }
    }

    #[test]
    fn a_range_holds_what_ended_in_it() {
        let store = store();
        let midnight_us = START_US + 10 * MINUTE_US;
        let before = books(&store, START_US, midnight_us, Grain::Minute).platform;
        let after = books(&store, midnight_us, midnight_us + HOUR_US, Grain::Minute).platform;
        assert_eq!(before.totals.requests + after.totals.requests, 700);
        assert!(before.series.points.iter().all(|(at, _)| *at < midnight_us));
        assert!(books(&store, 0, HOUR_US, Grain::Hour).clients.is_empty());
        assert_eq!(runtime().block_on(newest_hour(&store)).unwrap(), Some(midnight_us));
    }

    #[test]
    fn missing_numbers_are_told_where_the_stream_goes_on() {
        let store = store();
        let midnight_us = START_US + 10 * MINUTE_US;
        let told = |from, to| books(&store, from, to, Grain::Minute).platform.completeness;
        assert_eq!(told(START_US, midnight_us).missing, 200);
        assert_eq!(told(midnight_us, midnight_us + HOUR_US).missing, 0);
        assert_eq!(told(START_US, midnight_us + HOUR_US).records, 700);
        let all = runtime().block_on(rows(&store, Grain::Day, i64::MIN..i64::MAX, &mut |_, _| {})).unwrap();
        assert_eq!((all.records, all.missing), (700, 200));
    }

    #[test]
    fn up_to_when_it_is_complete_is_what_the_collector_says() {
        let store = store();
        let read =
            |complete| runtime().block_on(read(&store, START_US, START_US + HOUR_US, Grain::Hour, complete));
        let told = |complete| read(complete).unwrap().platform.completeness.complete_to_us;
        assert_eq!(told(Some(77)), Some(77));
        assert_eq!(told(None), Some(START_US + 10 * MINUTE_US));
    }
}
