//! A Redis that is busy, forgets, or holds something else in our keys; and a policy that changes on
//! every worker of every gateway.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use weir_testbed::gateway::{key_hash, write_policy};
use weir_testbed::http::{Answer, Request};
use weir_testbed::load;
use weir_testbed::ports;
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::wait;

const KEY: &str = "only-key";
const OTHER: &str = "other-key";
/// What a busy machine may add to a time-out of 20 ms.
const LATE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

fn policy(limits: &str) -> String {
    format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [{limits}]\n\
         [clients.acme]\nkeys = [\"{}\"]\n[clients.other]\nkeys = [\"{}\"]\n",
        key_hash(KEY),
        key_hash(OTHER)
    )
}

fn ask(scene: &Scene, key: &str) -> Answer {
    Request::get(scene.port(), "/").key(key).send().unwrap()
}

fn counted(scene: &Scene, name: &str) -> u64 {
    let text = Request::get(scene.port(), "/weir/metrics").send().unwrap().text();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
}

fn degraded(scene: &Scene) -> u64 {
    counted(scene, "weir_requests_total{decision=\"PASSED_DEGRADED\"}")
}

/// One gateway that gives Redis a second, unless the test is about how long it waits.
fn patient(limits: &str, redis: &Redis) -> Scene {
    let plot = Plot::new(&policy(limits)).redis(redis);
    plot.options(|options| options.http("weir_redis_timeout 1s;")).start().and_then(Scene::linked).unwrap()
}

/// Fault 38: somebody else's script keeps the server, which answers BUSY to everybody.
#[test]
fn a_redis_that_is_busy_with_a_script_delays_nobody_and_is_used_again_when_it_is_over() {
    let redis = Redis::start_with(ports::free(), &["--lua-time-limit", "50"]).unwrap();
    // Short windows make leases short, so that Redis is needed all the time.
    let scene =
        Plot::new(&policy("\"1000 requests/second\"")).redis(&redis).start().unwrap().linked().unwrap();
    assert_eq!(ask(&scene, KEY).status, 200);
    let port = redis.port();
    let script = std::thread::spawn(move || {
        // Its own answer is that it was ended.
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        std::io::Write::write_all(&mut stream, b"EVAL \"while true do end\" 0\r\n").unwrap();
        let mut answer = [0];
        std::io::Read::read(&mut stream, &mut answer).unwrap()
    });
    let says_busy = || redis.command(&["GET", "x"]).is_err_and(|error| error.to_string().contains("BUSY"));
    assert!(wait::until(PATIENCE, says_busy));
    let samples = load::run(scene.plan(KEY, 200.0, 5.0));
    assert!(samples.iter().all(|sample| sample.status == 200));
    let slowest = samples.iter().map(|s| s.done_us - s.sent_us).max().unwrap();
    assert!(Duration::from_micros(slowest) < LATE, "{slowest} us");
    let fell_back = degraded(&scene);
    assert!(fell_back > 900, "{fell_back} of 1000 were decided without Redis, and say so");
    assert_eq!(counted(&scene, "weir_redis_up"), 0);
    redis.command(&["SCRIPT", "KILL"]).unwrap();
    script.join().unwrap();
    scene.gateways[0].wait_for_redis().unwrap();
    let exact = wait::until(PATIENCE, || {
        let before = degraded(&scene);
        ask(&scene, KEY);
        degraded(&scene) == before
    });
    assert!(exact, "no request was decided by Redis again");
}

