//! Putting a set of files in place as a whole: readers see the old set or the new one.
//!
//! The new set is written beside the old one and then changes places with it in one step
//! (`renameat2` with `RENAME_EXCHANGE`). Whoever is killed on the way, or runs out of disk, leaves the
//! old set as it was, and the next run clears what was left behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum PublishError {
    #[error(
        "cannot write {path}: {source}; the pages of before stay in place; make room or give the right to write there"
    )]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot put the new pages in the place of {path}: {source}; the pages of before stay in place")]
    Exchange { path: PathBuf, source: io::Error },
    #[error("another process is writing the pages of {path}; let it end, or end it")]
    Busy { path: PathBuf },
    #[error("{path} is no directory; move it away or configure another place for the pages")]
    NoDirectory { path: PathBuf },
}

/// A set of files under way to the place `target`. Dropped before [`Staged::publish`], it is gone
/// without a trace.
pub struct Staged {
    target: PathBuf,
    dir: PathBuf,
    /// Locked as long as this lives, so that two runs do not write into the same set.
    _lock: File,
}

impl Staged {
    /// Begins a new set for `target`, which need not exist. A `target` that is a symbolic link is
    /// followed, so that the link stays.
    pub fn begin(target: &Path) -> Result<Staged, PublishError> {
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
        if target.exists() && !target.is_dir() {
            return Err(PublishError::NoDirectory { path: target });
        }
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|source| write_error(parent, source))?;
        let lock = lock(&target, &sibling(&target, "lock"))?;
        let dir = sibling(&target, "new");
        clear(&dir).map_err(|source| write_error(&dir, source))?;
        fs::create_dir(&dir).map_err(|source| write_error(&dir, source))?;
        let staged = Staged { target, dir, _lock: lock };
        staged.keep_mode()?;
        Ok(staged)
    }

    /// Writes one file; `path` is relative, made by us, and never leads out of the set.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<(), PublishError> {
        let path = self.dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| write_error(parent, source))?;
        }
        // What was taken over is the same file as in the set that is in place: it must not change.
        if fs::metadata(&path).is_ok_and(|file| file.is_file() && file.nlink() > 1) {
            fs::remove_file(&path).map_err(|source| write_error(&path, source))?;
        }
        fs::write(&path, content).map_err(|source| write_error(&path, source))
    }

    /// Takes a file or a folder over from the set that is in place, as the same files on the disk;
    /// and says whether it was there.
    pub fn keep(&self, path: &str) -> Result<bool, PublishError> {
        let (from, to) = (self.target.join(path), self.dir.join(path));
        match link_all(&from, &to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(write_error(&to, error)),
        }
    }

    /// Whether the set has this file by now.
    pub fn has(&self, path: &str) -> bool {
        self.dir.join(path).is_file()
    }

    /// The same files once more under another name within the set.
    pub fn link(&self, from: &str, to: &str) -> Result<(), PublishError> {
        let to = self.dir.join(to);
        link_all(&self.dir.join(from), &to).map_err(|source| write_error(&to, source))
    }

    /// Gives the files of a folder of the set a time, in microseconds since the epoch.
    pub fn touch(&self, path: &str, now_us: i64) -> Result<(), PublishError> {
        let dir = self.dir.join(path);
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(now_us.max(0).unsigned_abs());
        let touch_all = || -> io::Result<()> {
            for entry in fs::read_dir(&dir)? {
                File::open(entry?.path())?.set_modified(at)?;
            }
            Ok(())
        };
        touch_all().map_err(|source| write_error(&dir, source))
    }

    /// Puts the set in place and removes the one that was there.
    pub fn publish(self) -> Result<(), PublishError> {
        exchange(&self.dir, &self.target)
            .map_err(|source| PublishError::Exchange { path: self.target.clone(), source })
        // Dropping `self` removes what now lies in `dir`: the old set.
    }

    /// Whoever may read the pages today may read them tomorrow.
    fn keep_mode(&self) -> Result<(), PublishError> {
        let Ok(old) = fs::metadata(&self.target) else { return Ok(()) };
        fs::set_permissions(&self.dir, old.permissions()).map_err(|source| write_error(&self.dir, source))
    }
}

fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            link_all(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    // Some file systems have no hard links.
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = clear(&self.dir);
    }
}

fn write_error(path: &Path, source: io::Error) -> PublishError {
    PublishError::Write { path: path.to_path_buf(), source }
}

/// `.site.new` beside `site`: on the same file system, so that it can take its place.
fn sibling(target: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".");
    name.push(what);
    target.with_file_name(name)
}

fn lock(target: &Path, path: &Path) -> Result<File, PublishError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|source| write_error(path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(PublishError::Busy { path: target.to_path_buf() }),
        Err(errno) => Err(write_error(path, errno.into())),
    }
}

