// It waits for the spool's own thread.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::memory::InMemory;
use weir_metering::{SpoolOptions, SpoolWriter};

use super::*;
use crate::testing::{Faulty, SAMPLE_START_US, all_rows, roll_up, runtime, sample_record};
use crate::{books, generation};

const BOOT: u128 = 77;

fn writer(dir: &Path, stream: u128) -> SpoolWriter {
    let options = SpoolOptions::new(dir, "gw-1");
    SpoolWriter::open(options, BOOT, stream, SAMPLE_START_US).unwrap()
}

/// Writes sample records as one segment of a new stream.
fn write(dir: &Path, seed: u64, numbers: std::ops::Range<u64>) {
    let mut writer = writer(dir, u128::from(seed));
    append(&mut writer, seed, numbers);
    writer.close(SAMPLE_START_US);
}

fn append(writer: &mut SpoolWriter, seed: u64, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert!(sample_record(seed, number, |record, _| writer.append(record)));
    }
}

fn memory() -> Store {
    Store::new(Arc::new(InMemory::new()))
}

fn collected(store: &Store, dir: &Path) -> Collected {
    runtime().block_on(collect(store, &[dir.to_owned()], 1_000))
}

#[test]
fn a_segment_becomes_a_part_for_each_hour_and_goes() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    write(dir.path(), 1, 0..700);
    let done = collected(&store, dir.path());
    assert_eq!((done.segments, done.records, done.new_records, done.missing), (1, 700, 700, 0));
    assert!(done.failed.is_empty() && done.complete_to_us == 1_000, "{done:?}");
    assert!(sealed_segments(dir.path()).unwrap().is_empty());
    let parts = runtime().block_on(store.list(part::RECORDS)).unwrap();
    let name = part::part_name(&format!("{:032x}", 1), 0);
    let paths: Vec<&str> = parts.iter().map(|o| o.path.as_str()).collect();
    let path = |hour: &str| format!("records/{hour}/{name}");
    assert_eq!(paths, [path("date=2026-12-31/hour=23"), path("date=2027-01-01/hour=00")]);
    let (records, note) = runtime().block_on(part::read_records(&store, paths[1])).unwrap();
    assert_eq!((note.gateway.as_str(), note.first, note.next), ("gw-1", 0, 700));
    assert_eq!(note.held, records.numbers());
}

#[test]
fn a_segment_that_comes_again_changes_nothing() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    write(dir.path(), 1, 0..50);
    let segment = sealed_segments(dir.path()).unwrap().remove(0);
    let copy = fs::read(&segment).unwrap();
    collected(&store, dir.path());
    let before = runtime().block_on(store.list("")).unwrap();
    fs::write(&segment, copy).unwrap();
    let again = collected(&store, dir.path());
    assert_eq!((again.segments, again.records, again.new_records), (1, 50, 0));
    assert_eq!(runtime().block_on(store.list("")).unwrap(), before);
    assert!(!segment.exists());
}

/// A machine and its running copy use one stream: who comes second keeps its segment, and says so.
#[test]
fn other_records_under_a_name_that_the_store_has_are_refused_and_kept() {
    let store = memory();
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(dir.path(), 1, 0..20);
    assert_eq!(collected(&store, dir.path()).new_records, 20);
    // As many records with the same numbers, of other requests; then fewer.
    for seed in [(2, 0..20), (1, 0..19)] {
        let mut writer = writer(copy.path(), 1);
        append(&mut writer, seed.0, seed.1);
        writer.close(SAMPLE_START_US);
        let done = collected(&store, copy.path());
        assert_eq!((done.segments, done.failed.len(), done.complete_to_us), (0, 1, 0), "{done:?}");
        assert!(done.failed[0].contains("a cloned spool?"), "{done:?}");
        let kept = sealed_segments(copy.path()).unwrap().remove(0);
        fs::remove_file(kept).unwrap();
    }
    let (records, _) = runtime().block_on(async {
        let path = store.list(part::RECORDS).await.unwrap().remove(0).path;
        part::read_records(&store, &path).await.unwrap()
    });
    assert_eq!(records.rows().len(), 20);
}

