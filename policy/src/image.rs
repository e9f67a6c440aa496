//! A compiled policy as one run of bytes without pointers, which any number of processes map and look
//! things up in.
//!
//! A head, then sections without gaps: the frame (all but the clients; see [`crate::book`]), the tables
//! of ids and of keys, and what these refer to. There lies, in the order of the policy, all of a client
//! together: a row for each key, the client's row, id and name. So a look-up among 100,000 touches two
//! places that are likely to be in no cache, not five. All numbers are little-endian and nothing needs
//! to be aligned.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use siphasher::sip::SipHasher13;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::codec::{Reader, Writer};
use crate::grammar::key::hash_key;
use crate::index::{Slot, find, index};
use crate::model::{Client, Grant, Key, Policy, Webhooks};
use crate::seat::Member;

const MAGIC: [u8; 8] = *b"weirbook";
/// Goes up with each change of what is written here, or of what compiling makes of a policy.
pub const IMAGE_FORMAT: u32 = 2;
const SECTIONS: usize = 4;
const BLOB: usize = 3;

/// Why bytes are no image of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It was not written by this version of weir, or is no image at all.
    Foreign,
    /// It was damaged, or is not whole.
    Damaged,
}

impl std::error::Error for ImageError {}

impl std::fmt::Display for ImageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ImageError::Foreign => "it is no compiled policy of this version of weir",
            ImageError::Damaged => "it is damaged or not whole",
        })
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    /// SHA-256 of all that follows it.
    checksum: [u8; 32],
    magic: [u8; 8],
    format: U32,
    version: U64,
    /// Chosen by chance, so that nobody can choose ids that collide.
    seed: [U64; 2],
    lengths: [U64; SECTIONS],
}

/// Where something lies in the last section.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Place {
    from: U32,
    len: U32,
}

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ClientRow {
    id: Place,
    name: Place,
    /// Empty: none.
    own: Place,
    grants: Place,
    tier: U32,
    /// One more than the position among the frame's time zones; 0: none.
    pub zone: U32,
    is_dry_run: u8,
    is_exempt: u8,
    dry_run: u8,
    exempt: u8,
    webhooks: u8,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct KeyRow {
    hash: [u8; 32],
    from_s: I64,
    to_s: I64,
    /// Where the row of the client is.
    client: U32,
}

/// A key that was found.
pub(crate) struct Found {
    pub client: usize,
    pub valid_s: Range<i64>,
}

/// An image, and where its sections lie.
pub(crate) struct Image {
    bytes: Box<dyn AsRef<[u8]> + Send + Sync>,
    pub version: u64,
    seed: [u64; 2],
    sections: [Range<usize>; SECTIONS],
}

impl Image {
    pub fn open(bytes: Box<dyn AsRef<[u8]> + Send + Sync>) -> Result<Image, ImageError> {
        let whole: &[u8] = (*bytes).as_ref();
        let (head, _) = Head::ref_from_prefix(whole).map_err(|_| ImageError::Foreign)?;
        if (head.magic, head.format.get()) != (MAGIC, IMAGE_FORMAT) {
            return Err(ImageError::Foreign);
        }
        let mut at = size_of::<Head>();
        let mut sections = std::array::from_fn(|_| 0..0);
        for (section, len) in sections.iter_mut().zip(head.lengths) {
            let end = usize::try_from(len.get()).ok().and_then(|len| at.checked_add(len));
            *section = at..end.ok_or(ImageError::Damaged)?;
            at = section.end;
        }
        if at != whole.len() || hash_key(&whole[head.checksum.len()..]) != head.checksum {
            return Err(ImageError::Damaged);
        }
        let (version, seed) = (head.version.get(), head.seed.map(U64::get));
        Ok(Image { version, seed, sections, bytes })
    }

    pub fn size(&self) -> usize {
        (*self.bytes).as_ref().len()
    }

    fn section(&self, n: usize) -> &[u8] {
        (*self.bytes).as_ref().get(self.sections[n].clone()).unwrap_or_default()
    }

    fn slots(&self, n: usize) -> &[Slot] {
        <[Slot]>::ref_from_bytes(self.section(n)).unwrap_or_default()
    }

    /// A row; the checksum says that it is what was written.
    fn row<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self, at: usize) -> Option<&T> {
        let (row, _) = T::ref_from_prefix(self.section(BLOB).get(at..)?).ok()?;
        Some(row)
    }

    pub fn frame(&self) -> Reader<'_> {
        Reader(self.section(0))
    }

    pub fn client(&self, at: usize) -> Option<&ClientRow> {
        self.row(at)
    }

    /// Where the row of a client is.
    pub fn find_id(&self, id: &str) -> Option<usize> {
        let is_it = |at| self.client(at).is_some_and(|row| self.id(row) == id);
        find(self.slots(1), hash_id(self.seed, id), is_it)
    }

    pub fn find_key(&self, hash: &[u8; 32]) -> Option<Found> {
        let is_it = |at| self.row::<KeyRow>(at).is_some_and(|row| row.hash == *hash);
        let row: &KeyRow = self.row(find(self.slots(2), index_hash(hash), is_it)?)?;
        Some(Found { client: row.client.get() as usize, valid_s: row.from_s.get()..row.to_s.get() })
    }

    fn bytes_at(&self, place: Place) -> &[u8] {
        let from = place.from.get() as usize;
        self.section(BLOB).get(from..from + place.len.get() as usize).unwrap_or_default()
    }

    fn text(&self, place: Place) -> &str {
        std::str::from_utf8(self.bytes_at(place)).unwrap_or_default()
    }

    pub fn id(&self, row: &ClientRow) -> &str {
        self.text(row.id)
    }

    /// What people call the client.
    pub fn name(&self, row: &ClientRow) -> &str {
        if row.name.len == U32::ZERO { self.id(row) } else { self.text(row.name) }
    }

    /// The plan of the client's own limits, see [`crate::plan::Plan::read`]; empty where it has none.
    pub fn own(&self, row: &ClientRow) -> &[u8] {
        self.bytes_at(row.own)
    }

    /// What the client was granted, without the reasons.
    pub fn grants(&self, row: &ClientRow) -> Vec<Grant> {
        let mut reader = Reader(self.bytes_at(row.grants));
        let grant = || {
            let (limit, from, to) = (reader.limit()?, reader.number()?, reader.number()?);
            Some(Grant { limit, valid_s: from as i64..to as i64, reason: None })
        };
        std::iter::from_fn(grant).collect()
    }
}

