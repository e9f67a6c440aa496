//! The published policy at a gateway: judged beside the requests, kept on disk, put in force.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_policy::{SCHEMA, Tables, version_of};
use weir_redis_link::{Brake, Follow, News, Release};

use crate::policy_file::{LoadError, Look, PolicyFile, Version, listed, load};
use crate::reader::{Inbox, Job, Reader};
use crate::shelf::{Found, Shelf};

/// The file of the last good policy, in the directory that is given for it.
const FILE: &str = "published-policy.toml";

/// Where a gateway's policy comes from.
#[derive(Clone, Debug)]
pub enum Source {
    File(PolicyFile),
    /// It is published, and kept in this directory, if in any.
    Published {
        keep: Option<PathBuf>,
    },
}

impl Source {
    /// The policy to begin with where it is published: the last good one that is kept, else none, and
    /// why not where one is there.
    pub fn kept(keep: Option<&Path>) -> (Arc<Tables>, Option<LoadError>) {
        match keep.map(|dir| load(&dir.join(FILE), &Shelf::default())) {
            Some(Ok(found)) => (found.tables, None),
            Some(Err(LoadError::Read { source, .. })) if source.kind() == ErrorKind::NotFound => {
                (Arc::new(Tables::none()), None)
            }
            Some(Err(error)) => (Arc::new(Tables::none()), Some(error)),
            None => (Arc::new(Tables::none()), None),
        }
    }

    pub(crate) fn keep(&self) -> Option<PathBuf> {
        match self {
            Source::File(_) => None,
            Source::Published { keep } => keep.clone(),
        }
    }

    /// What the link has to follow for this source, and where it comes in. The brake does not wait for
    /// a policy that is being judged.
    pub(crate) fn follow(&self, version: u64, inbox: &Arc<Inbox>, reader: &Reader) -> Follow {
        let (inbox, jobs) = (Arc::clone(inbox), reader.jobs());
        let take = Arc::new(move |news| match news {
            News::Off { brake, until_ms } => inbox.put(Arrival::Off { brake, until_ms }),
            News::On => inbox.put(Arrival::On),
            // An error is a gateway that is being closed.
            news => drop(jobs.send(Job::News(news))),
        });
        let policy = matches!(self, Source::Published { .. });
        Follow { policy, version, schema: SCHEMA, take }
    }
}

/// What is published as the gateway takes it in.
pub(crate) enum Arrival {
    /// The policy file is as it was.
    Same,
    /// It is not.
    Seen {
        path: String,
        look: Look,
    },
    Policy {
        release: Release,
        book: Arc<Tables>,
        troubles: Vec<String>,
    },
    InForce {
        release: Release,
    },
    /// A policy that can't be used, and why.
    Unusable {
        why: String,
    },
    Off {
        brake: Brake,
        until_ms: u64,
    },
    On,
    /// Why it is not known what is published.
    Trouble {
        why: String,
    },
}

impl Arrival {
    /// Those that it brings.
    pub fn tables(&self) -> Option<&Tables> {
        match self {
            Arrival::Policy { book, .. } | Arrival::Seen { look: Look::New { tables: book, .. }, .. } => {
                Some(book)
            }
            _ => None,
        }
    }
}

/// Does what takes time, on a thread that no request waits for.
pub(crate) fn arrival(news: News, keep: Option<&Path>, shelf: &Shelf) -> Arrival {
    match news {
        News::Policy { release, text } => judge(release, &text, keep, shelf),
        News::InForce { release } => Arrival::InForce { release },
        News::TooNew { release } => Arrival::Unusable {
            why: format!(
                "{release} was published by a newer weir: its policy has schema {}, this gateway knows \
                 {SCHEMA}; upgrade the gateway",
                release.schema
            ),
        },
        News::Off { brake, until_ms } => Arrival::Off { brake, until_ms },
        News::On => Arrival::On,
        News::Trouble { why } => Arrival::Trouble { why: why.to_string() },
    }
}

fn judge(release: Release, text: &[u8], keep: Option<&Path>, shelf: &Shelf) -> Arrival {
    let found = Version(version_of(text));
    let parse = || weir_policy::parse_bytes(text);
    // What is not the text that was published is never compiled for others.
    let shared = if found.0 == release.version { shelf } else { &Shelf::default() };
    match shared.tables(found.0, parse) {
        Err(problems) => {
            let why = format!("{release} can't be used:\n{}", listed("the published policy", &problems));
            Arrival::Unusable { why }
        }
        Ok(_) if found.0 != release.version => {
            Arrival::Unusable { why: format!("{release} is damaged in Redis: its text is {found}") }
        }
        Ok(Found { tables: book, unshared }) => {
            let unkept = keep.and_then(|dir| {
                let failed = |error| format!("it can't be kept in {}: {error}", dir.display());
                put(&dir.join(FILE), text).map_err(failed).err()
            });
            Arrival::Policy { release, book, troubles: unkept.into_iter().chain(unshared).collect() }
        }
    }
}

/// Writes a file whole or not at all. Each worker has a name of its own for the half.
fn put(path: &Path, text: &[u8]) -> io::Result<()> {
    let half = path.with_extension(format!("{}.half", std::process::id()));
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half);
    let written = written.and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()));
    written.and_then(|()| fs::rename(&half, path)).inspect_err(|_| drop(fs::remove_file(&half)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[tiers.basic]\nlimits = [\"1 requests/second\"]\n";

    fn release(version: u64) -> Release {
        Release {
            number: 7,
            version,
            schema: 1,
            bytes: TEXT.len(),
            by: "bob".into(),
            reason: "why".into(),
            at_ms: 0,
        }
    }

    #[test]
    fn a_good_policy_is_kept_and_begun_with() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Some(dir.path());
        assert_eq!(Source::kept(keep).0.version(), 0);
        let version = weir_policy::parse(TEXT).unwrap().version;
        let arrival = judge(release(version), TEXT.as_bytes(), keep, &Shelf::default());
        assert!(matches!(arrival, Arrival::Policy { ref troubles, .. } if troubles.is_empty()));
        assert_eq!(Source::kept(keep).0.version(), version);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(dir.path().join(FILE), "[tiers").unwrap();
        let (book, error) = Source::kept(keep);
        assert_eq!(book.version(), 0);
        assert!(error.unwrap().to_string().contains("published-policy.toml:1:"));
    }

    #[test]
    fn a_bad_one_is_named_and_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let why = |release, text: &str| match judge(
            release,
            text.as_bytes(),
            Some(dir.path()),
            &Shelf::default(),
        ) {
            Arrival::Unusable { why } => why,
            _ => panic!("it was taken"),
        };
        let bad = "[tiers.basic]\nlimit = 3\n";
        let told = why(release(version_of(bad.as_bytes())), bad);
        assert!(told.contains(", by bob: why)") && told.contains("2:1: tiers.basic.limit"), "{told}");
        assert!(why(release(1), TEXT).contains("damaged"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_away_is_told_and_the_policy_taken() {
        let version = weir_policy::parse(TEXT).unwrap().version;
        let arrival =
            judge(release(version), TEXT.as_bytes(), Some(Path::new("/nowhere")), &Shelf::default());
        assert!(matches!(arrival, Arrival::Policy { troubles, .. } if troubles[0].contains("/nowhere")));
    }
}
