//! The spool's size cap: what goes when the collector stays away, and the note of what went.

use std::collections::BTreeMap;
use std::fs::File;

use crate::dir::{Dir, Role, SegmentName};
use crate::error::SpoolError;
use crate::names::Names;
use crate::options::Full;
use crate::pen::Pen;
use crate::reader::{Dropped, Entry, Segment};
use crate::seal;
use crate::segment::{Ending, SealedBy, SegmentHeader, aligned};

/// Notes form a stream of their own, whose id follows from the writer's, so that their segments are
/// collected like any other and take no name from it.
pub(crate) fn note_stream(stream: u128) -> u128 {
    stream ^ 0x6472_6f70_7065_6400_6e6f_7465_7300_0001
}

pub(crate) struct Cap {
    pub max_bytes: u64,
    /// What has to fit below the cap.
    pub needed: u64,
    pub full: Full,
}

/// Sees to it that a new segment fits below the cap. `room`: whether it does; `dropped`: how many
/// records went for it. `note` is the header of the segment that says so; its number is used up when
/// anything was dropped.
pub(crate) struct Room {
    pub room: bool,
    pub dropped: u64,
}

pub(crate) fn make_room(dir: &Dir, cap: &Cap, note: &mut SegmentHeader) -> Result<Room, SpoolError> {
    let (mut used, sealed) = measure(dir)?;
    let fits = |used: u64| used.saturating_add(cap.needed) <= cap.max_bytes;
    if fits(used) || cap.full == Full::Newest {
        return Ok(Room { room: fits(used), dropped: 0 });
    }
    // A sixteenth more than needed, so that not every new segment costs a note.
    let goal = cap.max_bytes - cap.max_bytes / 16;
    let mut victims = Vec::new();
    for found in sealed {
        if used.saturating_add(cap.needed) <= goal {
            break;
        }
        if let Some(victim) = Victim::take(dir, found.name) {
            used = used.saturating_sub(found.bytes);
            victims.push(victim);
        }
    }
    let dropped = drop_noted(dir, &victims, note)?;
    Ok(Room { room: fits(used), dropped })
}

struct Found {
    name: SegmentName,
    bytes: u64,
    sealed_at: (i64, u64),
}

/// Bytes on disk in all segment files, and the sealed ones, oldest first.
fn measure(dir: &Dir) -> Result<(u64, Vec<Found>), SpoolError> {
    let mut used = 0;
    let mut sealed = Vec::new();
    for (role, name) in dir.list()? {
        // Files that went meanwhile take no room.
        let Ok(stat) = dir.stat(&name.file(role)) else {
            continue;
        };
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        used += bytes;
        if role == Role::Sealed {
            let sealed_at = (stat.st_mtime, stat.st_mtime_nsec);
            sealed.push(Found { name, bytes, sealed_at });
        }
    }
    sealed.sort_by_key(|found| (found.sealed_at, found.name));
    Ok((used, sealed))
}

/// A segment about to be dropped. Its lock keeps other workers from dropping, and so noting, it too.
struct Victim {
    lock: File,
    name: SegmentName,
    from: u64,
    to: u64,
    records: BTreeMap<String, u64>,
}

impl Victim {
    /// `None` for segments that another worker is dropping, for those that hold notes, and for what
    /// cannot be opened.
    fn take(dir: &Dir, name: SegmentName) -> Option<Victim> {
        let lock = dir.take_lock(&name.file(Role::Sealed)).ok()??;
        let mut victim = Victim { lock, name, from: 0, to: 0, records: BTreeMap::new() };
        match Segment::read(&victim.lock) {
            Ok(segment) => victim.count(&segment).then_some(victim),
            Err(_) => {
                victim.records.insert(String::new(), 0);
                Some(victim)
            }
        }
    }

    fn count(&mut self, segment: &Segment) -> bool {
        (self.from, self.to) = (segment.header().first_number, segment.next_number());
        for entry in segment.records() {
            match entry {
                Entry::Record { record, .. } => match self.records.get_mut(record.client) {
                    Some(count) => *count += 1,
                    None => drop(self.records.insert(record.client.to_owned(), 1)),
                },
                Entry::Dropped(_) => return false,
                Entry::Gap(_) => {}
            }
        }
        true
    }

    fn notes(&self) -> impl Iterator<Item = Dropped<'_>> {
        self.records.iter().map(|(client, records)| Dropped {
            client,
            records: *records,
            stream: self.name.stream,
            segment: self.name.segment,
            from: self.from,
            to: self.to,
        })
    }
}

/// The note is durable before anything is removed: at worst it stands there and so does the segment.
fn drop_noted(dir: &Dir, victims: &[Victim], note: &mut SegmentHeader) -> Result<u64, SpoolError> {
    let notes: Vec<Dropped<'_>> = victims.iter().flat_map(Victim::notes).collect();
    if !notes.is_empty() {
        let name = SegmentName { stream: note.stream, segment: note.segment };
        seal::write_sealed(dir, name, &note_segment(note, &notes), &File::sync_all)?;
        note.segment += 1;
    }
    for victim in victims {
        let file = victim.name.file(Role::Sealed);
        dir.remove(&file).map_err(|e| dir.error("remove", &file, e))?;
    }
    Ok(notes.iter().map(|note| note.records).sum())
}

fn note_segment(header: &SegmentHeader, notes: &[Dropped<'_>]) -> Vec<u8> {
    let room: usize = notes.iter().map(|n| aligned(n.client.len() + 80)).sum();
    let memory = vec![0; header.bytes() + room + 64];
    let mut pen = Pen::begin(memory, header, 0, Names::new(0));
    for note in notes {
        // Cannot be full: the memory was measured for these notes.
        let _ = pen.note_dropped(note);
    }
    let used = pen.used();
    let (mut bytes, _) = pen.end();
    bytes.truncate(used);
    let ending = Ending {
        next_number: 0,
        sealed_us: header.created_us,
        by: SealedBy::Owner,
        reserved: 0,
        last: Some(true),
    };
    bytes.extend(ending.encode(header.seed()));
    bytes
}
