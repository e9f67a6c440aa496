//! One line of a delimited file.

use std::borrow::Cow;
use std::io::Read;

use csv::{ByteRecord, Reader, ReaderBuilder};
use jiff::Timestamp;

use super::columns::{Columns, LatencyUnit};

/// Records lie between these years: a file in other units of time is rejected, not misread.
const EARLIEST_US: i64 = 0;
const LATEST_US: i64 = 4_102_444_800_000_000;

/// Longest text of a client, endpoint or method.
const MAX_TEXT: usize = 8 << 10;

/// A line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    pub time_us: u64,
    pub client: Cow<'a, str>,
    pub path: Cow<'a, str>,
    pub method: Cow<'a, str>,
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub latency_us: Option<u64>,
}

/// Why a line can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("{found} columns where the header has {wanted}")]
    Count { found: usize, wanted: usize },
    #[error("the {0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("the {0} is empty")]
    Empty(&'static str),
    #[error("the {0} is longer than 8 KiB")]
    TooLong(&'static str),
    #[error(
        "the time is neither seconds, milliseconds or microseconds since 1970 nor ISO 8601, or is beyond 1970 to 2099"
    )]
    Time,
    #[error("the {0} is not a number that can be")]
    Number(&'static str),
}

/// Reads a delimited file. In one with tabs quotes are text; elsewhere they may enclose delimiters.
pub fn reader<R: Read>(input: R, delimiter: u8) -> Reader<R> {
    ReaderBuilder::new().delimiter(delimiter).quoting(delimiter != b'\t').flexible(true).from_reader(input)
}

/// Reads one line.
pub fn parse<'a>(fields: &'a ByteRecord, columns: &Columns) -> Result<Parsed<'a>, LineError> {
    if fields.len() != columns.count {
        return Err(LineError::Count { found: fields.len(), wanted: columns.count });
    }
    let method = columns.method.map(|at| text(&fields[at], "method")).transpose()?;
    let count = |at: Option<usize>, what| at.map_or(Ok(0), |at| bytes(&fields[at], what));
    Ok(Parsed {
        time_us: time(&fields[columns.time])?,
        client: text(&fields[columns.client], "client")?,
        path: text(&fields[columns.endpoint], "endpoint")?,
        method: method.unwrap_or(Cow::Borrowed("")),
        status: status(&fields[columns.status])?,
        bytes_in: count(columns.bytes_in, "number of bytes in")?,
        bytes_out: count(columns.bytes_out, "number of bytes")?,
        latency_us: columns.latency.map_or(Ok(None), |(at, unit)| latency(&fields[at], unit))?,
    })
}

fn text<'a>(field: &'a [u8], what: &'static str) -> Result<Cow<'a, str>, LineError> {
    let text = std::str::from_utf8(field).map_err(|_| LineError::NotUtf8(what))?.trim();
    match text.len() {
        0 => Err(LineError::Empty(what)),
        n if n > MAX_TEXT => Err(LineError::TooLong(what)),
        _ => Ok(Cow::Borrowed(text)),
    }
}

fn number<'a>(field: &'a [u8], what: &'static str) -> Result<&'a str, LineError> {
    std::str::from_utf8(field).map(str::trim).map_err(|_| LineError::Number(what))
}

fn status(field: &[u8]) -> Result<u16, LineError> {
    number(field, "status")?.parse().ok().filter(|s| *s <= 999).ok_or(LineError::Number("status"))
}

/// `-` and nothing are zero, as in access logs.
fn bytes(field: &[u8], what: &'static str) -> Result<u64, LineError> {
    match number(field, what)? {
        "" | "-" => Ok(0),
        n => n.parse().ok().filter(|n| i64::try_from(*n).is_ok()).ok_or(LineError::Number(what)),
    }
}

/// `-` and nothing are no latency.
fn latency(field: &[u8], unit: LatencyUnit) -> Result<Option<u64>, LineError> {
    let what = LineError::Number("latency");
    let text = number(field, "latency")?;
    if matches!(text, "" | "-") {
        return Ok(None);
    }
    let value: f64 = text.parse().map_err(|_| what.clone())?;
    let us = match unit {
        LatencyUnit::Seconds => value * 1e6,
        LatencyUnit::Milliseconds => value * 1e3,
        LatencyUnit::Microseconds => value,
    };
    // A day is longer than any request; NaN and negative numbers are none.
    if (0.0..=86_400e6).contains(&us) { Ok(Some(us.round() as u64)) } else { Err(what) }
}

