//! `weir rollup`: parts into minutes, hours, days and months.

use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;

use weir_analytics::rollup::{RolledUp, rebuild, roll_up, roll_up_again};

use crate::grain::moment;
use crate::installation::{self, CommandError, Installation};
use crate::progress::Bar;
use crate::step::{Told, counted};

/// Roll up what was collected, and nothing else.
#[derive(clap::Args)]
pub struct RollupArgs {
    /// Compare with all records in the store, and roll up what was forgotten
    #[arg(long)]
    pub rebuild: bool,
    /// Roll up once more from the records what ended from here on (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "rebuild")]
    pub from: Option<i64>,
    /// The same until before here (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "rebuild")]
    pub to: Option<i64>,
    /// Use this store instead of the configuration's
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &RollupArgs) -> ExitCode {
    installation::run("rollup", async {
        let installation = Installation::open(config, args.store.as_deref()).await?;
        let told = match (args.from, args.to) {
            (None, None) => step(&installation, args.rebuild).await?,
            (from, to) => again(&installation, from.unwrap_or(i64::MIN)..to.unwrap_or(i64::MAX)).await?,
        };
        Ok(told.print(args.json))
    })
}

pub async fn step(installation: &Installation, whole: bool) -> Result<Told, CommandError> {
    let bar = Bar::new("hours");
    let mut progress = |done: usize, all: usize| bar.set(done as u64, all as u64);
    let (store, now_us) = (&installation.store, installation.now_us);
    let done = match whole {
        true => rebuild(store, now_us, &mut progress).await?,
        false => roll_up(store, now_us, &mut progress).await?,
    };
    bar.finish();
    Ok(Told::new("roll up", line(&done), &done, done.failed.clone()))
}

async fn again(installation: &Installation, range: Range<i64>) -> Result<Told, CommandError> {
    let bar = Bar::new("hours");
    let mut progress = |done: usize, all: usize| bar.set(done as u64, all as u64);
    let done = roll_up_again(&installation.store, range, &mut progress).await?;
    bar.finish();
    let line = match done.generations {
        0 => "the rows are those that stood there".to_owned(),
        n => format!("{} made anew", counted(n, "generation")),
    };
    Ok(Told::new("roll up", line, &done, done.failed.clone()))
}

fn line(done: &RolledUp) -> String {
    let (parts, made) = (counted(done.parts, "part"), counted(done.generations, "generation"));
    let bundled = match done.bundles {
        0 => String::new(),
        n => format!("records put into {}, ", counted(n, "file")),
    };
    format!("{parts} into {made}, {bundled}{} deleted", counted(done.deleted, "old file"))
}
