//! Looks after the segments of workers that are gone.

use std::fs::File;
use std::path::Path;

use crate::dir::{Dir, Role, SegmentName, Trust};
use crate::error::SpoolError;
use crate::reader::Segment;
use crate::seal::{Outcome, Sealer, Unsealed, seal};

/// This boot of the machine, as Linux names it. `None` where /proc is not there.
pub fn boot_id() -> Option<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

/// Seals every segment in `dir` whose owner is gone, and removes spares without owner. Returns how
/// many were sealed. Safe against other sweepers and against owners at work: all of them hold the
/// segment's lock. One file that cannot be sealed does not keep the others from it; its error is
/// returned when all have been tried.
pub fn seal_orphans(dir: &Path) -> Result<usize, SpoolError> {
    sweep(&Dir::open(dir, Trust::Root)?, boot_id())
}

pub(crate) fn sweep(dir: &Dir, boot: Option<u128>) -> Result<usize, SpoolError> {
    let mut sealed = 0;
    let mut failure = None;
    for (role, name) in dir.list()? {
        if !matches!(role, Role::Active | Role::Spare | Role::Copy) {
            continue;
        }
        match adopt(dir, role, name, boot) {
            Ok(Some(Outcome::Sealed(_))) => sealed += 1,
            Ok(_) => {}
            Err(e) => failure = failure.or(Some(e)),
        }
    }
    failure.map_or(Ok(sealed), Err)
}

fn adopt(
    dir: &Dir,
    role: Role,
    name: SegmentName,
    boot: Option<u128>,
) -> Result<Option<Outcome>, SpoolError> {
    let current = name.file(role);
    let Some(file) = dir.take_lock(&current)? else {
        return Ok(None);
    };
    let sealed_exists = dir.stat(&name.file(Role::Sealed)).is_ok();
    if role == Role::Copy || (sealed_exists && same_numbers(dir, &file, name)) {
        dir.remove(&current).map_err(|e| dir.error("remove", &current, e))?;
        return Ok(Some(Outcome::Removed));
    }
    let from = Unsealed { file: &file, name, role, suspect: false };
    seal(dir, &from, Sealer::Successor { boot }, &File::sync_all).map(Some)
}

/// Whether the sealed file has all that the unsealed one has: then a sealer died after it had written
/// the content anew and before it removed the original.
fn same_numbers(dir: &Dir, unsealed: &File, name: SegmentName) -> bool {
    let sealed = Segment::open(dir.join(&name.file(Role::Sealed)));
    match (Segment::read(unsealed), sealed) {
        (Ok(old), Ok(new)) => old.header() == new.header() && old.content() == new.content(),
        _ => false,
    }
}
