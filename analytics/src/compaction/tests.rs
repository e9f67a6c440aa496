//! Whatever happens on the way, every record is read once.

use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::audit::{Given, audit};
use crate::books;
use crate::calendar::HOUR_US;
use crate::retention::{Keep, retain, retain_daily};
use crate::rollup::{self, roll_up_again};
use crate::testing::{Faulty, SAMPLE_START_US, all_rows, put_segment, roll_up, runtime};

const HOURS: i64 = 24 * HOUR_US;
const START_US: i64 = SAMPLE_START_US as i64;

/// After the hours of the samples, and long after everything was written.
const OVER_US: i64 = START_US + HOURS;

fn first_hour() -> Partition {
    Partition::at(crate::view::Grain::Minute, START_US)
}

fn memory() -> (Arc<InMemory>, Store) {
    let inner = Arc::new(InMemory::new());
    (inner.clone(), Store::new(inner))
}

/// Twelve segments of two streams, before midnight and after it.
async fn put_all(store: &Store) -> Result<(), PartError> {
    for segment in 0..6 {
        for seed in [1, 2] {
            let from = 580 + u64::from(segment) * 10;
            put_segment(store, seed, segment, from..from + 10).await?;
        }
    }
    Ok(())
}

/// All records as they are read, sorted.
async fn told(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    let mut each = |records: &Records| {
        for row in records.rows() {
            let text = |at: u32| records.names().get(at);
            let names = [row.gateway, row.stream, row.client, row.tier, row.endpoint, row.method, row.limit];
            let sums = (row.sums(), row.status, row.upstream_us, row.policy_version);
            all.push(format!("{} {:?} {} {sums:?}", row.time_us, names.map(text), row.number));
        }
    };
    books::records(store, i64::MIN..i64::MAX, &mut each).await.unwrap();
    all.sort();
    all
}

async fn names(store: &Store) -> Vec<String> {
    store.list(part::RECORDS).await.unwrap().into_iter().map(|o| o.name().to_owned()).collect()
}

fn small(names: &[String]) -> usize {
    names.iter().filter(|name| !name.starts_with('b')).count()
}

async fn is_sound(store: &Store) {
    let given = Given { skew_us: 0, records_from_us: 0 };
    let done = audit(store, None, START_US..OVER_US, given, &mut |_, _| {}).await.unwrap();
    let bad: Vec<_> = done.breaches.iter().filter(|b| b.kind != "silent" && b.kind != "gap").collect();
    assert!(bad.is_empty() && done.records == 120, "{done:?}");
    assert!(!done.breaches.iter().any(|b| b.evidence.contains("segments that")), "{done:?}");
}

#[test]
fn an_hour_that_is_over_becomes_one_file_and_every_record_stays() {
    let (_, store) = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let (want, rows, parts) = (told(&store).await, all_rows(&store).await, small(&names(&store).await));
        assert_eq!((want.len(), parts), (120, 14));
        let done = roll_up(&store, OVER_US).await.unwrap();
        assert!(done.failed.is_empty() && done.bundles == 2, "{done:?}");
        assert_eq!(told(&store).await, want);
        is_sound(&store).await;
        // All of it was written long before.
        assert_eq!(small(&names(&store).await), 0);
        let again = roll_up(&store, OVER_US).await.unwrap();
        assert_eq!((again.bundles, again.deleted), (0, 0));
        assert_eq!(told(&store).await, want);
        assert_eq!(all_rows(&store).await, rows);
        is_sound(&store).await;
        let note = &Files::of_hour(&store, first_hour()).await.unwrap().bundles[0].note;
        assert_eq!(note.of.values().map(|w| (&*w.gateway, &*w.boot)).collect::<Vec<_>>(), [("gw", "b"); 2]);
    });
}

