//! Files that were damaged in any way: never a panic, never a wrong record, gaps counted exactly.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::path::PathBuf;

use common::{START_US, options, record};
use weir_metering::{Entry, ReadError, Segment, SpoolWriter, sealed_segments};

/// A sealed segment of 900 records in about ten pages.
fn sealed(dir: &std::path::Path) -> PathBuf {
    let mut spool = SpoolWriter::open(options(dir), 1, 99, START_US).unwrap();
    for number in 0..900 {
        assert!(spool.append(&record(number)));
    }
    spool.close(START_US + 1);
    sealed_segments(dir).unwrap().remove(0)
}

/// Returns (records, numbers missing) after checking that they partition the segment's numbers.
fn account(segment: &Segment) -> (u64, u64) {
    let (mut records, mut missing) = (0, 0);
    for entry in segment.records() {
        match entry {
            Entry::Record { number, record: read } => {
                assert_eq!(number, records + missing);
                assert_eq!(read, record(number));
                records += 1;
            }
            Entry::Gap(gap) => {
                assert_eq!(gap.from, records + missing);
                assert!(gap.to > gap.from);
                missing += gap.to - gap.from;
            }
            Entry::Dropped(_) => panic!("nothing was dropped"),
        }
    }
    assert_eq!(records + missing, segment.next_number());
    (records, missing)
}

fn flip_bits(bytes: &mut [u8], random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..9) {
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u32(0..8);
    }
}

fn zero_pages(bytes: &mut [u8], random: &mut fastrand::Rng) {
    for page in bytes.chunks_mut(4096).skip(1) {
        if random.u8(..) < 60 {
            page.fill(0);
        }
    }
}

fn scribble(bytes: &mut [u8], random: &mut fastrand::Rng) {
    let from = random.usize(..bytes.len());
    let to = (from + random.usize(1..3000)).min(bytes.len());
    bytes[from..to].iter_mut().for_each(|byte| *byte = random.u8(..));
}

fn move_about(bytes: &mut [u8], random: &mut fastrand::Rng) {
    let length = random.usize(1..2000);
    let from = random.usize(..bytes.len() - length);
    let to = random.usize(..bytes.len() - length);
    bytes.copy_within(from..from + length, to);
}

#[test]
fn thousands_of_damaged_segments() {
    let temp = tempfile::tempdir().unwrap();
    let whole = std::fs::read(sealed(temp.path())).unwrap();
    let mut random = fastrand::Rng::with_seed(2024);
    let damages = [flip_bits, zero_pages, scribble, move_about];
    let (mut read, mut unread, mut with_gaps) = (0, 0, 0);
    for case in 0..4000 {
        let mut bytes = whole.clone();
        damages[case % 4](&mut bytes, &mut random);
        if random.u8(..) < 40 {
            bytes.truncate(random.usize(..bytes.len()));
        }
        match Segment::from_bytes(bytes) {
            Ok(segment) => {
                let (records, missing) = account(&segment);
                assert!(records + missing <= 900);
                // The end entry or any later record says how many there were.
                assert!(segment.ending().is_none() || records + missing == 900);
                with_gaps += u32::from(missing > 0);
                read += 1;
            }
            Err(ReadError::Magic | ReadError::Version { .. } | ReadError::Header) => unread += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(read > 3000 && unread > 10 && with_gaps > 2000, "{read} {unread} {with_gaps}");
}

#[test]
fn one_flipped_bit_costs_one_record_at_most_or_those_of_one_name() {
    let temp = tempfile::tempdir().unwrap();
    let whole = std::fs::read(sealed(temp.path())).unwrap();
    // Past the names, which all appear in the first few records.
    for byte in (4096..whole.len()).step_by(41) {
        let mut bytes = whole.clone();
        bytes[byte] ^= 0x10;
        let (records, _) = account(&Segment::from_bytes(bytes).unwrap());
        assert!(records >= 899, "byte {byte}: {records}");
    }
}

#[test]
fn a_record_torn_at_the_end_is_none() {
    let temp = tempfile::tempdir().unwrap();
    let whole = std::fs::read(sealed(temp.path())).unwrap();
    let (mut before, _) = account(&Segment::from_bytes(whole.clone()).unwrap());
    assert_eq!(before, 900);
    for length in (whole.len() - 400..whole.len() - 7).rev() {
        let segment = Segment::from_bytes(whole[..length].to_vec()).unwrap();
        assert_eq!(segment.ending(), None);
        let (records, missing) = account(&segment);
        assert_eq!(missing, 0);
        assert!(records <= before && before - records <= 1);
        before = records;
    }
}

#[test]
fn what_is_no_segment_is_refused_with_its_reason() {
    let temp = tempfile::tempdir().unwrap();
    let good = sealed(temp.path());
    let open = |name: &str, bytes: &[u8]| {
        let path = temp.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Segment::open(path).err().unwrap()
    };
    assert!(matches!(open("empty", b""), ReadError::Magic));
    assert!(matches!(open("garbage", &[0xa5; 9000]), ReadError::Magic));
    assert!(matches!(open("zeros", &[0; 9000]), ReadError::Magic));
    let mut future = std::fs::read(&good).unwrap();
    future[8] = 2;
    let error = open("future", &future);
    assert!(matches!(error, ReadError::Version { found: 2, known: 1 }), "{error}");
    assert!(matches!(open("short", &future[..9]), ReadError::Header));
    future[8] = 1;
    assert!(matches!(open("cut", &future[..100]), ReadError::Header));

    let link = temp.path().join("link");
    std::os::unix::fs::symlink(&good, &link).unwrap();
    assert!(matches!(Segment::open(link), Err(ReadError::NotAFile)));
    assert!(matches!(Segment::open(temp.path()), Err(ReadError::NotAFile)));
    let huge = temp.path().join("huge");
    std::fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(Segment::open(huge), Err(ReadError::TooLarge { .. })));
    let missing = Segment::open(temp.path().join("missing"));
    assert!(matches!(missing, Err(ReadError::Io(_))));
}
