//! The published columns, to and from the tables in memory (docs/store.md).

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, MapArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use weir_metering::Decision;

use crate::names::Names;
use crate::parquet_file::FileError;
use crate::records::{Records, Row};
use crate::table::{Counts, SUMS, TEXTS, Table};

/// What record and usage files are sorted by.
pub const SORTED_BY: [&str; 3] = ["client", "endpoint", "time"];

fn text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn entry_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Int32, false), Field::new("value", DataType::Int64, false)])
}

fn entries_field() -> Arc<Field> {
    Arc::new(Field::new("key_value", DataType::Struct(entry_fields()), false))
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// Columns of `records/`.
pub static RECORDS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        required("time", time_type()),
        required("gateway", text_type()),
        required("stream", text_type()),
        required("number", DataType::Int64),
        required("client", text_type()),
        required("tier", text_type()),
        required("endpoint", text_type()),
        required("method", text_type()),
        required("status", DataType::Int32),
        Field::new("latency_us", DataType::Int64, true),
        Field::new("upstream_us", DataType::Int64, true),
        required("bytes_in", DataType::Int64),
        required("bytes_out", DataType::Int64),
        required("decision", text_type()),
        required("limit", text_type()),
        required("policy_version", text_type()),
    ]))
});

/// Columns of `usage/` and `parts/`.
pub static USAGE: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![required("time", time_type())];
    fields.extend(TEXTS.map(|name| required(name, text_type())));
    fields.extend(SUMS.map(|name| required(name, DataType::Int64)));
    fields.push(Field::new("latency_min_us", DataType::Int64, true));
    fields.push(Field::new("latency_max_us", DataType::Int64, true));
    fields.push(required("latency", DataType::Map(entries_field(), false)));
    fields.push(required("status", DataType::Map(entries_field(), false)));
    Arc::new(Schema::new(fields))
});

/// The records as published, in their order.
pub fn records_to_batch(records: &Records) -> Result<RecordBatch, ArrowError> {
    rows_to_batch(records, records.rows())
}

/// Some rows of records as published, in their order.
pub fn rows_to_batch(records: &Records, rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let int =
        |pick: fn(&Row) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(pick))) };
    let option = |pick: fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(pick).collect::<Int64Array>())
    };
    let text = |pick: fn(&Row) -> u32| texts(rows.iter().map(pick), records.names());
    let columns = vec![
        times(rows.iter().map(|r| r.time_us)),
        text(|r| r.gateway)?,
        text(|r| r.stream)?,
        int(|r| i64::try_from(r.number).unwrap_or(i64::MAX)),
        text(|r| r.client)?,
        text(|r| r.tier)?,
        text(|r| r.endpoint)?,
        text(|r| r.method)?,
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.status))),
        option(|r| r.latency_us),
        option(|r| r.upstream_us),
        int(|r| r.bytes_in),
        int(|r| r.bytes_out),
        spelled(rows.iter().map(|r| r.decision.word().to_owned()))?,
        text(|r| r.limit)?,
        spelled(rows.iter().map(|r| format!("{:016x}", r.policy_version)))?,
    ];
    RecordBatch::try_new(RECORDS.clone(), columns)
}

/// Published records back in memory; `path` is for messages.
pub fn records_from_batch(batch: &RecordBatch, path: &str) -> Result<Records, FileError> {
    let mut names = Names::default();
    let read = Reader { batch, path };
    let times = read.times()?;
    let numbers = read.integers("number")?;
    let status = read.column("status")?;
    let status = status.as_primitive_opt::<Int32Type>().ok_or_else(|| FileError::column(path, "status"))?;
    let (bytes_in, bytes_out) = (read.integers("bytes_in")?, read.integers("bytes_out")?);
    let (latency, upstream) = (read.options("latency_us")?, read.options("upstream_us")?);
    let mut text = |name: &str| read.texts(name, &mut names);
    let (gateway, stream) = (text("gateway")?, text("stream")?);
    let (client, tier, endpoint) = (text("client")?, text("tier")?, text("endpoint")?);
    let (method, limit) = (text("method")?, text("limit")?);
    let (decision, policy) = (text("decision")?, text("policy_version")?);
    let row = |i: usize| Row {
        time_us: times[i],
        gateway: gateway[i],
        stream: stream[i],
        number: numbers[i].max(0) as u64,
        client: client[i],
        tier: tier[i],
        endpoint: endpoint[i],
        method: method[i],
        limit: limit[i],
        status: status.value(i),
        latency_us: latency[i],
        upstream_us: upstream[i],
        bytes_in: bytes_in[i],
        bytes_out: bytes_out[i],
        decision: decision_of(names.get(decision[i])),
        policy_version: u64::from_str_radix(names.get(policy[i]), 16).unwrap_or(0),
    };
    let rows = (0..batch.num_rows()).map(row).collect();
    Ok(Records::from_parts(names, rows))
}

