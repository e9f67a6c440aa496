//! `weir retain`: what is old leaves the store.

use std::path::Path;
use std::process::ExitCode;

use weir_analytics::retention::{Keep, Retained, retain, retain_daily};

use crate::installation::{self, CommandError, Installation};
use crate::step::{Told, counted};

/// Remove records, minutes and hours that are older than [storage] keeps them, and nothing else.
///
/// Nothing is removed whose coarser grain does not add up to it; that is told, and the exit status is 1.
#[derive(clap::Args)]
pub struct RetainArgs {
    /// Use this store instead of the configuration's
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &RetainArgs) -> ExitCode {
    installation::run("retain", async {
        let installation = Installation::open(config, args.store.as_deref()).await?;
        let done = retain(&installation.store, &keep(&installation), installation.now_us).await?;
        Ok(told(&done).print(args.json))
    })
}

/// In a tick: once a day.
pub async fn step(installation: &Installation) -> Result<Told, CommandError> {
    let done = retain_daily(&installation.store, &keep(installation), installation.now_us).await?;
    Ok(done.map_or_else(|| Told::skipped("retain", "done today"), |done| told(&done)))
}

fn keep(installation: &Installation) -> Keep {
    let storage = &installation.config.storage;
    Keep {
        records_days: storage.records_days,
        minute_days: storage.minute_days,
        hour_days: storage.hour_days,
    }
}

fn told(done: &Retained) -> Told {
    let (minutes, hours) = (counted(done.minutes, "hour"), counted(done.hours, "day"));
    let records = counted(done.records, "file");
    let line = format!("{records} of records, minutes of {minutes}, hours of {hours} removed");
    Told::new("retain", line, done, done.failed.clone())
}
