//! The lines that could not be read, kept aside.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::ImportError;
use super::line::LineError;

/// A file that is made when there is a line to be put into it.
pub struct Rejects<'a> {
    path: &'a Path,
    file: Option<BufWriter<File>>,
    delimiter: u8,
    lines: LineCounter<'a>,
    count: u64,
}

impl<'a> Rejects<'a> {
    /// For lines of the file at `source`; they are put into one at `path`.
    pub fn new(source: &'a Path, path: &'a Path, delimiter: u8) -> Rejects<'a> {
        let lines = LineCounter { path: source, input: None, at: 0, lines: 0 };
        Rejects { path, file: None, delimiter, lines, count: 0 }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds a line that ends at a byte of the source: its number, the reason, and the line itself,
    /// separated by tabs.
    pub fn add(&mut self, fields: &ByteRecord, end: u64, reason: &LineError) -> Result<(), ImportError> {
        let number = self.lines.number(fields, end)?;
        let line = fields.iter().collect::<Vec<_>>().join(&self.delimiter);
        self.count += 1;
        self.write(number, reason, &line).map_err(|e| error("write", self.path, e))
    }

    fn write(&mut self, number: u64, reason: &LineError, line: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(File::create(self.path)?)),
        };
        write!(file, "{number}\t{reason}\t")?;
        file.write_all(line)?;
        file.write_all(b"\n")
    }

    /// Where the lines are, if there are any.
    pub fn finish(self) -> Result<Option<PathBuf>, ImportError> {
        let Some(mut file) = self.file else { return Ok(None) };
        file.flush().map_err(|e| error("write", self.path, e))?;
        Ok(Some(self.path.to_owned()))
    }
}

fn error(action: &'static str, path: &Path, source: io::Error) -> ImportError {
    ImportError::Io { action, path: path.to_owned(), source }
}

/// Counts the lines of a file up to some byte. The csv crate's own count is off after empty lines and
/// with CR LF; reading again costs time only for files with lines to reject.
struct LineCounter<'a> {
    path: &'a Path,
    input: Option<BufReader<File>>,
    at: u64,
    /// Line ends before `at`.
    lines: u64,
}

impl LineCounter<'_> {
    /// The number, from 1, of the first line of a record that ends, its line end included, at `end`.
    /// To be asked in ascending order.
    fn number(&mut self, fields: &ByteRecord, end: u64) -> Result<u64, ImportError> {
        // The last byte may be the record's own line end, which is not before it.
        self.count_to(end.saturating_sub(1)).map_err(|e| error("read", self.path, e))?;
        let within = fields.iter().flatten().filter(|&&b| b == b'\n').count() as u64;
        Ok((self.lines + 1).saturating_sub(within))
    }

    fn count_to(&mut self, end: u64) -> io::Result<()> {
        let input = match &mut self.input {
            Some(input) => input,
            None => self.input.insert(BufReader::new(File::open(self.path)?)),
        };
        while self.at < end {
            let buffer = input.fill_buf()?;
            let some = (buffer.len() as u64).min(end - self.at) as usize;
            if some == 0 {
                break;
            }
            self.lines += buffer[..some].iter().filter(|&&b| b == b'\n').count() as u64;
            input.consume(some);
            self.at += some as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::reader;
    use super::*;

    #[test]
    fn lines_are_numbered_as_an_editor_does() {
        let text = "a,b\r\n\r\n1,2\r\n\"x\ny\",3\n\n\n4,5";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, text).unwrap();
        let mut rejects = Rejects::new(&path, Path::new("unused"), b',');
        let mut reader = reader(text.as_bytes(), b',');
        let (mut record, mut numbers) = (ByteRecord::new(), Vec::new());
        while reader.read_byte_record(&mut record).unwrap() {
            numbers.push(rejects.lines.number(&record, reader.position().byte()).unwrap());
        }
        assert_eq!(numbers, [3, 4, 8]);
    }
}
