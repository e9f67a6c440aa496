//! Turns a segment that nobody writes any more into a sealed one.
//!
//! The order is: end entry, truncation to the used length, fsync of the file, rename, fsync of the
//! directory. A death between any two steps leaves an unsealed file whose entries are all there;
//! whoever gets its lock next does the rest. A sealed name never stands on content that is not
//! durable.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::dir::{Dir, Role, SegmentName};
use crate::error::{ReadError, SpoolError};
use crate::reader::{Entry, Segment};
use crate::segment::{Ending, SealedBy};

/// What the one who seals knows about the segment.
#[derive(Clone, Copy)]
pub(crate) enum Sealer {
    Owner {
        next_number: u64,
        sealed_us: u64,
        /// Whether no segment of the stream follows.
        last: bool,
    },
    /// Found without an owner; the boot that this happens in, if it is known.
    Successor { boot: Option<u128> },
}

/// Where the segment is and whether its file can be trusted.
pub(crate) struct Unsealed<'a> {
    pub file: &'a File,
    pub name: SegmentName,
    pub role: Role,
    /// A sync failed before, or the file has no name any more: it is written anew.
    pub suspect: bool,
}

pub(crate) enum Outcome {
    /// With this content.
    Sealed(Box<Segment>),
    /// Nothing was in it, and no number either.
    Removed,
    /// It had no readable header.
    Quarantined,
}

impl Outcome {
    /// Counts the readable records.
    pub(crate) fn records(&self) -> u64 {
        let is_record = |entry: &Entry<'_>| matches!(entry, Entry::Record { .. });
        match self {
            Outcome::Sealed(segment) => segment.records().filter(is_record).count() as u64,
            Outcome::Removed | Outcome::Quarantined => 0,
        }
    }
}

/// Syncs a file; a parameter so that tests can make it fail.
pub(crate) type Sync<'a> = &'a dyn Fn(&File) -> io::Result<()>;

pub(crate) fn seal(
    dir: &Dir,
    from: &Unsealed<'_>,
    sealer: Sealer,
    sync: Sync<'_>,
) -> Result<Outcome, SpoolError> {
    let current = from.name.file(from.role);
    let segment = match Segment::read(from.file) {
        Ok(segment) => segment,
        Err(ReadError::Io(e)) => return Err(dir.error("read", &current, e)),
        Err(_) => return set_aside(dir, from),
    };
    if is_of_no_use(&segment, sealer) {
        let _ = dir.remove(&current);
        return Ok(Outcome::Removed);
    }
    let tail = tail(&segment, sealer);
    if from.suspect {
        rewrite(dir, from, &segment, &tail, sync)?;
    } else {
        finish_in_place(dir, from, &segment, &tail, sync)?;
    }
    Ok(Outcome::Sealed(Box::new(segment)))
}

/// The end entry, unless a sealer that died had written it.
pub(crate) fn tail(segment: &Segment, sealer: Sealer) -> Vec<u8> {
    let ending = segment.ending().copied().unwrap_or_else(|| ending(segment, sealer));
    ending.encode(segment.header().seed())
}

fn ending(segment: &Segment, sealer: Sealer) -> Ending {
    let seen = segment.next_number();
    let (next_number, sealed_us, by) = match sealer {
        Sealer::Owner { next_number, sealed_us, .. } => (next_number.max(seen), sealed_us, SealedBy::Owner),
        Sealer::Successor { boot } if boot == Some(segment.header().boot) => (seen, 0, SealedBy::Successor),
        Sealer::Successor { .. } => (seen, 0, SealedBy::AfterRestart),
    };
    let reserved = possibly_used(segment, sealer).max(next_number);
    let last = Some(!matches!(sealer, Sealer::Owner { last: false, .. }));
    Ending { next_number, sealed_us, by, reserved, last }
}

/// Numbers are never forgotten, and neither is a sign of life: an empty segment goes only if it is all
/// that there ever was of its stream.
fn is_of_no_use(segment: &Segment, sealer: Sealer) -> bool {
    let goes_on = matches!(sealer, Sealer::Owner { last: false, .. });
    let alone = segment.header().segment == 0 && !goes_on;
    alone && segment.is_empty() && segment.next_number() == 0 && possibly_used(segment, sealer) == 0
}

/// Numbers below this may have been used in memory that a power cut took.
fn possibly_used(segment: &Segment, sealer: Sealer) -> u64 {
    match sealer {
        Sealer::Successor { boot } if boot != Some(segment.header().boot) => segment.reserved(),
        _ => 0,
    }
}

fn finish_in_place(
    dir: &Dir,
    from: &Unsealed<'_>,
    segment: &Segment,
    tail: &[u8],
    sync: Sync<'_>,
) -> Result<(), SpoolError> {
    let current = from.name.file(from.role);
    let used = segment.used() as u64;
    from.file
        .write_all_at(tail, used)
        .and_then(|()| from.file.set_len(used + tail.len() as u64))
        .map_err(|e| dir.error("end", &current, e))?;
    match sync(from.file) {
        Ok(()) => dir.rename(&current, &from.name.file(Role::Sealed)),
        // After a failed fsync the next one may succeed without having written anything, so the
        // content goes to a new file while it is in memory.
        Err(_) => rewrite(dir, from, segment, tail, sync),
    }
}

fn rewrite(
    dir: &Dir,
    from: &Unsealed<'_>,
    segment: &Segment,
    tail: &[u8],
    sync: Sync<'_>,
) -> Result<(), SpoolError> {
    let content = [&segment.content(), tail].concat();
    write_sealed(dir, from.name, &content, sync)?;
    // Gone already where the directory was removed under us; a leftover would be sealed a second
    // time by the next sweep, which finds that the name exists.
    let _ = dir.remove(&from.name.file(from.role));
    dir.sync()
}

/// Writes a sealed segment that was no file before. It appears under its name complete or not at all.
pub(crate) fn write_sealed(
    dir: &Dir,
    name: SegmentName,
    content: &[u8],
    sync: Sync<'_>,
) -> Result<(), SpoolError> {
    let copy = name.file(Role::Copy);
    let file = dir.create_locked(&copy).map_err(|e| dir.error("create", &copy, e))?;
    let written = file
        .write_all_at(content, 0)
        .and_then(|()| sync(&file))
        .map_err(|e| dir.error("write", &copy, e))
        .and_then(|()| dir.rename(&copy, &name.file(Role::Sealed)));
    if written.is_err() {
        let _ = dir.remove(&copy);
    }
    written
}

fn set_aside(dir: &Dir, from: &Unsealed<'_>) -> Result<Outcome, SpoolError> {
    let current = from.name.file(from.role);
    match from.role {
        // A spare has no header before it is used, and a copy is made again from its original.
        Role::Spare | Role::Copy => {
            dir.remove(&current).map_err(|e| dir.error("remove", &current, e))?;
            Ok(Outcome::Removed)
        }
        _ => {
            dir.rename(&current, &from.name.file(Role::Damaged))?;
            Ok(Outcome::Quarantined)
        }
    }
}
