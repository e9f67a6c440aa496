//! What is held back until its limit has room.

use super::tests::{Scene, client};
use super::*;

fn scene(limits: &str, over: &str) -> Scene {
    let rest = "[tiers.dry]\ndry_run = true\nlimits = [\"1 requests/second\"]\nover = \"delay 2s burst 1\"\n\
                [clients.dry]\ntier = \"dry\"";
    Scene::with(&format!("default_tier = \"t\"\n[tiers.t]\nlimits = [{limits}]\nover = \"{over}\"\n{rest}\n"))
}

fn decision(scene: &Scene, token: Token) -> Decision {
    scene.gateway.walk(token).unwrap().decision()
}

fn ask(scene: &mut Scene, requests: usize) -> Vec<Token> {
    (0..requests).map(|_| scene.ask(&client("acme", 1))).collect()
}

fn is_held(scene: &Scene, token: Token) -> bool {
    matches!(scene.gateway.walk(token).unwrap().verdict(), Verdict::Hold { .. })
}

/// Lets time pass as the worker's timer does, and notes when each request is named.
fn pass_time(scene: &mut Scene, ms: u64) -> Vec<(u64, Token)> {
    let mut named = Vec::new();
    let end = scene.now.boot_ms + ms;
    while scene.now.boot_ms < end {
        let next = scene.gateway.next_tick().clamp(scene.now.boot_ms + 1, end);
        scene.advance(next - scene.now.boot_ms);
        named.extend(scene.gateway.take_ready().into_iter().map(|token| (scene.now.boot_ms, token)));
    }
    named
}

#[test]
fn what_is_over_the_limit_is_held_until_there_is_room_in_the_order_in_which_it_came() {
    let mut scene = scene("\"4 requests/second\"", "delay 2s burst 50");
    let begun = scene.now.boot_ms;
    let tokens = ask(&mut scene, 10);
    assert!(tokens[..4].iter().all(|token| decision(&scene, *token) == Decision::Passed));
    assert!(tokens[4..].iter().all(|token| is_held(&scene, *token)));
    let named = pass_time(&mut scene, 2_000);
    let order: Vec<Token> = named.iter().map(|(_, token)| *token).collect();
    assert_eq!(order[..4], tokens[4..8]);
    let after_ms: Vec<u64> = named.iter().map(|(at, _)| at - begun).collect();
    assert!(after_ms[..4].iter().all(|ms| (1_000..1_010).contains(ms)), "{after_ms:?}");
    for token in &tokens[4..8] {
        let walk = scene.gateway.walk(*token).unwrap();
        assert_eq!((walk.verdict(), walk.decision()), (Verdict::Pass, Decision::Delayed));
    }
}

#[test]
fn whoever_still_waits_at_the_end_of_its_time_is_refused() {
    let mut scene = scene("\"2 requests/second\"", "delay 1500ms burst 50");
    let tokens = ask(&mut scene, 5);
    let named = pass_time(&mut scene, 1_500);
    assert_eq!(named.len(), 3, "the last is known to be late as soon as it is first: {named:?}");
    let walk = scene.gateway.walk(tokens[4]).unwrap();
    assert_eq!((walk.refusal().unwrap().retry_after_s, walk.decision()), (Some(2), Decision::Rejected));
}

#[test]
fn no_more_are_held_than_the_burst_allows() {
    let mut scene = scene("\"2 requests/second\"", "delay 1200ms burst 3");
    let tokens = ask(&mut scene, 8);
    let held = tokens.iter().filter(|token| is_held(&scene, **token)).count();
    let refused: Vec<_> = tokens[5..].iter().map(|token| decision(&scene, *token)).collect();
    assert_eq!((held, refused), (3, vec![Decision::Rejected; 3]));
    let refusal = scene.gateway.walk(tokens[7]).unwrap().refusal().unwrap();
    assert_eq!((refusal.status, refusal.retry_after_s), (429, Some(2)));
    let body = scene.gateway.answer(tokens[7], true, &Links::default()).unwrap().body.clone();
    assert!(body.starts_with("acme used 2 of 2 requests/second; retry in "), "{body}");
}

#[test]
fn a_wait_that_is_longer_than_the_bound_is_not_begun() {
    let mut scene = scene("\"2 requests/minute\"", "delay 2s burst 50");
    let tokens = ask(&mut scene, 3);
    assert_eq!(decision(&scene, tokens[2]), Decision::Rejected);
    assert_eq!(scene.gateway.worker.table().keys(), 1, "and it took no place");
}

#[test]
fn a_client_that_leaves_takes_nothing_and_makes_room_for_the_next() {
    let mut scene = scene("\"2 requests/second\"", "delay 2s burst 50");
    let tokens = ask(&mut scene, 4);
    scene.gateway.release(tokens[2]);
    let named = pass_time(&mut scene, 1_100);
    assert_eq!(named.iter().map(|(_, token)| *token).collect::<Vec<_>>(), [tokens[3]]);
    let next = ask(&mut scene, 1);
    assert_eq!(decision(&scene, next[0]), Decision::Passed, "one of two is left");
    scene.gateway.release(tokens[3]);
    assert_eq!(scene.gateway.queues.next_due(), None);
}

#[test]
fn others_are_not_held_up() {
    let mut scene = scene("\"1 requests/second\"", "delay 2s burst 50");
    ask(&mut scene, 3);
    let other = scene.ask(&client("globex", 1));
    assert_eq!(decision(&scene, other), Decision::Passed);
}

#[test]
fn no_window_holds_more_than_the_limit() {
    let mut scene = scene("\"5 requests/second\"", "delay 500ms burst 4");
    let mut admitted = Vec::new();
    for _ in 0..400 {
        let token = scene.ask(&client("acme", 1));
        if scene.gateway.walk(token).unwrap().verdict() == Verdict::Pass {
            admitted.push(scene.now.boot_ms);
        }
        let named = pass_time(&mut scene, 60);
        let passed = named.iter().filter(|(_, token)| decision(&scene, *token) == Decision::Delayed);
        admitted.extend(passed.map(|(at, _)| *at));
    }
    for (from, start) in admitted.iter().enumerate() {
        let window = admitted[from..].iter().take_while(|at| **at < start + 1_000).count();
        assert!(window <= 5, "{window} in the second from {start}");
    }
    assert!(admitted.len() >= 110, "24 s of five: {}", admitted.len());
}

#[test]
fn a_dry_run_holds_nobody() {
    let mut scene = scene("\"1 requests/second\"", "reject");
    let decisions = [(); 4].map(|()| {
        let token = scene.ask(&client("dry", 1));
        assert_eq!(scene.gateway.walk(token).unwrap().verdict(), Verdict::Pass);
        decision(&scene, token)
    });
    let expected = [Decision::Passed, Decision::DelayedDryRun, Decision::RejectedDryRun];
    assert_eq!(decisions[..3], expected);
    assert_eq!(decisions[3], Decision::RejectedDryRun);
}