/// Words of later versions count as passed, as their requests were answered.
fn decision_of(word: &str) -> Decision {
    Decision::ALL.into_iter().find(|d| d.word() == word).unwrap_or(Decision::Passed)
}

/// A table as published, in its order.
pub fn table_to_batch(table: &Table) -> Result<RecordBatch, ArrowError> {
    let mut columns = vec![times(table.time_us.iter().copied())];
    for column in &table.texts {
        columns.push(texts(column.iter().copied(), &table.names)?);
    }
    for column in &table.sums {
        columns.push(Arc::new(Int64Array::from(column.clone())));
    }
    columns.push(Arc::new(Int64Array::from(table.latency_min_us.clone())));
    columns.push(Arc::new(Int64Array::from(table.latency_max_us.clone())));
    columns.push(map_array(&table.latency)?);
    columns.push(map_array(&table.status)?);
    RecordBatch::try_new(USAGE.clone(), columns)
}

/// Published usage back in memory; `path` is for messages.
pub fn table_from_batch(batch: &RecordBatch, path: &str) -> Result<Table, FileError> {
    let read = Reader { batch, path };
    let mut table = Table { time_us: read.times()?, ..Table::default() };
    for (column, name) in table.texts.iter_mut().zip(TEXTS) {
        *column = read.texts(name, &mut table.names)?;
    }
    for (column, name) in table.sums.iter_mut().zip(SUMS) {
        *column = read.sums(name)?;
    }
    table.latency_min_us = read.options("latency_min_us")?;
    table.latency_max_us = read.options("latency_max_us")?;
    table.latency = read.counts("latency")?;
    table.status = read.counts("status")?;
    Ok(table)
}

/// The columns that [`requests_from_batch`] takes.
pub const REQUESTS_OF_CLIENTS: [&str; 3] = ["time", "client", "requests"];

/// Of published usage, times, clients and requests alone: (time, client, requests).
pub fn requests_from_batch(
    batch: &RecordBatch,
    path: &str,
    each: &mut dyn FnMut(i64, &str, i64),
) -> Result<(), FileError> {
    let (read, mut names) = (Reader { batch, path }, Names::default());
    let (times, requests) = (read.times()?, read.integers("requests")?);
    let clients = read.texts("client", &mut names)?;
    for ((time_us, client), requests) in times.into_iter().zip(clients).zip(requests) {
        each(time_us, names.get(client), requests);
    }
    Ok(())
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

/// A dictionary of the names that are used.
fn texts(rows: impl Iterator<Item = u32>, names: &Names) -> Result<ArrayRef, ArrowError> {
    let (mut keys, mut used) = (vec![None; names.list().len()], Vec::new());
    let mut key = |name: u32| {
        *keys[name as usize].get_or_insert_with(|| {
            used.push(names.get(name));
            used.len() as i32 - 1
        })
    };
    let keys = Int32Array::from_iter_values(rows.map(&mut key));
    let values = StringArray::from_iter_values(used);
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values))?))
}

fn spelled(words: impl Iterator<Item = String>) -> Result<ArrayRef, ArrowError> {
    let mut names = Names::default();
    let rows: Vec<u32> = words.map(|word| names.intern(&word)).collect();
    texts(rows.into_iter(), &names)
}

fn map_array(counts: &Counts) -> Result<ArrayRef, ArrowError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(counts.keys.clone())),
        Arc::new(Int64Array::from(counts.counts.clone())),
    ];
    let entries = StructArray::try_new(entry_fields(), columns, None)?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(counts.offsets.clone()));
    Ok(Arc::new(MapArray::try_new(entries_field(), offsets, entries, None, false)?))
}

/// Reads columns by name; a file that has another type there is refused, not guessed at.
struct Reader<'a> {
    batch: &'a RecordBatch,
    path: &'a str,
}

