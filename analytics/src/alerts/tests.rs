//! Episodes through many looks.

use std::sync::Arc;

use object_store::memory::InMemory;
use weir_policy::Policy;

use super::*;
use crate::calendar::{DAY_US, HOUR_US, MINUTE_US};
use crate::finding::{Figure, Measure, Severity, episode_key};
use crate::store::Store;
use crate::testing::{Faulty, runtime};

/// Noon of some day, UTC.
const NOON_US: i64 = 1_790_769_600_000_000;

fn policy(more: &str) -> Policy {
    let text = format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"50 requests/hour\"]\n\
         [clients.acme]\ncontacts = [\"a@acme.example\"]\ntimezone = \"America/New_York\"\n\
         [clients.globex]\n{more}\n[alerts]\nto = [\"p@example.com\"]\nthresholds = [80, 100]\n"
    );
    weir_policy::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn quota(client: &str, threshold: u32, at_us: i64) -> Finding {
    let whole = threshold >= 100;
    Finding {
        key: episode_key(&(client, "50 requests/hour", threshold), at_us),
        kind: if whole { Kind::QuotaExhausted } else { Kind::QuotaThreshold },
        about: "50 requests/hour".to_owned(),
        client: Some(client.to_owned()),
        endpoint: None,
        severity: if whole { Severity::Critical } else { Severity::Warning },
        since_us: at_us,
        until_us: Some(at_us + HOUR_US),
        sentence: format!("{client}: {threshold} %"),
        figures: vec![Figure::new("threshold", f64::from(threshold), Measure::Percent)],
    }
}

fn anomaly(about: &str, client: Option<&str>, from_us: i64, to_us: i64) -> Finding {
    Finding {
        key: episode_key(&("anomaly", about, client), from_us),
        kind: Kind::Anomaly,
        about: about.to_owned(),
        client: client.map(str::to_owned),
        endpoint: None,
        severity: Severity::Warning,
        since_us: from_us,
        until_us: Some(to_us),
        sentence: about.to_owned(),
        figures: Vec::new(),
    }
}

/// Looks once, and takes what is to be sent out of the outbox.
fn look(state: &mut State, findings: &[Finding], policy: &Policy, now_us: i64) -> Vec<Message> {
    *state = fold(state.clone(), findings, policy, now_us);
    std::mem::take(&mut state.outbox)
}

fn to(messages: &[Message]) -> Vec<To> {
    messages.iter().map(|m| m.to.clone()).collect()
}

fn acme() -> To {
    To::Client("acme".to_owned())
}

#[test]
fn a_crossing_is_told_once_to_the_team_and_to_the_client() {
    let (policy, mut state) = (policy(""), State::default());
    let found = [quota("acme", 80, NOON_US), quota("globex", 80, NOON_US)];
    // globex has no contacts.
    let told = look(&mut state, &found, &policy, NOON_US + MINUTE_US);
    assert_eq!(to(&told), [To::Platform, To::Platform, acme()]);
    for minutes in [2, 30, 90, 600] {
        assert!(look(&mut state, &found, &policy, NOON_US + minutes * MINUTE_US).is_empty());
    }
}

#[test]
fn a_use_that_flaps_is_one_message_within_the_cool_down() {
    let (policy, mut state) = (policy(""), State::default());
    let mut told = 0;
    for hours in 0..12 {
        let at_us = NOON_US + hours * HOUR_US;
        told += look(&mut state, &[quota("acme", 80, at_us)], &policy, at_us + MINUTE_US).len();
    }
    // Two at noon and two after six hours.
    assert_eq!(told, 4);
}

#[test]
fn the_highest_threshold_speaks_for_those_crossed_with_it() {
    let (policy, mut state) = (policy(""), State::default());
    let both = [quota("acme", 80, NOON_US), quota("acme", 100, NOON_US)];
    let told = look(&mut state, &both, &policy, NOON_US + MINUTE_US);
    assert_eq!(to(&told), [To::Platform, acme()]);
    assert!(told.iter().all(|m| m.findings[0].kind == Kind::QuotaExhausted));
    // One after the other is told one after the other.
    let mut state = State::default();
    assert_eq!(look(&mut state, &both[..1], &policy, NOON_US + MINUTE_US).len(), 2);
    assert_eq!(look(&mut state, &both, &policy, NOON_US + 2 * MINUTE_US).len(), 2);
}

