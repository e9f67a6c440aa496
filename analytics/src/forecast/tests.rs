//! Through a store: records, roll-up, forecasts.

use super::*;
use crate::traffic::{Like, MONDAY_US, Traffic};

/// Hours from that Monday to noon of the Wednesday two weeks later.
const HOURS: i64 = 16 * 24 + 12;

const NOW_US: i64 = MONDAY_US + HOURS * HOUR_US + 1;

/// Hours of acme that take turns.
async fn booked(hours: Range<i64>) -> Traffic {
    let mut traffic = Traffic::new();
    for hour in hours {
        traffic.add(MONDAY_US + hour * HOUR_US, 60, [8, 12][hour as usize % 2], Like::default());
    }
    traffic.roll_up(NOW_US).await;
    traffic
}

async fn told(traffic: &Traffic, amount: u64) -> Vec<Forecast> {
    let limits = format!("tiers.t.limits = [\"{amount} requests/day\", \"9 requests/second\"]");
    let policy = weir_policy::parse(&format!("{limits}\nclients.acme.tier = \"t\"")).unwrap();
    read(&traffic.store, &Book::compile(policy), NOW_US).await.unwrap()
}

#[tokio::test]
async fn a_quota_that_will_run_out_is_told_with_its_hour_and_others_are_not_told() {
    let traffic = booked(0..HOURS).await;
    let lasting = told(&traffic, 1_000).await;
    let [lasts] = lasting.as_slice() else { panic!("{lasting:?}") };
    assert_eq!((lasts.used, lasts.to_us - lasts.from_us, lasts.is_bytes), (120, DAY_US, false));
    assert!((lasts.at_end.p50 - 240.0).abs() < 2.0 && lasts.at_end.p90 < 250.0, "{lasts:?}");
    assert_eq!((lasts.runs_out_us, lasts.finding()), ([None; 3], None));
    assert_eq!((lasts.past.len(), lasts.ahead.len()), (0, 0), "nothing is to be drawn");

    let ends = &told(&traffic, 205).await[0];
    // 120 are used by noon, and 10 an hour in the mean are to come: 85 are nine hours.
    assert_eq!(ends.runs_out_us[1], Some(ends.from_us + 21 * HOUR_US));
    // Drawn from nothing used over what is used now to the end of the day, crossing the quota then.
    assert_eq!((ends.past[0].1, ends.past.last().unwrap()), (0.0, &(NOW_US, 120.0)));
    assert_eq!(ends.past.len(), 14, "twelve hours, both ends");
    let crosses = ends.ahead.iter().find(|(_, used)| used.p50 >= 205.0).unwrap();
    assert_eq!((crosses.0, ends.ahead.last().unwrap().1), (ends.runs_out_us[1].unwrap(), ends.at_end));
    let found = ends.finding().unwrap();
    let said = "acme: 205 requests/day will likely be used up by Wednesday, 20 January, 21:00 UTC";
    assert!(found.sentence.starts_with(said), "{}", found.sentence);
    assert_eq!((found.since_us, found.severity), (ends.from_us, Severity::Info));

    // Where forecasts were so wrong that it may last as well, nothing is said.
    assert!(ends.is_likely);
    assert_eq!(Forecast { is_likely: false, ..ends.clone() }.finding(), None);

    // It is used up: there is nothing to foresee.
    assert_eq!(told(&traffic, 100).await, []);
}

#[tokio::test]
async fn a_short_history_is_no_ground_for_a_word() {
    assert_eq!(told(&booked(HOURS - 150..HOURS).await, 205).await, []);
}
