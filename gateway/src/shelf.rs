//! Compiled policies where all workers of a gateway find them: one compiles, all map the same bytes.
//!
//! A file in a directory of the gateway, named after the policy's version. It is written under another
//! name and renamed, and never changed; one that is removed lives on as long as it is mapped. So there
//! is nothing to clean up after a worker that died, nothing that a reload has to hand over, and a
//! worker of another weir writes a file of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use rustix::event::{Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use weir_policy::{IMAGE_FORMAT, Tables};

/// How often is tried, and for how long, while another worker compiles. Then this one does so for itself:
/// the other may be stopped.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
const TRIES: u32 = 750;

/// Held while compiling. The kernel lets go of it when its owner dies.
const LOCK: &str = "policy.lock";
const IMAGE: &str = "policy-";

/// Where compiled policies are kept; without a directory each worker has its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    dir: Option<PathBuf>,
}

/// Tables, and what is wrong on the shelf, if anything is.
pub(crate) struct Found {
    pub tables: Arc<Tables>,
    pub troubles: Vec<String>,
}

impl Shelf {
    pub fn new(dir: Option<PathBuf>) -> Shelf {
        Shelf { dir }
    }

    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The tables of a version, from the image that `compile` gives if no other worker has put it there.
    ///
    /// # Errors
    /// What `compile` says.
    pub fn tables<E>(&self, version: u64, compile: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Found, E> {
        let Some(dir) = &self.dir else {
            return Ok(Found { tables: own(compile()?), troubles: Vec::new() });
        };
        let path = Shelf::image(dir, version);
        let (lock, unlocked) = match wait(dir, || open(&path, version).ok()) {
            Waited::Found(tables) => return Ok(Found { tables, troubles: Vec::new() }),
            Waited::Locked(lock) => (Some(lock), None),
            Waited::Failed(error) => (None, Some(error)),
        };
        let damaged = damage(&path, version).filter(|_| lock.is_some());
        let image = compile()?;
        let kept = match unlocked {
            Some(error) => Err(error),
            None => put(&path, &image).and_then(|()| open(&path, version)),
        };
        if kept.is_ok() {
            remove_others(dir, &path);
        }
        drop(lock);
        let mut troubles = Vec::from_iter(damaged);
        let tables = kept.unwrap_or_else(|error| {
            troubles.push(format!(
                "this worker has the compiled policy for itself, it can't be shared in {}: {error}",
                dir.display()
            ));
            own(image)
        });
        Ok(Found { tables, troubles })
    }

    fn image(dir: &Path, version: u64) -> PathBuf {
        dir.join(format!("{IMAGE}{version:016x}.{IMAGE_FORMAT}.image"))
    }

    /// Has `keep` write something beside the image of a version, by one worker after each change of the
    /// image: the others find that `file` is younger.
    pub fn beside<T>(&self, version: u64, file: &str, keep: impl FnOnce(&Path) -> T) -> Option<T> {
        let dir = self.dir.as_ref()?;
        let file = dir.join(file);
        let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let image = changed(&Shelf::image(dir, version));
        match wait(dir, || (image.is_some() && changed(&file) >= image).then_some(())) {
            Waited::Found(()) => None,
            // Without the lock several may do it, which does no harm.
            Waited::Locked(_) | Waited::Failed(_) => Some(keep(&file)),
        }
    }
}

/// What a worker has for itself.
fn own(image: Vec<u8>) -> Arc<Tables> {
    Tables::open(Box::new(image)).unwrap_or_else(|_| Tables::none()).into()
}

enum Waited<T> {
    Found(T),
    Locked(File),
    Failed(io::Error),
}

/// Until somebody has done what `look` looks for, or this worker is the one to do it.
fn wait<T>(dir: &Path, look: impl Fn() -> Option<T>) -> Waited<T> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK));
    let file = match open {
        Ok(file) => file,
        Err(error) => return look().map_or(Waited::Failed(error), Waited::Found),
    };
    for _ in 0..TRIES {
        if let Some(tables) = look() {
            return Waited::Found(tables);
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // It may have been done between the look and the lock.
            Ok(()) => return look().map_or(Waited::Locked(file), Waited::Found),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return Waited::Failed(error.into()),
        }
        let _ = poll(&mut [], Some(&PAUSE));
    }
    Waited::Failed(io::Error::other(format!("another process holds {LOCK}")))
}

/// What is there, if it is whole and of this version.
fn open(path: &Path, version: u64) -> io::Result<Arc<Tables>> {
    let file = File::open(path)?;
    // SAFETY: nobody changes a file of this name: each is written under another name, then renamed. It
    // lies in a directory that only this gateway writes to, as its spool does.
    let map = unsafe { Mmap::map(&file) }?;
    let tables = Tables::open(Box::new(map)).map_err(io::Error::other)?;
    if tables.version() != version {
        return Err(io::Error::other(format!("it is policy {:016x}", tables.version())));
    }
    Ok(tables.into())
}

