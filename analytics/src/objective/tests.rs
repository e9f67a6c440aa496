//! Through a store: records, roll-up, promises.

use weir_metering::Decision;

use super::*;
use crate::calendar::DAY_US;
use crate::finding::Severity;
use crate::traffic::{Like, MONDAY_US, Traffic};

/// The Friday after, 12:30.
const NOW_US: i64 = MONDAY_US + 4 * DAY_US + 12 * HOUR_US + 30 * MINUTE_US;

fn book() -> Book {
    let text = "tiers.t = { exempt = true, objective = { availability = 99.0, latency_ms = 300, latency_share = 95.0 } }\n\
        tiers.none = { exempt = true }";
    Book::compile(weir_policy::parse(text).unwrap())
}

/// Four days and a half of 60 requests an hour.
fn calm() -> Traffic {
    let mut traffic = Traffic::new();
    for hour in 0..108 {
        traffic.add(MONDAY_US + hour * HOUR_US, 60, 60, Like::default());
    }
    traffic
}

async fn told(mut traffic: Traffic, rules: &Rules) -> Vec<Promise> {
    traffic.roll_up(NOW_US).await;
    read(&traffic.store, &book(), rules, NOW_US, NOW_US).await.unwrap()
}

fn of<'a>(promises: &'a [Promise], endpoint: Option<&str>, word: &str) -> &'a Promise {
    let fits = |p: &&Promise| p.endpoint.as_deref() == endpoint && p.promised.word() == word;
    let found: Vec<&Promise> = promises.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{promises:?}");
    found[0]
}

#[tokio::test]
async fn requests_are_good_bad_or_refused_and_the_budget_is_what_is_left() {
    let mut traffic = calm();
    let at = MONDAY_US + HOUR_US;
    traffic.add(at, 60, 13, Like { status: 503, ..Like::default() });
    traffic.add(at, 60, 40, Like { latency_us: 400_000, endpoint: "/slow", ..Like::default() });
    let refused = Like { status: 429, latency_us: 10, decision: Decision::Rejected, ..Like::default() };
    traffic.add(at, 60, 500, refused);
    traffic.add(at, 60, 500, Like { tier: "none", client: "free", ..Like::default() });
    let promises = told(traffic, &Rules::default()).await;
    let client = of(&promises, None, "availability");
    let month = &client.month;
    assert_eq!((month.good, month.bad, month.refused), (108 * 60 + 40, 13, 500));
    assert_eq!(client.window.as_ref().unwrap().bad, 13);
    let allowed = 6_533.0 * 0.01;
    assert!((month.budget_left.unwrap() - (1.0 - 13.0 / allowed)).abs() < 1e-9, "{month:?}");
    assert_eq!(month.kept, Kept::Met);
    let slow = of(&promises, Some("POST /slow"), "latency");
    assert_eq!((slow.month.good, slow.month.bad, slow.month.kept), (0, 40, Kept::Missed));
    let orders = of(&promises, Some("POST /orders"), "latency");
    assert_eq!((orders.month.bad, orders.month.good), (0, 108 * 60 + 13));
    assert!(promises.iter().all(|p| p.client == "acme" && p.finding(NOW_US).is_none()));
}

#[tokio::test]
async fn what_is_an_error_is_configured_and_a_refusal_never_is() {
    let mut traffic = calm();
    traffic.add(MONDAY_US, 60, 10, Like { status: 503, decision: Decision::Rejected, ..Like::default() });
    traffic.add(MONDAY_US, 60, 4, Like { status: 503, ..Like::default() });
    traffic.add(MONDAY_US, 60, 3, Like { status: 499, ..Like::default() });
    let errors = vec![499..500, 500..600];
    let rules = Rules { errors, refused_status: 503, ..Rules::default() };
    let month = of(&told(traffic, &rules).await, None, "availability").month.clone();
    assert_eq!((month.bad, month.refused), (7, 10));
}

#[tokio::test]
async fn errors_of_the_last_hour_fire_at_once_and_say_so() {
    let mut traffic = calm();
    traffic.add(NOW_US - HOUR_US, 60, 600, Like { status: 502, ..Like::default() });
    let promises = told(traffic, &Rules::default()).await;
    let found = of(&promises, None, "availability").finding(NOW_US).unwrap();
    assert_eq!((found.severity, found.about.as_str()), (Severity::Critical, "availability"));
    assert!(found.sentence.starts_with("acme: 95.2 % of 630 requests failed in the hour before 12:30"));
    assert!(of(&promises, Some("POST /orders"), "availability").finding(NOW_US).is_some());
    assert!(of(&promises, None, "latency").finding(NOW_US).is_none());
}

#[tokio::test]
async fn errors_that_are_over_do_not_fire_and_few_requests_are_said_to_be_few() {
    let mut traffic = Traffic::new();
    traffic.add(NOW_US - HOUR_US, 30, 600, Like { status: 502, ..Like::default() });
    traffic.add(NOW_US - 5 * MINUTE_US, 5, 100, Like::default());
    traffic.add(NOW_US - 5 * MINUTE_US, 5, 3, Like { client: "small", status: 500, ..Like::default() });
    let promises = told(traffic, &Rules::default()).await;
    let of = |client: &str| {
        promises.iter().find(|p| p.client == client && p.endpoint.is_none()).unwrap().burns[0].state
    };
    assert_eq!((of("acme"), of("small")), (Alert::Ok, Alert::TooFew));
}

#[tokio::test]
async fn maintenance_does_not_count_and_a_time_without_records_is_unknown() {
    let mut traffic = Traffic::new();
    for hour in (0..108).filter(|hour| !(20..26).contains(hour)) {
        traffic.add(MONDAY_US + hour * HOUR_US, 60, 60, Like::default());
    }
    let from = MONDAY_US + 40 * HOUR_US + 30 * MINUTE_US;
    traffic.add(from, 90, 900, Like { status: 503, ..Like::default() });
    let rules =
        Rules { maintenance: std::iter::once(from..from + 90 * MINUTE_US).collect(), ..Rules::default() };
    let month = of(&told(traffic, &rules).await, None, "availability").month.clone();
    // The planned hour and a half had 90 good ones too.
    assert_eq!((month.good, month.bad), (102 * 60 - 90, 0));
    assert_eq!((month.unknown_us, month.maintenance_us), (6 * HOUR_US, 90 * MINUTE_US));
    assert_eq!(month.kept, Kept::Met);
}

#[tokio::test]
async fn a_month_that_is_over_has_a_statement_and_no_alerts() {
    let mut traffic = calm();
    traffic.roll_up(NOW_US).await;
    let now_us = NOW_US + 40 * DAY_US;
    let told = read(&traffic.store, &book(), &Rules::default(), now_us, NOW_US).await.unwrap();
    let promise = of(&told, None, "availability");
    assert_eq!((promise.month.good, promise.window.is_none(), promise.burns.len()), (108 * 60, true, 0));
    assert_eq!(promise.month.to_us - promise.month.from_us, 31 * DAY_US);
    // From Monday on, less what was known.
    assert_eq!(promise.month.unknown_us, (28 * 24 - 108) * HOUR_US);
    let empty = read(&traffic.store, &book(), &Rules::default(), now_us, now_us).await.unwrap();
    assert!(empty.iter().all(|p| p.month.good == 0 && p.month.kept == Kept::Unknown), "{empty:?}");
}
