//! The writing end of the spool, one per worker process.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Record;
use crate::cap;
use crate::dir::{Dir, Trust};
use crate::error::SpoolError;
use crate::helper::{Helper, RESERVE_MIN, Retired, Shared, Spare, State, Tended};
use crate::mapped::Mapped;
use crate::names::{Card, Names};
use crate::options::SpoolOptions;
use crate::pen::{Pen, Refusal};
use crate::segment::{Reason, SegmentHeader};
use crate::sweep;
use crate::thread;

/// A segment without a record is sealed at this age all the same: it says that its worker lives.
const IDLE_US: u64 = 60_000_000;

/// Gauges of one writer. `written + lost` is the number of the next record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolCounts {
    /// Records booked.
    pub written: u64,
    /// Records that have a number but no place in the spool.
    pub lost: u64,
    /// Segments sealed.
    pub segments: u64,
    /// Records in old segments that this writer dropped to keep the cap, whoever wrote them.
    pub dropped: u64,
}

/// Appends records without system calls; all else is done by a helper thread. Open it after the fork,
/// in the process that appends.
pub struct SpoolWriter {
    gateway: String,
    boot: u128,
    stream: u128,
    seal_after_us: u64,
    shared: Arc<Shared>,
    helper: Option<JoinHandle<()>>,
    active: Option<Active>,
    /// Kept from segment to segment for its allocations; `None` while the active pen has it.
    names: Option<Names>,
    next: u64,
    lost: u64,
}

struct Active {
    pen: Pen<Mapped>,
    tended: Arc<Tended>,
    first_number: u64,
    begun_us: u64,
    /// When its first record came; what the age is counted from.
    since_us: Option<u64>,
}

impl SpoolWriter {
    /// For `nginx -t`: whether the options make sense and the directory is there and safe. Changes
    /// nothing. Root accepts any owner, since workers run as somebody else.
    pub fn check(options: &SpoolOptions) -> Result<(), SpoolError> {
        options.validate()?;
        Dir::open(&options.dir, Trust::Root).map(drop)
    }

    /// For nginx's master before it gives up its rights: makes the directory (0750) if it is missing,
    /// and hands a new one over to the workers' user and group ids.
    pub fn prepare(options: &SpoolOptions, owner: Option<(u32, u32)>) -> Result<(), SpoolError> {
        options.validate()?;
        let is_new = matches!(Dir::open(&options.dir, Trust::Root), Err(SpoolError::Missing { .. }));
        Dir::open_or_create(&options.dir, Trust::Root)?;
        match owner {
            Some((user, group)) if is_new => std::os::unix::fs::lchown(&options.dir, Some(user), Some(group))
                .map_err(|e| SpoolError::io("change the owner of", &options.dir, e)),
            _ => Ok(()),
        }
    }

    /// Opens the spool for this process, and seals what dead workers left. `boot`: [`crate::boot_id`].
    /// `stream`: random, never used before. `now_us`: microseconds since the Unix epoch.
    ///
    /// A full or failing disk is no error here: records are lost and counted until it recovers.
    pub fn open(
        options: SpoolOptions,
        boot: u128,
        stream: u128,
        now_us: u64,
    ) -> Result<SpoolWriter, SpoolError> {
        options.validate()?;
        let dir = Dir::open_or_create(&options.dir, Trust::Owner)?;
        let mut helper = new_helper(&options, boot, stream);
        // What cannot be sealed now is tried again by the next worker and by every `weir tick`.
        let swept = sweep::sweep(&dir, Some(boot)).map(drop);
        let provided = helper.provide_spare(&dir);
        helper.report(swept.and(provided));
        let mut writer = SpoolWriter {
            gateway: options.gateway,
            boot,
            stream,
            seal_after_us: options.seal_after_ms.saturating_mul(1000),
            shared: helper.shared.clone(),
            helper: None,
            active: None,
            names: Some(Names::new(stream as u64)),
            next: 0,
            lost: 0,
        };
        writer.shared.now_us.store(now_us, Ordering::Relaxed);
        writer.roll(now_us);
        writer.helper = Some(thread::spawn("weir-spool", || helper.run()).map_err(SpoolError::Thread)?);
        Ok(writer)
    }

