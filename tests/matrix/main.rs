//! The promise of docs/limiter.md, end to end: real gateways of both builds, a real Redis, some 230
//! clients with limits of short windows, and one trouble after the other. What was admitted is
//! counted twice, from the clients' side and from the records.
//!
//! A scenario takes a quarter of a minute; `make soak` takes minutes for each, with two and with four
//! gateways and with the builds exchanged.

// Real processes are driven, in real time.
#![allow(clippy::disallowed_methods)]

mod audit;
mod books;
mod crowd;
mod faults;
mod world;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use audit::{Evidence, Report};
use faults::{CALM_S, Fault, RECOVERY_S, pass};
use weir_testbed::load;
use world::{KeptBy, Setting, World};

/// One scenario at a time: each is made so that the machine is not the limit.
static MACHINE: Mutex<()> = Mutex::new(());

/// How often a scenario is played at most.
const ATTEMPTS: usize = 3;

/// Seconds of load per scenario, where more than one round is asked for.
fn soak() -> Option<f64> {
    std::env::var("WEIR_MATRIX_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"))
}

/// One scenario; when soaking, also with the builds exchanged and with the other number of gateways.
fn scenario(fault: Fault, setting: Setting) {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(seconds) = soak() else {
        return play(fault, setting, 1);
    };
    let rounds = (seconds / (CALM_S + fault.seconds() + RECOVERY_S)).ceil() as usize;
    play(fault, setting, rounds);
    if !setting.vendored {
        let gateways = 6 - setting.gateways;
        play(fault, Setting { gateways, turned: !setting.turned, ..setting }, rounds);
    }
}

/// Once more where the machine was too busy for what is wrong to be the gateways' doing.
fn play(fault: Fault, setting: Setting, rounds: usize) {
    for attempt in 1..=ATTEMPTS {
        let Report { lines, mut breaches, complaints, was_busy } = observe(fault, setting, rounds);
        println!("{fault:?}, {rounds} times, {setting:?}\n  {}", lines.join("\n  "));
        let is_doubtful = was_busy && breaches.is_empty() && !complaints.is_empty();
        if is_doubtful && attempt < ATTEMPTS {
            println!("  the machine was busy: once more, because of\n  {}", complaints.join("\n  "));
            continue;
        }
        breaches.extend(complaints);
        let n = breaches.len();
        assert!(breaches.is_empty(), "{fault:?}, {setting:?}: {n} breaches\n{}", breaches.join("\n"));
        return;
    }
}

fn observe(fault: Fault, setting: Setting, rounds: usize) -> Report {
    let clients = crowd::clients();
    let mut world = World::start(setting, &clients);
    let length = Duration::from_secs_f64(rounds as f64 * (CALM_S + fault.seconds() + RECOVERY_S));
    let program = crowd::program(&clients, &world.scene.ports(), length, 7);
    let running = load::start(program.plan, world.epoch);
    for _ in 0..rounds {
        pass(CALM_S);
        fault.strike(&mut world);
        pass(RECOVERY_S);
        fault.tidy_up(&mut world);
    }
    let samples = running.join();
    world.scene.close();
    let evidence = Evidence {
        clients: &clients,
        samples: &samples,
        shots: &program.shots,
        booked: &books::read(&world.scene, &clients),
        world: &world,
        setting,
        fault,
        length_us: length.as_micros() as u64,
    };
    evidence.report()
}

#[test]
fn undisturbed_the_greedy_get_their_limit_and_the_polite_are_refused_nothing() {
    scenario(Fault::Nothing, Setting { timeout: "1s", ..Setting::new(2) });
}

#[test]
fn undisturbed_with_four_gateways() {
    scenario(Fault::Nothing, Setting { timeout: "1s", turned: true, ..Setting::new(4) });
}

#[test]
fn killed_workers() {
    scenario(Fault::Kills, Setting::new(4));
}

#[test]
fn reloads() {
    scenario(Fault::Reloads, Setting { turned: true, ..Setting::new(2) });
}

#[test]
fn a_redis_that_is_paused() {
    scenario(Fault::Pause, Setting::new(2));
}

#[test]
fn a_redis_that_is_killed_and_remembers() {
    scenario(Fault::Restart, Setting { kept_by: KeptBy::DurableRedis, turned: true, ..Setting::new(2) });
}

#[test]
fn a_redis_that_is_killed_and_forgets() {
    scenario(Fault::Restart, Setting::new(2));
}

#[test]
fn a_redis_that_is_flushed() {
    scenario(Fault::Flush, Setting { turned: true, ..Setting::new(2) });
}

#[test]
fn a_replica_that_lagged_takes_over() {
    scenario(Fault::LaggedFailover, Setting::new(4));
}

#[test]
fn a_network_that_is_cut() {
    scenario(Fault::Cut, Setting { turned: true, ..Setting::new(2) });
}

#[test]
fn a_network_that_delays() {
    scenario(Fault::Delay, Setting::new(2));
}

#[test]
fn under_local_a_redis_that_is_paused() {
    scenario(Fault::Pause, Setting { fallback: "local", turned: true, ..Setting::new(4) });
}

#[test]
fn under_local_a_redis_that_is_killed_and_forgets() {
    scenario(Fault::Restart, Setting { fallback: "local", ..Setting::new(2) });
}

#[test]
fn a_cluster_that_is_resharded() {
    scenario(Fault::Reshard, Setting { kept_by: KeptBy::Cluster, turned: true, ..Setting::new(2) });
}

#[test]
fn a_cluster_that_loses_a_primary() {
    scenario(Fault::ClusterFailover, Setting { kept_by: KeptBy::Cluster, ..Setting::new(2) });
}

#[test]
fn a_server_that_sentinels_replace() {
    scenario(Fault::SentinelFailover, Setting { kept_by: KeptBy::Sentinel, turned: true, ..Setting::new(2) });
}

/// The module from the same source, in the nginx 1.28 that comes as a package.
fn vendored(gateways: usize) -> Setting {
    Setting { vendored: true, ..Setting::new(gateways) }
}

#[test]
fn in_nginx_1_28_a_gateway_alone() {
    scenario(Fault::Nothing, Setting { kept_by: KeptBy::Nobody, ..vendored(1) });
}

#[test]
fn in_nginx_1_28_two_gateways_that_are_reloaded() {
    scenario(Fault::Reloads, vendored(2));
}

#[test]
fn in_nginx_1_28_killed_workers() {
    scenario(Fault::Kills, vendored(2));
}
