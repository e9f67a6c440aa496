//! `weir run`: a tick once a minute.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::installation::{self, CommandError};
use crate::tick;

/// Tick once a minute until SIGTERM or SIGINT, which end it after the tick at work.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Seconds from the beginning of one tick to that of the next
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub every: u64,
    /// Print a JSON object for each step
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &RunArgs) -> ExitCode {
    installation::run("run", async {
        let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let mut clock = interval(Duration::from_secs(args.every));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = term.recv() => return Ok(true),
                _ = int.recv() => return Ok(true),
                _ = clock.tick() => {}
            }
            // A failed tick is told and tried again by the next one: only a signal ends the loop.
            if let Err(e) = tick::once(config, args.json).await {
                eprintln!("weir run: {e}");
            }
        }
    })
}

fn listen(kind: SignalKind) -> Result<Signal, CommandError> {
    signal(kind)
        .map_err(|source: io::Error| CommandError::Io { what: "cannot wait for signals".to_owned(), source })
}
