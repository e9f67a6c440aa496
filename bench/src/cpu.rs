//! Processor time per request under a closed loop: every variant once a round, in turn.
//!
//! The time is that of the worker process, all of its threads, from `/proc/<pid>/stat`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use weir_testbed::process::cpu_time;
use weir_testbed::redis::Redis;
use weir_testbed::{StartError, parts, temp_dir, wait};

use crate::error::{BenchError, Result};
use crate::figures::{Figures, median};
use crate::settings::Settings;
use crate::variant::{CLIENTS, Kind, Shape, Variant, keys};

const PUT_OFF: Duration = Duration::from_millis(1_100);

/// What one variant showed in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Processor time of the worker per request.
    cpu_us: f64,
    /// Requests a second that one worker answered.
    per_s: f64,
}

type Round = BTreeMap<Kind, Seen>;

pub fn measure(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let redis = Redis::start()?;
    let variants = Kind::ALL.into_iter().filter(|kind| settings.wants(kind.key()));
    let variants: Vec<Variant> = variants
        .map(|kind| Variant::start(kind, Shape::Worker, &redis))
        .collect::<std::result::Result<_, StartError>>()?;
    for variant in &variants {
        closed_loop(variant, 1)?;
    }
    let mut rounds: Vec<Round> = Vec::new();
    for n in 0..settings.rounds {
        eprintln!("processor time: round {} of {}", n + 1, settings.rounds);
        // Each round begins with another variant, so that none always follows the same one.
        let turn = (0..variants.len()).map(|i| &variants[(i + n) % variants.len()]);
        rounds.push(turn.map(|v| Ok((v.kind, seen(v, settings.seconds)?))).collect::<Result<Round>>()?);
    }
    tell(&rounds, figures);
    Ok(())
}

fn tell(rounds: &[Round], figures: &mut Figures) {
    use Kind::{Bare, LimitReqLog, LimitReqLogRefused, LuaRedis, LuaRedisRefused};
    use Kind::{WeirRedisSpool, WeirRedisSpoolRefused, WeirTwoLimits};
    let whole = |seen: &Round, kind| Some(seen.get(&kind)?.cpu_us);
    let added = |seen: &Round, kind| Some(seen.get(&kind)?.cpu_us - seen.get(&Bare)?.cpu_us);
    let ratios = [
        ("cpu_admitted_vs_limit_req_log", ratio(rounds, WeirRedisSpool, LimitReqLog, whole), Some(1.0)),
        ("cpu_admitted_vs_lua_redis", ratio(rounds, WeirRedisSpool, LuaRedis, whole), Some(0.22)),
        (
            "cpu_refused_vs_limit_req_log",
            ratio(rounds, WeirRedisSpoolRefused, LimitReqLogRefused, whole),
            Some(1.0),
        ),
        ("cpu_added_vs_limit_req_log", ratio(rounds, WeirRedisSpool, LimitReqLog, added), None),
        ("cpu_added_vs_lua_redis", ratio(rounds, WeirRedisSpool, LuaRedis, added), None),
        ("cpu_refused_vs_lua_redis", ratio(rounds, WeirRedisSpoolRefused, LuaRedisRefused, whole), None),
        ("cpu_two_limits_vs_limit_req_log", ratio(rounds, WeirTwoLimits, LimitReqLog, whole), None),
    ];
    for (name, value, bar) in ratios {
        match (value, bar) {
            (Some(value), Some(bar)) => figures.at_most(name, value, bar),
            (Some(value), None) => figures.add(name, value),
            (None, _) => {}
        }
    }
    for kind in Kind::ALL {
        let seen: Vec<&Seen> = rounds.iter().filter_map(|round| round.get(&kind)).collect();
        if !seen.is_empty() {
            figures.add(format!("cpu_us_{}", kind.key()), median(seen.iter().map(|s| s.cpu_us).collect()));
            figures.add(format!("per_s_{}", kind.key()), median(seen.iter().map(|s| s.per_s).collect()));
        }
    }
}

/// The median over the rounds of the ratio of a figure of two variants; none where one did not run.
fn ratio(
    rounds: &[Round],
    kind: Kind,
    to: Kind,
    figure: impl Fn(&Round, Kind) -> Option<f64>,
) -> Option<f64> {
    let of = |round: &Round| Some(figure(round, kind)? / figure(round, to)?);
    let ratios: Vec<f64> = rounds.iter().filter_map(of).collect();
    (!ratios.is_empty()).then(|| median(ratios))
}

fn seen(variant: &Variant, seconds: u64) -> Result<Seen> {
    let before = worker_cpu(variant)?;
    let closed = closed_loop(variant, seconds)?;
    // What is put off for a second, such as syncing a spool or flushing a log, belongs to it.
    wait::pass(PUT_OFF);
    let cpu = worker_cpu(variant)? - before;
    let requests = closed.requests as f64;
    Ok(Seen { cpu_us: cpu.as_secs_f64() * 1e6 / requests, per_s: requests / seconds as f64 })
}

fn worker_cpu(variant: &Variant) -> Result<Duration> {
    let worker = variant.nginx.workers().first().and_then(|&pid| cpu_time(pid));
    worker.ok_or_else(|| BenchError::wrong(variant.kind.key(), "has no worker"))
}

#[derive(Debug, PartialEq, Eq)]
struct Closed {
    requests: u64,
    not_2xx: u64,
}

/// wrk over as many connections as there are clients.
fn closed_loop(variant: &Variant, seconds: u64) -> Result<Closed> {
    parts::program("wrk", "/usr/bin/wrk")?;
    let dir = temp_dir();
    let script = dir.path().join("keys.lua");
    fs::write(&script, lua(&keys()))?;
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--timeout", "10s"]);
    command.args(["--connections", &CLIENTS.to_string(), "--duration", &format!("{seconds}s")]);
    command.arg("--script").arg(&script).arg(format!("http://127.0.0.1:{}/", variant.port));
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = |what: &str| {
        let said = String::from_utf8_lossy(&output.stderr);
        BenchError::wrong(variant.kind.key(), format!("wrk {what} ({}): {text}{said}", output.status))
    };
    let closed = Closed::parse(&text).ok_or_else(|| wrong("said"))?;
    let expected = if variant.kind.refuses() { closed.requests } else { 0 };
    // Where everything is refused, each client's first request is not; on a busy machine Redis may
    // answer too late, and weir admits one more by itself.
    let allowed = if variant.kind.refuses() { 2 * CLIENTS as u64 } else { 0 };
    if closed.requests == 0 || closed.not_2xx.abs_diff(expected) > allowed || text.contains("Socket errors") {
        return Err(wrong("did other work than was asked"));
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

    #[test]
    fn ratios_are_taken_within_a_round() {
        let round = |bare, weir| {
            let cpu = |cpu_us| Seen { cpu_us, ..Seen::default() };
            Round::from([(Kind::Bare, cpu(bare)), (Kind::WeirAlone, cpu(weir))])
        };
        let rounds = [round(10.0, 11.0), round(20.0, 22.0), round(10.0, 12.0)];
        let whole = |round: &Round, kind| Some(round.get(&kind)?.cpu_us);
        let found = ratio(&rounds, Kind::WeirAlone, Kind::Bare, whole).unwrap();
        assert!((found - 1.1).abs() < 1e-9);
        assert!(ratio(&rounds, Kind::LuaRedis, Kind::Bare, whole).is_none());
    }
}
