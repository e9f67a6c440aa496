//! Through a store: records, roll-up, findings.

use weir_metering::{Decision, Record};

use super::*;
use crate::held::Numbers;
use crate::part::{self, PartNote};
use crate::records::Records;
use crate::testing::{roll_up, stream_name};

/// Thursday, 31 December 2026, in hours since the epoch.
const START_HOUR: i64 = 499_632;

/// Books hours of requests of some clients as one segment.
struct Traffic {
    store: Store,
    records: Records,
    next: u64,
    booked: u64,
    segment: u32,
    holidays: BTreeSet<i64>,
    _folder: tempfile::TempDir,
}

impl Traffic {
    fn new() -> Traffic {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let (records, next, booked, segment, holidays) = Default::default();
        Traffic { store, records, next, booked, segment, holidays, _folder: folder }
    }

    fn hour(&mut self, hour: i64, client: &str, requests: u64, errors: u64, latency_us: u64) {
        self.asks(hour, (client, "/orders"), requests, errors, latency_us);
    }

    fn asks(
        &mut self,
        hour: i64,
        (client, endpoint): (&str, &str),
        requests: u64,
        errors: u64,
        latency_us: u64,
    ) {
        for i in 0..requests {
            let record = Record {
                time_us: ((START_HOUR + hour) * HOUR_US) as u64 + i * 1_000_000,
                client,
                tier: "t",
                endpoint,
                method: "POST",
                status: if i < errors { 500 } else { 200 },
                latency_us,
                upstream_us: None,
                bytes_in: 1,
                bytes_out: 1,
                decision: Decision::Passed,
                limit: "",
                policy_version: 1,
            };
            self.records.push(self.next, &record, true);
            self.next += 1;
        }
    }

    /// The records so far as the next segment, in the books.
    async fn book(&mut self, now_us: i64) {
        let note = PartNote {
            gateway: "gw".to_owned(),
            stream: stream_name(1),
            segment: self.segment,
            boot: "b".to_owned(),
            held: Numbers::default(),
            first: self.booked,
            next: self.next,
            gaps: Vec::new(),
            ..PartNote::default()
        };
        (self.segment, self.booked) = (self.segment + 1, self.next);
        for (hour, records) in std::mem::take(&mut self.records).by_hour() {
            let note = PartNote { held: records.numbers(), ..note.clone() };
            part::put(&self.store, hour, &note, records).await.unwrap();
        }
        roll_up(&self.store, now_us).await.unwrap();
    }

    async fn find(mut self, now_hour: i64) -> Vec<Anomaly> {
        let now_us = (START_HOUR + now_hour) * HOUR_US + HOUR_US / 2;
        self.book(now_us).await;
        find(&self.store, &self.holidays, now_us, 1).await.unwrap()
    }

    /// What is found now, and how many results are kept then; the same is found with nothing kept.
    async fn find_twice(&self, now_us: i64) -> (Vec<Course>, usize) {
        let look = || find_with_courses(&self.store, &self.holidays, now_us, 2);
        let found = look().await.unwrap();
        let kept = self.store.list("reckoned").await.unwrap();
        for object in &kept {
            self.store.delete(&object.path).await.unwrap();
        }
        assert_eq!(look().await.unwrap(), found);
        assert_eq!(self.store.list("reckoned").await.unwrap().len(), 1);
        (found, kept.len())
    }
}

/// Five calm days of two clients, then three hours in which acme is as told.
async fn after_calm_days(requests: u64, errors: u64, latency_us: u64) -> Vec<Anomaly> {
    let mut traffic = Traffic::new();
    for hour in 0..120 {
        let wave = [0, 3, 1, 4][hour as usize % 4];
        traffic.hour(hour, "acme", 60 + wave, 0, 10_000);
        traffic.hour(hour, "calm", 60 - wave, 0, 10_000);
    }
    for hour in 120..123 {
        traffic.hour(hour, "acme", requests, errors, latency_us);
        traffic.hour(hour, "calm", 60, 0, 10_000);
    }
    traffic.find(123).await
}

