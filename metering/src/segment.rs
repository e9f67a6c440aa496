//! The written format of a segment (docs/record.md): header, marks, entries, checksums.

use crate::varint::{self, Cursor};

pub(crate) const MAGIC: [u8; 8] = *b"weirspl\n";
pub(crate) const VERSION: u16 = 1;

/// Longest client, tier, endpoint, method or limit in bytes; a record with a longer one is refused.
pub const MAX_NAME: usize = 1024;
/// Longest gateway name in bytes.
pub const MAX_GATEWAY: usize = 255;
/// A file above this size is no segment.
pub const MAX_SEGMENT_BYTES: u64 = 256 << 20;

/// Bytes of length word and checksum before each body.
pub(crate) const ENTRY_HEAD: usize = 8;
/// Bounds what a reader sums up for a length word that is garbage.
pub(crate) const MAX_BODY: usize = MAX_NAME + 128;
/// Kept free at the end of a segment for the end entry (8 + at most 31 bytes, aligned).
pub(crate) const END_ROOM: usize = 40;

const SUM_AT: usize = 12;
const MARKS_AT: usize = 72;
const MARK_BYTES: usize = 16;
const GATEWAY_AT: usize = MARKS_AT + 4 * MARK_BYTES;

/// Rounds up to the alignment of entries.
pub(crate) fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

/// What a segment says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Name of the gateway, as `weir_gateway` gives it.
    pub gateway: String,
    /// The boot of the machine that the records were written in.
    pub boot: u128,
    /// One life of one worker.
    pub stream: u128,
    /// Number of the first record that can be in this segment.
    pub first_number: u64,
    /// Index of this segment in its stream, from 0.
    pub segment: u32,
    /// When its owner began to use it, microseconds since the Unix epoch.
    pub created_us: u64,
}

impl SegmentHeader {
    /// Where entries begin.
    pub(crate) fn bytes(&self) -> usize {
        aligned(GATEWAY_AT + self.gateway.len())
    }

    /// Start value of all checksums in this segment: blocks left over from another segment, or bytes
    /// that a client chose, do not check by chance.
    pub(crate) fn seed(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.stream.to_le_bytes()), &self.segment.to_le_bytes())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes());
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((self.bytes() as u16).to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.boot.to_le_bytes());
        out.extend(self.stream.to_le_bytes());
        out.extend(self.first_number.to_le_bytes());
        out.extend(self.created_us.to_le_bytes());
        out.extend(self.segment.to_le_bytes());
        out.extend((self.gateway.len() as u16).to_le_bytes());
        out.resize(GATEWAY_AT, 0);
        out.extend(self.gateway.as_bytes());
        out.resize(self.bytes(), 0);
        let sum = header_sum(&out);
        out[SUM_AT..SUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the header at the front of `bytes`; the flaw when there is none.
    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderFlaw> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array() != Some(MAGIC) {
            return Err(HeaderFlaw::Magic);
        }
        let version = u16::from_le_bytes(cursor.array().ok_or(HeaderFlaw::Damaged)?);
        if version != VERSION {
            return Err(HeaderFlaw::Version(version));
        }
        SegmentHeader::fields(bytes, cursor).ok_or(HeaderFlaw::Damaged)
    }

    fn fields(bytes: &[u8], mut cursor: Cursor<'_>) -> Option<SegmentHeader> {
        let length = usize::from(u16::from_le_bytes(cursor.array()?));
        let sum = u32::from_le_bytes(cursor.array()?);
        let whole = bytes.get(..length).filter(|b| b.len() >= GATEWAY_AT)?;
        if header_sum(whole) != sum {
            return None;
        }
        let boot = u128::from_le_bytes(cursor.array()?);
        let stream = u128::from_le_bytes(cursor.array()?);
        let first_number = u64::from_le_bytes(cursor.array()?);
        let created_us = u64::from_le_bytes(cursor.array()?);
        let segment = u32::from_le_bytes(cursor.array()?);
        let name = usize::from(u16::from_le_bytes(cursor.array()?));
        let gateway = std::str::from_utf8(whole.get(GATEWAY_AT..GATEWAY_AT + name)?).ok()?;
        let header =
            SegmentHeader { gateway: gateway.to_owned(), boot, stream, first_number, segment, created_us };
        (header.bytes() == length).then_some(header)
    }
}

