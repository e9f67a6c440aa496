//! How long to measure, from the environment.

use std::env;
use std::str::FromStr;

pub struct Settings {
    /// Rounds of the closed loop, and how long each variant is measured in one.
    pub rounds: usize,
    pub seconds: u64,
    /// Runs of each server at a fixed rate, and how long one takes.
    pub pairs: usize,
    pub pair_seconds: f64,
    /// How long two gateways are flooded, and clients' keys in Redis are looked at.
    pub flood_seconds: u64,
    /// Changes of a policy file, and of what is published.
    pub changes: usize,
    pub applied: usize,
    /// How often Redis dies in each way, and how long it is watched then.
    pub outages: usize,
    pub outage_seconds: f64,
    /// Requests that are counted under callgrind.
    pub instruction_requests: usize,
    /// Only these variants, where it is not empty.
    variants: Vec<String>,
}

impl Settings {
    pub fn read() -> Settings {
        let variants: String = setting("BENCH_VARIANTS", String::new());
        Settings {
            rounds: setting("BENCH_ROUNDS", 7),
            seconds: setting("BENCH_SECONDS", 3),
            pairs: setting("BENCH_PAIRS", 15),
            pair_seconds: setting("BENCH_PAIR_SECONDS", 1.5),
            flood_seconds: setting("BENCH_FLOOD_SECONDS", 130),
            changes: setting("BENCH_CHANGES", 30),
            applied: setting("BENCH_APPLIED", 100),
            outages: setting("BENCH_OUTAGES", 3),
            outage_seconds: setting("BENCH_OUTAGE_SECONDS", 8.0),
            instruction_requests: setting("BENCH_REQUESTS", 16_000),
            variants: variants.split([',', ' ']).filter(|v| !v.is_empty()).map(str::to_owned).collect(),
        }
    }

    /// Whether a variant is asked for.
    pub fn wants(&self, variant: &str) -> bool {
        self.variants.is_empty() || self.variants.iter().any(|v| v == variant)
    }

    /// Whether all of them are: only then the figures are kept.
    pub fn wants_all(&self) -> bool {
        self.variants.is_empty()
    }
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
