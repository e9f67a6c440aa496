//! Rows as CSV or JSON.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::{Map, Value};
use weir_analytics::calendar::MINUTE_US;
use weir_analytics::view::Completeness;

use super::Format;
use crate::grain::spelled;

/// A row: names of columns and their values, in order.
pub type Values = Vec<(&'static str, Value)>;

/// Writes rows that all have the same columns.
pub struct Out<W> {
    format: Format,
    to: W,
    rows: u64,
}

impl<W: Write> Out<W> {
    pub fn new(format: Format, to: W) -> Out<W> {
        Out { format, to, rows: 0 }
    }

    /// Begins; `columns` are those of the rows to come.
    pub fn begin(&mut self, columns: &[&str]) -> io::Result<()> {
        match self.format {
            Format::Json => write!(self.to, "{{\"rows\":["),
            _ => writeln!(self.to, "{}", columns.join(",")),
        }
    }

    pub fn row(&mut self, values: Values) -> io::Result<()> {
        let comma = if self.rows == 0 { "" } else { "," };
        self.rows += 1;
        match self.format {
            Format::Json => {
                let object: Map<String, Value> = values.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
                write!(self.to, "{comma}\n{}", Value::Object(object))
            }
            _ => {
                let fields: Vec<String> = values.iter().map(|(_, value)| field(value)).collect();
                writeln!(self.to, "{}", fields.join(","))
            }
        }
    }

    /// Ends with how complete the rows are: within the JSON, and beside the CSV.
    pub fn end(&mut self, told: &Completeness) -> io::Result<()> {
        let newest = told.complete_to_us.map(spelled);
        match self.format {
            Format::Json => {
                let told = completeness(told);
                writeln!(self.to, "\n],\"completeness\":{told}}}")?;
            }
            _ => eprintln!("{}", sentence(told, newest.as_deref())),
        }
        self.to.flush()
    }
}

/// How complete rows are, for programs.
pub fn completeness(told: &Completeness) -> Value {
    let newest = told.complete_to_us.map(spelled);
    let known = &told.known;
    let silent: Vec<Value> = known
        .silent
        .iter()
        .map(|s| serde_json::json!({ "gateway": s.gateway, "from": spelled(s.from_us), "to": spelled(s.to_us) }))
        .collect();
    serde_json::json!({
        "records": told.records,
        "missing": told.missing,
        "newest": newest,
        "known_since": known.since_us.map(spelled),
        "silent": silent,
        "lost": known.lost,
    })
}

/// `99.99 % of 12345 records, newest 2026-11-24T14:00:00Z; 3 minutes without a sign of life of gw-1`.
fn sentence(told: &Completeness, newest: Option<&str>) -> String {
    let all = told.records + told.missing;
    let share = if all == 0 { 100.0 } else { told.records as f64 * 100.0 / all as f64 };
    // A share that rounds up to everything would hide what is missing.
    let share = if told.missing > 0 { share.min(99.99) } else { share };
    let mut told_of: Vec<&str> = told.known.silent.iter().map(|s| s.gateway.as_str()).collect();
    told_of.dedup();
    let silent = match told.known.silent_us() {
        0 => String::new(),
        us => {
            let minutes = (us + MINUTE_US - 1) / MINUTE_US;
            let unit = if minutes == 1 { "minute" } else { "minutes" };
            format!("; unknown: {minutes} {unit} without a sign of life of {}", told_of.join(", "))
        }
    };
    format!("{share:.2} % of {all} records, newest {}{silent}", newest.unwrap_or("none"))
}

/// A CSV field. Names come from requests; what a spreadsheet would run as a formula is made text.
fn field(value: &Value) -> String {
    let Value::String(text) = value else {
        return if value.is_null() { String::new() } else { value.to_string() };
    };
    let guarded = guarded(text);
    if guarded.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded.into_owned()
    }
}

/// A cell that a spreadsheet would run as a formula, as text.
pub fn guarded(text: &str) -> Cow<'_, str> {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{feff}']) {
        true => format!("'{text}").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use weir_analytics::completeness::Silence;

    use super::*;

    #[test]
    fn fields_are_quoted_and_formulas_are_text() {
        let told = |text: &str| field(&Value::from(text));
        assert_eq!(told("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        for text in ["=1+1", "+1", "-1", "@x", "\tx"] {
            assert_eq!(told(text), format!("'{text}"));
        }
        assert_eq!(told("\r=1"), "\"'\r=1\"");
        assert_eq!(told("\n=1"), "\"'\n=1\"");
        assert_eq!(field(&Value::Null), "");
        assert_eq!(field(&Value::from(-3)), "-3");
    }

    #[test]
    fn what_is_missing_never_rounds_away() {
        let told = |records, missing| {
            sentence(
                &Completeness { records, missing, complete_to_us: None, ..Completeness::default() },
                None,
            )
        };
        assert!(told(10, 0).starts_with("100.00 % of 10 records"));
        assert!(told(1_000_000, 1).starts_with("99.99 % of 1000001 records"));
        assert!(told(0, 0).starts_with("100.00 % of 0"));
    }

    #[test]
    fn times_without_a_sign_of_life_are_told_in_text_and_json() {
        let mut told = Completeness { records: 5, ..Completeness::default() };
        assert!(!sentence(&told, None).contains("unknown"));
        let gateway = "gw-1".to_owned();
        told.known.silent = vec![Silence { gateway, from_us: MINUTE_US, to_us: 4 * MINUTE_US }];
        told.known.since_us = Some(0);
        told.known.lost.insert("no_room".to_owned(), 3);
        let text = sentence(&told, None);
        assert!(text.ends_with("; unknown: 3 minutes without a sign of life of gw-1"), "{text}");
        let json = completeness(&told);
        let silent = serde_json::json!([
            { "gateway": "gw-1", "from": "1970-01-01T00:01:00Z", "to": "1970-01-01T00:04:00Z" }
        ]);
        assert_eq!((&json["silent"], &json["lost"]["no_room"]), (&silent, &3.into()), "{json}");
        assert_eq!(json["known_since"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn json_is_one_object_also_without_rows() {
        for rows in 0..3 {
            let mut text = Vec::new();
            let mut out = Out::new(Format::Json, &mut text);
            out.begin(&["n"]).unwrap();
            (0..rows).for_each(|n| out.row(vec![("n", Value::from(n))]).unwrap());
            out.end(&Completeness { records: rows, ..Completeness::default() }).unwrap();
            let read: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(read["rows"].as_array().unwrap().len() as i64, rows);
            assert_eq!(read["completeness"]["records"], rows);
        }
    }
}