impl ClientRow {
    pub fn tier(&self) -> usize {
        self.tier.get() as usize
    }

    pub fn is_dry_run(&self) -> bool {
        self.is_dry_run == 1
    }

    pub fn is_exempt(&self) -> bool {
        self.is_exempt == 1
    }

    /// What the client says over its tier.
    pub fn dry_run(&self) -> Option<bool> {
        maybe(self.dry_run)
    }

    pub fn exempt(&self) -> Option<bool> {
        maybe(self.exempt)
    }

    pub fn webhooks(&self) -> Option<Webhooks> {
        webhooks(self.webhooks)
    }
}

/// The bytes of an image.
pub(crate) fn write(
    policy: &Policy,
    members: &[Member],
    frame: Vec<u8>,
    zone_of: impl Fn(&Client) -> u32,
) -> Vec<u8> {
    let seed = [0, 1].map(|n: u64| RandomState::new().hash_one(n));
    let mut blob = Blob::default();
    let (mut ids, mut keys) =
        (Vec::with_capacity(policy.clients.len()), Vec::with_capacity(policy.key_count()));
    for (client, member) in policy.clients.iter().zip(members) {
        // What several refer to does not stand between a client's rows.
        let own = blob.share(member.own.clone());
        let grants = blob.share(written(policy.grants_of(&client.id)));
        let begin = blob.bytes.len();
        let at = (begin + client.keys.len() * size_of::<KeyRow>()) as u32;
        for key in &client.keys {
            keys.push((index_hash(&key.hash), blob.bytes.len() as u32));
            blob.bytes.extend_from_slice(key_row(key, at).as_bytes());
        }
        ids.push((hash_id(seed, &client.id), at));
        let name = client.name.as_deref().unwrap_or_default();
        let text_at = at + size_of::<ClientRow>() as u32;
        let row = ClientRow {
            id: place(text_at, &client.id),
            name: place(text_at + client.id.len() as u32, name),
            own,
            grants,
            tier: U32::new(member.tier),
            zone: U32::new(zone_of(client)),
            is_dry_run: u8::from(member.dry_run),
            is_exempt: u8::from(member.exempt),
            dry_run: code(client.dry_run),
            exempt: code(client.exempt),
            webhooks: client.webhooks.map_or(0, webhooks_code),
        };
        for part in [row.as_bytes(), client.id.as_bytes(), name.as_bytes()] {
            blob.bytes.extend_from_slice(part);
        }
    }
    let (ids, keys) = (index(&ids), index(&keys));
    let sections = [&frame[..], ids.as_bytes(), keys.as_bytes(), &blob.bytes];
    let mut head = Head {
        checksum: [0; 32],
        magic: MAGIC,
        format: U32::new(IMAGE_FORMAT),
        version: U64::new(policy.version),
        seed: seed.map(U64::new),
        lengths: sections.map(|section| U64::new(section.len() as u64)),
    };
    let mut bytes = Vec::with_capacity(size_of::<Head>() + sections.iter().map(|s| s.len()).sum::<usize>());
    bytes.extend_from_slice(head.as_bytes());
    sections.iter().for_each(|section| bytes.extend_from_slice(section));
    head.checksum = hash_key(&bytes[head.checksum.len()..]);
    bytes[..head.checksum.len()].copy_from_slice(&head.checksum);
    bytes
}

