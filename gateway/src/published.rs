//! The published policy at a gateway: judged beside the requests, kept on disk, put in force.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_policy::{IMAGE_FORMAT, SCHEMA, Tables, version_of};
use weir_redis_link::{Brake, Follow, News, Parcel, Release};

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
    /// The policy in force is not on disk as it should be.
    Unkept {
        why: String,
    },
    /// Why what is published can't be read.
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

/// Why a release is not in force.
#[derive(Debug)]
pub(crate) enum Hitch {
    /// Nothing of it can be had now; the link says why.
    Absent,
    /// What lies in Redis is something else, by now or still.
    Damaged(String),
    /// It is no policy.
    Wrong(String),
}

/// What news come to that bring no policy.
pub(crate) fn arrival(news: News) -> Option<Arrival> {
    Some(match news {
        News::Policy { .. } => return None,
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
    })
}

/// Does what takes time, on a thread that no request waits for.
///
/// # Errors
/// [`Hitch`].
pub(crate) fn judge(release: &Release, parcel: &Parcel, shelf: &Shelf) -> Result<Arrival, Hitch> {
    let mut damaged = None;
    let found = shelf.tables(release.version, || {
        let image = parcel.image(IMAGE_FORMAT).map(|image| whole(release, image)).transpose();
        match image {
            Ok(Some(image)) => return Ok(image),
            Ok(None) => {}
            Err(why) => damaged = Some(why),
        }
        compiled(release, &parcel.text().ok_or(Hitch::Absent)?)
    });
    let Found { tables: book, mut troubles } = found?;
    troubles.extend(damaged);
    Ok(Arrival::Policy { release: release.clone(), book, troubles })
}

/// The image that was published with a release, if it is one of this release.
fn whole(release: &Release, image: Vec<u8>) -> Result<Vec<u8>, String> {
    let why = match Tables::open(Box::new(image.clone())) {
        Ok(tables) if tables.version() == release.version => return Ok(image),
        Ok(tables) => format!("it is policy {}", Version(tables.version())),
        Err(error) => error.to_string(),
    };
    Err(format!("the compiled form of {release} in Redis is of no use, its text is compiled: {why}"))
}

fn compiled(release: &Release, text: &[u8]) -> Result<Vec<u8>, Hitch> {
    is_right(release, text).map_err(Hitch::Damaged)?;
    let policy = weir_policy::parse_bytes(text).map_err(|problems| {
        Hitch::Wrong(format!("{release} can't be used:\n{}", listed("the published policy", &problems)))
    })?;
    Ok(Tables::image(&policy))
}

fn is_right(release: &Release, text: &[u8]) -> Result<(), String> {
    let found = Version(version_of(text));
    match found.0 == release.version {
        true => Ok(()),
        false => Err(format!(
            "{release} is damaged in Redis: its text is {found}; publish it again with `weir apply`"
        )),
    }
}

/// Keeps the text of a policy that has come into force, where nobody did. Says why it is not kept.
pub(crate) fn keep(release: &Release, parcel: &Parcel, shelf: &Shelf) -> Option<String> {
    let kept = shelf.beside(release.version, FILE, |path| {
        put(path, || {
            let text = parcel.text().ok_or_else(|| "its text can't be had from Redis now".to_owned())?;
            is_right(release, &text).map(|()| text)
        })
    });
    let why = kept?.err()?;
    let dir = shelf.dir()?.display();
    Some(format!("the policy in force can't be kept in {dir}: {why}"))
}

