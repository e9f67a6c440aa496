//! Findings over a whole store.

use std::sync::Arc;

use object_store::memory::InMemory;
use weir_metering::{Decision, Record};

use super::*;
use crate::calendar::MINUTE_US;
use crate::part::{self, PartNote};
use crate::records::Records;
use crate::testing::{roll_up, runtime};

/// Noon of some day.
const NOON_US: i64 = 1_790_769_600_000_000;

fn book() -> Book {
    let policy = "default_tier = \"t\"\n\
        [tiers.t]\nlimits = [\"50 requests/hour\", \"10 requests/minute\"]\n\
        [[tiers.t.endpoints]]\nmatch = \"POST /orders\"\nlimits = [\"20 requests/hour\"]\n\
        [[endpoints]]\nmatch = \"* /reports\"\nlimits = [\"5 requests/hour\"]\n\
        [clients.acme]\n[clients.globex]\n\
        [alerts]\nto = [\"p@example.com\"]\nthresholds = [80, 100]\ncooldown = \"2h\"\n";
    Book::compile(weir_policy::parse(policy).unwrap_or_else(|problems| panic!("{problems:?}")))
}

struct Scene {
    store: Store,
    streams: u64,
    /// Which refuses.
    limit: &'static str,
}

impl Scene {
    fn new() -> Scene {
        Scene { store: Store::new(Arc::new(InMemory::new())), streams: 0, limit: "50 requests/hour" }
    }

    /// Books requests at these moments, and rolls up.
    fn book(&mut self, client: &str, line: &str, at_us: &[i64], decision: Decision) {
        let (method, endpoint) = line.split_once(' ').unwrap();
        let mut records = Records::default();
        for (number, &time_us) in at_us.iter().enumerate() {
            let record = Record {
                time_us: time_us as u64 + 5_000,
                client,
                tier: "t",
                endpoint,
                method,
                status: 200,
                latency_us: 5_000,
                upstream_us: None,
                bytes_in: 1,
                bytes_out: 1,
                decision,
                limit: self.limit,
                policy_version: 1,
            };
            records.push(number as u64, &record, true);
        }
        self.streams += 1;
        let stream = format!("{:032x}", self.streams);
        runtime().block_on(async {
            for (hour, records) in records.by_hour() {
                let held = records.numbers();
                let next = at_us.len() as u64;
                let note = PartNote {
                    gateway: "g".into(),
                    stream: stream.clone(),
                    segment: 0,
                    boot: String::new(),
                    held,
                    first: 0,
                    next,
                    gaps: Vec::new(),
                    ..PartNote::default()
                };
                part::put(&self.store, hour, &note, records).await.unwrap();
            }
            roll_up(&self.store, 0).await.unwrap();
        });
    }

    fn find(&self, now_us: i64) -> Vec<QuotaFinding> {
        runtime().block_on(find(&self.store, &book(), now_us, 7)).unwrap()
    }
}

/// `n` moments a second apart.
fn seconds(from_us: i64, n: i64) -> Vec<i64> {
    (0..n).map(|i| from_us + i * 1_000_000).collect()
}

fn told(findings: &[QuotaFinding]) -> Vec<(&str, &str, u32, u64)> {
    findings.iter().map(|f| (f.client.as_str(), f.limit.as_str(), f.threshold, f.used)).collect()
}

#[test]
fn a_client_at_80_percent_is_found_with_the_moment_and_what_used_it() {
    let mut scene = Scene::new();
    scene.book("acme", "GET /search", &seconds(NOON_US, 30), Decision::Passed);
    scene.book("acme", "GET /orders", &seconds(NOON_US + 40_000_000, 12), Decision::Passed);
    scene.book("globex", "GET /search", &seconds(NOON_US, 39), Decision::Passed);
    let found = scene.find(NOON_US + 2 * MINUTE_US);
    assert_eq!(told(&found), [("acme", "50 requests/hour", 80, 40)]);
    let finding = &found[0];
    assert_eq!(finding.window_to_us, NOON_US + 49_000_000);
    assert_eq!(finding.window_to_us - finding.window_from_us, HOUR_US);
    assert_eq!((finding.top_endpoint.as_str(), finding.top_share_percent), ("/search", 75));
    assert_eq!((finding.amount, finding.refused), (50, 0));
}

