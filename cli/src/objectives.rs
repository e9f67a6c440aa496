//! `weir objectives`: what clients were promised, and how it is kept.

use std::path::Path;
use std::process::ExitCode;

use jiff::civil::Date;
use serde_json::json;
use weir_analytics::objective::{self, Alert, Kept, Period, Promise, Promised, Rules};
use weir_policy::Book;

use crate::columns::{aligned, shown};
use crate::grain::moment;
use crate::installation::{self, CommandError, Installation};
use crate::step::say;

/// Print the statement of a month: what was promised, how it was kept, how fast the budget burns.
#[derive(clap::Args)]
pub struct ObjectivesArgs {
    /// The month (UTC), like 2026-11; this one unless given
    #[arg(long, value_parser = month)]
    pub month: Option<i64>,
    /// Only this client
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Print a JSON object with `objectives`
    #[arg(long)]
    pub json: bool,
}

fn month(text: &str) -> Result<i64, String> {
    let first: Result<Date, _> = format!("{text}-01").parse();
    first.map_err(|_| "use 2026-11".to_owned()).and_then(|date| moment(&date.to_string()))
}

/// Exit status 1 where a promise is missed or an alert fires.
pub fn run(config: &Path, args: &ObjectivesArgs) -> ExitCode {
    installation::run("objectives", async {
        let installation = Installation::open(config, None).await?;
        let book = book(&installation).await?;
        let mut promises = read(&installation, &book, args.month.unwrap_or(installation.now_us)).await?;
        if let Some(client) = &args.client {
            installation::note_unknown(&book, client);
            promises.retain(|p| &p.client == client);
        }
        if args.json {
            say(&json!({ "objectives": promises }).to_string());
        } else if promises.is_empty() {
            say("no request of a client whose tier has an objective");
        } else {
            say(table(&promises).trim_end());
        }
        Ok(!promises.iter().any(|p| p.month.kept == Kept::Missed || is_firing(p)))
    })
}

/// Objectives and quotas are in the policy.
pub async fn book(installation: &Installation) -> Result<Book, CommandError> {
    let none = || CommandError::Refused(installation::NO_POLICY.to_owned());
    installation.book().await?.ok_or_else(none)
}

/// The promises of the month that holds a moment.
pub async fn read(
    installation: &Installation,
    book: &Book,
    month_us: i64,
) -> Result<Vec<Promise>, CommandError> {
    let rules: Rules = installation.config.rules().map_err(CommandError::Refused)?;
    Ok(objective::read(&installation.store, book, &rules, installation.now_us, month_us).await?)
}

fn is_firing(promise: &Promise) -> bool {
    promise.burns.iter().any(|burn| burn.state == Alert::Firing)
}

fn table(promises: &[Promise]) -> String {
    let titles = [
        "CLIENT",
        "ENDPOINT",
        "PROMISED",
        ">KEPT",
        ">GOOD",
        ">BAD",
        ">REFUSED",
        ">UNKNOWN",
        ">BUDGET LEFT",
        "STATE",
        "BURN",
    ];
    let rows: Vec<Vec<String>> = promises.iter().map(row).collect();
    aligned(&titles, &rows)
}

fn row(promise: &Promise) -> Vec<String> {
    let month = &promise.month;
    let promised = match promise.promised {
        Promised::Availability { percent } => format!("{percent} % available"),
        Promised::Latency { percent, ms } => format!("{percent} % in {ms} ms"),
    };
    let percent = |share: Option<f64>, digits| match share {
        Some(share) => format!("{share:.digits$} %"),
        None => "-".to_owned(),
    };
    vec![
        shown(&promise.client),
        promise.endpoint.as_deref().map_or_else(|| "all".to_owned(), shown),
        promised,
        percent(month.percent, 3),
        month.good.to_string(),
        month.bad.to_string(),
        month.refused.to_string(),
        unknown(month),
        percent(month.budget_left.map(|left| left * 100.0), 0),
        state(month.kept).to_owned(),
        burn(promise),
    ]
}

