//! Usage of any size added up to one file, with some rows of it in memory at a time.
//!
//! All files of usage are sorted by client and endpoint, so they are merged as sorted runs: what lies
//! before the last key of every run is complete, is added up and written, and its memory is used again.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::columns::{self, SORTED_BY, USAGE};
use crate::fold::fold;
use crate::parquet_file::{self, FileError, Reading, Writer};
use crate::part::{PartError, usage_file};
use crate::table::Table;
use crate::view::Grain;

/// Rows in memory at a time, of all files together.
const ROWS: usize = 65_536;

/// The fewest rows of one file that are worth a turn.
const FEWEST_ROWS: usize = 1_024;

/// Files that are merged at a time, each with some megabytes of decoder; more of them are merged in turns.
const FILES_AT_ONCE: usize = 16;

/// What is to be added up.
pub struct Merge {
    grain: Grain,
    rows: usize,
    tables: Vec<Table>,
    files: Vec<Input>,
}

/// A file of usage, sorted as it is published.
struct Input {
    bytes: Bytes,
    path: String,
    /// Steps that are not taken from it.
    without: Vec<i64>,
}

/// What came of it.
pub struct Merged {
    pub file: Bytes,
    pub requests: i64,
}

impl Merge {
    pub fn new(grain: Grain) -> Merge {
        Merge { grain, rows: ROWS, tables: Vec::new(), files: Vec::new() }
    }

    /// Adds a table, sorted or not.
    pub fn table(&mut self, table: Table) -> Result<(), PartError> {
        self.tables.push(table);
        if self.tables.iter().map(Table::len).sum::<usize>() >= self.rows {
            let folded = self.folded()?;
            if folded.len() > self.rows / 2 {
                self.run(usage_file(&folded, &())?);
            } else {
                self.tables.push(folded);
            }
        }
        Ok(())
    }

    /// Adds a file, but for its rows of some steps; `path` is for messages.
    pub fn file(&mut self, bytes: Bytes, path: &str, without: Vec<i64>) {
        self.files.push(Input { bytes, path: path.to_owned(), without });
    }

    /// Adds everything up, as one file with a note.
    pub fn finish<N: Serialize>(mut self, note: &N) -> Result<Merged, PartError> {
        while self.files.len() > FILES_AT_ONCE {
            let sources = self.open(FILES_AT_ONCE)?;
            let merged = self.merge(sources, &())?;
            self.run(merged.file);
        }
        let mut sources = self.open(self.files.len())?;
        // Where all rows are in memory, they are added up at once.
        if sources.iter().any(|source| source.bound().is_some()) {
            self.tables = vec![self.folded()?];
        }
        sources.extend(self.tables.drain(..).map(|table| Source { table, ..Source::default() }));
        self.merge(sources, note)
    }

    /// Takes some of the files, and reads the first rows of each.
    fn open(&mut self, files: usize) -> Result<Vec<Source>, PartError> {
        let rows = (self.rows / files.max(1)).clamp(FEWEST_ROWS.min(self.rows), self.rows);
        let mut sources = Vec::with_capacity(files);
        for input in self.files.drain(..files) {
            let mut source = Source::open(input, rows)?;
            source.read(self.grain)?;
            sources.push(source);
        }
        Ok(sources)
    }

    fn run(&mut self, bytes: Bytes) {
        self.file(bytes, "a run of sorted rows", Vec::new());
    }

    fn folded(&mut self) -> Result<Table, PartError> {
        let tables = std::mem::take(&mut self.tables);
        Ok(fold(&tables.iter().collect::<Vec<_>>(), self.grain)?)
    }

    fn merge<N: Serialize>(&self, mut sources: Vec<Source>, note: &N) -> Result<Merged, PartError> {
        let (mut file, mut requests) = (Vec::new(), 0);
        let mut writer = Writer::new(&mut file, USAGE.clone(), &SORTED_BY)?;
        while let Some(some) = next(&mut sources, self.grain)? {
            requests += some.requests();
            writer.write(&columns::table_to_batch(&some)?)?;
        }
        writer.finish(note)?;
        Ok(Merged { file: Bytes::from(file), requests })
    }
}

/// The next rows that no later row of any source adds to; `None` at the end.
fn next(sources: &mut [Source], grain: Grain) -> Result<Option<Table>, PartError> {
    for source in sources.iter_mut().filter(|source| source.table.is_empty()) {
        source.read(grain)?;
    }
    if sources.iter().all(|source| source.table.is_empty()) {
        return Ok(None);
    }
    loop {
        let bound = sources.iter().filter_map(Source::bound).min().map(Key::owned);
        let cuts: Vec<usize> = sources.iter().map(|s| s.before(bound.as_ref())).collect();
        if bound.is_none() || cuts.iter().any(|cut| *cut > 0) {
            let taken: Vec<Table> =
                sources.iter_mut().zip(cuts).map(|(source, cut)| source.table.take_front(cut)).collect();
            return Ok(Some(fold(&taken.iter().collect::<Vec<_>>(), grain)?));
        }
        // One key fills all that was read of a file.
        for source in sources.iter_mut().filter(|s| s.bound().map(Key::owned) == bound) {
            source.read(grain)?;
        }
    }
}

/// Client and endpoint.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<T>(T, T);

impl Key<&str> {
    fn owned(self) -> Key<String> {
        Key(self.0.to_owned(), self.1.to_owned())
    }
}

/// What was read of a file, and what follows.
#[derive(Default)]
struct Source {
    table: Table,
    rest: Option<Reading>,
    path: String,
    without: Vec<i64>,
}

impl Source {
    fn open(input: Input, rows: usize) -> Result<Source, FileError> {
        let (rest, IgnoredAny) = parquet_file::open(input.bytes, &input.path, rows)?;
        Ok(Source { table: Table::default(), rest: Some(rest), path: input.path, without: input.without })
    }

    /// Reads on until there are more rows than before, or the file ends.
    fn read(&mut self, grain: Grain) -> Result<(), PartError> {
        let before = self.table.len();
        while self.table.len() == before
            && let Some(batch) = self.rest.as_mut().and_then(Iterator::next)
        {
            let mut table = columns::table_from_batch(&batch?, &self.path)?;
            if !self.without.is_empty() {
                table = table.filtered(|time| !self.without.contains(&time));
            }
            if !(1..table.len()).all(|row| key(&table, row - 1) <= key(&table, row)) {
                let told = "its rows are not sorted by client and endpoint";
                return Err(FileError::unreadable(&self.path, told).into());
            }
            self.table = match before {
                0 => table,
                _ => fold(&[&self.table, &table], grain)?,
            };
        }
        Ok(())
    }

    /// The last key that was read, where the file goes on.
    fn bound(&self) -> Option<Key<&str>> {
        let goes_on = self.rest.as_ref().is_some_and(|rest| rest.left() > 0);
        (goes_on && !self.table.is_empty()).then(|| key(&self.table, self.table.len() - 1))
    }

    /// How many rows lie before a key.
    fn before(&self, bound: Option<&Key<String>>) -> usize {
        let Some(Key(client, endpoint)) = bound else { return self.table.len() };
        self.table.partition_point(|row| key(&self.table, row) < Key(client, endpoint))
    }
}

fn key(table: &Table, row: usize) -> Key<&str> {
    Key(table.names.get(table.texts[0][row]), table.names.get(table.texts[2][row]))
}
