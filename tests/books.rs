//! Requests sent = records = rows, whatever is killed on the way.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use weir_testbed::backend::Behaviour;
use weir_testbed::gateway::{Options, key_hash};
use weir_testbed::http::Request;
use weir_testbed::load::{self, Plan, Sample, Shot};
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::{fastrand, wait};

const CLIENTS: [&str; 3] = ["acme", "globex", "initech"];

fn policy() -> String {
    let clients = CLIENTS.map(|id| format!("[clients.{id}]\nkeys = [\"{}\"]\n", key_hash(id)));
    format!("default_tier = \"t\"\n[tiers.t]\nlimits = [\"200 requests/second\"]\n{}", clients.concat())
}

/// Two workers, and time for a lease while the machine is busy.
fn two_workers(options: Options) -> Options {
    options.workers(2).http("weir_redis_timeout 200ms;")
}

/// `rate` requests a second for `seconds`, of all clients in turn over all gateways.
fn send(scene: &Scene, rate: f64, seconds: f64) -> load::Running {
    load::start(plan(scene, rate, seconds), Instant::now())
}

fn plan(scene: &Scene, rate: f64, seconds: f64) -> Plan {
    let mut plan = scene.plan("", rate, seconds);
    plan.shots = scene
        .ports()
        .into_iter()
        .flat_map(|port| CLIENTS.map(|key| Shot::new("GET", "/orders", key, port)))
        .collect();
    for (n, call) in plan.calls.iter_mut().enumerate() {
        call.shot = (n % plan.shots.len()) as u32;
    }
    plan
}

fn answered(samples: &[Sample]) -> usize {
    samples.iter().filter(|s| s.status != 0).count()
}

#[test]
fn requests_sent_are_records_are_rows() {
    let redis = Redis::start().unwrap();
    let plot = Plot::new(&policy()).shared_by_two(&redis.url()).options(two_workers);
    let mut scene = plot.start().unwrap();
    let samples = send(&scene, 500.0, 4.0).join();
    assert_eq!(answered(&samples), 2_000);
    let refused = samples.iter().filter(|s| s.status == 429).count();
    scene.close();
    let records = scene.installation.records().unwrap();
    assert_eq!(records.len(), 2_000);
    let rejected = records.iter().filter(|r| r["decision"] == "REJECTED").count();
    assert_eq!(rejected, refused);
    scene.installation.ok(&["tick"]).unwrap();
    let by_client = scene.installation.usage("minute").unwrap().by_client();
    assert_eq!(by_client.values().sum::<i64>(), 2_000);
    for (n, id) in CLIENTS.iter().enumerate() {
        let sent = samples.iter().filter(|s| s.shot as usize % 3 == n).count();
        assert_eq!(by_client[*id], sent as i64, "{id}");
    }
    let audit = scene.installation.json(&["audit", "--json"]).unwrap();
    assert_eq!((&audit["records"], &audit["limits"]), (&2_000.into(), &3.into()), "{audit}");
    assert_eq!(audit["breaches"], serde_json::json!([]));
}

/// What two gateways admitted is counted by the Redis that they share; a counter that lost its uses is
/// told by the audit, with the client's name.
#[test]
fn an_audit_tells_what_redis_does_not_count() {
    let redis = Redis::start().unwrap();
    let policy = policy().replace("200 requests/second", "1000 requests/hour");
    let plot = Plot::new(&policy).shared_by_two(&redis.url()).options(two_workers);
    let mut scene = plot.start().unwrap();
    let samples = send(&scene, 150.0, 2.0).join();
    assert_eq!(answered(&samples), 300);
    scene.close();
    scene.installation.ok(&["tick"]).unwrap();
    let audit = scene.installation.json(&["audit", "--json"]).unwrap();
    assert_eq!((&audit["compared"], &audit["breaches"]), (&3.into(), &serde_json::json!([])), "{audit}");
    let beyond = audit["beyond"].as_i64().unwrap();
    assert!((0..=3_000).contains(&beyond), "{audit}");
    let keys = redis.command(&["KEYS", "*{globex}:requests:3600000"]).unwrap();
    assert_eq!(keys.lines().count(), 1, "{keys}");
    redis.command(&["DEL", keys.trim()]).unwrap();
    let output = scene.installation.run(&["audit"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("redis: {globex}:requests:3600000") && said.contains("1 finding"), "{said}");
}

/// Whoever takes records out of the store is told so by the audit.
#[test]
fn an_audit_tells_that_records_were_removed() {
    let mut scene = Plot::new(&policy()).options(two_workers).start().unwrap();
    let samples = send(&scene, 100.0, 2.0).join();
    assert_eq!(answered(&samples), 200);
    scene.close();
    scene.installation.ok(&["tick"]).unwrap();
    assert!(scene.installation.ok(&["audit"]).unwrap().contains("nothing found"));
    remove_one(&scene.installation.dir().join("store/records"));
    let output = scene.installation.run(&["audit"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("segments that usage/grain=minute"), "{said}");
}

/// Deletes the first file below a folder.
fn remove_one(dir: &std::path::Path) {
    let entry = std::fs::read_dir(dir).unwrap().flatten().next().unwrap();
    match entry.path().is_dir() {
        true => remove_one(&entry.path()),
        false => std::fs::remove_file(entry.path()).unwrap(),
    }
}

/// `weir tail -f` prints what gateways book while they do it, each record once.
#[test]
fn a_tail_follows_live_gateways() {
    let scene = Plot::new(&policy()).options(two_workers).start().unwrap();
    let printed = scene.installation.dir().join("tail.ndjson");
    let mut command = scene.installation.command(&["tail", "-f", "-n", "1000"]).unwrap();
    let mut tail = command.stdout(std::fs::File::create(&printed).unwrap()).spawn().unwrap();
    let answered = answered(&send(&scene, 100.0, 2.0).join());
    let lines = || std::fs::read_to_string(&printed).unwrap();
    let all = wait::until(Duration::from_secs(30), || lines().matches('\n').count() >= answered);
    assert!(all, "{} of {answered} records", lines().lines().count());
    let records: Vec<serde_json::Value> =
        lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), answered);
    assert_no_record_twice(&records);
    tail.kill().unwrap();
    tail.wait().unwrap();
}

