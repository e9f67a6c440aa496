//! What passes over a limit, up to a ceiling.

use weir_limiter::Table;

use super::tests::{DONE, Scene, client};
use super::*;
use crate::walk::{Outcome, Verdict};

fn policy(limits: &str, rest: &str) -> String {
    format!("default_tier = \"t\"\n[tiers.t]\nlimits = [{limits}]\n{rest}\n")
}

fn decided(scene: &mut Scene, cost: u64) -> Decision {
    let token = scene.ask(&client("acme", cost));
    scene.gateway.walk(token).unwrap().decision()
}

fn all(scene: &mut Scene, requests: usize) -> Vec<Decision> {
    (0..requests).map(|_| decided(scene, 1)).collect()
}

fn count(decisions: &[Decision], wanted: Decision) -> usize {
    decisions.iter().filter(|decision| **decision == wanted).count()
}

const DEGRADE: &str = "over = \"degrade up to 150%\"";

#[test]
fn what_is_over_the_limit_passes_up_to_the_ceiling() {
    let mut scene = Scene::with(&policy("\"10 requests/minute\"", DEGRADE));
    let decisions = all(&mut scene, 20);
    assert_eq!(decisions[..10], [Decision::Passed; 10]);
    assert_eq!(decisions[10..15], [Decision::Over; 5]);
    assert_eq!(decisions[15..], [Decision::Rejected; 5]);
}

#[test]
fn no_window_holds_more_than_the_ceiling() {
    let mut scene = Scene::with(&policy("\"10 requests/minute\"", DEGRADE));
    let mut admitted = Vec::new();
    for _ in 0..600 {
        scene.advance(700);
        let decision = decided(&mut scene, 1);
        if matches!(decision, Decision::Passed | Decision::Over) {
            admitted.push((scene.now.boot_ms, decision));
        }
    }
    for (from, &(start, _)) in admitted.iter().enumerate() {
        let window: Vec<_> =
            admitted[from..].iter().take_while(|(at, _)| *at < start + 60_000).map(|(_, d)| *d).collect();
        assert!(window.len() <= 15 && count(&window, Decision::Passed) <= 10, "{window:?} from {start}");
    }
    assert!(admitted.len() > 85, "and the ceiling is reached: {}", admitted.len());
}

#[test]
fn one_that_passes_over_the_limit_is_told_that_nothing_is_left() {
    let mut scene = Scene::with(&policy("\"2 requests/minute\"", DEGRADE));
    all(&mut scene, 2);
    let token = scene.ask(&client("acme", 1));
    assert_eq!(scene.gateway.walk(token).unwrap().decision(), Decision::Over);
    let fields = scene.fields(token);
    let (name, value) = &fields[1];
    assert!(name == "RateLimit" && value.starts_with("\"requests-60s\";r=0;"), "{fields:?}");
    assert!(fields.iter().all(|(name, _)| name != "Retry-After"), "{fields:?}");
    scene.gateway.finish(scene.now, token, &DONE);
    let metrics = scene.gateway.metrics(scene.now).to_text();
    assert!(metrics.contains("weir_requests_total{decision=\"OVER\"} 1\n"), "{metrics}");
    let token = scene.ask(&client("acme", 1));
    let body = scene.gateway.answer(token, true, &Links::default()).unwrap().body.clone();
    assert!(body.starts_with("acme used 2 of 2 requests/minute and all that may pass beyond; retry in "));
}

#[test]
fn a_limit_without_a_ceiling_still_refuses_and_nothing_is_charged() {
    let rest = "over = \"degrade up to 200%\"\n[[tiers.t.endpoints]]\nmatch = \"* other\"\n\
                limits = [\"3 requests/hour\"]\nover = \"reject\"";
    let mut scene = Scene::with(&policy("\"2 requests/minute\"", rest));
    let decisions = all(&mut scene, 6);
    assert_eq!(decisions[..4], [Decision::Passed, Decision::Passed, Decision::Over, Decision::Rejected]);
    assert_eq!(count(&decisions, Decision::Over), 1);
    let keys = |scene: &Scene| -> u64 { Table::keys(&scene.gateway.worker.table()) };
    assert_eq!(keys(&scene), 3, "the two limits and what passes beyond one");
    scene.advance(61_000);
    assert_eq!(decided(&mut scene, 1), Decision::Rejected, "the hour is full, whatever the minute says");
}

#[test]
fn every_limit_has_its_own_ceiling() {
    let mut scene =
        Scene::with(&policy("\"2 requests/minute\", \"4 requests/hour\"", "over = \"degrade up to 200%\""));
    let decisions = all(&mut scene, 5);
    assert_eq!((count(&decisions, Decision::Passed), count(&decisions, Decision::Over)), (2, 2));
    scene.advance(61_000);
    let decisions = all(&mut scene, 5);
    assert_eq!(count(&decisions, Decision::Over), 4, "the hour is full: all of them are over: {decisions:?}");
    assert_eq!(decisions[4], Decision::Rejected);
}

#[test]
fn bytes_over_the_limit_are_charged_beyond_it() {
    let mut scene = Scene::with(&policy("\"1 KB/hour\"", DEGRADE));
    let mut answered = |bytes_out| {
        let token = scene.ask(&client("acme", 1));
        scene.gateway.finish(scene.now, token, &Outcome { bytes_in: 0, bytes_out, ..DONE });
        scene.gateway.walk(token).unwrap().decision()
    };
    let decisions = [1_000, 400, 100, 1].map(&mut answered);
    assert_eq!(decisions, [Decision::Passed, Decision::Over, Decision::Over, Decision::Rejected]);
}

#[test]
fn a_dry_run_says_what_would_have_been_over() {
    let mut scene =
        Scene::with(&policy("\"2 requests/minute\"", "over = \"degrade up to 150%\"\ndry_run = true"));
    let decisions = all(&mut scene, 4);
    assert_eq!(decisions[2..], [Decision::OverDryRun, Decision::RejectedDryRun]);
    let token = scene.ask(&client("acme", 1));
    assert_eq!(scene.gateway.walk(token).unwrap().verdict(), Verdict::Pass);
}
