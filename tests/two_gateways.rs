//! Two real gateways that share their limits through a real Redis, counted from the client's side.

// These tests wait for real windows and real time-outs.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::load::{self, Sample};
use weir_testbed::ports;
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::wait;
use weir_testbed::windows::most_certain_in_any;

const KEY: &str = "only-key";
const REDIS_TIMEOUT: Duration = Duration::from_millis(20);

fn policy(limits: &str) -> String {
    format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [{limits}]\n\
         [clients.acme]\nkeys = [\"{}\"]\n",
        key_hash(KEY)
    )
}

/// Two gateways that let nothing pass undecided, with time for an answer while the machine is busy.
fn strict(limits: &str, redis: &Redis) -> Scene {
    Plot::new(&policy(limits))
        .shared_by_two(&redis.url())
        .options(|options| options.http("weir_redis_timeout 1s;").location("weir_fallback deny;"))
        .start()
        .and_then(Scene::linked)
        .unwrap()
}

/// (sent, answered) of everything that was let through.
fn admitted(samples: &[Sample]) -> Vec<(u64, u64)> {
    samples.iter().filter(|s| s.status == 200).map(|s| (s.sent_us, s.done_us)).collect()
}

/// Every request was decided: nobody was left without an answer or given an error.
fn assert_all_decided(samples: &[Sample], scene: &Scene) {
    let odd = samples.iter().find(|s| s.status != 200 && s.status != 429);
    assert!(odd.is_none(), "{odd:?}\n{}", scene.gateways[0].nginx.error_log());
}

#[test]
fn no_window_holds_more_than_the_limit_over_both_gateways() {
    let redis = Redis::start().unwrap();
    let scene = strict("\"120 requests/2 seconds\"", &redis);
    let samples = load::run(scene.plan(KEY, 1_500.0, 8.0));
    assert_all_decided(&samples, &scene);
    let mut spans = admitted(&samples);
    let most = most_certain_in_any(&mut spans, 2_000_000);
    assert!(most <= 120, "{most} in a window of two seconds that may hold 120");
    // Four windows' worth fit into 8 s; strict must not mean stingy.
    assert!(spans.len() >= 360, "only {} of 480 were let through", spans.len());
    for port in scene.ports() {
        let shot = scene.ports().iter().position(|p| *p == port).unwrap() as u32;
        let here = samples.iter().filter(|s| s.shot == shot && s.status == 200).count();
        assert!(here > 20, "the gateway at port {port} let only {here} through");
    }
}

#[test]
fn two_limits_hold_together_over_both_gateways() {
    let redis = Redis::start().unwrap();
    let scene = strict("\"40 requests/second\", \"100 requests/5 seconds\"", &redis);
    let samples = load::run(scene.plan(KEY, 400.0, 6.0));
    assert_all_decided(&samples, &scene);
    let mut spans = admitted(&samples);
    assert!(most_certain_in_any(&mut spans, 1_000_000) <= 40);
    let most = most_certain_in_any(&mut spans, 5_000_000);
    assert!((80..=100).contains(&most), "{most}");
}

#[test]
fn a_killed_redis_delays_nobody_beyond_the_time_out_and_is_booked_as_degraded() {
    let mut redis = Redis::start().unwrap();
    let scene = lose_redis_in_mid_run(&redis.url(), || redis.kill());
    assert_degraded_in_the_books(scene);
}

/// A server that is alive but answers nothing is worse than one that refuses connections.
#[test]
fn a_frozen_redis_delays_nobody_beyond_the_time_out_and_is_booked_as_degraded() {
    let redis = Redis::start().unwrap();
    let scene = lose_redis_in_mid_run(&redis.url(), || redis.freeze());
    assert_degraded_in_the_books(scene);
    redis.thaw();
}