/// Why what is there is of no use, though it should be: it is written anew.
fn damage(path: &Path, version: u64) -> Option<String> {
    let error = open(path, version).err().filter(|error| error.kind() != io::ErrorKind::NotFound)?;
    let path = path.display();
    Some(format!(
        "the compiled policy {path} is of no use and is made anew: {error}; if this comes again, look at the \
         disk and at who else writes there"
    ))
}

fn put(path: &Path, image: &[u8]) -> io::Result<()> {
    let half = path.with_extension("half");
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half);
    let written = written.and_then(|mut file| file.write_all(image));
    written.and_then(|()| fs::rename(&half, path)).inspect_err(|_| drop(fs::remove_file(&half)))
}

/// Older ones, and what workers left that died while they wrote. A failure costs disk space, and the
/// next policy tries again.
fn remove_others(dir: &Path, own: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_one = entry.file_name().to_str().is_some_and(|name| {
            name.starts_with(IMAGE) && (name.ends_with(".image") || name.ends_with(".half"))
        });
        if is_one && entry.path() != own {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const TEXT: &str = "[tiers.t]\nlimits = [\"1 requests/minute\"]\n";

    fn images(dir: &Path) -> Vec<PathBuf> {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "image" || end == "half")).collect()
    }

    fn find(shelf: &Shelf, text: &str) -> (Found, bool) {
        let mut compiled = false;
        let found = shelf.tables(weir_policy::version_of(text.as_bytes()), || {
            compiled = true;
            weir_policy::parse(text).map(|policy| Tables::image(&policy))
        });
        (found.unwrap_or_else(|problems| panic!("{problems:?}")), compiled)
    }

    #[test]
    fn one_compiles_and_all_others_find_it() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Some(dir.path().to_owned()));
        let compiled = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let (found, own) = find(&shelf, TEXT);
                    compiled.fetch_add(usize::from(own), Ordering::Relaxed);
                    assert_eq!(found.tables.version(), weir_policy::version_of(TEXT.as_bytes()));
                    assert_eq!(found.troubles, Vec::<String>::new());
                });
            }
        });
        assert_eq!(compiled.load(Ordering::Relaxed), 1);
        let (next, _) = find(&shelf, &TEXT.replace('1', "2"));
        assert_eq!(images(dir.path()).len(), 1, "the old one is gone");
        assert_ne!(next.tables.version(), weir_policy::version_of(TEXT.as_bytes()));
    }

    #[test]
    fn a_damaged_or_foreign_one_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Some(dir.path().to_owned()));
        find(&shelf, TEXT);
        let [path] = images(dir.path()).try_into().unwrap();
        let good = fs::read(&path).unwrap();
        let mut damaged = good.clone();
        damaged[good.len() / 2] ^= 1;
        let other = weir_policy::parse(&TEXT.replace('1', "2")).unwrap();
        for bad in [&damaged[..], &good[..good.len() - 1], b"", b"foreign", &Tables::image(&other)] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, bad).unwrap();
            // What a worker leaves that died while it wrote.
            fs::write(path.with_extension("half"), &good[..20]).unwrap();
            let (found, compiled) = find(&shelf, TEXT);
            let [trouble] = found.troubles.try_into().unwrap();
            assert!(compiled && trouble.contains(&path.display().to_string()), "{trouble}");
            assert!(trouble.contains("is made anew: ") && trouble.contains("look at the disk"), "{trouble}");
            assert_eq!(images(dir.path()), std::slice::from_ref(&path));
        }
        let (found, compiled) = find(&shelf, TEXT);
        assert!(!compiled && found.troubles.is_empty(), "it is told once");
    }

    #[test]
    fn one_worker_keeps_what_belongs_beside_an_image() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Some(dir.path().to_owned()));
        let (found, _) = find(&shelf, TEXT);
        let version = found.tables.version();
        let keep = || shelf.beside(version, "text", |path| fs::write(path, TEXT).unwrap());
        assert_eq!((keep(), keep(), keep()), (Some(()), None, None));
        // An image that was made anew: what is kept may be of another one.
        let image = File::options().write(true).open(&images(dir.path())[0]).unwrap();
        let later = image.metadata().unwrap().modified().unwrap() + std::time::Duration::from_secs(60);
        image.set_modified(later).unwrap();
        assert_eq!(keep(), Some(()));
        assert_eq!(Shelf::default().beside(version, "text", |_| ()), None);
    }

    #[test]
    fn what_cannot_be_shared_is_used_all_the_same() {
        let (found, compiled) = find(&Shelf::new(Some("/nowhere".into())), TEXT);
        assert!(compiled && found.troubles[0].contains("/nowhere"));
        assert!(find(&Shelf::default(), TEXT).0.troubles.is_empty());
    }

    #[test]
    fn a_policy_with_faults_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Some(dir.path().to_owned()));
        assert!(shelf.tables(7, || Err("faults")).is_err_and(|why| why == "faults"));
        assert!(images(dir.path()).is_empty());
        assert!(find(&shelf, TEXT).1, "and the lock is free");
    }
}
