//! The mapping of a segment file that a pen writes to.

use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::guard::Guard;
use crate::pen::Memory;

/// A shared mapping of a whole file. Reached by raw pointers only: other processes may read the file
/// and the SIGBUS guard may replace pages at any time.
pub(crate) struct Mapped {
    // Declared, and so dropped, before the mapping: no range is guarded that is not ours any more.
    guard: Guard,
    map: MmapRaw,
}

impl Mapped {
    pub(crate) fn new(file: &File, bytes: usize) -> io::Result<Mapped> {
        let map = MmapOptions::new().len(bytes).map_raw(file)?;
        let guard = Guard::new(map.as_ptr() as usize, bytes).ok_or_else(|| {
            io::Error::other("more spool segments are mapped in this process than can be guarded")
        })?;
        Ok(Mapped { guard, map })
    }

    /// Whether something stored here did not reach the file.
    pub(crate) fn faulted(&self) -> bool {
        self.guard.faulted()
    }
}

impl Memory for Mapped {
    fn size(&self) -> usize {
        self.map.len()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.size() && bytes.len() <= self.size() - at);
        // SAFETY: the assertion keeps the write within the mapping, which lives as long as `self`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len()) }
    }

    fn publish(&mut self, at: usize, word: u32) {
        assert!(at.is_multiple_of(4) && at + 4 <= self.size());
        // SAFETY: within the mapping by the assertion; aligned, since the mapping begins at a page.
        let target = unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(at).cast()) };
        target.store(word.to_le(), Ordering::Release);
    }
}
