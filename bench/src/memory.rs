//! What a key costs: in the shared zone of a gateway, and in Redis.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use weir_testbed::fastrand;
use weir_testbed::gateway::key_hash;
use weir_testbed::load::{self, Call, Plan, Running, Shot};
use weir_testbed::redis::Redis;
use weir_testbed::wait;

use crate::error::{BenchError, Result};
use crate::figures::{Figures, median};
use crate::pace::{self, Lane};
use crate::pair::{Pair, metric};
use crate::settings::Settings;
use crate::variant::{CLIENTS, keys, policy};

/// As `weir_zone 16m;` in every configuration here.
const ZONE: f64 = 16.0 * 1024.0 * 1024.0;
/// More than fit into the zone.
const MANY: usize = 40_000;

/// Bytes of a zone over the keys that it holds when more clients came than fit.
pub fn shared(figures: &mut Figures) -> Result<()> {
    let keys: Vec<String> = (0..MANY).map(|n| format!("crowd-{n}")).collect();
    let pair = Pair::start(&policy(&keys, "\"1000 requests/hour\""), 1)?;
    let port = pair.ports()[0];
    // As many connections as nginx has, not as there are clients.
    for some in keys.chunks(500) {
        let lanes: Vec<Lane> = some.iter().map(|key| Lane { port, key: key.clone() }).collect();
        pace::run(&lanes, f64::INFINITY, some.len())?;
    }
    let held = metric(port, "/weir/metrics", "weir_shm_keys")?;
    if metric(port, "/weir/metrics", "weir_shm_evicted_total")? == 0.0 {
        return Err(BenchError::wrong("the shared zone", format!("is not full with {held} keys")));
    }
    figures.at_most("shm_bytes_per_key", ZONE / held, 512.0);
    let capacity = metric(port, "/weir/metrics", "weir_shm_capacity")?;
    figures.add("shm_bytes_per_key_of_capacity", ZONE / capacity);
    Ok(())
}

/// Clients with limits a minute and an hour, and busy ones, ten times as fast, with two minutes in place
/// of the hour: within the run it fills up with stamps as an hour's does within an hour, since stamps
/// are as coarse as the window is long.
const LIMITS: &str = "\"100 requests/minute\", \"2000 requests/hour\"";
const BUSY_LIMITS: &str = "\"2000 requests/2 minutes\"";
/// How the keys of these windows end.
const MINUTE: &str = ":60000";
const HOUR: &str = ":120000";
const BUSY: usize = 16;
const ALL: usize = CLIENTS + BUSY;

/// Clients of several kinds at two gateways, whose keys in Redis are weighed.
pub struct Clients {
    pair: Pair,
    load: Running,
    until: Instant,
}

impl Clients {
    pub fn start(settings: &Settings) -> Result<Clients> {
        let length = Duration::from_secs(settings.flood_seconds);
        let busy: Vec<String> = (0..BUSY).map(|n| format!("busy-key-{n:03}")).collect();
        let mut text = policy(&keys(), LIMITS);
        let _ = writeln!(text, "[tiers.busy]\nlimits = [{BUSY_LIMITS}]");
        for (n, key) in busy.iter().enumerate() {
            let _ = writeln!(text, "[clients.busy-{n}]\ntier = \"busy\"\nkeys = [\"{}\"]", key_hash(key));
        }
        let pair = Pair::start(&text, 1)?;
        let ports = pair.ports();
        let all = keys().into_iter().chain(busy);
        let shots = all.flat_map(|key| [0, 1].map(|n| Shot::new("GET", "/", &key, ports[n]))).collect();
        let plan = Plan { shots, calls: calls(length), connections: 128, patience: Duration::from_secs(10) };
        let until = Instant::now() + length;
        Ok(Clients { pair, load: load::start(plan, Instant::now()), until })
    }

