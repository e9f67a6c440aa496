//! The data that pages explore: usage by the hour and by the day, as Parquet that a browser reads in
//! parts.
//!
//! A page asks for as few columns and row groups as its filters allow, so there is a file for each
//! set of questions: over everything, by client, by endpoint, and by both, sorted by client. Sums are
//! plain doubles (exact up to 2^53) and times 32-bit minutes, which scripts take as they lie in the
//! file. Latencies and status codes of a row are counts by bin or code, each a pair of varints: what
//! the bin or code grew by, and the count. They add up over any filter.
//!
//! A year of many clients is more than one wants to hold twice. What is gathered lies packed, and a file
//! is made when it is asked for, row group by row group.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::errors::ParquetError;

use crate::books::{self, Each, each_usage, endpoint_name};
use crate::calendar::{DAY_US, MINUTE_US, Partition};
use crate::names::Names;
use crate::parquet_file::FileError;
use crate::sheet::{self, Line};
use crate::store::Store;
use crate::table::{BYTES_IN, BYTES_OUT, PASSED, REQUESTS, STATUS_0, Table};
use crate::view::{Grain, Latencies, Usage};

mod file;
mod packed;

use file::CubeFile;
use packed::{Packed, Sums};

/// Days that are told by the hour, and by the day.
pub const HOUR_DAYS: i64 = 31;
pub const DAY_DAYS: i64 = 400;

/// Rows of a row group: what one client costs a reader. Fewer rows would mean more groups, and a
/// browser takes longer to read what the file's end says of a thousand columns than it takes for these.
const ROW_GROUP_ROWS: usize = 16_384;

/// The summed columns, in the order of [`Sums::counts`], and what each adds up.
pub(crate) const COUNTS: [(&str, &[usize]); 14] = [
    ("requests", &[REQUESTS]),
    ("status_1", &[STATUS_0 + 1]),
    ("status_2", &[STATUS_0 + 2]),
    ("status_3", &[STATUS_0 + 3]),
    ("status_4", &[STATUS_0 + 4]),
    ("status_5", &[STATUS_0 + 5]),
    ("passed", &[PASSED, PASSED + 5]),
    ("delayed", &[PASSED + 1, PASSED + 6]),
    ("rejected", &[PASSED + 2, PASSED + 7]),
    ("over", &[PASSED + 8, PASSED + 10]),
    ("dry_run", &[PASSED + 3, PASSED + 4, PASSED + 9]),
    ("degraded", &[PASSED + 5, PASSED + 6, PASSED + 7, PASSED + 10]),
    ("bytes_in", &[BYTES_IN]),
    ("bytes_out", &[BYTES_OUT]),
];

/// Why data for the pages could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CubeError {
    #[error("could not encode data for the pages: {0}; please report this")]
    Encode(#[from] ParquetError),
    #[error("could not arrange data for the pages: {0}; please report this")]
    Columns(#[from] ArrowError),
    #[error("could not write data for the pages as CSV: {0}; please report this")]
    Csv(#[from] csv::Error),
    #[error("could not write data for the pages as JSON: {0}; please report this")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    File(#[from] FileError),
}

/// A file's name and its content.
pub type File = (String, Bytes);

/// What pages explore.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub hours: Cube,
    pub days: Cube,
    /// The usage of this calendar month (UTC) by the day, by the client's id.
    pub months: BTreeMap<String, Usage>,
}

/// Reads the usage up to `to_us`.
pub async fn read(store: &Store, to_us: i64, each: Each<'_>) -> Result<Data, CubeError> {
    let mut cubes = [Cube::default(), Cube::default()];
    for (cube, (grain, days)) in cubes.iter_mut().zip([(Grain::Hour, HOUR_DAYS), (Grain::Day, DAY_DAYS)]) {
        let from_us = grain.floor(to_us - days * DAY_US);
        let mut gathered = Gathered::default();
        for partition in Partition::covering(grain, from_us, to_us) {
            each_usage(store, partition, &mut |table| gathered.add(table, from_us)).await?;
        }
        *cube = gathered.sorted();
    }
    let month_us = Grain::Month.floor(to_us - 1);
    let months = books::read_of(store, month_us..to_us, Grain::Day, None, each).await?.clients;
    let [hours, days] = cubes;
    Ok(Data { hours, days, months })
}

impl Data {
    /// The files of the platform, each made when its turn comes.
    pub fn platform(&self) -> impl Iterator<Item = Result<File, CubeError>> + '_ {
        let kinds: [(&str, Keep); 4] = [
            ("total", |key| Key { client: 0, endpoint: 0, ..key }),
            ("clients", |key| Key { endpoint: 0, ..key }),
            ("endpoints", |key| Key { client: 0, ..key }),
            ("all", |key| key),
        ];
        self.grains().into_iter().flat_map(move |(grain, cube)| {
            kinds.into_iter().map(move |(name, keep)| {
                let mut file = CubeFile::new()?;
                cube.sums(&cube.rows, keep, &mut |key, sums| file.push(&cube.names, key, sums))?;
                Ok((format!("{grain}-{name}.parquet"), file.close()?))
            })
        })
    }

    /// The files of one client; nothing of any other client is in them.
    pub fn client(&self, id: &str) -> Result<Vec<File>, CubeError> {
        let mut files = Vec::new();
        for (grain, cube) in self.grains() {
            let own = cube.of_client(id);
            if own.is_empty() {
                continue;
            }
            let (mut file, mut lines) = (CubeFile::new()?, Vec::new());
            // Whose file it is, its folder says.
            cube.sums(own, |key| Key { client: 0, ..key }, &mut |key, sums| {
                lines.push(cube.line(key, sums));
                file.push(&cube.names, key, sums)
            })?;
            files.push((format!("{grain}-endpoints.parquet"), file.close()?));
            if grain == Grain::Day.word() {
                files.push(("day.csv".to_owned(), sheet::csv(&lines)?));
                files.push(("day.json".to_owned(), sheet::json(&lines)?));
            }
        }
        Ok(files)
    }

    /// What the files of the platform would be made from.
    pub fn hash_platform(&self, hasher: &mut impl Hasher) {
        self.grains().iter().for_each(|(_, cube)| cube.hash(&cube.rows, hasher));
    }

    /// What the files of one client would be made from.
    pub fn hash_client(&self, id: &str, hasher: &mut impl Hasher) {
        self.grains().iter().for_each(|(_, cube)| cube.hash(cube.of_client(id), hasher));
    }

    fn grains(&self) -> [(&'static str, &Cube); 2] {
        [(Grain::Hour.word(), &self.hours), (Grain::Day.word(), &self.days)]
    }
}

/// Names as their positions, 0 where a file does not tell them apart; minutes since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    client: u32,
    endpoint: u32,
    minute: i32,
    tier: u32,
}

