//! Death at every byte of every store, and bodies that check but were made up: what a reader sees.

use std::cell::Cell;
use std::ops::Range;

use crate::names::Names;
use crate::pen::{Memory, Pen, Refusal};
use crate::segment::{self, Ending, Kind, MAX_NAME, SealedBy};
use crate::{Decision, Entry, Gap, ReadError, Reason, Record, Segment, SegmentHeader};

const SIZE: usize = 8192;

fn header() -> SegmentHeader {
    SegmentHeader {
        gateway: "gw".to_owned(),
        boot: 1,
        stream: 2,
        first_number: 1000,
        segment: 3,
        created_us: 1_000_000,
    }
}

fn record(number: u64) -> Record<'static> {
    Record {
        time_us: 900_000 + number * 137,
        client: ["acme", "globex", "Ümläut \"& Söhne\"\n"][number as usize % 3],
        tier: "free",
        endpoint: ["orders", ""][number as usize % 2],
        method: "GET",
        status: 200,
        latency_us: number * 31,
        upstream_us: number.is_multiple_of(3).then_some(number),
        bytes_in: 300,
        bytes_out: number << 20,
        decision: Decision::ALL[number as usize % 8],
        limit: "100 requests/minute",
        policy_version: 0xfeed_0000_0000_0000 + number / 10,
    }
}

/// Remembers every store in order.
struct Log {
    size: usize,
    stores: Vec<(usize, Vec<u8>)>,
}

impl Memory for Log {
    fn size(&self) -> usize {
        self.size
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.stores.push((at, bytes.to_vec()));
    }

    fn publish(&mut self, at: usize, word: u32) {
        self.put(at, &word.to_le_bytes());
    }
}

fn pen(size: usize) -> Pen<Log> {
    let stores = Vec::new();
    Pen::begin(Log { size, stores }, &header(), 5000, Names::new(1))
}

/// Checks that records and gaps are exactly the segment's numbers; returns the numbers of records.
fn numbers(segment: &Segment, lost: &[Range<u64>]) -> Vec<u64> {
    let mut expected = segment.header().first_number;
    let mut found = Vec::new();
    for entry in segment.records() {
        match entry {
            Entry::Record { number, record: read } => {
                assert_eq!((number, read), (expected, record(number)));
                found.push(number);
                expected += 1;
            }
            Entry::Gap(gap) => {
                assert_eq!(gap.from, expected);
                assert!(lost.iter().any(|l| l.start <= gap.from && gap.to <= l.end), "{gap:?}");
                expected = gap.to;
            }
            Entry::Dropped(_) => panic!("no such entry was written"),
        }
    }
    assert_eq!(expected, segment.next_number());
    found
}

/// Every image that a death within the store can leave: each prefix, and bytes in any order.
fn torn(image: &[u8], at: usize, bytes: &[u8], random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let mut images = Vec::new();
    for written in 0..bytes.len() {
        let mut prefix = image.to_vec();
        prefix[at..at + written].copy_from_slice(&bytes[..written]);
        images.push(prefix);
        let mut scattered = image.to_vec();
        for i in (0..bytes.len()).filter(|_| random.bool()) {
            scattered[at + i] = bytes[i];
        }
        // All bytes there is the finished store, which is looked at on its own.
        if scattered[at..at + bytes.len()] != *bytes {
            images.push(scattered);
        }
    }
    images
}

