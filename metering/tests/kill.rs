//! kill -9 at random moments: every record that was finished is there once, and no number is a hole.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use common::{books, child, child_dir, child_extra, files, options, record};
use weir_metering::{Reason, SpoolWriter, boot_id, seal_orphans};

/// The process that is killed: appends for ever and says after each record what became of it.
#[test]
#[ignore = "run by `killed_at_random_moments`"]
fn appends_until_killed() {
    let stream = child_extra().parse().unwrap();
    let boot = boot_id().unwrap();
    let mut spool = SpoolWriter::open(options(&child_dir()), boot, stream, common::START_US).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@").unwrap();
    for number in 0.. {
        let record = record(number);
        let word = if spool.append(&record) { "+\n" } else { "-\n" };
        out.write_all(word.as_bytes()).unwrap();
        out.flush().unwrap();
        if number % 512 == 0 {
            spool.tick(record.time_us);
        }
    }
}

/// Lets a child book about `records` records, kills it, and returns for each number whether it was booked.
fn kill_after(dir: &Path, stream: u128, records: usize) -> Vec<bool> {
    let mut child = child("appends_until_killed", dir, &stream.to_string());
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    out.by_ref().find(|line| line.as_ref().is_ok_and(|line| line == "@")).unwrap().unwrap();
    let mut said: Vec<bool> = Vec::new();
    let mut booked = 0;
    while booked < records {
        let line = out.next().unwrap().unwrap();
        booked += usize::from(line == "+");
        said.push(line == "+");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had written before it died; a line is written whole, being two bytes.
    said.extend(out.map_while(Result::ok).filter(|line| !line.is_empty()).map(|line| line == "+"));
    said
}

#[test]
fn killed_at_random_moments() {
    let temp = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(42);
    let mut rounds = Vec::new();
    for round in 0..50 {
        let stream = u128::from(random.u64(..)) << 64 | round;
        // From the first record to the eighth segment or so.
        let records = 1 + random.usize(0..16_000);
        rounds.push((stream, kill_after(temp.path(), stream, records)));
    }
    seal_orphans(temp.path()).unwrap();
    for left in ["active-", "spare-", "copy-", "damaged-"] {
        assert_eq!(files(temp.path(), left), [""; 0]);
    }
    let books = books(temp.path());
    assert_eq!(books.len(), rounds.len());
    let mut segments = 0;
    for (stream, said) in rounds {
        let book = &books[&stream];
        // One record may have been finished and not reported yet.
        let reported = said.len() as u64;
        assert!((reported..=reported + 1).contains(&book.next), "{reported} {}", book.next);
        for (number, booked) in said.iter().enumerate() {
            let missing = book.missing.get(&(number as u64)).copied();
            assert_eq!(missing, (!booked).then_some(Reason::NoRoom), "number {number}");
        }
        segments += book.segments;
    }
    assert!(segments > 75, "kills should have met segments being changed: {segments}");
}