pub(crate) enum HeaderFlaw {
    Magic,
    Version(u16),
    Damaged,
}

/// Covers what never changes: all but the sum itself and the marks.
fn header_sum(header: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&header[..SUM_AT]);
    let sum = crc32c::crc32c_append(sum, &header[SUM_AT + 4..MARKS_AT]);
    crc32c::crc32c_append(sum, &header[GATEWAY_AT..])
}

/// Numbers in the header that grow while the segment is in use. Each has two slots, written in
/// turn, so that a torn write leaves the value before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// The number after the last record that was lost for want of room or by a fault.
    Lost = 0,
    /// Numbers below this may have been used by the time of a power cut.
    Reserved = 1,
}

impl Mark {
    pub(crate) fn at(self, turn: bool) -> usize {
        MARKS_AT + (self as usize * 2 + usize::from(turn)) * MARK_BYTES
    }

    pub(crate) fn encode(self, seed: u32, value: u64, reason: u32) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        out[..8].copy_from_slice(&value.to_le_bytes());
        out[8..12].copy_from_slice(&reason.to_le_bytes());
        let sum = crc32c::crc32c_append(seed ^ self as u32, &out[..12]);
        out[12..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The highest value that checks, with its reason; marks only ever grow.
    pub(crate) fn read(self, seed: u32, bytes: &[u8]) -> Option<(u64, u32)> {
        [false, true].into_iter().filter_map(|turn| self.slot(seed, bytes.get(self.at(turn)..)?)).max()
    }

    fn slot(self, seed: u32, bytes: &[u8]) -> Option<(u64, u32)> {
        let mut cursor = Cursor::new(bytes);
        let value = u64::from_le_bytes(cursor.array()?);
        let reason = u32::from_le_bytes(cursor.array()?);
        let stored = cursor.array::<4>()?;
        (self.encode(seed, value, reason)[12..] == stored).then_some((value, reason))
    }
}

/// What an entry is. Readers skip kinds they do not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Name = 1,
    Policy = 2,
    Record = 3,
    Loss = 4,
    Dropped = 5,
    End = 6,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Name, Kind::Policy, Kind::Record, Kind::Loss, Kind::Dropped, Kind::End];

    pub(crate) fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// The length word: kind in the high byte, body length below. Never 0, which means "nothing yet".
pub(crate) fn word(kind: Kind, body: usize) -> u32 {
    (kind as u32) << 24 | body as u32
}

pub(crate) fn entry_sum(seed: u32, word: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &word.to_le_bytes()), body)
}

/// A whole entry for writers that do not append to a mapping.
pub(crate) fn entry(seed: u32, kind: Kind, body: &[u8]) -> Vec<u8> {
    let word = word(kind, body.len());
    let mut out = word.to_le_bytes().to_vec();
    out.extend(entry_sum(seed, word, body).to_le_bytes());
    out.extend(body);
    out.resize(aligned(out.len()), 0);
    out
}

/// Why numbers are missing from a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The bytes where they stood do not check (bit flip, torn or zeroed page, truncated file).
    Damaged = 0,
    /// The record is there, but a name that it refers to is damaged.
    NameDamaged = 1,
    /// The gateway had no room: disk full, or the spool's cap with `full=newest`.
    NoRoom = 2,
    /// The record could not be written down (a name above [`MAX_NAME`]).
    Refused = 3,
    /// The file was truncated or the disk failed under the mapping.
    Fault = 4,
}

