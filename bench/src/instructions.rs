//! Instructions and system calls per request, counted by callgrind: figures that a noisy machine
//! does not change. nginx runs as one process, with all of weir's threads; what happens in the
//! kernel is not counted but for the number of calls.
//!
//! Under callgrind everything takes some fifty times as long, so what is done by the clock (settling
//! leases, syncing the spool) weighs more per request than it does at full speed: it is counted
//! apart, by thread, and the transactions per request are told along with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use weir_testbed::load::{self, Plan, Shot};
use weir_testbed::redis::Redis;
use weir_testbed::{parts, temp_dir, wait};

use crate::error::{BenchError, Result};
use crate::figures::Figures;
use crate::settings::Settings;
use crate::stats;
use crate::variant::{CLIENTS, Kind, Shape, Variant, keys};

const CONNECTIONS: usize = CLIENTS;
/// A request of each client and more, so that leases, pools and caches are warm.
const WARM_UP: usize = 40 * CLIENTS;
const DUMPED_WITHIN: Duration = Duration::from_secs(60);

/// What one thread did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cost {
    instructions: u64,
    calls: u64,
}

pub fn measure(settings: &Settings, figures: &mut Figures) -> Result<()> {
    parts::program("valgrind", "/usr/bin/valgrind")?;
    let redis = Redis::start()?;
    let kept = parts::root().join("build/profile");
    fs::create_dir_all(&kept)?;
    for kind in Kind::ALL {
        if !settings.wants(kind.key()) {
            continue;
        }
        let count = settings.instruction_requests;
        eprintln!("instructions: {} ({count} requests)", kind.key());
        let dumps = profile(kind, &redis, &kept, count, figures)?;
        let threads: Result<Vec<Cost>> = dumps.iter().map(|file| read(file)).collect();
        // The first thread is nginx's own.
        let (own, rest) = threads?.split_first().map(|(own, rest)| (*own, sum(rest))).unwrap_or_default();
        let per_request = |n: u64| n as f64 / count as f64;
        figures.add(format!("instructions_{}", kind.key()), per_request(own.instructions));
        figures.add(format!("calls_{}", kind.key()), per_request(own.calls));
        if dumps.len() > 1 {
            let name = format!("instructions_{}_threads", kind.key());
            figures.add(name, per_request(rest.instructions));
        }
    }
    eprintln!("where they go: callgrind_annotate {}/<variant>-01", kept.display());
    Ok(())
}

fn sum(costs: &[Cost]) -> Cost {
    costs.iter().fold(Cost::default(), |sum, cost| Cost {
        instructions: sum.instructions + cost.instructions,
        calls: sum.calls + cost.calls,
    })
}

/// Runs one variant and returns the dumps of its threads, ascending, kept as
/// `build/profile/<variant>-<thread>`.
fn profile(
    kind: Kind,
    redis: &Redis,
    kept: &Path,
    count: usize,
    figures: &mut Figures,
) -> Result<Vec<PathBuf>> {
    for old in numbered(kept, kind.key())? {
        fs::remove_file(old)?;
    }
    // It dumps once more when it ends: apart from what is kept.
    let dir = temp_dir();
    let out = dir.path().join("dump");
    let launcher: Vec<String> = [
        "/usr/bin/valgrind",
        "--tool=callgrind",
        "--separate-threads=yes",
        "--collect-systime=yes",
        &format!("--callgrind-out-file={}", out.display()),
    ]
    .map(str::to_owned)
    .into();
    let variant = Variant::start(kind, Shape::Single(&launcher), redis)?;
    send(&variant, WARM_UP)?;
    let before = stats::transactions(redis)?;
    tell(&variant, "zero")?;
    send(&variant, count)?;
    tell(&variant, "dump")?;
    if stats::is_shared(kind) {
        let asked = stats::transactions(redis)? - before;
        figures.add(format!("redis_tx_{}", kind.key()), asked as f64 / count as f64);
    }
    dumps(kind, dir.path(), kept)
}

