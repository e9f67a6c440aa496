//! What clients get against an exact sliding log, where nothing goes wrong; and what Redis sees.

use weir_simulator::{Scene, Traffic, run};

fn main() {
    println!(
        "traffic amount gateways x limit | share of exact  refused  transactions/request  waited  undecided fields"
    );
    for (polite, pressures) in [(true, [0.8, 3.0]), (false, [0.8, 2.0])] {
        println!("polite: {polite}");
        for traffic in [Traffic::Steady, Traffic::Cron, Traffic::Waves, Traffic::Moving] {
            for pressure in pressures {
                for amount in [100, 1_000] {
                    for gateways in [1, 2, 4, 16] {
                        one(traffic, amount, pressure, gateways, polite);
                    }
                }
            }
        }
    }
    println!("floods: 200,000 a minute");
    for amount in [100, 10_000] {
        for gateways in [1, 2, 4] {
            one(Traffic::Steady, amount, 200_000.0 / amount as f64, gateways, false);
        }
    }
}

fn one(traffic: Traffic, amount: u64, pressure: f64, gateways: usize, polite: bool) {
    let window_ms = 60_000;
    let base = Scene::of_seed(1).without_faults();
    let rate = amount as f64 * 1000.0 / window_ms as f64 * pressure;
    let o = run(&Scene {
        traffic,
        amount,
        gateways,
        rate,
        window_ms,
        polite,
        workers: 1,
        clients: 1,
        costs: false,
        length_ms: 5 * window_ms,
        ..base
    });
    let n = o.requests as f64;
    println!(
        "{traffic:?} {amount:>6} {gateways:>3} {pressure:>5} | {:>6.2} % {:>6} ({:.2} %) {:>8.4} {:>6.2} % {} {}",
        100.0 * o.units as f64 / o.exact_units as f64,
        o.refused,
        100.0 * o.refused as f64 / n,
        o.transactions as f64 / n,
        100.0 * o.waited as f64 / n,
        o.undecided,
        o.most_fields
    );
}