/// Fault 42: what the gateway admitted it tells again, however Redis came to forget it.
#[test]
fn a_redis_that_forgets_does_not_begin_the_window_anew() {
    let key = "weir:2:{acme}:requests:3600000";
    for forget in [&["FLUSHALL"][..], &["UNLINK", key], &["PEXPIRE", key, "1"], &["HDEL", key, "FIELDS"]] {
        let redis = Redis::start().unwrap();
        let scene = patient("\"100 requests/hour\"", &redis);
        assert!((0..80).all(|_| ask(&scene, KEY).status == 200));
        let published = || redis.command(&["HVALS", key]).unwrap().lines().count() > 0;
        assert!(wait::until(PATIENCE, published));
        if forget[0] == "HDEL" {
            let fields = redis.command(&["HKEYS", key]).unwrap();
            redis.command(&["HDEL", key].into_iter().chain(fields.lines()).collect::<Vec<_>>()).unwrap();
        } else {
            redis.command(forget).unwrap();
        }
        let gone = || redis.command(&["EXISTS", key]).unwrap() == "0";
        assert!(wait::until(PATIENCE, gone) || forget[0] == "HDEL");
        let again = (0..200).filter(|_| ask(&scene, KEY).status == 200).count();
        // 20 are left. What is on its way when Redis forgets may be let through once more.
        assert!(again < 40, "{again} of the 20 that were left, after {forget:?}");
        assert!(wait::until(PATIENCE, || redis.command(&["EXISTS", key]).unwrap() == "1"));
        let ttl: i64 = redis.command(&["PTTL", key]).unwrap().parse().unwrap();
        assert!(ttl > 0, "what was told again expires, too");
    }
}

/// Fault 43: one client falls back, counted; the others do not notice.
#[test]
fn something_else_in_a_key_concerns_its_client_alone_and_heals_when_it_is_gone() {
    let redis = Redis::start().unwrap();
    let scene = patient("\"100 requests/hour\"", &redis);
    let key = "weir:2:{acme}:requests:3600000";
    // Fields of stamps that lie far apart, half of them in the future: all of those count, and their sum is
    // more than anything can hold.
    let huge = i64::MAX.to_string();
    let spoiled: Vec<String> = (0..4_096).flat_map(|n| [(n * 2_048).to_string(), huge.clone()]).collect();
    let huge: Vec<&str> = ["HSET", key].into_iter().chain(spoiled.iter().map(String::as_str)).collect();
    for (n, spoil) in [&["SET", key, "x"][..], &["HSET", key, "a", "b"], &huge].into_iter().enumerate() {
        redis.command(&["UNLINK", key]).unwrap();
        redis.command(spoil).unwrap();
        let before = degraded(&scene);
        // Whatever lies there, the client is served as weir_fallback says or refused, and nobody hangs.
        let statuses = [(); 3].map(|()| ask(&scene, KEY).status);
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
        if n < 2 {
            assert!(degraded(&scene) > before, "{spoil:?} is not taken for an answer");
        } else {
            let is_full = wait::until(PATIENCE, || ask(&scene, KEY).status == 429);
            assert!(is_full, "more than fits is not room: {}", scene.gateways[0].nginx.error_log());
        }
        let passed = counted(&scene, "weir_requests_total{decision=\"PASSED\"}");
        assert_eq!(ask(&scene, OTHER).status, 200);
        assert!(counted(&scene, "weir_requests_total{decision=\"PASSED\"}") > passed);
        assert_eq!(counted(&scene, "weir_redis_up"), 1);
    }
    redis.command(&["UNLINK", key]).unwrap();
    let healed = wait::until(PATIENCE, || {
        let before = degraded(&scene);
        ask(&scene, KEY).status == 200 && degraded(&scene) == before
    });
    assert!(healed, "{}", scene.gateways[0].nginx.error_log());
}

/// Fault 46, for the policy in a file, which nobody needs to be notified of.
#[test]
fn a_changed_tier_is_in_force_on_all_workers_of_all_gateways() {
    let redis = Redis::start().unwrap();
    let plot = Plot::new(&policy("\"100 requests/hour\"")).shared_by_two(&redis.url());
    let plot = plot.options(|options| options.workers(2).http("weir_redis_timeout 1s;"));
    let scene = plot.start().and_then(Scene::linked).unwrap();
    let limits = || -> Vec<bool> {
        let ports = scene.ports().into_iter();
        let both = ports.flat_map(|port| [port; 10]);
        both.map(|port| {
            let answer = Request::get(port, "/").key(OTHER).send().unwrap();
            answer.header("RateLimit-Policy").unwrap().contains("q=7000")
        })
        .collect()
    };
    assert!(limits().iter().all(|new| !new));
    let began = Instant::now();
    write_policy(&scene.installation.policy(), &policy("\"7000 requests/hour\"")).unwrap();
    let said = |n: usize| {
        let log = scene.gateways[n].nginx.error_log();
        log.matches("is in force").count() == 2
    };
    assert!(wait::until(Duration::from_secs(60), || said(0) && said(1)), "all four workers say so");
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(limits().iter().all(|new| *new));
}
