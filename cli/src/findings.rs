//! `weir findings`: what was found, as text, JSON or Parquet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use weir_analytics::anomaly;
use weir_analytics::finding::{self, Finding};
use weir_analytics::forecast::Forecast;
use weir_analytics::objective::Promise;
use weir_analytics::quota;
use weir_analytics::view::QuotaFinding;
use weir_policy::Book;

use crate::alerts;
use crate::grain::spelled;
use crate::installation::{self, CommandError, Installation};
use crate::step::{counted, say};
use crate::{forecast, objectives};

/// Print who came near a limit of an hour or longer, what is unlike itself, which error budgets burn,
/// and which quotas will run out.
#[derive(clap::Args)]
pub struct FindingsArgs {
    /// Of so many days
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
    /// Only this client
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Print a JSON object with `findings`
    #[arg(long, conflicts_with = "parquet")]
    pub json: bool,
    /// Write a Parquet file instead, with the columns of docs/findings.md
    #[arg(long, value_name = "FILE")]
    pub parquet: Option<PathBuf>,
}

pub fn run(config: &Path, args: &FindingsArgs) -> ExitCode {
    installation::run("findings", async {
        let installation = Installation::open(config, None).await?;
        print(&installation, args).await?;
        Ok(true)
    })
}

/// What goes on now: how promises are kept, and how far quotas go.
pub struct Now {
    pub promises: Vec<Promise>,
    pub forecasts: Vec<Forecast>,
}

impl Now {
    pub async fn read(installation: &Installation, book: &Book) -> Result<Now, CommandError> {
        let promises = objectives::read(installation, book, installation.now_us).await?;
        Ok(Now { promises, forecasts: forecast::read(installation, book).await? })
    }

    /// Budgets that burn, and quotas that will run out.
    pub fn findings(&self, now_us: i64) -> impl Iterator<Item = Finding> {
        let burning = self.promises.iter().filter_map(move |promise| promise.finding(now_us));
        burning.chain(self.forecasts.iter().filter_map(Forecast::finding))
    }
}

async fn print(installation: &Installation, args: &FindingsArgs) -> Result<(), CommandError> {
    let mut findings = others(installation, args.days).await?;
    if let Some(book) = installation.book().await? {
        args.client.iter().for_each(|client| installation::note_unknown(&book, client));
        findings.extend(Now::read(installation, &book).await?.findings(installation.now_us));
        findings.extend(quotas(installation, &book, args.days).await?.iter().map(Finding::from));
    }
    if args.client.is_some() {
        findings.retain(|f| f.client == args.client);
    }
    findings.sort_by(|a, b| (a.since_us, &a.sentence).cmp(&(b.since_us, &b.sentence)));
    if args.json {
        say(&json!({ "findings": findings }).to_string());
        return Ok(());
    }
    if let Some(path) = &args.parquet {
        return write(path, &findings, args.days);
    }
    findings.iter().for_each(|f| say(&format!("{}  {}", spelled(f.since_us), f.sentence)));
    if findings.is_empty() {
        say(&format!("nothing found in {} days", args.days));
    }
    Ok(())
}

fn write(path: &Path, findings: &[Finding], days: u32) -> Result<(), CommandError> {
    let written = finding::file::parquet(findings, days).map_err(io::Error::other);
    let failed = |source| CommandError::Io { what: format!("cannot write {}", path.display()), source };
    written.and_then(|bytes| fs::write(path, bytes)).map_err(failed)?;
    say(&format!("{} written to {}", counted(findings.len() as u64, "finding"), path.display()));
    Ok(())
}

/// Who came near a quota in so many days, or used all of it.
pub async fn quotas(
    installation: &Installation,
    book: &Book,
    days: u32,
) -> Result<Vec<QuotaFinding>, CommandError> {
    let last_look_us = alerts::last_look_us(installation).await?;
    Ok(quota::find_since(&installation.store, book, last_look_us, installation.now_us, days).await?)
}

/// Everything else that was found in so many days, but for what goes on now.
pub async fn others(installation: &Installation, days: u32) -> Result<Vec<Finding>, CommandError> {
    let (store, now_us) = (&installation.store, installation.now_us);
    let last_look_us = alerts::last_look_us(installation).await?;
    let mut found = quota::refusals::find_since(store, last_look_us, now_us, days).await?;
    let holidays = installation.config.calendar.days();
    found.extend(anomaly::find(store, &holidays, now_us, days).await?.iter().map(Finding::from));
    Ok(found)
}
