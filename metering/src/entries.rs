//! Finds the entries in a segment's bytes and reads the fields that stand alone.

use crate::reader::{Dropped, Entry, Gap};
use crate::segment::{ENTRY_HEAD, Kind, MAX_BODY, Reason, SegmentHeader, aligned, entry_sum};
use crate::varint::Cursor;

/// An entry that checks. `kind` is `None` for one that a later version wrote.
pub(crate) struct RawEntry<'a> {
    pub kind: Option<Kind>,
    pub body: &'a [u8],
    pub end: usize,
}

/// Walks the entries that check; where one does not, it looks again eight bytes on.
pub(crate) struct RawEntries<'a> {
    bytes: &'a [u8],
    at: usize,
    seed: u32,
}

impl<'a> RawEntries<'a> {
    pub(crate) fn new(header: &SegmentHeader, bytes: &'a [u8]) -> RawEntries<'a> {
        RawEntries { bytes, at: header.bytes(), seed: header.seed() }
    }

    fn entry_here(&self) -> Option<RawEntry<'a>> {
        let mut cursor = Cursor::new(self.bytes.get(self.at..)?);
        let word = u32::from_le_bytes(cursor.array()?);
        let length = (word & 0x00ff_ffff) as usize;
        if word == 0 || length > MAX_BODY {
            return None;
        }
        let sum = u32::from_le_bytes(cursor.array()?);
        let body = cursor.take(length)?;
        (entry_sum(self.seed, word, body) == sum).then(|| RawEntry {
            kind: Kind::from_code((word >> 24) as u8),
            body,
            end: self.at + aligned(ENTRY_HEAD + length),
        })
    }
}

impl<'a> Iterator for RawEntries<'a> {
    type Item = RawEntry<'a>;

    fn next(&mut self) -> Option<RawEntry<'a>> {
        while self.at < self.bytes.len() {
            if let Some(entry) = self.entry_here() {
                self.at = entry.end;
                return Some(entry);
            }
            self.at += 8;
        }
        None
    }
}

pub(crate) fn record_number(header: &SegmentHeader, body: &[u8]) -> Option<u64> {
    header.first_number.checked_add(Cursor::new(body).varint()?)
}

pub(crate) fn read_loss(header: &SegmentHeader, body: &[u8]) -> Option<Gap> {
    let mut cursor = Cursor::new(body);
    let from = header.first_number.checked_add(cursor.varint()?)?;
    Some(Gap { from, to: from.checked_add(cursor.varint()?)?, reason: Reason::from_code(cursor.byte()?)? })
}

pub(crate) fn read_dropped(body: &[u8]) -> Option<Entry<'_>> {
    let mut cursor = Cursor::new(body);
    let stream = u128::from_le_bytes(cursor.array()?);
    let segment = u32::from_le_bytes(cursor.array()?);
    let (from, to, records) = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
    let length = usize::try_from(cursor.varint()?).ok()?;
    Some(Entry::Dropped(Dropped {
        client: std::str::from_utf8(cursor.take(length)?).ok()?,
        records,
        stream,
        segment,
        from,
        to,
    }))
}