/// The checksum alone would catch a torn entry all but once in 2^32 times; the order always does.
fn length_words_come_last(stores: &[(usize, Vec<u8>)]) {
    let mut image = vec![0; SIZE];
    let mut entries = 0;
    for (at, bytes) in stores {
        if *at >= header().bytes() && at % 8 == 4 {
            assert_eq!(image[at - 4..*at], [0; 4], "published before its body");
            entries += 1;
        }
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    assert!(entries > 40);
}

#[test]
fn a_death_at_any_byte_leaves_whole_records_only() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut pen = pen(SIZE);
    // How many stores there were when each record was finished.
    let mut finished = Vec::new();
    for number in 1000..1040 {
        if number % 13 == 0 {
            pen.lose(number, Reason::NoRoom);
        } else {
            pen.append(number, &record(number), &Cell::default()).unwrap();
            finished.push((pen.memory.stores.len(), number));
        }
    }
    let lost = [1001..1002, 1014..1015, 1027..1028];
    let mut image = vec![0; SIZE];
    let mut looked_at = 0;
    length_words_come_last(&pen.memory.stores);
    for (done, (at, bytes)) in pen.memory.stores.iter().enumerate() {
        let present: Vec<u64> = finished.iter().filter(|f| f.0 <= done).map(|f| f.1).collect();
        for image in torn(&image, *at, bytes, &mut random) {
            match Segment::from_bytes(image) {
                Ok(segment) => assert_eq!(numbers(&segment, &lost), present),
                Err(ReadError::Magic | ReadError::Header) => {
                    assert!(present.is_empty() && done < 5)
                }
                Err(e) => panic!("{e}"),
            }
            looked_at += 1;
        }
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    println!("crash points tried: {looked_at}, each read back to exactly the records finished before it");
    assert!(looked_at > 2000, "{looked_at}");
    let whole = Segment::from_bytes(image).unwrap();
    assert_eq!(numbers(&whole, &lost).len(), finished.len());
    assert_eq!(whole.next_number(), 1040);
}

#[test]
fn losses_keep_their_reasons_and_their_place() {
    let mut pen = Pen::begin(vec![0; SIZE], &header(), 0, Names::new(1));
    pen.append(1000, &record(1000), &Cell::default()).unwrap();
    pen.lose(1001, Reason::NoRoom);
    pen.lose(1002, Reason::NoRoom);
    pen.lose(1003, Reason::Refused);
    pen.append(1004, &record(1004), &Cell::default()).unwrap();
    pen.lose(1005, Reason::Fault);
    assert_eq!(pen.lost(), 4);
    let segment = Segment::from_bytes(pen.end().0).unwrap();
    let gaps: Vec<Gap> = segment
        .records()
        .filter_map(|entry| match entry {
            Entry::Gap(gap) => Some(gap),
            _ => None,
        })
        .collect();
    let gap = |from, to, reason| Gap { from, to, reason };
    let expected =
        [gap(1001, 1003, Reason::NoRoom), gap(1003, 1004, Reason::Refused), gap(1005, 1006, Reason::Fault)];
    assert_eq!(gaps, expected);
}

#[test]
fn a_full_segment_is_readable_to_its_last_record_and_has_room_for_its_end() {
    let mut pen = Pen::begin(vec![0; 4096], &header(), 0, Names::new(1));
    let mut number = 1000;
    while pen.append(number, &record(number), &Cell::default()).is_ok() {
        number += 1;
    }
    let used = pen.used();
    let mut bytes = pen.end().0;
    let ending = Ending {
        next_number: number,
        sealed_us: u64::MAX,
        by: SealedBy::Owner,
        reserved: number,
        last: Some(false),
    };
    let end = ending.encode(header().seed());
    bytes[used..used + end.len()].copy_from_slice(&end);
    let segment = Segment::from_bytes(bytes).unwrap();
    assert_eq!(numbers(&segment, &[]).len() as u64, number - 1000);
    assert_eq!(segment.ending(), Some(&ending));
}

#[test]
fn the_longest_name_fits_and_a_longer_one_is_refused() {
    let long = "x".repeat(MAX_NAME + 1);
    let mut pen = Pen::begin(vec![0; SIZE], &header(), 0, Names::new(1));
    let mut one = record(1000);
    one.client = &long[..MAX_NAME];
    assert_eq!(pen.append(1000, &one, &Cell::default()), Ok(()));
    let mut two = record(1001);
    two.client = &long;
    assert_eq!(pen.append(1001, &two, &Cell::default()), Err(Refusal::TooLong));
    let bytes = pen.end().0;
    let segment = Segment::from_bytes(bytes).unwrap();
    let entry = segment.records().next();
    assert_eq!(entry, Some(Entry::Record { number: 1000, record: one }));
}

#[test]
fn extreme_values_come_back() {
    let mut pen = Pen::begin(vec![0; SIZE], &header(), 0, Names::new(1));
    let extreme = Record {
        time_us: u64::MAX,
        status: u16::MAX,
        latency_us: u64::MAX,
        upstream_us: Some(u64::MAX),
        bytes_in: u64::MAX,
        bytes_out: u64::MAX,
        policy_version: u64::MAX,
        ..record(1000)
    };
    let early = Record { time_us: 0, ..extreme.clone() };
    pen.append(1000, &extreme, &Cell::default()).unwrap();
    pen.append(1001, &early, &Cell::default()).unwrap();
    let segment = Segment::from_bytes(pen.end().0).unwrap();
    let read: Vec<Entry<'_>> = segment.records().collect();
    assert_eq!(read[0], Entry::Record { number: 1000, record: extreme });
    assert_eq!(read[1], Entry::Record { number: 1001, record: early });
}

#[test]
fn a_damaged_name_loses_its_records_and_gives_no_wrong_ones() {
    let mut pen = Pen::begin(vec![0; SIZE], &header(), 0, Names::new(1));
    for number in 1000..1030 {
        pen.append(number, &record(number), &Cell::default()).unwrap();
    }
    let mut bytes = pen.end().0;
    let at = bytes.windows(6).position(|w| w == b"globex").unwrap();
    bytes[at] ^= 1;
    let segment = Segment::from_bytes(bytes).unwrap();
    let globex = |n: u64| record(n).client == "globex";
    let gaps: Vec<Range<u64>> = (1000..1030).filter(|n| globex(*n)).map(|n| n..n + 1).collect();
    let found = numbers(&segment, &gaps);
    assert!(found.iter().all(|n| !globex(*n)));
    assert_eq!(found.len() + gaps.len(), 30);
    let named = |e: &Entry<'_>| matches!(e, Entry::Gap(g) if g.reason == Reason::NameDamaged);
    assert_eq!(segment.records().filter(named).count(), gaps.len());
}

/// Whoever knows the stream can write entries that check. They must not harm a reader either.
#[test]
fn made_up_entries_that_check_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..3000 {
        let mut bytes = header().encode();
        for _ in 0..random.usize(1..20) {
            let body: Vec<u8> =
                (0..random.usize(0..60)).map(|_| if random.bool() { 0xff } else { random.u8(..) }).collect();
            let kinds = [Kind::Name, Kind::Policy, Kind::Record, Kind::Loss, Kind::Dropped, Kind::End];
            let kind = random.choice(kinds).unwrap();
            bytes.extend(segment::entry(header().seed(), kind, &body));
        }
        let segment = Segment::from_bytes(bytes).unwrap();
        assert!(segment.next_number() >= 1000);
        let mut expected = 1000;
        for entry in segment.records() {
            let (from, to) = match entry {
                Entry::Record { number, .. } => (number, number + 1),
                Entry::Gap(gap) => (gap.from, gap.to),
                Entry::Dropped(_) => continue,
            };
            assert_eq!(from, expected);
            assert!(to > from);
            expected = to;
        }
        assert!(expected <= segment.next_number());
    }
}
