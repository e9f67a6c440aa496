//! How long to measure, from the environment.

use std::env;
use std::str::FromStr;

pub struct Settings {
    /// Rounds of the closed loop, and how long each variant is measured in one.
    pub rounds: usize,
    pub seconds: u64,
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
