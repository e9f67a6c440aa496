//! What a compiled policy says about callers, and under which names it counts.

use std::collections::HashSet;

use weir_policy::{Action, Applied, Book, Caller, Kind, Note, hash_key, parse, spell_hash};

fn book(text: &str) -> Book {
    Book::compile(parse(text).unwrap_or_else(|problems| panic!("{problems:#?}")))
}

fn key_of(text: &str) -> String {
    spell_hash(&hash_key(text.as_bytes()))
}

fn limits(book: &Book, caller: &Caller<'_>, method: &str, endpoint: &str) -> Vec<Applied> {
    let mut applied = Vec::new();
    book.limits(caller, method, endpoint, 0, &mut applied);
    applied
}

fn counters(book: &Book, caller: &Caller<'_>, method: &str, endpoint: &str) -> Vec<String> {
    let applied = limits(book, caller, method, endpoint);
    applied.iter().map(|limit| limit.counter.name.clone()).collect()
}

fn two_tiers() -> Book {
    book(&format!(
        r#"
        default_tier = "basic"
        [tiers.basic]
        limits = ["100 requests/minute", "1 GB/hour"]
        [[tiers.basic.endpoints]]
        match = "POST /orders"
        limits = ["5 requests/second", "60 requests/minute"]
        [tiers.gold]
        limits = ["9000 requests/minute"]
        exempt = false
        [tiers.free]
        exempt = true
        [[endpoints]]
        match = "* /reports"
        limits = ["50 requests/second"]
        [[endpoints]]
        match = "GET *"
        limits = ["7 units/10 seconds"]
        [clients.acme]
        keys = ["{acme}"]
        [clients.special]
        keys = ["{special}"]
        limits = ["250 requests/minute", "9 requests/second"]
        [[clients.special.endpoints]]
        match = "POST /orders"
        limits = ["1 requests/second"]
        [clients.vip]
        keys = ["{vip}"]
        tier = "free"
        [clients.watched]
        keys = ["{watched}"]
        dry_run = true
        "#,
        acme = key_of("acme-key"),
        special = key_of("special-key"),
        vip = key_of("vip-key"),
        watched = key_of("watched-key"),
    ))
}

#[test]
fn a_counter_is_named_by_what_it_counts_and_never_by_how_much() {
    let book = two_tiers();
    let acme = book.by_key(b"acme-key", 0);
    assert_eq!(
        counters(&book, &acme, "POST", "/orders"),
        [
            "{acme}:requests:60000",
            "{acme}:bytes:3600000",
            "{acme}:requests:1000:POST /orders",
            "{acme}:requests:60000:POST /orders",
        ]
    );
    assert_eq!(
        counters(&book, &acme, "GET", "/reports")[2..],
        ["{*:* /reports}:requests:1000", "{*:GET *}:units:10000"]
    );
    let gold = book.by_client("acme", Some("gold"));
    assert_eq!(counters(&book, &gold, "PUT", "/x"), ["{acme}:requests:60000"], "history is kept");
}

#[test]
fn own_limits_come_first_and_replace_those_of_the_same_unit_and_window() {
    let book = two_tiers();
    let special = book.by_key(b"special-key", 0);
    let applied = limits(&book, &special, "POST", "/orders");
    let names: Vec<&str> = applied.iter().map(|limit| &*limit.name).collect();
    assert_eq!(
        names,
        [
            "250 requests/minute",
            "9 requests/second",
            "1 requests/second POST /orders",
            "1 GB/hour",
            "60 requests/minute POST /orders",
        ]
    );
    let in_gold = book.by_client("special", Some("gold"));
    let names: Vec<String> =
        limits(&book, &in_gold, "GET", "x").iter().map(|limit| limit.name.to_string()).collect();
    assert_eq!(names[..2], ["250 requests/minute", "9 requests/second"]);
    assert_eq!(names.len(), 3, "and the one over all: {names:?}");
}

#[test]
fn no_request_asks_one_counter_twice() {
    let book = two_tiers();
    for id in ["acme", "special", "unlisted"] {
        for tier in [None, Some("basic"), Some("gold")] {
            let caller = book.by_client(id, tier);
            for (method, endpoint) in [("POST", "/orders"), ("GET", "/reports"), ("GET", "*")] {
                let names = counters(&book, &caller, method, endpoint);
                let distinct: HashSet<&String> = names.iter().collect();
                assert_eq!(distinct.len(), names.len(), "{names:?}");
            }
        }
    }
}

