//! What the spool's tests share: records that follow from their number, and a look at a directory.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir_metering::{Decision, Entry, Reason, Record, Segment, SpoolOptions, sealed_segments};

pub const START_US: u64 = 1_790_000_000_000_000;
pub const CLIENTS: [&str; 5] = ["acme", "globex", "O'Neill \"& Co\"\r\n", "zürich-日本", "anonymous"];

/// The record that has this number in every test.
pub fn record(number: u64) -> Record<'static> {
    let pick = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Record {
        time_us: START_US + number * 900,
        client: CLIENTS[(pick % 5) as usize],
        tier: ["free", "pro", "enterprise"][(pick % 3) as usize],
        endpoint: ["orders", "reports", "", "search"][(pick % 4) as usize],
        method: ["GET", "POST"][(pick % 2) as usize],
        status: [200, 404, 429, 499, 502][(pick % 5) as usize],
        latency_us: pick % 3_000_000,
        upstream_us: (!pick.is_multiple_of(4)).then_some(pick % 2_000_000),
        bytes_in: 200 + pick % 2000,
        bytes_out: pick % 100_000,
        decision: Decision::ALL[(pick % 8) as usize],
        limit: ["100 requests/minute", ""][(pick % 2) as usize],
        policy_version: 0x0123_4567_89ab_cdef ^ (number / 5000),
    }
}

pub fn options(dir: &Path) -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 64 << 10,
        max_bytes: 256 << 20,
        sync_every_ms: 10,
        ..SpoolOptions::new(dir, "gw-test")
    }
}

pub fn files(dir: &Path, prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// What the sealed segments of one stream say about each of its numbers.
#[derive(Default, Debug)]
pub struct Books {
    pub records: u64,
    pub missing: BTreeMap<u64, Reason>,
    pub next: u64,
    pub segments: u64,
}

/// Reads all sealed segments, by stream. Panics unless within each stream every number from 0 on is
/// there exactly once, as the right record or as missing.
pub fn books(dir: &Path) -> BTreeMap<u128, Books> {
    let mut all = BTreeMap::<u128, Books>::new();
    for path in sealed_segments(dir).unwrap() {
        let segment = Segment::open(&path).unwrap();
        let books = all.entry(segment.header().stream).or_default();
        assert_eq!(segment.header().first_number, books.next, "{}", path.display());
        assert!(segment.ending().is_some(), "{}", path.display());
        books.segments += 1;
        for entry in segment.records() {
            books.add(entry);
        }
        assert_eq!(books.next, segment.next_number());
    }
    all
}

impl Books {
    fn add(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::Record { number, record: read } => {
                assert_eq!(number, self.next);
                assert_eq!(read, record(number));
                self.records += 1;
                self.next += 1;
            }
            Entry::Gap(gap) => {
                assert_eq!(gap.from, self.next);
                self.missing.extend((gap.from..gap.to).map(|n| (n, gap.reason)));
                self.next = gap.to;
            }
            Entry::Dropped(_) => {}
        }
    }
}

/// Polls until `holds`; fails after ten seconds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs the ignored test `name` of this binary in a process of its own.
pub fn child(name: &str, dir: &Path, extra: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env("WEIR_TEST_DIR", dir)
        .env("WEIR_TEST_EXTRA", extra)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub fn child_dir() -> std::path::PathBuf {
    std::env::var_os("WEIR_TEST_DIR").expect("started by another test").into()
}

pub fn child_extra() -> String {
    std::env::var("WEIR_TEST_EXTRA").expect("started by another test")
}

/// Runs it to its end and wants it to pass.
pub fn child_passes(name: &str, dir: &Path, extra: &str) {
    let output = child(name, dir, extra).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
}
