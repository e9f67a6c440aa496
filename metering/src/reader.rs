//! Reads a segment, whatever became of the file: what checks is passed on, what is missing is
//! counted by its numbers.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Record;
use crate::dir::{self, Role};
use crate::entries::{RawEntries, RawEntry, read_loss, record_number};
use crate::error::{ReadError, SpoolError};
use crate::records::Records;
use crate::segment::{Ending, HeaderFlaw, Kind, MAX_SEGMENT_BYTES, Mark, Reason, SegmentHeader, VERSION};

/// Numbers that are missing from a segment, half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: u64,
    pub to: u64,
    pub reason: Reason,
}

/// Records of one client that went with an old segment when the spool reached its cap. A collector
/// that has that segment already ignores the note; the same note may stand there twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped<'a> {
    /// Empty where the dropped segment could not be read.
    pub client: &'a str,
    pub records: u64,
    /// The dropped segment, and its numbers, half open.
    pub stream: u128,
    pub segment: u32,
    pub from: u64,
    pub to: u64,
}

/// What a segment holds, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Record { number: u64, record: Record<'a> },
    Gap(Gap),
    Dropped(Dropped<'a>),
}

/// A segment in memory (at most [`MAX_SEGMENT_BYTES`]). A live one is read as of now.
pub struct Segment {
    header: SegmentHeader,
    bytes: Vec<u8>,
    outline: Outline,
}

/// What one pass over the entries shows without decoding them.
#[derive(Default)]
struct Outline {
    /// End of the last entry that checks, the end entry left out.
    used: usize,
    /// The number after the last one that the segment knows of.
    next_number: u64,
    entries: u64,
    ending: Option<Ending>,
}

impl Segment {
    /// Reads the file at `path`. Never follows a symbolic link.
    pub fn open(path: impl AsRef<Path>) -> Result<Segment, ReadError> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        match opened {
            Ok(file) => Segment::read(&file),
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Err(ReadError::NotAFile),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads an open file from its start, wherever its position is.
    pub(crate) fn read(file: &File) -> Result<Segment, ReadError> {
        Segment::from_bytes(read_whole(file)?)
    }

    /// Takes the content of a segment file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Segment, ReadError> {
        let header = SegmentHeader::decode(&bytes).map_err(|flaw| match flaw {
            HeaderFlaw::Magic => ReadError::Magic,
            HeaderFlaw::Version(found) => ReadError::Version { found, known: VERSION },
            HeaderFlaw::Damaged => ReadError::Header,
        })?;
        let outline = Outline::new(&header, &bytes);
        Ok(Segment { header, bytes, outline })
    }

    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// All records, and a gap wherever numbers are missing: together they are exactly the numbers
    /// from `header().first_number` to `next_number()`.
    pub fn records(&self) -> Records<'_> {
        Records::new(self)
    }

    /// The number after the last one of this segment. Equals the next segment's first number.
    pub fn next_number(&self) -> u64 {
        self.outline.next_number
    }

    /// How the segment was sealed; `None` while it is in use, orphaned, or its end is damaged.
    pub fn ending(&self) -> Option<&Ending> {
        self.outline.ending.as_ref()
    }

    /// From when to when the worker that wrote it is known to have lived, microseconds since the Unix
    /// epoch: from its creation until it was sealed, or until the last sign of life in it.
    pub fn alive_us(&self) -> (u64, u64) {
        let created_us = self.header.created_us;
        let noted = Mark::Reserved.read(self.header.seed(), &self.bytes).map_or(0, |(_, secs)| secs);
        let noted_us = created_us.saturating_add(u64::from(noted) * 1_000_000);
        let sealed_us = self.ending().map_or(0, |end| end.sealed_us);
        (created_us, noted_us.max(sealed_us))
    }

    /// How many records behind `next_number()` a power cut may have taken at most. Where the stream
    /// has a next segment, its first number says it exactly.
    pub fn possibly_lost(&self) -> u64 {
        self.ending().map_or(0, |end| end.reserved.saturating_sub(end.next_number))
    }

    /// Where the end entry belongs.
    pub(crate) fn used(&self) -> usize {
        self.outline.used
    }

    /// Header and entries up to the last one that checks, without the end entry.
    pub(crate) fn content(&self) -> Vec<u8> {
        let used = self.outline.used;
        let mut content = self.bytes[..used.min(self.bytes.len())].to_vec();
        // A file cut off within the padding of its last entry is padded again.
        content.resize(used, 0);
        content
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outline.entries == 0 && self.outline.next_number == self.header.first_number
    }

    pub(crate) fn reserved(&self) -> u64 {
        Mark::Reserved.read(self.header.seed(), &self.bytes).map_or(0, |(value, _)| value)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn lost_mark(&self) -> Option<(u64, Reason)> {
        let (value, reason) = Mark::Lost.read(self.header.seed(), &self.bytes)?;
        Some((value, Reason::from_code(reason as u8)?))
    }
}

fn read_whole(file: &File) -> Result<Vec<u8>, ReadError> {
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(ReadError::NotAFile);
    }
    if found.len() > MAX_SEGMENT_BYTES {
        return Err(ReadError::TooLarge { bytes: found.len(), max: MAX_SEGMENT_BYTES });
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    dir::Positioned::new(file).take(found.len()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Outline {
    fn new(header: &SegmentHeader, bytes: &[u8]) -> Outline {
        let mut outline =
            Outline { used: header.bytes(), next_number: header.first_number, ..Outline::default() };
        for raw in RawEntries::new(header, bytes) {
            outline.add(header, &raw);
        }
        if let Some((lost, _)) = Mark::Lost.read(header.seed(), bytes) {
            outline.next_number = outline.next_number.max(lost);
        }
        outline
    }

    fn add(&mut self, header: &SegmentHeader, raw: &RawEntry<'_>) {
        if raw.kind == Some(Kind::End) {
            self.ending = Ending::decode(raw.body);
            let end = self.ending.map_or(0, |end| end.next_number);
            self.next_number = self.next_number.max(end);
            return;
        }
        self.used = raw.end;
        self.entries += 1;
        let next = match raw.kind {
            Some(Kind::Record) => record_number(header, raw.body).and_then(|n| n.checked_add(1)),
            Some(Kind::Loss) => read_loss(header, raw.body).map(|gap| gap.to),
            _ => None,
        };
        self.next_number = self.next_number.max(next.unwrap_or(0));
    }
}

/// The sealed segments in a spool directory, by stream and segment, ascending. Among them are those
/// that hold nothing but [`Dropped`] notes.
pub fn sealed_segments(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    segments(dir, |role| role == Role::Sealed)
}

/// The segments in use or orphaned, in the same order; among them spares, which have no header yet
/// ([`ReadError::Magic`]). Any of them may be sealed, and so renamed, at any time.
pub fn unsealed_segments(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    segments(dir, |role| matches!(role, Role::Active | Role::Spare))
}

fn segments(dir: &Path, wanted: impl Fn(Role) -> bool) -> Result<Vec<PathBuf>, SpoolError> {
    let mut found = dir::Dir::open(dir, dir::Trust::Root)?.list()?;
    found.retain(|(role, _)| wanted(*role));
    found.sort_by_key(|(_, name)| *name);
    Ok(found.into_iter().map(|(role, name)| dir.join(name.file(role))).collect())
}
