//! `weir history` and `weir rollback`: what was published, and back to it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use weir_redis_link::{Desk, DeskError, Release};

use crate::config::Config;
use crate::installation::{CommandError, run as run_command};
use crate::published::{Checked, Signature, as_json, open, show_changes, time, told};

/// List what was published: who, when, why; or print one release's policy
#[derive(clap::Args, Debug)]
pub struct HistoryArgs {
    /// Print the policy of this release
    #[arg(value_name = "RELEASE")]
    release: Option<u64>,
    /// How many of the newest to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: u64,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Publish an earlier release again
#[derive(clap::Args, Debug)]
pub struct RollbackArgs {
    /// The release to go back to [default: the one before]
    #[arg(value_name = "RELEASE")]
    release: Option<u64>,
    #[command(flatten)]
    sign: Signature,
}

pub fn run_history(config: &Path, args: &HistoryArgs) -> ExitCode {
    run_command("history", history(config, args))
}

pub fn run_rollback(config: &Path, args: &RollbackArgs) -> ExitCode {
    run_command("rollback", rollback(config, args))
}

async fn history(path: &Path, args: &HistoryArgs) -> Result<bool, CommandError> {
    let desk = open(&Config::read(path)?, path).await?;
    let written = match args.release {
        Some(number) => io::stdout().write_all(&text_of(&desk, number).await?.1),
        None => list(&desk.history(args.last).await?, args.json, &mut io::stdout().lock()),
    };
    written.map_err(|source| CommandError::Io { what: "standard output".to_owned(), source })?;
    Ok(true)
}

fn list(releases: &[Release], json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        let all: Value = releases.iter().map(as_json).collect();
        return writeln!(out, "{all:#}");
    }
    if releases.is_empty() {
        return writeln!(out, "nothing was published yet; see `weir apply`");
    }
    let widest = releases.iter().map(|release| release.by.chars().count()).max().unwrap_or(0);
    for Release { number, version, by, reason, at_ms, .. } in releases {
        let line = format!("{number:>6}  {}  {version:016x}  {by:widest$}  {reason}", time(*at_ms));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

async fn text_of(desk: &Desk, number: u64) -> Result<(Release, Vec<u8>), CommandError> {
    let none = || CommandError::Refused(format!("there is no release {number}; see `weir history`"));
    let release = desk.release(number).await?.ok_or_else(none)?;
    let text = desk.text(&release).await?;
    Ok((release, text))
}

async fn rollback(path: &Path, args: &RollbackArgs) -> Result<bool, CommandError> {
    let desk = open(&Config::read(path)?, path).await?;
    let nothing = || CommandError::Refused("nothing was published yet; see `weir apply`".to_owned());
    let head = desk.head().await?.ok_or_else(nothing)?;
    let number = args.release.unwrap_or(head.number.saturating_sub(1));
    if number == 0 {
        let why = format!("{} is the first: there is nothing to go back to", told(&head));
        return Err(CommandError::Refused(why));
    }
    let (release, text) = text_of(&desk, number).await?;
    if release.version == head.version {
        println!("the policy of release {number} is in force already: {}", told(&head));
        return Ok(true);
    }
    let old = Checked::new(&text, Path::new(&format!("release {number}")))?;
    show_changes(&desk, Some(&head), &old).await?;
    let reason = match args.sign.reason.as_str() {
        "" => format!("back to release {number}"),
        reason => format!("back to release {number}: {reason}"),
    };
    let sign = Signature { reason, by: args.sign.by.clone() };
    match old.publish(&desk, Some(&head), &sign).await {
        Ok(release) => {
            println!("published as {}", told(&release));
            Ok(true)
        }
        Err(DeskError::Overtaken(head)) => {
            let text =
                format!("in the meantime something else was published: {}; look, then again", told(&head));
            Err(CommandError::Refused(text))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_who_when_and_why() {
        let release = Release {
            number: 7,
            version: 0xab,
            schema: 1,
            bytes: 3,
            by: "bob@desk".into(),
            reason: "more for acme".into(),
            at_ms: 1_800_000_000_999,
            image: None,
        };
        let shown = |releases: &[Release], json| {
            let mut out = Vec::new();
            list(releases, json, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let line = "     7  2027-01-15T08:00:00Z  00000000000000ab  bob@desk  more for acme\n";
        assert_eq!(shown(std::slice::from_ref(&release), false), line);
        let json: Value = serde_json::from_str(&shown(&[release], true)).unwrap();
        assert_eq!(json[0]["by"], "bob@desk");
        assert!(shown(&[], false).contains("weir apply"));
        assert_eq!(shown(&[], true).trim(), "[]");
    }
}