#[test]
fn everybody_hears_of_the_thresholds_and_kinds_they_chose() {
    let policy = policy("[clients.acme.alerts]\nthresholds = [50, 100]\nmute = [\"sustained_refusals\"]");
    let told = |finding: Finding| to(&look(&mut State::default(), &[finding], &policy, NOON_US + MINUTE_US));
    assert_eq!(told(quota("acme", 50, NOON_US)), [acme()]);
    assert_eq!(told(quota("acme", 80, NOON_US)), [To::Platform]);
    assert_eq!(told(quota("acme", 100, NOON_US)), [To::Platform, acme()]);
    let refused = Finding { kind: Kind::SustainedRefusals, ..quota("acme", 7, NOON_US) };
    assert_eq!(told(refused), [To::Platform]);
    assert_eq!(told(anomaly("spike", Some("acme"), NOON_US, NOON_US + HOUR_US)), [To::Platform]);
}

#[test]
fn a_mute_is_heard_by_nobody_until_it_ends() {
    let mut policy = policy("");
    let until_s = NOON_US / 1_000_000 + 60;
    policy.alerts.mute = vec![weir_policy::Mute { client: Some("acme".into()), kind: None, until_s }];
    let found = [quota("acme", 80, NOON_US), quota("globex", 80, NOON_US)];
    assert_eq!(look(&mut State::default(), &found, &policy, NOON_US + 59_000_000).len(), 1);
    assert_eq!(look(&mut State::default(), &found, &policy, NOON_US + 61_000_000).len(), 3);
}

#[test]
fn what_waits_and_is_muted_meanwhile_is_not_told() {
    let quiet = "[clients.acme.alerts]\nquiet = \"22:00-07:00\"";
    let (before, night_us) = (policy(quiet), NOON_US + 15 * HOUR_US);
    let mut state = State::default();
    // Nobody takes the team's message; acme's waits for the morning.
    let warning = [quota("acme", 80, night_us)];
    state = fold(state, &warning, &before, night_us + MINUTE_US);
    assert_eq!((state.outbox.len(), state.held.len()), (1, 1));
    let own = policy(&format!("{quiet}\nmute = [\"quota_threshold\"]"));
    let muted = fold(state.clone(), &warning, &own, night_us + 2 * MINUTE_US);
    assert_eq!((muted.outbox.len(), muted.held.len()), (1, 0), "by acme, for its own contacts");
    let mut all = before;
    all.alerts.mute = vec![weir_policy::Mute { client: None, kind: None, until_s: i64::MAX }];
    let muted = fold(state, &warning, &all, night_us + 2 * MINUTE_US);
    assert_eq!((muted.outbox.len(), muted.held.len()), (0, 0), "by the team, for everybody");
}

#[test]
fn a_drop_is_told_only_if_late_records_do_not_explain_it() {
    let (policy, mut state) = (policy(""), State::default());
    let drop = anomaly("drop", Some("acme"), NOON_US - HOUR_US, NOON_US);
    let found = std::slice::from_ref(&drop);
    assert!(look(&mut state, found, &policy, NOON_US + MINUTE_US).is_empty());
    assert_eq!(state.episodes[drop.subject()].phase, Phase::Pending);
    // The records of another gateway come, and it is none: nobody has heard of it.
    for minutes in 2..300 {
        assert!(look(&mut state, &[], &policy, NOON_US + minutes * MINUTE_US).is_empty());
    }
    assert_eq!(state.episodes[drop.subject()].phase, Phase::Recovered);
    let mut state = State::default();
    let told: usize =
        (1..9).map(|minutes| look(&mut state, found, &policy, NOON_US + minutes * MINUTE_US).len()).sum();
    assert_eq!((told, state.episodes[drop.subject()].phase), (1, Phase::Firing));
}

#[test]
fn an_anomaly_that_grows_is_one_and_its_end_is_told() {
    let (policy, mut state) = (policy(""), State::default());
    let mut told = Vec::new();
    for minutes in 1..600 {
        let now_us = NOON_US + minutes * MINUTE_US;
        let ended_us = now_us - now_us.rem_euclid(HOUR_US);
        // Late records move its beginning by an hour.
        let begun_us = if minutes < 90 { NOON_US - HOUR_US } else { NOON_US - 2 * HOUR_US };
        let spike = anomaly("spike", None, begun_us, ended_us.min(NOON_US + 3 * HOUR_US));
        told.extend(look(&mut state, &[spike], &policy, now_us));
    }
    let recovered: Vec<bool> = told.iter().map(|m| m.recovered).collect();
    assert_eq!(recovered, [false, true]);
    assert_eq!(told[0].findings[0].key, told[1].findings[0].key, "they are a thread");
    assert_eq!(told[1].findings[0].until_us, Some(NOON_US + 3 * HOUR_US));
}