impl Reason {
    const ALL: [Reason; 5] =
        [Reason::Damaged, Reason::NameDamaged, Reason::NoRoom, Reason::Refused, Reason::Fault];

    pub(crate) fn from_code(code: u8) -> Option<Reason> {
        Reason::ALL.get(usize::from(code)).copied()
    }

    /// Whether the gateway itself says so, and no damage was come across.
    pub fn is_declared(self) -> bool {
        matches!(self, Reason::NoRoom | Reason::Refused | Reason::Fault)
    }

    /// The word in `weir cat`, metrics and pages.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Damaged => "damaged",
            Reason::NameDamaged => "name_damaged",
            Reason::NoRoom => "no_room",
            Reason::Refused => "refused",
            Reason::Fault => "fault",
        }
    }
}

/// Who sealed a segment, which decides how sure its last number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SealedBy {
    /// The worker that wrote it: nothing is missing behind the last number.
    Owner = 0,
    /// Another process, in the same boot: the kernel kept every finished record.
    Successor = 1,
    /// Another process, after the machine restarted: a power cut may have taken the last records.
    AfterRestart = 2,
}

/// The end entry of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Number of the record after this segment.
    pub next_number: u64,
    /// Time of sealing, microseconds since the Unix epoch; 0 where a successor sealed it.
    pub sealed_us: u64,
    pub by: SealedBy,
    /// Numbers below this may have been used; above `next_number` only after a restart.
    pub reserved: u64,
}

impl Ending {
    pub(crate) fn encode(&self, seed: u32) -> Vec<u8> {
        let mut body = Vec::with_capacity(END_ROOM);
        varint::put(&mut body, self.next_number);
        varint::put(&mut body, self.sealed_us);
        body.push(self.by as u8);
        varint::put(&mut body, self.reserved);
        entry(seed, Kind::End, &body)
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Ending> {
        let mut cursor = Cursor::new(body);
        Some(Ending {
            next_number: cursor.varint()?,
            sealed_us: cursor.varint()?,
            by: match cursor.byte()? {
                0 => SealedBy::Owner,
                1 => SealedBy::Successor,
                _ => SealedBy::AfterRestart,
            },
            reserved: cursor.varint()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            gateway: "gw-1".to_owned(),
            boot: 7,
            stream: 9,
            first_number: 11,
            segment: 2,
            created_us: 1_700_000_000_000_000,
        }
    }

    #[test]
    fn any_flipped_bit_of_the_header_is_noticed() {
        let good = header().encode();
        assert_eq!(SegmentHeader::decode(&good).ok(), Some(header()));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let in_marks = (MARKS_AT..GATEWAY_AT).contains(&(bit / 8));
            assert_eq!(SegmentHeader::decode(&bad).is_ok(), in_marks, "bit {bit}");
        }
    }

    #[test]
    fn a_torn_mark_leaves_the_one_before() {
        let mut bytes = header().encode();
        let seed = header().seed();
        bytes[Mark::Lost.at(false)..][..16].copy_from_slice(&Mark::Lost.encode(seed, 5, 2));
        let newer = Mark::Lost.encode(seed, 6, 3);
        for written in 0..16 {
            let mut torn = bytes.clone();
            torn[Mark::Lost.at(true)..][..written].copy_from_slice(&newer[..written]);
            assert_eq!(Mark::Lost.read(seed, &torn), Some((5, 2)));
        }
        assert_eq!(Mark::Reserved.read(seed, &bytes), None);
    }

    #[test]
    fn the_longest_end_entry_fits_its_room() {
        let ending = Ending {
            next_number: u64::MAX,
            sealed_us: u64::MAX,
            by: SealedBy::AfterRestart,
            reserved: u64::MAX,
        };
        let bytes = ending.encode(1);
        assert!(bytes.len() <= END_ROOM);
        assert_eq!(Ending::decode(&bytes[ENTRY_HEAD..]), Some(ending));
    }
}
