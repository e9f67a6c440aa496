//! `make bench-gateway`: what limiting and metering cost in nginx, side by side in one run.
//!
//! Every variant serves the same 43 bytes from memory, with one worker pinned to one processor;
//! the client and Redis run on the others. The variants take turns, round after round, so that a
//! slow spell of the machine hits all of them; a figure is the median over the rounds, and a ratio
//! is the median of the ratios within each round. Processor time is that of the worker process, all
//! of its threads, from `/proc/<pid>/stat`, under a closed loop of 64 connections (wrk). Latency is
//! measured apart, at a fixed rate far from saturation, from when a request was due.
//!
//! `BENCH_ROUNDS` (7) and `BENCH_SECONDS` (4, for each of the two measurements) set its length.

// A benchmark reads clocks and its settings from the environment.
#![allow(clippy::disallowed_methods)]

mod measure;
mod results;
mod table;
mod variant;

use std::process::ExitCode;

use measure::{Round, Settings};
use variant::Bench;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-gateway: {error}");
            ExitCode::FAILURE
        }
    }
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

fn run() -> Result<(), measure::BenchError> {
    leave_the_first_processor();
    let settings = Settings::read();
    let bench = Bench::start()?;
    let mut rounds: Vec<Round> = Vec::new();
    for n in 0..settings.rounds {
        eprintln!("round {} of {}", n + 1, settings.rounds);
        rounds.push(Round::measure(&bench, &settings, n)?);
    }
    table::print(&rounds);
    let file = results::write(&rounds)?;
    println!("\n{}", file.display());
    Ok(())
}