    /// Looks every five seconds; a key counts with the most that it ever had.
    pub fn end(self, figures: &mut Figures) -> Result<()> {
        let mut most: BTreeMap<String, f64> = BTreeMap::new();
        while Instant::now() < self.until {
            wait::pass(Duration::from_secs(5));
            for (key, bytes) in weigh(&self.pair.redis)? {
                let known = most.entry(key).or_default();
                *known = known.max(bytes);
            }
        }
        let samples = self.load.join();
        let odd = samples.iter().filter(|s| !matches!(s.status, 200 | 429)).count();
        let of = |end: &str| -> Vec<f64> {
            most.iter().filter(|(key, _)| key.ends_with(end)).map(|(_, &bytes)| bytes).collect()
        };
        let (minutes, hours) = (of(MINUTE), of(HOUR));
        if odd > 0 || (minutes.len(), hours.len()) != (CLIENTS, BUSY) {
            let what = format!("{odd} odd answers, {} and {} keys", minutes.len(), hours.len());
            return Err(BenchError::wrong("keys in Redis", what));
        }
        let max = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
        // Each key at its fullest: what a server has to have for so many clients is their mean.
        let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
        figures.at_most("redis_bytes_per_key", mean(&minutes) + mean(&hours), 2560.0);
        figures.add("redis_bytes_per_key_max", max(&minutes) + max(&hours));
        figures.add("redis_bytes_minute_max", max(&minutes));
        figures.add("redis_bytes_minute_median", median(minutes));
        figures.add("redis_bytes_hour_max", max(&hours));
        figures.add("redis_bytes_hour_median", median(hours));
        Ok(())
    }
}

/// A quarter of the clients each: steady at nine tenths of the limit, in bursts of 80 once a minute,
/// at random, and at twice the limit. Each request goes to either gateway.
fn calls(length: Duration) -> Vec<Call> {
    let (mut rng, seconds) = (fastrand::Rng::with_seed(1), length.as_secs_f64());
    let mut calls = Vec::new();
    for client in 0..ALL as u32 {
        let offset = rng.f64();
        let times = if (client as usize) < CLIENTS { 1.0 } else { 10.0 };
        let every = |per_minute: f64| {
            let step = 60.0 / (per_minute * times);
            (0..).map(move |n| (f64::from(n) + offset) * step).take_while(|&t| t < seconds)
        };
        let burst = (80.0 * times) as u32;
        let moments: Vec<f64> = match client % 4 {
            0 => every(90.0).collect(),
            1 => (0..)
                .map(|n| {
                    f64::from(n / burst) * 60.1 + offset * 10.0 + f64::from(n % burst) / f64::from(burst)
                })
                .take_while(|&t| t < seconds)
                .collect(),
            2 => (0..(seconds * 1.2 * times) as u32).map(|_| rng.f64() * seconds).collect(),
            _ => every(200.0).collect(),
        };
        let call = |at| Call { at: Duration::from_secs_f64(at), client, shot: 2 * client + rng.u32(0..2) };
        calls.extend(moments.into_iter().map(call));
    }
    calls.sort_unstable_by_key(|call| call.at);
    calls
}

/// MEMORY USAGE of all keys of clients, each of which has a hash tag.
fn weigh(redis: &Redis) -> Result<Vec<(String, f64)>> {
    let mut keys = Vec::new();
    for key in redis.command(&["KEYS", "*{*}*"])?.lines() {
        // Gone in between: nothing to count.
        let bytes = redis.command(&["MEMORY", "USAGE", key, "SAMPLES", "0"])?.parse().unwrap_or(0.0);
        keys.push((key.to_owned(), bytes));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_send_what_their_kinds_say() {
        let calls = calls(Duration::from_secs(120));
        let of = |client| calls.iter().filter(|c| c.client == client).count();
        assert!((179..=180).contains(&of(0)), "90 a minute: {}", of(0));
        assert!((399..=400).contains(&of(3)), "200 a minute: {}", of(3));
        assert_eq!((of(1), of(2)), (160, 144));
        assert!((1799..=1800).contains(&of(CLIENTS as u32)), "ten times as busy");
        assert!(calls.windows(2).all(|w| w[0].at <= w[1].at));
    }
}
