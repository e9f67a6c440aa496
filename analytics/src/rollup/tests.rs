//! The roll-up as a whole: whatever happens on the way, the rows are those of an undisturbed run.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;

use super::*;
use crate::calendar::HOUR_US;
use crate::fold::fold;
use crate::generation::read_usage;
use crate::table::{SUMS, Table};
use crate::testing::{
    Faulty, SAMPLE_START_US, all_rows, put_segment, roll_up, runtime, sample_records, stream_name, told,
};

fn memory() -> Store {
    Store::new(Arc::new(InMemory::new()))
}

/// (seed, segment, numbers): 1,500 records from ten to midnight on, of two streams.
const SEGMENTS: [(u64, u32, std::ops::Range<u64>); 6] =
    [(1, 0, 0..300), (1, 1, 300..500), (1, 2, 500..900), (2, 0, 0..200), (2, 1, 200..210), (2, 2, 210..600)];

async fn put_all(store: &Store) -> Result<(), PartError> {
    for (seed, segment, numbers) in SEGMENTS {
        put_segment(store, seed, segment, numbers).await?;
    }
    Ok(())
}

/// The rows of every grain as they must be, straight from the records.
fn expected() -> Vec<String> {
    let tables: Vec<Table> =
        SEGMENTS.map(|(seed, _, numbers)| Table::of_records(&sample_records(seed, numbers))).into();
    let tables: Vec<&Table> = tables.iter().collect();
    let mut all = Vec::new();
    for grain in Grain::ALL {
        let rows = told(&fold(&tables, grain).unwrap());
        all.extend(rows.into_iter().map(|row| format!("{} {row}", grain.word())));
    }
    all.sort();
    all
}

async fn sorted_rows(store: &Store) -> Vec<String> {
    let mut rows = all_rows(store).await;
    rows.sort();
    rows
}

#[test]
fn every_grain_holds_exactly_the_records_and_a_second_run_changes_nothing() {
    let store = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        let first = roll_up(&store, 0).await.unwrap();
        assert!(first.failed.is_empty() && first.parts > SEGMENTS.len() as u64, "{first:?}");
        assert_eq!(sorted_rows(&store).await, expected());
        let before = store.list("").await.unwrap();
        put_all(&store).await.unwrap();
        assert_eq!(roll_up(&store, 0).await.unwrap(), RolledUp::default());
        assert_eq!(store.list("").await.unwrap(), before);
    });
}

#[test]
fn sums_are_the_same_in_every_grain_for_every_client() {
    let store = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let mut by_grain: BTreeMap<Grain, BTreeMap<String, Vec<i64>>> = BTreeMap::new();
        for grain in Grain::ALL {
            for path in files(&store, grain).await.unwrap() {
                let (table, _): (Table, Note) = read_usage(&store, &path).await.unwrap();
                for row in 0..table.len() {
                    let client = table.names.get(table.texts[0][row]).to_owned();
                    let sums =
                        by_grain.entry(grain).or_default().entry(client).or_insert(vec![0; SUMS.len()]);
                    sums.iter_mut().zip(&table.sums).for_each(|(sum, column)| *sum += column[row]);
                }
            }
        }
        assert_eq!(by_grain[&Grain::Minute].values().map(|s| s[0]).sum::<i64>(), 1_500);
        assert!(by_grain.values().all(|clients| clients == &by_grain[&Grain::Minute]));
    });
}

#[test]
fn segments_in_any_order_and_any_portions_give_the_same_rows() {
    let want = expected();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..12 {
        let store = memory();
        let mut order = SEGMENTS;
        rng.shuffle(&mut order);
        runtime().block_on(async {
            for (seed, segment, numbers) in order {
                put_segment(&store, seed, segment, numbers).await.unwrap();
                if rng.bool() {
                    roll_up(&store, 0).await.unwrap();
                }
            }
            roll_up(&store, 0).await.unwrap();
            assert_eq!(sorted_rows(&store).await, want);
        });
    }
}

/// Two segments around midnight, as two ticks take them.
async fn two_ticks(store: &Store) -> Result<(), RollupError> {
    for (seed, numbers) in [(1, 595..605), (2, 598..608)] {
        put_segment(store, seed, 0, numbers).await?;
        roll_up(store, 0).await?;
    }
    Ok(())
}