/// What a file tells apart.
type Keep = fn(Key) -> Key;

#[derive(Clone, Copy, Debug)]
struct Row {
    key: Key,
    /// Where its sums lie in [`Cube::packed`].
    at: packed::Place,
}

/// Usage that is being read.
#[derive(Default)]
pub struct Gathered(Cube);

impl Gathered {
    /// Adds what a table says from `from_us` on.
    pub fn add(&mut self, table: &Table, from_us: i64) {
        let Cube { names, rows, packed } = &mut self.0;
        // The first name is that of what is not told apart.
        names.intern("");
        for row in (0..table.len()).filter(|&row| table.time_us[row] >= from_us) {
            let text = |i: usize| table.names.get(table.texts[i][row]);
            let key = Key {
                client: names.intern(text(0)),
                endpoint: names.intern(&endpoint_name(text(3), text(2))),
                minute: i32::try_from(table.time_us[row] / MINUTE_US).unwrap_or(i32::MAX),
                tier: names.intern(text(1)),
            };
            let counts = COUNTS.map(|(_, columns)| columns.iter().map(|&c| table.sums[c][row]).sum());
            let at = packed.push(&counts, table.latency.row(row), table.status.row(row));
            rows.push(Row { key, at });
        }
    }

    /// By client, endpoint and time; positions of names are in the order of the names.
    pub fn sorted(self) -> Cube {
        let mut cube = self.0;
        let (names, moved) = Names::merged(std::iter::once(&cube.names));
        let to = |position: u32| moved[0][position as usize];
        for Row { key, .. } in &mut cube.rows {
            (key.client, key.endpoint, key.tier) = (to(key.client), to(key.endpoint), to(key.tier));
        }
        cube.names = names;
        cube.rows.sort_unstable_by_key(|row| row.key);
        cube
    }
}

/// Usage in steps of one grain, by client, endpoint and tier.
#[derive(Clone, Debug, Default)]
pub struct Cube {
    names: Names,
    rows: Vec<Row>,
    packed: Packed,
}

impl Cube {
    fn of_client(&self, id: &str) -> &[Row] {
        let from = self.rows.partition_point(|row| self.names.get(row.key.client) < id);
        let own = self.rows[from..].partition_point(|row| self.names.get(row.key.client) == id);
        &self.rows[from..from + own]
    }

    fn hash(&self, rows: &[Row], hasher: &mut impl Hasher) {
        rows.len().hash(hasher);
        for Row { key, at } in rows {
            [key.client, key.endpoint, key.tier].map(|name| self.names.get(name)).hash(hasher);
            key.minute.hash(hasher);
            self.packed.bytes(*at).hash(hasher);
        }
    }