fn key_row(key: &Key, client: u32) -> KeyRow {
    let (from_s, to_s) = (I64::new(key.valid_s.start), I64::new(key.valid_s.end));
    KeyRow { hash: key.hash, from_s, to_s, client: U32::new(client) }
}

fn place(from: u32, text: &str) -> Place {
    Place { from: U32::new(from), len: U32::new(text.len() as u32) }
}

/// Clients, and what they refer to. A policy has at most 64 MiB, so that 32 bits are enough.
#[derive(Default)]
struct Blob {
    bytes: Vec<u8>,
    shared: HashMap<Vec<u8>, Place>,
}

impl Blob {
    /// The same for all that are equal: many clients have the same limits of their own.
    fn share(&mut self, bytes: Vec<u8>) -> Place {
        match self.shared.get(&bytes) {
            Some(place) => *place,
            None => {
                let place =
                    Place { from: U32::new(self.bytes.len() as u32), len: U32::new(bytes.len() as u32) };
                self.bytes.extend_from_slice(&bytes);
                self.shared.insert(bytes, place);
                place
            }
        }
    }
}

fn written(grants: &[Grant]) -> Vec<u8> {
    let mut writer = Writer::default();
    for grant in grants {
        writer.limit(&grant.limit);
        writer.number(grant.valid_s.start as u64);
        writer.number(grant.valid_s.end as u64);
    }
    writer.0
}

fn hash_id(seed: [u64; 2], id: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
    hasher.write(id.as_bytes());
    hasher.finish()
}

/// Eight bytes of a SHA-256 are as good a hash as any. A caller can try keys until many fall into one
/// place of the table, but the table holds only the policy's keys, so that slows nothing down.
fn index_hash(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn code(said: Option<bool>) -> u8 {
    said.map_or(0, |said| 1 + u8::from(said))
}

fn maybe(code: u8) -> Option<bool> {
    (code > 0).then_some(code == 2)
}

pub(crate) fn webhooks_code(webhooks: Webhooks) -> u8 {
    match webhooks {
        Webhooks::Count => 1,
        Webhooks::Meter => 2,
        Webhooks::Ignore => 3,
    }
}

pub(crate) fn webhooks(code: u8) -> Option<Webhooks> {
    match code {
        1 => Some(Webhooks::Count),
        2 => Some(Webhooks::Meter),
        3 => Some(Webhooks::Ignore),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tables, parse};

    #[test]
    fn damage_anywhere_is_seen() {
        let policy =
            parse("default_tier = \"t\"\n[tiers.t]\nlimits = [\"1 requests/day\"]\n[clients.a]\n").unwrap();
        let image = Tables::image(&policy);
        let open = |bytes: Vec<u8>| Tables::open(Box::new(bytes)).map(|book| book.version());
        assert_eq!(open(image.clone()), Ok(policy.version));
        for at in 0..image.len() {
            let mut bytes = image.clone();
            bytes[at] ^= 1;
            assert!(open(bytes).is_err(), "byte {at}");
            assert!(open(image[..at].to_vec()).is_err(), "{at} bytes");
        }
        assert_eq!(open([&image[..], b"x"].concat()), Err(ImageError::Damaged));
        assert_eq!(open(vec![b'x'; 1_000]), Err(ImageError::Foreign));
    }
}