#[test]
fn parts_stay_for_an_hour_and_are_read_no_more() {
    let (_, store) = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let want = told(&store).await;
        let hour = first_hour();
        let of_hour = Files::of_hour(&store, hour).await.unwrap().parts;
        let oldest_us = of_hour.iter().map(|part| part.modified_us).min().unwrap();
        // Neither while something may still come, nor what minutes do not list.
        let done = compact(&store, hour, oldest_us + QUIET_US - 1, 2).await.unwrap();
        assert_eq!((done.bundles, done.deleted), (0, 0));
        put_segment(&store, 3, 0, 580..590).await.unwrap();
        let done = compact(&store, hour, oldest_us + QUIET_US + MINUTE_US, 2).await.unwrap();
        assert_eq!((done.bundles, done.deleted, done.is_done), (1, 0, false));
        let files = Files::of_hour(&store, hour).await.unwrap();
        assert_eq!((files.bundles.len(), files.parts.len(), files.bundled.len()), (1, 1, 6));
        let now: Vec<String> = told(&store).await.into_iter().filter(|row| !row.contains("0003\"")).collect();
        assert_eq!(now, want);
        let made_us = files.bundles[0].object.modified_us;
        assert!(!compact(&store, hour, made_us + KEPT_US - 1, 2).await.unwrap().is_done);
        let done = compact(&store, hour, made_us + KEPT_US, 2).await.unwrap();
        assert_eq!((done.deleted, done.is_done), (6, true));
    });
}

#[test]
fn killed_at_any_operation_and_run_again_every_record_is_there_once() {
    let (_, undisturbed) = memory();
    let (want, rows) = runtime().block_on(async {
        put_all(&undisturbed).await.unwrap();
        roll_up(&undisturbed, 0).await.unwrap();
        (told(&undisturbed).await, all_rows(&undisturbed).await)
    });
    for left in 0.. {
        let (inner, store) = memory();
        let faulty = Faulty::after(inner, left);
        let killed = runtime().block_on(async {
            put_all(&store).await.unwrap();
            roll_up(&store, 0).await.unwrap();
            roll_up(&Store::new(Arc::new(faulty.clone())), OVER_US).await
        });
        runtime().block_on(async {
            assert_eq!(told(&store).await, want, "killed at {left}");
            for _ in 0..3 {
                assert!(roll_up(&store, OVER_US).await.unwrap().failed.is_empty());
                assert_eq!(told(&store).await, want, "killed at {left}, run again");
            }
            assert_eq!(small(&names(&store).await), 0, "killed at {left}");
            assert!(store.list(part::QUEUE).await.unwrap().is_empty(), "killed at {left}");
            assert_eq!(all_rows(&store).await, rows);
        });
        if !faulty.has_failed() {
            assert!(left > 40, "only {left} operations were tried");
            break;
        }
        assert!(killed.is_err(), "operation {left} failed and nobody said so");
    }
}

#[test]
fn an_answer_that_is_lost_doubles_nothing() {
    let (inner, store) = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let want = told(&store).await;
        let unanswered = Store::new(Arc::new(Faulty::unanswering(inner)));
        assert!(roll_up(&unanswered, OVER_US).await.is_err());
        assert_eq!(told(&store).await, want);
        roll_up(&store, OVER_US).await.unwrap();
        assert_eq!(told(&store).await, want);
        is_sound(&store).await;
    });
}

#[test]
fn several_jobs_at_once_put_every_record_into_one_bundle() {
    let (_, store) = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let want = told(&store).await;
        let runs = (0..4).map(|_| roll_up(&store, OVER_US));
        for run in futures::future::join_all(runs).await {
            assert!(run.unwrap().failed.is_empty());
        }
        assert_eq!(told(&store).await, want);
        let files = Files::of_hour(&store, first_hour()).await.unwrap();
        assert_eq!((files.bundles.len(), files.segments()), (1, 6));
        is_sound(&store).await;
    });
}

#[test]
fn large_hours_become_several_files_of_bounded_size() {
    let (_, store) = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let (want, hour) =
            (told(&store).await, Partition::at(crate::view::Grain::Minute, OVER_US - HOURS + HOUR_US));
        let done = compact_of(&store, hour, OVER_US, 2, 25).await.unwrap();
        assert_eq!((done.bundles, done.deleted), (4, 8));
        assert_eq!(told(&store).await, want);
        for bundle in Files::of_hour(&store, hour).await.unwrap().bundles {
            assert!(bundle.note.held.streams.count() <= 25);
        }
    });
}