/// A request that was answered is in the books; one that was not is there at most once. Only a
/// worker that died between sending an answer and booking it can have left one out: one at most.
#[test]
fn killing_workers_loses_and_doubles_no_finished_record() {
    const KILLS: usize = 8;
    const CONNECTIONS: usize = 16;
    let behaviour = Behaviour::steady(Duration::from_millis(3));
    let mut scene = Plot::new(&policy()).backend(behaviour).options(two_workers).start().unwrap();
    let mut plan = plan(&scene, 400.0, 6.0);
    plan.connections = CONNECTIONS;
    let running = load::start(plan, Instant::now());
    for _ in 0..KILLS {
        wait::pass(Duration::from_millis(600));
        scene.gateways[0].nginx.kill_worker().unwrap();
    }
    let samples = running.join();
    scene.close();
    assert_no_record_twice(&scene.installation.records().unwrap());
    let (sent, answered) = (samples.len(), answered(&samples));
    assert!(answered + KILLS * CONNECTIONS >= sent && answered < sent, "{answered} of {sent}");
    scene.installation.ok(&["tick"]).unwrap();
    let booked = usize::try_from(scene.installation.usage("minute").unwrap().requests()).unwrap();
    assert!((answered.saturating_sub(KILLS)..=sent).contains(&booked), "{booked} for {answered} of {sent}");
    assert_eq!(
        scene.installation.usage("minute").unwrap().completeness.missing,
        0,
        "the numbers have a hole"
    );
}

/// A record is known by its stream and its number.
fn assert_no_record_twice(records: &[serde_json::Value]) {
    let known: BTreeSet<String> =
        records.iter().map(|r| format!("{}-{}", r["stream"], r["number"])).collect();
    assert_eq!(known.len(), records.len());
}

#[test]
fn a_reload_under_load_loses_nothing() {
    let mut scene = Plot::new(&policy()).options(two_workers).start().unwrap();
    let running = send(&scene, 300.0, 3.0);
    for _ in 0..3 {
        wait::pass(Duration::from_millis(700));
        scene.gateways[0].nginx.reload().unwrap();
    }
    let samples = running.join();
    scene.close();
    scene.installation.ok(&["tick"]).unwrap();
    let booked = usize::try_from(scene.installation.usage("minute").unwrap().requests()).unwrap();
    assert!((answered(&samples)..=samples.len()).contains(&booked), "{booked}");
}

/// Killed at any moment and run again, a tick ends with what an undisturbed one would have made.
#[test]
fn a_tick_that_is_killed_half_way_changes_nothing_when_it_is_run_again() {
    let mut scene = Plot::new(&policy()).start().unwrap();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut sent = 0;
    for round in 0..6 {
        let samples = send(&scene, 300.0, 1.0).join();
        sent += answered(&samples);
        scene.close();
        let mut tick = scene.installation.spawn(&["tick"]).unwrap();
        wait::pass(Duration::from_millis(rng.u64(5..400)));
        let _ = tick.kill();
        tick.wait().unwrap();
        scene.installation.ok(&["tick"]).unwrap();
        let booked = scene.installation.usage("minute").unwrap().requests();
        assert_eq!(booked, sent as i64, "after round {round}");
        scene.open_again().unwrap();
    }
    let before = scene.installation.usage("minute").unwrap().by_client();
    scene.installation.ok(&["tick"]).unwrap();
    assert_eq!(scene.installation.usage("minute").unwrap().by_client(), before);
}

#[test]
fn two_ticks_at_once_book_everything_once() {
    let mut scene = Plot::new(&policy()).start().unwrap();
    let samples = send(&scene, 400.0, 1.0).join();
    scene.close();
    let mut ticks: Vec<_> = (0..3).map(|_| scene.installation.spawn(&["tick"]).unwrap()).collect();
    ticks.iter_mut().for_each(|tick| {
        tick.wait().unwrap();
    });
    scene.installation.ok(&["tick"]).unwrap();
    assert_eq!(scene.installation.usage("minute").unwrap().requests(), answered(&samples) as i64);
}

/// The API key is for the gateway alone: it stands in no record, log, page or file of the books.
#[test]
fn the_api_key_is_nowhere() {
    let canary = "canary-5f1e0c77-key";
    let policy = policy() + &format!("[clients.canary]\nkeys = [\"{}\"]\n", key_hash(canary));
    let mut scene = Plot::new(&policy).start().unwrap();
    for key in [canary, "canary-of-nobody-key"] {
        Request::get(scene.port(), "/orders").key(key).send().unwrap();
    }
    scene.close();
    let log = scene.gateways[0].nginx.error_log();
    assert!(!log.contains("canary-"), "{log}");
    assert_nowhere(scene.installation.dir(), b"canary-");
    scene.installation.ok(&["tick"]).unwrap();
    assert_nowhere(scene.installation.dir(), b"canary-");
}

fn assert_nowhere(dir: &std::path::Path, text: &[u8]) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_nowhere(&path, text);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(text.len()).any(|w| w == text), "{}", path.display());
        }
    }
}