#[test]
fn the_same_crossing_is_one_finding_in_every_later_run() {
    let mut scene = Scene::new();
    scene.book("acme", "GET /search", &seconds(NOON_US, 41), Decision::Passed);
    let first = scene.find(NOON_US + MINUTE_US);
    assert_eq!(first.len(), 1);
    // The other gateway's records come later, and would put the crossing earlier.
    scene.book("acme", "GET /search", &seconds(NOON_US + 500_000, 5), Decision::Passed);
    for minutes in [2, 30, 59, 61, 119] {
        assert_eq!(scene.find(NOON_US + minutes * MINUTE_US), first, "after {minutes} minutes");
    }
    // Whoever has no note of it finds the same.
    let other = Scene { store: scene.store.clone(), streams: 9, limit: scene.limit };
    assert_eq!(other.find(NOON_US + 3 * MINUTE_US), first);
}

#[test]
fn the_limit_is_reached_by_its_amount_or_by_a_refusal() {
    let mut scene = Scene::new();
    scene.book("acme", "GET /search", &seconds(NOON_US, 50), Decision::Passed);
    // Leases may refuse a little early; the client stands at its limit all the same.
    scene.book("globex", "GET /search", &seconds(NOON_US, 49), Decision::Passed);
    scene.book("globex", "GET /search", &seconds(NOON_US + 60_000_000, 500), Decision::Rejected);
    let found = scene.find(NOON_US + 20 * MINUTE_US);
    let at_limit: Vec<_> = told(&found).into_iter().filter(|f| f.2 == 100).collect();
    assert_eq!(at_limit, [("acme", "50 requests/hour", 100, 50), ("globex", "50 requests/hour", 100, 49)]);
    assert_eq!(found.len(), 4);
}

#[test]
fn refused_requests_do_not_count_as_use() {
    let mut scene = Scene::new();
    scene.book("acme", "GET /search", &seconds(NOON_US, 30), Decision::Passed);
    scene.book("acme", "GET /search", &seconds(NOON_US, 30), Decision::RejectedDegraded);
    let found = scene.find(NOON_US + MINUTE_US);
    assert!(found.iter().all(|f| f.threshold == 100 && f.used < 40), "{found:?}");
}

#[test]
fn after_the_cool_down_a_new_crossing_is_a_new_finding() {
    let mut scene = Scene::new();
    scene.book("acme", "GET /search", &seconds(NOON_US, 40), Decision::Passed);
    assert_eq!(scene.find(NOON_US + MINUTE_US).len(), 1);
    let soon_us = NOON_US + 90 * MINUTE_US;
    scene.book("acme", "GET /search", &seconds(soon_us, 40), Decision::Passed);
    assert_eq!(scene.find(soon_us + MINUTE_US).len(), 1);
    let later_us = NOON_US + 200 * MINUTE_US;
    scene.book("acme", "GET /search", &seconds(later_us, 40), Decision::Passed);
    let found = scene.find(later_us + MINUTE_US);
    assert_eq!(found.len(), 2);
    assert_ne!(found[0].id, found[1].id);
}

#[test]
fn a_client_that_stays_at_its_limit_for_hours_is_found_once() {
    let mut scene = Scene::new();
    let busy: Vec<i64> = (0..7 * 60).map(|i| NOON_US + i * MINUTE_US).collect();
    scene.book("acme", "GET /search", &busy, Decision::Passed);
    for hours in 1..=7 {
        let found = scene.find(NOON_US + hours * HOUR_US - MINUTE_US);
        assert_eq!(told(&found).iter().filter(|f| f.2 == 80).count(), 1, "after {hours} hours");
        assert_eq!(found.iter().filter(|f| f.threshold == 100).count(), 1, "after {hours} hours");
    }
}

#[test]
fn limits_of_one_endpoint_count_it_alone_and_those_of_all_clients_are_nobodys() {
    let mut scene = Scene::new();
    scene.book("acme", "POST /orders", &seconds(NOON_US, 16), Decision::Passed);
    scene.book("acme", "GET /reports", &seconds(NOON_US, 5), Decision::Passed);
    scene.book("anonymous", "GET /search", &seconds(NOON_US, 60), Decision::Passed);
    let found = scene.find(NOON_US + MINUTE_US);
    assert_eq!(told(&found), [("acme", "20 requests/hour POST /orders", 80, 16)]);
}