#[test]
fn while_the_store_is_away_nothing_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    (1..4).for_each(|seed| write(dir.path(), seed, 0..20));
    let store = Store::new(Arc::new(Faulty::after(Arc::default(), 0)));
    let done = collected(&store, dir.path());
    assert_eq!((done.segments, done.failed.len(), done.complete_to_us), (0, 1, 0), "{done:?}");
    assert_eq!(sealed_segments(dir.path()).unwrap().len(), 3);
}

#[test]
fn killed_at_any_operation_and_run_again_the_rows_are_the_same() {
    let tick = |store: &Store, dir: &Path| {
        let done = collected(store, dir);
        let rolled_up = runtime().block_on(roll_up(store, 0));
        done.failed.is_empty() && rolled_up.is_ok()
    };
    let spool = |dir: &Path| [(1, 595..605), (2, 0..4)].into_iter().for_each(|(s, n)| write(dir, s, n));
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    spool(dir.path());
    assert!(tick(&store, dir.path()));
    let want = runtime().block_on(all_rows(&store));
    for left in 0.. {
        let (dir, inner) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
        spool(dir.path());
        let faulty = Faulty::after(inner.clone(), left);
        let good = tick(&Store::new(Arc::new(faulty.clone())), dir.path());
        if !faulty.has_failed() {
            assert!(good && left > 20);
            break;
        }
        let store = Store::new(inner);
        assert!(!good && tick(&store, dir.path()), "killed at {left}");
        assert_eq!(runtime().block_on(all_rows(&store)), want, "killed at {left}");
    }
}

/// A time-out after success: what was stored is known again, and nothing was deleted meanwhile.
#[test]
fn a_put_whose_answer_is_lost_is_done_when_it_is_tried_again() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
    write(dir.path(), 1, 0..50);
    let mut tries = 0;
    while !sealed_segments(dir.path()).unwrap().is_empty() {
        let done = collected(&Store::new(Arc::new(Faulty::unanswering(inner.clone()))), dir.path());
        assert_eq!(done.segments as usize, done.failed.is_empty() as usize, "{done:?}");
        tries += 1;
        assert!(tries < 5, "it never ends");
    }
    assert!(tries > 1);
    let store = Store::new(inner);
    runtime().block_on(async {
        roll_up(&store, 0).await.unwrap();
        assert_eq!(store.list(part::RECORDS).await.unwrap().len(), 1);
        let rows = all_rows(&store).await;
        assert!(!rows.is_empty());
    });
}

#[test]
fn a_file_that_is_no_segment_is_moved_aside_and_others_are_taken() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    write(dir.path(), 1, 0..20);
    write(dir.path(), 2, 0..30);
    let broken = sealed_segments(dir.path()).unwrap().remove(0);
    fs::write(&broken, b"not a segment").unwrap();
    let done = collected(&store, dir.path());
    assert_eq!((done.segments, done.records, done.quarantined.len()), (1, 30, 1), "{done:?}");
    let aside = dir.path().join(QUARANTINE).join(broken.file_name().unwrap());
    assert_eq!(fs::read(&aside).unwrap(), b"not a segment");
    let reason = fs::read_to_string(format!("{}.reason", aside.display())).unwrap();
    assert!(reason.contains("not a segment"), "{reason}");
    assert_eq!(collected(&store, dir.path()), Collected { complete_to_us: 1_000, ..Collected::default() });
}

#[test]
fn damage_within_a_segment_costs_the_damaged_records_only() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    write(dir.path(), 1, 0..200);
    let segment = sealed_segments(dir.path()).unwrap().remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4].fill(0xff);
    fs::write(&segment, bytes).unwrap();
    let done = collected(&store, dir.path());
    assert!(done.missing >= 1 && done.missing < 10, "{done:?}");
    assert_eq!(done.records + done.missing, 200);
    let rolled_up = runtime().block_on(roll_up(&store, 0)).unwrap();
    assert!(rolled_up.failed.is_empty(), "{rolled_up:?}");
}

