//! `weir audit`: whether the books of a range hold what they promise.

use std::path::Path;
use std::process::ExitCode;

use weir_analytics::audit::{Audit, Counted, Given, audit};
use weir_analytics::calendar::DAY_US;

use crate::grain::moment;
use crate::installation::{self, Installation};
use crate::progress::Bar;
use crate::server;
use crate::step::{counted, say};
use crate::{clock, config};

/// Look for limits that were broken, records twice or missing, grains that do not add up, times without
/// a sign of life of a gateway, and admitted requests that Redis does not count.
///
/// What it finds is printed with the evidence, and makes the exit status 1. Run it after a tick.
#[derive(clap::Args)]
pub struct AuditArgs {
    /// From here on (UTC); a day before the end, if not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<i64>,
    /// Until before here (UTC); now, if not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<i64>,
    /// By how many milliseconds the clocks of gateways may differ
    #[arg(long, value_name = "MS", default_value_t = 50)]
    pub skew: u32,
    /// Use this store instead of the configuration's
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &AuditArgs) -> ExitCode {
    installation::run("audit", async {
        let installation = Installation::open(config, args.store.as_deref()).await?;
        let book = installation.book().await?;
        let to_us = args.to.unwrap_or(installation.now_us);
        let range = args.from.unwrap_or(to_us - DAY_US)..to_us;
        let bar = Bar::new("hours");
        let mut progress = |done: usize, all: usize| bar.set(done as u64, all as u64);
        let kept_us = i64::from(installation.config.storage.records_days) * DAY_US;
        let given =
            Given { skew_us: i64::from(args.skew) * 1_000, records_from_us: installation.now_us - kept_us };
        let mut done = audit(&installation.store, book.as_ref(), range, given, &mut progress).await?;
        bar.finish();
        let compared = match &installation.config.redis {
            Some(redis) => compare(redis, &mut done).await,
            // One gateway alone, or a machine that cannot reach it: the report says what was looked at.
            None => Ok(()),
        };
        print(&done, args.json);
        if let Err(why) = compared {
            eprintln!("weir audit: Redis was not compared with the records: {why}");
        }
        Ok(done.breaches.is_empty())
    })
}

/// Asks Redis for its counters and compares them with the records; the error says why it was not done.
async fn compare(redis: &config::Redis, done: &mut Audit) -> Result<(), String> {
    if done.watched().is_empty() {
        return Ok(());
    }
    let counters: Vec<_> =
        done.watched().iter().map(|watched| (&*watched.counter, watched.counted_ms)).collect();
    let look = server::look(redis).await?;
    let used = look.used(&counters).await.map_err(|error| format!("Redis cannot be asked: {error}"))?;
    // Later than Redis' own moment, so that the window of the records is within Redis'.
    let at_us = clock::now_us();
    let counted: Vec<Counted> = used
        .iter()
        .zip(done.watched())
        .map(|(used, watched)| Counted { at_us, units: used.units(watched.counted_ms) })
        .collect();
    done.compare(&counted);
    Ok(())
}

fn print(done: &Audit, json: bool) {
    if json {
        return say(&serde_json::to_string(done).unwrap_or_default());
    }
    done.breaches.iter().for_each(|breach| say(&format!("{}: {}", breach.kind, breach.evidence)));
    let found = if done.breaches.is_empty() {
        "nothing found".to_owned()
    } else {
        counted(done.breaches.len() as u64, "finding")
    };
    let (records, hours, limits) =
        (counted(done.records, "record"), counted(done.hours, "hour"), counted(done.limits, "limit"));
    if done.compared > 0 {
        let counters = counted(done.compared, "counter");
        say(&format!("Redis counts {} more in {counters} than records say was admitted", done.beyond));
    }
    say(&format!("{records} of {hours} under {limits} looked at: {found}"));
}