#[test]
fn keys_that_are_none_make_no_client() {
    let book = two_tiers();
    let long = [b'k'; 257];
    let odd: [(&[u8], Note); 7] = [
        (b"", Note::NoKey),
        (b"x", Note::UnknownKey),
        (b"acme-key\0", Note::UnknownKey),
        (b"acme-key\r\n", Note::UnknownKey),
        (b"\xff\xfe", Note::UnknownKey),
        (&long[..256], Note::UnknownKey),
        (&long, Note::KeyTooLong),
    ];
    for (key, note) in odd {
        let caller = book.by_key(key, 0);
        assert_eq!((caller.id, caller.kind), ("anonymous", Kind::Anonymous));
        assert_eq!(caller.note, Some(note));
    }
}

#[test]
fn a_key_has_its_time() {
    let book = book(&format!(
        r#"
        tiers.basic.limits = ["1 requests/second"]
        [clients.a]
        tier = "basic"
        keys = [
            {{ hash = "{}", not_before = 2026-12-01T00:00:00Z, not_after = 2026-12-01T01:00:00+00:30 }},
        ]
        "#,
        key_of("k")
    ));
    let from = 1_796_083_200;
    assert_eq!(book.by_key(b"k", from - 1).note, Some(Note::KeyNotYetValid));
    assert_eq!(book.by_key(b"k", from).id, "a");
    assert_eq!(book.by_key(b"k", from + 1_799).id, "a");
    assert_eq!(book.by_key(b"k", from + 1_800).note, Some(Note::KeyExpired));
    assert_eq!(book.by_key(b"k", from + 1_800).id, "anonymous");
}

#[test]
fn exempt_and_dry_run_come_from_the_client_or_its_tier() {
    let book = two_tiers();
    let vip = book.by_key(b"vip-key", 0);
    assert_eq!((vip.id, vip.action), ("vip", Action::Exempt));
    assert!(limits(&book, &vip, "GET", "/reports").is_empty());
    let watched = book.by_key(b"watched-key", 0);
    assert_eq!((watched.action, watched.dry_run), (Action::Enforce, true));
    assert!(book.by_client("watched", Some("gold")).dry_run);
    assert_eq!(book.by_client("vip", Some("gold")).action, Action::Enforce);
    assert_eq!(book.by_client("acme", Some("free")).action, Action::Exempt);
}

#[test]
fn a_share_of_a_tier_is_the_same_by_key_and_by_name() {
    let clients: String =
        (0..400).map(|n| format!("[clients.c{n}]\nkeys = [\"{}\"]\n", key_of(&format!("k{n}")))).collect();
    let text = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"1 requests/second\"]\ndry_run = \"25%\"\n";
    let book = book(&format!("{text}{clients}"));
    let dry = |n: &usize| book.by_key(format!("k{n}").as_bytes(), 0).dry_run;
    let covered: Vec<usize> = (0..400).filter(dry).collect();
    assert!((60..140).contains(&covered.len()), "{}", covered.len());
    assert!(covered.iter().all(|n| book.by_client(&format!("c{n}"), None).dry_run));
}

#[test]
fn unknown_callers_may_be_met_limited_or_rejected() {
    let tier = "[tiers.basic]\nlimits = [\"3 requests/second\"]\n";
    let unknown = |text: &str| book(&format!("[unknown]\n{text}\n{tier}"));
    for (text, action, tier) in [
        ("", Action::Observe, "unknown"),
        ("action = \"observe\"\ntier = \"basic\"", Action::Observe, "unknown"),
        ("action = \"reject\"", Action::Reject, "unknown"),
        ("action = \"limit\"\ntier = \"basic\"", Action::Enforce, "basic"),
    ] {
        let book = unknown(text);
        let caller = book.by_key(b"nobody's", 0);
        assert_eq!((caller.action, caller.tier, caller.id), (action, tier, "anonymous"), "{text}");
        let expected = if action == Action::Enforce { 1 } else { 0 };
        assert_eq!(limits(&book, &caller, "GET", "/").len(), expected);
    }
    let book = unknown("action = \"limit\"\ntier = \"basic\"");
    let one = limits(&book, &book.by_key(b"1", 0), "GET", "/");
    let two = limits(&book, &book.by_key(b"2", 0), "GET", "/");
    assert_eq!(one[0].counter, two[0].counter, "all share one client");
    assert_eq!(one[0].counter.name, "{anonymous}:requests:1000");
}