fn lose_redis_in_mid_run(url: &str, lose: impl FnOnce()) -> Scene {
    let policy = policy("\"10000 requests/minute\", \"1000 requests/second\"");
    let scene = Plot::new(&policy).shared_by_two(url).start().and_then(Scene::linked).unwrap();
    let begun = Instant::now();
    let running = load::start(scene.plan(KEY, 200.0, 4.0), begun);
    wait::pass(Duration::from_millis(1_500));
    lose();
    let lost_us = begun.elapsed().as_micros() as u64;
    let samples = running.join();
    assert_all_decided(&samples, &scene);
    assert!(samples.iter().all(|s| s.status == 200), "the fallback refused a client within limits");
    let slow = |s: &&Sample| Duration::from_micros(s.done_us - s.sent_us) > REDIS_TIMEOUT + LATE;
    let slowest = samples.iter().filter(|s| s.sent_us >= lost_us).filter(slow).count();
    assert_eq!(slowest, 0, "requests waited for Redis beyond the time-out");
    scene
}

/// What a busy machine may add to a time-out.
const LATE: Duration = Duration::from_millis(150);

fn assert_degraded_in_the_books(mut scene: Scene) {
    scene.close();
    let records = scene.installation.records().unwrap();
    assert_eq!(records.len(), 800);
    let degraded = records.iter().filter(|r| r["decision"] == "PASSED_DEGRADED").count();
    // Redis was gone for five eighths of the run; units on lease at that moment were still good.
    assert!((250..=560).contains(&degraded), "{degraded} of 800 are marked");
    assert!(records.iter().all(|r| r["client"] == "acme"));
}

#[test]
fn with_redis_away_at_start_each_gateway_keeps_to_its_share() {
    let port = ports::free();
    let policy = policy("\"100 requests/minute\"");
    let scene = Plot::new(&policy)
        .shared_by_two(&format!("redis://127.0.0.1:{port}"))
        .options(|options| options.http("weir_gateways_min 2;"))
        .start()
        .unwrap();
    let samples = load::run(scene.plan(KEY, 200.0, 2.0));
    assert_all_decided(&samples, &scene);
    for gateway in 0..2 {
        let here = samples.iter().filter(|s| s.shot == gateway && s.status == 200).count();
        assert_eq!(here, 50, "a gateway of two has half of 100");
    }
}

#[test]
fn when_redis_comes_the_gateways_share_again() {
    let port = ports::free();
    let policy = policy("\"30 requests/3 seconds\"");
    let scene = Plot::new(&policy).shared_by_two(&format!("redis://127.0.0.1:{port}")).start().unwrap();
    let ask = || Request::get(scene.port(), "/").key(KEY).send().unwrap().status;
    assert_eq!(ask(), 200);
    let redis = Redis::start_with(port, &[]).unwrap();
    let has_keys = || redis.command(&["DBSIZE"]).is_ok_and(|n| n != "0");
    assert!(wait::until(Duration::from_secs(60), || has_keys() || ask() == 0), "no lease was taken");
    // The window of what was used before has to pass.
    wait::pass(Duration::from_millis(3_300));
    let samples = load::run(scene.plan(KEY, 100.0, 2.0));
    assert_all_decided(&samples, &scene);
    let let_through = admitted(&samples).len();
    assert!((20..=30).contains(&let_through), "{let_through} of 30 over both gateways");
}

#[test]
fn under_fallback_deny_nothing_passes_while_redis_is_away() {
    let policy = policy("\"1000 requests/minute\"");
    let scene = Plot::new(&policy)
        .shared_by_two(&format!("redis://127.0.0.1:{}", ports::free()))
        .options(|options| options.location("weir_fallback deny;"))
        .start()
        .unwrap();
    let answer = Request::get(scene.port(), "/").key(KEY).send().unwrap();
    // No limit was found to be used up, so it is no 429.
    assert_eq!(answer.status, 503);
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(scene.backend.answered(), 0);
}

/// A key that is leased again and again must not grow in Redis, and every key must expire.
#[test]
fn every_key_in_redis_expires() {
    let redis = Redis::start().unwrap();
    let policy = policy("\"1000 requests/second\", \"50000 requests/hour\"");
    let scene = Plot::new(&policy).shared_by_two(&redis.url()).start().unwrap();
    load::run(scene.plan(KEY, 500.0, 2.0));
    let keys = redis.command(&["KEYS", "*"]).unwrap();
    assert!(!keys.is_empty());
    for key in keys.lines() {
        let ttl: i64 = redis.command(&["PTTL", key]).unwrap().parse().unwrap();
        assert!(ttl > 0, "{key} never expires");
    }
}
