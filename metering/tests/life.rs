//! Signs of life: what a spool says of times in which there was nothing to book.

// It waits for the helper thread.
#![allow(clippy::disallowed_methods)]

mod common;

use std::path::Path;

use common::{START_US, books, eventually, files, options, record};
use weir_metering::{Segment, SpoolWriter, boot_id, seal_orphans, sealed_segments};

const SECOND_US: u64 = 1_000_000;

fn open(dir: &Path) -> SpoolWriter {
    SpoolWriter::open(options(dir), boot_id().unwrap(), 7, START_US).unwrap()
}

/// Index, life in seconds since the start, and whether it is the last, of each sealed segment.
fn lives(dir: &Path) -> Vec<(u32, u64, u64, Option<bool>)> {
    let secs = |us: u64| (us - START_US) / SECOND_US;
    let life = |segment: Segment| {
        let (from_us, to_us) = segment.alive_us();
        (segment.header().segment, secs(from_us), secs(to_us), segment.ending().unwrap().last)
    };
    sealed_segments(dir).unwrap().iter().map(|path| life(Segment::open(path).unwrap())).collect()
}

#[test]
fn a_worker_without_traffic_leaves_a_sign_of_life_each_minute_and_they_do_not_pile_up() {
    let temp = tempfile::tempdir().unwrap();
    let mut spool = open(temp.path());
    eventually("it is so", || spool.has_spare());
    spool.tick(START_US + 59 * SECOND_US);
    assert_eq!(spool.counts().segments, 0);
    for minute in 1..=5 {
        eventually("it is so", || spool.has_spare());
        spool.tick(START_US + minute * 60 * SECOND_US);
        eventually("it is so", || spool.counts().segments == minute);
    }
    // The helper removes what the next one says too right after it has sealed that.
    let want = [(0, 0, 60, Some(false)), (4, 240, 300, Some(false))];
    eventually("it is so", || lives(temp.path()) == want);
    // Traffic: nothing of the numbers is missing, and the end is told.
    eventually("it is so", || spool.has_spare());
    assert!(spool.append(&record(0)));
    spool.close(START_US + 310 * SECOND_US);
    assert_eq!(lives(temp.path())[1], (5, 300, 310, Some(true)));
    assert_eq!((books(temp.path())[&7].records, books(temp.path())[&7].missing.len()), (1, 0));
}

#[test]
fn a_worker_that_is_killed_left_a_sign_of_life_of_its_last_seconds() {
    let (temp, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut spool = open(temp.path());
    eventually("it is so", || files(temp.path(), "active-").len() == 1);
    spool.tick(START_US + 42 * SECOND_US);
    let active = temp.path().join(&files(temp.path(), "active-")[0]);
    eventually("it is so", || Segment::open(&active).unwrap().alive_us().1 == START_US + 42 * SECOND_US);
    assert!(spool.append(&record(0)));
    // What a death at this moment leaves.
    std::fs::copy(&active, left.path().join(active.file_name().unwrap())).unwrap();
    assert_eq!(seal_orphans(left.path()).unwrap(), 1);
    assert_eq!(lives(left.path()), [(0, 0, 42, Some(true))]);
}
