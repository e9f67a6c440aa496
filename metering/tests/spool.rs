//! The life of a spool directory: rolling, sealing, orphans, caps, two masters, bad directories.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{START_US, books, eventually, files, options, record};
use weir_metering::{
    Entry, Full, Reason, SealedBy, Segment, SpoolError, SpoolOptions, SpoolWriter, boot_id, seal_orphans,
    sealed_segments,
};

fn open(options: SpoolOptions, stream: u128) -> SpoolWriter {
    SpoolWriter::open(options, boot_id().unwrap(), stream, START_US).unwrap()
}

/// Appends with patience: waits for room where there is none yet, without using up a number.
fn append_all(spool: &mut SpoolWriter, numbers: std::ops::Range<u64>) {
    for number in numbers {
        // A spare is made within milliseconds; 64 KiB last for more than 500 records.
        if number % 500 == 0 {
            eventually("a spare", || spool.has_spare());
        }
        assert!(spool.append(&record(number)), "number {number}");
    }
}

#[test]
fn what_is_appended_comes_back_over_many_segments() {
    let temp = tempfile::tempdir().unwrap();
    let mut spool = open(options(temp.path()), 7);
    append_all(&mut spool, 0..20_000);
    assert_eq!((spool.counts().written, spool.counts().lost), (20_000, 0));
    spool.close(START_US + 5);
    let book = &books(temp.path())[&7];
    assert_eq!((book.records, book.missing.len()), (20_000, 0));
    assert!(book.segments > 10, "{}", book.segments);
    assert!(files(temp.path(), "spare-").is_empty());
    let last = Segment::open(sealed_segments(temp.path()).unwrap().pop().unwrap()).unwrap();
    let ending = last.ending().unwrap();
    assert_eq!((ending.sealed_us, ending.by), (START_US + 5, SealedBy::Owner));
    assert_eq!(last.possibly_lost(), 0);
    assert_eq!(last.header().gateway, "gw-test");
}

#[test]
fn a_record_takes_at_most_64_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let mut spool = open(options(temp.path()), 7);
    append_all(&mut spool, 0..10_000);
    spool.close(START_US);
    let bytes: u64 =
        sealed_segments(temp.path()).unwrap().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes / 10_000 <= 64, "{}", bytes / 10_000);
}

#[test]
fn an_old_segment_is_sealed_and_an_empty_one_only_after_a_minute() {
    let temp = tempfile::tempdir().unwrap();
    let mut spool = open(options(temp.path()), 7);
    eventually("a spare", || spool.has_spare());
    spool.tick(START_US + 59_000_000);
    assert!(spool.append(&record(0)));
    spool.tick(record(0).time_us + 4_999_999);
    assert_eq!(spool.counts().segments, 0);
    spool.tick(record(0).time_us + 5_000_000);
    eventually("sealed", || spool.counts().segments == 1);
    assert_eq!(books(temp.path())[&7].records, 1);
    spool.close(START_US);
}

#[test]
fn a_clock_set_back_neither_stops_sealing_nor_reuses_a_name() {
    let temp = tempfile::tempdir().unwrap();
    let mut spool = open(options(temp.path()), 7);
    let hour = 3_600_000_000;
    for number in 0..3 {
        eventually("a spare", || spool.has_spare());
        assert!(spool.append(&record(number)));
        let now = START_US - hour * (number + 1);
        spool.tick(now);
        spool.tick(now + 5_000_000);
        eventually("sealed", || spool.counts().segments == number + 1);
    }
    spool.close(START_US - 9 * hour);
    assert_eq!(books(temp.path())[&7].records, 3);
}

#[test]
fn a_writer_that_booked_nothing_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    open(options(temp.path()), 7).close(START_US);
    assert_eq!(files(temp.path(), ""), [""; 0]);
}

#[test]
fn a_refused_record_uses_up_its_number() {
    let temp = tempfile::tempdir().unwrap();
    let mut spool = open(options(temp.path()), 7);
    let long = "x".repeat(5000);
    for number in 0..10 {
        let mut record = record(number);
        if number % 5 == 4 {
            record.endpoint = &long;
        }
        assert_eq!(spool.append(&record), number % 5 != 4);
    }
    assert_eq!((spool.counts().written, spool.counts().lost), (8, 2));
    spool.close(START_US);
    let missing = &books(temp.path())[&7].missing;
    assert_eq!(*missing, BTreeMap::from([(4, Reason::Refused), (9, Reason::Refused)]));
}

/// A directory with orphans: copies of live segments, which nobody holds a lock on.
fn orphans(dir: &Path, streams: std::ops::Range<u128>, boot: u128) {
    let workshop = tempfile::tempdir().unwrap();
    for stream in streams {
        let mut spool = SpoolWriter::open(options(workshop.path()), boot, stream, START_US).unwrap();
        for number in 0..100 {
            assert!(spool.append(&record(number)));
        }
        eventually("active", || !files(workshop.path(), "active-").is_empty());
        let active = files(workshop.path(), "active-").remove(0);
        std::fs::copy(workshop.path().join(&active), dir.join(&active)).unwrap();
        spool.close(START_US);
    }
}

