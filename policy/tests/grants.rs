//! Grants: more of a limit for a while, by the clock alone.

use jiff::Timestamp;
use weir_policy::{Book, hash_key, parse, spell_hash};

fn second(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn text(grants: &str) -> String {
    let key = spell_hash(&hash_key(b"k"));
    format!(
        r#"
[tiers.t]
limits = ["1000 requests/hour", "500 MB/day"]
[[tiers.t.endpoints]]
match = "POST /orders"
limits = ["100 requests/hour"]
[clients.acme]
tier = "t"
keys = ["{key}"]
limits = ["20 requests/minute"]
{grants}"#
    )
}

const LAUNCH: &str = r#"
[[clients.acme.grants]]
limit = "500 requests/hour"
until = 2027-01-15T10:00:00Z
reason = "their launch"
[[clients.acme.grants]]
limit = "50 requests/hour"
from = 2027-01-15T09:00:00Z
until = 2027-01-15T11:00:00Z
"#;

fn names(book: &Book, at: &str) -> Vec<(String, u64)> {
    let mut applied = Vec::new();
    let now_s = second(at);
    book.limits(&book.by_key(b"k", now_s), "POST", "/orders", now_s, &mut applied);
    applied.iter().map(|limit| (limit.name.to_string(), limit.limit.amount)).collect()
}

#[test]
fn a_grant_adds_to_its_limit_until_it_ends_and_to_no_other() {
    let book = Book::compile(parse(&text(LAUNCH)).unwrap());
    let per_hour = |at| {
        let names = names(&book, at);
        assert_eq!(names.len(), 4);
        assert_eq!(names[0], ("20 requests/minute".to_owned(), 20));
        assert_eq!(names[2].1, 500_000_000);
        assert_eq!(names[3], ("100 requests/hour POST /orders".to_owned(), 100));
        names[1].clone()
    };
    assert_eq!(per_hour("2027-01-15T08:00:00Z"), ("1500 requests/hour".to_owned(), 1_500));
    assert_eq!(per_hour("2027-01-15T09:00:00Z"), ("1550 requests/hour".to_owned(), 1_550));
    assert_eq!(per_hour("2027-01-15T09:59:59Z").1, 1_550);
    assert_eq!(per_hour("2027-01-15T10:00:00Z").1, 1_050);
    assert_eq!(per_hour("2027-01-15T11:00:00Z"), ("1000 requests/hour".to_owned(), 1_000));
}

#[test]
fn it_is_known_how_long_they_stay_as_they_are() {
    let book = Book::compile(parse(&text(LAUNCH)).unwrap());
    let steady = |at: &str| book.steady_s(&book.by_client("acme", None), second(at));
    let (nine, ten, eleven) = ("2027-01-15T09:00:00Z", "2027-01-15T10:00:00Z", "2027-01-15T11:00:00Z");
    assert_eq!(steady("2027-01-15T08:00:00Z"), i64::MIN..second(nine));
    assert_eq!(steady(nine), second(nine)..second(ten));
    assert_eq!(steady(ten), second(ten)..second(eleven));
    assert_eq!(steady(eleven), second(eleven)..i64::MAX);
}

#[test]
fn a_grant_that_could_not_work_is_refused() {
    let refused = |grant: &str| {
        let problems = parse(&text(&format!("[[clients.acme.grants]]\n{grant}"))).expect_err(grant);
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(refused("limit = \"5 requests/hour\"").contains("clients.acme.grants[0]: this grant has no"));
    assert!(refused("until = 2027-01-15T10:00:00Z").contains("this grant has no limit or no end"));
    let other = refused("limit = \"5 units/hour\"\nuntil = 2027-01-15T10:00:00Z");
    assert!(other.contains("no such limit to add to; a grant adds to a limit of the same unit"), "{other}");
    assert!(other.contains("\"20 requests/minute\", \"1000 requests/hour\", \"500 MB/day\""), "{other}");
    let times = "from = 2027-01-15T10:00:00Z\nuntil = 2027-01-15T10:00:00Z";
    assert!(refused(&format!("limit = \"5 requests/hour\"\n{times}")).contains("put until after from"));
    let typo = refused("limit = \"5 requests/hour\"\nuntil = 2027-01-15T10:00:00Z\nreazon = \"x\"");
    assert!(typo.contains("did you mean \"reason\"?"), "{typo}");
}
