//! `weir apply`: publishes a policy to all gateways.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weir_redis_link::{DeskError, Release};

use crate::config::Config;
use crate::installation::{CommandError, run as run_command};
use crate::published::{Checked, Flaws, Signature, open, show_changes, told};

/// Publish a policy to all gateways
///
/// Shows what changes, in words, then publishes all of it at once. A policy that somebody else
/// published is not overwritten unless this file was made from it: what a file was made from lies
/// beside it, in POLICY.seen.
#[derive(clap::Args, Debug)]
pub struct ApplyArgs {
    /// The policy file [default: that of weir.toml]
    #[arg(value_name = "POLICY")]
    policy: Option<PathBuf>,
    /// Only show what would change
    #[arg(long)]
    show: bool,
    /// Replace this release, which you have seen
    #[arg(long, value_name = "RELEASE")]
    over: Option<u64>,
    #[command(flatten)]
    sign: Signature,
}

pub fn run(config: &Path, args: &ApplyArgs) -> ExitCode {
    run_command("apply", apply(config, args))
}

async fn apply(path: &Path, args: &ApplyArgs) -> Result<bool, CommandError> {
    let config = Config::read(path)?;
    let file = config.policy_file(args.policy.as_deref());
    let bytes = fs::read(&file).map_err(|source| CommandError::ReadPolicy { path: file.clone(), source })?;
    let new = Checked::new(&bytes, &file)?;
    let desk = open(&config, path).await?;
    let head = desk.head().await?;
    let same = head.as_ref().filter(|head| head.version == new.policy.version);
    if let Some(head) = same {
        println!("{} is in force already: {}", file.display(), told(head));
        match Flaws::of(&desk, head).await?.first() {
            Some(flaw) => println!("it is published again: {flaw}"),
            None => {
                note_seen(&file, head);
                return Ok(true);
            }
        }
    } else {
        show_changes(&desk, head.as_ref(), &new).await?;
    }
    if args.show {
        return Ok(true);
    }
    let is_seen = |head: &&Release| same.is_some() || args.over == Some(head.number) || was_seen(&file, head);
    if let Some(head) = head.as_ref().filter(|head| !is_seen(head)) {
        return Err(unseen(&file, head));
    }
    match new.publish(&desk, head.as_ref(), &args.sign).await {
        Ok(release) => {
            println!("published as {}", told(&release));
            note_seen(&file, &release);
            Ok(true)
        }
        Err(DeskError::Overtaken(head)) => Err(unseen(&file, &head)),
        Err(error) => Err(error.into()),
    }
}

fn unseen(file: &Path, head: &Release) -> CommandError {
    let (file, number) = (file.display(), head.number);
    CommandError::Refused(format!(
        "{file} was not made from {}, and would undo what changed there; see `weir history {number}`, take \
         its changes over into {file}, then run `weir apply {file} --over {number}`",
        told(head)
    ))
}

/// Where it is noted which release a file was made from.
fn seen_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".seen");
    name.into()
}

fn was_seen(file: &Path, head: &Release) -> bool {
    fs::read_to_string(seen_file(file)).is_ok_and(|text| text == seen_text(head))
}

fn seen_text(release: &Release) -> String {
    format!("release {} {:016x}\n", release.number, release.version)
}

/// Without the note the next `weir apply` asks for --over, so a failure is told and no more.
fn note_seen(file: &Path, release: &Release) {
    let path = seen_file(file);
    if let Err(error) = fs::write(&path, seen_text(release)) {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "this user may not write there",
            _ => "it is not noted that this release was seen",
        };
        eprintln!("weir apply: {}: {error}; {hint}", path.display());
    }
}