#[test]
fn sealers_in_a_race_seal_each_orphan_once() {
    let temp = tempfile::tempdir().unwrap();
    orphans(temp.path(), 1..31, boot_id().unwrap());
    std::fs::write(temp.path().join(format!("spare-{:032x}-{:010}.weir", 99, 0)), [0; 4096]).unwrap();
    let sealed: usize = std::thread::scope(|scope| {
        let sealers: Vec<_> = (0..4).map(|_| scope.spawn(|| seal_orphans(temp.path()).unwrap())).collect();
        sealers.into_iter().map(|sealer| sealer.join().unwrap()).sum()
    });
    assert_eq!(sealed, 30);
    assert_eq!(files(temp.path(), "").len(), 30);
    assert!(books(temp.path()).values().all(|book| book.records == 100 && book.missing.is_empty()));
    for path in sealed_segments(temp.path()).unwrap() {
        let segment = Segment::open(path).unwrap();
        assert_eq!(segment.ending().unwrap().by, SealedBy::Successor);
        assert_eq!(segment.possibly_lost(), 0);
    }
}

#[test]
fn after_a_restart_of_the_machine_the_loss_has_a_bound() {
    let temp = tempfile::tempdir().unwrap();
    orphans(temp.path(), 1..2, 12345);
    assert_eq!(seal_orphans(temp.path()).unwrap(), 1);
    let segment = Segment::open(&sealed_segments(temp.path()).unwrap()[0]).unwrap();
    assert_eq!(segment.ending().unwrap().by, SealedBy::AfterRestart);
    assert_eq!(segment.next_number(), 100);
    assert!((900..=1024).contains(&segment.possibly_lost()), "{}", segment.possibly_lost());
}

#[test]
fn a_writer_seals_what_the_dead_left_and_leaves_the_living_alone() {
    let temp = tempfile::tempdir().unwrap();
    orphans(temp.path(), 1..3, boot_id().unwrap());
    let mut first = open(options(temp.path()), 10);
    assert_eq!(sealed_segments(temp.path()).unwrap().len(), 2);
    let mut second = open(options(temp.path()), 11);
    for number in 0..2000 {
        if number % 250 == 0 {
            eventually("two spares", || first.has_spare() && second.has_spare());
            seal_orphans(temp.path()).unwrap();
        }
        assert!(first.append(&record(number)) && second.append(&record(number)));
    }
    first.close(START_US);
    second.close(START_US);
    let books = books(temp.path());
    assert_eq!(books.len(), 4);
    assert!([10, 11].iter().all(|stream| books[stream].records == 2000));
}

#[test]
fn an_orphan_without_a_header_is_kept_aside() {
    let temp = tempfile::tempdir().unwrap();
    orphans(temp.path(), 1..2, 1);
    let active = temp.path().join(&files(temp.path(), "active-")[0]);
    let mut bytes = std::fs::read(&active).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&active, &bytes).unwrap();
    assert_eq!(seal_orphans(temp.path()).unwrap(), 0);
    let damaged = files(temp.path(), "damaged-");
    assert_eq!(std::fs::read(temp.path().join(&damaged[0])).unwrap(), bytes);
    assert!(sealed_segments(temp.path()).unwrap().is_empty());
}

#[test]
fn a_symbolic_link_in_place_of_a_segment_is_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&outside, "precious").unwrap();
    orphans(temp.path(), 1..2, 1);
    symlink(&outside, temp.path().join(format!("active-{:032x}-{:010}.weir", 0, 0))).unwrap();
    assert!(matches!(seal_orphans(temp.path()), Err(SpoolError::NotAFile { .. })));
    assert_eq!(std::fs::read(&outside).unwrap(), b"precious");
    // The others are sealed all the same.
    assert_eq!(sealed_segments(temp.path()).unwrap().len(), 1);
}

#[test]
fn beyond_the_cap_the_oldest_go_and_are_noted_by_client() {
    let temp = tempfile::tempdir().unwrap();
    let mut small = options(temp.path());
    small.max_bytes = 8 * small.segment_bytes;
    let cap = small.max_bytes;
    let mut spool = open(small, 7);
    append_all(&mut spool, 0..40_000);
    let counts = spool.counts();
    assert_eq!((counts.written, counts.lost), (40_000, 0));
    assert!(counts.dropped > 10_000, "{counts:?}");
    spool.close(START_US);
    let (mut kept, mut noted, mut bytes) = (0, BTreeMap::<String, u64>::new(), 0);
    let mut expected = [0u64; 5];
    let first_kept = sealed_segments(temp.path())
        .unwrap()
        .iter()
        .filter_map(|path| {
            bytes += path.metadata().unwrap().len();
            let segment = Segment::open(path).unwrap();
            for entry in segment.records() {
                match entry {
                    Entry::Record { .. } => kept += 1,
                    Entry::Dropped(note) => *noted.entry(note.client.to_owned()).or_default() += note.records,
                    Entry::Gap(gap) => panic!("{gap:?}"),
                }
            }
            (segment.header().stream == 7).then_some(segment.header().first_number)
        })
        .min()
        .unwrap();
    assert!(bytes <= cap, "{bytes}");
    assert_eq!(kept + noted.values().sum::<u64>(), 40_000);
    for number in 0..first_kept {
        let client = record(number).client;
        expected[common::CLIENTS.iter().position(|c| *c == client).unwrap()] += 1;
    }
    for (client, expected) in common::CLIENTS.iter().zip(expected) {
        assert_eq!(noted[*client], expected);
    }
}

