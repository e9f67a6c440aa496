//! Where the policy that a command edits lies: in a file, or published.

use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use weir_policy::{Policy, difference};
use weir_redis_link::{Desk, DeskError, Release};

use super::edit::Draft;
use crate::config::Config;
use crate::installation::CommandError;
use crate::published::{Checked, Signature, open, told};

/// Which policy a command is about.
#[derive(clap::Args, Debug)]
pub struct PlaceArgs {
    /// The policy file [default: that of weir.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "published", global = true)]
    policy: Option<PathBuf>,
    /// The published policy instead of a file; what is changed is published at once
    #[arg(long, global = true)]
    published: bool,
    /// Who, for the history [default: this user at this machine]
    #[arg(long, value_name = "NAME", global = true)]
    by: Option<String>,
}

/// A policy that was read, and where from.
pub struct Place {
    from: From,
    by: Option<String>,
    now: Checked,
}

enum From {
    File(PathBuf),
    Published { desk: Desk, head: Release },
}

impl Place {
    pub async fn open(path: &Path, args: &PlaceArgs) -> Result<Place, CommandError> {
        let by = args.by.clone();
        if args.published {
            let desk = open(&Config::read(path)?, path).await?;
            let nothing = || CommandError::Refused("nothing was published yet; see `weir apply`".to_owned());
            let head = desk.head().await?.ok_or_else(nothing)?;
            let now = Checked::new(&desk.text(&head).await?, Path::new("the published policy"))?;
            return Ok(Place { from: From::Published { desk, head }, by, now });
        }
        // With a file of its own a command needs no weir.toml.
        let file = match &args.policy {
            Some(file) => file.clone(),
            None => Config::read(path)?.policy_file(None),
        };
        let text =
            fs::read(&file).map_err(|source| CommandError::ReadPolicy { path: file.clone(), source })?;
        let now = Checked::new(&text, &file)?;
        Ok(Place { from: From::File(file), by, now })
    }

    pub fn policy(&self) -> &Policy {
        &self.now.policy
    }

    /// Makes a change, tells it in words, and writes or publishes it. Nothing that is no right policy
    /// is ever written.
    pub async fn edit<E: Display>(
        self,
        reason: &str,
        change: impl FnOnce(&mut Draft, &Policy) -> Result<(), E>,
    ) -> Result<bool, CommandError> {
        let refused = |error: &dyn Display| CommandError::Refused(error.to_string());
        let mut draft = Draft::of(&self.now.text).map_err(|fault| refused(&fault))?;
        change(&mut draft, &self.now.policy).map_err(|error| refused(&error))?;
        let new =
            Checked::new(draft.text().as_bytes(), Path::new("nothing is changed: the policy after it"))?;
        let lines = difference(&self.now.text, &new.text, &new.policy);
        if lines.is_empty() {
            println!("nothing changes");
            return Ok(true);
        }
        lines.iter().for_each(|line| println!("{line}"));
        match self.from {
            From::File(file) => {
                write(&file, &new.text)
                    .map_err(|source| CommandError::Io { what: file.display().to_string(), source })?;
                println!(
                    "written to {}; a watched file is in force now, else `weir apply` it",
                    file.display()
                );
            }
            From::Published { desk, head } => {
                let sign = Signature { reason: reason.to_owned(), by: self.by };
                match new.publish(&desk, Some(&head), &sign).await {
                    Ok(release) => println!("published as {}", told(&release)),
                    Err(DeskError::Overtaken(head)) => {
                        let text = format!("in the meantime there is {}; try again", told(&head));
                        return Err(CommandError::Refused(text));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(true)
    }
}

/// Replaces a file in one step, so that a gateway that watches it never sees half of it. A link stays
/// a link, and the file keeps its mode.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let file = fs::canonicalize(file)?;
    let mode = fs::metadata(&file)?.permissions().mode();
    let mut half = file.as_os_str().to_owned();
    half.push(".new");
    let options = fs::OpenOptions::new().write(true).create_new(true).mode(mode).clone();
    let mut out = options.open(&half)?;
    let written = io::Write::write_all(&mut out, text.as_bytes()).and_then(|()| out.sync_all());
    written.and_then(|()| fs::rename(&half, &file)).inspect_err(|_| drop(fs::remove_file(&half)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_keeps_its_mode_and_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("policy.toml"), dir.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
