//! The published policy at a gateway: judged beside the requests, kept on disk, put in force.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_policy::{Book, SCHEMA};
use weir_redis_link::{Brake, Follow, News, Release};

use crate::policy_file::{LoadError, Look, PolicyFile, Version, listed, load};
use crate::reader::{Inbox, Job, Reader};

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
    pub fn kept(keep: Option<&Path>) -> (Arc<Book>, Option<LoadError>) {
        match keep.map(|dir| load(&dir.join(FILE))) {
            Some(Ok(book)) => (book, None),
            Some(Err(LoadError::Read { source, .. })) if source.kind() == ErrorKind::NotFound => {
                (Arc::new(Book::none()), None)
            }
            Some(Err(error)) => (Arc::new(Book::none()), Some(error)),
            None => (Arc::new(Book::none()), None),
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
        book: Arc<Book>,
        unkept: Option<String>,
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

/// Does what takes time, on a thread that no request waits for.
pub(crate) fn arrival(news: News, keep: Option<&Path>) -> Arrival {
    match news {
        News::Policy { release, text } => judge(release, &text, keep),
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

fn judge(release: Release, text: &[u8], keep: Option<&Path>) -> Arrival {
    let policy = match weir_policy::parse_bytes(text) {
        Ok(policy) => policy,
        Err(problems) => {
            let why = format!("{release} can't be used:\n{}", listed("the published policy", &problems));
            return Arrival::Unusable { why };
        }
    };
    if policy.version != release.version {
        let found = Version(policy.version);
        return Arrival::Unusable { why: format!("{release} is damaged in Redis: its text is {found}") };
    }
    let unkept = keep.and_then(|dir| {
        let failed = |error| format!("it can't be kept in {}: {error}", dir.display());
        put(&dir.join(FILE), text).map_err(failed).err()
    });
    Arrival::Policy { release, book: Arc::new(Book::compile(policy)), unkept }
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
        let arrival = judge(release(version), TEXT.as_bytes(), keep);
        assert!(matches!(arrival, Arrival::Policy { unkept: None, .. }));
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
        let why = |release, text: &str| match judge(release, text.as_bytes(), Some(dir.path())) {
            Arrival::Unusable { why } => why,
            _ => panic!("it was taken"),
        };
        assert!(
            why(release(1), "[tiers.basic]\nlimit = 3\n")
                .contains("release 7 (0000000000000001, by bob: why)")
        );
        assert!(why(release(1), "[tiers.basic]\nlimit = 3\n").contains("2:1: tiers.basic.limit"));
        assert!(why(release(1), TEXT).contains("damaged"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_away_is_told_and_the_policy_taken() {
        let version = weir_policy::parse(TEXT).unwrap().version;
        let arrival = judge(release(version), TEXT.as_bytes(), Some(Path::new("/nowhere")));
        assert!(matches!(arrival, Arrival::Policy { unkept: Some(why), .. } if why.contains("/nowhere")));
    }
}
