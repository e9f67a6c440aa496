//! Sealed spool segments become parts in the store; then, and only then, they are deleted.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use weir_metering::{
    Ending, Entry, ReadError, SealedBy, Segment, SpoolError, seal_orphans, sealed_segments, unsealed_segments,
};

use crate::calendar::Partition;
use crate::completeness::{End, Life};
use crate::part::{self, PartError, PartNote};
use crate::records::Records;
use crate::rollup::Progress;
use crate::store::{Created, Store};
use crate::view::Grain;

/// Folder in a spool for files that can't be read; each has a neighbour that says why.
pub const QUARANTINE: &str = "quarantine";

/// What one run of [`collect`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Segments that are in the store now and no longer in the spool.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Records in parts that the store had not had before.
    pub new_records: u64,
    /// Numbers missing within these segments.
    pub missing: u64,
    /// Segments that are left for the next run.
    pub left: u64,
    /// Files moved aside, each with a reason.
    pub quarantined: Vec<String>,
    /// What could not be done; it is tried again by the next run.
    pub failed: Vec<String>,
    /// Everything that ended before this moment is in the store, as far as these spools go
    /// (microseconds UTC).
    pub complete_to_us: i64,
}

/// Collects every sealed segment of the given spools; segments of workers that are gone are sealed
/// first. Running it again, or twice at a time, changes nothing. It stops at the first failure of the
/// store, having deleted nothing that is not there.
pub async fn collect(store: &Store, dirs: &[PathBuf], now_us: i64) -> Collected {
    collect_some(store, dirs, now_us, u64::MAX, &mut |_, _| {}).await
}

/// The same, until so many bytes of segments were taken: the newest first, so that what is going on now
/// is known though there is much to catch up with.
pub async fn collect_some(
    store: &Store,
    dirs: &[PathBuf],
    now_us: i64,
    most_bytes: u64,
    progress: Progress<'_>,
) -> Collected {
    let mut done = Collected { complete_to_us: now_us, ..Collected::default() };
    let mut segments = Vec::new();
    for dir in dirs {
        // Live segments first: what is sealed meanwhile is then in the list of sealed ones.
        let begun_us = oldest_live_record(dir);
        match sealed(dir) {
            Ok(found) => segments.extend(found),
            Err(e) => {
                done.failed.push(e.to_string());
                done.complete_to_us = 0;
                continue;
            }
        }
        done.complete_to_us = done.complete_to_us.min(begun_us.unwrap_or(now_us));
    }
    segments.sort_by_key(|segment| Reverse(segment.modified));
    let mut bytes = 0;
    for (i, segment) in segments.iter().enumerate() {
        if bytes >= most_bytes {
            done.left = (segments.len() - i) as u64;
            done.complete_to_us = 0;
            break;
        }
        progress(i, segments.len());
        let taken = done.segments;
        if take(store, segment.dir, &segment.path, &mut done).await == Next::Stop {
            done.complete_to_us = 0;
            break;
        }
        // What can't be taken must not keep others back.
        bytes += if done.segments > taken { segment.bytes } else { 0 };
    }
    progress(segments.len() - done.left as usize, segments.len());
    done
}

/// A segment as its spool shows it.
struct Sealed<'a> {
    dir: &'a Path,
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

fn sealed(dir: &Path) -> Result<Vec<Sealed<'_>>, SpoolError> {
    seal_orphans(dir)?;
    let told = |path: PathBuf| {
        // Taking it tells what is wrong with it.
        let (bytes, modified) = match path.metadata() {
            Ok(meta) => (meta.len(), meta.modified().unwrap_or(SystemTime::UNIX_EPOCH)),
            Err(_) => (0, SystemTime::UNIX_EPOCH),
        };
        Sealed { dir, path, bytes, modified }
    };
    Ok(sealed_segments(dir)?.into_iter().map(told).collect())
}

/// When the oldest record ended that is in a segment still in use.
fn oldest_live_record(dir: &Path) -> Option<i64> {
    let first_record = |path: PathBuf| {
        let segment = Segment::open(path).ok()?;
        segment.records().find_map(|entry| match entry {
            Entry::Record { record, .. } => i64::try_from(record.time_us).ok(),
            _ => None,
        })
    };
    // A folder that can't be read fails again, and is told, when its sealed segments are listed.
    unsealed_segments(dir).unwrap_or_default().into_iter().filter_map(first_record).min()
}

