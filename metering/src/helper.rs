//! The thread beside a worker that does all that may block: files made ahead, syncs, sealing, the cap.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use crate::allocate::{allocate, warm};
use crate::cap::{self, Cap};
use crate::dir::{self, Dir, Role, SegmentName, Trust};
use crate::error::SpoolError;
use crate::mapped::Mapped;
use crate::options::Full;
use crate::seal::{self, Outcome, Sealer, Unsealed};
use crate::segment::{Mark, SegmentHeader};

/// Numbers reserved ahead at least; about what a power cut takes from a quiet gateway, at most.
pub(crate) const RESERVE_MIN: u64 = 1024;
const RESERVE_MAX: u64 = 1 << 22;
/// How often a segment without new records is told that its worker lives.
const ALIVE_EVERY_SECS: u32 = 5;

/// A segment that a worker writes, as far as the helper tends it.
pub(crate) struct Tended {
    pub file: File,
    pub name: SegmentName,
    pub seed: u32,
    created_us: u64,
    /// The life that is noted in it, and its reservation.
    alive_secs: AtomicU32,
    reserved: AtomicU64,
    /// Whether it has its `active-` name yet.
    activated: AtomicBool,
    /// A sync failed or the file was removed: the worker should leave it.
    suspect: AtomicBool,
    /// Which slot of the reservation is the older one.
    turn: AtomicBool,
}

impl Tended {
    /// `reserved` stands in the segment already.
    pub(crate) fn new(spare: File, name: SegmentName, header: &SegmentHeader, reserved: u64) -> Tended {
        Tended {
            file: spare,
            name,
            seed: header.seed(),
            created_us: header.created_us,
            alive_secs: AtomicU32::new(0),
            reserved: AtomicU64::new(reserved),
            activated: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            turn: AtomicBool::new(true),
        }
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Seconds from its creation to a moment.
    fn secs(&self, now_us: u64) -> u32 {
        u32::try_from(now_us.saturating_sub(self.created_us) / 1_000_000).unwrap_or(u32::MAX)
    }

    /// Writes the mark of a reservation, which also says that the worker lives.
    fn note(&self, reserved: u64, secs: u32) -> io::Result<()> {
        let mark = Mark::Reserved.encode(self.seed, reserved, secs);
        let turn = self.turn.fetch_not(Ordering::Relaxed);
        self.alive_secs.store(secs, Ordering::Relaxed);
        self.reserved.store(reserved, Ordering::Relaxed);
        self.file.write_all_at(&mark, Mark::Reserved.at(turn) as u64)
    }

    fn role(&self) -> Role {
        match self.activated.load(Ordering::Relaxed) {
            true => Role::Active,
            false => Role::Spare,
        }
    }
}

/// A segment made ahead: locked, allocated, synced, mapped, all zero.
pub(crate) struct Spare {
    pub file: File,
    pub name: SegmentName,
    pub map: Mapped,
}

/// A segment that its worker has left.
pub(crate) struct Retired {
    pub tended: Arc<Tended>,
    pub next_number: u64,
    pub sealed_us: u64,
    /// How many records the worker believes to be in it.
    pub written: u64,
    pub faulted: bool,
    /// Whether nothing was booked in it: all it says is that its worker lived.
    pub idle: bool,
    /// Whether the worker ends with it.
    pub last: bool,
}

#[derive(Default)]
pub(crate) struct State {
    pub spare: Option<Spare>,
    pub current: Option<Arc<Tended>>,
    pub retired: Vec<Retired>,
    /// Mappings of retired segments, unmapped here rather than in the worker.
    pub maps: Vec<Mapped>,
    pub stop: bool,
    woken: bool,
    trouble: Option<String>,
}

/// What worker and helper share. The lock is never held across anything that blocks.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    bell: Condvar,
    pub spare_ready: AtomicBool,
    /// Number of the next record.
    pub next: AtomicU64,
    /// From this number on the worker calls for a further reservation.
    pub wake_at: AtomicU64,
    /// Numbers below this may be used up before the next sync.
    pub reserved: AtomicU64,
    pub now_us: AtomicU64,
    /// Records that turned out to be missing from a retired segment (modulo 2^64).
    pub missing: AtomicU64,
    pub sealed: AtomicU64,
    pub dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole at every point where a panic could be.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self) {
        self.lock().woken = true;
        self.bell.notify_one();
    }

    pub(crate) fn take_trouble(&self) -> Option<String> {
        self.lock().trouble.take()
    }

    fn wait(&self, longest: Duration) {
        let idle = |state: &mut State| !state.woken && !state.stop;
        let waited = self.bell.wait_timeout_while(self.lock(), longest, idle);
        waited.unwrap_or_else(PoisonError::into_inner).0.woken = false;
    }
}

