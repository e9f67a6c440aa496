//! Writes entries into a segment by memory stores alone, so that a reader after a death at any
//! point sees whole entries only.

use std::cell::Cell;

use crate::Record;
use crate::names::{Card, Names, Role};
use crate::reader::Dropped;
use crate::segment::{
    END_ROOM, ENTRY_HEAD, Kind, MAX_NAME, Mark, Reason, SegmentHeader, aligned, entry_sum, word,
};
use crate::varint;

/// Where a segment's bytes go. The mapping of a file, or plain bytes.
pub(crate) trait Memory {
    fn size(&self) -> usize;
    /// Stores bytes in no particular order.
    fn put(&mut self, at: usize, bytes: &[u8]);
    /// Stores an aligned word at once, after everything put before.
    fn publish(&mut self, at: usize, word: u32);
}

impl Memory for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn publish(&mut self, at: usize, word: u32) {
        self.put(at, &word.to_le_bytes());
    }
}

/// Why a record is not in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It fits into the next segment.
    Full,
    /// It fits into none.
    TooLong,
}

struct Loss {
    from: u64,
    to: u64,
    reason: Reason,
}

/// The writing end of one segment.
pub(crate) struct Pen<M> {
    pub(crate) memory: M,
    seed: u32,
    first_number: u64,
    created_us: u64,
    /// Where the next entry goes, and the end of the room for entries.
    at: usize,
    limit: usize,
    names: Names,
    /// Numbers lost since the last entry; stands in the mark until a loss entry can say it.
    pending: Option<Loss>,
    lost: u64,
    turn: bool,
    /// The entry being built, from its length word on.
    scratch: Vec<u8>,
}

