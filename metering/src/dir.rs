//! The spool directory: who may own it, how its files are named, created and locked.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::error::SpoolError;

/// What the name of a file says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Made ahead. With a header it is a segment in use whose new name is not there yet.
    Spare,
    Active,
    Sealed,
    /// A segment on its way to another file; the original is still there.
    Copy,
    /// An unsealed file that has no readable header: kept for a look, never collected.
    Damaged,
}

impl Role {
    const ALL: [Role; 5] = [Role::Spare, Role::Active, Role::Copy, Role::Damaged, Role::Sealed];

    fn prefix(self) -> &'static str {
        match self {
            Role::Spare => "spare-",
            Role::Active => "active-",
            Role::Copy => "copy-",
            Role::Damaged => "damaged-",
            Role::Sealed => "",
        }
    }
}

/// A segment's place in the world. No time is in it, so no clock can make it ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub stream: u128,
    pub segment: u32,
}

impl SegmentName {
    /// `[<role>-]<stream, 32 hex digits>-<segment, 10 digits>.weir`
    pub(crate) fn file(self, role: Role) -> String {
        format!("{}{:032x}-{:010}.weir", role.prefix(), self.stream, self.segment)
    }

    pub(crate) fn parse(file: &str) -> Option<(Role, SegmentName)> {
        let (role, rest) =
            Role::ALL.into_iter().find_map(|role| Some((role, file.strip_prefix(role.prefix())?)))?;
        let (stream, segment) = rest.strip_suffix(".weir")?.split_once('-')?;
        let name =
            SegmentName { stream: u128::from_str_radix(stream, 16).ok()?, segment: segment.parse().ok()? };
        // Only the one spelling, so that a name and its file are the same thing.
        (name.file(role) == file).then_some((role, name))
    }
}

/// Whose directories are accepted besides our own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    Owner,
    /// Root looks after the directories of other users (nginx's master, `weir tick`).
    Root,
}

/// An open spool directory.
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens an existing directory that nobody else can plant files in.
    pub(crate) fn open(path: &Path, trust: Trust) -> Result<Dir, SpoolError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Without a trailing slash, which would have the kernel follow a link.
        let dir: PathBuf = path.components().collect();
        let fd = match rustix::fs::open(&dir, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(SpoolError::Missing { dir }),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(SpoolError::NotADirectory { dir }),
            Err(e) => return Err(SpoolError::io("open directory", path, e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| SpoolError::io("look at", path, e))?;
        check_owner(path, &stat, trust)?;
        Ok(Dir { fd, path: dir })
    }

    /// Opens the directory and makes it (0750) where it is missing.
    pub(crate) fn open_or_create(path: &Path, trust: Trust) -> Result<Dir, SpoolError> {
        match Dir::open(path, trust) {
            Err(SpoolError::Missing { .. }) => {}
            other => return other,
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(path)
            .map_err(|e| SpoolError::io("create directory", path, e))?;
        Dir::open(path, trust)
    }

    pub(crate) fn join(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    pub(crate) fn error(&self, action: &'static str, file: &str, e: impl Into<io::Error>) -> SpoolError {
        SpoolError::io(action, &self.join(file), e)
    }

    /// All segment files, in no order; other files are none of our business.
    pub(crate) fn list(&self) -> Result<Vec<(Role, SegmentName)>, SpoolError> {
        let fail = |e: Errno| SpoolError::io("list", &self.path, e);
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_str().ok();
            found.extend(name.and_then(SegmentName::parse));
        }
        Ok(found)
    }

    pub(crate) fn stat(&self, file: &str) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Makes a new, empty file and locks it. Between the two a sweeper may have taken the file for an
    /// orphan and removed it: then it is made again.
    pub(crate) fn create_locked(&self, file: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let fd = rustix::fs::openat(&self.fd, file, flags, Mode::from_raw_mode(0o640))?;
            rustix::fs::flock(&fd, FlockOperation::LockExclusive)?;
            if is_linked(&fd)? {
                return Ok(File::from(fd));
            }
        }
    }

    /// Opens the file and takes its lock. `None` when somebody holds the lock or the file has gone.
    pub(crate) fn take_lock(&self, file: &str) -> Result<Option<File>, SpoolError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, file, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO) => {
                let path = self.join(file);
                return Err(SpoolError::NotAFile { path });
            }
            Err(e) => return Err(self.error("open", file, e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| self.error("look at", file, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let path = self.join(file);
            return Err(SpoolError::NotAFile { path });
        }
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(self.error("lock", file, e)),
        }
        // Between open and lock the owner may have sealed, that is renamed it.
        let same = |here: Stat| (here.st_dev, here.st_ino) == (stat.st_dev, stat.st_ino);
        Ok(self.stat(file).is_ok_and(same).then(|| File::from(fd)))
    }

    pub(crate) fn remove(&self, file: &str) -> rustix::io::Result<()> {
        rustix::fs::unlinkat(&self.fd, file, AtFlags::empty())
    }

    /// Renames without ever replacing a file, then makes the new name durable.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), SpoolError> {
        let renamed = rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE);
        match renamed {
            // File systems that know no NOREPLACE (NFS) get the same by a second link.
            Err(Errno::INVAL | Errno::NOSYS) => self.relink(from, to),
            other => other,
        }
        .map_err(|e| match e {
            Errno::EXIST => SpoolError::Exists { path: self.join(to) },
            e => self.error("rename", from, e),
        })?;
        self.sync()
    }

    fn relink(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty())?;
        self.remove(from)
    }

    /// Makes creations, renames and removals durable.
    pub(crate) fn sync(&self) -> Result<(), SpoolError> {
        rustix::fs::fsync(&self.fd).map_err(|e| SpoolError::io("sync", &self.path, e))
    }
}

