//! The books of one worker: its spool, opened again when it had to be given up.

use std::cell::Cell;

use weir_metering::{Card, Record, SpoolError, SpoolOptions, SpoolWriter};

use crate::clock::Now;

/// After a failure to open the spool.
const RETRY_US: u64 = 10_000_000;

/// Where the records of one worker go.
pub struct Books {
    /// `None`: this gateway keeps no records.
    spool: Option<SpoolOptions>,
    writer: Option<SpoolWriter>,
    boot: u128,
    random: fn() -> u128,
    retry_us: u64,
    /// Records for which there was no spool.
    unwritten: u64,
    told_lost: u64,
}

impl Books {
    /// Nothing is opened yet. `boot` is this boot of the machine; `random` names streams.
    pub fn new(spool: Option<SpoolOptions>, boot: u128, random: fn() -> u128) -> Books {
        Books { spool, writer: None, boot, random, retry_us: 0, unwritten: 0, told_lost: 0 }
    }

    /// Opens the spool unless it is open or was tried just now.
    ///
    /// # Errors
    /// [`SpoolError`]; it is tried again in ten seconds.
    pub fn open(&mut self, now: Now) -> Result<(), SpoolError> {
        let Some(options) = self.spool.as_ref().filter(|_| self.writer.is_none()) else {
            return Ok(());
        };
        if now.unix_us < self.retry_us {
            return Ok(());
        }
        self.retry_us = now.unix_us.saturating_add(RETRY_US);
        let stream = (self.random)();
        self.writer = Some(SpoolWriter::open(options.clone(), self.boot, stream, now.unix_us)?);
        Ok(())
    }

    /// Whether the record was written; `None` where no records are kept. For `card` see
    /// [`SpoolWriter::append_known`].
    pub fn append(&mut self, record: &Record<'_>, card: &Cell<Card>) -> Option<bool> {
        let written = match &mut self.writer {
            // What the writer loses it counts itself, in the numbers of the stream.
            Some(writer) => writer.append_known(record, card),
            None => {
                self.spool.as_ref()?;
                self.unwritten += 1;
                false
            }
        };
        Some(written)
    }

    pub fn tick(&mut self, now: Now) {
        if let Some(writer) = &mut self.writer {
            writer.tick(now.unix_us);
        }
    }

    /// What the spool's helper thread ran into since this was last asked.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.writer.as_mut()?.take_trouble()
    }

    /// Records lost since this was last asked.
    pub fn newly_lost(&mut self) -> u64 {
        let lost = self.lost();
        let new = lost.saturating_sub(self.told_lost);
        self.told_lost = lost;
        new
    }

    /// Records lost since the worker started.
    pub fn lost(&self) -> u64 {
        self.unwritten + self.writer.as_ref().map_or(0, |writer| writer.counts().lost)
    }

    /// Seals the spool.
    pub fn close(self, now: Now) {
        if let Some(writer) = self.writer {
            writer.close(now.unix_us);
        }
    }
}
