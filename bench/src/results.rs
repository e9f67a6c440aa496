//! `bench/results/gateway.json`.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};
use weir_testbed::parts;

use crate::measure::Round;
use crate::table::{cpu_ratio, median, of};
use crate::variant::Kind;

/// Writes the figures and returns where.
pub fn write(rounds: &[Round]) -> io::Result<PathBuf> {
    let dir = parts::root().join("bench/results");
    fs::create_dir_all(&dir)?;
    let file = dir.join("gateway.json");
    let document = json!({
        "date": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "commit": said("git", &["describe", "--always", "--dirty"]),
        "machine": machine(),
        "versions": {
            "nginx": said("/usr/sbin/nginx", &["-v"]),
            "redis": said("redis-server", &["--version"]),
            "rustc": said("rustc", &["--version"]),
            "wrk": said("wrk", &["-v"]).lines().next(),
        },
        "runs": rounds.len(),
        "figures": figures(rounds),
    });
    fs::write(&file, serde_json::to_string_pretty(&document)? + "\n")?;
    Ok(file)
}

/// The figures that are agreed upon, then what each variant showed.
fn figures(rounds: &[Round]) -> Value {
    let (weir, refused) = (Kind::WeirRedisSpool, Kind::WeirRedisSpoolRefused);
    let added = rounds.iter().map(|r| r.0[&weir].p99_us - r.0[&Kind::Bare].p99_us).collect();
    let mut figures = Map::from_iter([
        ("cpu_admitted_vs_limit_req_log".into(), rounded(cpu_ratio(rounds, weir, Kind::LimitReqLog))),
        (
            "cpu_refused_vs_limit_req_log".into(),
            rounded(cpu_ratio(rounds, refused, Kind::LimitReqLogRefused)),
        ),
        ("p99_added_us".into(), rounded(median(added))),
    ]);
    for kind in Kind::ALL {
        let key = kind.key();
        figures.insert(format!("cpu_us_{key}"), rounded(of(rounds, kind, |f| f.cpu_us)));
        figures.insert(format!("per_s_{key}"), rounded(of(rounds, kind, |f| f.per_s)));
        figures.insert(format!("p50_us_{key}"), rounded(of(rounds, kind, |f| f.p50_us)));
        figures.insert(format!("p99_us_{key}"), rounded(of(rounds, kind, |f| f.p99_us)));
    }
    Value::Object(figures)
}

fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} x {}, {}", cores, model.trim_start_matches([' ', '\t', ':']), said("uname", &["-sr"]))
}

/// What a program says about itself; nginx does it on standard error.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(parts::root()).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |o| String::from_utf8_lossy(&[o.stdout, o.stderr].concat()).trim().to_owned(),
    )
}