/// Whether the open file still has a name.
pub(crate) fn is_linked(fd: impl AsFd) -> rustix::io::Result<bool> {
    Ok(rustix::fs::fstat(fd)?.st_nlink > 0)
}

fn check_owner(path: &Path, stat: &Stat, trust: Trust) -> Result<(), SpoolError> {
    let us = rustix::process::geteuid().as_raw();
    let dir = path.to_owned();
    if stat.st_mode & 0o002 != 0 {
        return Err(SpoolError::WorldWritable { dir });
    }
    let as_root = trust == Trust::Root && us == 0;
    if stat.st_uid != us && !as_root {
        let owner = stat.st_uid;
        return Err(SpoolError::Owner { dir, owner, us });
    }
    Ok(())
}

/// Reads a file from its start without moving a position that others share.
pub(crate) struct Positioned<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> Positioned<'a> {
    pub(crate) fn new(file: &'a File) -> Positioned<'a> {
        Positioned { file, at: 0 }
    }
}

impl Read for Positioned<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buf, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let name = SegmentName { stream: 0xabc, segment: 7 };
        for role in Role::ALL {
            assert_eq!(SegmentName::parse(&name.file(role)), Some((role, name)));
        }
        for other in ["", "x.weir", "abc-7.weir", "active-.weir", "weir.conf"] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
        assert_eq!(SegmentName::parse(&name.file(Role::Sealed).to_uppercase()), None);
    }

    #[test]
    fn a_lock_is_had_once() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path(), Trust::Owner).unwrap();
        let held = dir.create_locked("a").unwrap();
        assert!(dir.take_lock("a").unwrap().is_none());
        drop(held);
        let taken = dir.take_lock("a").unwrap();
        assert!(taken.is_some());
        assert!(dir.take_lock("missing").unwrap().is_none());
    }

    #[test]
    fn a_rename_replaces_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path(), Trust::Owner).unwrap();
        std::fs::write(dir.join("a"), "1").unwrap();
        std::fs::write(dir.join("b"), "2").unwrap();
        assert!(matches!(dir.rename("a", "b"), Err(SpoolError::Exists { .. })));
        assert_eq!(dir.relink("a", "b"), Err(Errno::EXIST));
        dir.rename("a", "c").unwrap();
        dir.relink("c", "d").unwrap();
        assert_eq!(std::fs::read(dir.join("d")).unwrap(), b"1");
        assert!(!dir.join("c").exists());
    }
}