#[test]
fn killed_at_any_operation_and_run_again_the_rows_are_the_same() {
    let undisturbed = memory();
    let want = runtime().block_on(async {
        two_ticks(&undisturbed).await.unwrap();
        all_rows(&undisturbed).await
    });
    // Killed before an operation is the same as killed after the one before it.
    for left in 0.. {
        let inner = Arc::new(InMemory::new());
        let faulty = Faulty::after(inner.clone(), left);
        let killed = runtime().block_on(two_ticks(&Store::new(Arc::new(faulty.clone()))));
        if !faulty.has_failed() {
            assert!(left > 40, "only {left} operations were tried");
            break;
        }
        assert!(killed.is_err(), "operation {left} failed and nobody said so");
        let store = Store::new(inner);
        runtime().block_on(async {
            two_ticks(&store).await.unwrap();
            assert_eq!(all_rows(&store).await, want, "killed at {left}");
        });
    }
}

/// Puts all segments and rolls up in between, so that there is something superseded.
async fn put_in_two_runs(store: &Store) {
    for (seed, segment, numbers) in SEGMENTS {
        put_segment(store, seed, segment, numbers).await.unwrap();
        if segment == 1 {
            roll_up(store, 0).await.unwrap();
        }
    }
    roll_up(store, 0).await.unwrap();
}

#[test]
fn several_runs_at_once_book_everything_once() {
    let store = memory();
    runtime().block_on(async {
        let runs = (0..4).map(|_| async {
            put_all(&store).await.unwrap();
            roll_up(&store, 0).await.unwrap()
        });
        let runs = futures::future::join_all(runs).await;
        assert!(runs.iter().all(|run| run.failed.is_empty()), "{runs:?}");
        roll_up(&store, 0).await.unwrap();
        assert_eq!(sorted_rows(&store).await, expected());
    });
}

#[test]
fn late_records_reopen_every_grain() {
    let store = memory();
    runtime().block_on(async {
        for (seed, segment, numbers) in SEGMENTS.into_iter().skip(1) {
            put_segment(&store, seed, segment, numbers).await.unwrap();
        }
        roll_up(&store, 0).await.unwrap();
        // Two years on, the queue is long empty.
        let later_us = SAMPLE_START_US as i64 + 17_520 * HOUR_US;
        roll_up(&store, later_us).await.unwrap();
        assert!(store.list(part::QUEUE).await.unwrap().is_empty());
        let (seed, segment, numbers) = SEGMENTS[0].clone();
        put_segment(&store, seed, segment, numbers).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        assert_eq!(sorted_rows(&store).await, expected());
    });
}

#[test]
fn what_is_superseded_goes_after_an_hour_and_a_segment_that_comes_again_is_ignored() {
    let store = memory();
    runtime().block_on(async {
        put_in_two_runs(&store).await;
        let made_us = store.list("").await.unwrap().iter().map(|o| o.modified_us).max().unwrap();
        let soon = roll_up(&store, made_us + HOUR_US - 10_000_000).await.unwrap();
        assert_eq!(soon, RolledUp::default());
        let later = roll_up(&store, made_us + 2 * HOUR_US).await.unwrap();
        assert!(later.deleted > 6, "{later:?}");
        for grain in Grain::ALL {
            let folder = format!("usage/grain={}", grain.word());
            assert_eq!(store.list(&folder).await.unwrap().len(), files(&store, grain).await.unwrap().len());
        }
        assert!(store.list(part::QUEUE).await.unwrap().is_empty());
        put_all(&store).await.unwrap();
        let again = roll_up(&store, made_us).await.unwrap();
        assert_eq!((again.parts, again.generations), (0, 0));
        assert_eq!(sorted_rows(&store).await, expected());
    });
}

#[test]
fn a_stale_generation_of_a_slow_writer_is_ignored() {
    let store = memory();
    runtime().block_on(async {
        put_in_two_runs(&store).await;
        let hour = Partition::at(Grain::Minute, SAMPLE_START_US as i64);
        let old = generation::all(&store, hour).await.unwrap().remove(0);
        let (table, note) = old.read(&store).await.unwrap();
        store.delete(&old.object.path).await.unwrap();
        // Whoever slept for an hour writes the number that was tidied up meanwhile.
        generation::create(&store, hour, old.number, part::usage_file(&table, &note).unwrap()).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        assert_eq!(sorted_rows(&store).await, expected());
    });
}