#[test]
fn what_comes_late_waits_for_more_or_for_the_night() {
    let (_, store) = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        roll_up(&store, OVER_US).await.unwrap();
        for segment in 10..13 {
            let from = 300 + u64::from(segment) * 10;
            put_segment(&store, 1, segment, from..from + 10).await.unwrap();
        }
        roll_up(&store, OVER_US).await.unwrap();
        let (want, files) = (told(&store).await, Files::of_hour(&store, first_hour()).await.unwrap());
        assert_eq!((want.len(), files.bundles.len(), files.parts.len()), (150, 1, 3));
        let keep = Keep { records_days: 1000, minute_days: 1000, hour_days: 1000 };
        let done = retain_daily(&store, &keep, OVER_US).await.unwrap().unwrap();
        assert!(done.failed.is_empty() && done.bundles == 1, "{done:?}");
        let files = Files::of_hour(&store, first_hour()).await.unwrap();
        assert_eq!((files.bundles.len(), files.parts.len(), files.bundled.len()), (2, 0, 0));
        assert_eq!(told(&store).await, want);
    });
}

#[test]
fn a_segment_that_comes_again_does_not_count_and_one_with_other_records_is_kept_and_told() {
    let (_, store) = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let want = told(&store).await;
        roll_up(&store, OVER_US).await.unwrap();
        roll_up(&store, OVER_US).await.unwrap();
        put_segment(&store, 1, 0, 580..590).await.unwrap();
        assert_eq!(told(&store).await, want);
        let files = Files::of_hour(&store, first_hour()).await.unwrap();
        assert_eq!(files.bundled.len(), 1);
        assert!(roll_up(&store, OVER_US).await.unwrap().failed.is_empty());
        assert_eq!(small(&names(&store).await), 0);
        // A machine that runs as a copy of another.
        put_segment(&store, 2, 1, 570..580).await.unwrap();
        let path =
            store.list(part::RECORDS).await.unwrap().into_iter().find(|o| small(&[o.name().to_owned()]) == 1);
        for _ in 0..2 {
            let done = roll_up(&store, OVER_US).await.unwrap();
            assert!(done.failed.iter().any(|told| told.contains("cloned spool")), "{done:?}");
            assert!(names(&store).await.contains(&path.as_ref().unwrap().name().to_owned()));
        }
        assert_eq!(told(&store).await, want);
        is_sound(&store).await;
    });
}

#[test]
fn everything_can_be_rolled_up_again_from_bundles_and_leaves_with_the_records() {
    let (_, store) = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let rows = all_rows(&store).await;
        for _ in 0..2 {
            roll_up(&store, OVER_US).await.unwrap();
        }
        let again = roll_up_again(&store, i64::MIN..i64::MAX, &mut |_, _| {}).await.unwrap();
        assert_eq!((again.generations, again.failed.len()), (0, 0), "{again:?}");
        for object in store.list("usage").await.unwrap() {
            store.delete(&object.path).await.unwrap();
        }
        let done = rollup::rebuild(&store, OVER_US, &mut |_, _| {}).await.unwrap();
        assert!(done.failed.is_empty(), "{done:?}");
        assert_eq!(all_rows(&store).await, rows);
        let keep = Keep { records_days: 1, minute_days: 1000, hour_days: 1000 };
        let kept = retain(&store, &keep, OVER_US).await.unwrap();
        assert_eq!((kept.records, kept.failed.len()), (0, 0));
        let done = retain(&store, &keep, OVER_US + 2 * HOURS).await.unwrap();
        assert_eq!((done.records, done.failed.len()), (2, 0));
        assert!(told(&store).await.is_empty());
        assert_eq!(all_rows(&store).await, rows);
    });
}

#[test]
fn a_part_that_cant_be_read_is_told_and_the_others_are_compacted() {
    let (inner, store) = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let path = store.list(part::RECORDS).await.unwrap().remove(0).path;
        use object_store::ObjectStoreExt;
        inner.put(&path.as_str().into(), "torn".into()).await.unwrap();
        let done = roll_up(&store, OVER_US).await.unwrap();
        assert!(done.bundles == 2 && done.failed.iter().any(|told| told.contains(&path)), "{done:?}");
        assert_eq!(small(&names(&store).await), 1);
    });
}
