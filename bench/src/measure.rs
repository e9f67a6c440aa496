//! One round: every variant once, in turn.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use weir_testbed::load::{self, Plan, Shot, quantile_us};
use weir_testbed::process::cpu_time;
use weir_testbed::{StartError, parts, temp_dir};

use crate::variant::{Bench, Kind, Variant};

const CONNECTIONS: usize = 64;
/// Of the latency measurement: far from saturating one worker.
const RATE_PER_S: f64 = 2_000.0;

/// Why there is no figure.
#[derive(Debug)]
pub enum BenchError {
    Start(StartError),
    /// wrk or the load client saw something else than the variant is for.
    Wrong {
        variant: &'static str,
        what: String,
    },
    Io(std::io::Error),
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BenchError::Start(error) => write!(f, "{error}"),
            BenchError::Wrong { variant, what } => write!(f, "{variant}: {what}"),
            BenchError::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<StartError> for BenchError {
    fn from(error: StartError) -> BenchError {
        BenchError::Start(error)
    }
}

impl From<std::io::Error> for BenchError {
    fn from(error: std::io::Error) -> BenchError {
        BenchError::Io(error)
    }
}

pub struct Settings {
    pub rounds: usize,
    pub seconds: u64,
}

impl Settings {
    pub fn read() -> Settings {
        Settings { rounds: setting("BENCH_ROUNDS", 7), seconds: setting("BENCH_SECONDS", 4) }
    }
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What one variant showed in one round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Processor time of the worker per request.
    pub cpu_us: f64,
    /// Requests a second that one worker answered under the closed loop.
    pub per_s: f64,
    /// At the fixed rate.
    pub p50_us: f64,
    pub p99_us: f64,
}

pub struct Round(pub BTreeMap<Kind, Figures>);

impl Round {
    /// Each round begins with another variant, so that none always follows the same one.
    pub fn measure(bench: &Bench, settings: &Settings, n: usize) -> Result<Round, BenchError> {
        let mut figures = BTreeMap::new();
        let count = bench.variants.len();
        for i in 0..count {
            let variant = &bench.variants[(i + n) % count];
            figures.insert(variant.kind, one(bench, variant, settings.seconds)?);
        }
        Ok(Round(figures))
    }
}

fn one(bench: &Bench, variant: &Variant, seconds: u64) -> Result<Figures, BenchError> {
    let before = worker_cpu(variant)?;
    let closed = wrk(bench, variant, seconds)?;
    let cpu = worker_cpu(variant)? - before;
    let latencies = latencies(bench, variant, seconds)?;
    Ok(Figures {
        cpu_us: cpu.as_secs_f64() * 1e6 / closed.requests as f64,
        per_s: closed.requests as f64 / seconds as f64,
        p50_us: quantile_us(&latencies, 0.50) as f64,
        p99_us: quantile_us(&latencies, 0.99) as f64,
    })
}

fn worker_cpu(variant: &Variant) -> Result<Duration, BenchError> {
    let worker = variant.nginx.workers().first().and_then(|&pid| cpu_time(pid));
    worker.ok_or_else(|| wrong(variant, "has no worker".to_owned()))
}

fn wrong(variant: &Variant, what: String) -> BenchError {
    BenchError::Wrong { variant: variant.kind.name(), what }
}

#[derive(Debug, PartialEq, Eq)]
struct Closed {
    requests: u64,
    not_2xx: u64,
}

/// The closed loop.
fn wrk(bench: &Bench, variant: &Variant, seconds: u64) -> Result<Closed, BenchError> {
    parts::program("wrk", "/usr/bin/wrk")?;
    let dir = temp_dir();
    let script = dir.path().join("keys.lua");
    fs::write(&script, lua(&bench.keys))?;
    let mut command = Command::new("wrk");
    command.args(["--threads", "1"]);
    command.args(["--connections", &CONNECTIONS.to_string(), "--duration", &format!("{seconds}s")]);
    command.arg("--script").arg(&script).arg(format!("http://127.0.0.1:{}/", variant.port));
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let closed = Closed::parse(&text).ok_or_else(|| wrong(variant, format!("wrk said {text}")))?;
    let expected = if variant.kind.refuses() { closed.requests } else { 0 };
    // Where everything is refused, each client's first request is not.
    if closed.not_2xx.abs_diff(expected) > bench.keys.len() as u64 || text.contains("Socket errors") {
        return Err(wrong(variant, format!("did other work than was asked: {text}")));
    }
    Ok(closed)
}

/// One request a key, made before the run, sent in turn.
fn lua(keys: &[String]) -> String {
    let list: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
    format!(
        "local keys, requests, n = {{ {} }}, {{}}, 0\n\
         function init()\n  for i, key in ipairs(keys) do\n    \
         requests[i] = wrk.format(\"GET\", nil, {{ [\"X-Api-Key\"] = key }})\n  end\nend\n\
         function request()\n  n = n % #requests + 1\n  return requests[n]\nend\n",
        list.join(", ")
    )
}

impl Closed {
    /// Reads "  123456 requests in 4.00s, …" and "  Non-2xx or 3xx responses: 12".
    fn parse(text: &str) -> Option<Closed> {
        let line = text.lines().find(|line| line.contains(" requests in "))?;
        let requests = line.split_whitespace().next()?.parse().ok()?;
        let not_2xx = text.split_once("Non-2xx or 3xx responses: ").map_or(Some(0), |(_, rest)| {
            rest.split_whitespace().next().and_then(|number| number.parse().ok())
        })?;
        Some(Closed { requests, not_2xx })
    }
}

/// The open loop: ascending latencies from when each request was due.
fn latencies(bench: &Bench, variant: &Variant, seconds: u64) -> Result<Vec<u64>, BenchError> {
    let shot = |key: &String| Shot::new("GET", "/", key, variant.port);
    let shots = bench.keys.iter().map(shot).collect();
    let length = Duration::from_secs(seconds);
    let samples = load::run(Plan::even(shots, RATE_PER_S, length, CONNECTIONS));
    let expected = if variant.kind.refuses() { 429 } else { 200 };
    let odd = samples.iter().filter(|s| s.status != expected).count();
    if odd > bench.keys.len() * usize::from(variant.kind.refuses()) {
        return Err(wrong(variant, format!("{odd} answers had another status than {expected}")));
    }
    let mut latencies: Vec<u64> = samples.iter().map(|s| s.latency_us()).collect();
    latencies.sort_unstable();
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrks_words_are_understood() {
        let text = "  2 threads\n  123456 requests in 4.00s, 9MB read\n  Non-2xx or 3xx responses: 12\n";
        assert_eq!(Closed::parse(text), Some(Closed { requests: 123_456, not_2xx: 12 }));
        let all_well = "  7 requests in 4.00s, 9MB read\n";
        assert_eq!(Closed::parse(all_well), Some(Closed { requests: 7, not_2xx: 0 }));
        assert_eq!(Closed::parse("unable to connect"), None);
    }
}