fn queued(stream: u64) -> String {
    let hour = Partition::at(Grain::Minute, SAMPLE_START_US as i64);
    format!("{}/{}/{}", part::QUEUE, hour.key(), part::part_name(&stream_name(stream), 0))
}

async fn damage(store: &Store, path: &str) {
    store.delete(path).await.unwrap();
    store.create(path, Bytes::from_static(b"PAR1 not really PAR1")).await.unwrap();
}

#[test]
fn a_damaged_part_is_made_again_from_its_records() {
    let store = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        damage(&store, &queued(1)).await;
        let run = roll_up(&store, 0).await.unwrap();
        assert!(run.failed.is_empty(), "{run:?}");
        assert_eq!(sorted_rows(&store).await, expected());
    });
}

#[test]
fn a_part_that_is_beyond_repair_does_not_keep_others_back() {
    let store = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        damage(&store, &queued(1)).await;
        damage(&store, &queued(1).replace(part::QUEUE, part::RECORDS)).await;
        let run = roll_up(&store, 0).await.unwrap();
        assert_eq!(run.failed.len(), 1, "{run:?}");
        assert!(run.failed[0].contains(&queued(1)), "{run:?}");
        let requests: i64 = month(&store).await.requests();
        assert_eq!(requests, 1_500 - 300);
    });
}

async fn month(store: &Store) -> Table {
    let mut tables = Vec::new();
    for path in files(store, Grain::Month).await.unwrap() {
        tables.push(read_usage::<Note>(store, &path).await.unwrap().0);
    }
    fold(&tables.iter().collect::<Vec<_>>(), Grain::Month).unwrap()
}

#[test]
fn a_lost_queue_is_rebuilt_from_the_records() {
    let store = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        for object in store.list(part::QUEUE).await.unwrap() {
            store.delete(&object.path).await.unwrap();
        }
        assert_eq!(roll_up(&store, 0).await.unwrap(), RolledUp::default());
        rebuild(&store, 0, &mut |_, _| {}).await.unwrap();
        assert_eq!(sorted_rows(&store).await, expected());
    });
}

#[test]
fn a_range_that_is_rolled_up_again_has_the_same_rows() {
    let store = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        let again = || async { roll_up_again(&store, i64::MIN..i64::MAX, &mut |_, _| {}).await };
        assert_eq!(again().await.unwrap(), RolledUp::default());
        // Somebody tampers with minutes and with a month.
        let (hour, year) = (Partition::at(Grain::Minute, SAMPLE_START_US as i64), SAMPLE_START_US as i64);
        for partition in [hour, Partition::at(Grain::Month, year)] {
            let newest = generation::newest(&store, partition).await.unwrap().unwrap();
            let (mut table, note) = newest.read(&store).await.unwrap();
            table.sums[0][0] += 7;
            generation::create(
                &store,
                partition,
                newest.number + 1,
                part::usage_file(&table, &note).unwrap(),
            )
            .await
            .unwrap();
        }
        let elsewhere = hour.end_us() + 40 * HOUR_US;
        let run = roll_up_again(&store, elsewhere..i64::MAX, &mut |_, _| {}).await.unwrap();
        assert_eq!(run, RolledUp::default());
        assert_ne!(sorted_rows(&store).await, expected());
        let run = again().await.unwrap();
        assert!(run.failed.is_empty() && run.generations > 1, "{run:?}");
        assert_eq!(sorted_rows(&store).await, expected());
        assert_eq!(again().await.unwrap(), RolledUp::default());
    });
}

#[test]
fn what_has_no_records_any_more_is_not_made_again() {
    let store = memory();
    runtime().block_on(async {
        put_all(&store).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        store.delete(&queued(1).replace(part::QUEUE, part::RECORDS)).await.unwrap();
        let run = roll_up_again(&store, i64::MIN..i64::MAX, &mut |_, _| {}).await.unwrap();
        assert!(run.failed[0].contains("can't be made again"), "{run:?}");
        assert_eq!(sorted_rows(&store).await, expected());
    });
}
