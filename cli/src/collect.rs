//! `weir collect`: sealed spool segments into the store.

use std::path::Path;
use std::process::ExitCode;

use weir_analytics::collect::{Collected, collect};

use crate::installation::{self, Installation};
use crate::step::{Told, counted};

/// Take sealed spool segments into the store, and nothing else.
#[derive(clap::Args)]
pub struct CollectArgs {
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &CollectArgs) -> ExitCode {
    installation::run("collect", async {
        let installation = Installation::open(config, None).await?;
        Ok(step(&installation).await.0.print(args.json))
    })
}

/// Collects; also says up to when everything is in the store, if that is known.
pub async fn step(installation: &Installation) -> (Told, Option<i64>) {
    let dirs = &installation.config.spool.dirs;
    if dirs.is_empty() {
        return (Told::skipped("collect", "[spool] dirs is empty"), None);
    }
    let done = collect(&installation.store, dirs, installation.now_us).await;
    let complete = Some(done.complete_to_us).filter(|us| *us > 0);
    (Told::new("collect", line(&done), &done, done.failed.clone()), complete)
}

fn line(done: &Collected) -> String {
    let mut line = format!("{}, {}", counted(done.segments, "segment"), counted(done.records, "record"));
    if done.records != done.new_records {
        line += &format!(" ({} of them in the store already)", done.records - done.new_records);
    }
    if done.missing > 0 {
        line += &format!(", {} missing", done.missing);
    }
    if !done.quarantined.is_empty() {
        line += &format!(", {} quarantined: {}", done.quarantined.len(), done.quarantined.join("; "));
    }
    line
}