#[test]
fn a_client_that_was_authenticated_elsewhere_needs_only_a_tier() {
    let with = two_tiers();
    let jo = with.by_client("jo", Some("gold"));
    assert_eq!((jo.id, jo.tier, jo.kind, jo.note), ("jo", "gold", Kind::Known, None));
    assert_eq!(counters(&with, &jo, "PUT", "/"), ["{jo}:requests:60000"]);
    assert_eq!(with.by_client("jo", None).tier, "basic", "the default tier");
    assert_eq!(with.by_client("jo", Some("")).note, None, "an empty variable names no tier");
    let odd = with.by_client("acme", Some("platinum"));
    assert_eq!((odd.id, odd.tier, odd.note), ("acme", "basic", Some(Note::UnknownTier)));
    let without = book("tiers.t.limits = [\"1 requests/second\"]");
    for (id, tier, note) in [
        ("jo", None, Note::UnknownClient),
        ("jo", Some("x"), Note::UnknownTier),
        ("", Some("t"), Note::NoKey),
        ("anonymous", Some("t"), Note::BadClientId),
        ("a\nb", Some("t"), Note::BadClientId),
    ] {
        let caller = without.by_client(id, tier);
        assert_eq!((caller.kind, caller.note), (Kind::Anonymous, Some(note)), "{id:?}");
    }
    assert_eq!(without.by_client(&"x".repeat(129), Some("t")).kind, Kind::Anonymous);
}

#[test]
fn names_with_signs_of_ours_stay_apart() {
    let ids = ["*:POST /x", "%2A:POST /x", "a{b", "a%7Bb", "{}", "<b>\"Söhne\" & 'Co'", "anonymous "];
    // Rust's escapes are TOML's here.
    let clients: String = ids.iter().map(|id| format!("[clients.{id:?}]\n")).collect();
    let rule = "[[endpoints]]\nmatch = \"POST /x\"\nlimits = [\"1 requests/second\"]\n";
    let tier = "[tiers.t]\nlimits = [\"9 requests/second\"]\n";
    let book = book(&format!("default_tier = \"t\"\n{rule}{tier}{clients}"));
    let mut seen = HashSet::new();
    for id in ids {
        let caller = book.by_client(id, None);
        assert_eq!(book.client_name(caller.id), Some(id));
        let applied = limits(&book, &caller, "POST", "/x");
        assert_eq!(applied.len(), 2);
        let tag = applied[0].counter.tag();
        assert_eq!(tag.matches(['{', '}']).count(), 2, "{tag}");
        assert!(seen.insert(tag.to_owned()) && tag != applied[1].counter.tag());
    }
}

#[test]
fn routes_name_endpoints() {
    let book = book("tiers.t.limits = [\"1 requests/second\"]\nroutes.order = \"GET /orders/{id}\"\n");
    assert_eq!(book.endpoint("GET", "/orders/7"), Some("order"));
    assert_eq!(book.endpoint("PUT", "/orders/7"), None);
    assert_eq!(book.endpoint("GET", "/orders/7/../8"), None);
}

#[test]
fn the_version_is_of_the_text() {
    let text = "tiers.t.limits = [\"1 requests/second\"]\n";
    let hash = hash_key(text.as_bytes());
    assert_eq!(book(text).version().to_be_bytes(), hash[..8]);
    assert_ne!(book(&format!("{text}#")).version(), book(text).version());
}

#[test]
fn calls_to_a_client_count_are_met_or_ignored_as_its_policy_says() {
    let book = book(
        r#"
        default_tier = "basic"
        [tiers.basic]
        limits = ["100 requests/minute"]
        [tiers.gold]
        limits = ["9000 requests/minute"]
        webhooks = "meter"
        [clients.acme]
        tier = "gold"
        [clients.globex]
        tier = "gold"
        webhooks = "ignore"
        [clients.initech]
        [clients.hooli]
        tier = "gold"
        webhooks = "count"
        "#,
    );
    let action = |id| book.by_webhook(id).action;
    assert_eq!(["initech", "hooli", "not-listed"].map(action), [Action::Enforce; 3]);
    assert_eq!(["acme", "globex", ""].map(action), [Action::Observe, Action::Ignore, Action::Observe]);
    let caller = book.by_webhook("initech");
    assert_eq!(counters(&book, &caller, "POST", "/hooks"), ["{initech}:requests:60000"]);
    assert!(counters(&book, &book.by_webhook("acme"), "POST", "/hooks").is_empty());
    assert_eq!(book.by_client("acme", None).action, Action::Enforce, "its own requests are limited");
}
