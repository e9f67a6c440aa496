//! Access logs of others become records: `weir import`.
//!
//! A file's stream is the hash of its content, and a chunk of its lines is a segment, so the parts of
//! a file have the same names whenever it is imported, and importing it again changes nothing.

mod columns;
mod line;
mod rejects;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};
use weir_metering::{Decision, Record};

use crate::completeness::{End, Life};
use crate::part::{self, PartError, PartNote};
use crate::records::Records;
use crate::store::{Created, Store};

use rejects::Rejects;

pub use columns::{ColumnNames, Columns, ColumnsError};
pub use line::{LineError, Parsed};

/// Lines of one segment: what is in memory at a time.
const SEGMENT_LINES: usize = 200_000;

/// The gateway of imported records.
const GATEWAY: &str = "import";

/// How a delimited file is to be read.
#[derive(Clone, Debug, Default)]
pub struct Delimited {
    /// `None`: a tab, semicolon or comma, whichever the header has most of.
    pub delimiter: Option<u8>,
    pub names: ColumnNames,
}

/// What the business adds to a line: the tier of its client, and the endpoint of its path.
pub trait Naming {
    fn tier(&self, client: &str) -> String;
    fn endpoint(&self, method: &str, path: &str) -> String;
}

/// No policy: no tiers, and the path without its query as endpoint.
pub struct Plain;

impl Naming for Plain {
    fn tier(&self, _: &str) -> String {
        String::new()
    }

    fn endpoint(&self, _: &str, path: &str) -> String {
        without_query(path).to_owned()
    }
}

/// The path alone: a query can hold anything, and is never an endpoint.
pub fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or(path)
}

/// Why a file can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("could not {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Columns { path: PathBuf, source: ColumnsError },
    #[error("{} is empty; a delimited file begins with a line of column names", path.display())]
    Empty { path: PathBuf },
    #[error(
        "{} was imported before with other columns or by another version of weir; import it into a store of its own, or as before",
        path.display()
    )]
    Otherwise { path: PathBuf },
    #[error(transparent)]
    Part(#[from] PartError),
}

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Lines after the header, empty ones left out.
    pub lines: u64,
    /// Requests in the books now.
    pub requests: u64,
    pub bytes_out: i64,
    /// Of those, how many had not been there before: none when the file was imported earlier.
    pub new_requests: u64,
    pub rejected: u64,
    /// Where the rejected lines are, if there are any.
    pub rejected_file: Option<PathBuf>,
    /// Start of the first and end of the last record, microseconds UTC.
    pub from_us: Option<i64>,
    pub to_us: Option<i64>,
}

