//! Walks for tests, and what is asked of them.

use weir_policy::parse;

use super::*;
use crate::settings::Headers;

const POLICY: &str = r#"
default_tier = "basic"
[tiers.basic]
limits = ["100 requests/minute"]
[routes]
order = "GET /orders/{id}"
[clients.acme]
name = "Acme Corp"
"#;

fn book() -> Tables {
    Tables::compile(&parse(POLICY).expect("a policy"))
}

/// A walk of a client with the limits of `book`, not yet asked.
pub(crate) fn walk_of(client: &str) -> Walk {
    walk_to(&book(), &RequestFacts { client: client.as_bytes(), method: b"GET", ..Default::default() })
}

/// A moment, in seconds since 1970, of a machine that was started then.
fn at(unix_s: u64) -> Now {
    Now { boot_ms: unix_s * 1_000, unix_us: unix_s * 1_000_000 }
}

fn walk_to(book: &Tables, facts: &RequestFacts<'_>) -> Walk {
    Walk::new(book, &mut Profiles::default(), facts, Rules::default(), at(0))
}

/// A walk that passed under (limit, units left, ms until more).
pub(crate) fn limited(states: &[(&str, u64, u64)]) -> Walk {
    let limits: Vec<_> = states.iter().map(|(limit, ..)| format!("{limit:?}")).collect();
    let text = format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [{}]\n[clients.acme]\nname = \"Acme Corp\"\n",
        limits.join(", ")
    );
    let book = Tables::compile(&parse(&text).expect("a policy"));
    let facts = RequestFacts { client: b"acme", method: b"GET", ..Default::default() };
    let mut walk = walk_to(&book, &facts);
    let limits = &walk.profile.limits;
    assert_eq!(limits.len(), states.len(), "each limit applies: {limits:?}");
    walk.states = states.iter().map(|&(_, remaining, reset_ms)| LimitState { remaining, reset_ms }).collect();
    walk
}

/// The same, refused by one of them.
pub(crate) fn refused(states: &[(&str, u64, u64)], by: usize, retry_ms: u64) -> Walk {
    let mut walk = limited(states);
    walk.refused_by = Some(by);
    walk.verdict = Verdict::Refuse(Refusal {
        status: 429,
        reason: Reason::Limit,
        retry_after_s: Some(retry_ms.div_ceil(1_000)),
    });
    walk
}

/// A walk that was turned away for another reason than a limit.
pub(crate) fn turned_away(reason: Reason) -> Walk {
    let (status, retry_after_s) = match reason {
        Reason::UnknownCaller => (403, None),
        Reason::CannotDecide | Reason::Limit => (503, Some(1)),
    };
    let mut walk = walk_of("acme");
    walk.verdict = Verdict::Refuse(Refusal { status, reason, retry_after_s });
    walk
}

#[test]
fn who_and_what() {
    let book = book();
    let facts = RequestFacts {
        client: b"acme",
        method: b"GET",
        path: b"/orders/17",
        place: b"/orders/",
        ..Default::default()
    };
    let walk = walk_to(&book, &facts);
    assert_eq!((walk.client(), walk.tier(), walk.endpoint()), ("acme", "basic", "order"));
    assert_eq!((walk.client_name(), walk.profile.limits.len()), ("Acme Corp", 1));
}

#[test]
fn a_client_id_that_is_no_text_is_nobody() {
    let walk = walk_to(&book(), &RequestFacts { client: b"ac\xffme", ..Default::default() });
    assert_eq!(walk.client(), "anonymous");
}

#[test]
fn of_equal_shares_the_slower_one_is_nearest() {
    let walk = limited(&[("100 requests/minute", 10, 5_000), ("1000 requests/hour", 100, 9_000)]);
    assert_eq!(walk.nearest().map(|quota| quota.name), Some("1000 requests/hour"));
}

#[test]
fn a_record_says_who_what_and_which_limit() {
    let walk = refused(&[("100 requests/minute", 0, 1), ("1000 requests/hour", 100, 9_000)], 0, 1);
    let outcome = Outcome { status: 429, latency_us: 7, upstream_us: None, bytes_in: 1, bytes_out: 2 };
    let record = walk.record(&outcome, 99);
    assert_eq!((record.client, record.tier, record.method), ("acme", "t", "GET"));
    assert_eq!((record.status, record.limit, record.time_us), (429, "100 requests/minute", 99));
    assert_eq!(record.endpoint, "other");
}

#[test]
fn rules_stay_with_the_walk() {
    let rules = Rules { headers: Headers::Legacy, dry_run: true, ..Rules::default() };
    let walk = Walk::new(&book(), &mut Profiles::default(), &RequestFacts::default(), rules, at(0));
    assert!(walk.rules() == rules && walk.dry_run);
}

#[test]
fn requests_that_are_alike_share_a_profile_and_others_do_not() {
    let (book, mut profiles) = (book(), Profiles::default());
    let base =
        RequestFacts { client: b"acme", tier: b"", method: b"GET", place: b"/a/", ..Default::default() };
    let mut profile = |facts: &RequestFacts<'_>| {
        Rc::as_ptr(&Walk::new(&book, &mut profiles, facts, Rules::default(), at(0)).profile)
    };
    let first = profile(&base);
    assert_eq!(first, profile(&base));
    let others = [
        RequestFacts { client: b"initech", ..base },
        RequestFacts { client: b"", ..base },
        RequestFacts { method: b"POST", ..base },
        RequestFacts { place: b"/b/", ..base },
        RequestFacts { path: b"/orders/1", ..base },
    ];
    let mut seen = vec![first];
    seen.extend(others.iter().map(&mut profile));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 6);
}

#[test]
fn a_key_that_was_just_seen_still_expires() {
    let hash = weir_policy::spell_hash(&hash_key(b"old-key"));
    let text = format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"9 requests/minute\"]\n\
         [clients.acme]\nkeys = [{{ hash = \"{hash}\", not_after = 2026-11-24T12:00:00Z }}]\n"
    );
    let (book, mut profiles) = (Tables::compile(&parse(&text).expect("a policy")), Profiles::default());
    let facts = RequestFacts { key: b"old-key", method: b"GET", ..Default::default() };
    let noon = 1_795_521_600;
    let mut client =
        |now_s| Walk::new(&book, &mut profiles, &facts, Rules::default(), at(now_s)).client().to_owned();
    assert_eq!(client(noon - 2), "acme");
    assert_eq!(client(noon - 1), "acme");
    assert_eq!(client(noon), "anonymous");
}

#[test]
fn an_address_has_one_spelling() {
    for (told, wanted) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("2001:DB8:0:0::01", "2001:db8::1"),
        ("unix:", "unix:"),
        ("", ""),
    ] {
        let walk = walk_to(&book(), &RequestFacts { address: told.as_bytes(), ..Default::default() });
        assert_eq!(walk.stranger.as_deref(), Some(wanted), "{told}");
    }
}
