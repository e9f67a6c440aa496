//! Death between the steps of sealing, and syncs that fail.

use std::cell::Cell;
use std::path::PathBuf;

use crate::dir::{Dir, Role, SegmentName, Trust};
use crate::error::SpoolError;
use crate::names::Names;
use crate::pen::Pen;
use crate::reader::Segment;
use crate::seal::{Sealer, Unsealed, seal, tail};
use crate::segment::SealedBy;
use crate::segment::SegmentHeader;
use crate::sweep::sweep;
use crate::{Decision, Record};
use std::fs::File;
use std::io;

const NAME: SegmentName = SegmentName { stream: 5, segment: 1 };

fn header(first_number: u64) -> SegmentHeader {
    SegmentHeader {
        gateway: "gw".to_owned(),
        boot: 1,
        stream: NAME.stream,
        first_number,
        segment: NAME.segment,
        created_us: 10,
    }
}

fn unsealed(first_number: u64, records: u64) -> Vec<u8> {
    written(&header(first_number), records)
}

fn written(header: &SegmentHeader, records: u64) -> Vec<u8> {
    let first_number = header.first_number;
    let mut pen = Pen::begin(vec![0; 65536], header, first_number + 50, Names::new(1));
    let record = Record {
        time_us: 11,
        client: "acme",
        tier: "free",
        endpoint: "orders",
        method: "GET",
        status: 200,
        latency_us: 1,
        upstream_us: None,
        bytes_in: 1,
        bytes_out: 1,
        decision: Decision::Passed,
        limit: "",
        policy_version: 1,
    };
    (0..records).for_each(|i| pen.append(first_number + i, &record, &Cell::default()).unwrap());
    pen.end().0
}

struct Spool {
    temp: tempfile::TempDir,
    dir: Dir,
}

impl Spool {
    fn with(files: &[(Role, &[u8])]) -> Spool {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path(), Trust::Owner).unwrap();
        for (role, content) in files {
            std::fs::write(dir.join(&NAME.file(*role)), content).unwrap();
        }
        Spool { temp, dir }
    }

    fn sealed(&self) -> PathBuf {
        self.dir.join(&NAME.file(Role::Sealed))
    }

    /// Sweeps in the same boot and wants one sealed segment with ten records and no other file.
    fn ends_well(&self) -> Segment {
        sweep(&self.dir, Some(1)).unwrap();
        assert_eq!(std::fs::read_dir(self.temp.path()).unwrap().count(), 1);
        let segment = Segment::open(self.sealed()).unwrap();
        assert_eq!(segment.records().count(), 10);
        assert_eq!(segment.next_number(), 10);
        segment
    }
}

/// The image that sealing leaves before it renames.
fn ended(content: &[u8]) -> Vec<u8> {
    let segment = Segment::from_bytes(content.to_vec()).unwrap();
    let sealer = Sealer::Owner { next_number: 10, sealed_us: 77, last: false };
    [segment.content(), tail(&segment, sealer)].concat()
}

#[test]
fn a_death_between_any_two_steps_is_made_good() {
    let open = unsealed(0, 10);
    let whole = ended(&open);
    let used = Segment::from_bytes(open.clone()).unwrap().used();
    // While the end entry is being written: each of its bytes.
    for written in 0..=whole.len() - used {
        let mut image = open.clone();
        image[..used + written].copy_from_slice(&whole[..used + written]);
        Spool::with(&[(Role::Active, &image)]).ends_well();
    }
    // Truncated, not renamed: the owner's word on the end stands.
    let segment = Spool::with(&[(Role::Active, &whole)]).ends_well();
    assert_eq!(segment.ending().unwrap().sealed_us, 77);
    assert_eq!(segment.ending().unwrap().by, SealedBy::Owner);
    // In use under the name it was made with.
    Spool::with(&[(Role::Spare, &open)]).ends_well();
    // A copy cut off; a copy complete; the copy renamed, the original still there.
    Spool::with(&[(Role::Active, &open), (Role::Copy, &whole[..500])]).ends_well();
    Spool::with(&[(Role::Active, &open), (Role::Copy, &whole)]).ends_well();
    Spool::with(&[(Role::Active, &open), (Role::Sealed, &whole)]).ends_well();
}

