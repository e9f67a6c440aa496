//! What clients get against an exact sliding log where nothing goes wrong, what Redis sees, and how
//! fast worlds are played: one JSON object a line, for bench/.
//! `cargo run --release -p weir-simulator --example quality`

// It measures.
#![allow(clippy::disallowed_methods)]

use std::time::Instant;

use weir_simulator::{Kind, Outcome, Scene, Traffic, run};

const MINUTE: u64 = 60_000;

fn main() {
    for amount in [100, 1_000, 10_000] {
        for gateways in [1, 2, 4, 8, 16] {
            share(amount, gateways);
        }
    }
    undue();
    for amount in [10_000, 100] {
        flood(amount);
    }
    speed();
}

fn quiet(kind: Kind, amount: u64, gateways: usize) -> Scene {
    Scene { gateways, ..Scene::quiet(kind, amount, MINUTE) }
}

/// The share of what an exact sliding log admits that a client gets who sends twice its limit.
fn share(amount: u64, gateways: usize) {
    // Ends while units are leaving the window, so that what counts too long shows.
    let o = run(&Scene { length_ms: 260_000, ..quiet(Kind::Flood, amount, gateways) });
    println!(
        r#"{{"figure":"share_at_twice_the_limit","limit":{amount},"gateways":{gateways},"share":{:.4},"transactions_per_request":{:.4}}}"#,
        o.units as f64 / o.exact_units as f64,
        o.transactions as f64 / o.requests as f64
    );
}

/// Refusals of clients that keep to their limits: worlds of all traffic shapes, and of cron jobs.
fn undue() {
    let shapes = [Traffic::Steady, Traffic::Cron, Traffic::Waves, Traffic::Moving, Traffic::Edges];
    let (mut polite, mut cron) = (Vec::new(), Vec::new());
    for gateways in [1, 2, 4, 8, 16] {
        for traffic in shapes {
            for amount in [100, 1_000] {
                let scene = quiet(Kind::Polite, amount, gateways);
                polite.push(run(&Scene { traffic, workers: 2, ..scene }));
            }
        }
        cron.push(run(&Scene { length_ms: 60 * MINUTE, ..quiet(Kind::Cron, 100, gateways) }));
    }
    for (name, outcomes) in [("polite", polite), ("cron", cron)] {
        let sum = |of: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
        println!(
            r#"{{"figure":"undue_refusals","traffic":"{name}","requests":{},"refused":{},"undecided":{}}}"#,
            sum(&|o| o.requests),
            sum(&|o| o.refused),
            sum(&|o| o.undecided)
        );
    }
}

/// One client that floods two gateways with 200,000 requests a minute.
fn flood(amount: u64) {
    let o = run(&Scene { rate: 200_000.0 / 60.0, ..quiet(Kind::Storm, amount, 2) });
    println!(
        r#"{{"figure":"transactions_per_request_of_a_flood","limit":{amount},"gateways":2,"per_minute":200000,"transactions_per_request":{:.5},"waited":{:.5},"fields":{}}}"#,
        o.transactions as f64 / o.requests as f64,
        o.waited as f64 / o.requests as f64,
        o.most_fields
    );
}

/// Seconds of world time in a second of this machine: 16 gateways, 100 requests a second in all.
fn speed() {
    let length_ms = 20 * MINUTE;
    let scene = Scene { rate: 100.0, length_ms, ..quiet(Kind::Storm, 3_000, 16) };
    let started = Instant::now();
    let o = run(&scene);
    let spent = started.elapsed().as_secs_f64();
    println!(
        r#"{{"figure":"simulated_seconds_per_second","gateways":16,"requests_per_second":100,"requests":{},"simulated_seconds_per_second":{:.0}}}"#,
        o.requests,
        length_ms as f64 / 1000.0 / spent
    );
}
