//! Retention on a store in memory, whose objects are as old as the clock that is handed in makes them.

use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::calendar::HOUR_US;
use crate::fold::fold;
use crate::part::PartNote;
use crate::rollup::files;
use crate::testing::{Faulty, SAMPLE_START_US, put_segment, roll_up, runtime, sample_records, told};
use crate::traffic::{Like, Traffic};

const KEEP: Keep = Keep { records_days: 35, minute_days: 30, hour_days: 365 };

/// 900 records of one stream from ten to midnight on new year's eve.
async fn filled() -> Store {
    let store = Store::new(Arc::new(InMemory::new()));
    for (segment, numbers) in [(0, 0..500), (1, 500..900)] {
        put_segment(&store, 1, segment, numbers).await.unwrap();
    }
    roll_up(&store, 0).await.unwrap();
    store
}

/// So many days after both the records' time and the objects' (this machine's clock may be earlier or
/// later than that).
async fn days_on(store: &Store, days: i64) -> i64 {
    let made_us = store.list("").await.unwrap().iter().map(|o| o.modified_us).max().unwrap();
    made_us.max(SAMPLE_START_US as i64) + days * DAY_US
}

async fn requests(store: &Store, grain: Grain) -> i64 {
    let mut sum = 0;
    for path in files(store, grain).await.unwrap() {
        sum += generation::read_usage::<Note>(store, &path).await.unwrap().0.requests();
    }
    sum
}

async fn parts_of_records(store: &Store) -> usize {
    store.list(RECORDS).await.unwrap().len()
}

#[test]
fn each_kind_goes_at_its_age_and_days_and_months_stay() {
    runtime().block_on(async {
        let store = filled().await;
        let months = {
            let records = sample_records(1, 0..900);
            told(&fold(&[&Table::of_records(&records)], Grain::Month).unwrap())
        };
        let begun_us = days_on(&store, 0).await;
        // Age in days -> requests left in minutes, hours; parts of records.
        for (days, minutes, hours, parts) in
            [(29, 900, 900, 3), (31, 0, 900, 3), (36, 0, 900, 0), (364, 0, 900, 0), (440, 0, 0, 0)]
        {
            let run = retain(&store, &KEEP, begun_us + days * DAY_US).await.unwrap();
            assert!(run.failed.is_empty(), "{run:?}");
            let left = (requests(&store, Grain::Minute).await, requests(&store, Grain::Hour).await);
            assert_eq!(left, (minutes, hours), "after {days} days");
            assert_eq!(parts_of_records(&store).await, parts, "after {days} days");
            let again = retain(&store, &KEEP, begun_us + days * DAY_US).await.unwrap();
            assert_eq!(again, Retained::default(), "after {days} days");
        }
        assert_eq!(requests(&store, Grain::Day).await, 900);
        let mut rows = Vec::new();
        for path in files(&store, Grain::Month).await.unwrap() {
            rows.extend(told(&generation::read_usage::<Note>(&store, &path).await.unwrap().0));
        }
        rows.sort();
        let mut months = months;
        months.sort();
        assert_eq!(rows, months);
    });
}

#[test]
fn what_comes_late_is_added_and_what_comes_again_is_not() {
    runtime().block_on(async {
        let store = filled().await;
        let begun_us = days_on(&store, 0).await;
        for (late, days) in [(2, 40), (3, 800)] {
            retain(&store, &KEEP, begun_us + days * DAY_US).await.unwrap();
            // Numbers that follow, in the first hour, then all that was there before.
            let numbers = 900 + 10 * (late - 2)..900 + 10 * (late - 1);
            put_at_start(&store, 7, late as u32, numbers).await;
            for (segment, numbers) in [(0, 0..500), (1, 500..900)] {
                put_segment(&store, 1, segment, numbers).await.unwrap();
            }
            let run = roll_up(&store, 0).await.unwrap();
            assert!(run.failed.is_empty(), "{run:?}");
            let all = 900 + 10 * (late as i64 - 1);
            assert_eq!(requests(&store, Grain::Month).await, all, "after {days} days");
            assert_eq!(requests(&store, Grain::Day).await, all, "after {days} days");
            if days < 365 {
                assert_eq!(requests(&store, Grain::Hour).await, all);
            }
            // A later pass removes the late rows too.
            let run = retain(&store, &KEEP, days_on(&store, days + 400).await).await.unwrap();
            assert!(run.failed.is_empty(), "{run:?}");
            assert_eq!((requests(&store, Grain::Minute).await, parts_of_records(&store).await), (0, 0));
            assert_eq!(roll_up(&store, begun_us + 3_000 * DAY_US).await.unwrap().failed.len(), 0);
            assert_eq!(requests(&store, Grain::Month).await, all);
        }
    });
}

/// Stores records of another stream that ended in the first hour.
async fn put_at_start(store: &Store, stream: u64, segment: u32, numbers: std::ops::Range<u64>) {
    let first = sample_records(1, 0..numbers.end - numbers.start);
    let mut rows = first.rows().to_vec();
    rows.iter_mut().zip(numbers.clone()).for_each(|(row, number)| row.number = number);
    let records = crate::records::Records::from_parts(first.names().clone(), rows);
    let note = PartNote {
        gateway: "gw".to_owned(),
        stream: crate::testing::stream_name(stream),
        segment,
        boot: "b".to_owned(),
        held: records.numbers(),
        first: numbers.start,
        next: numbers.end,
        gaps: Vec::new(),
        ..PartNote::default()
    };
    let hour = Partition::at(Grain::Minute, SAMPLE_START_US as i64);
    part::put(store, hour, &note, records).await.unwrap();
}