/// Imports a delimited file with a header.
///
/// Lines that can't be read go to `rejected` with their number and the reason; a file of that name is
/// replaced if there are any. `progress` is told how many bytes are done and how many there are.
pub async fn delimited(
    store: &Store,
    path: &Path,
    rejected: &Path,
    how: &Delimited,
    naming: &dyn Naming,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Imported, ImportError> {
    let io = |source| ImportError::Io { action: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let stream = content_hash(&mut file).map_err(io)?;
    let header = first_line(path).map_err(io)?;
    if header.is_empty() {
        return Err(ImportError::Empty { path: path.to_owned() });
    }
    let delimiter = how.delimiter.unwrap_or_else(|| columns::detect(&header));
    let mut reader = line::reader(BufReader::new(File::open(path).map_err(io)?), delimiter);
    let names = reader.byte_headers().map_err(|e| io(e.into()))?;
    let columns = Columns::find(names, &how.names)
        .map_err(|source| ImportError::Columns { path: path.to_owned(), source })?;
    agree(store, path, &stream, &columns).await?;
    let mut work = Work::new(store, naming, stream, Rejects::new(path, rejected, delimiter));
    let mut fields = csv::ByteRecord::new();
    while reader.read_byte_record(&mut fields).map_err(|e| io(e.into()))? {
        let end = reader.position().byte();
        work.line(&fields, end, line::parse(&fields, &columns))?;
        if work.chunk.lines == SEGMENT_LINES {
            progress(end, size);
            work.flush().await?;
        }
    }
    work.flush().await?;
    progress(size, size);
    work.finish()
}

/// Writes down how a file is imported, or makes sure that it was imported in the same way before:
/// its records would else be in the books twice, under other times or names.
async fn agree(store: &Store, path: &Path, stream: &str, columns: &Columns) -> Result<(), ImportError> {
    let plan = format!("{SEGMENT_LINES} lines, {columns:?}");
    let ledger = format!("ledger/import/{stream}");
    let created = store.create(&ledger, Bytes::from(plan.clone())).await.map_err(PartError::from)?;
    if created == Created::Existed && store.get(&ledger).await.map_err(PartError::from)? != plan {
        return Err(ImportError::Otherwise { path: path.to_owned() });
    }
    Ok(())
}

fn content_hash(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// At most the first 64 KiB of the first line.
fn first_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut begin = Vec::new();
    File::open(path)?.take(64 << 10).read_to_end(&mut begin)?;
    let end = begin.iter().position(|&b| b == b'\n').unwrap_or(begin.len());
    begin.truncate(end);
    Ok(begin)
}

/// Records of the segment that is being read.
#[derive(Default)]
struct Chunk {
    records: Records,
    lines: usize,
}

/// A log speaks for the time between its first line and its last.
fn life(records: &Records) -> Option<Life> {
    let times = || records.rows().iter().map(|row| row.time_us);
    let (gateway, boot) = (GATEWAY.to_owned(), String::new());
    Some(Life { gateway, boot, from_us: times().min()?, to_us: times().max()?, end: End::Closed })
}

/// An import in progress.
struct Work<'a> {
    store: &'a Store,
    naming: &'a dyn Naming,
    stream: String,
    rejects: Rejects<'a>,
    done: Imported,
    chunk: Chunk,
    segment: u32,
    /// Number of the next record.
    next: u64,
}

impl<'a> Work<'a> {
    fn new(store: &'a Store, naming: &'a dyn Naming, stream: String, rejects: Rejects<'a>) -> Work<'a> {
        let (done, chunk) = (Imported::default(), Chunk::default());
        Work { store, naming, stream, rejects, done, chunk, segment: 0, next: 0 }
    }

    /// Takes a line that ends at a byte of the file.
    fn line(
        &mut self,
        fields: &csv::ByteRecord,
        end: u64,
        parsed: Result<Parsed<'_>, LineError>,
    ) -> Result<(), ImportError> {
        self.done.lines += 1;
        self.chunk.lines += 1;
        match parsed {
            Ok(parsed) => self.take(&parsed),
            Err(reason) => self.rejects.add(fields, end, &reason)?,
        }
        Ok(())
    }

    fn take(&mut self, parsed: &Parsed<'_>) {
        let record = Record {
            time_us: parsed.time_us,
            client: &parsed.client,
            tier: &self.naming.tier(&parsed.client),
            endpoint: &self.naming.endpoint(&parsed.method, &parsed.path),
            method: &parsed.method,
            status: parsed.status,
            latency_us: parsed.latency_us.unwrap_or(0),
            upstream_us: None,
            bytes_in: parsed.bytes_in,
            bytes_out: parsed.bytes_out,
            decision: Decision::Passed,
            limit: "",
            policy_version: 0,
        };
        self.chunk.records.push(self.next, &record, parsed.latency_us.is_some());
        self.next += 1;
        let time_us = parsed.time_us as i64;
        self.done.requests += 1;
        self.done.bytes_out += parsed.bytes_out as i64;
        self.done.from_us = Some(self.done.from_us.map_or(time_us, |t| t.min(time_us)));
        self.done.to_us = Some(self.done.to_us.map_or(time_us, |t| t.max(time_us)));
    }

    /// Stores the lines read so far as one segment.
    async fn flush(&mut self) -> Result<(), ImportError> {
        let chunk = std::mem::take(&mut self.chunk);
        let count = chunk.records.rows().len() as u64;
        let note = PartNote {
            gateway: GATEWAY.to_owned(),
            stream: self.stream.clone(),
            segment: self.segment,
            boot: String::new(),
            first: self.next - count,
            next: self.next,
            life: life(&chunk.records),
            ..PartNote::default()
        };
        self.segment += 1;
        for (hour, records) in chunk.records.by_hour() {
            let note = PartNote { held: records.numbers(), ..note.clone() };
            let count = records.rows().len() as u64;
            if part::put(self.store, hour, &note, records).await? == Created::New {
                self.done.new_requests += count;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Imported, ImportError> {
        self.done.rejected = self.rejects.count();
        self.done.rejected_file = self.rejects.finish()?;
        Ok(self.done)
    }
}