#[test]
fn a_burn_whose_beginning_moves_along_is_one_until_it_is_over() {
    let (policy, mut state) = (policy(""), State::default());
    let mut told = Vec::new();
    for minutes in 0..1_000 {
        let now_us = NOON_US + minutes * MINUTE_US;
        let burn = Finding {
            kind: Kind::ObjectiveBurn,
            until_us: None,
            key: episode_key(&"burn", now_us - HOUR_US),
            ..quota("acme", 1, now_us - HOUR_US)
        };
        // A gap of five minutes is none; the one from 100 to 500 ends it.
        let is_on = !(50..55).contains(&minutes) && !(100..500).contains(&minutes);
        let found: Vec<Finding> = is_on.then_some(burn).into_iter().collect();
        told.extend(look(&mut state, &found, &policy, now_us).into_iter().map(|m| (minutes, m.recovered)));
    }
    assert_eq!(told, [(0, false), (109, true), (500, false)]);
}

#[test]
fn the_service_as_a_whole_speaks_for_its_clients() {
    let (policy, mut state) = (policy(""), State::default());
    let hour = |about, client| anomaly(about, client, NOON_US - HOUR_US, NOON_US);
    let found = [
        hour("errors", Some("acme")),
        hour("errors", None),
        hour("errors", Some("globex")),
        hour("latency", Some("acme")),
    ];
    let told = look(&mut state, &found, &policy, NOON_US + MINUTE_US);
    let about: Vec<_> =
        told.iter().map(|m| (m.findings[0].about.as_str(), m.findings[0].client.as_deref())).collect();
    assert_eq!(about, [("errors", None), ("latency", Some("acme"))]);
    assert_eq!(state.episodes[found[0].subject()].silence, Some(Silence::Inhibited));
}

#[test]
fn quiet_hours_hold_warnings_back_until_the_morning_of_the_reader() {
    let policy = policy("[clients.acme.alerts]\nquiet = \"22:00-07:00\"");
    // 23:00 in New York.
    let night_us = NOON_US + 15 * HOUR_US;
    let mut state = State::default();
    let warning = [quota("acme", 80, night_us)];
    assert_eq!(to(&look(&mut state, &warning, &policy, night_us + MINUTE_US)), [To::Platform]);
    assert!(look(&mut state, &warning, &policy, night_us + 7 * HOUR_US).is_empty());
    assert_eq!(to(&look(&mut state, &warning, &policy, night_us + 8 * HOUR_US)), [acme()]);
    assert!(state.held.is_empty());
    let critical = [quota("acme", 100, night_us)];
    assert_eq!(look(&mut State::default(), &critical, &policy, night_us + MINUTE_US).len(), 2);
}

#[test]
fn ten_thousand_at_once_are_one_digest_for_the_team_and_one_message_each() {
    let mut more = String::new();
    for n in 0..10_000 {
        more += &format!("[clients.c{n}]\ncontacts = [\"c{n}@example.com\"]\n");
    }
    let (policy, mut state) = (policy(&more), State::default());
    let found: Vec<Finding> = (0..10_000).map(|n| quota(&format!("c{n}"), 100, NOON_US)).collect();
    let told = look(&mut state, &found, &policy, NOON_US + MINUTE_US);
    assert_eq!((told.len(), &told[0].to), (10_001, &To::Platform));
    assert_eq!(told[0].findings.len() + told[0].more, 10_000);
    assert!(told.iter().skip(1).all(|m| !m.is_digest()));
    assert!(look(&mut state, &found, &policy, NOON_US + 2 * MINUTE_US).is_empty());
}

#[test]
fn the_team_gets_so_many_messages_an_hour_and_the_rest_in_one() {
    let (policy, mut state) = (policy(""), State::default());
    let mut told = Vec::new();
    let mut found = Vec::new();
    for minutes in 1..=70 {
        let now_us = NOON_US + minutes * MINUTE_US;
        found.push(Finding { kind: Kind::ObjectiveBurn, ..quota(&format!("c{minutes}"), 7, now_us) });
        told.extend(look(&mut state, &found, &policy, now_us));
    }
    let in_all: usize = told.iter().filter(|m| !m.recovered).map(|m| m.findings.len() + m.more).sum();
    assert!(in_all >= 60 && told.iter().any(Message::is_digest), "{in_all}");
    let hour = told.iter().filter(|m| m.decided_us < NOON_US + HOUR_US).count();
    assert_eq!(hour, MOST_AN_HOUR);
}

