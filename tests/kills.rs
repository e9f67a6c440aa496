//! Workers, whole gateways, collectors and roll-ups killed at random under load (faults.md, items 106
//! and 107): two minutes of it, or as many seconds as WEIR_KILL_SECONDS says.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use weir_testbed::backend::Behaviour;
use weir_testbed::fastrand::Rng;
use weir_testbed::gateway::key_hash;
use weir_testbed::load::{self, Plan, Sample, Shot};
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::wait;

const CLIENTS: [&str; 3] = ["acme", "globex", "initech"];
/// Far below the limit: nobody is refused, also by a gateway that has not reached Redis yet.
const RATE: f64 = 120.0;

/// What was killed.
#[derive(Debug, Default)]
struct Killed {
    workers: usize,
    gateways: usize,
    jobs: usize,
}

fn policy() -> String {
    let clients = CLIENTS.map(|id| format!("[clients.{id}]\nkeys = [\"{}\"]\n", key_hash(id)));
    format!("default_tier = \"t\"\n[tiers.t]\nlimits = [\"1000 requests/second\"]\n{}", clients.concat())
}

fn plan(scene: &Scene, seconds: f64) -> Plan {
    let ports = scene.ports().into_iter();
    let shots = ports.flat_map(|port| CLIENTS.map(|key| Shot::new("GET", "/orders", key, port))).collect();
    Plan::even(shots, RATE, Duration::from_secs_f64(seconds), 32)
}

/// Kills something.
fn kill(scene: &mut Scene, rng: &mut Rng, killed: &mut Killed) {
    let gateway = rng.usize(0..scene.gateways.len());
    let nginx = &mut scene.gateways[gateway].nginx;
    match rng.u8(0..10) {
        0..4 => {
            nginx.kill_worker().unwrap();
            killed.workers += 1;
        }
        4 => {
            killed.workers += nginx.kill_all().unwrap();
            killed.gateways += 1;
            nginx.start_again().unwrap();
        }
        _ => {
            let job = ["collect", "rollup", "tick"][rng.usize(0..3)];
            let mut job = scene.installation.spawn(&[job]).unwrap();
            wait::pass(Duration::from_millis(rng.u64(5..800)));
            // Where the machine is quick it has ended by itself.
            killed.jobs += usize::from(job.try_wait().unwrap().is_none());
            let _ = job.kill();
            job.wait().unwrap();
        }
    }
}

#[test]
fn whatever_is_killed_under_load_every_answer_is_a_row_once() {
    let seconds = std::env::var("WEIR_KILL_SECONDS").map_or(120.0, |text| text.parse().unwrap());
    let seed = std::env::var("WEIR_KILL_SEED").map_or(7, |text| text.parse().unwrap());
    let behaviour = Behaviour::steady(Duration::from_millis(3));
    let redis = Redis::start().unwrap();
    let plot = Plot::new(&policy()).shared_by_two(&redis.url()).options(|options| options.workers(2));
    let mut scene = plot.backend(behaviour).start().unwrap();
    let (mut rng, mut killed) = (Rng::with_seed(seed), Killed::default());
    let begun = Instant::now();
    let running = load::start(plan(&scene, seconds), begun);
    while begun.elapsed() < Duration::from_secs_f64(seconds) {
        kill(&mut scene, &mut rng, &mut killed);
        wait::pass(Duration::from_millis(rng.u64(200..1_500)));
    }
    let samples = running.join();
    scene.close();
    scene.installation.ok(&["tick"]).unwrap();
    holds(&scene, &samples, &killed);
}

/// Each request that was answered is a record and a row. Only a worker that died between sending an
/// answer and booking it can have left one out: one at most. Numbers have neither holes nor doubles.
fn holds(scene: &Scene, samples: &[Sample], killed: &Killed) {
    let (sent, answered) = (samples.len(), samples.iter().filter(|s| s.status != 0).count());
    let usage = scene.installation.usage("minute").unwrap();
    let booked = usize::try_from(usage.requests()).unwrap();
    println!("{killed:?}: {sent} requests sent, {answered} answered whole, {booked} booked");
    assert!(killed.workers > 0 && answered > 0, "{answered} of {sent}, {killed:?}");
    let least = answered.saturating_sub(killed.workers);
    assert!((least..=sent).contains(&booked), "{booked} for {answered} of {sent}, {killed:?}");
    assert_eq!(usage.completeness.missing, 0, "the numbers have a hole");
    // Each grain adds up to the records, and no number stands there twice. How long a killed gateway
    // takes to be back is the machine's, so it may have been silent.
    let output = scene.installation.run(&["audit", "--json"]).unwrap();
    let audit: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = audit["breaches"].as_array().unwrap();
    assert!(found.iter().all(|breach| breach["kind"] == "silent"), "{audit}");
    assert_eq!(audit["records"], booked);
}
