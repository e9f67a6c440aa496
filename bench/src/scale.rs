//! A policy of 100,000 clients with a key each: applied, swapped, looked up and kept in memory; and how
//! long a published change takes.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_policy::{Tables, hash_key, spell_hash};
use weir_testbed::fastrand;
use weir_testbed::wait;
use weir_testbed::weir::Installation;

use crate::change::{self, KEY, WORKERS, one_a_worker, until_all_say};
use crate::error::{BenchError, Result};
use crate::figures::{Figures, median};
use crate::pace::{self, Lane};
use crate::pair::Pair;
use crate::settings::Settings;

const CLIENTS: usize = 100_000;
/// A policy at which nothing is large.
const FEW: usize = 80;
/// Requests a second while policies are swapped, and for how long one is watched.
const RATE: f64 = 1_000.0;
const WATCHED_S: f64 = 6.0;
/// Look-ups in one go, of which the quickest counts: another process may have had the processor.
const LOOKUPS: usize = 200_000;
const LOOKUP_ROUNDS: usize = 20;
const MIB: f64 = 1024.0 * 1024.0;
/// The client that load is made with has a processor for itself.
const PINNED: &str = "worker_cpu_affinity 01 01 01 01;\n";

pub fn measure(settings: &Settings, figures: &mut Figures) -> Result<()> {
    look_up(figures)?;
    memory(figures)?;
    swap(settings, figures)?;
    apply(settings, figures)
}

/// `amount`: what the client of [`change`] may send in an hour.
fn policy(clients: usize, amount: u64) -> String {
    let hash = |key: &str| spell_hash(&hash_key(key.as_bytes()));
    let mut text = format!(
        "default_tier = \"basic\"\n[tiers.basic]\nlimits = [\"1000000000 requests/hour\"]\n\
         [clients.the-client]\nlimits = [\"{amount} requests/hour\"]\nkeys = [\"{}\"]\n",
        hash(KEY)
    );
    for n in 0..clients {
        let key = hash(&key(n));
        let _ = write!(text, "[clients.client-{n:06}]\nname = \"Client {n}\"\nkeys = [\"{key}\"]\n");
    }
    text
}

fn key(n: usize) -> String {
    format!("key-{n}")
}

fn look_up(figures: &mut Figures) -> Result<()> {
    let text = policy(CLIENTS, 1);
    let begun = Instant::now();
    let policy = weir_policy::parse(&text).map_err(|_| BenchError::wrong("the policy", "has problems"))?;
    figures.add("parse_s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let tables = Tables::compile(&policy);
    figures.add("compile_s", begun.elapsed().as_secs_f64());
    figures.add("image_mib", tables.size() as f64 / MIB);
    let mut rng = fastrand::Rng::with_seed(1);
    let hashes: Vec<[u8; 32]> =
        (0..LOOKUPS).map(|_| hash_key(key(rng.usize(0..CLIENTS)).as_bytes())).collect();
    let round = |_| {
        let begun = Instant::now();
        for hash in &hashes {
            black_box(tables.by_key_hash(black_box(hash), 0));
        }
        begun.elapsed().as_secs_f64() * 1e9 / LOOKUPS as f64
    };
    let quickest = (0..LOOKUP_ROUNDS).map(round).fold(f64::INFINITY, f64::min);
    figures.at_most("look_up_ns", quickest, 200.0);
    Ok(())
}

/// A gateway's memory with many clients less that with few, and what each further worker adds.
fn memory(figures: &mut Figures) -> Result<()> {
    let held = |clients, workers| -> Result<f64> {
        let pair = Pair::start_with(&policy(clients, 1), workers, "", from_file)?;
        let mut talks = one_a_worker(pair.ports()[0], workers)?;
        // As it is after a change.
        pair.save(&policy(clients, 1_000_000))?;
        until_all_say(&mut talks, 200)?;
        until_all_say(&mut talks, 200)?;
        wait::pass(Duration::from_secs(2));
        let nginx = &pair.gateways[0].nginx;
        let all = nginx.workers().into_iter().chain([nginx.pid()]);
        all.map(pss_mib).sum()
    };
    let more = |workers| Ok::<f64, BenchError>(held(CLIENTS, workers)? - held(FEW, workers)?);
    let (two, four) = (more(2)?, more(4)?);
    figures.at_most("gateway_mib_2_workers", two, 40.0 * 1e6 / MIB);
    figures.at_most("gateway_mib_4_workers", four, 40.0 * 1e6 / MIB);
    figures.add("mib_per_further_worker", (four - two) / 2.0);
    Ok(())
}

fn from_file(file: &Path, spool: &Path) -> String {
    format!("weir_policy {};\nweir_spool {};", file.display(), spool.display())
}

/// The process' share of the memory that it uses.
fn pss_mib(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let value = text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next());
    let kib: Option<f64> = value.and_then(|digits| digits.parse().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| BenchError::wrong("memory", format!("no Pss of {pid}")))
}

