//! `make demo`: the main job of weir, end to end, on real parts.
//!
//! `ONCE=1` ends by itself, with status 0 only when every promise was seen; `DEMO_SECONDS` is the
//! length of each of the three phases (18).

// A demo is made of clocks and waiting; what it shows has neither.
#![allow(clippy::disallowed_methods)]

mod act;
mod books;
mod clients;
mod interrupt;
mod pages;
mod promises;
mod report;
mod service;
mod stage;
mod traffic;

use std::process::ExitCode;
use std::time::Duration;

use weir_testbed::{StartError, parts};

use report::Report;
use stage::Stage;

/// Why the demo could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the length of a phase in seconds, DEMO_SECONDS, is a number from 5 to 600, not {0:?}")]
    Length(String),
    #[error("interrupted; everything that was started has been ended")]
    Interrupted,
    #[error("the mails could not be read: {0}")]
    Mails(std::io::Error),
}

struct Settings {
    once: bool,
    length: Duration,
}

impl Settings {
    fn read() -> Result<Settings, DemoError> {
        let once = std::env::var("ONCE").is_ok_and(|v| !v.is_empty() && v != "0");
        let text = std::env::var("DEMO_SECONDS").unwrap_or_else(|_| "18".to_owned());
        match text.parse() {
            Ok(seconds) if (5..=600).contains(&seconds) => {
                Ok(Settings { once, length: Duration::from_secs(seconds) })
            }
            _ => Err(DemoError::Length(text)),
        }
    }
}

fn main() -> ExitCode {
    interrupt::install();
    match Settings::read().and_then(|settings| run(&settings)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weir-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays everything and prints it; true when every promise was seen.
fn run(settings: &Settings) -> Result<bool, DemoError> {
    let report = Report::new();
    let mut clients = clients::all();
    act::set_hourly_limits(&mut clients, settings.length);
    let dir = parts::root().join("build/demo");
    report.heading("weir: Redis, a backend, two gateways, a mail server");
    let mut stage = Stage::set(&dir, &clients)?;
    report.note(&format!("everything lies in {}", dir.display()));

    let tell = |phase: usize, spent: Duration| report.phase(telling(phase), spent, settings.length);
    let seen = act::play(&stage, &clients, settings.length, tell)?;
    report.note("the gateways end, `weir tick` runs twice");
    stage.close_gateways();
    let books = books::close(&stage)?;
    let shown = pages::look(&stage, &seen, &clients);

    report.others(&seen);
    report.partner(&seen, &clients[clients::PARTNER].id, &stage);
    report.books(&books);
    let kept = report.promises(&promises::all(&seen, &books, &shown, &clients));
    report.where_to_look(&stage, &shown);
    if !settings.once {
        report.note("Ctrl-C ends the demo and everything it started.");
        interrupt::wait();
    }
    Ok(kept)
}

fn telling(phase: usize) -> &'static str {
    match phase {
        0 => "80 clients, about 300 requests a second",
        1 => "and one partner's retry loop, 200,000 requests a minute; limits are off",
        _ => "the same; a new policy file turns the partner's limits on",
    }
}
