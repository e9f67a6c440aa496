//! A policy of 100,000 clients with a key each: changed under a stream of requests that is answered
//! right throughout, and kept in memory once for all workers of a gateway.

// The tests wait for real gateways.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use weir_testbed::gateway::{key_hash, write_policy};
use weir_testbed::http::Request;
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::wait;

const CLIENTS: usize = 100_000;
const WORKERS: usize = 2;
/// The command is not optimised here and reads the policy several times.
const SOON: Duration = Duration::from_secs(240);
/// What a worker has for itself, policies of before and what the library keeps included. A policy of
/// this size as maps and strings takes 40 MB and more.
const OWN_KIB: u64 = 32 << 10;

/// All clients but the marker keep what they have from one policy to the next.
fn policy(marker: &str) -> String {
    let mut text = format!(
        "default_tier = \"basic\"\n[unknown]\naction = \"reject\"\n\
         [tiers.basic]\nlimits = [\"1000000 requests/hour\"]\n\
         [clients.marker]\nlimits = [\"{marker}\"]\nkeys = [\"{}\"]\n",
        key_hash("marker-key")
    );
    for n in 0..CLIENTS {
        let key = key_hash(&key(n));
        let _ = write!(text, "[clients.client-{n:06}]\nname = \"Client {n}\"\nkeys = [\"{key}\"]\n");
    }
    text
}

fn key(n: usize) -> String {
    format!("key-{n}")
}

fn plot(policy: &str) -> Plot {
    Plot::new(policy).options(|options| options.workers(WORKERS).location("add_header X-Worker $pid always;"))
}

fn status(port: u16, key: &str) -> u16 {
    Request::get(port, "/orders").key(key).send().map_or(0, |answer| answer.status)
}

/// Until each worker has answered this key with this status.
fn await_workers(scene: &Scene, key: &str, expected: u16) {
    let mut seen = BTreeSet::new();
    let all_say = || {
        let answer = Request::get(scene.port(), "/orders").key(key).send().unwrap();
        if answer.status == expected {
            seen.extend(answer.header("x-worker").map(str::to_owned));
        }
        seen.len() == WORKERS
    };
    assert!(wait::until(SOON, all_say), "{expected}: {}", scene.gateways[0].nginx.error_log());
}

/// Clients of all parts of the policy are served and strangers are not, while something is done.
fn under_way(port: u16, act: impl FnOnce()) {
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let n = asked.fetch_add(1, Ordering::Relaxed);
                assert_eq!(status(port, &key(n * 7_919 % CLIENTS)), 200, "client {n}");
                assert_eq!(status(port, &format!("stranger-{n}")), 403, "stranger {n}");
            }
        });
        // Without a stream there is nothing to see.
        assert!(wait::until(SOON, || asked.load(Ordering::Relaxed) > 10 || stream.is_finished()));
        act();
        stop.store(true, Ordering::Relaxed);
    });
}

/// What the kernel says of a process' memory, in KiB.
fn memory_kib(pid: u32, names: &[&str]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let value = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    names.iter().map(|name| value(name).unwrap()).sum()
}

fn assert_shared(scene: &Scene) {
    let workers = scene.gateways[0].nginx.workers();
    assert_eq!(workers.len(), WORKERS);
    let image = |pid: &u32| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let images = maps.lines().filter(|line| line.contains(".image") && !line.contains("(deleted)"));
        images.filter_map(|line| Some(line.split_whitespace().nth(4)?.to_owned())).collect::<BTreeSet<_>>()
    };
    let one_for_all = || workers.iter().map(image).collect::<BTreeSet<_>>().len() == 1;
    assert!(wait::until(SOON, one_for_all), "both map the same file");
    assert_eq!(image(&workers[0]).len(), 1);
    let own = |pid: &u32| memory_kib(*pid, &["Private_Clean:", "Private_Dirty:"]);
    let own_is_small = || workers.iter().all(|pid| own(pid) < OWN_KIB);
    let told: Vec<(u64, u64)> = workers.iter().map(|pid| (own(pid), memory_kib(*pid, &["Pss:"]))).collect();
    eprintln!("own memory and share of all, in KiB: {told:?}");
    assert!(wait::until(SOON, own_is_small), "{told:?}");
}

#[test]
fn a_file_of_100_000_clients_is_changed_under_way() {
    let scene = plot(&policy("1000000 requests/hour")).start().unwrap();
    assert_eq!(status(scene.port(), "marker-key"), 200);
    for (marker, expected) in [("1 requests/hour", 429), ("900000 requests/hour", 200)] {
        under_way(scene.port(), || {
            write_policy(&scene.installation.policy(), &policy(marker)).unwrap();
            await_workers(&scene, "marker-key", expected);
        });
        assert_shared(&scene);
    }
    // A worker that begins anew goes by the policy in force as well, soon.
    write_policy(&scene.installation.policy(), &policy("1 requests/hour")).unwrap();
    await_workers(&scene, "marker-key", 429);
    scene.gateways[0].nginx.kill_worker().unwrap();
    await_workers(&scene, "marker-key", 429);
    assert_eq!(status(scene.port(), &key(CLIENTS - 1)), 200);
}

#[test]
fn a_published_policy_of_100_000_clients_is_changed_under_way() {
    let redis = Redis::start().unwrap();
    let options = |options: weir_testbed::gateway::Options| {
        let options = options.workers(WORKERS).location("add_header X-Worker $pid always;");
        options.published().http("weir_redis_timeout 1s;")
    };
    let first = policy("1000000 requests/hour");
    let scene = Plot::new(&first).shared_by(1, &redis.url()).options(options).start().unwrap();
    let scene = scene.linked().unwrap();
    let apply = |text: &str| {
        fs::write(scene.installation.policy(), text).unwrap();
        scene.installation.ok(&["apply", "--reason", "scale", "--by", "tests"]).unwrap()
    };
    apply(&first);
    // Before a worker has a policy it refuses nobody.
    await_workers(&scene, "stranger", 403);
    under_way(scene.port(), || {
        apply(&policy("1 requests/hour"));
        await_workers(&scene, "marker-key", 429);
    });
    assert_shared(&scene);
}