fn clear(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn exchange(new: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => fs::rename(new, target),
        // Some network and stacked file systems cannot exchange.
        Err(Errno::INVAL | Errno::NOSYS | Errno::XDEV | Errno::OPNOTSUPP) => step_aside(new, target),
        Err(errno) => Err(errno.into()),
    }
}

/// Two renames in the place of one: for a moment there is no set at all, but never half of one.
fn step_aside(new: &Path, target: &Path) -> io::Result<()> {
    let aside = sibling(target, "old");
    clear(&aside)?;
    fs::rename(target, &aside)?;
    if let Err(error) = fs::rename(new, target) {
        fs::rename(&aside, target)?;
        return Err(error);
    }
    // The new set is in place; an old one that cannot be removed is removed by the next run.
    let _ = clear(&aside);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn put(target: &Path, content: &str) {
        let staged = Staged::begin(target).unwrap();
        staged.write("index.html", content.as_bytes()).unwrap();
        staged.write("assets/a.css", content.as_bytes()).unwrap();
        staged.publish().unwrap();
    }

    #[test]
    fn a_reader_sees_one_set_or_the_other_and_always_one() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("deep/site");
        put(&target, "0");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    // Opening the directory fixes the set that is read, whatever takes its place.
                    let set =
                        rustix::fs::open(&target, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty());
                    let set = set.expect("there is always a set");
                    let names = rustix::fs::Dir::read_from(&set).map(|dir| dir.flatten().count());
                    seen += usize::from(names.is_ok_and(|n| n > 2));
                }
                seen
            });
            for n in 1..=200 {
                put(&target, &n.to_string());
            }
            done.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
        assert_eq!(fs::read_to_string(target.join("index.html")).unwrap(), "200");
        let left: Vec<_> =
            fs::read_dir(target.parent().unwrap()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 2, "the set and its lock alone: {left:?}");
    }

    #[test]
    fn a_set_that_was_not_finished_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("site");
        put(&target, "old");
        let staged = Staged::begin(&target).unwrap();
        staged.write("index.html", b"half").unwrap();
        drop(staged);
        assert_eq!(fs::read_to_string(target.join("index.html")).unwrap(), "old");
    }

    #[test]
    fn what_is_taken_over_is_the_same_file_and_does_not_change_when_it_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("site");
        put(&target, "old");
        let staged = Staged::begin(&target).unwrap();
        assert!(staged.keep("assets").unwrap() && staged.keep("index.html").unwrap());
        assert!(!staged.keep("nothing").unwrap());
        staged.write("index.html", b"new").unwrap();
        assert_eq!(fs::read_to_string(target.join("index.html")).unwrap(), "old");
        staged.publish().unwrap();
        assert_eq!(fs::read_to_string(target.join("index.html")).unwrap(), "new");
        assert_eq!(fs::read_to_string(target.join("assets/a.css")).unwrap(), "old");
    }

    #[test]
    fn what_a_killed_run_left_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("site");
        fs::create_dir(dir.path().join(".site.new")).unwrap();
        fs::write(dir.path().join(".site.new/stale.html"), "x").unwrap();
        put(&target, "new");
        assert!(!target.join("stale.html").exists());
    }

    #[test]
    fn two_runs_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("site");
        let first = Staged::begin(&target).unwrap();
        assert!(matches!(Staged::begin(&target), Err(PublishError::Busy { .. })));
        drop(first);
        assert!(Staged::begin(&target).is_ok());
    }

    #[test]
    fn a_full_disk_leaves_the_old_set() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("site");
        put(&target, "old");
        let staged = Staged::begin(&target).unwrap();
        // /dev/full answers every write with "no space left on device".
        std::os::unix::fs::symlink("/dev/full", staged.dir.join("index.html")).unwrap();
        let error = staged.write("index.html", b"new").unwrap_err();
        assert!(error.to_string().contains("the pages of before stay"), "{error}");
        drop(staged);
        assert_eq!(fs::read_to_string(target.join("index.html")).unwrap(), "old");
    }

    #[test]
    fn a_link_stays_a_link_and_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("site"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        put(&link, "new");
        assert!(link.is_symlink() && real.join("index.html").exists());
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(matches!(Staged::begin(&dir.path().join("file")), Err(PublishError::NoDirectory { .. })));
    }

    #[test]
    fn without_an_exchange_the_set_still_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (new, target) = (dir.path().join(".site.new"), dir.path().join("site"));
        for (path, content) in [(&new, "new"), (&target, "old")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("index.html"), content).unwrap();
        }
        step_aside(&new, &target).unwrap();
        assert_eq!(fs::read_to_string(target.join("index.html")).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
