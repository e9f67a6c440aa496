//! The sample policy is what a newcomer copies: it must be right, and do what its comments say.

use weir_policy::{Action, Applied, Book, Caller, Kind, Note, parse};

const SAMPLE: &str = include_str!("../../nginx/policy.toml");

fn sample() -> Book {
    Book::compile(parse(SAMPLE).expect("the sample is right"))
}

fn names(book: &Book, caller: &Caller<'_>, method: &str, endpoint: &str) -> Vec<String> {
    let mut applied = Vec::new();
    book.limits(caller, method, endpoint, 0, &mut applied);
    applied.iter().map(|limit: &Applied| limit.name.to_string()).collect()
}

#[test]
fn the_sample_has_no_warnings() {
    let policy = parse(SAMPLE).expect("the sample is right");
    assert_eq!(policy.warnings(), []);
    assert_eq!((policy.tiers.len(), policy.clients.len(), policy.key_count()), (3, 3, 4));
    assert_eq!(policy.alerts.thresholds, [80, 90, 100]);
    assert_eq!(policy.client("acme").unwrap().timezone.as_deref(), Some("America/Chicago"));
    assert_eq!(policy.client("globex").unwrap().display_name(), "Globex");
}

#[test]
fn its_keys_are_the_ones_it_prints() {
    let book = sample();
    let acme = book.by_key(b"weir_sample_acme", 0);
    assert_eq!((acme.id, acme.tier, acme.kind), ("acme", "enterprise", Kind::Known));
    assert_eq!((acme.action, acme.dry_run, acme.note), (Action::Enforce, false, None));
    assert_eq!(book.by_key(b"weir_sample_initech", 0).tier, "basic", "the default tier");
    let next = b"weir_sample_globex_2030";
    assert_eq!(book.by_key(next, 1_893_455_999).note, Some(Note::KeyNotYetValid));
    assert_eq!(book.by_key(next, 1_893_456_000).id, "globex");
}

#[test]
fn its_limits_are_the_ones_it_explains() {
    let book = sample();
    let acme = book.by_key(b"weir_sample_acme", 0);
    assert_eq!(names(&book, &acme, "GET", "/orders"), ["10000 requests/minute"]);
    let orders = ["10000 requests/minute", "600 requests/minute POST /orders"];
    assert_eq!(names(&book, &acme, "POST", "/orders"), orders);
    let reports = ["10000 requests/minute", "50 requests/second * /reports"];
    assert_eq!(names(&book, &acme, "GET", "/reports"), reports);
    let globex = book.by_key(b"weir_sample_globex", 0);
    assert_eq!(names(&book, &globex, "GET", "/"), ["1500 requests/minute"]);
    let initech = book.by_key(b"weir_sample_initech", 0);
    assert_eq!(names(&book, &initech, "GET", "/"), ["100 requests/minute", "2000 requests/hour"]);
    let nobody = book.by_key(b"", 0);
    assert_eq!((nobody.id, nobody.tier, nobody.action), ("anonymous", "unknown", Action::Observe));
    assert!(names(&book, &nobody, "GET", "/reports").is_empty());
}
