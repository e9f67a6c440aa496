//! What goes wrong in and around nginx, and what must happen then: requests go on, and the books know.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use module_common::{KEY, Plan, Site, policy, remaining};
use weir_testbed::load::{self, Plan as Load, Shot};
use weir_testbed::process::signal_pid;
use weir_testbed::redis::Redis;
use weir_testbed::{ports, wait};

const SIGHUP: i32 = 1;

const ON: &str = "location / { weir on; try_files /index.html =404; }
                  location = /metrics { weir_metrics; access_log off; }";

fn site(limits: &str) -> Site {
    Plan::new(&policy(limits), ON).start()
}

#[test]
fn a_panic_is_one_line_in_the_log_and_the_request_passes() {
    let mut site = Plan::new(&policy("\"100 requests/minute\""), ON).debug().start();
    assert_eq!(site.remaining("/"), 99);
    let workers = site.nginx.workers();
    for _ in 0..5 {
        let answer = site.request("GET", "/").header("X-Weir-Test", "panic").send().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "here\n"));
    }
    assert_eq!(site.remaining("/"), 98, "the worker goes on as before");
    assert_eq!(site.nginx.workers(), workers, "and is the same one");
    assert_eq!(site.nginx.error_log().matches("asked for by X-Weir-Test").count(), 5);
    assert_eq!(site.counted("weir_requests_total{decision=\"PASSED_DEGRADED\"}"), 5);
    site.close();
}

#[test]
fn a_release_build_has_no_test_hooks() {
    let site = site("\"100 requests/minute\"");
    let answer = site.request("GET", "/").header("X-Weir-Test", "panic").send().unwrap();
    assert_eq!(remaining(&answer), 99);
    site.assert_quiet();
}

#[test]
fn every_request_is_booked_once_whatever_became_of_it() {
    let server = "weir on;
        location / { try_files $uri /index.html; }
        location /missing { try_files /nowhere =404; }
        location /return { return 204; }
        location /denied { deny all; }
        location /slow { proxy_pass http://127.0.0.1:SLOW; }
        location /dead { proxy_pass http://127.0.0.1:1; }
        location /unmetered { weir off; access_log off; return 200; }";
    // A port that takes connections and never answers.
    let slow = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = server.replace("SLOW", &slow.local_addr().unwrap().port().to_string());
    let mut site = Plan::new(&policy("\"7 requests/minute\""), &server).start();
    for path in ["/", "/missing", "/return", "/denied", "/dead", "/unmetered", "/", "/"] {
        site.get(path);
    }
    let mut gone = site.connect();
    write!(gone, "GET /slow HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\n\r\n").unwrap();
    slow.set_nonblocking(true).unwrap();
    let asked = wait::until_some(Duration::from_secs(60), || slow.accept().ok());
    assert!(asked.is_some(), "{:?}", site.log());
    drop(gone);
    assert!(wait::until(Duration::from_secs(60), || site.log().iter().any(|l| l.starts_with("499 "))));
    drop(asked);
    site.get("/");
    for malformed in ["GARBAGE\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /\r\n"] {
        site.raw(malformed.as_bytes());
    }
    // The whole of a pipeline comes at once.
    site.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20).as_bytes());
    let lines = || site.log().len();
    assert!(wait::until(Duration::from_secs(60), || lines() >= 32), "{:?}", site.log());
    site.close();
    let log = site.log();
    let count = |status: &str| log.iter().filter(|line| line.starts_with(status)).count();
    assert_eq!(count("499 PASSED acme"), 1, "{log:?}");
    assert_eq!(count("429 REJECTED acme"), 1, "{log:?}");
    assert_eq!(count("204 PASSED acme /return"), 1, "{log:?}");
    assert_eq!(count("403 PASSED acme"), 1, "limits come before access: {log:?}");
    assert_eq!(count("502 PASSED acme"), 1, "{log:?}");
    assert!(log.iter().all(|line| !line.contains(" - ")), "each has a decision: {log:?}");
    assert_eq!(site.records(), log.len(), "one record for each line of the access log");
}

