//! Calendar quotas: which period a moment belongs to, and under which name it is counted.

use jiff::Timestamp;
use weir_policy::{Applied, Book, hash_key, parse, spell_hash};

fn second(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn book(zone: &str, limits: &str) -> Book {
    let key = spell_hash(&hash_key(b"k"));
    let text = format!(
        r#"
        [unknown]
        action = "limit"
        tier = "t"
        [tiers.t]
        limits = [{limits}]
        [[tiers.t.endpoints]]
        match = "POST /orders"
        limits = ["7 units/day"]
        [[endpoints]]
        match = "* /reports"
        limits = ["50 requests/day"]
        [clients.acme]
        tier = "t"
        keys = ["{key}"]
        timezone = "{zone}"
        "#
    );
    Book::compile(parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}")))
}

fn limits(book: &Book, endpoint: &str, at: &str) -> Vec<Applied> {
    let mut applied = Vec::new();
    book.limits(&book.by_key(b"k", 0), "POST", endpoint, second(at), &mut applied);
    applied
}

fn counters(book: &Book, endpoint: &str, at: &str) -> Vec<String> {
    limits(book, endpoint, at).iter().map(|limit| limit.counter.name.clone()).collect()
}

#[test]
fn a_quota_is_counted_under_its_period_in_the_clients_time_zone() {
    let limits = r#""9 requests/day", "90 requests/month", "5 requests/minute""#;
    let at = "2026-11-30T23:30:00Z";
    let names = |zone| counters(&book(zone, limits), "/", at);
    let minute = "{acme}:requests:60000";
    let here = ["{acme}:requests:day:2026-11-30", "{acme}:requests:month:2026-11", minute];
    assert_eq!(names("UTC"), here);
    assert_eq!(names("America/Chicago"), here);
    let ahead = ["{acme}:requests:day:2026-12-01", "{acme}:requests:month:2026-12", minute];
    assert_eq!(names("Pacific/Kiritimati"), ahead);
}

#[test]
fn limits_over_all_clients_and_of_those_without_a_zone_go_by_utc() {
    let book = book("Pacific/Kiritimati", r#""9 requests/day""#);
    let at = "2026-11-30T23:30:00Z";
    let expected = ["{acme}:requests:day:2026-12-01", "{*:* /reports}:requests:day:2026-11-30"];
    assert_eq!(counters(&book, "/reports", at), expected);
    let mut applied = Vec::new();
    for caller in [book.by_key(b"", 0), book.by_client("jo", Some("t"))] {
        book.limits(&caller, "GET", "/", second(at), &mut applied);
        let expected = format!("{{{}}}:requests:day:2026-11-30", caller.id);
        assert_eq!(applied[0].counter.name, expected);
    }
}

#[test]
fn an_endpoints_quota_has_its_rule_in_the_name() {
    let book = book("UTC", r#""5 requests/minute""#);
    let expected = ["{acme}:requests:60000", "{acme}:units:day:POST /orders:2026-11-30"];
    assert_eq!(counters(&book, "/orders", "2026-11-30T23:30:00Z"), expected);
}

#[test]
fn a_period_has_its_length_its_end_and_one_way_of_counting() {
    let book = book("America/Chicago", r#""9 requests/day", "9 requests/month", "9 requests/hour""#);
    let of = |at| limits(&book, "/", at).try_into().unwrap();
    let [day, month, hour]: [Applied; 3] = of("2026-11-01T12:00:00Z");
    assert_eq!((day.window_ms, month.window_ms), (25 * 3_600_000, (30 * 24 + 1) * 3_600_000));
    assert_eq!(day.period_s, Some(second("2026-11-01T05:00:00Z")..second("2026-11-02T06:00:00Z")));
    assert_eq!((hour.window_ms, hour.counted_ms, hour.period_s), (3_600_000, 3_600_000, None));
    let [next, last, _]: [Applied; 3] = of("2026-11-02T06:00:00Z");
    assert_eq!(next.counter.name, "{acme}:requests:day:2026-11-02");
    assert_eq!((next.window_ms, last.counter == month.counter), (24 * 3_600_000, true));
    assert_eq!((next.counted_ms, last.counted_ms), (day.counted_ms, month.counted_ms));
    // The longest period, seen from the zone that is furthest behind by one that is furthest ahead.
    assert!(day.counted_ms >= (25 + 26) * 3_600_000 && month.counted_ms >= (31 * 24 + 1 + 26) * 3_600_000);
}

#[test]
fn people_and_machines_read_day_and_month() {
    let book = book("UTC", r#""10000 requests/month", "20 GB/day""#);
    let applied = limits(&book, "/orders", "2026-11-24T12:00:00Z");
    let told: Vec<_> = applied.iter().map(|limit| (&*limit.name, &*limit.id)).collect();
    let expected = [
        ("10000 requests/month", "requests-month"),
        ("20 GB/day", "bytes-day"),
        ("7 units/day POST /orders", "units-day-POST-orders"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn neither_a_changed_amount_nor_a_zone_with_the_same_date_changes_the_counter() {
    let at = "2026-11-24T16:00:00Z";
    let before = counters(&book("America/Chicago", r#""9 requests/day""#), "/", at);
    for (zone, amount) in [("America/Chicago", 90), ("UTC", 9), ("Asia/Kolkata", 9)] {
        let limits = format!("\"{amount} requests/day\"");
        assert_eq!(counters(&book(zone, &limits), "/", at), before);
    }
    assert_ne!(counters(&book("UTC", r#""9 requests/24 hours""#), "/", at), before);
}

#[test]
fn a_clients_own_quota_replaces_its_tiers_of_the_same_period() {
    let text = r#"
        [tiers.t]
        limits = ["9 requests/day", "90 requests/month"]
        [clients.acme]
        tier = "t"
        limits = ["5 requests/day"]
    "#;
    let book = Book::compile(parse(text).unwrap());
    let mut applied = Vec::new();
    book.limits(&book.by_client("acme", None), "GET", "/", 0, &mut applied);
    let names: Vec<_> = applied.iter().map(|limit| &*limit.name).collect();
    assert_eq!(names, ["5 requests/day", "90 requests/month"]);
}

#[test]
fn quotas_that_can_never_be_reached_are_told() {
    for (limits, hidden) in [
        (r#""10 requests/day", "310 requests/month""#, true),
        (r#""10 requests/day", "309 requests/month""#, false),
        (r#""10 requests/month", "10 requests/day""#, true),
        (r#""10 requests/month", "9 requests/day""#, false),
        (r#""1 requests/hour", "25 requests/day""#, true),
        (r#""1 requests/hour", "24 requests/day""#, false),
        // An hour may hold the end of one day and the beginning of the next.
        (r#""10 requests/day", "20 requests/hour""#, true),
        (r#""10 requests/day", "19 requests/hour""#, false),
        (r#""10 requests/month", "31 requests/48 hours""#, true),
        (r#""10 requests/month", "19 requests/48 hours""#, false),
        // Not the same: two calendar days' worth fits into 24 hours.
        (r#""10 requests/day", "10 requests/24 hours""#, false),
    ] {
        let policy = parse(&format!("[tiers.t]\nlimits = [{limits}]\n")).unwrap();
        assert_eq!(!policy.warnings().is_empty(), hidden, "{limits}: {:?}", policy.warnings());
    }
}
