//! `simulator SEED [COUNT]`: plays one seed and tells its story, or COUNT seeds from there on and
//! tells which went wrong. Exit status 1 when a window was over its limit.

use std::process::ExitCode;

use weir_simulator::{Scene, run};

fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> = std::env::args().skip(1).map(|a| a.parse().ok()).collect();
    match numbers.as_deref() {
        Some([seed]) => one(*seed),
        Some([first, count]) => many(*first, *count),
        _ => {
            eprintln!("usage: simulator SEED [COUNT]\n\nSEED and COUNT are whole numbers.");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let scene = Scene::of_seed(seed);
    let outcome = run(&scene);
    println!("{scene:#?}\n{outcome:#?}");
    if outcome.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn many(first: u64, count: u64) -> ExitCode {
    let (mut requests, mut wrong) = (0, 0);
    for seed in first..first.saturating_add(count) {
        let outcome = run(&Scene::of_seed(seed));
        requests += outcome.requests;
        if let Some(v) = outcome.violation {
            wrong += 1;
            println!(
                "seed {seed}: client {} had {} of {} units at {} ms",
                v.client, v.units, v.limit, v.at_ms
            );
        }
    }
    println!("{count} seeds, {requests} requests, {wrong} seeds with a window over its limit");
    if wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