#[test]
fn killed_workers_lose_no_record_and_no_count() {
    let limit = 100_000;
    let mut site = Plan::new(&policy(&format!("\"{limit} requests/hour\"")), ON).workers(2).start();
    let shots = vec![Shot::new("GET", "/", KEY, site.port)];
    let running = load::start(Load::even(shots, 500.0, Duration::from_secs(6), 32), Instant::now());
    for _ in 0..4 {
        wait::pass(Duration::from_millis(1_000));
        site.nginx.kill_worker().unwrap();
    }
    let samples = running.join();
    let answered = samples.iter().filter(|sample| sample.status == 200).count();
    assert!(answered > 2_500, "{answered} of 3000");
    let used = limit - site.remaining("/") as usize;
    assert!(used > answered, "{used} counted, {answered} answered");
    assert!(used <= samples.len() + 1, "{used} counted of {}", samples.len());
    site.close();
    let booked = site.records();
    // A worker that dies between an answer and its record takes at most that one with it.
    assert!(booked + 4 > answered, "{booked} booked, {answered} answered");
    assert!(booked <= samples.len() + 1);
}

#[test]
fn a_reload_keeps_the_counts_and_a_broken_one_changes_nothing() {
    let site = site("\"100 requests/hour\"");
    assert_eq!(site.remaining("/"), 99);
    site.nginx.reload().unwrap();
    assert_eq!(site.remaining("/"), 98);
    let path = site.dir().join("nginx.conf");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("weir_zone 4m;", "weir_zone 4m; weir_status 99;")).unwrap();
    signal_pid(site.nginx.pid(), SIGHUP);
    let said = || site.nginx.error_log().contains("invalid value \"99\" in \"weir_status\" directive");
    assert!(wait::until(Duration::from_secs(60), said), "{}", site.nginx.error_log());
    assert_eq!(site.remaining("/"), 97);
    fs::write(&path, config.replace("weir_zone 4m;", "weir_zone 5m;")).unwrap();
    site.nginx.reload().unwrap();
    assert_eq!(site.remaining("/"), 99, "another size is another zone");
    let log = site.nginx.error_log();
    assert_eq!(log.matches("zone resized from 4194304 to 5242880 bytes").count(), 1, "{log}");
}

#[test]
fn reloads_under_load_fail_no_request_and_lose_no_record() {
    let mut site = Plan::new(&policy("\"100000 requests/hour\""), ON).workers(2).start();
    // A connection for each request: nginx closes those that are kept alive when it reloads.
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Api-Key: {KEY}\r\n\r\n");
    let shots = vec![Shot { bytes: head.into_bytes(), port: site.port }];
    let running = load::start(Load::even(shots, 200.0, Duration::from_secs(4), 32), Instant::now());
    for _ in 0..5 {
        site.nginx.reload().unwrap();
    }
    let samples = running.join();
    let failed = samples.iter().filter(|sample| sample.status != 200).count();
    assert_eq!(failed, 0);
    assert_eq!(site.remaining("/"), 100_000 - 801);
    site.close();
    assert_eq!(site.records(), 801);
    site.assert_quiet();
}

#[test]
fn a_spool_that_cannot_be_written_stops_no_request_and_recovers() {
    let site = site("\"1000 requests/hour\"");
    site.get("/");
    let spool = site.dir().join("spool");
    fs::remove_dir_all(&spool).unwrap();
    fs::write(&spool, "in the way").unwrap();
    let said = || site.nginx.error_log().contains("weir: spool: ");
    assert!(wait::until(Duration::from_secs(60), || site.get("/").status == 200 && said()));
    assert_eq!(site.get("/").status, 200);
    fs::remove_file(&spool).unwrap();
    let written = || {
        site.get("/");
        fs::read_dir(&spool).is_ok_and(|mut files| {
            files.any(|file| !file.unwrap().file_name().to_string_lossy().starts_with("spare"))
        })
    };
    assert!(wait::until(Duration::from_secs(60), written), "{}", site.nginx.error_log());
}

