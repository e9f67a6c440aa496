//! Parquet files with a note about themselves.
//!
//! Settings are chosen on purpose: zstd, row groups of 64 k rows and pages of 8 k so that a reader
//! with a predicate on the sorted columns skips most of a file, page statistics for it to do so.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    KeyValue, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, SortingColumn,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{Object, Store, StoreError};

/// Version of all schemas here; columns are only ever added, so readers take any version up to the
/// one they know.
pub const SCHEMA_VERSION: u32 = 1;

/// Key of the note in a file's metadata.
const NOTE_KEY: &str = "weir";

/// Rows of a row group and of a page: a portal reads one client out of a sorted file.
const ROW_GROUP_ROWS: usize = 65_536;
const PAGE_ROWS: usize = 8_192;

/// Columns of records in which hardly a value comes twice: a dictionary of them would say each one twice.
const SCATTERED: [&str; 6] = ["time", "number", "latency_us", "upstream_us", "bytes_in", "bytes_out"];

/// Most of a file's metadata fits into this many last bytes.
const TAIL_BYTES: u64 = 64 << 10;

/// Why a file can't be used. Only this file is meant: others are read nevertheless.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(
        "`{path}` is not a Parquet file that weir can read ({reason}); move it out of the store and look at it"
    )]
    Unreadable { path: String, reason: String },
    #[error(
        "`{path}` has no column `{column}` of the expected type; it was not written by weir, move it out of the store"
    )]
    Column { path: String, column: String },
    #[error("`{path}` was written by a newer weir (schema {found}, known {SCHEMA_VERSION}); update this one")]
    Newer { path: String, found: u32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FileError {
    pub(crate) fn unreadable(path: &str, reason: impl ToString) -> FileError {
        FileError::Unreadable { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn column(path: &str, column: &str) -> FileError {
        FileError::Column { path: path.to_owned(), column: column.to_owned() }
    }

    /// Whether the object went away since it was listed.
    pub fn is_missing(&self) -> bool {
        matches!(self, FileError::Store(e) if e.is_missing())
    }

    /// Whether the store failed, rather than one file in it.
    pub fn is_of_store(&self) -> bool {
        matches!(self, FileError::Store(_))
    }
}

/// Encodes rows and a note about them. The same rows and note give the same bytes.
///
/// `sorted` names the top-level columns that the rows are sorted by.
pub fn encode<N: Serialize>(batch: &RecordBatch, note: &N, sorted: &[&str]) -> Result<Bytes, ParquetError> {
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, batch.schema(), sorted)?;
    writer.write(batch)?;
    writer.finish(note)?;
    Ok(Bytes::from(file))
}

/// Writes a file batch by batch.
pub struct Writer<W: Write + Send>(ArrowWriter<W>);

impl<W: Write + Send> Writer<W> {
    /// `sorted` names the top-level columns that all rows are sorted by.
    pub fn new(to: W, schema: SchemaRef, sorted: &[&str]) -> Result<Writer<W>, ParquetError> {
        let properties = SCATTERED.iter().fold(WriterProperties::builder(), |properties, name| {
            let column = ColumnPath::from(*name);
            properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
        });
        let properties = properties
            .set_created_by(concat!("weir ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_sorting_columns(Some(sorting(&schema, sorted)).filter(|columns| !columns.is_empty()))
            .build();
        Ok(Writer(ArrowWriter::try_new(to, schema, Some(properties))?))
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.0.write(batch)
    }

    /// Ends the file with a note about its rows.
    pub fn finish<N: Serialize>(mut self, note: &N) -> Result<(), ParquetError> {
        let note = serde_json::to_string(note).map_err(|e| ParquetError::General(e.to_string()))?;
        self.0.append_key_value_metadata(KeyValue::new(NOTE_KEY.to_owned(), note));
        self.0.append_key_value_metadata(KeyValue::new("weir.schema".to_owned(), SCHEMA_VERSION.to_string()));
        self.0.close().map(drop)
    }
}

/// Columns before the maps are one Parquet leaf each, so their positions are the same in both.
fn sorting(schema: &Schema, names: &[&str]) -> Vec<SortingColumn> {
    let position = |name: &&str| schema.index_of(name).ok();
    let ascending =
        |at: usize| SortingColumn { column_idx: at as i32, descending: false, nulls_first: false };
    names.iter().filter_map(position).map(ascending).collect()
}

/// Reads a whole file: its rows in one batch, and its note.
pub async fn read<N: DeserializeOwned>(store: &Store, path: &str) -> Result<(RecordBatch, N), FileError> {
    let bytes = store.get(path).await?;
    decode(bytes, path)
}

/// Decodes a whole file; `path` is for messages.
pub fn decode<N: DeserializeOwned>(bytes: Bytes, path: &str) -> Result<(RecordBatch, N), FileError> {
    let (reading, note) = open(bytes, path, ROW_GROUP_ROWS)?;
    let schema: SchemaRef = Arc::new(Schema::new(reading.batches.schema().fields().clone()));
    let batches: Vec<RecordBatch> = reading.collect::<Result<_, _>>()?;
    let rows = concat_batches(&schema, &batches).map_err(|e| FileError::unreadable(path, e))?;
    Ok((rows, note))
}

/// A file that is decoded batch by batch.
pub struct Reading {
    batches: ParquetRecordBatchReader,
    left: usize,
    path: String,
}

impl Reading {
    /// Rows that were not read yet.
    pub fn left(&self) -> usize {
        self.left
    }
}

impl Iterator for Reading {
    type Item = Result<RecordBatch, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next();
        self.left = match &batch {
            Some(Ok(batch)) => self.left.saturating_sub(batch.num_rows()),
            _ => 0,
        };
        batch.map(|batch| batch.map_err(|e| FileError::unreadable(&self.path, e)))
    }
}

/// Begins to decode a file, so many rows at a time; `path` is for messages.
pub fn open<N: DeserializeOwned>(bytes: Bytes, path: &str, rows: usize) -> Result<(Reading, N), FileError> {
    begin(bytes, path, rows, |_| ProjectionMask::all())
}

/// The same for some of the columns.
pub fn open_columns<N: DeserializeOwned>(
    bytes: Bytes,
    path: &str,
    rows: usize,
    columns: &[&str],
) -> Result<(Reading, N), FileError> {
    begin(bytes, path, rows, |schema| ProjectionMask::columns(schema, columns.iter().copied()))
}

fn begin<N: DeserializeOwned>(
    bytes: Bytes,
    path: &str,
    rows: usize,
    columns: impl FnOnce(&SchemaDescriptor) -> ProjectionMask,
) -> Result<(Reading, N), FileError> {
    let unreadable = |e: ParquetError| FileError::unreadable(path, e);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(unreadable)?;
    let note = note_of(builder.metadata(), path)?;
    let left = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let columns = columns(builder.parquet_schema());
    let batches = builder.with_projection(columns).with_batch_size(rows).build().map_err(unreadable)?;
    Ok((Reading { batches, left, path: path.to_owned() }, note))
}

/// Reads only a file's note: a few kilobytes, however large the file.
pub async fn read_note<N: DeserializeOwned>(store: &Store, object: &Object) -> Result<N, FileError> {
    let mut wanted = TAIL_BYTES;
    loop {
        let tail = store.get_tail(object, wanted).await?;
        let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
        match reader.try_parse_sized(&tail, object.size) {
            Ok(()) => {
                let metadata = reader.finish().map_err(|e| FileError::unreadable(&object.path, e))?;
                return note_of(&metadata, &object.path);
            }
            Err(ParquetError::NeedMoreData(more)) if more as u64 > wanted && wanted < object.size => {
                wanted = more as u64;
            }
            Err(e) => return Err(FileError::unreadable(&object.path, e)),
        }
    }
}

fn note_of<N: DeserializeOwned>(metadata: &ParquetMetaData, path: &str) -> Result<N, FileError> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let find = |key: &str| pairs?.iter().find(|kv| kv.key == key)?.value.as_deref();
    let version = find("weir.schema").and_then(|v| v.parse().ok()).unwrap_or(0);
    if version > SCHEMA_VERSION {
        return Err(FileError::Newer { path: path.to_owned(), found: version });
    }
    let note = find(NOTE_KEY).ok_or_else(|| FileError::unreadable(path, "it has no note by weir"))?;
    serde_json::from_str(note).map_err(|e| FileError::unreadable(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::runtime;
    use arrow::array::{ArrayRef, Int64Array};

    fn batch(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    #[test]
    fn rows_and_note_come_back_and_bytes_are_the_same_each_time() {
        let bytes = encode(&batch(100_000), &"hello", &["n"]).unwrap();
        assert_eq!(bytes, encode(&batch(100_000), &"hello", &["n"]).unwrap());
        let (rows, note): (RecordBatch, String) = decode(bytes, "x").unwrap();
        assert_eq!((rows, note.as_str()), (batch(100_000), "hello"));
    }

    #[test]
    fn a_long_note_is_read_without_the_rows() {
        let store = Store::new(Arc::new(object_store::memory::InMemory::new()));
        let long = "n".repeat(200_000);
        runtime().block_on(async {
            store.create("f", encode(&batch(300_000), &long, &[]).unwrap()).await.unwrap();
            let object = store.list("").await.unwrap().remove(0);
            assert_eq!(read_note::<String>(&store, &object).await.unwrap(), long);
        });
    }

    /// A list of so many elements that their room alone would be more than there is.
    #[test]
    fn a_footer_that_claims_endless_lists_is_an_error() {
        // Version 2, then a list of structs with a length that is spelt out (Thrift's compact protocol).
        let begin = [0x15, 0x04, 0x19, 0xfc];
        for length in [&[0xff, 0xff, 0xff, 0xff, 0x07][..], &[0xff; 10][..], &[0x80, 0x80, 0x80, 0x04][..]] {
            let footer = [&begin[..], length, &[0; 8]].concat();
            let size = (footer.len() as u32).to_le_bytes();
            let file = [b"PAR1", &footer[..], &size, b"PAR1"].concat();
            let bad = decode::<i32>(Bytes::from(file), "f").unwrap_err();
            assert!(bad.to_string().contains("`f`"), "{bad}");
        }
    }

    #[test]
    fn damaged_files_are_errors() {
        let good = encode(&batch(1000), &1, &[]).unwrap();
        for cut in [0, 3, 8, good.len() / 2, good.len() - 1] {
            let bad = decode::<i32>(good.slice(..cut), "f").unwrap_err();
            assert!(bad.to_string().contains("`f`"), "{bad}");
        }
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..300 {
            let mut bytes = good.to_vec();
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u8(0..8);
            // Whatever comes out, it comes out: no panic, no endless allocation.
            let _ = decode::<i32>(Bytes::from(bytes), "f");
        }
    }
}
