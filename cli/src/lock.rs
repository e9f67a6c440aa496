//! Keeps two ticks on one machine from doing the same work twice. Nothing depends on it but speed.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Held until dropped.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks a file; `None` when another process has it.
    pub fn take(path: &Path) -> io::Result<Option<Lock>> {
        let file = File::open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let first = Lock::take(file.path()).unwrap();
        assert!(first.is_some() && Lock::take(file.path()).unwrap().is_none());
        drop(first);
        assert!(Lock::take(file.path()).unwrap().is_some());
    }
}