#[test]
fn without_a_master_process_it_limits_as_well() {
    let plan = Plan::new(&policy("\"5 requests/minute\""), ON).head("master_process off;\n");
    let site = plan.start();
    let statuses = [(); 6].map(|()| site.get("/").status);
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
}

#[test]
fn a_client_that_goes_away_while_it_waits_is_booked_and_harms_nobody() {
    let redis = Redis::start().unwrap();
    let http = format!("weir_redis {};\nweir_redis_timeout 500ms;\n", redis.url());
    let mut site = Plan::new(&policy("\"100 requests/minute\""), ON).debug().http(&http).start();
    let up = || site.nginx.error_log().contains("Redis answers");
    assert!(wait::until(Duration::from_secs(60), up));
    redis.freeze();
    for _ in 0..5 {
        let mut stream = site.connect();
        write!(stream, "GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\n\r\n").unwrap();
        wait::pass(Duration::from_millis(20));
    }
    let gone = || site.log().iter().filter(|line| line.starts_with("499 ")).count();
    assert!(wait::until(Duration::from_secs(60), || gone() == 5), "{:?}", site.log());
    redis.thaw();
    let served = || site.get("/").status == 200;
    assert!(wait::until(Duration::from_secs(60), served));
    site.close();
    site.assert_quiet();
    assert_eq!(site.records(), site.log().len());
}

#[test]
fn a_reload_while_requests_wait_answers_them() {
    let redis = Redis::start().unwrap();
    let http = format!("weir_redis {};\nweir_redis_timeout 800ms;\n", redis.url());
    let mut site = Plan::new(&policy("\"100 requests/minute\""), ON).debug().http(&http).start();
    let up = || site.nginx.error_log().contains("Redis answers");
    assert!(wait::until(Duration::from_secs(60), up));
    redis.freeze();
    let request = site.request("GET", "/");
    let waiting = std::thread::spawn(move || request.send());
    let began = Instant::now();
    wait::pass(Duration::from_millis(100));
    signal_pid(site.nginx.pid(), SIGHUP);
    let answer = waiting.join().unwrap().unwrap();
    assert_eq!(answer.status, 200);
    assert!(began.elapsed() < Duration::from_secs(10));
    redis.thaw();
    site.close();
    assert_eq!(site.log(), ["200 PASSED_DEGRADED acme /"]);
    site.assert_quiet();
}

#[test]
fn a_dead_redis_denies_or_allows_as_the_place_says_and_is_never_a_429() {
    let server = "weir on; location / { try_files /index.html =404; }
        location /deny { weir_fallback deny; try_files /index.html =404; }
        location /allow { weir_fallback allow; try_files /index.html =404; }";
    let http = format!("weir_redis redis://127.0.0.1:{};\nweir_gateways_min 4;\n", ports::free());
    let mut site = Plan::new(&policy("\"8 requests/minute\""), server).http(&http).start();
    let denied = site.get("/deny");
    assert_eq!((denied.status, denied.header("Retry-After")), (503, Some("1")));
    assert!(denied.header("RateLimit").is_none(), "nobody knows what is left");
    assert!(denied.text().contains("#temporary-reduced-capacity"));
    let local = [(); 3].map(|()| site.get("/").status);
    assert_eq!(local, [200, 200, 429], "a share of a fourth");
    assert_eq!([(); 9].map(|()| site.get("/allow").status), [200; 9]);
    site.close();
    let log = site.log();
    assert_eq!(log[0], "503 REJECTED_DEGRADED acme /deny");
    assert_eq!(
        log[1..4].join(","),
        "200 PASSED_DEGRADED acme /,200 PASSED_DEGRADED acme /,429 REJECTED_DEGRADED acme /"
    );
    assert!(log[4..].iter().all(|line| line == "200 PASSED_DEGRADED acme /allow"));
}
