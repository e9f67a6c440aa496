//! `weir doctor`: what is wrong with this installation, and what to do about it.

mod gateways;
mod local;
mod published;
mod redis;

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::columns::aligned;
use crate::config::Config;
use crate::gateways::Figure;
use crate::installation::{self, CommandError};
use crate::step::say;

/// Look at the policy, Redis, the spools, the gateways and their clocks; exit status 1 if something is wrong.
#[derive(clap::Args)]
pub struct DoctorArgs {
    /// Ask this gateway instead of those of the configuration
    #[arg(long = "gateway", value_name = "URL")]
    pub gateways: Vec<String>,
    /// Unknown callers shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub unknown: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Worth knowing.
    Note,
    /// Something does not work, or will not.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub state: State,
    pub what: String,
    pub found: String,
    /// Empty where there is nothing to do.
    pub remedy: String,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// Callers that nobody knows, the heaviest first.
    pub unknown: Vec<Figure>,
}

impl Report {
    pub fn ok(&mut self, what: &str, found: impl Into<String>) {
        self.add(State::Ok, what, found.into(), "");
    }

    pub fn note(&mut self, what: &str, found: impl Into<String>, remedy: &str) {
        self.add(State::Note, what, found.into(), remedy);
    }

    pub fn wrong(&mut self, what: &str, found: impl Into<String>, remedy: &str) {
        self.add(State::Wrong, what, found.into(), remedy);
    }

    fn add(&mut self, state: State, what: &str, found: String, remedy: &str) {
        self.findings.push(Finding { state, what: what.to_owned(), found, remedy: remedy.to_owned() });
    }

    fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.state != State::Wrong)
    }
}

pub fn run(path: &Path, args: &DoctorArgs) -> ExitCode {
    installation::run("doctor", async {
        let report = examine(path, args).await?;
        match args.json {
            true => say(&serde_json::to_string(&report).unwrap_or_default()),
            false => print!("{}", as_text(&report, args.unknown)),
        }
        Ok(report.is_well())
    })
}

async fn examine(path: &Path, args: &DoctorArgs) -> Result<Report, CommandError> {
    let config = Config::read(path)?;
    if let Some(problem) = args.gateways.iter().find_map(|url| crate::gateways::problem(url)) {
        return Err(CommandError::Usage(problem));
    }
    let mut report = Report::default();
    report.ok("weir.toml", path.display().to_string());
    let version = local::policy(&config, &mut report);
    local::secrets(&config, &mut report);
    local::spools(&config, &mut report);
    let answers = redis::examine(&config, &mut report).await;
    let wanted = published::examine(&config, version, answers, &mut report).await;
    let urls = if args.gateways.is_empty() { &config.gateways.metrics } else { &args.gateways };
    gateways::examine(urls, wanted, &mut report).await;
    Ok(report)
}

fn as_text(report: &Report, unknown: usize) -> String {
    let mut text = String::new();
    for Finding { state, what, found, remedy } in &report.findings {
        let word = match state {
            State::Ok => "ok",
            State::Note => "note",
            State::Wrong => "WRONG",
        };
        text += &format!("{word:<6} {what:<10} {found}\n");
        if !remedy.is_empty() {
            text += &format!("{:<17} help: {remedy}\n", "");
        }
    }
    let rows: Vec<Vec<String>> = report.unknown.iter().take(unknown).map(gateways::row).collect();
    if !rows.is_empty() {
        text += "\nUnknown callers, by their traffic. To enrol one, put its hash among a client's keys:\n";
        text += &aligned(&["CALLER", ">REQUESTS", ">REFUSED", ">BYTES"], &rows);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_to_do_and_decides_the_exit_status() {
        let mut report = Report::default();
        report.ok("policy", "fine");
        report.note("clock", "early", "run NTP");
        assert!(report.is_well());
        report.wrong("spool", "gone", "make it");
        assert!(!report.is_well());
        report.unknown.push(Figure { name: "sha256:ab".into(), requests: 7, ..Figure::default() });
        let text = as_text(&report, 10);
        assert!(text.starts_with("ok     policy     fine\nnote   clock      early\n"), "{text}");
        assert!(text.contains("WRONG  spool      gone\n                  help: make it\n"), "{text}");
        assert!(text.contains("sha256:ab"), "{text}");
        assert!(!as_text(&report, 0).contains("sha256:ab"));
    }
}
