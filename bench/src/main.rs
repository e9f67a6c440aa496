//! `make bench`: what limiting and metering cost in nginx, side by side with its peers.
//!
//! usage: `weir-bench instructions`

// A benchmark reads clocks and its settings from the environment.
#![allow(clippy::disallowed_methods)]

mod error;
mod figures;
mod instructions;
mod settings;
mod stats;
mod variant;

use std::process::ExitCode;

use figures::Figures;
use settings::Settings;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> error::Result<()> {
    let settings = Settings::read();
    let mut figures = Figures::default();
    instructions::measure(&settings, &mut figures)?;
    figures.print("instructions");
    if settings.wants_all() {
        println!("\n{}", figures.write("instructions", 1)?.display());
    }
    Ok(())
}