#[test]
fn beyond_the_cap_the_newest_are_refused_until_there_is_room() {
    let temp = tempfile::tempdir().unwrap();
    let mut small = options(temp.path());
    small.max_bytes = 4 * small.segment_bytes;
    small.full = Full::Newest;
    let mut spool = open(small, 7);
    let mut number = 0;
    let mut trouble = None;
    eventually("the cap", || {
        for _ in 0..100 {
            spool.append(&record(number));
            number += 1;
        }
        trouble = trouble.take().or(spool.take_trouble());
        trouble.is_some() && spool.counts().lost > 0
    });
    assert!(trouble.unwrap().contains("cap of 262144 bytes"));
    // The collector comes.
    let mut taken = 0;
    for path in sealed_segments(temp.path()).unwrap() {
        taken +=
            Segment::open(&path).unwrap().records().filter(|e| matches!(e, Entry::Record { .. })).count();
        std::fs::remove_file(path).unwrap();
    }
    eventually("room", || {
        number += 1;
        spool.append(&record(number - 1))
    });
    let counts = spool.counts();
    assert_eq!(counts.written + counts.lost, number);
    spool.close(START_US);
    let mut rest = 0;
    let mut missing = 0;
    for path in sealed_segments(temp.path()).unwrap() {
        for entry in Segment::open(path).unwrap().records() {
            match entry {
                Entry::Record { .. } => rest += 1,
                Entry::Gap(gap) => missing += gap.to - gap.from,
                Entry::Dropped(note) => panic!("{note:?}"),
            }
        }
    }
    assert_eq!(taken as u64 + rest, counts.written);
    assert!(missing <= counts.lost);
}

#[test]
fn a_directory_that_others_can_write_or_own_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let try_open = |dir: &Path| SpoolWriter::open(options(dir), 1, 7, START_US).err();

    let link = temp.path().join("link");
    symlink(temp.path(), &link).unwrap();
    assert!(matches!(try_open(&link), Some(SpoolError::NotADirectory { .. })));
    assert!(matches!(try_open(&link.join("")), Some(SpoolError::NotADirectory { .. })));

    let open_to_all = temp.path().join("open");
    std::fs::create_dir(&open_to_all).unwrap();
    std::fs::set_permissions(&open_to_all, PermissionsExt::from_mode(0o777)).unwrap();
    assert!(matches!(try_open(&open_to_all), Some(SpoolError::WorldWritable { .. })));
    let check = SpoolWriter::check(&options(&open_to_all)).unwrap_err().to_string();
    assert!(check.contains("chmod o-w"), "{check}");

    // Root gives a directory away; others find one of root's.
    let foreign = match rustix::process::geteuid().is_root() {
        true => {
            std::os::unix::fs::chown(&open_to_all, Some(1), None).unwrap();
            std::fs::set_permissions(&open_to_all, PermissionsExt::from_mode(0o750)).unwrap();
            open_to_all
        }
        false => "/usr".into(),
    };
    assert!(matches!(try_open(&foreign), Some(SpoolError::Owner { .. })));
}

#[test]
fn a_missing_directory_is_named_by_check_and_made_by_open() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("a/b");
    let error = SpoolWriter::check(&options(&dir)).unwrap_err();
    assert!(matches!(error, SpoolError::Missing { .. }));
    assert!(error.to_string().contains("install -d -m 0750"));
    assert!(!dir.exists());
    let mut spool = open(options(&dir), 7);
    assert!(spool.append(&record(0)));
    SpoolWriter::check(&options(&dir)).unwrap();
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o750);
    spool.close(START_US);
    assert_eq!(books(&dir)[&7].records, 1);
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let refused = |change: fn(&mut SpoolOptions)| {
        let mut options = options(temp.path());
        change(&mut options);
        SpoolWriter::check(&options).unwrap_err().to_string()
    };
    assert!(refused(|o| o.gateway.clear()).contains("weir_gateway"));
    assert!(refused(|o| o.segment_bytes = 5000).contains("64 KiB"));
    assert!(refused(|o| o.max_bytes = 100).contains("max"));
    assert!(refused(|o| o.sync_every_ms = 0).contains("sync"));
}