impl Reader<'_> {
    fn column(&self, name: &str) -> Result<&ArrayRef, FileError> {
        self.batch.column_by_name(name).ok_or_else(|| FileError::column(self.path, name))
    }

    fn wrong(&self, name: &str) -> FileError {
        FileError::column(self.path, name)
    }

    fn times(&self) -> Result<Vec<i64>, FileError> {
        let column = self.column("time")?.as_primitive_opt::<TimestampMicrosecondType>();
        Ok(column.ok_or_else(|| self.wrong("time"))?.values().to_vec())
    }

    fn integers(&self, name: &str) -> Result<Vec<i64>, FileError> {
        let column = self.column(name)?.as_primitive_opt::<Int64Type>();
        Ok(column.ok_or_else(|| self.wrong(name))?.values().to_vec())
    }

    /// A sum that came with a later version than the file's is zero: nothing was counted under it.
    fn sums(&self, name: &str) -> Result<Vec<i64>, FileError> {
        let is_late = ["over", "over_dry_run", "over_degraded"].contains(&name);
        match self.batch.column_by_name(name) {
            None if is_late => Ok(vec![0; self.batch.num_rows()]),
            _ => self.integers(name),
        }
    }

    fn options(&self, name: &str) -> Result<Vec<Option<i64>>, FileError> {
        let column = self.column(name)?.as_primitive_opt::<Int64Type>();
        Ok(column.ok_or_else(|| self.wrong(name))?.iter().collect())
    }

    /// A text column, dictionary or plain, as positions in `names`.
    fn texts(&self, name: &str, names: &mut Names) -> Result<Vec<u32>, FileError> {
        let column = self.column(name)?;
        if let Some(plain) = column.as_string_opt::<i32>() {
            return Ok(plain.iter().map(|text| names.intern(text.unwrap_or_default())).collect());
        }
        let dictionary = column.as_dictionary_opt::<Int32Type>().ok_or_else(|| self.wrong(name))?;
        let values = dictionary.values().as_string_opt::<i32>().ok_or_else(|| self.wrong(name))?;
        // Some rows of a large file have few of its names.
        let mut positions: Vec<Option<u32>> = vec![None; values.len()];
        let mut position = |&key: &i32| {
            let known = positions.get_mut(key as usize)?;
            Some(*known.get_or_insert_with(|| names.intern(values.value(key as usize))))
        };
        let rows = dictionary.keys().values().iter();
        rows.map(&mut position).collect::<Option<_>>().ok_or_else(|| self.wrong(name))
    }

    fn counts(&self, name: &str) -> Result<Counts, FileError> {
        let map = self.column(name)?.as_map_opt().ok_or_else(|| self.wrong(name))?;
        let keys = map.keys().as_primitive_opt::<Int32Type>().ok_or_else(|| self.wrong(name))?;
        let values = map.values().as_primitive_opt::<Int64Type>().ok_or_else(|| self.wrong(name))?;
        Ok(Counts {
            offsets: map.offsets().to_vec(),
            keys: keys.values().to_vec(),
            counts: values.values().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::fold;
    use crate::parquet_file::{decode, encode};
    use crate::table::PASSED;
    use crate::testing::sample_records;
    use crate::view::Grain;

    #[test]
    fn records_survive_parquet() {
        let mut records = sample_records(1, 0..300);
        records.of("gw", "0f");
        records.sort();
        let batch = records_to_batch(&records).unwrap();
        let bytes = encode(&batch, &0, &SORTED_BY).unwrap();
        let (again, _): (RecordBatch, i32) = decode(bytes, "x").unwrap();
        assert_eq!(again, batch);
        let back = records_from_batch(&again, "x").unwrap();
        assert_eq!(records_to_batch(&back).unwrap(), batch);
    }

    #[test]
    fn usage_survives_parquet() {
        let table = fold(&[&Table::of_records(&sample_records(1, 0..300))], Grain::Minute).unwrap();
        let batch = table_to_batch(&table).unwrap();
        let (again, _): (RecordBatch, i32) = decode(encode(&batch, &0, &SORTED_BY).unwrap(), "x").unwrap();
        let back = table_from_batch(&again, "x").unwrap();
        assert_eq!(table_to_batch(&fold(&[&back], Grain::Minute).unwrap()).unwrap(), batch);
        assert!(back.latency_min_us.contains(&None));
    }

    #[test]
    fn usage_of_a_version_that_did_not_know_a_decision_is_read() {
        let table = fold(&[&Table::of_records(&sample_records(1, 0..300))], Grain::Minute).unwrap();
        let batch = table_to_batch(&table).unwrap();
        let known = |name: &&String| !name.starts_with("over");
        let names: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        let old = names.iter().filter(known).map(|name| (name, batch.column_by_name(name).unwrap().clone()));
        let back = table_from_batch(&RecordBatch::try_from_iter(old).unwrap(), "x").unwrap();
        assert_eq!(back.len(), table.len());
        assert!(back.sums[PASSED + Decision::Over as usize].iter().all(|sum| *sum == 0));
        assert_eq!(back.sums[PASSED], table.sums[PASSED]);
    }

    #[test]
    fn a_foreign_column_type_is_refused_by_name() {
        let table = fold(&[&Table::of_records(&sample_records(1, 0..3))], Grain::Minute).unwrap();
        let batch = table_to_batch(&table).unwrap();
        let wrong: ArrayRef = Arc::new(Int32Array::from(vec![1; batch.num_rows()]));
        let foreign =
            RecordBatch::try_from_iter([("time", batch.column(0).clone()), ("client", wrong)]).unwrap();
        let told = table_from_batch(&foreign, "p/q").unwrap_err().to_string();
        assert!(told.contains("`p/q`") && told.contains("`client`"), "{told}");
    }
}