#[test]
fn nothing_goes_whose_coarser_grain_does_not_add_up_to_it() {
    runtime().block_on(async {
        let store = filled().await;
        let late_us = days_on(&store, 400).await;
        // Somebody tampered with the hours: one row less of a client, numbers kept.
        let day = Partition::at(Grain::Hour, SAMPLE_START_US as i64);
        let newest = generation::newest(&store, day).await.unwrap().unwrap();
        let (table, note) = newest.read(&store).await.unwrap();
        let first_us = table.time_us[0];
        let less = table.filtered(|us| us != first_us);
        generation::create(&store, day, newest.number + 1, part::usage_file(&less, &note).unwrap())
            .await
            .unwrap();
        let run = retain(&store, &KEEP, late_us).await.unwrap();
        let told = run.failed.join("\n");
        assert!(told.contains("date=2026-12-31/hour=23") && told.contains("does not add up"), "{told}");
        let hour = Partition::at(Grain::Minute, SAMPLE_START_US as i64);
        let kept = generation::newest(&store, hour).await.unwrap().unwrap();
        assert!(kept.read(&store).await.unwrap().0.requests() > 0, "{run:?}");
        // A run that had to keep something is not the day's run.
        assert!(retain_daily(&store, &KEEP, late_us).await.unwrap().is_some());
        assert!(retain_daily(&store, &KEEP, late_us).await.unwrap().is_some());
    });
}

#[test]
fn records_that_were_never_rolled_up_stay() {
    runtime().block_on(async {
        let store = Store::new(Arc::new(InMemory::new()));
        put_segment(&store, 1, 0, 0..100).await.unwrap();
        let run = retain(&store, &KEEP, days_on(&store, 400).await).await.unwrap();
        assert!(run.failed[0].contains("--rebuild"), "{run:?}");
        assert_eq!(parts_of_records(&store).await, 1);
    });
}

#[test]
fn once_a_day_is_enough() {
    runtime().block_on(async {
        let store = filled().await;
        let now_us = days_on(&store, 31).await;
        assert!(retain_daily(&store, &KEEP, now_us).await.unwrap().is_some_and(|r| r.minutes == 2));
        assert_eq!(retain_daily(&store, &KEEP, now_us).await.unwrap(), None);
        assert!(retain_daily(&store, &KEEP, now_us + DAY_US).await.unwrap().is_some());
        assert_eq!(store.list(NOTED).await.unwrap().len(), 1);
    });
}

#[test]
fn killed_at_any_operation_and_run_again_every_sum_is_the_same() {
    for left in 0.. {
        let inner = Arc::new(InMemory::new());
        let (store, faulty) = (Store::new(inner.clone()), Faulty::after(inner, left));
        let good = runtime().block_on(async {
            put_segment(&store, 1, 0, 0..700).await.unwrap();
            roll_up(&store, 0).await.unwrap();
            let late_us = days_on(&store, 400).await;
            let killed = retain(&Store::new(Arc::new(faulty.clone())), &KEEP, late_us).await;
            let again = retain(&store, &KEEP, late_us + HOUR_US).await.unwrap();
            assert!(again.failed.is_empty(), "killed at {left}: {again:?}");
            assert_eq!((requests(&store, Grain::Hour).await, parts_of_records(&store).await), (0, 0));
            assert_eq!(requests(&store, Grain::Month).await, 700, "killed at {left}");
            killed.is_ok()
        });
        if !faulty.has_failed() {
            assert!(good && left > 15, "only {left} operations were tried");
            break;
        }
    }
}

/// Days and months are UTC, so no clock is set forward or back in them; a leap day and the end of a month
/// are as others, and days without anything are passed over.
#[test]
fn around_a_leap_day_each_hour_goes_at_its_age() {
    // 29 February 2096, 00:00 UTC: later than the objects are made.
    const LEAP_US: i64 = 3_981_312_000_000_000;
    let times = [-12 * HOUR_US, -1, 0, DAY_US - 1, DAY_US, 8 * DAY_US].map(|after| LEAP_US + after);
    runtime().block_on(async {
        let mut traffic = Traffic::new();
        times.iter().for_each(|&at| traffic.add(at, 1, 1, Like::default()));
        traffic.roll_up(LEAP_US).await;
        let store = traffic.store;
        for days in [0, 29, 30, 31, 32, 33, 38, 39, 40, 364, 365, 366, 367, 375, 400] {
            let now_us = LEAP_US + days * DAY_US;
            let run = retain(&store, &KEEP, now_us).await.unwrap();
            assert!(run.failed.is_empty(), "{run:?}");
            // What ended later than so many days ago is there.
            let left = |days: i64, grain: Grain| {
                let ended = |&&at: &&i64| Partition::at(grain, at).end_us() > now_us - days * DAY_US;
                times.iter().filter(ended).count() as i64
            };
            let (minutes, hours) = (left(30, Grain::Minute), left(365, Grain::Hour));
            assert_eq!(requests(&store, Grain::Minute).await, minutes, "after {days} days");
            assert_eq!(requests(&store, Grain::Hour).await, hours, "after {days} days");
            for grain in [Grain::Day, Grain::Month] {
                assert_eq!(requests(&store, grain).await, 6, "after {days} days");
            }
        }
    });
}
