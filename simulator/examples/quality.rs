//! What clients get against an exact sliding log, where nothing goes wrong; and what Redis sees.

use weir_simulator::{Scene, Traffic, run};

fn main() {
    println!(
        "traffic  amount gateways  x limit | share of exact  refused  transactions/request  waited  undecided fields"
    );
    for traffic in [
        Traffic::Steady,
        Traffic::Cron,
        Traffic::Waves,
        Traffic::Moving,
    ] {
        for (amount, pressure) in [
            (100, 0.8),
            (100, 0.97),
            (100, 2.0),
            (1000, 0.97),
            (1000, 2.0),
            (10_000, 2.0),
        ] {
            for gateways in [1, 2, 16] {
                one(traffic, amount, pressure, gateways);
            }
        }
    }
}

fn one(traffic: Traffic, amount: u64, pressure: f64, gateways: usize) {
    let window_ms = 60_000;
    let base = Scene::of_seed(1).without_faults();
    let rate = amount as f64 * 1000.0 / window_ms as f64 * pressure;
    let o = run(&Scene {
        traffic,
        amount,
        gateways,
        rate,
        window_ms,
        workers: 1,
        clients: 1,
        costs: false,
        length_ms: 5 * window_ms,
        ..base
    });
    let n = o.requests as f64;
    println!(
        "{traffic:?} {amount:>6} {gateways:>3} {pressure:>5} | {:>6.2} % {:>6.2} % {:>8.4} {:>6.2} % {} {}",
        100.0 * o.units as f64 / o.exact_units as f64,
        100.0 * o.refused as f64 / n,
        o.transactions as f64 / n,
        100.0 * o.waited as f64 / n,
        o.undecided,
        o.most_fields
    );
}