impl<M: Memory> Pen<M> {
    /// Begins a segment in memory that is all zero. `reserved`: see [`Mark::Reserved`].
    pub(crate) fn begin(mut memory: M, header: &SegmentHeader, reserved: u64, mut names: Names) -> Pen<M> {
        let seed = header.seed();
        // The magic comes last: without it there is no segment, and no record is lost, since the
        // first one is written later.
        let bytes = header.encode();
        memory.put(8, &bytes[8..]);
        memory.put(Mark::Reserved.at(false), &Mark::Reserved.encode(seed, reserved, 0));
        memory.put(4, &bytes[4..8]);
        memory.publish(0, u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        names.clear();
        Pen {
            limit: memory.size().saturating_sub(END_ROOM),
            memory,
            seed,
            first_number: header.first_number,
            created_us: header.created_us,
            at: header.bytes(),
            names,
            pending: None,
            lost: 0,
            turn: false,
            scratch: Vec::with_capacity(256),
        }
    }

    /// Gives back the memory and the (to be emptied) names.
    pub(crate) fn end(self) -> (M, Names) {
        (self.memory, self.names)
    }

    /// Where the next entry would begin.
    pub(crate) fn used(&self) -> usize {
        self.at
    }

    /// How many numbers of this segment were lost through [`Pen::lose`].
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Adds the record with the given number, which is higher than any before.
    pub(crate) fn append(
        &mut self,
        number: u64,
        record: &Record<'_>,
        card: &Cell<Card>,
    ) -> Result<(), Refusal> {
        self.settle()?;
        let ids = match card.get().ids(&self.names) {
            Some(ids) => {
                debug_assert_eq!(self.ids(record).ok(), Some(ids), "a card of other names");
                ids
            }
            None => self.ids(record)?,
        };
        card.set(Card::new(&self.names, ids));
        self.body(number, record, ids);
        self.finish(Kind::Record)
    }

    /// The numbers of a record's names; those that are new are added.
    fn ids(&mut self, record: &Record<'_>) -> Result<[u32; 6], Refusal> {
        let client = self.name(Role::Client, record.client)?;
        let tier = self.name(Role::Tier, record.tier)?;
        let endpoint = self.name(Role::Endpoint, record.endpoint)?;
        let method = self.name(Role::Method, record.method)?;
        let limit = self.name(Role::Limit, record.limit)?;
        let policy = self.policy(record.policy_version)?;
        Ok([client, tier, endpoint, method, limit, policy])
    }

    fn body(&mut self, number: u64, record: &Record<'_>, ids: [u32; 6]) {
        let since = record.time_us.wrapping_sub(self.created_us) as i64;
        let offset = number - self.first_number;
        let flags = record.decision as u8 | if record.upstream_us.is_some() { 0x10 } else { 0 };
        let out = self.start();
        varint::put(out, offset);
        varint::put_signed(out, since);
        out.push(flags);
        varint::put(out, u64::from(record.status));
        for id in ids {
            varint::put(out, u64::from(id));
        }
        varint::put(out, record.latency_us);
        varint::put(out, record.bytes_in);
        varint::put(out, record.bytes_out);
        if let Some(upstream) = record.upstream_us {
            varint::put(out, upstream);
        }
    }

    /// Notes that a number stays without a record. Never fails: what no entry has room for stands
    /// in the header's mark.
    pub(crate) fn lose(&mut self, number: u64, reason: Reason) {
        self.lost += 1;
        if self.pending.as_ref().is_some_and(|loss| loss.reason != reason) {
            // With no room left the old reason covers both; the numbers stay exact.
            let _ = self.settle();
        }
        let loss = self.pending.get_or_insert(Loss { from: number, to: number, reason });
        loss.to = number + 1;
        let mark = Mark::Lost.encode(self.seed, number + 1, loss.reason as u32);
        self.turn = !self.turn;
        self.memory.put(Mark::Lost.at(self.turn), &mark);
    }

    /// Adds a note on records that went with an old segment.
    pub(crate) fn note_dropped(&mut self, note: &Dropped<'_>) -> Result<(), Refusal> {
        let out = self.start();
        out.extend(note.stream.to_le_bytes());
        out.extend(note.segment.to_le_bytes());
        varint::put(out, note.from);
        varint::put(out, note.to);
        varint::put(out, note.records);
        varint::put(out, note.client.len() as u64);
        out.extend(note.client.as_bytes());
        self.finish(Kind::Dropped)
    }

    fn settle(&mut self) -> Result<(), Refusal> {
        let Some(loss) = &self.pending else {
            return Ok(());
        };
        let (from, count, reason) = (loss.from - self.first_number, loss.to - loss.from, loss.reason);
        let out = self.start();
        varint::put(out, from);
        varint::put(out, count);
        out.push(reason as u8);
        self.finish(Kind::Loss)?;
        self.pending = None;
        Ok(())
    }

    fn name(&mut self, role: Role, text: &str) -> Result<u32, Refusal> {
        if let Some(id) = self.names.find(role, text) {
            return Ok(id);
        }
        if text.len() > MAX_NAME {
            return Err(Refusal::TooLong);
        }
        let id = self.names.next();
        let out = self.start();
        varint::put(out, u64::from(id));
        out.extend(text.as_bytes());
        self.finish(Kind::Name)?;
        Ok(self.names.add(text))
    }

    fn policy(&mut self, version: u64) -> Result<u32, Refusal> {
        if let Some(id) = self.names.find_policy(version) {
            return Ok(id);
        }
        let id = self.names.next();
        let out = self.start();
        varint::put(out, u64::from(id));
        out.extend(version.to_le_bytes());
        self.finish(Kind::Policy)?;
        Ok(self.names.add_policy(version))
    }

    fn start(&mut self) -> &mut Vec<u8> {
        self.scratch.clear();
        self.scratch.extend([0; ENTRY_HEAD]);
        &mut self.scratch
    }

    /// Stores body and checksum first and the length word last: until then there is no entry.
    fn finish(&mut self, kind: Kind) -> Result<(), Refusal> {
        let size = aligned(self.scratch.len());
        if size > self.limit.saturating_sub(self.at) {
            return Err(Refusal::Full);
        }
        let word = word(kind, self.scratch.len() - ENTRY_HEAD);
        let sum = entry_sum(self.seed, word, &self.scratch[ENTRY_HEAD..]);
        self.scratch[4..ENTRY_HEAD].copy_from_slice(&sum.to_le_bytes());
        self.memory.put(self.at + 4, &self.scratch[4..]);
        self.memory.publish(self.at, word);
        self.at += size;
        Ok(())
    }
}