/// Keeps `dump.1-01`, `dump.1-02` and so on, one a thread, as `<variant>-01` and so on.
fn dumps(kind: Kind, dir: &Path, kept: &Path) -> Result<Vec<PathBuf>> {
    let complete = || {
        let files = numbered(dir, "dump.1").unwrap_or_default();
        !files.is_empty() && files.iter().all(|file| read(file).is_ok())
    };
    if !wait::until(DUMPED_WITHIN, complete) {
        return Err(BenchError::wrong(kind.key(), format!("callgrind left no dump in {}", dir.display())));
    }
    let keep = |(n, from): (usize, PathBuf)| {
        let to = kept.join(format!("{}-{:02}", kind.key(), n + 1));
        fs::write(&to, without_calls_under_way(&fs::read_to_string(from)?)).map(|()| to)
    };
    let files = numbered(dir, "dump.1")?.into_iter().enumerate();
    Ok(files.map(keep).collect::<std::io::Result<_>>()?)
}

/// Functions that were entered before the counters were set to zero have calls that count 0 times but
/// cost all. callgrind_annotate takes such a cost for their own.
fn without_calls_under_way(dump: &str) -> String {
    let mut lines = dump.lines();
    let mut kept = String::with_capacity(dump.len());
    while let Some(line) = lines.next() {
        if line.starts_with("calls=0 ") {
            lines.next();
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The files `<name>-NN` in a folder, ascending.
fn numbered(dir: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| {
        let rest = file.file_name().and_then(|f| f.to_str()).and_then(|f| f.strip_prefix(name));
        rest.and_then(|r| r.strip_prefix('-')).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    });
    files.sort();
    Ok(files)
}

/// A command to callgrind in the running nginx.
fn tell(variant: &Variant, command: &str) -> Result<()> {
    let pid = format!("--pid={}", variant.nginx.pid());
    let output = Command::new("/usr/bin/vgdb").args([&pid, command]).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(BenchError::wrong(variant.kind.key(), format!("vgdb {command}: {said}")))
}

/// Requests of all clients in turn, as fast as they are answered.
fn send(variant: &Variant, count: usize) -> Result<()> {
    let shots = keys().iter().map(|key| Shot::new("GET", "/", key, variant.port)).collect();
    let all_due_at_once = count as f64 * 1000.0;
    let mut plan = Plan::even(shots, all_due_at_once, Duration::from_millis(1), CONNECTIONS);
    plan.patience = Duration::from_secs(120);
    let samples = load::run(plan);
    let wanted = if variant.kind.refuses() { 429 } else { 200 };
    let odd = samples.iter().filter(|s| s.status != wanted).count();
    // Where everything is refused, the first request of each client is not.
    if samples.len() != count || odd > if variant.kind.refuses() { CLIENTS } else { 0 } {
        let what = format!("{odd} of {} answers had another status than {wanted}", samples.len());
        return Err(BenchError::wrong(variant.kind.key(), what));
    }
    Ok(())
}

/// The totals of one dump: of the events that its line `events:` names, in that order.
fn read(file: &Path) -> Result<Cost> {
    let bad = || BenchError::wrong(file.display().to_string(), "not a whole dump of callgrind");
    let text = fs::read_to_string(file)?;
    parse(&text).ok_or_else(bad)
}

fn parse(text: &str) -> Option<Cost> {
    let line = |name| text.lines().find_map(|line| line.strip_prefix(name));
    let totals: Vec<u64> = line("totals: ")?.split_whitespace().flat_map(str::parse).collect();
    let of = |event| {
        let at = line("events: ")?.split_whitespace().position(|name| name == event)?;
        // Zeros at the end of a line are left out.
        Some(totals.get(at).copied().unwrap_or(0))
    };
    Some(Cost { instructions: of("Ir")?, calls: of("sysCount")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_under_way_are_left_out() {
        let text = "fn=(1) main\ncfn=(2)\ncalls=0 29\n360 999\nfn=(2)\ncalls=10 5\n3 4\n";
        let kept = "fn=(1) main\ncfn=(2)\nfn=(2)\ncalls=10 5\n3 4\n";
        assert_eq!(without_calls_under_way(text), kept);
    }

    #[test]
    fn a_dump_is_read_by_the_names_of_its_events() {
        let text = "version: 1\nevents: Ir sysCount sysTime\nfn=(1) x\n1 5\ntotals: 1234 56 7890\n";
        assert_eq!(parse(text), Some(Cost { instructions: 1234, calls: 56 }));
        let none = "events: Ir sysCount sysTime\ntotals: 9\n";
        assert_eq!(parse(none), Some(Cost { instructions: 9, calls: 0 }));
        assert_eq!(parse("events: Ir sysCount\nfn=(1) x\n"), None);
    }
}
