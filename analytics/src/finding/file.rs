//! Findings as a Parquet file (docs/findings.md has its columns).

use std::sync::{Arc, LazyLock};

use arrow::array::TimestampMicrosecondArray;
use arrow::array::{ArrayRef, Float64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::errors::ParquetError;

use super::{Figure, Finding};
use crate::columns::time_type;
use crate::parquet_file::encode;

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn figure_fields() -> Fields {
    Fields::from(vec![
        text("name", false),
        Field::new("value", DataType::Float64, false),
        text("unit", false),
    ])
}

fn figure_field() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(figure_fields()), false))
}

/// The columns, in the order of the fields of [`Finding`].
pub static FINDINGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("key", false),
        text("kind", false),
        text("about", false),
        text("client", true),
        text("endpoint", true),
        text("severity", false),
        Field::new("since", time_type(), false),
        Field::new("until", time_type(), true),
        text("sentence", false),
        Field::new("figures", DataType::List(figure_field()), false),
    ]))
});

/// One row a finding, in their order, and how many days were looked at as the file's note.
pub fn parquet(findings: &[Finding], days: u32) -> Result<Bytes, ParquetError> {
    let note = serde_json::json!({ "findings": findings.len(), "days": days });
    encode(&batch(findings)?, &note, &[])
}

fn batch(findings: &[Finding]) -> Result<RecordBatch, ArrowError> {
    let texts = |of: &dyn Fn(&Finding) -> Option<String>| -> ArrayRef {
        Arc::new(findings.iter().map(of).collect::<StringArray>())
    };
    let times = |of: &dyn Fn(&Finding) -> Option<i64>| -> ArrayRef {
        let times: TimestampMicrosecondArray = findings.iter().map(of).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let columns = vec![
        texts(&|f| Some(f.key.clone())),
        texts(&|f| Some(f.kind.word().to_owned())),
        texts(&|f| Some(f.about.clone())),
        texts(&|f| f.client.clone()),
        texts(&|f| f.endpoint.clone()),
        texts(&|f| Some(f.severity.word().to_owned())),
        times(&|f| Some(f.since_us)),
        times(&|f| f.until_us),
        texts(&|f| Some(f.sentence.clone())),
        figures(findings)?,
    ];
    RecordBatch::try_new(FINDINGS.clone(), columns)
}

fn figures(findings: &[Finding]) -> Result<ArrayRef, ArrowError> {
    let all = || findings.iter().flat_map(|finding| &finding.figures);
    let texts =
        |of: fn(&Figure) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(all().map(of))) };
    let columns = vec![
        texts(|figure| &figure.name),
        Arc::new(Float64Array::from_iter_values(all().map(|figure| figure.value))),
        texts(|figure| figure.unit.word()),
    ];
    let offsets = OffsetBuffer::from_lengths(findings.iter().map(|finding| finding.figures.len()));
    let entries = StructArray::try_new(figure_fields(), columns, None)?;
    Ok(Arc::new(ListArray::try_new(figure_field(), offsets, Arc::new(entries), None)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, TimestampMicrosecondType};

    use super::*;
    use crate::finding::{Kind, Measure, Severity};
    use crate::parquet_file::decode;

    fn finding(client: Option<&str>, figures: usize) -> Finding {
        Finding {
            key: "k-1".to_owned(),
            kind: Kind::SustainedRefusals,
            about: "refusals".to_owned(),
            client: client.map(str::to_owned),
            endpoint: client.map(|_| "GET /\n".to_owned()),
            severity: Severity::Warning,
            since_us: 1_000,
            until_us: client.map(|_| 2_000),
            sentence: "ärger".to_owned(),
            figures: (0..figures).map(|n| Figure::new("n", n as f64, Measure::Percent)).collect(),
        }
    }

    #[test]
    fn a_finding_comes_back_with_all_that_it_says() {
        let findings = [finding(Some("acme"), 3), finding(None, 0), finding(Some("b"), 1)];
        let (rows, note) = decode::<serde_json::Value>(parquet(&findings, 7).unwrap(), "f").unwrap();
        assert_eq!((rows.num_rows(), &note["days"], &note["findings"]), (3, &7.into(), &3.into()));
        assert_eq!(rows.schema().fields(), FINDINGS.fields());
        let text =
            |name: &str| rows.column_by_name(name).unwrap().as_string::<i32>().iter().collect::<Vec<_>>();
        assert_eq!(text("client"), [Some("acme"), None, Some("b")]);
        assert_eq!((text("kind")[0], text("severity")[0]), (Some("sustained_refusals"), Some("warning")));
        assert_eq!((text("endpoint")[0], text("sentence")[1]), (Some("GET /\n"), Some("ärger")));
        let until = rows.column_by_name("until").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert_eq!(until.iter().collect::<Vec<_>>(), [Some(2_000), None, Some(2_000)]);
        let figures = rows.column_by_name("figures").unwrap().as_list::<i32>();
        let lengths: Vec<usize> = figures.iter().map(|list| list.unwrap().len()).collect();
        assert_eq!(lengths, [3, 0, 1]);
        let first = figures.value(0);
        let first = first.as_struct();
        assert_eq!(first.column(1).as_primitive::<Float64Type>().values(), &[0.0, 1.0, 2.0]);
        assert_eq!(first.column(2).as_string::<i32>().value(0), "percent");
    }

    #[test]
    fn nothing_found_is_a_file_without_rows() {
        let (rows, _) = decode::<serde_json::Value>(parquet(&[], 7).unwrap(), "f").unwrap();
        assert_eq!((rows.num_rows(), rows.schema().fields()), (0, FINDINGS.fields()));
    }
}
