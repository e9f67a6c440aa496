//! Decodes a segment's entries into records and gaps.

use std::collections::VecDeque;

use crate::entries::{RawEntries, RawEntry, read_dropped, read_loss, record_number};
use crate::reader::{Entry, Gap, Segment};
use crate::segment::{Kind, Reason};
use crate::varint::Cursor;
use crate::{Decision, Record};

#[derive(Clone, Copy)]
enum Definition<'a> {
    Name(&'a str),
    Policy(u64),
}

/// Iterates over the entries of a segment; made by [`Segment::records`].
pub struct Records<'a> {
    segment: &'a Segment,
    entries: RawEntries<'a>,
    definitions: Vec<Option<Definition<'a>>>,
    /// The number that the next record has if none is missing.
    expected: u64,
    /// The gap that may still grow.
    gap: Option<Gap>,
    ready: VecDeque<Entry<'a>>,
    finished: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(entry);
            }
            if self.finished {
                return None;
            }
            match self.entries.next() {
                Some(raw) => self.take(&raw),
                None => self.finish(),
            }
        }
    }
}

impl<'a> Records<'a> {
    pub(crate) fn new(segment: &'a Segment) -> Records<'a> {
        Records {
            segment,
            entries: RawEntries::new(segment.header(), segment.bytes()),
            definitions: Vec::new(),
            expected: segment.header().first_number,
            gap: None,
            ready: VecDeque::new(),
            finished: false,
        }
    }

    /// Bodies that check but make no sense are left alone: their numbers come out as a gap.
    fn take(&mut self, raw: &RawEntry<'a>) {
        match raw.kind {
            Some(Kind::Name) => {
                self.define(raw.body, |rest| Some(Definition::Name(std::str::from_utf8(rest).ok()?)))
            }
            Some(Kind::Policy) => self.define(raw.body, |rest| {
                let version = Cursor::new(rest).array()?;
                Some(Definition::Policy(u64::from_le_bytes(version)))
            }),
            Some(Kind::Record) => self.take_record(raw.body),
            Some(Kind::Loss) => self.take_loss(raw.body),
            Some(Kind::Dropped) => self.ready.extend(read_dropped(raw.body)),
            Some(Kind::End) | None => {}
        }
    }

    fn define(&mut self, body: &'a [u8], read: impl Fn(&'a [u8]) -> Option<Definition<'a>>) {
        let mut cursor = Cursor::new(body);
        let id = cursor.varint().and_then(|id| usize::try_from(id).ok());
        // Every definition takes at least 16 bytes, so a higher id than that is nonsense, and the
        // list stays smaller than the file.
        let Some(id) = id.filter(|id| *id < self.segment.bytes().len() / 16) else {
            return;
        };
        if self.definitions.len() <= id {
            self.definitions.resize(id + 1, None);
        }
        self.definitions[id] = read(cursor.rest());
    }

    fn take_record(&mut self, body: &'a [u8]) {
        let Some(number) = record_number(self.segment.header(), body) else {
            return;
        };
        // A number that was passed already would be a second copy; there is no number after the last.
        if number < self.expected || number == u64::MAX {
            return;
        }
        self.missing(self.expected, number, Reason::Damaged);
        match self.decode(body) {
            Some(record) => {
                self.flush_gap();
                self.ready.push_back(Entry::Record { number, record });
                self.expected = number + 1;
            }
            None => self.missing(number, number + 1, Reason::NameDamaged),
        }
    }

    fn take_loss(&mut self, body: &[u8]) {
        let Some(loss) = read_loss(self.segment.header(), body) else {
            return;
        };
        if loss.to <= self.expected {
            return;
        }
        self.missing(self.expected, loss.from, Reason::Damaged);
        self.missing(self.expected, loss.to, loss.reason);
    }

    fn missing(&mut self, from: u64, to: u64, reason: Reason) {
        if from >= to {
            return;
        }
        self.expected = to;
        match &mut self.gap {
            Some(gap) if gap.to == from && gap.reason == reason => gap.to = to,
            _ => {
                self.flush_gap();
                self.gap = Some(Gap { from, to, reason });
            }
        }
    }

    fn flush_gap(&mut self) {
        self.ready.extend(self.gap.take().map(Entry::Gap));
    }

    fn finish(&mut self) {
        let end = self.segment.next_number();
        let reason = match self.segment.lost_mark() {
            Some((lost, reason)) if lost == end => reason,
            _ => Reason::Damaged,
        };
        self.missing(self.expected, end, reason);
        self.flush_gap();
        self.finished = true;
    }

    fn decode(&self, body: &[u8]) -> Option<Record<'a>> {
        let mut body = Cursor::new(body);
        let _number = body.varint()?;
        let time_us = self.segment.header().created_us.wrapping_add_signed(body.signed()?);
        let flags = body.byte()?;
        Some(Record {
            time_us,
            decision: Decision::from_code(flags & 0x0f)?,
            status: u16::try_from(body.varint()?).ok()?,
            client: self.name(&mut body)?,
            tier: self.name(&mut body)?,
            endpoint: self.name(&mut body)?,
            method: self.name(&mut body)?,
            limit: self.name(&mut body)?,
            policy_version: self.policy(&mut body)?,
            latency_us: body.varint()?,
            bytes_in: body.varint()?,
            bytes_out: body.varint()?,
            upstream_us: match flags & 0x10 {
                0 => None,
                _ => Some(body.varint()?),
            },
        })
    }

    fn definition(&self, body: &mut Cursor<'_>) -> Option<Definition<'a>> {
        let id = usize::try_from(body.varint()?).ok()?;
        *self.definitions.get(id)?
    }

    fn name(&self, body: &mut Cursor<'_>) -> Option<&'a str> {
        match self.definition(body)? {
            Definition::Name(name) => Some(name),
            Definition::Policy(_) => None,
        }
    }

    fn policy(&self, body: &mut Cursor<'_>) -> Option<u64> {
        match self.definition(body)? {
            Definition::Policy(version) => Some(version),
            Definition::Name(_) => None,
        }
    }
}