    /// Books a finished request. No system call but once per segment. `false`: there was no room; the
    /// record is lost, but has used up its number, so that readers see that it is missing.
    pub fn append(&mut self, record: &Record<'_>) -> bool {
        self.append_known(record, &Cell::default())
    }

    /// The same for a record whose names are those that `card` was used with before, if it was used.
    pub fn append_known(&mut self, record: &Record<'_>, card: &Cell<Card>) -> bool {
        let done = self.write(record, card);
        if let Err(reason) = done {
            self.lost += 1;
            if let Some(active) = &mut self.active {
                active.pen.lose(self.next, reason);
            }
        }
        self.next += 1;
        self.shared.next.store(self.next, Ordering::Relaxed);
        if self.next >= self.shared.wake_at.load(Ordering::Relaxed) {
            self.shared.wake_at.store(u64::MAX, Ordering::Relaxed);
            self.shared.wake();
        }
        done.is_ok()
    }

    /// Call it about once a second: seals by age, leaves segments whose file failed.
    pub fn tick(&mut self, now_us: u64) {
        self.shared.now_us.store(now_us, Ordering::Relaxed);
        let due = match &mut self.active {
            Some(active) => active.is_due(now_us, self.seal_after_us),
            None => true,
        };
        if due && !self.roll(now_us) {
            self.shared.wake();
        }
    }

    pub fn counts(&self) -> SpoolCounts {
        let lost = self.lost.wrapping_add(self.shared.missing.load(Ordering::Relaxed));
        SpoolCounts {
            written: self.next.wrapping_sub(lost),
            lost,
            segments: self.shared.sealed.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }

    /// Whether the next segment stands ready. `false` for longer than some milliseconds means that
    /// records will be lost once the present segment is full.
    pub fn has_spare(&self) -> bool {
        self.shared.spare_ready.load(Ordering::Relaxed)
    }

    /// What went wrong with disk or directory since the last call, once per trouble: for the log.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.shared.take_trouble()
    }

    /// Seals what there is, ends the helper thread and returns the final counts.
    pub fn close(mut self, now_us: u64) -> SpoolCounts {
        self.finish(now_us);
        self.counts()
    }

    fn write(&mut self, record: &Record<'_>, card: &Cell<Card>) -> Result<(), Reason> {
        // A fresh segment has room for any record that is not refused, so the second round ends it.
        for _ in 0..2 {
            if let Some(active) = self.active.as_mut().filter(|active| !active.faulted()) {
                match active.append(self.next, record, card) {
                    Ok(()) => return Ok(()),
                    Err(Failure::Lost(reason)) => return Err(reason),
                    Err(Failure::Full) => {}
                }
            }
            if !self.roll(record.time_us) {
                break;
            }
        }
        let faulted = self.active.as_ref().is_some_and(Active::faulted);
        Err(if faulted { Reason::Fault } else { Reason::NoRoom })
    }

    /// Goes over to the spare, if there is one.
    fn roll(&mut self, now_us: u64) -> bool {
        if !self.shared.spare_ready.load(Ordering::Acquire) {
            return false;
        }
        let spare = {
            let mut state = self.shared.lock();
            self.shared.spare_ready.store(false, Ordering::Relaxed);
            state.spare.take()
        };
        let Some(spare) = spare else {
            return false;
        };
        let old = self.active.take();
        let shared = self.shared.clone();
        let mut state = shared.lock();
        if let Some(old) = old {
            self.retire(old, now_us, false, &mut state);
        }
        self.adopt(spare, now_us);
        state.current = self.active.as_ref().map(|active| active.tended.clone());
        drop(state);
        shared.wake();
        true
    }

