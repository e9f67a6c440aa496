//! The data that pages explore: usage by the hour and by the day, as Parquet that a browser reads in
//! parts.
//!
//! A page asks for as few columns and row groups as its filters allow, so there is a file for each
//! set of questions: over everything, by client, by endpoint, and by both, sorted by client. Sums are
//! plain doubles (exact up to 2^53) and times 32-bit minutes, which scripts take as they lie in the
//! file. Latencies and status codes of a row are counts by bin or code, each a pair of varints: what
//! the bin or code grew by, and the count. They add up over any filter.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int32Array, RecordBatch};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::books::{self, endpoint_name, newest_usage};
use crate::calendar::{DAY_US, MINUTE_US, Partition};
use crate::names::Names;
use crate::parquet_file::FileError;
use crate::sheet::{self, Line};
use crate::store::Store;
use crate::table::{BYTES_IN, BYTES_OUT, PASSED, REQUESTS, STATUS_0, Table};
use crate::view::{Grain, Latencies, Usage};

/// Days that are told by the hour, and by the day.
pub const HOUR_DAYS: i64 = 31;
pub const DAY_DAYS: i64 = 400;

/// Rows of a row group: what one client costs a reader.
const ROW_GROUP_ROWS: usize = 4_096;

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
    #[error(transparent)]
    File(#[from] FileError),
}

/// Files by their names.
pub type Files = BTreeMap<String, Bytes>;

/// What pages explore.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub platform: Files,
    /// By the client's id; nothing of any other client is in them.
    pub clients: BTreeMap<String, Files>,
    /// The usage of this calendar month (UTC) by the day, by the client's id.
    pub months: BTreeMap<String, Usage>,
}

/// Reads and arranges the usage up to `to_us`.
pub async fn read(store: &Store, to_us: i64) -> Result<Data, CubeError> {
    let mut data = Data::default();
    for (grain, days) in [(Grain::Hour, HOUR_DAYS), (Grain::Day, DAY_DAYS)] {
        let from_us = grain.floor(to_us - days * DAY_US);
        let mut cube = Cube::default();
        for partition in Partition::covering(grain, from_us, to_us) {
            if let Some((table, _)) = newest_usage(store, partition).await? {
                cube.add(&table, from_us);
            }
        }
        cube.encode(grain.word(), &mut data)?;
    }
    let month_us = Grain::Month.floor(to_us - 1);
    data.months = books::read(store, month_us, to_us, Grain::Day, None).await?.clients;
    Ok(data)
}

/// Adds what one table of `grain` says to `data`.
pub fn arrange(table: &Table, grain: Grain, data: &mut Data) -> Result<(), CubeError> {
    let mut cube = Cube::default();
    cube.add(table, i64::MIN);
    cube.encode(grain.word(), data)
}

/// Client, endpoint, minutes since the epoch and tier; 0 where a file does not tell them apart.
type Key = (u32, u32, i32, u32);

#[derive(Clone, Default)]
struct Sums {
    counts: [f64; COUNTS.len()],
    latency: BTreeMap<i32, i64>,
    status: BTreeMap<i32, i64>,
}

impl Sums {
    fn add_row(&mut self, table: &Table, row: usize) {
        for (sum, (_, columns)) in self.counts.iter_mut().zip(COUNTS) {
            *sum += columns.iter().map(|&column| table.sums[column][row]).sum::<i64>() as f64;
        }
        table.latency.row(row).for_each(|(bin, n)| *self.latency.entry(bin).or_default() += n);
        table.status.row(row).for_each(|(code, n)| *self.status.entry(code).or_default() += n);
    }

    fn add(&mut self, other: &Sums) {
        self.counts.iter_mut().zip(other.counts).for_each(|(a, b)| *a += b);
        other.latency.iter().for_each(|(bin, n)| *self.latency.entry(*bin).or_default() += n);
        other.status.iter().for_each(|(code, n)| *self.status.entry(*code).or_default() += n);
    }
}

#[derive(Default)]
struct Cube {
    names: Names,
    rows: HashMap<Key, Sums>,
}

impl Cube {
    fn add(&mut self, table: &Table, from_us: i64) {
        let nothing = self.names.intern("");
        debug_assert_eq!(nothing, 0);
        for row in (0..table.len()).filter(|&row| table.time_us[row] >= from_us) {
            let text = |i: usize| table.names.get(table.texts[i][row]);
            let key = (
                self.names.intern(text(0)),
                self.names.intern(&endpoint_name(text(3), text(2))),
                i32::try_from(table.time_us[row] / MINUTE_US).unwrap_or(i32::MAX),
                self.names.intern(text(1)),
            );
            self.rows.entry(key).or_default().add_row(table, row);
        }
    }

