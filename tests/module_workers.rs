//! Workers that die, stop, cannot start or are replaced a hundred times: the others go on, and so do
//! the counts.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::fs;
use std::time::{Duration, Instant};

use module_common::{KEY, Plan, Site, policy};
use weir_testbed::load::{self, Plan as Load, Sample, Shot};
use weir_testbed::process::{cpu_time, signal_pid};
use weir_testbed::redis::Redis;
use weir_testbed::wait;

const SIGHUP: i32 = 1;
const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;

const ON: &str = "location / { weir on; try_files /index.html =404; }
                  location = /metrics { weir_metrics; access_log off; }";

/// Requests go on whatever happens to a worker; this long without an answer is a hang.
const HANG: Duration = Duration::from_secs(5);

fn shots(site: &Site) -> Vec<Shot> {
    vec![Shot::new("GET", "/", KEY, site.port)]
}

fn assert_no_hang(samples: &[Sample]) {
    let slowest = samples.iter().max_by_key(|s| s.done_us - s.sent_us).unwrap();
    assert!(u128::from(slowest.done_us - slowest.sent_us) < HANG.as_micros(), "{slowest:?}");
}

/// A line of `/proc/PID/status`, such as `VmRSS:     5612 kB`: its first number.
fn status(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Fault 1.
#[test]
fn a_hundred_killed_workers_take_no_count_with_them_and_nobody_waits() {
    const LIMIT: u64 = 1_000_000;
    let mut site = Plan::new(&policy(&format!("\"{LIMIT} requests/hour\"")), ON).workers(2).start();
    let running = load::start(Load::even(shots(&site), 200.0, Duration::from_secs(15), 16), Instant::now());
    let mut least = LIMIT;
    for n in 0..100 {
        site.nginx.kill_worker().unwrap();
        // What one worker was about to do when it died is counted or not; what was counted stays.
        let left = site.remaining("/");
        assert!(left < least, "after {} workers {left} are left of {least}", n + 1);
        least = left;
    }
    let samples = running.join();
    assert_no_hang(&samples);
    let answered = samples.iter().filter(|sample| sample.status == 200).count() as u64;
    let sent = samples.len() as u64 + 100;
    let used = LIMIT - site.remaining("/");
    assert!(used > answered + 100 && used <= sent + 1, "{used} counted, {answered} answered, {sent} sent");
    assert!(answered > sent / 2, "{answered} of {sent}");
    let log = site.nginx.error_log();
    assert_eq!(log.matches("exited on signal 9").count(), 100);
    assert!(!log.contains("was locked by") && !log.contains("exited with fatal code"), "{log}");
    assert_eq!(site.nginx.workers().len(), 2);
    site.close();
}

/// Two workers, one of which was made to stop within the lock of the client.
fn site_with_a_held_lock() -> (Site, u32, std::thread::JoinHandle<u16>) {
    let site = Plan::new(&policy("\"100 requests/hour\""), ON).debug().workers(2).start();
    assert_eq!(site.remaining("/"), 99);
    let request = site.request("GET", "/").header("X-Weir-Test", "hold-lock");
    let held = std::thread::spawn(move || request.send().map_or(0, |answer| answer.status));
    let stopped = || site.nginx.workers().into_iter().find(|pid| is_stopped(*pid));
    let victim = wait::until_some(Duration::from_secs(60), stopped);
    let victim = victim.expect("a worker stops when it is asked to");
    (site, victim, held)
}

/// Fault 2.
#[test]
fn the_lock_of_a_killed_worker_is_taken_over_and_counted() {
    let (mut site, victim, held) = site_with_a_held_lock();
    assert_eq!(site.get("/").status, 200, "while it is held, requests pass undecided");
    assert_eq!(site.counted("weir_requests_total{decision=\"PASSED_DEGRADED\"}"), 1);
    signal_pid(victim, SIGKILL);
    assert_eq!(held.join().unwrap(), 0, "its own request had no answer");
    let replaced =
        || site.nginx.workers().len() == 2 && site.nginx.workers().iter().all(|pid| *pid != victim);
    assert!(wait::until(Duration::from_secs(60), replaced));
    // The first and the one that died within the lock are counted; the one that passed undecided was
    // told to nobody.
    let left = [(); 3].map(|()| site.remaining("/"));
    assert_eq!(left, [97, 96, 95]);
    assert_eq!(site.counted("weir_shm_repaired_total"), 1);
    assert_eq!(site.counted("weir_requests_total{decision=\"PASSED_DEGRADED\"}"), 1);
    site.close();
}

/// Fault 3.
#[test]
fn a_worker_that_stops_within_the_lock_holds_nobody_up() {
    let (mut site, victim, held) = site_with_a_held_lock();
    let other = site.nginx.workers().into_iter().find(|pid| *pid != victim).unwrap();
    let before = cpu_time(other).unwrap();
    let samples = load::run(Load::even(shots(&site), 100.0, Duration::from_secs(5), 16));
    let spent = cpu_time(other).unwrap() - before;
    assert!(samples.iter().all(|sample| sample.status == 200), "{samples:?}");
    assert_no_hang(&samples);
    // Waiting for a lock is spinning: a millisecond of it would be a millisecond of the processor.
    let each = spent / samples.len() as u32;
    assert!(each < Duration::from_millis(1), "{each:?} of the processor for each request");
    let degraded = || site.counted("weir_requests_total{decision=\"PASSED_DEGRADED\"}");
    assert_eq!(degraded(), 500, "each says that it was not decided");
    signal_pid(victim, SIGCONT);
    assert_eq!(held.join().unwrap(), 200, "it goes on where it stopped");
    assert_eq!(site.remaining("/"), 97);
    assert_eq!((site.counted("weir_shm_repaired_total"), degraded()), (0, 500));
    site.close();
    site.assert_quiet();
}

/// Fault 5.
#[test]
fn a_panic_at_the_start_of_a_worker_leaves_nginx_serving_without_limits() {
    let site =
        Plan::new(&policy("\"1 requests/hour\""), ON).debug().head("env WEIR_TEST_INIT=panic;\n").start();
    assert_eq!(site.get("/").status, 200);
    let workers = site.nginx.workers();
    for _ in 0..5 {
        let answer = site.get("/");
        assert_eq!((answer.status, answer.header("RateLimit")), (200, None));
    }
    assert_eq!(site.nginx.workers(), workers, "it does not end");
    let log = site.nginx.error_log();
    assert_eq!(log.matches("asked for by WEIR_TEST_INIT").count(), 1, "{log}");
    assert!(log.contains("not started, nothing is limited or metered"), "{log}");
    let config = site.dir().join("nginx.conf");
    let healed = fs::read_to_string(&config).unwrap().replace("env WEIR_TEST_INIT=panic;", "");
    fs::write(&config, healed).unwrap();
    site.nginx.reload().unwrap();
    assert_eq!([(); 2].map(|()| site.get("/").status), [200, 429]);
}

/// Fault 5: there is memory for nginx itself, and none for the threads of a worker.
#[test]
fn without_memory_at_the_start_of_a_worker_nginx_serves_without_limits() {
    let redis = Redis::start().unwrap();
    let http = format!("weir_redis {};\n", redis.url());
    let site = Plan::new(&policy("\"1 requests/hour\""), ON).http(&http).start();
    let master = site.nginx.pid();
    limit_memory(master, status(master, "VmSize") + 1024);
    site.nginx.reload().unwrap();
    let workers = site.nginx.workers();
    assert_eq!([(); 5].map(|()| site.get("/").status), [200; 5], "{}", site.nginx.error_log());
    assert_eq!(site.nginx.workers(), workers, "it does not end");
    let log = site.nginx.error_log();
    assert_eq!(log.matches("not started, nothing is limited or metered").count(), 1, "{log}");
    assert!(!log.contains("exited with fatal code") && !log.contains("exited on signal"), "{log}");
    limit_memory(master, u64::MAX >> 10);
    site.nginx.reload().unwrap();
    assert_eq!([(); 2].map(|()| site.get("/").status), [200, 429]);
}

/// Of a process and those that it starts from now on.
fn limit_memory(pid: u32, kib: u64) {
    let bytes = if kib >= u64::MAX >> 10 { "unlimited".to_owned() } else { (kib * 1024).to_string() };
    let pid = pid.to_string();
    let limit = format!("--as={bytes}:unlimited");
    let done = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(done.expect("prlimit is part of util-linux").success());
}

/// What could grow from one reload to the next: of the master, and of a worker that has just begun.
#[derive(Debug)]
struct Size {
    files: [usize; 2],
    threads: [u64; 2],
    resident_kib: [u64; 2],
}

impl Size {
    fn of(site: &Site) -> Size {
        let worker = site.nginx.workers()[0];
        let both = [site.nginx.pid(), worker];
        Size {
            files: both.map(open_files),
            threads: both.map(|pid| status(pid, "Threads")),
            resident_kib: both.map(|pid| status(pid, "VmRSS")),
        }
    }
}

/// Fault 9. `make soak` reloads a thousand times.
#[test]
fn a_hundred_reloads_under_load_fail_nothing_and_nothing_grows() {
    let reloads: usize = std::env::var("WEIR_RELOADS").map_or(100, |n| n.parse().unwrap());
    let redis = Redis::start().unwrap();
    let http = format!("weir_redis {};\n", redis.url());
    let mut site = Plan::new(&policy("\"10000000 requests/hour\""), ON).workers(2).http(&http).start();
    // A connection for each request: nginx closes those that are kept alive when it reloads.
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Api-Key: {KEY}\r\n\r\n");
    let shots = vec![Shot { bytes: head.into_bytes(), port: site.port }];
    let (mut sent, mut failed) = (0, 0);
    let mut first = None;
    for n in (0..reloads).step_by(10) {
        let running =
            load::start(Load::even(shots.clone(), 100.0, Duration::from_millis(1_500), 16), Instant::now());
        for _ in 0..10 {
            site.nginx.reload().unwrap();
        }
        let samples = running.join();
        sent += samples.len();
        failed += samples.iter().filter(|sample| sample.status != 200).count();
        // The first ten have brought every allocator to its size.
        if n == 0 {
            first = Some(settled(&site));
        }
    }
    assert_eq!(failed, 0, "of {sent}");
    let (first, last) = (first.unwrap(), settled(&site));
    assert_eq!((first.files, first.threads), (last.files, last.threads), "{first:?} {last:?}");
    for (first, last) in first.resident_kib.into_iter().zip(last.resident_kib) {
        assert!(last < first + 2048, "from {first} to {last} KiB");
    }
    site.close();
    assert_eq!(site.records(), sent);
    site.assert_quiet();
}

/// Sizes when nobody is connected any more and every thread of the worker runs.
fn settled(site: &Site) -> Size {
    let mut before = Size::of(site);
    let steady = wait::until_some(Duration::from_secs(60), || {
        wait::pass(Duration::from_millis(300));
        let now = Size::of(site);
        let same = (now.files, now.threads) == (before.files, before.threads);
        before = now;
        same.then(|| Size::of(site))
    });
    steady.expect("a worker that nobody asks for anything comes to rest")
}

/// Fault 6 and 8, with two workers and a hundred requests under way: a reload that is refused, and
/// one that is not, change no count.
#[test]
fn reloads_good_and_broken_keep_every_count_of_two_workers() {
    let mut site = Plan::new(&policy("\"1000 requests/hour\""), ON).workers(2).start();
    let path = site.dir().join("nginx.conf");
    let config = fs::read_to_string(&path).unwrap();
    let mut left = 1000;
    for n in 0..6 {
        for _ in 0..20 {
            left -= 1;
            assert_eq!(site.remaining("/"), left);
        }
        if n % 2 == 0 {
            site.nginx.reload().unwrap();
        } else {
            fs::write(&path, config.replace("weir on;", "weir sometimes;")).unwrap();
            signal_pid(site.nginx.pid(), SIGHUP);
            let said = || site.nginx.error_log().matches("[emerg]").count() > n / 2;
            assert!(wait::until(Duration::from_secs(60), said), "{}", site.nginx.error_log());
            fs::write(&path, &config).unwrap();
        }
    }
    site.close();
    assert_eq!(site.records(), 120);
}
