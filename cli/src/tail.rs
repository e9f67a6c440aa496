//! `weir tail`: the newest records of spools, and those that come.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use weir_metering::{Entry, Record, Segment, SegmentHeader, sealed_segments, unsealed_segments};

use crate::cat::{Format, Line, Out};
use crate::config::Config;
use crate::installation::{self, CommandError};

/// How often spools are looked at. What is booked, sealed and collected in between is not seen, but told.
const PAUSE: Duration = Duration::from_millis(250);

/// Print the newest records of spools, and with -f those that come, as they come.
#[derive(clap::Args)]
pub struct TailArgs {
    /// Spool directories; those of the configuration if none is given
    #[arg(value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
    /// How many records to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub lines: usize,
    /// How records are printed
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    pub format: Format,
}

pub fn run(config: &Path, args: &TailArgs) -> ExitCode {
    installation::run("tail", async {
        let dirs = match args.dirs.is_empty() {
            true => Config::read(config)?.spool.dirs,
            false => args.dirs.clone(),
        };
        if dirs.is_empty() {
            let text = "no spool to look at; name one, or set [spool] dirs in weir.toml to what the gateways' \
                        weir_spool says";
            return Err(CommandError::Usage(text.to_owned()));
        }
        let mut tail = Tail { dirs, seen: HashMap::new() };
        let mut out = Out::new(BufWriter::new(io::stdout().lock()), args.format);
        let mut most = args.lines;
        loop {
            match tail.look(most, &mut out) {
                // Whoever read our output has seen enough.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(true),
                Err(source) => return Err(CommandError::Io { what: "cannot follow".to_owned(), source }),
                Ok(()) if !args.follow => return Ok(true),
                Ok(()) => tokio::time::sleep(PAUSE).await,
            }
            most = usize::MAX;
        }
    })
}

struct Tail {
    dirs: Vec<PathBuf>,
    /// The number that comes next in each stream.
    seen: HashMap<u128, u64>,
}

impl Tail {
    /// Prints what is new since the last look, the newest `most`, in the order of time.
    fn look(&mut self, most: usize, out: &mut Out<impl Write>) -> io::Result<()> {
        let mut segments = Vec::new();
        for dir in &self.dirs {
            // Live ones first: what is sealed meanwhile is then in the list of sealed ones. Twice, since a
            // spare that comes into use between listing and opening has another name then.
            for list in [unsealed_segments, unsealed_segments, sealed_segments] {
                let paths = list(dir).map_err(io::Error::other)?;
                // A spare has no header yet; what can't be read is for `weir cat` and `weir collect` to tell.
                segments.extend(paths.into_iter().filter_map(|path| Segment::open(path).ok()));
            }
        }
        segments.sort_by_key(|s| (s.header().stream, s.header().segment));
        let mut new: Vec<(&SegmentHeader, u64, Record<'_>)> = Vec::new();
        for segment in &segments {
            self.collect(segment, &mut new);
        }
        new.sort_by_key(|(_, _, record)| record.time_us);
        for (header, number, record) in &new[new.len().saturating_sub(most)..] {
            out.write(&Line::new(header, *number, record))?;
        }
        out.flush()
    }

    fn collect<'a>(&mut self, segment: &'a Segment, new: &mut Vec<(&'a SegmentHeader, u64, Record<'a>)>) {
        let header = segment.header();
        let seen = self.seen.entry(header.stream).or_insert(header.first_number);
        if header.first_number > *seen {
            let (from, last) = (*seen, header.first_number - 1);
            eprintln!("weir tail: stream {:032x}: numbers {from} to {last} were not seen", header.stream);
        }
        for entry in segment.records() {
            if let Entry::Record { number, record } = entry
                && number >= *seen
            {
                new.push((header, number, record));
            }
        }
        *seen = (*seen).max(segment.next_number());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_metering::{Decision, SpoolOptions, SpoolWriter};

    fn record(time_us: u64) -> Record<'static> {
        Record {
            time_us,
            client: "acme",
            tier: "t",
            endpoint: "/",
            method: "GET",
            status: 200,
            latency_us: 1,
            upstream_us: None,
            bytes_in: 1,
            bytes_out: 1,
            decision: Decision::Passed,
            limit: "",
            policy_version: 1,
        }
    }

    fn looked(tail: &mut Tail, most: usize) -> Vec<u64> {
        let mut text = Vec::new();
        tail.look(most, &mut Out::new(&mut text, Format::Ndjson)).unwrap();
        let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["number"].as_u64();
        String::from_utf8(text).unwrap().lines().map(|line| number(line).unwrap()).collect()
    }

    #[test]
    fn each_record_is_printed_once_from_live_and_sealed_segments() {
        let temp = tempfile::tempdir().unwrap();
        let options = SpoolOptions::new(temp.path(), "gw-1");
        let mut spool = SpoolWriter::open(options, 1, 0xabc, 1_000).unwrap();
        (0..5).for_each(|n| assert!(spool.append(&record(1_000 + n))));
        let mut tail = Tail { dirs: vec![temp.path().to_owned()], seen: HashMap::new() };
        assert_eq!(looked(&mut tail, 2), [3, 4]);
        assert!(looked(&mut tail, usize::MAX).is_empty());
        (5..8).for_each(|n| assert!(spool.append(&record(2_000 - n))));
        assert_eq!(looked(&mut tail, usize::MAX), [7, 6, 5]);
        assert!(spool.append(&record(3_000)));
        spool.close(3_000);
        assert_eq!(looked(&mut tail, usize::MAX), [8]);
        assert!(looked(&mut tail, usize::MAX).is_empty());
    }

    #[test]
    fn a_table_goes_on_over_segments_under_one_header_and_no_cell_is_a_formula() {
        let temp = tempfile::tempdir().unwrap();
        let options = SpoolOptions::new(temp.path(), "gw-1");
        let mut spool = SpoolWriter::open(options, 1, 0xabc, 1_000).unwrap();
        let mut tail = Tail { dirs: vec![temp.path().to_owned()], seen: HashMap::new() };
        let mut text = Vec::new();
        let mut out = Out::new(&mut text, Format::Csv);
        for (n, client) in ["acme", "=cmd|' /C calc'!A0", "a,\"b\"\r\n", "@x"].into_iter().enumerate() {
            assert!(spool.append(&Record { client, endpoint: "-1+1", ..record(1_000 + n as u64) }));
            tail.look(usize::MAX, &mut out).unwrap();
            if n == 1 {
                // From here on another worker writes, and these are sealed.
                let next =
                    SpoolWriter::open(SpoolOptions::new(temp.path(), "gw-1"), 1, 0xdef, 2_000).unwrap();
                std::mem::replace(&mut spool, next).close(2_000);
            }
        }
        drop(out);
        let mut reader = csv::Reader::from_reader(&text[..]);
        let column =
            |name: &str, headers: &csv::StringRecord| headers.iter().position(|h| h == name).unwrap();
        let headers = reader.headers().unwrap().clone();
        let (client, endpoint, number) =
            (column("client", &headers), column("endpoint", &headers), column("number", &headers));
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let told: Vec<_> = rows.iter().map(|row| (&row[client], &row[number])).collect();
        assert_eq!(told, [("acme", "0"), ("'=cmd|' /C calc'!A0", "1"), ("a,\"b\"\r\n", "0"), ("'@x", "1")]);
        assert!(rows.iter().all(|row| &row[endpoint] == "'-1+1"));
    }
}