    fn retire(&mut self, old: Active, now_us: u64, last: bool, state: &mut State) {
        let faulted = old.faulted();
        let written = self.next - old.first_number - old.pen.lost();
        let (map, names) = old.pen.end();
        self.names = Some(names);
        state.maps.push(map);
        state.retired.push(Retired {
            tended: old.tended,
            next_number: self.next,
            sealed_us: now_us,
            written,
            faulted,
            idle: self.next == old.first_number,
            last,
        });
    }

    fn adopt(&mut self, spare: Spare, now_us: u64) {
        let header = SegmentHeader {
            gateway: self.gateway.clone(),
            boot: self.boot,
            stream: self.stream,
            first_number: self.next,
            segment: spare.name.segment,
            created_us: now_us,
        };
        let names = self.names.take().unwrap_or_else(|| Names::new(self.stream as u64));
        let reserved = self.shared.reserved.load(Ordering::Relaxed).max(self.next + RESERVE_MIN);
        let tended = Arc::new(Tended::new(spare.file, spare.name, &header, reserved));
        self.active = Some(Active {
            pen: Pen::begin(spare.map, &header, reserved, names),
            tended,
            first_number: self.next,
            begun_us: now_us,
            since_us: None,
        });
    }

    fn finish(&mut self, now_us: u64) {
        let Some(helper) = self.helper.take() else {
            return;
        };
        let old = self.active.take();
        let shared = self.shared.clone();
        let mut state = shared.lock();
        if let Some(old) = old {
            self.retire(old, now_us, true, &mut state);
        }
        state.current = None;
        state.stop = true;
        drop(state);
        shared.wake();
        // A helper that panicked leaves its files to the next sweep.
        let _ = helper.join();
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        let now_us = self.shared.now_us.load(Ordering::Relaxed);
        self.finish(now_us);
    }
}

enum Failure {
    Full,
    Lost(Reason),
}

impl Active {
    fn append(&mut self, number: u64, record: &Record<'_>, card: &Cell<Card>) -> Result<(), Failure> {
        self.pen.append(number, record, card).map_err(|refusal| match refusal {
            Refusal::Full => Failure::Full,
            Refusal::TooLong => Failure::Lost(Reason::Refused),
        })?;
        self.since_us.get_or_insert(record.time_us);
        match self.faulted() {
            true => Err(Failure::Lost(Reason::Fault)),
            false => Ok(()),
        }
    }

    fn faulted(&self) -> bool {
        self.pen.memory.faulted()
    }

    fn is_due(&mut self, now_us: u64, seal_after_us: u64) -> bool {
        // A clock that was set back must not put the age off for as long.
        self.since_us = self.since_us.map(|since| since.min(now_us));
        self.begun_us = self.begun_us.min(now_us);
        let old = match self.since_us {
            Some(since) => now_us - since >= seal_after_us,
            None => now_us - self.begun_us >= IDLE_US,
        };
        old || self.faulted() || self.tended.is_suspect()
    }
}

fn new_helper(options: &SpoolOptions, boot: u128, stream: u128) -> Helper {
    let shared = Arc::new(Shared::default());
    shared.wake_at.store(RESERVE_MIN / 2, Ordering::Relaxed);
    Helper {
        shared,
        path: options.dir.clone(),
        stream,
        segment_bytes: options.segment_bytes,
        max_bytes: options.max_bytes,
        full: options.full,
        every: Duration::from_millis(options.sync_every_ms),
        note: SegmentHeader {
            gateway: options.gateway.clone(),
            boot,
            stream: cap::note_stream(stream),
            first_number: 0,
            segment: 0,
            created_us: 0,
        },
        next_segment: 0,
        unfinished: None,
        backlog: Vec::new(),
        idle: None,
        window: RESERVE_MIN,
        wake_at: RESERVE_MIN / 2,
        synced: 0,
        last_trouble: None,
    }
}
