//! A client's usage by the day as CSV and JSON, for programs and spreadsheets.

use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use crate::calendar::civil;
use crate::cube::COUNTS;
use crate::view::Latencies;

/// One row: a day, an endpoint and what was counted.
pub struct Line<'a> {
    pub time_us: i64,
    pub tier: &'a str,
    pub endpoint: &'a str,
    pub counts: [i64; COUNTS.len()],
    pub latencies: Latencies,
}

const QUANTILES: [(&str, f64); 3] = [("p50_us", 0.5), ("p95_us", 0.95), ("p99_us", 0.99)];

impl Line<'_> {
    fn values(&self) -> Vec<(&'static str, Value)> {
        let mut values = vec![
            ("day", json!(civil(self.time_us).date().to_string())),
            ("endpoint", json!(self.endpoint)),
            ("tier", json!(self.tier)),
        ];
        values.extend(COUNTS.iter().zip(self.counts).map(|((name, _), n)| (*name, json!(n))));
        let quantile = |q| self.latencies.quantile_us(q).map(|us| us.round() as i64);
        values.extend(QUANTILES.map(|(name, q)| (name, json!(quantile(q)))));
        values
    }
}

/// An object by the names of the columns, in their order.
impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = self.values();
        let mut object = serializer.serialize_map(Some(values.len()))?;
        for (name, value) in &values {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

/// What a JSON file says.
#[derive(serde::Serialize)]
struct Sheet<'a> {
    zone: &'static str,
    rows: &'a [Line<'a>],
}

/// An array of objects.
pub fn json(lines: &[Line]) -> Result<Bytes, serde_json::Error> {
    serde_json::to_vec(&Sheet { zone: "UTC", rows: lines }).map(Bytes::from)
}

/// RFC 4180, with the names of columns first.
pub fn csv(lines: &[Line]) -> Result<Bytes, csv::Error> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let empty = Line {
        time_us: 0,
        tier: "",
        endpoint: "",
        counts: [0; COUNTS.len()],
        latencies: Latencies::default(),
    };
    writer.write_record(empty.values().iter().map(|(name, _)| *name))?;
    for line in lines {
        writer.write_record(line.values().iter().map(|(_, value)| cell(value)))?;
    }
    Ok(Bytes::from(writer.into_inner().map_err(|e| e.into_error())?))
}

/// Names come from requests: what a spreadsheet would run as a formula gets a `'` before it.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\u{feff}']) => {
            format!("'{text}")
        }
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 10] =
        ["=1+1", "+1", "-1", "@sum", "\ttab", "\r\nline", "\u{feff}bom", "a\"b", "a,b;c", "plain"];

    fn lines() -> Vec<Line<'static>> {
        let line = |endpoint| Line {
            time_us: 86_400_000_000,
            tier: "t",
            endpoint,
            counts: [3; COUNTS.len()],
            latencies: Latencies { bins: [(10, 3)].into() },
        };
        NAMES.map(line).into()
    }

    #[test]
    fn csv_comes_back_unchanged_but_for_the_mark_before_a_formula() {
        let text = csv(&lines()).unwrap();
        let mut reader = csv::Reader::from_reader(&text[..]);
        assert_eq!(&reader.headers().unwrap()[1], "endpoint");
        for (row, name) in reader.records().zip(NAMES) {
            let row = row.unwrap();
            let marked = format!("'{name}");
            assert!(row[1] == *name || row[1] == marked, "{name:?} came back as {:?}", &row[1]);
            let is_formula = name.starts_with(['=', '+', '-', '@', '\t', '\r', '\u{feff}']);
            assert_eq!(row[1].starts_with('\''), is_formula, "{name:?}");
            assert_eq!((&row[0], &row[3]), ("1970-01-02", "3"));
        }
    }

    #[test]
    fn json_holds_the_same_rows() {
        let read: Value = serde_json::from_slice(&json(&lines()).unwrap()).unwrap();
        assert_eq!(read["rows"].as_array().unwrap().len(), NAMES.len());
        assert_eq!((&read["rows"][0]["endpoint"], &read["rows"][0]["requests"]), (&json!("=1+1"), &json!(3)));
    }
}
