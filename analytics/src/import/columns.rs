//! Which column is which.

use csv::ByteRecord;

/// The columns an import looks for, with the names they are found under when none is given.
const SYNONYMS: [(Field, &[&str]); 8] = [
    (Field::Time, &["time", "timestamp", "ts", "date", "datetime", "time_iso8601", "msec", "@timestamp"]),
    (Field::Client, &["client", "client_id", "host", "remote_addr", "remote_host", "ip", "user", "consumer"]),
    (Field::Endpoint, &["endpoint", "url", "path", "uri", "request_uri", "route"]),
    (Field::Method, &["method", "request_method", "verb", "http_method"]),
    (Field::Status, &["status", "response", "code", "status_code"]),
    (Field::BytesOut, &["bytes_out", "bytes", "bytes_sent", "body_bytes_sent", "size", "response_size"]),
    (Field::BytesIn, &["bytes_in", "request_length", "bytes_received", "request_size"]),
    (
        Field::Latency,
        &["latency_us", "latency_ms", "latency", "request_time", "duration_ms", "duration", "response_time"],
    ),
];

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Time,
    Client,
    Endpoint,
    Method,
    Status,
    BytesOut,
    BytesIn,
    Latency,
}

/// Names that the user gives; `None` leaves it to the usual ones.
#[derive(Clone, Debug, Default)]
pub struct ColumnNames {
    pub time: Option<String>,
    pub client: Option<String>,
    pub endpoint: Option<String>,
    pub method: Option<String>,
    pub status: Option<String>,
    pub bytes_out: Option<String>,
    pub bytes_in: Option<String>,
    pub latency: Option<String>,
}

impl ColumnNames {
    fn given(&self, field: Field) -> Option<&str> {
        let name = match field {
            Field::Time => &self.time,
            Field::Client => &self.client,
            Field::Endpoint => &self.endpoint,
            Field::Method => &self.method,
            Field::Status => &self.status,
            Field::BytesOut => &self.bytes_out,
            Field::BytesIn => &self.bytes_in,
            Field::Latency => &self.latency,
        };
        name.as_deref()
    }
}

/// Why the columns can't be told from the header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnsError {
    #[error("there is no column `{name}`; the header has: {header}")]
    Absent { name: String, header: String },
    #[error("no column for the {what}; name it with --{what}-column; the header has: {header}")]
    Unknown { what: &'static str, header: String },
}

/// Unit of a latency column, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyUnit {
    Seconds,
    Milliseconds,
    Microseconds,
}

/// Positions of the columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    pub time: usize,
    pub client: usize,
    pub endpoint: usize,
    pub method: Option<usize>,
    pub status: usize,
    pub bytes_out: Option<usize>,
    pub bytes_in: Option<usize>,
    pub latency: Option<(usize, LatencyUnit)>,
    /// Columns of the header: a line with another number is rejected.
    pub count: usize,
}

impl Columns {
    /// Finds the columns in a header by the given names, else by the usual ones, whatever their case.
    pub fn find(header: &ByteRecord, names: &ColumnNames) -> Result<Columns, ColumnsError> {
        let titles: Vec<String> =
            header.iter().map(|t| String::from_utf8_lossy(t).trim().to_owned()).collect();
        let header = titles.join(", ");
        let optional = |field| position(&titles, names.given(field), field, &header);
        let needed =
            |field, what| optional(field)?.ok_or(ColumnsError::Unknown { what, header: header.clone() });
        let latency = optional(Field::Latency)?;
        Ok(Columns {
            time: needed(Field::Time, "time")?,
            client: needed(Field::Client, "client")?,
            endpoint: needed(Field::Endpoint, "endpoint")?,
            method: optional(Field::Method)?,
            status: needed(Field::Status, "status")?,
            bytes_out: optional(Field::BytesOut)?,
            bytes_in: optional(Field::BytesIn)?,
            latency: latency.map(|at| (at, latency_unit(&titles[at]))),
            count: titles.len(),
        })
    }
}

fn position(
    titles: &[String],
    given: Option<&str>,
    field: Field,
    header: &str,
) -> Result<Option<usize>, ColumnsError> {
    let find = |name: &str| titles.iter().position(|title| title.eq_ignore_ascii_case(name));
    if let Some(name) = given {
        let absent = || ColumnsError::Absent { name: name.to_owned(), header: header.to_owned() };
        return find(name).map(Some).ok_or_else(absent);
    }
    let usual = SYNONYMS.iter().filter(|(f, _)| *f == field).flat_map(|(_, names)| *names);
    Ok(usual.copied().find_map(find))
}

fn latency_unit(title: &str) -> LatencyUnit {
    let title = title.to_ascii_lowercase();
    if title.ends_with("_us") || title.ends_with("micros") {
        LatencyUnit::Microseconds
    } else if title.ends_with("_ms") || title.ends_with("millis") {
        LatencyUnit::Milliseconds
    } else {
        LatencyUnit::Seconds
    }
}

/// The delimiter that a header has most of; a tab before a semicolon before a comma.
pub fn detect(header: &[u8]) -> u8 {
    let count = |delimiter: u8| header.iter().filter(|&&b| b == delimiter).count();
    [b',', b';', b'\t'].into_iter().max_by_key(|&d| count(d)).unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_usual_names_and_by_given_ones() {
        let header = ByteRecord::from(vec!["Host", "logname", "time", "method", "url", "response", "bytes"]);
        let found = Columns::find(&header, &ColumnNames::default()).unwrap();
        assert_eq!(
            (found.client, found.time, found.endpoint, found.status, found.bytes_out),
            (0, 2, 4, 5, Some(6))
        );
        assert_eq!((found.method, found.latency, found.count), (Some(3), None, 7));
        let names = ColumnNames { client: Some("logname".to_owned()), ..ColumnNames::default() };
        assert_eq!(Columns::find(&header, &names).unwrap().client, 1);
    }

    #[test]
    fn what_is_not_there_is_told_with_the_header() {
        let header = ByteRecord::from(vec!["when", "url"]);
        let told = Columns::find(&header, &ColumnNames::default()).unwrap_err().to_string();
        assert!(told.contains("--time-column") && told.contains("when, url"), "{told}");
        let names = ColumnNames { time: Some("zeit".to_owned()), ..ColumnNames::default() };
        let told = Columns::find(&header, &names).unwrap_err().to_string();
        assert!(told.contains("`zeit`"), "{told}");
    }

    #[test]
    fn the_delimiter_is_what_the_header_has_most_of() {
        assert_eq!(detect(b"a\tb\tc,d"), b'\t');
        assert_eq!(detect(b"a;b;c"), b';');
        assert_eq!(detect(b"a,b"), b',');
        assert_eq!(
            [latency_unit("latency_us"), latency_unit("duration_ms"), latency_unit("request_time")],
            [LatencyUnit::Microseconds, LatencyUnit::Milliseconds, LatencyUnit::Seconds]
        );
    }
}
