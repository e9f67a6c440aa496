//! What can go wrong with a spool, said so that the reader knows what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a spool cannot be opened, checked or swept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    #[error("{setting}: {problem}")]
    Options { setting: &'static str, problem: String },
    #[error(
        "spool directory {} does not exist; create it for the user that nginx's workers run as: install -d -m 0750 -o USER {}",
        dir.display(), dir.display()
    )]
    Missing { dir: PathBuf },
    #[error("{} is a symbolic link or not a directory; name the directory itself", dir.display())]
    NotADirectory { dir: PathBuf },
    #[error("spool directory {} can be written by everybody; run: chmod o-w {}", dir.display(), dir.display())]
    WorldWritable { dir: PathBuf },
    #[error(
        "spool directory {} belongs to user {owner}, but this process runs as {us}; run: chown {us} {}",
        dir.display(), dir.display()
    )]
    Owner { dir: PathBuf, owner: u32, us: u32 },
    #[error(
        "{} is not a plain file; something else put it there: look at it and move it out of the spool",
        path.display()
    )]
    NotAFile { path: PathBuf },
    #[error("{} already exists with another content; look at both files and move one away", path.display())]
    Exists { path: PathBuf },
    #[error(
        "spool {} has reached its cap of {max_bytes} bytes; see why `weir tick` does not collect, or raise max=",
        dir.display()
    )]
    AtCap { dir: PathBuf, max_bytes: u64 },
    #[error("cannot {action} {}: {source}; check that disk and its permissions", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot start the spool's helper thread: {0}; raise the limit of threads (ulimit -u, TasksMax)")]
    Thread(io::Error),
}

impl SpoolError {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> SpoolError {
        SpoolError::Io { action, path: path.to_owned(), source: source.into() }
    }
}

/// Why a file cannot be read as a segment. The file is left as it is; move it to quarantine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error("cannot read the segment: {0}")]
    Io(#[from] io::Error),
    #[error("the path leads to a symbolic link or something else that is no plain file")]
    NotAFile,
    #[error("the file has {bytes} bytes, which is more than any segment ({max})")]
    TooLarge { bytes: u64, max: u64 },
    #[error("not a segment: the file does not begin with the magic bytes")]
    Magic,
    #[error("written in format version {found}; this program reads versions up to {known}: use a newer weir")]
    Version { found: u16, known: u16 },
    #[error("the segment's header is cut off or damaged (its checksum does not fit)")]
    Header,
}
