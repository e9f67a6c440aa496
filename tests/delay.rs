//! What is held back in a real nginx: without a worker that waits, counted once, dropped when the client
//! leaves, and served before a worker ends.

// It waits for real windows.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use module_common::{KEY, Plan, Site, policy};
use weir_testbed::load::{self, Shot};
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::windows::most_certain_in_any;
use weir_testbed::{load::Sample, wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// One client with these limits, whose requests over them are held back like this.
fn delaying(limits: &str, over: &str) -> String {
    policy(limits).replace("[routes]", &format!("over = \"{over}\"\n[routes]"))
}

fn site(limits: &str, over: &str) -> Site {
    let server = "location / { weir on; }
                  location /free { try_files /index.html =404; }
                  location = /metrics { weir_metrics; access_log off; }
                  location = /status { stub_status; access_log off; }";
    Plan::new(&delaying(limits, over), server).start()
}

fn count(samples: &[Sample], status: u16) -> usize {
    samples.iter().filter(|sample| sample.status == status).count()
}

fn lines(site: &Site, begin: &str) -> usize {
    site.log().iter().filter(|line| line.starts_with(begin)).count()
}

#[test]
fn a_burst_is_held_back_until_there_is_room_and_no_window_is_over_its_limit() {
    let mut site = site("\"10 requests/second\"", "delay 5s burst 15");
    let shots = vec![Shot::new("GET", "/", KEY, site.port)];
    // 40 requests in a tenth of a second: 10 pass, 15 wait for room, 15 are refused.
    let samples = load::run(load::Plan::even(shots, 400.0, Duration::from_millis(100), 64));
    assert_eq!((count(&samples, 200), count(&samples, 429)), (25, 15));
    let waited = samples.iter().filter(|s| s.status == 200 && s.done_us - s.sent_us > 700_000).count();
    assert!(waited >= 15, "{waited} of 25 took as long as the window is");
    let slow = samples.iter().filter(|s| s.status == 429 && s.done_us - s.sent_us > 900_000).count();
    assert_eq!(slow, 0, "who is refused is refused at once");
    assert_eq!(site.counted("weir_requests_total{decision=\"DELAYED\"}"), 15);
    site.close();
    let booked = ["200 PASSED acme", "200 DELAYED acme", "429 REJECTED acme"].map(|l| lines(&site, l));
    assert_eq!((booked, site.records()), ([10, 15, 15], 40));
    site.assert_quiet();
}

#[test]
fn a_worker_that_holds_requests_serves_others() {
    let site = site("\"1 requests/2 seconds\"", "delay 10s burst 5");
    assert_eq!(site.get("/").status, 200);
    let mut held = site.connect();
    write!(held, "GET / HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\nConnection: close\r\n\r\n").unwrap();
    let begun = Instant::now();
    let mut others = 0;
    held.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut answer = Vec::new();
    while begun.elapsed() < PATIENCE && answer.is_empty() {
        assert_eq!(site.get("/free").status, 200);
        others += 1;
        let mut bytes = [0; 16];
        if let Ok(n) = held.read(&mut bytes) {
            answer.extend_from_slice(&bytes[..n]);
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    assert!(
        begun.elapsed() >= Duration::from_millis(1_500) && others > 20,
        "{others} in {:?}",
        begun.elapsed()
    );
}

#[test]
fn who_leaves_is_dropped_at_once_and_takes_no_room() {
    let mut site = site("\"2 requests/3 seconds\"", "delay 10s burst 5");
    assert_eq!([site.get("/").status, site.get("/").status], [200; 2]);
    for _ in 0..3 {
        let mut gone = site.connect();
        write!(gone, "GET / HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\n\r\n").unwrap();
        // It is held when the worker has answered another that came after it.
        site.get("/free");
    }
    assert!(wait::until(PATIENCE, || lines(&site, "499 DELAYED acme") == 3), "{:?}", site.log());
    let begun = Instant::now();
    assert_eq!([site.get("/").status, site.get("/").status], [200; 2]);
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody is before them: {:?}", begun.elapsed());
    site.close();
    assert_eq!(site.records(), 7);
    site.assert_quiet();
}

#[test]
fn a_worker_that_has_to_go_serves_first_whom_it_holds() {
    for reload in [true, false] {
        let mut site = site("\"1 requests/2 seconds\"", "delay 10s burst 5");
        assert_eq!(site.get("/").status, 200);
        let port = site.port;
        let held = std::thread::spawn(move || {
            weir_testbed::http::Request::get(port, "/").key(KEY).send().unwrap().status
        });
        let old = site.nginx.workers();
        // The one that asks is the other.
        let inside = || site.get("/status").text().contains("Writing: 2");
        assert!(wait::until(PATIENCE, inside), "{}", site.get("/status").text());
        if reload {
            site.nginx.reload().unwrap();
            assert_eq!(held.join().unwrap(), 200);
            assert!(wait::until(PATIENCE, || site.nginx.workers() != old), "the old worker ends");
            site.close();
        } else {
            site.close();
            assert_eq!(held.join().unwrap(), 200);
        }
        assert_eq!((lines(&site, "200 DELAYED acme"), site.records()), (1, 2));
        site.assert_quiet();
    }
}

#[test]
fn two_gateways_hold_back_over_one_limit() {
    let redis = Redis::start().unwrap();
    let mut scene = Plot::new(&delaying("\"40 requests/2 seconds\"", "delay 4s burst 30"))
        .shared_by_two(&redis.url())
        .options(|options| options.http("weir_redis_timeout 1s;").location("weir_fallback deny;"))
        .start()
        .and_then(Scene::linked)
        .unwrap();
    let samples = load::run(scene.plan(KEY, 60.0, 6.0));
    assert!(samples.iter().all(|s| s.status == 200 || s.status == 429), "all were decided");
    scene.close();
    let records = scene.installation.records().unwrap();
    let booked = |word: &str| records.iter().filter(|r| r["decision"] == word).count();
    let admitted = count(&samples, 200);
    assert_eq!((booked("PASSED") + booked("DELAYED"), records.len()), (admitted, samples.len()));
    assert!(booked("DELAYED") >= 30, "{} were held back", booked("DELAYED"));
    let mut spans: Vec<_> =
        samples.iter().filter(|s| s.status == 200).map(|s| (s.sent_us, s.done_us)).collect();
    let most = most_certain_in_any(&mut spans, 2_000_000);
    assert!(most <= 40, "{most} in a window that may hold 40");
    let keys = redis.command(&["KEYS", "*:delay:4000"]).unwrap();
    assert_eq!(keys.trim(), "weir:2:{acme}:requests:2000:delay:4000");
}