    /// Hands sums over what `keep` does not tell apart to `each`, in the order of what it does.
    fn sums(
        &self,
        rows: &[Row],
        keep: Keep,
        each: &mut dyn FnMut(Key, &Sums) -> Result<(), CubeError>,
    ) -> Result<(), CubeError> {
        let mut order: Vec<(Key, packed::Place)> = rows.iter().map(|row| (keep(row.key), row.at)).collect();
        order.sort_unstable_by_key(|(key, _)| *key);
        let mut sums = Sums::default();
        for alike in order.chunk_by(|a, b| a.0 == b.0) {
            sums.clear();
            alike.iter().for_each(|(_, at)| self.packed.add_to(&mut sums, *at));
            sums.merge();
            each(alike[0].0, &sums)?;
        }
        Ok(())
    }

    fn line(&self, key: Key, sums: &Sums) -> Line<'_> {
        Line {
            time_us: i64::from(key.minute) * MINUTE_US,
            tier: self.names.get(key.tier),
            endpoint: self.names.get(key.endpoint),
            counts: sums.counts,
            latencies: Latencies { bins: sums.latency.iter().copied().collect() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, RecordBatch};
    use object_store::memory::InMemory;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::calendar::HOUR_US;
    use crate::testing::{SAMPLE_START_US, put_segment, roll_up, runtime};

    fn column(file: &Bytes, name: &str) -> f64 {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().build().unwrap();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        let of = |batch: &RecordBatch| {
            let values = batch.column_by_name(name).unwrap().as_any().downcast_ref::<Float64Array>().unwrap();
            values.iter().flatten().sum::<f64>()
        };
        batches.iter().map(of).sum()
    }

    fn texts(file: &Bytes, name: &str) -> Vec<String> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().build().unwrap();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        let column = |batch: &RecordBatch| {
            let column = batch.column_by_name(name).unwrap().clone();
            let column = column.as_any().downcast_ref::<arrow::array::StringArray>().unwrap().clone();
            column.iter().flatten().map(str::to_owned).collect::<Vec<_>>()
        };
        batches.iter().flat_map(column).collect()
    }

    #[test]
    fn every_file_has_the_same_sum_and_a_client_has_its_own() {
        let store = Store::new(Arc::new(InMemory::new()));
        let data = runtime().block_on(async {
            put_segment(&store, 1, 0, 0..900).await.unwrap();
            roll_up(&store, 0).await.unwrap();
            read(&store, SAMPLE_START_US as i64 + 2 * HOUR_US, Each::BUSIEST).await.unwrap()
        });
        let platform: Vec<File> = data.platform().map(Result::unwrap).collect();
        assert_eq!(platform.len(), 8);
        for (name, file) in &platform {
            assert_eq!(column(file, "requests"), 900.0, "{name}");
        }
        let clients: BTreeMap<String, BTreeMap<String, Bytes>> = data
            .months
            .keys()
            .map(|id| (id.clone(), data.client(id).unwrap().into_iter().collect()))
            .collect();
        let own = |grain: &str| -> f64 {
            clients
                .values()
                .map(|files| column(&files[&format!("{grain}-endpoints.parquet")], "requests"))
                .sum()
        };
        assert_eq!((own("hour"), own("day")), (900.0, 900.0));
        assert!(clients.len() > 1);
        assert!(data.client("nobody").unwrap().is_empty());
        for (id, files) in &clients {
            for file in files.iter().filter(|(name, _)| name.ends_with(".parquet")) {
                let endpoints = texts(file.1, "endpoint");
                assert!(texts(file.1, "client").iter().all(String::is_empty) && !endpoints.is_empty());
            }
            let others = clients.keys().filter(|other| other != &id);
            for other in others {
                let has = |file: &Bytes| file.windows(other.len()).any(|window| window == other.as_bytes());
                assert!(!files.values().any(has), "{other} is in a file of {id}");
            }
        }
    }

    #[test]
    fn what_a_client_is_hashed_by_is_its_own_usage() {
        let store = Store::new(Arc::new(InMemory::new()));
        let hashed = |records: std::ops::Range<u64>, id: &str| {
            let data = runtime().block_on(async {
                put_segment(&store, 1, records.start as u32, records).await.unwrap();
                roll_up(&store, 0).await.unwrap();
                read(&store, SAMPLE_START_US as i64 + 2 * HOUR_US, Each::BUSIEST).await.unwrap()
            });
            let mut hasher = std::collections::hash_map::DefaultHasher::new();
            data.hash_client(id, &mut hasher);
            hasher.finish()
        };
        let (nobody, acme) = (hashed(0..300, "nobody"), hashed(0..300, "acme"));
        assert_ne!(nobody, acme);
        assert_eq!(hashed(0..300, "acme"), acme);
        assert_ne!(hashed(300..600, "acme"), acme);
        assert_eq!(hashed(300..600, "nobody"), nobody);
    }
}
