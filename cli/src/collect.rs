//! `weir collect`: sealed spool segments into the store.

use std::path::Path;
use std::process::ExitCode;

use weir_analytics::collect::{Collected, collect_some};

use crate::installation::{self, Installation};
use crate::progress::Bar;
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
        Ok(step(&installation, u64::MAX).await.told.print(args.json))
    })
}

/// What came of collecting.
pub struct Step {
    pub told: Told,
    /// Up to when everything is in the store, if that is known.
    pub complete_to_us: Option<i64>,
    /// Whether it is of use to go on.
    pub is_more: bool,
}

/// Collects about so many bytes of segments, the newest first.
pub async fn step(installation: &Installation, most_bytes: u64) -> Step {
    let dirs = &installation.config.spool.dirs;
    if dirs.is_empty() {
        let told = Told::skipped("collect", "[spool] dirs is empty");
        return Step { told, complete_to_us: None, is_more: false };
    }
    let bar = Bar::new("segments");
    let mut progress = |done: usize, all: usize| bar.set(done as u64, all as u64);
    let (store, now_us) = (&installation.store, installation.now_us);
    let done = collect_some(store, dirs, now_us, most_bytes, &mut progress).await;
    bar.finish();
    Step {
        told: Told::new("collect", line(&done), &done, done.failed.clone()),
        complete_to_us: Some(done.complete_to_us).filter(|us| *us > 0),
        is_more: done.left > 0 && done.segments > 0,
    }
}

fn line(done: &Collected) -> String {
    let mut line = format!("{}, {}", counted(done.segments, "segment"), counted(done.records, "record"));
    if done.records != done.new_records {
        line += &format!(" ({} of them in the store already)", done.records - done.new_records);
    }
    if done.left > 0 {
        line += &format!(", {} older ones are left for now", done.left);
    }
    if done.missing > 0 {
        line += &format!(", {} missing", done.missing);
    }
    if !done.quarantined.is_empty() {
        line += &format!(", {} quarantined: {}", done.quarantined.len(), done.quarantined.join("; "));
    }
    line
}
