//! Calendar quotas at a gateway alone: midnight, changed policies, clocks that are set.

use std::rc::Rc;

use super::tests::{DONE, Scene, client};
use super::*;

/// 2027-01-15T08:00:00Z: in Kiritimati it is 22:00 of the same day.
const NOW_S: u64 = 1_800_000_000;
const HOUR_MS: u64 = 3_600_000;

fn policy(limits: &str, zone: &str) -> String {
    format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [{limits}]\n\
         [clients.acme]\nname = \"Acme Corp\"\ntimezone = \"{zone}\"\n"
    )
}

fn scene(limits: &str) -> Scene {
    let scene = Scene::with(&policy(limits, "Pacific/Kiritimati"));
    assert_eq!(scene.now.unix_us, NOW_S * 1_000_000);
    scene
}

fn acme() -> RequestFacts<'static> {
    client("acme", 1)
}

/// `Retry-After`, if it is refused.
fn refused_s(scene: &mut Scene) -> Option<u64> {
    let token = scene.ask(&acme());
    scene.gateway.walk(token).unwrap().refusal().and_then(|refusal| refusal.retry_after_s)
}

#[test]
fn a_day_ends_at_the_clients_midnight() {
    let mut scene = scene("\"3 requests/day\"");
    for _ in 0..3 {
        assert_eq!(refused_s(&mut scene), None);
    }
    let rules = Rules { headers: crate::settings::Headers::Both, ..Rules::default() };
    let token = scene.gateway.admit(scene.now, &acme(), rules);
    let expected = [
        ("RateLimit-Policy", "\"requests-day\";q=3;w=86400"),
        ("RateLimit", "\"requests-day\";r=0;t=7200"),
        ("X-RateLimit-Limit", "3"),
        ("X-RateLimit-Remaining", "0"),
        ("X-RateLimit-Reset", "7200"),
        ("Retry-After", "7200"),
        ("Cache-Control", "no-store"),
    ];
    assert_eq!(scene.fields(token), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let body = scene.gateway.answer(token, true, &Links::default()).unwrap().body.clone();
    assert_eq!(body, "Acme Corp used 3 of 3 requests/day; retry in 7200 s\n");
    let usage: serde_json::Value = serde_json::from_str(&scene.usage(&acme())).unwrap();
    let told = serde_json::json!({
        "id": "requests-day", "limit": "3 requests/day", "unit": "requests",
        "amount": 3, "window_s": 86_400, "remaining": 0, "reset_s": 7_200,
    });
    assert_eq!(usage["limits"][0], told);
    scene.advance(2 * HOUR_MS - 1_000);
    assert_eq!(refused_s(&mut scene), Some(1));
    scene.advance(999);
    assert_eq!(refused_s(&mut scene), Some(1));
    scene.advance(1);
    assert_eq!(refused_s(&mut scene), None, "a new day");
    scene.advance(20 * HOUR_MS);
    assert_eq!((refused_s(&mut scene), refused_s(&mut scene)), (None, None));
    assert_eq!(refused_s(&mut scene), Some(4 * 3_600));
}

#[test]
fn what_was_used_of_a_period_survives_a_changed_amount_and_a_changed_zone() {
    let mut scene = scene("\"3 requests/month\", \"9 requests/day\"");
    for _ in 0..3 {
        assert_eq!(refused_s(&mut scene), None);
    }
    let left_s = (16 * 24 + 2) * 3_600;
    assert_eq!(refused_s(&mut scene), Some(left_s), "to the end of January");
    scene.edit(&policy("\"4 requests/month\", \"9 requests/day\"", "Pacific/Kiritimati"));
    assert_eq!(refused_s(&mut scene), None);
    assert_eq!(refused_s(&mut scene), Some(left_s - 6));
    scene.edit(&policy("\"4 requests/month\", \"9 requests/day\"", "Pacific/Niue"));
    assert_eq!(refused_s(&mut scene), Some(left_s - 12 + 25 * 3_600), "the month of another zone");
    scene.edit(&policy("\"5 requests/month\", \"4 requests/day\"", "Pacific/Niue"));
    // There it is still the 14th, of which nothing was used.
    assert_eq!((refused_s(&mut scene), refused_s(&mut scene)), (None, Some(left_s - 18 + 25 * 3_600)));
}

#[test]
fn a_clock_that_is_set_finds_the_counters_of_the_day_it_shows() {
    let mut scene = scene("\"2 requests/day\"");
    assert_eq!((refused_s(&mut scene), refused_s(&mut scene)), (None, None));
    assert_eq!(refused_s(&mut scene), Some(2 * 3_600));
    scene.now.unix_us += 24 * HOUR_MS * 1_000;
    assert_eq!((refused_s(&mut scene), refused_s(&mut scene)), (None, None));
    assert_eq!(refused_s(&mut scene), Some(2 * 3_600));
    scene.now.unix_us -= 24 * HOUR_MS * 1_000;
    assert_eq!(refused_s(&mut scene), Some(2 * 3_600), "it was the 15th before");
}

#[test]
fn bytes_of_a_request_count_for_the_day_on_which_it_came() {
    let mut scene = scene("\"1 KB/day\"");
    let token = scene.ask(&acme());
    scene.advance(2 * HOUR_MS);
    scene.gateway.finish(scene.now, token, &Outcome { bytes_out: 5_000, ..DONE });
    assert_eq!(refused_s(&mut scene), None, "nothing of the new day is used");
}

#[test]
fn a_policy_without_calendar_quotas_keeps_its_profiles_over_midnight() {
    let mut scene = scene("\"9 requests/minute\"");
    let mut profile = || {
        let token = scene.ask(&acme());
        scene.advance(24 * HOUR_MS);
        Rc::as_ptr(&scene.gateway.walk(token).unwrap().profile)
    };
    assert_eq!(profile(), profile());
}

#[test]
fn a_grant_begins_and_ends_without_a_new_policy() {
    let grant = "[[clients.acme.grants]]\nlimit = \"2 requests/hour\"\nreason = \"a launch\"\n\
                 from = 2027-01-15T08:00:10Z\nuntil = 2027-01-15T08:30:00Z\n";
    let mut scene = Scene::with(&(policy("\"1 requests/hour\"", "UTC") + grant));
    assert_eq!((refused_s(&mut scene).is_some(), refused_s(&mut scene).is_some()), (false, true));
    scene.advance(10_000);
    let token = scene.gateway.admit(scene.now, &acme(), Rules::default());
    let fields = scene.fields(token);
    assert!(fields.iter().any(|(_, value)| value.starts_with("\"requests-3600s\";q=3;")), "{fields:?}");
    assert_eq!((refused_s(&mut scene).is_some(), refused_s(&mut scene).is_some()), (false, true));
    scene.advance(HOUR_MS - 5_000);
    // It is over, and two of the three that it let pass are still in the window.
    assert!(refused_s(&mut scene).is_some());
    scene.advance(15_000);
    assert_eq!(refused_s(&mut scene), None);
}