#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// Takes one segment; whatever is wrong with it is noted and does not keep others back.
async fn take(store: &Store, dir: &Path, path: &Path, done: &mut Collected) -> Next {
    let segment = match Segment::open(path) {
        Ok(segment) => segment,
        Err(ReadError::Io(e)) if e.kind() == io::ErrorKind::NotFound => return Next::GoOn,
        Err(e @ (ReadError::Io(_) | ReadError::Version { .. })) => {
            done.failed.push(format!("{}: {e}", path.display()));
            return Next::GoOn;
        }
        Err(e) => {
            quarantine(dir, path, &e.to_string(), done);
            return Next::GoOn;
        }
    };
    let content = Content::of(&segment);
    let (records, missing) = (content.records.rows().len() as u64, content.missing());
    match content.put(store).await {
        Ok(new) => {
            done.segments += 1;
            done.records += records;
            done.new_records += new;
            done.missing += missing;
            if let Err(e) = remove(path) {
                done.failed.push(format!("{}: collected but not deleted: {e}", path.display()));
            }
            Next::GoOn
        }
        Err(e) => {
            done.failed.push(format!("{}: {e}", path.display()));
            done.complete_to_us = 0;
            if e.is_of_store() { Next::Stop } else { Next::GoOn }
        }
    }
}

/// Deletes a file; one that another collector has deleted is fine.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn quarantine(dir: &Path, path: &Path, reason: &str, done: &mut Collected) {
    let moved = move_aside(dir, path, reason);
    let told = format!("{}: {reason}", path.display());
    match moved {
        Ok(()) => done.quarantined.push(told),
        Err(e) => done.failed.push(format!("{told}; it could not be moved to {QUARANTINE}/ either: {e}")),
    }
}

fn move_aside(dir: &Path, path: &Path, reason: &str) -> io::Result<()> {
    let aside = dir.join(QUARANTINE);
    fs::create_dir_all(&aside)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    fs::write(aside.join(format!("{name}.reason")), format!("{reason}\n"))?;
    fs::rename(path, aside.join(name))
}

/// A segment, read.
struct Content {
    note: PartNote,
    records: Records,
    /// When the segment was begun, microseconds UTC.
    begun_us: i64,
}

impl Content {
    /// Reads what checks; what does not is a gap.
    fn of(segment: &Segment) -> Content {
        let header = segment.header();
        let mut note = PartNote {
            gateway: header.gateway.clone(),
            stream: format!("{:032x}", header.stream),
            segment: header.segment,
            boot: format!("{:032x}", header.boot),
            first: header.first_number,
            next: segment.next_number(),
            ..PartNote::default()
        };
        let mut records = Records::default();
        for entry in segment.records() {
            match entry {
                Entry::Record { number, record } => records.push(number, &record, true),
                Entry::Gap(gap) => {
                    note.gaps.push((gap.from, gap.to));
                    if gap.reason.is_declared() {
                        note.lost.entry(gap.reason.word().to_owned()).or_default().add(gap.from, gap.to);
                    }
                }
                // Their numbers are missing between the segments, and counted there.
                Entry::Dropped(dropped) => {
                    let stream = note.others.0.entry(format!("{:032x}", dropped.stream)).or_default();
                    stream.lost.entry(DROPPED.to_owned()).or_default().add(dropped.from, dropped.to);
                }
            }
        }
        // Notes of what was dropped are no worker's.
        if note.others.is_empty() {
            note.life = Some(life(segment, &records));
        }
        Content { note, records, begun_us: signed(header.created_us) }
    }

    fn missing(&self) -> u64 {
        self.note.gaps.iter().map(|(from, to)| to - from).sum()
    }

    /// Stores the parts, and says how many records are new to the store.
    async fn put(mut self, store: &Store) -> Result<u64, PartError> {
        let mut hours = self.records.by_hour();
        if hours.is_empty() {
            // A part without rows: its records are all lost, or it is a sign of life.
            hours.insert(Partition::at(Grain::Minute, self.begun_us), Records::default());
        }
        let mut new = 0;
        for (hour, records) in hours {
            let note = PartNote { held: records.numbers(), ..self.note.clone() };
            // Told once.
            self.note.lost.clear();
            let count = records.rows().len() as u64;
            if part::put(store, hour, &note, records).await? == Created::New {
                new += count;
            }
        }
        Ok(new)
    }
}

/// The reason of numbers that went with old segments when the spool reached its cap.
const DROPPED: &str = "dropped";

fn life(segment: &Segment, records: &Records) -> Life {
    let (from_us, to_us) = segment.alive_us();
    let newest_us = records.rows().iter().map(|row| row.time_us).max().unwrap_or(0);
    let end = match segment.ending() {
        None => End::Open,
        Some(Ending { by: SealedBy::Owner, last: Some(true), .. }) => End::Closed,
        Some(Ending { by: SealedBy::Owner, last: Some(false), .. }) => End::Open,
        // Nothing more will come of it, or it is of a version that does not say so.
        Some(_) => End::Died,
    };
    Life {
        gateway: segment.header().gateway.clone(),
        boot: format!("{:032x}", segment.header().boot),
        from_us: signed(from_us),
        to_us: signed(to_us).max(newest_us),
        end,
    }
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
