//! `weir findings`: what was found, as text or JSON.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use weir_analytics::anomaly;
use weir_analytics::finding::Finding;
use weir_analytics::quota;

use crate::grain::spelled;
use crate::installation::{self, CommandError, Installation};
use crate::step::say;

/// Print who came near a limit of an hour or longer, and what is unlike itself.
#[derive(clap::Args)]
pub struct FindingsArgs {
    /// Of so many days
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
    /// Only this client
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Print a JSON object with `findings`
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &FindingsArgs) -> ExitCode {
    installation::run("findings", async {
        let installation = Installation::open(config, None).await?;
        print(&installation, args).await?;
        Ok(true)
    })
}

async fn print(installation: &Installation, args: &FindingsArgs) -> Result<(), CommandError> {
    let (store, now_us) = (&installation.store, installation.now_us);
    let quotas = match installation.book().await? {
        Some(book) => quota::find(store, &book, now_us, args.days).await?,
        None => Vec::new(),
    };
    let anomalies = anomaly::find(store, now_us, args.days).await?;
    let mut findings: Vec<Finding> =
        quotas.iter().map(Finding::from).chain(anomalies.iter().map(Finding::from)).collect();
    if args.client.is_some() {
        findings.retain(|f| f.client == args.client);
    }
    findings.sort_by(|a, b| (a.since_us, &a.sentence).cmp(&(b.since_us, &b.sentence)));
    if args.json {
        say(&json!({ "findings": findings }).to_string());
        return Ok(());
    }
    findings.iter().for_each(|f| say(&format!("{}  {}", spelled(f.since_us), f.sentence)));
    if findings.is_empty() {
        say(&format!("nothing found in {} days", args.days));
    }
    Ok(())
}
