//! `make bench`: what limiting and metering cost in nginx, side by side with peers, and what they
//! do; bench/README.md says how each figure is found.
//!
//! usage: weir-bench [PART ...]
//!
//! Parts are cpu, latency, floods, changes, outages and memory, which together are `gateway`, and
//! `instructions`, `scale`, `simulator` and `books`. Without one, all run. `bench/results/` keeps what ran whole.

// A benchmark reads clocks and its settings from the environment.
#![allow(clippy::disallowed_methods)]

mod books;
mod change;
mod cpu;
mod error;
mod figures;
mod flood;
mod instructions;
mod latency;
mod memory;
mod outage;
mod pace;
mod pair;
mod scale;
mod settings;
mod simulator;
mod stats;
mod variant;

use std::process::ExitCode;
use std::time::Instant;

use error::{BenchError, Result};
use figures::Figures;
use settings::Settings;

const GATEWAY: [&str; 6] = ["cpu", "latency", "changes", "outages", "floods", "memory"];
const FILES: [(&str, &[&str]); 5] = [
    ("gateway", &GATEWAY),
    ("instructions", &["instructions"]),
    ("scale", &["scale"]),
    ("simulator", &["simulator"]),
    ("books", &["books"]),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let settings = Settings::read();
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let known =
        |word: &String| FILES.iter().any(|(file, parts)| word == file || parts.contains(&word.as_str()));
    if let Some(unknown) = asked.iter().find(|word| !known(word)) {
        return Err(BenchError::wrong("usage", format!("{unknown} is no part: see bench/README.md")));
    }
    leave_the_first_processor();
    let begun = Instant::now();
    let mut tables = Vec::new();
    for (file, parts) in FILES {
        let wanted: Vec<&str> = parts
            .iter()
            .copied()
            .filter(|part| asked.is_empty() || asked.iter().any(|word| word == file || word == part))
            .collect();
        let mut figures = Figures::default();
        for part in &wanted {
            measure(part, &settings, &mut figures)?;
        }
        // A table is shown at once, too: the next part may fail.
        if wanted.len() == parts.len() && settings.wants_all() {
            let runs = if file == "gateway" { settings.rounds } else { 1 };
            eprintln!("{}", figures.write(file, runs)?.display());
        }
        tables.push((file, figures));
    }
    for (file, figures) in tables.iter().filter(|(_, figures)| !figures.0.is_empty()) {
        figures.print(file);
    }
    println!("\n{} s", begun.elapsed().as_secs());
    Ok(())
}

fn measure(part: &str, settings: &Settings, figures: &mut Figures) -> Result<()> {
    match part {
        "cpu" => cpu::measure(settings, figures),
        "latency" => latency::measure(settings, figures),
        "changes" => change::measure(settings, figures),
        "outages" => outage::measure(settings, figures),
        "floods" => floods(settings, figures),
        "memory" => memory::shared(figures),
        "instructions" => instructions::measure(settings, figures),
        "scale" => scale::measure(settings, figures),
        "books" => books::measure(figures),
        _ => simulator::measure(figures),
    }
}

/// What is counted over minutes, all of it at once: nothing here is timed.
fn floods(settings: &Settings, figures: &mut Figures) -> Result<()> {
    eprintln!("floods, and keys in Redis: {} s", settings.flood_seconds);
    let clients = memory::Clients::start(settings)?;
    let large = flood::Flood::start(10_000, 0.005, settings)?;
    let small = flood::Flood::start(100, 0.006, settings)?;
    clients.end(figures)?;
    large.end(figures)?;
    small.end(figures)
}

/// Leaves the first processor to the workers, which pin themselves to it: this process and all that
/// it starts stay on the others. With a single processor there is nothing to leave.
fn leave_the_first_processor() {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    if count < 2 {
        return;
    }
    // SAFETY: an all-zero cpu_set_t is the empty set; CPU_SET stays within it for the few
    // processors of a machine; sched_setaffinity reads it and keeps no reference.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (1..count.min(1024)).for_each(|cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