pub(crate) struct Helper {
    pub shared: Arc<Shared>,
    pub path: PathBuf,
    pub stream: u128,
    pub segment_bytes: u64,
    pub max_bytes: u64,
    pub full: Full,
    pub every: Duration,
    /// Header of the next note of dropped records.
    pub note: SegmentHeader,
    /// Index of the next spare.
    pub next_segment: u32,
    /// A spare that no room was found for; kept so that a full disk is not asked for inodes again.
    pub unfinished: Option<File>,
    /// Retired segments whose sealing failed.
    pub backlog: Vec<Retired>,
    /// The segment sealed last, if nothing was booked in it.
    pub idle: Option<u32>,
    /// How far ahead numbers are reserved.
    pub window: u64,
    /// `Shared::wake_at` as set last; the worker overwrites that one when it calls.
    pub wake_at: u64,
    /// `Shared::next` when last synced.
    pub synced: u64,
    pub last_trouble: Option<String>,
}

impl Helper {
    pub(crate) fn run(mut self) {
        loop {
            self.shared.wait(self.every);
            let (current, retired, maps, stop) = {
                let mut state = self.shared.lock();
                let retired = std::mem::take(&mut state.retired);
                let maps = std::mem::take(&mut state.maps);
                (state.current.clone(), retired, maps, state.stop)
            };
            drop(maps);
            self.backlog.extend(retired);
            let done = self.pass(current.as_deref(), stop);
            self.report(done);
            if stop {
                return;
            }
        }
    }

    /// The order counts: the segment in use is durable before its predecessor is sealed, so that a
    /// power cut never leaves an exact end with lost records behind it.
    fn pass(&mut self, current: Option<&Tended>, stop: bool) -> Result<(), SpoolError> {
        let dir = Dir::open_or_create(&self.path, Trust::Owner)?;
        let tended = current.map_or(Ok(()), |current| self.tend(&dir, current));
        let sealed = self.seal_backlog(&dir);
        let spare = match stop {
            true => self.remove_spare(&dir),
            false => self.provide_spare(&dir),
        };
        tended.and(sealed).and(spare)
    }

    /// Keeps the first report of each trouble for [`Shared::take_trouble`].
    pub(crate) fn report(&mut self, done: Result<(), SpoolError>) {
        let trouble = done.err().map(|e| e.to_string());
        if trouble.is_some() && trouble != self.last_trouble {
            self.shared.lock().trouble = trouble.clone();
        }
        self.last_trouble = trouble;
    }