fn daily() -> Book {
    let policy = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"100 requests/day\", \"1000 requests/month\"]\n\
        [clients.acme]\ntimezone = \"Asia/Kolkata\"\n\
        [alerts]\nto = [\"p@example.com\"]\nthresholds = [80, 100]\n";
    Book::compile(weir_policy::parse(policy).unwrap_or_else(|problems| panic!("{problems:?}")))
}

#[test]
fn a_calendar_quota_is_found_once_a_day_of_the_client() {
    let mut scene = Scene::new();
    let find = |scene: &Scene, now_us| runtime().block_on(find(&scene.store, &daily(), now_us, 7)).unwrap();
    // In India a day begins at 18:30 UTC: the first 30 are of the day before.
    let midnight_us = NOON_US + 6 * HOUR_US + 30 * MINUTE_US;
    scene.book("acme", "GET /a", &seconds(midnight_us - 5 * MINUTE_US, 30), Decision::Passed);
    scene.book("acme", "GET /a", &seconds(midnight_us + MINUTE_US, 60), Decision::Passed);
    assert!(find(&scene, midnight_us + 5 * MINUTE_US).is_empty());
    let later_us = midnight_us + 15 * HOUR_US;
    scene.book("acme", "POST /b", &seconds(later_us, 25), Decision::Passed);
    let found = find(&scene, later_us + MINUTE_US);
    assert_eq!(told(&found), [("acme", "100 requests/day", 80, 85)]);
    assert_eq!(found[0].window_from_us, midnight_us);
    assert!((later_us..=later_us + MINUTE_US).contains(&found[0].window_to_us), "{found:?}");
    assert_eq!(found[0].top_endpoint, "/a");
    assert_eq!(find(&scene, later_us + 3 * HOUR_US), found, "found again");
    // Late records may lead over the next threshold, not again over the same.
    scene.book("acme", "GET /a", &seconds(midnight_us + HOUR_US, 20), Decision::Passed);
    let thresholds: Vec<u32> = find(&scene, later_us + 3 * HOUR_US).iter().map(|f| f.threshold).collect();
    assert_eq!(thresholds, [80, 100]);
    // The next day is another.
    let next_us = midnight_us + 25 * HOUR_US;
    scene.book("acme", "GET /a", &seconds(next_us, 90), Decision::Passed);
    assert_eq!(find(&scene, next_us + 2 * MINUTE_US).len(), 3);
}

#[test]
fn refused_at_a_calendar_quota_is_exhausted_though_leases_hold_the_rest() {
    let mut scene = Scene::new();
    scene.limit = "100 requests/day";
    scene.book("acme", "GET /a", &seconds(NOON_US, 97), Decision::Passed);
    scene.book("acme", "GET /a", &seconds(NOON_US + 2 * MINUTE_US, 3), Decision::Rejected);
    let found = runtime().block_on(find(&scene.store, &daily(), NOON_US + 4 * MINUTE_US, 7)).unwrap();
    assert_eq!(found.iter().map(|f| f.threshold).collect::<Vec<_>>(), [80, 100]);
}

#[test]
fn sustained_refusals_are_one_finding_an_episode_and_long_limits_none() {
    let look = |scene: &Scene, now_us| {
        runtime().block_on(refusals::find_since(&scene.store, now_us, now_us, 7)).unwrap()
    };
    let mut scene = Scene::new();
    scene.book("globex", "GET /a", &seconds(NOON_US, 300), Decision::Rejected);
    scene.limit = "10 requests/minute";
    let mut found = Vec::new();
    for minutes in 0..12 {
        let at_us = NOON_US + minutes * MINUTE_US;
        scene.book("acme", "GET /a", &seconds(at_us, 50), Decision::Passed);
        scene.book("acme", "GET /a", &seconds(at_us + 500_000, 4), Decision::Rejected);
        found = look(&scene, at_us + MINUTE_US);
        // 4 of 54 are more than 5 %; 20 refused are the least that is told.
        assert_eq!(found.len(), usize::from(minutes >= 4), "after {minutes} minutes");
    }
    assert_eq!((found[0].client.as_deref(), found[0].about.as_str()), (Some("acme"), "10 requests/minute"));
    assert!(found[0].sentence.starts_with("acme: 7 % of 270 requests refused"), "{}", found[0].sentence);
    // Three hours later it is another episode.
    let later_us = NOON_US + 220 * MINUTE_US;
    scene.book("acme", "GET /a", &seconds(later_us, 30), Decision::Rejected);
    assert_eq!(look(&scene, later_us + MINUTE_US).len(), 2);
}