fn unknown(month: &Period) -> String {
    format!("{:.1} h", month.unknown_us as f64 / 3.6e9)
}

fn state(kept: Kept) -> &'static str {
    match kept {
        Kept::Met => "met",
        Kept::Missed => "missed",
        Kept::TooFew => "too few requests",
        Kept::Unknown => "unknown",
    }
}

/// `FIRING 22.1x in 1 h`, or the fastest; `too few requests` where no window has enough.
fn burn(promise: &Promise) -> String {
    let told = |burn: &objective::Burn| {
        format!("{:.1}x in {} h", burn.long.unwrap_or(0.0), burn.long_us / 3_600_000_000)
    };
    let is = |state: Alert| promise.burns.iter().find(move |burn| burn.state == state);
    match (is(Alert::Firing), is(Alert::Ok), promise.burns.is_empty()) {
        (Some(burn), ..) => format!("FIRING {}", told(burn)),
        (None, Some(burn), _) => told(burn),
        (None, None, false) => "too few requests".to_owned(),
        (None, None, true) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use weir_analytics::objective::Rules;
    use weir_metering::{Decision, Record, SpoolOptions, SpoolWriter};

    use super::*;
    use crate::findings::Now;
    use crate::{clock, tick};

    const CONFIG: &str = "[policy]\nfile = \"policy.toml\"\n[spool]\ndirs = [\"spool\"]\n\
        [storage]\nurl = \"store\"\n[site]\ndir = \"site\"\nportal_dir = \"portal\"\n";

    const POLICY: &str = "tiers.t = { exempt = true, objective = { availability = 99.0 } }\n\
        clients.acme.tier = \"t\"\n";

    /// Books requests of acme, all of this moment.
    fn spool(folder: &Path, requests: u64, errors: u64) {
        let now_us = clock::now_us() as u64;
        let mut writer =
            SpoolWriter::open(SpoolOptions::new(folder.join("spool"), "gw"), 1, 1, now_us).unwrap();
        for i in 0..requests {
            let record = Record {
                time_us: now_us - requests + i,
                client: "acme",
                tier: "t",
                endpoint: "/orders",
                method: "GET",
                status: if i < errors { 502 } else { 200 },
                latency_us: 10,
                upstream_us: None,
                bytes_in: 1,
                bytes_out: 2,
                decision: Decision::Passed,
                limit: "",
                policy_version: 1,
            };
            assert!(writer.append(&record));
        }
        writer.close(now_us);
    }

    #[test]
    fn from_records_to_a_statement_and_a_finding() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("weir.toml");
        fs::create_dir(folder.path().join("spool")).unwrap();
        fs::write(&config, CONFIG).unwrap();
        fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
        spool(folder.path(), 100, 40);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(tick::once(&config, false).await.unwrap());
            let installation = Installation::open(&config, None).await.unwrap();
            assert_eq!(installation.config.rules(), Ok(Rules::default()));
            let promises =
                read(&installation, &book(&installation).await.unwrap(), installation.now_us).await.unwrap();
            assert_eq!(promises.len(), 2, "{promises:?}");
            assert_eq!((promises[0].month.good, promises[0].month.bad), (60, 40));
            let told = table(&promises);
            assert!(told.contains("99 % available  60.000 %    60   40"), "{told}");
            assert!(told.contains("missed") && told.contains("FIRING 40.0x in 1 h"), "{told}");
            let now = Now::read(&installation, &book(&installation).await.unwrap()).await.unwrap();
            let found: Vec<_> = now.findings(installation.now_us).collect();
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found[0].sentence.starts_with("acme: 40.0 % of 100 requests failed in the hour before"));
        });
    }

    #[test]
    fn months_are_years_and_months() {
        assert_eq!(month("1970-02"), Ok(31 * 86_400_000_000));
        assert!(month("1970-13").is_err() && month("May").is_err());
    }
}