#[tokio::test]
async fn what_is_kept_is_what_is_found_from_nothing_and_late_records_are_seen() {
    let mut traffic = Traffic::new();
    for hour in 0..100 {
        let wave = [0, 3, 1, 4][hour as usize % 4];
        traffic.hour(hour, "acme", if hour == 90 { 400 } else { 60 + wave }, 0, 10_000);
    }
    let at = |hour: i64| (START_HOUR + hour) * HOUR_US + HOUR_US / 2;
    traffic.book(at(99)).await;
    let (first, _) = traffic.find_twice(at(99)).await;
    assert!(first.iter().any(|course| course.anomaly.kind == Kind::Spike));
    // More of the hour that goes on: nothing is reckoned.
    traffic.hour(99, "acme", 5, 0, 10_000);
    traffic.book(at(99) + 1).await;
    assert_eq!(traffic.find_twice(at(99) + 1).await, (first.clone(), 1));
    // Late records of a day that is over, and then of an hour of this day.
    let mut before = first;
    for hour in [60, 97] {
        traffic.hour(hour, "acme", 700, 0, 10_000);
        traffic.book(at(99) + 2).await;
        let (found, kept) = traffic.find_twice(at(99) + 2).await;
        assert_eq!(kept, 2, "the one of before, and this one");
        assert_ne!(found, before);
        before = found;
    }
    // The next hour.
    assert_eq!(traffic.find_twice(at(100)).await.1, 2);
}

fn of_acme(found: &[Anomaly]) -> Vec<(Kind, bool, i64)> {
    assert!(found.iter().all(|a| a.client.as_deref() != Some("calm")), "{found:?}");
    let acme = found.iter().filter(|a| a.client.is_some());
    acme.map(|a| (a.kind, a.endpoint.is_some(), (a.to_us - a.from_us) / HOUR_US)).collect()
}

#[tokio::test]
async fn bursts_and_silence_are_one_episode_each_of_the_client_and_its_endpoint() {
    for (requests, kind) in [(400, Kind::Spike), (0, Kind::Silence)] {
        let found = after_calm_days(requests, 0, 10_000).await;
        assert_eq!(of_acme(&found), [(kind, false, 3), (kind, true, 3)]);
        assert!(found.iter().all(|a| (50.0..130.0).contains(&a.expected)), "{found:?}");
    }
}

#[tokio::test]
async fn errors_and_latency_that_shift_are_found_though_the_requests_are_as_ever() {
    let errors = after_calm_days(60, 20, 10_000).await;
    assert_eq!(of_acme(&errors), [(Kind::Errors, false, 3), (Kind::Errors, true, 3)]);
    let latency = after_calm_days(60, 0, 40_000).await;
    assert_eq!(of_acme(&latency), [(Kind::Latency, false, 3), (Kind::Latency, true, 3)]);
}

#[tokio::test]
async fn other_endpoints_than_usual_are_found_though_there_are_as_many_requests_as_ever() {
    let mut traffic = Traffic::new();
    for hour in 0..123 {
        let orders = if hour < 120 { 8 } else { 62 };
        traffic.asks(hour, ("acme", "/orders"), orders, 0, 10_000);
        traffic.asks(hour, ("acme", "/items"), 70 - orders, 0, 10_000);
        traffic.hour(hour, "calm", 60, 0, 10_000);
    }
    let found = traffic.find(123).await;
    let mixes: Vec<&Anomaly> = found.iter().filter(|a| a.kind == Kind::Mix).collect();
    let [mix] = mixes[..] else { panic!("{found:?}") };
    assert_eq!((mix.client.as_deref(), &mix.endpoint), (Some("acme"), &None));
    assert_eq!((mix.to_us - mix.from_us) / HOUR_US, 3);
    let part = mix.part.as_ref().unwrap();
    assert!((part.share - 62.0 / 70.0).abs() < 0.01 && (part.usual - 8.0 / 70.0).abs() < 0.01, "{part:?}");
    assert_eq!((&part.name, mix.value), (&"POST /orders".to_owned(), part.share));
}

#[tokio::test]
async fn nothing_is_found_where_nothing_happens_or_nothing_is_known() {
    assert_eq!(after_calm_days(62, 0, 10_000).await, []);
    let mut gap = Traffic::new();
    for hour in (0..100).chain(110..123) {
        gap.hour(hour, "acme", 60, 0, 10_000);
    }
    assert_eq!(gap.find(123).await, []);
}

#[tokio::test]
async fn a_holiday_is_quiet_and_not_told() {
    for (holiday, told) in [(true, 0), (false, 2)] {
        let mut traffic = Traffic::new();
        for hour in 0..123 {
            traffic.hour(hour, "acme", if hour < 120 { 60 } else { 0 }, 0, 10_000);
            traffic.hour(hour, "calm", 60, 0, 10_000);
        }
        traffic.holidays.extend(holiday.then_some((START_HOUR + 120) * HOUR_US));
        assert_eq!(of_acme(&traffic.find(123).await).len(), told);
    }
}
