//! `weir cat SEGMENT|DIR…`: the records of a spool, as text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weir_metering::{Entry, ReadError, Record, Segment, SegmentHeader, SpoolError};

use crate::export::guarded;

/// Print the records of spool segments.
#[derive(clap::Args)]
pub struct CatArgs {
    /// Segment files, or spool directories: then all segments in them, those in use included
    #[arg(required = true, value_name = "SEGMENT|DIR")]
    pub paths: Vec<PathBuf>,
    /// How records are printed
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line
    Ndjson,
    /// Comma-separated, with a header
    Csv,
}

/// Records go to standard output; what is missing or unreadable is said on standard error, and makes
/// the exit status 1.
pub fn run(args: &CatArgs) -> ExitCode {
    let stdout = BufWriter::new(io::stdout().lock());
    match cat(args, stdout, io::stderr().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read our output has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("weir cat: cannot write: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether everything was there; fails only when `out` does.
fn cat(args: &CatArgs, out: impl Write, errors: impl Write) -> io::Result<bool> {
    let mut cat = Cat { out: Out::new(out, args.format), errors, seen: HashSet::new(), complete: true };
    for path in &args.paths {
        match path.is_dir() {
            true => cat.directory(path)?,
            false => match Segment::open(path) {
                Err(error) if !path.exists() || matches!(error, ReadError::Magic) => {
                    let remedy =
                        "name a spool (as in weir_spool), or a segment of one: a file that ends in .weir";
                    cat.complain(path, &format!("{error}; {remedy}"))?;
                }
                opened => cat.file(path, opened)?,
            },
        }
    }
    cat.out.flush()?;
    Ok(cat.complete)
}

struct Cat<W: Write, E> {
    out: Out<W>,
    errors: E,
    /// Stream and segment of what was printed: a segment can be sealed while we are at it.
    seen: HashSet<(u128, u32)>,
    complete: bool,
}

impl<W: Write, E: Write> Cat<W, E> {
    fn directory(&mut self, dir: &Path) -> io::Result<()> {
        self.listed(dir, weir_metering::sealed_segments(dir), false)?;
        // Twice, since a spare that comes into use between listing and opening has another name then.
        self.listed(dir, weir_metering::unsealed_segments(dir), true)?;
        self.listed(dir, weir_metering::unsealed_segments(dir), true)?;
        // Those that were sealed between the listings.
        self.listed(dir, weir_metering::sealed_segments(dir), false)
    }

    fn listed(
        &mut self,
        dir: &Path,
        found: Result<Vec<PathBuf>, SpoolError>,
        unsealed: bool,
    ) -> io::Result<()> {
        let paths = match found {
            Ok(paths) => paths,
            Err(e) => return self.complain(dir, &e.to_string()),
        };
        for path in paths {
            match Segment::open(&path) {
                // A spare has no header yet.
                Err(ReadError::Magic) if unsealed => {}
                // Sealed, collected or removed since the listing.
                Err(ReadError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
                opened => self.file(&path, opened)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, opened: Result<Segment, ReadError>) -> io::Result<()> {
        let segment = match opened {
            Ok(segment) => segment,
            Err(e) => return self.complain(path, &e.to_string()),
        };
        let header = segment.header();
        if !self.seen.insert((header.stream, header.segment)) {
            return Ok(());
        }
        for entry in segment.records() {
            match entry {
                Entry::Record { number, record } => self.out.write(&Line::new(header, number, &record))?,
                Entry::Gap(gap) => {
                    let (count, from, last) = (gap.to - gap.from, gap.from, gap.to - 1);
                    let why = gap.reason.word();
                    self.complain(
                        path,
                        &format!("{count} records missing ({why}): numbers {from} to {last}"),
                    )?;
                }
                Entry::Dropped(note) => {
                    let (count, client) = (note.records, note.client);
                    let of = format!("{:032x}-{:010}", note.stream, note.segment);
                    self.complain(
                        path,
                        &format!("{count} records of client {client:?} dropped at the cap: segment {of}"),
                    )?;
                }
            }
        }
        match segment.possibly_lost() {
            0 => Ok(()),
            n => self
                .complain(path, &format!("up to {n} records behind the last one were lost in a power cut")),
        }
    }

    fn complain(&mut self, path: &Path, what: &str) -> io::Result<()> {
        self.complete = false;
        // Without standard error there is still the exit status.
        let _ = writeln!(self.errors, "weir cat: {}: {what}", path.display());
        Ok(())
    }
}

/// One record as it is printed. Field order is column order.
#[derive(serde::Serialize)]
pub struct Line<'a> {
    gateway: Cow<'a, str>,
    /// 32 hex digits.
    stream: String,
    number: u64,
    /// RFC 3339, UTC, microseconds.
    time: String,
    client: Cow<'a, str>,
    tier: Cow<'a, str>,
    endpoint: Cow<'a, str>,
    method: Cow<'a, str>,
    status: u16,
    latency_us: u64,
    upstream_us: Option<u64>,
    bytes_in: u64,
    bytes_out: u64,
    decision: &'static str,
    limit: Cow<'a, str>,
    /// 16 hex digits: as a number it would not survive JavaScript.
    policy_version: String,
}

impl<'a> Line<'a> {
    /// The same without cells that a spreadsheet would run.
    fn guarded(&self) -> Line<'_> {
        Line {
            gateway: guarded(&self.gateway),
            stream: self.stream.clone(),
            number: self.number,
            time: self.time.clone(),
            client: guarded(&self.client),
            tier: guarded(&self.tier),
            endpoint: guarded(&self.endpoint),
            method: guarded(&self.method),
            status: self.status,
            latency_us: self.latency_us,
            upstream_us: self.upstream_us,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            decision: self.decision,
            limit: guarded(&self.limit),
            policy_version: self.policy_version.clone(),
        }
    }

    pub fn new(header: &'a SegmentHeader, number: u64, record: &Record<'a>) -> Line<'a> {
        Line {
            gateway: header.gateway.as_str().into(),
            stream: format!("{:032x}", header.stream),
            number,
            time: time(record.time_us),
            client: record.client.into(),
            tier: record.tier.into(),
            endpoint: record.endpoint.into(),
            method: record.method.into(),
            status: record.status,
            latency_us: record.latency_us,
            upstream_us: record.upstream_us,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            decision: record.decision.word(),
            limit: record.limit.into(),
            policy_version: format!("{:016x}", record.policy_version),
        }
    }
}

/// Beyond the year 9999 the bare number stands, so that nothing is hidden.
fn time(time_us: u64) -> String {
    let stamp = i64::try_from(time_us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    stamp.map_or(time_us.to_string(), |stamp| format!("{stamp:.6}"))
}

pub enum Out<W: Write> {
    Ndjson(W),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> Out<W> {
    pub fn new(out: W, format: Format) -> Out<W> {
        match format {
            Format::Ndjson => Out::Ndjson(out),
            Format::Csv => Out::Csv(Box::new(csv::Writer::from_writer(out))),
        }
    }

    pub fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        match self {
            Out::Ndjson(out) => {
                serde_json::to_writer(&mut *out, line)?;
                out.write_all(b"\n")
            }
            // Names come from requests.
            Out::Csv(out) => out.serialize(line.guarded()).map_err(csv_error),
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Out::Ndjson(out) => out.flush(),
            Out::Csv(out) => out.flush(),
        }
    }
}

/// Keeps the kind, by which a closed pipe is known.
fn csv_error(e: csv::Error) -> io::Error {
    match e.into_kind() {
        csv::ErrorKind::Io(e) => e,
        kind => io::Error::other(format!("{kind:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_metering::{Decision, SpoolOptions, SpoolWriter};

    const RECORD: Record<'static> = Record {
        time_us: 1_700_000_000_123_456,
        client: "O\"Neill, Söhne\r\n",
        tier: "pro",
        endpoint: "orders",
        method: "GET",
        status: 429,
        latency_us: 1500,
        upstream_us: None,
        bytes_in: 120,
        bytes_out: 310,
        decision: Decision::Rejected,
        limit: "100 requests/minute",
        policy_version: u64::MAX,
    };

    fn spool(dir: &Path) -> SpoolWriter {
        SpoolWriter::open(SpoolOptions::new(dir, "gw-1"), 1, 0xabc, RECORD.time_us).unwrap()
    }

    fn printed(path: &Path, format: Format) -> (bool, String, String) {
        let paths = vec![path.to_owned()];
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let complete = cat(&CatArgs { paths, format }, &mut out, &mut errors).unwrap();
        (complete, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[test]
    fn a_live_and_a_sealed_segment_print_the_same() {
        let temp = tempfile::tempdir().unwrap();
        let mut spool = spool(temp.path());
        assert!(spool.append(&RECORD));
        let live = printed(temp.path(), Format::Ndjson);
        spool.close(RECORD.time_us);
        assert_eq!(printed(temp.path(), Format::Ndjson), live);
        let (complete, out, errors) = live;
        assert!(complete && errors.is_empty(), "{errors}");
        let line: serde_json::Value = serde_json::from_str(out.trim_end()).unwrap();
        assert_eq!(out.lines().count(), 1);
        assert_eq!(line["time"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(line["client"], RECORD.client);
        assert_eq!(line["decision"], "REJECTED");
        assert_eq!(line["upstream_us"], serde_json::Value::Null);
        assert_eq!(line["stream"], format!("{:032x}", 0xabc));
        assert_eq!(line["policy_version"], "ffffffffffffffff");
    }

    #[test]
    fn csv_has_a_header_and_keeps_quotes_and_line_ends() {
        let temp = tempfile::tempdir().unwrap();
        let mut spool = spool(temp.path());
        assert!(spool.append(&RECORD));
        spool.close(RECORD.time_us);
        let path = weir_metering::sealed_segments(temp.path()).unwrap().remove(0);
        let (_, out, _) = printed(&path, Format::Csv);
        let mut reader = csv::Reader::from_reader(out.as_bytes());
        assert_eq!(&reader.headers().unwrap()[4], "client");
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!((&row[4], &row[10]), (RECORD.client, ""));
    }

    #[test]
    fn what_is_missing_is_said_and_fails() {
        let temp = tempfile::tempdir().unwrap();
        let mut spool = spool(temp.path());
        let long = "x".repeat(5000);
        assert!(spool.append(&RECORD));
        assert!(!spool.append(&Record { tier: &long, ..RECORD }));
        spool.close(RECORD.time_us);
        let (complete, out, errors) = printed(temp.path(), Format::Ndjson);
        assert!(!complete);
        assert_eq!(out.lines().count(), 1);
        assert!(errors.contains("1 records missing (refused): numbers 1 to 1"), "{errors}");
        let (complete, _, errors) = printed(&temp.path().join("none.weir"), Format::Ndjson);
        assert!(!complete && errors.contains("none.weir"));
    }
}