#[test]
fn steps_of_the_clock_and_days_without_a_look_neither_repeat_nor_end_anything() {
    let (policy, mut state) = (policy(""), State::default());
    let burn = Finding { kind: Kind::ObjectiveBurn, until_us: None, ..quota("acme", 1, NOON_US) };
    let found = [quota("acme", 80, NOON_US), burn.clone()];
    assert_eq!(look(&mut state, &found, &policy, NOON_US + MINUTE_US).len(), 3);
    // A month ahead nothing is found; then back, and into yesterday.
    assert!(look(&mut state, &[], &policy, NOON_US + 30 * DAY_US).is_empty());
    assert!(look(&mut state, &found, &policy, NOON_US + 2 * MINUTE_US).is_empty());
    assert!(look(&mut state, &found, &policy, NOON_US - DAY_US).is_empty());
    assert!(look(&mut state, &found, &policy, NOON_US + 3 * MINUTE_US).is_empty());
    assert_eq!(state.episodes[burn.subject()].phase, Phase::Firing);
    // After a day without a tick: what is still news is told, what is history is not.
    let now_us = NOON_US + 40 * HOUR_US;
    let late = [quota("globex", 80, now_us - 3 * HOUR_US), quota("globex", 100, NOON_US + 2 * HOUR_US)];
    let told = look(&mut state, &late, &policy, now_us);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].findings[0].key, late[0].key);
}

#[test]
fn a_budget_that_burns_on_is_one_episode_though_its_window_slides() {
    let (policy, mut state) = (policy(""), State::default());
    let mut told = Vec::new();
    let mut now_us = NOON_US;
    let burn = |now_us: i64| {
        let since_us = now_us - HOUR_US;
        let key = episode_key(&"burn", since_us);
        Finding { kind: Kind::ObjectiveBurn, key, since_us, until_us: None, ..quota("acme", 1, now_us) }
    };
    for burns in [true, false, true] {
        for _ in 0..12 * 60 {
            let found: Vec<Finding> = burns.then(|| burn(now_us)).into_iter().collect();
            told.extend(look(&mut state, &found, &policy, now_us));
            now_us += MINUTE_US;
        }
    }
    let platform = told.iter().filter(|m| m.to == To::Platform);
    assert_eq!(platform.map(|m| m.recovered).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn two_jobs_at_once_decide_once() {
    let store = Store::new(Arc::new(InMemory::new()));
    let (policy, found) = (policy(""), [quota("acme", 80, NOON_US)]);
    runtime().block_on(async {
        let mut interrupted = false;
        let first = book::update(&store, |state| fold(state, &found, &policy, NOON_US + MINUTE_US)).await;
        assert_eq!(first.unwrap().unwrap().outbox.len(), 2);
        // Another goes between reading and writing.
        let other = store.clone();
        let second = book::update(&store, |state| {
            if !std::mem::replace(&mut interrupted, true) {
                let raced = book::update(&other, |s| fold(s, &found, &policy, NOON_US + 2 * MINUTE_US));
                futures::executor::block_on(raced).unwrap();
            }
            fold(state, &found, &policy, NOON_US + 3 * MINUTE_US)
        });
        assert_eq!(second.await.unwrap().unwrap().outbox.len(), 2, "each message is there once");
        for minutes in 4..20 {
            let done =
                book::update(&store, |s| fold(s, &found, &policy, NOON_US + minutes * MINUTE_US)).await;
            assert_eq!(done.unwrap().unwrap().outbox.len(), 2);
        }
        assert!(store.list("alerts").await.unwrap().len() <= 4 + 1);
    });
}

#[test]
fn a_death_at_any_operation_loses_nothing_and_repeats_nothing() {
    let (policy, found) = (policy(""), [quota("acme", 80, NOON_US), quota("globex", 100, NOON_US)]);
    for left in 0..40 {
        let memory = Arc::new(InMemory::new());
        let dying = Store::new(Arc::new(Faulty::after(memory.clone(), left)));
        runtime().block_on(async {
            for minutes in 1..5 {
                let look = |state| fold(state, &found, &policy, NOON_US + minutes * MINUTE_US);
                let _ = book::update(&dying, look).await;
            }
            let alive = Store::new(memory);
            let after = book::update(&alive, |s| fold(s, &found, &policy, NOON_US + 9 * MINUTE_US)).await;
            assert_eq!(after.unwrap().unwrap().outbox.len(), 3, "after {left} operations");
        });
    }
}
