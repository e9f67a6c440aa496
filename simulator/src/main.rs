//! `simulator SEED`: plays one seed; where it fails, makes it smaller and tells what happened.
//! `simulator SEED COUNT [--jobs N]`: plays COUNT seeds from there on and lists those that fail.
//! `simulator --mutants COUNT [NAME...]`: breaks each rule of the algorithm in turn and looks for it in COUNT seeds.
//! Exit status 1 when a seed fails, or a mutant is not found.

// It shows how fast it goes.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use weir_simulator::shrink::shrink;
use weir_simulator::{Failure, Scene, mutants, run, run_broken};

/// Lines of a story that are shown.
const LINES: usize = 48;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().ok();
    if let ["--mutants", count, only @ ..] = &words[..]
        && let Some(count) = number(count)
    {
        return mutants(count, only);
    }
    let parsed = match words[..] {
        [seed] => number(seed).map(|seed| (seed, None)),
        [seed, count] => number(seed).zip(number(count)).map(|(s, c)| (s, Some((c, 1)))),
        [seed, count, "--jobs", jobs] => {
            let jobs = number(jobs).filter(|j| *j > 0);
            number(seed).zip(number(count)).zip(jobs).map(|((s, c), j)| (s, Some((c, j))))
        }
        _ => None,
    };
    match parsed {
        Some((seed, None)) => one(seed),
        Some((seed, Some((count, jobs)))) => many(seed, count, jobs),
        None => {
            eprintln!(
                "usage: simulator SEED [COUNT [--jobs N]]\n       simulator --mutants COUNT [NAME...]\n\nSEED, COUNT and N are whole numbers."
            );
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let scene = Scene::of_seed(seed);
    let outcome = run_broken(&scene, None, true);
    println!("seed {seed}: {scene:#?}");
    println!(
        "{} requests: {} admitted, {} refused, {} undecided, {} waited; {} transactions",
        outcome.requests,
        outcome.admitted,
        outcome.refused,
        outcome.undecided,
        outcome.waited,
        outcome.transactions
    );
    let Some(failure) = outcome.failure else {
        println!("\nThe end of it:");
        outcome.story.end(u64::MAX, None, LINES).iter().for_each(|line| println!("{line}"));
        println!("Nothing is wrong.");
        return ExitCode::SUCCESS;
    };
    println!("\nWRONG: {failure}.\n");
    if let Some((small, failure)) = shrink(&scene, None) {
        let (at, client) = failure.place();
        let told = run_broken(&small, None, true);
        println!("The smallest scene that fails like this: {small:#?}\n\nWhat happens in it:");
        told.story.end(at, client, LINES).iter().for_each(|line| println!("{line}"));
        println!("{:>7} ms  {failure}.", at.min(small.length_ms));
    }
    ExitCode::FAILURE
}

fn mutants(count: u64, only: &[&str]) -> ExitCode {
    let mut all = true;
    println!("| rule broken | seeds | found as |\n|---|---|---|");
    let wanted = |name: String| only.is_empty() || only.contains(&name.as_str());
    for (mutant, story) in mutants::ALL.into_iter().filter(|(m, _)| wanted(format!("{m:?}"))) {
        match mutants::find(mutant, count) {
            Some((seed, failure)) => println!("| {story} (`{mutant:?}`) | {} | {failure} |", seed + 1),
            None => {
                all = false;
                println!("| {story} (`{mutant:?}`) | not in {count} | |");
            }
        }
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What many seeds came to.
#[derive(Default)]
struct Sum {
    done: u64,
    requests: u64,
    kinds: BTreeMap<String, u64>,
    slowest: (u128, u64),
    failures: Vec<(u64, Failure)>,
}

fn many(first: u64, count: u64, jobs: u64) -> ExitCode {
    let (next, sum, started) = (AtomicU64::new(0), Mutex::new(Sum::default()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        break;
                    }
                    play(first.saturating_add(i), count, started, &sum);
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_default();
    sum.failures.sort_by_key(|f| f.0);
    let kinds: Vec<String> = sum.kinds.iter().map(|(k, n)| format!("{n} {k}")).collect();
    println!(
        "{count} seeds from {first} on, {} requests, {:.2} ms a seed, the slowest {} with {} ms: {}; {} failed",
        sum.requests,
        started.elapsed().as_secs_f64() * 1000.0 * jobs as f64 / count.max(1) as f64,
        sum.slowest.1,
        sum.slowest.0,
        kinds.join(", "),
        sum.failures.len()
    );
    if sum.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(seed: u64, count: u64, started: Instant, sum: &Mutex<Sum>) {
    let scene = Scene::of_seed(seed);
    let begun = Instant::now();
    let outcome = run(&scene);
    let spent = begun.elapsed().as_millis();
    let Ok(mut sum) = sum.lock() else {
        return;
    };
    sum.done += 1;
    sum.requests += outcome.requests;
    sum.slowest = sum.slowest.max((spent, seed));
    *sum.kinds.entry(format!("{:?}", scene.kind).to_lowercase()).or_default() += 1;
    if let Some(failure) = outcome.failure {
        println!("seed {seed} ({:?}): {failure}", scene.kind);
        sum.failures.push((seed, failure));
    }
    if sum.done.is_multiple_of((count / 200).clamp(100, 10_000)) {
        let (done, seconds) = (sum.done, started.elapsed().as_secs());
        eprintln!("{done} of {count} seeds after {seconds} s, {} failed", sum.failures.len());
    }
}
