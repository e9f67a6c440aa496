//! One Parquet file of the pages' data, written row group by row group.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, Float64Builder, Int32Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::packed::{Sums, pairs};
use super::{COUNTS, CubeError, Key, ROW_GROUP_ROWS};
use crate::names::Names;

/// A file under way.
pub struct CubeFile {
    writer: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
    rows: usize,
    minute: Int32Builder,
    /// Client, endpoint and tier.
    texts: [StringBuilder; 3],
    counts: [Float64Builder; COUNTS.len()],
    /// Latency and status.
    pairs: [BinaryBuilder; 2],
}

impl CubeFile {
    pub fn new() -> Result<CubeFile, CubeError> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("weir ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            // A reader looks for a client or an endpoint, and reads the end of the file to find it: what it
            // does not look for there would only make that longer.
            .set_offset_index_disabled(true)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_column_statistics_enabled("client".into(), EnabledStatistics::Chunk)
            .set_column_statistics_enabled("endpoint".into(), EnabledStatistics::Chunk)
            .build();
        let schema = schema();
        Ok(CubeFile {
            writer: ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?,
            schema,
            rows: 0,
            minute: Int32Builder::new(),
            texts: Default::default(),
            counts: Default::default(),
            pairs: Default::default(),
        })
    }

    pub fn push(&mut self, names: &Names, key: Key, sums: &Sums) -> Result<(), CubeError> {
        self.minute.append_value(key.minute);
        for (column, name) in self.texts.iter_mut().zip([key.client, key.endpoint, key.tier]) {
            column.append_value(names.get(name));
        }
        for (column, sum) in self.counts.iter_mut().zip(sums.counts) {
            column.append_value(sum as f64);
        }
        for (column, counts) in self.pairs.iter_mut().zip([&sums.latency, &sums.status]) {
            column.append_value(pairs(counts.iter().copied()));
        }
        self.rows += 1;
        if self.rows == ROW_GROUP_ROWS { self.end_group() } else { Ok(()) }
    }

    pub fn close(mut self) -> Result<Bytes, CubeError> {
        self.end_group()?;
        Ok(Bytes::from(self.writer.into_inner()?))
    }

    fn end_group(&mut self) -> Result<(), CubeError> {
        if self.rows == 0 {
            return Ok(());
        }
        self.rows = 0;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.minute.finish())];
        columns.extend(self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.extend(self.counts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.extend(self.pairs.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns)?)?;
        Ok(self.writer.flush()?)
    }
}

fn schema() -> SchemaRef {
    let column = |name: &str, kind: DataType| Field::new(name, kind, false);
    let mut columns = vec![column("minute", DataType::Int32)];
    columns.extend(["client", "endpoint", "tier"].map(|name| column(name, DataType::Utf8)));
    columns.extend(COUNTS.map(|(name, _)| column(name, DataType::Float64)));
    columns.extend(["latency", "status"].map(|name| column(name, DataType::Binary)));
    Arc::new(Schema::new(columns))
}