    fn encode(self, grain: &str, data: &mut Data) -> Result<(), CubeError> {
        let mut all: Vec<(Key, &Sums)> = self.rows.iter().map(|(key, sums)| (*key, sums)).collect();
        all.sort_unstable_by_key(|(key, _)| (self.names.get(key.0), self.names.get(key.1), key.2, key.3));
        let mut put = |name: &str, keep: fn(Key) -> Key| -> Result<(), CubeError> {
            let file = self.file(&folded(&all, keep))?;
            data.platform.insert(format!("{grain}-{name}.parquet"), file);
            Ok(())
        };
        put("total", |(_, _, time, tier)| (0, 0, time, tier))?;
        put("clients", |(client, _, time, tier)| (client, 0, time, tier))?;
        put("endpoints", |(_, endpoint, time, tier)| (0, endpoint, time, tier))?;
        data.platform.insert(format!("{grain}-all.parquet"), self.file(&owned(&all))?);
        for own in all.chunk_by(|a, b| a.0.0 == b.0.0) {
            let id = self.names.get(own[0].0.0).to_owned();
            // Whose file it is, its folder says.
            let rows = folded(own, |(_, endpoint, time, tier)| (0, endpoint, time, tier));
            let files = data.clients.entry(id).or_default();
            files.insert(format!("{grain}-endpoints.parquet"), self.file(&rows)?);
            if grain == Grain::Day.word() {
                let lines: Vec<Line> = rows.iter().map(|row| self.line(row)).collect();
                files.insert("day.csv".to_owned(), sheet::csv(&lines)?);
                files.insert("day.json".to_owned(), sheet::json(&lines));
            }
        }
        Ok(())
    }

    fn line(&self, (key, sums): &(Key, Sums)) -> Line<'_> {
        Line {
            time_us: i64::from(key.2) * MINUTE_US,
            tier: self.names.get(key.3),
            endpoint: self.names.get(key.1),
            counts: sums.counts,
            latencies: Latencies { bins: sums.latency.clone() },
        }
    }

    fn file(&self, rows: &[(Key, Sums)]) -> Result<Bytes, CubeError> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("weir ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .build();
        let batch = self.batch(rows)?;
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties))?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(Bytes::from(file))
    }

    fn batch(&self, rows: &[(Key, Sums)]) -> Result<RecordBatch, ArrowError> {
        let text = |pick: fn(&Key) -> u32| -> ArrayRef {
            let values = rows.iter().map(|(key, _)| self.names.get(pick(key)));
            Arc::new(arrow::array::StringArray::from_iter_values(values))
        };
        let pairs = |pick: fn(&Sums) -> &BTreeMap<i32, i64>| -> ArrayRef {
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|(_, sums)| pairs(pick(sums)))))
        };
        let time: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|(key, _)| key.2)));
        let mut columns = vec![
            ("minute", time),
            ("client", text(|key| key.0)),
            ("endpoint", text(|key| key.1)),
            ("tier", text(|key| key.3)),
        ];
        for (i, (name, _)) in COUNTS.iter().enumerate() {
            let values = rows.iter().map(|(_, sums)| sums.counts[i]);
            columns.push((name, Arc::new(Float64Array::from_iter_values(values))));
        }
        columns.push(("latency", pairs(|sums| &sums.latency)));
        columns.push(("status", pairs(|sums| &sums.status)));
        RecordBatch::try_from_iter(columns)
    }
}

fn owned(rows: &[(Key, &Sums)]) -> Vec<(Key, Sums)> {
    rows.iter().map(|(key, sums)| (*key, (*sums).clone())).collect()
}

/// Sums over what `keep` does not tell apart. Clients and endpoints stay in order of their names.
fn folded(rows: &[(Key, &Sums)], keep: fn(Key) -> Key) -> Vec<(Key, Sums)> {
    let mut sums: HashMap<Key, Sums> = HashMap::new();
    let mut order: Vec<Key> = Vec::new();
    for (key, row) in rows {
        let key = keep(*key);
        sums.entry(key).or_insert_with(|| {
            order.push(key);
            Sums::default()
        });
        if let Some(sum) = sums.get_mut(&key) {
            sum.add(row);
        }
    }
    order.into_iter().filter_map(|key| Some((key, sums.remove(&key)?))).collect()
}

/// Ascending numbers and their counts as varints: how much the number grew, the count.
fn pairs(counts: &BTreeMap<i32, i64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(counts.len() * 3);
    let mut last = 0;
    for (&number, &count) in counts {
        varint(&mut out, (number.max(last) - last) as u64);
        varint(&mut out, count.max(0) as u64);
        last = number.max(last);
    }
    out
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[cfg(test)]
mod tests {
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
            read(&store, SAMPLE_START_US as i64 + 2 * HOUR_US).await.unwrap()
        });
        assert_eq!(data.platform.len(), 8);
        for (name, file) in &data.platform {
            assert_eq!(column(file, "requests"), 900.0, "{name}");
        }
        let own = |grain: &str| -> f64 {
            data.clients
                .values()
                .map(|files| column(&files[&format!("{grain}-endpoints.parquet")], "requests"))
                .sum()
        };
        assert_eq!((own("hour"), own("day")), (900.0, 900.0));
        assert!(data.clients.len() > 1);
        for (id, files) in &data.clients {
            for file in files.iter().filter(|(name, _)| name.ends_with(".parquet")) {
                let endpoints = texts(file.1, "endpoint");
                assert!(texts(file.1, "client").iter().all(String::is_empty) && !endpoints.is_empty());
            }
            let others = data.clients.keys().filter(|other| other != &id);
            for other in others {
                let has = |file: &Bytes| file.windows(other.len()).any(|window| window == other.as_bytes());
                assert!(!files.values().any(has), "{other} is in a file of {id}");
            }
        }
    }

    #[test]
    fn pairs_are_what_grew_and_the_count() {
        let counts = BTreeMap::from([(0, 1), (200, 300), (201, 5)]);
        assert_eq!(pairs(&counts), [0, 1, 0xc8, 1, 0xac, 2, 1, 5]);
        assert_eq!(pairs(&BTreeMap::new()), [0u8; 0]);
    }
}
