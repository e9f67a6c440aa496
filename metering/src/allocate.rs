//! Room on disk, taken before it is needed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

const CHUNK: usize = 64 << 10;

/// Takes the room on disk now, so that a full disk shows here and not as a fault in the worker.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => fill(file, bytes)?,
        Err(e) => return Err(e.into()),
    }
    file.sync_all()
}

/// Brings the file into memory, in pieces: a worker's first store to a page that is on disk alone
/// takes five times as long. Nothing is written by it.
pub(crate) fn warm(file: &File, bytes: u64) -> io::Result<()> {
    let mut piece = [0; CHUNK];
    for at in (0..bytes).step_by(CHUNK) {
        file.read_at(&mut piece, at)?;
    }
    Ok(())
}

fn fill(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = [0; CHUNK];
    for at in (0..bytes).step_by(CHUNK) {
        let count = (bytes - at).min(zeros.len() as u64) as usize;
        file.write_all_at(&zeros[..count], at)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_allocating_give_zeros_that_take_room() {
        let temp = tempfile::tempdir().unwrap();
        for (name, by) in [("a", allocate as fn(&File, u64) -> io::Result<()>), ("b", fill)] {
            let path = temp.path().join(name);
            let file = File::create_new(&path).unwrap();
            by(&file, 200_000).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), vec![0; 200_000]);
            file.sync_all().unwrap();
            assert!(rustix::fs::fstat(&file).unwrap().st_blocks * 512 >= 200_000);
        }
    }
}