    fn tend(&mut self, dir: &Dir, current: &Tended) -> Result<(), SpoolError> {
        let file = current.name.file(current.role());
        if !dir::is_linked(&current.file).unwrap_or(false) {
            current.suspect.store(true, Ordering::Relaxed);
            return Err(dir.error("find", &file, Errno::NOENT));
        }
        let next = self.shared.next.load(Ordering::Relaxed);
        let secs = current.secs(self.shared.now_us.load(Ordering::Relaxed));
        let noted = if next != self.synced || current.role() == Role::Spare {
            self.sync(current, next, secs)
        } else if secs >= current.alive_secs.load(Ordering::Relaxed) + ALIVE_EVERY_SECS {
            // Not synced: whoever kills the worker leaves it, and a power cut costs some seconds.
            current.note(current.reserved.load(Ordering::Relaxed), secs)
        } else {
            Ok(())
        };
        noted.map_err(|e| {
            current.suspect.store(true, Ordering::Relaxed);
            dir.error("sync", &file, e)
        })?;
        if current.role() == Role::Spare {
            dir.rename(&file, &current.name.file(Role::Active))?;
            current.activated.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reserves numbers ahead, then makes all that was appended durable.
    fn sync(&mut self, current: &Tended, next: u64, secs: u32) -> io::Result<()> {
        let early = next >= self.wake_at;
        let used = next - self.synced;
        self.window = if early { self.window * 2 } else { (used * 4).max(self.window / 2) };
        self.window = self.window.clamp(RESERVE_MIN, RESERVE_MAX);
        let reserved = next + self.window;
        current.note(reserved, secs)?;
        current.file.sync_data()?;
        self.synced = next;
        self.wake_at = next + self.window / 2;
        self.shared.reserved.store(reserved, Ordering::Relaxed);
        self.shared.wake_at.store(self.wake_at, Ordering::Relaxed);
        Ok(())
    }

    fn seal_backlog(&mut self, dir: &Dir) -> Result<(), SpoolError> {
        let mut failure = None;
        for retired in std::mem::take(&mut self.backlog) {
            match seal_retired(dir, &retired) {
                Ok(outcome) => {
                    self.count(&retired, outcome);
                    self.thin_out(dir, &retired);
                }
                Err(e) => {
                    failure = Some(e);
                    retired.tended.suspect.store(true, Ordering::Relaxed);
                    self.backlog.push(retired);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Signs of life do not pile up where nobody collects them: of several in a row the last says all,
    /// but for the first one, which says since when.
    fn thin_out(&mut self, dir: &Dir, retired: &Retired) {
        let name = retired.tended.name;
        if let Some(before) = self.idle.filter(|before| *before > 0 && *before + 1 == name.segment) {
            // One that a collector has taken meanwhile is gone already.
            let _ = dir.remove(&SegmentName { segment: before, ..name }.file(Role::Sealed));
        }
        self.idle = retired.idle.then_some(name.segment);
    }

    /// Only a fault makes the file differ from what the worker stored.
    fn count(&self, retired: &Retired, outcome: Outcome) {
        if retired.faulted {
            let missing = retired.written.wrapping_sub(outcome.records());
            self.shared.missing.fetch_add(missing, Ordering::Relaxed);
        }
        let sealed = u64::from(matches!(outcome, Outcome::Sealed(_)));
        self.shared.sealed.fetch_add(sealed, Ordering::Relaxed);
    }

    /// Makes a spare where there is none.
    pub(crate) fn provide_spare(&mut self, dir: &Dir) -> Result<(), SpoolError> {
        self.discard_unlinked_spare();
        if self.shared.lock().spare.is_some() {
            return Ok(());
        }
        self.make_room(dir)?;
        let name = self.next_name();
        let spare =
            self.make_spare(dir, name).map_err(|e| dir.error("allocate", &name.file(Role::Spare), e))?;
        dir.sync()?;
        self.next_segment += 1;
        let mut state = self.shared.lock();
        state.spare = Some(spare);
        self.shared.spare_ready.store(true, Ordering::Release);
        Ok(())
    }

    fn next_name(&self) -> SegmentName {
        SegmentName { stream: self.stream, segment: self.next_segment }
    }

    fn make_room(&mut self, dir: &Dir) -> Result<(), SpoolError> {
        let cap = Cap { max_bytes: self.max_bytes, needed: self.segment_bytes, full: self.full };
        self.note.created_us = self.shared.now_us.load(Ordering::Relaxed);
        let room = cap::make_room(dir, &cap, &mut self.note)?;
        self.shared.dropped.fetch_add(room.dropped, Ordering::Relaxed);
        let (dir, max_bytes) = (self.path.clone(), self.max_bytes);
        room.room.then_some(()).ok_or(SpoolError::AtCap { dir, max_bytes })
    }

    fn make_spare(&mut self, dir: &Dir, name: SegmentName) -> io::Result<Spare> {
        let kept = self.unfinished.take().filter(|f| dir::is_linked(f).unwrap_or(false));
        let file = kept.map_or_else(|| dir.create_locked(&name.file(Role::Spare)), Ok)?;
        if let Err(e) = allocate(&file, self.segment_bytes) {
            let _ = file.set_len(0);
            self.unfinished = Some(file);
            return Err(e);
        }
        warm(&file, self.segment_bytes)?;
        let map = Mapped::new(&file, self.segment_bytes as usize)?;
        Ok(Spare { file, name, map })
    }

    fn discard_unlinked_spare(&self) {
        let mut state = self.shared.lock();
        let gone = |spare: &mut Spare| !dir::is_linked(&spare.file).unwrap_or(false);
        let discarded = state.spare.take_if(gone);
        if discarded.is_some() {
            self.shared.spare_ready.store(false, Ordering::Release);
        }
        // Unmapping may block, so it comes after the lock.
        drop(state);
        drop(discarded);
    }

    fn remove_spare(&mut self, dir: &Dir) -> Result<(), SpoolError> {
        let spare = self.shared.lock().spare.take();
        if let Some(spare) = spare {
            let file = spare.name.file(Role::Spare);
            dir.remove(&file).map_err(|e| dir.error("remove", &file, e))?;
        }
        if self.unfinished.take().is_some() {
            let file = self.next_name().file(Role::Spare);
            dir.remove(&file).map_err(|e| dir.error("remove", &file, e))?;
        }
        Ok(())
    }
}

fn seal_retired(dir: &Dir, retired: &Retired) -> Result<Outcome, SpoolError> {
    let tended = &retired.tended;
    let unlinked = !dir::is_linked(&tended.file).unwrap_or(false);
    let from = Unsealed {
        file: &tended.file,
        name: tended.name,
        role: tended.role(),
        suspect: unlinked || tended.is_suspect(),
    };
    let Retired { next_number, sealed_us, last, .. } = *retired;
    let sealer = Sealer::Owner { next_number, sealed_us, last };
    seal::seal(dir, &from, sealer, &File::sync_all)
}