/// Writes a file whole or not at all; the text is not asked for where there can't be a file. Each worker
/// has a name of its own for the half.
fn put(path: &Path, text: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<(), String> {
    let half = path.with_extension(format!("{}.half", std::process::id()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half);
    let mut file = file.map_err(|error| error.to_string())?;
    let written = text().and_then(|text| {
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&half, path)).map_err(|error| error.to_string())
    });
    written.inspect_err(|_| drop(fs::remove_file(&half)))
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
            image: Some(weir_redis_link::ImageSize { format: IMAGE_FORMAT, bytes: 1 }),
        }
    }

    /// The news of a release, as they come over a link that finds these things in Redis.
    fn parcel(release: &Release, text: &str, image: Option<Vec<u8>>) -> Parcel {
        let (text, release) = (text.as_bytes().to_vec(), release.clone());
        Parcel::of(&release, move |format| match format {
            None => Some(text.clone()),
            Some(_) => image.clone(),
        })
    }

    fn shelf(dir: &Path) -> Shelf {
        Shelf::new(Some(dir.to_owned()))
    }

    fn judged(release: &Release, text: &str, image: Option<Vec<u8>>, shelf: &Shelf) -> Arrival {
        judge(release, &parcel(release, text, image), shelf).unwrap()
    }

    #[test]
    fn a_good_policy_is_kept_and_begun_with() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = shelf(dir.path());
        let begin = || Source::kept(Some(dir.path()));
        assert_eq!(begin().0.version(), 0);
        let release = release(version_of(TEXT.as_bytes()));
        let arrival = judged(&release, TEXT, None, &shelf);
        assert!(matches!(arrival, Arrival::Policy { ref troubles, .. } if troubles.is_empty()));
        let keep = || keep(&release, &parcel(&release, TEXT, None), &shelf);
        assert!(keep().is_none() && begin().0.version() == release.version);
        let half = |name: &str| name.ends_with("half");
        let names = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name());
        assert!(!names.into_iter().any(|name| half(name.to_str().unwrap())));
        fs::write(dir.path().join(FILE), "[tiers").unwrap();
        let (book, error) = begin();
        assert_eq!(book.version(), 0);
        assert!(error.unwrap().to_string().contains("published-policy.toml:1:"));
    }

    #[test]
    fn what_was_compiled_by_the_publisher_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let policy = weir_policy::parse(TEXT).unwrap();
        let release = release(policy.version);
        let image = Tables::image(&policy);
        let other = Tables::image(&weir_policy::parse(&TEXT.replace("basic", "other")).unwrap());
        let mut damaged = image.clone();
        damaged[image.len() / 2] ^= 1;
        // The text is not asked for.
        match judged(&release, "no policy", Some(image), &shelf(dir.path())) {
            Arrival::Policy { book, troubles, .. } => {
                assert_eq!((book.version(), troubles), (policy.version, Vec::new()));
            }
            _ => panic!("it was not taken"),
        }
        for (bad, why) in [(damaged, "it is damaged"), (other, "it is policy "), (vec![1, 2], "no compiled")]
        {
            match judged(&release, TEXT, Some(bad), &Shelf::default()) {
                Arrival::Policy { book, troubles, .. } => {
                    assert_eq!(book.version(), policy.version);
                    assert!(troubles[0].contains("its text is compiled: ") && troubles[0].contains(why));
                }
                _ => panic!("its text was not taken"),
            }
        }
    }

    #[test]
    fn a_bad_one_is_named_and_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let why = |release: Release, text: &str| {
            judge(&release, &parcel(&release, text, None), &shelf(dir.path())).err().expect("it was taken")
        };
        let bad = "[tiers.basic]\nlimit = 3\n";
        match why(release(version_of(bad.as_bytes())), bad) {
            Hitch::Wrong(told) => {
                assert!(told.contains(", by bob: why)") && told.contains("2:1: tiers.basic.limit"), "{told}");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(why(release(1), TEXT), Hitch::Damaged(_)));
        let nothing = Parcel::of(&release(1), |_| None);
        assert!(matches!(judge(&release(1), &nothing, &shelf(dir.path())), Err(Hitch::Absent)));
        assert!(fs::read_dir(dir.path()).unwrap().all(|file| file.unwrap().file_name() == "policy.lock"));
    }

    #[test]
    fn what_cannot_be_kept_is_told_and_the_policy_taken() {
        let release = release(version_of(TEXT.as_bytes()));
        let nowhere = shelf(Path::new("/nowhere"));
        let arrival = judged(&release, TEXT, None, &nowhere);
        assert!(matches!(arrival, Arrival::Policy { troubles, .. } if troubles[0].contains("/nowhere")));
        let dir = tempfile::tempdir().unwrap();
        let here = shelf(dir.path());
        for (text, shelf, why) in [
            (Some(TEXT), &nowhere, "can't be kept in /nowhere: No such file"),
            (Some("other"), &here, "is damaged in Redis: its text is"),
            (None, &here, "can't be had from Redis now"),
        ] {
            let parcel = Parcel::of(&release, move |_| text.map(|text| text.as_bytes().to_vec()));
            let told = keep(&release, &parcel, shelf).expect("it was kept");
            assert!(told.contains(why), "{told}");
        }
        assert!(!dir.path().join(FILE).exists());
    }
}
