use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::calendar::{HOUR_US, MINUTE_US};
use crate::testing::{SAMPLE_START_US, put_segment, roll_up, runtime, sample_records};

const START_US: i64 = SAMPLE_START_US as i64;

/// Numbers 0 to 900 of one stream around midnight, less those of the segment in the middle.
fn store() -> Store {
    let store = Store::new(Arc::new(InMemory::new()));
    runtime().block_on(async {
        for (segment, numbers) in [(0, 0..300), (2, 500..900)] {
            put_segment(&store, 1, segment, numbers).await.unwrap();
        }
        roll_up(&store, 0).await.unwrap();
    });
    store
}

fn books(store: &Store, from_us: i64, to_us: i64, grain: Grain) -> Books {
    runtime().block_on(read(store, from_us, to_us, grain, None)).unwrap()
}

#[test]
fn the_platform_is_the_sum_of_its_clients() {
    let books = books(&store(), START_US, START_US + HOUR_US, Grain::Minute);
    let mut sum = Totals::default();
    books.clients.values().for_each(|usage| sum.add(&usage.totals));
    assert_eq!((books.platform.totals.clone(), sum.requests), (sum.clone(), 700));
    let mut points = Totals::default();
    books.platform.series.points.iter().for_each(|(_, totals)| points.add(totals));
    assert_eq!(points, sum);
    let rows: i64 = books.platform.rows.iter().map(|r| r.totals.requests).sum();
    let status: i64 = books.platform.status.values().sum();
    assert_eq!((rows, status), (700, 700));
    let acme = &books.clients["acme"];
    assert!(acme.rows.iter().all(|r| r.client == "acme") && acme.totals.requests < 700);
    assert_eq!(acme.completeness.records, acme.totals.requests);
    let endpoints: i64 = books.endpoints.values().map(|usage| usage.totals.requests).sum();
    assert_eq!(endpoints, 700);
}

/// More clients than are told one by one: the sums are the same, and those who are told are told whole.
#[test]
fn of_many_clients_the_busiest_and_those_with_a_name_are_told() {
    let store = store();
    let range = START_US..START_US + HOUR_US;
    let whole = books(&store, range.start, range.end, Grain::Minute);
    assert_eq!(whole.clients.len(), 3);
    let mut by_requests: Vec<(&String, i64)> =
        whole.clients.iter().map(|(id, usage)| (id, usage.totals.requests)).collect();
    by_requests.sort_by_key(|(_, n)| *n);
    let (least, busiest) = (by_requests[0].0, by_requests[by_requests.len() - 1].0);
    let named = |id: &str| id == least;
    for others in 0..whole.clients.len() {
        let each = Each { named: &named, others };
        let read = runtime().block_on(read_of(&store, range.clone(), Grain::Minute, None, each)).unwrap();
        assert_eq!(read.platform.totals, whole.platform.totals);
        assert_eq!(read.platform.series, whole.platform.series);
        assert_eq!(read.platform.status, whole.platform.status);
        let rows: i64 = read.platform.rows.iter().map(|r| r.totals.requests).sum();
        assert_eq!(rows, 700);
        assert_eq!(read.clients.len(), others + 1);
        assert!(read.clients.iter().all(|(id, usage)| *usage == whole.clients[id]));
        assert!(read.clients.contains_key(least) && read.clients.contains_key(busiest) == (others > 0));
        let is_rest = |row: &crate::view::Row| row.client == OTHERS;
        assert_eq!(read.platform.rows.iter().any(is_rest), others + 1 < whole.clients.len());
        assert_eq!(read.endpoints.len(), whole.endpoints.len());
    }
}

#[test]
fn percentiles_of_any_grain_are_those_of_the_records() {
    let store = store();
    let mut exact: Vec<i64> = [0..300, 500..900]
        .into_iter()
        .flat_map(|numbers| sample_records(1, numbers).rows().to_vec())
        .filter_map(|row| row.latency_us)
        .collect();
    exact.sort_unstable();
    for grain in Grain::ALL {
        let totals = books(&store, START_US, START_US + HOUR_US, grain).platform.totals;
        for q in [0.5, 0.95, 0.99] {
            let want = exact[(q * exact.len() as f64).ceil() as usize - 1] as f64;
            let got = totals.latencies.quantile_us(q).unwrap();
            assert!((got / want - 1.0).abs() <= 0.01, "{grain:?} {q}: {got} for {want}");
        }
        assert_eq!(totals.latencies.count(), exact.len() as i64);
    }
}

#[test]
fn a_range_holds_what_ended_in_it() {
    let store = store();
    let midnight_us = START_US + 10 * MINUTE_US;
    let before = books(&store, START_US, midnight_us, Grain::Minute).platform;
    let after = books(&store, midnight_us, midnight_us + HOUR_US, Grain::Minute).platform;
    assert_eq!(before.totals.requests + after.totals.requests, 700);
    assert!(before.series.points.iter().all(|(at, _)| *at < midnight_us));
    assert!(books(&store, 0, HOUR_US, Grain::Hour).clients.is_empty());
    assert_eq!(runtime().block_on(newest_hour(&store)).unwrap(), Some(midnight_us));
}

#[test]
fn missing_numbers_are_told_where_the_stream_goes_on() {
    let store = store();
    let midnight_us = START_US + 10 * MINUTE_US;
    let told = |from, to| books(&store, from, to, Grain::Minute).platform.completeness;
    assert_eq!(told(START_US, midnight_us).missing, 200);
    assert_eq!(told(midnight_us, midnight_us + HOUR_US).missing, 0);
    assert_eq!(told(START_US, midnight_us + HOUR_US).records, 700);
    let all = runtime().block_on(rows(&store, Grain::Day, i64::MIN..i64::MAX, &mut |_, _| {})).unwrap();
    assert_eq!((all.records, all.missing), (700, 200));
}

#[test]
fn up_to_when_it_is_complete_is_what_the_collector_says() {
    let store = store();
    let read =
        |complete| runtime().block_on(read(&store, START_US, START_US + HOUR_US, Grain::Hour, complete));
    let told = |complete| read(complete).unwrap().platform.completeness.complete_to_us;
    assert_eq!(told(Some(77)), Some(77));
    assert_eq!(told(None), Some(START_US + 10 * MINUTE_US));
}