/// The slowest request while a policy is changed, over that of as long a time without: many clients, and
/// few for comparison.
fn swap(settings: &Settings, figures: &mut Figures) -> Result<()> {
    for clients in [CLIENTS, FEW] {
        let pair = Pair::start_with(&policy(clients, 1), WORKERS, PINNED, from_file)?;
        let lanes: Vec<Lane> =
            (0..FEW).map(|n| Lane { port: pair.ports()[0], key: key(n % clients) }).collect();
        slowest_ms(&lanes)?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for n in 0..settings.rounds {
            eprintln!("swap of {clients} clients {} of {}", n + 1, settings.rounds);
            without.push(slowest_ms(&lanes)?);
            pair.save(&policy(clients, 2 + n as u64))?;
            with.push(slowest_ms(&lanes)?);
        }
        let added = with.iter().zip(&without).map(|(with, without)| with - without).collect();
        figures.add(format!("slowest_ms_{clients}"), median(without));
        figures.add(format!("slowest_in_swap_ms_{clients}"), median(with));
        figures.at_most(&format!("swap_added_ms_{clients}"), median(added), 5.0);
    }
    Ok(())
}

fn slowest_ms(lanes: &[Lane]) -> Result<f64> {
    let run = pace::run(lanes, RATE, (RATE * WATCHED_S) as usize)?;
    if run.samples.iter().any(|sample| sample.status != 200) {
        return Err(BenchError::wrong("a swap", "a request was answered wrong"));
    }
    let slowest = run.samples.iter().map(|sample| sample.latency).max().unwrap_or_default();
    Ok(slowest.as_secs_f64() * 1e3)
}

/// From the start of `weir apply` until the last worker of two gateways under load goes by it: many
/// clients once, few again and again.
fn apply(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let lines = |_: &Path, dir: &Path| format!("weir_policy redis;\nweir_spool {};", dir.display());
    let pair = Pair::start_with("", WORKERS, "", lines)?;
    let dir = weir_testbed::temp_dir();
    let installation = Installation::new(dir.path(), 1)?.redis(&pair.redis.url());
    let put = |clients: usize, amount: u64| -> Result<f64> {
        fs::write(installation.policy(), policy(clients, amount))?;
        let begun = Instant::now();
        installation.ok(&["apply", "--reason", "bench", "--by", "bench"])?;
        Ok(begun.elapsed().as_secs_f64())
    };
    put(FEW, 1_000_000)?;
    let mut talks = Vec::new();
    for port in pair.ports() {
        talks.extend(one_a_worker(port, WORKERS)?);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&pair, &stop));
        let seconds = changes(settings, &mut talks, &put);
        let large = large(&mut talks, &put);
        stop.store(true, Ordering::Relaxed);
        load.join().map_err(|_| BenchError::wrong("load", "ended"))??;
        change::tell("apply_to_enforced", seconds?, figures);
        let (applied, enforced) = large?;
        figures.at_most("apply_100000_s", applied, 5.0);
        figures.at_most("apply_100000_published_to_enforced_s", enforced - applied, 2.0);
        Ok(())
    })
}

fn load(pair: &Pair, stop: &AtomicBool) -> Result<()> {
    let ports = pair.ports();
    let lanes: Vec<Lane> = (0..FEW).map(|n| Lane { port: ports[n % 2], key: key(n) }).collect();
    while !stop.load(Ordering::Relaxed) {
        pace::run(&lanes, RATE, RATE as usize)?;
    }
    Ok(())
}

/// Raised and lowered in turn, as [`change`] does with a file.
fn changes(
    settings: &Settings,
    talks: &mut [change::Talk],
    put: &impl Fn(usize, u64) -> Result<f64>,
) -> Result<Vec<f64>> {
    until_all_say(talks, 200)?;
    let (mut rng, mut seconds) = (fastrand::Rng::with_seed(1), Vec::new());
    for n in 0..settings.applied {
        wait::pass(Duration::from_millis(rng.u64(0..1000)));
        let (amount, status) = ([1, 1_000_000][n % 2], [429, 200][n % 2]);
        let begun = Instant::now();
        put(FEW, amount)?;
        until_all_say(talks, status)?;
        seconds.push(begun.elapsed().as_secs_f64());
        eprintln!("published change {} of {}: {:.2} s", n + 1, settings.applied, seconds[n]);
    }
    Ok(seconds)
}

/// Seconds of the command, and until it is in force.
fn large(talks: &mut [change::Talk], put: &impl Fn(usize, u64) -> Result<f64>) -> Result<(f64, f64)> {
    put(CLIENTS, 1_000_000)?;
    until_all_say(talks, 200)?;
    let begun = Instant::now();
    let applied = put(CLIENTS, 1)?;
    until_all_say(talks, 429)?;
    Ok((applied, begun.elapsed().as_secs_f64()))
}