#[test]
fn two_different_segments_of_one_name_are_both_kept() {
    let (ours, theirs) = (unsealed(0, 10), ended(&unsealed(0, 9)));
    let spool = Spool::with(&[(Role::Active, &ours), (Role::Sealed, &theirs)]);
    assert!(matches!(sweep(&spool.dir, None), Err(SpoolError::Exists { .. })));
    assert_eq!(std::fs::read(spool.sealed()).unwrap(), theirs);
    let kept = Segment::open(spool.dir.join(&NAME.file(Role::Active))).unwrap();
    assert_eq!(kept.records().count(), 10);
}

#[test]
fn a_failed_sync_is_not_taken_for_done_when_it_succeeds_later() {
    let spool = Spool::with(&[(Role::Active, &unsealed(0, 10))]);
    let file = spool.dir.take_lock(&NAME.file(Role::Active)).unwrap().unwrap();
    let inode = rustix::fs::fstat(&file).unwrap().st_ino;
    let from = Unsealed { file: &file, name: NAME, role: Role::Active, suspect: false };
    let syncs = Cell::new(0);
    let fail_once = |file: &File| {
        syncs.set(syncs.get() + 1);
        if syncs.get() == 1 { Err(io::ErrorKind::Other.into()) } else { file.sync_all() }
    };
    let sealer = Sealer::Owner { next_number: 10, sealed_us: 1, last: false };
    assert_eq!(seal(&spool.dir, &from, sealer, &fail_once).unwrap().records(), 10);
    assert_eq!(syncs.get(), 2);
    spool.ends_well();
    assert_ne!(spool.dir.stat(&NAME.file(Role::Sealed)).unwrap().st_ino, inode);
}

#[test]
fn as_long_as_no_sync_succeeds_nothing_is_called_sealed() {
    let spool = Spool::with(&[(Role::Active, &unsealed(0, 10))]);
    let file = spool.dir.take_lock(&NAME.file(Role::Active)).unwrap().unwrap();
    let from = Unsealed { file: &file, name: NAME, role: Role::Active, suspect: false };
    let sealer = Sealer::Owner { next_number: 10, sealed_us: 1, last: false };
    let fail = |_: &File| Err(io::ErrorKind::Other.into());
    assert!(seal(&spool.dir, &from, sealer, &fail).is_err());
    assert!(!spool.sealed().exists());
    drop(file);
    spool.ends_well();
}

#[test]
fn an_empty_segment_stays_as_long_as_it_knows_a_number_or_a_life() {
    let first = written(&SegmentHeader { segment: 0, ..header(0) }, 0);
    let empty = Spool::with(&[(Role::Active, &first)]);
    assert_eq!(sweep(&empty.dir, Some(1)).unwrap(), 0);
    assert_eq!(std::fs::read_dir(empty.temp.path()).unwrap().count(), 0);
    // Others went before it: it says what became of their stream.
    let idle = Spool::with(&[(Role::Active, &unsealed(0, 0))]);
    assert_eq!(sweep(&idle.dir, Some(1)).unwrap(), 1);
    assert_eq!(Segment::open(idle.sealed()).unwrap().ending().unwrap().last, Some(true));
    // After a restart the reservation is all that tells of what a power cut took.
    let restarted = Spool::with(&[(Role::Active, &unsealed(0, 0))]);
    assert_eq!(sweep(&restarted.dir, Some(2)).unwrap(), 1);
    assert_eq!(Segment::open(restarted.sealed()).unwrap().possibly_lost(), 50);
    let later = Spool::with(&[(Role::Active, &unsealed(300, 0))]);
    assert_eq!(sweep(&later.dir, Some(1)).unwrap(), 1);
    assert_eq!(Segment::open(later.sealed()).unwrap().next_number(), 300);
}