/// Seconds (with a fraction), milliseconds or microseconds since 1970, told apart by their size, or
/// ISO 8601 with an offset.
fn time(field: &[u8]) -> Result<u64, LineError> {
    let text = number(field, "time").map_err(|_| LineError::Time)?;
    let us = match text.parse::<f64>() {
        Ok(_) => epoch_us(text)?,
        Err(_) => text.parse::<Timestamp>().map_err(|_| LineError::Time)?.as_microsecond(),
    };
    let known = (EARLIEST_US..LATEST_US).contains(&us);
    if known { Ok(us as u64) } else { Err(LineError::Time) }
}

fn epoch_us(text: &str) -> Result<i64, LineError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().map_err(|_| LineError::Time)?;
    let micros = format!("{:0<6}", fraction).get(..6).and_then(|d| d.parse::<i64>().ok());
    let scaled = match whole {
        ..100_000_000_000 => whole.checked_mul(1_000_000).zip(micros).map(|(w, f)| w + f),
        100_000_000_000..100_000_000_000_000 => whole.checked_mul(1_000),
        _ => Some(whole),
    };
    scaled.ok_or(LineError::Time)
}

#[cfg(test)]
mod tests {
    use super::super::columns::ColumnNames;
    use super::*;

    fn columns() -> Columns {
        let header =
            ByteRecord::from(vec!["host", "time", "method", "url", "status", "bytes", "request_time"]);
        Columns::find(&header, &ColumnNames::default()).unwrap()
    }

    fn parse_line(fields: [&[u8]; 7]) -> Result<(u64, u16, u64, Option<u64>), LineError> {
        let record = ByteRecord::from(fields.to_vec());
        parse(&record, &columns()).map(|p| (p.time_us, p.status, p.bytes_out, p.latency_us))
    }

    #[test]
    fn a_good_line_is_read() {
        let read = parse_line([b"h", b"807256800.25", b"GET", b"/x", b"200", b"1713", b"0.012"]);
        assert_eq!(read, Ok((807_256_800_250_000, 200, 1713, Some(12_000))));
        let read = parse_line([b"h", b"1995-08-01T04:00:00Z", b"GET", b"/x", b"304", b"-", b"-"]);
        assert_eq!(read, Ok((807_249_600_000_000, 304, 0, None)));
        for (text, us) in
            [("1700000000000", 1_700_000_000_000_000u64), ("1700000000000000", 1_700_000_000_000_000)]
        {
            assert_eq!(time(text.as_bytes()), Ok(us));
        }
    }

    #[test]
    fn bad_lines_say_why() {
        let good: [&[u8]; 7] = [b"h", b"1", b"GET", b"/", b"200", b"1", b"1"];
        let mut cases: Vec<(usize, &[u8], LineError)> = vec![
            (0, b"\xff", LineError::NotUtf8("client")),
            (0, b" ", LineError::Empty("client")),
            (1, b"yesterday", LineError::Time),
            (1, b"-5", LineError::Time),
            (1, b"1e999", LineError::Time),
            (1, b"99999999999", LineError::Time),
            (4, b"2xx", LineError::Number("status")),
            (4, b"70000", LineError::Number("status")),
            (5, b"-1", LineError::Number("number of bytes")),
            (5, b"18446744073709551615", LineError::Number("number of bytes")),
            (6, b"NaN", LineError::Number("latency")),
            (6, b"-0.1", LineError::Number("latency")),
        ];
        let long = vec![b'x'; MAX_TEXT + 1];
        cases.push((3, &long, LineError::TooLong("endpoint")));
        for (at, field, want) in cases {
            let mut fields = good;
            fields[at] = field;
            assert_eq!(parse_line(fields), Err(want.clone()), "{want}");
        }
        let short = ByteRecord::from(vec!["a", "b"]);
        assert_eq!(parse(&short, &columns()), Err(LineError::Count { found: 2, wanted: 7 }));
    }

    #[test]
    fn quotes_are_text_between_tabs_and_enclose_elsewhere() {
        let rows = |text: &'static str, delimiter| -> Vec<Vec<String>> {
            let mut reader = reader(text.as_bytes(), delimiter);
            let texts = |r: ByteRecord| r.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect();
            reader.byte_records().map(|r| texts(r.unwrap())).collect()
        };
        assert_eq!(rows("a\tb\n\"x\t\"y\n", b'\t'), [["\"x", "\"y"]]);
        assert_eq!(rows("a,b\n\"x,1\",y\n", b','), [["x,1", "y"]]);
    }
}