#[test]
fn what_live_segments_hold_is_not_complete_yet() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let now_us = SAMPLE_START_US as i64 + 60_000_000;
    let complete = || runtime().block_on(collect(&store, &[dir.path().to_owned()], now_us)).complete_to_us;
    let mut live = writer(dir.path(), 9);
    assert_eq!(complete(), now_us);
    append(&mut live, 9, 0..5);
    assert_eq!(complete(), SAMPLE_START_US as i64);
    live.close(SAMPLE_START_US);
    assert_eq!(complete(), now_us);
}

#[test]
fn a_worker_that_was_killed_leaves_its_records() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let mut writer = writer(dir.path(), 4);
    append(&mut writer, 4, 0..25);
    // What the kernel does at the death of a process: the lock goes, the file stays as it is.
    let copied = || {
        let other = tempfile::tempdir().unwrap();
        let paths = weir_metering::unsealed_segments(dir.path()).unwrap();
        let copy = |path: &PathBuf| fs::copy(path, other.path().join(path.file_name().unwrap()));
        paths.iter().try_for_each(|path| copy(path).map(drop)).map(|()| other)
    };
    // The spool's own thread may rename one in between.
    let other = (0..1000).find_map(|_| copied().ok()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut records = 0;
    while records < 25 {
        assert!(Instant::now() < deadline, "{records} of 25 records were collected");
        records += collected(&store, other.path()).records;
    }
    writer.close(SAMPLE_START_US);
}

/// A gateway without traffic for minutes, then with some, then stopped; and one that was killed.
#[test]
fn signs_of_life_become_times_that_are_known() {
    const MINUTE: u64 = 60_000_000;
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let mut idle = writer(dir.path(), 5);
    for minute in 1..=3 {
        let deadline = Instant::now() + Duration::from_secs(60);
        while idle.counts().segments < minute {
            idle.tick(SAMPLE_START_US + minute * MINUTE);
            assert!(Instant::now() < deadline, "no sign of life");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    idle.close(SAMPLE_START_US + 4 * MINUTE);
    let done = collected(&store, dir.path());
    assert_eq!((done.records, done.missing, done.failed.len()), (0, 0, 0), "{done:?}");
    runtime().block_on(async {
        roll_up(&store, 0).await.unwrap();
        let start = SAMPLE_START_US as i64;
        for grain in Grain::ALL {
            let newest = generation::newest(&store, Partition::at(grain, start)).await.unwrap().unwrap();
            let life =
                newest.note(&store).await.unwrap().streams.0[&format!("{:032x}", 5)].life.clone().unwrap();
            assert_eq!((life.from_us, life.to_us), (start, start + 4 * MINUTE as i64), "{grain:?}");
            assert_eq!((life.end, life.gateway.as_str()), (End::Closed, "gw-1"));
        }
        let read = books::read(&store, start, start + 3_600_000_000, Grain::Minute, None);
        let told = read.await.unwrap().platform.completeness.known;
        assert!(told.silent.is_empty() && told.knows(start, start + 4 * MINUTE as i64), "{told:?}");
        assert!(!told.knows(start, start + 5 * MINUTE as i64));
    });
}

#[test]
fn what_a_gateway_dropped_for_its_cap_is_told_as_such() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let options = SpoolOptions {
        segment_bytes: 64 << 10,
        max_bytes: 256 << 10,
        ..SpoolOptions::new(dir.path(), "gw-1")
    };
    let mut writer = SpoolWriter::open(options, BOOT, 9, SAMPLE_START_US).unwrap();
    for number in 0..20_000 {
        // Time for the next segment, so that old ones go and none is refused.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !writer.has_spare() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        sample_record(9, number % 500, |record, _| writer.append(record));
    }
    let counts = writer.close(SAMPLE_START_US + 60_000_000);
    assert!(counts.dropped > 0, "{counts:?}");
    collected(&store, dir.path());
    runtime().block_on(async {
        roll_up(&store, 0).await.unwrap();
        let start = SAMPLE_START_US as i64;
        let read = books::read(&store, start - 3_600_000_000, start + 3_600_000_000, Grain::Minute, None);
        let told = read.await.unwrap().platform.completeness;
        assert_eq!(told.known.lost.get(DROPPED), Some(&(counts.dropped as i64)), "{told:?}");
        assert_eq!(told.missing, (counts.dropped + counts.lost) as i64);
    });
}
