//! The policy file, watched: in force within seconds, without a reload, and never half a policy.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::shelf::{Found, Shelf};
use weir_policy::{MAX_POLICY_BYTES, Problem, Tables, version_of};

/// Problems that are told at a time; the rest is counted.
const TOLD: usize = 20;

/// Why a policy file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the policy file {} can't be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}", listed(path.display(), problems))]
    Problems { path: PathBuf, problems: Vec<Problem> },
}

/// One line for each problem, each with the file's name, as compilers do it.
pub(crate) fn listed(path: impl fmt::Display, problems: &[Problem]) -> String {
    let mut lines: Vec<_> = problems.iter().take(TOLD).map(|problem| format!("{path}:{problem}")).collect();
    if problems.len() > TOLD {
        lines.push(format!("and {} more problems", problems.len() - TOLD));
    }
    lines.join("\n")
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Result<Stamp, io::ErrorKind> {
        let meta = fs::metadata(path).map_err(|error| error.kind())?;
        Ok(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

/// What a look at the file showed.
pub enum Look {
    /// Nothing that has not been dealt with.
    Same,
    /// It changed just now: it may still be in the writing. Look again soon.
    Changing,
    /// A new policy to put in force.
    New { tables: Arc<Tables>, troubles: Vec<String> },
    /// What is there now says the same as the policy in force.
    Unchanged,
    /// It can't be used. Said once for each state of the file.
    Broken(LoadError),
}

/// The file and how much of its history has been dealt with.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    path: PathBuf,
    judged: Result<Stamp, io::ErrorKind>,
    /// A state that was seen once. It is read when it is seen again: a writer was not at it
    /// in between.
    fresh: Option<Result<Stamp, io::ErrorKind>>,
    in_force: u64,
}

impl PolicyFile {
    /// Reads a policy for the first time.
    ///
    /// # Errors
    /// [`LoadError`], with all problems of the policy at once.
    pub fn open(path: &Path) -> Result<(Arc<Tables>, PolicyFile), LoadError> {
        let judged = Stamp::of(path);
        let book = load(path, &Shelf::default())?.tables;
        let file = PolicyFile { path: path.to_owned(), judged, fresh: None, in_force: book.version() };
        Ok((book, file))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether the file changed, and reads it when it did and lies still.
    pub(crate) fn look(&mut self, shelf: &Shelf) -> Look {
        let stamp = Stamp::of(&self.path);
        if stamp == self.judged {
            self.fresh = None;
            return Look::Same;
        }
        if self.fresh != Some(stamp) {
            self.fresh = Some(stamp);
            return Look::Changing;
        }
        let read = load(&self.path, shelf);
        if Stamp::of(&self.path) != stamp {
            return Look::Changing;
        }
        self.fresh = None;
        self.judged = stamp;
        self.judge(read)
    }

    fn judge(&mut self, read: Result<Found, LoadError>) -> Look {
        match read {
            Err(error) => Look::Broken(error),
            Ok(found) if found.tables.version() == self.in_force => Look::Unchanged,
            Ok(Found { tables, troubles }) => {
                self.in_force = tables.version();
                Look::New { tables, troubles }
            }
        }
    }
}

pub(crate) fn load(path: &Path, shelf: &Shelf) -> Result<Found, LoadError> {
    let bytes = read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    shelf
        .tables(version_of(&bytes), || Ok(Tables::image(&weir_policy::parse_bytes(&bytes)?)))
        .map_err(|problems| LoadError::Problems { path: path.to_owned(), problems })
}

/// Reads no more than tells that a file is too large.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_POLICY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A version as operators see it.
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
