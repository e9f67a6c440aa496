//! Two days of spool: what comes of it, in which order, and how much memory it takes. It is the only test
//! of this file, since the most memory is that of a process.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use object_store::memory::InMemory;
use weir_analytics::books;
use weir_analytics::calendar::HOUR_US;
use weir_analytics::collect::{Collected, collect_some};
use weir_analytics::rollup::roll_up;
use weir_analytics::store::Store;
use weir_analytics::view::Grain;
use weir_metering::{Decision, Record, SpoolOptions, SpoolWriter, sealed_segments};

const HOURS: u64 = 48;
const SEGMENTS: u64 = 8;
const RECORDS: u64 = 100;
/// Midnight (UTC) of 2026-12-31.
const START_US: u64 = 1_798_675_200_000_000;
const END_US: i64 = START_US as i64 + HOURS as i64 * HOUR_US;

/// The most memory that this process has had, in MB: proc(5).
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Each hour has some segments, sealed when it ended.
fn fill(dir: &Path) {
    for n in 0..HOURS * SEGMENTS {
        let begin_us = START_US + n / SEGMENTS * HOUR_US as u64;
        let options = SpoolOptions { segment_bytes: 64 << 10, ..SpoolOptions::new(dir, "gw") };
        // So that names are in no order of time.
        let stream = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut spool = SpoolWriter::open(options, 1, stream, begin_us).unwrap();
        for i in 0..RECORDS {
            let record = Record {
                time_us: begin_us + i * 30_000_000,
                client: ["acme", "globex"][(i % 2) as usize],
                tier: "t",
                endpoint: "/",
                method: "GET",
                status: 200,
                latency_us: i,
                upstream_us: None,
                bytes_in: 1,
                bytes_out: 2,
                decision: Decision::Passed,
                limit: "",
                policy_version: 1,
            };
            assert!(spool.append(&record));
        }
        spool.close(begin_us + HOUR_US as u64);
        let name = format!("{stream:032x}-{:010}.weir", 0);
        let sealed = File::options().write(true).open(dir.join(name)).unwrap();
        sealed.set_modified(UNIX_EPOCH + Duration::from_micros(begin_us + HOUR_US as u64)).unwrap();
    }
}

fn requests(store: &Store, from_us: i64) -> impl Future<Output = i64> {
    let read = books::read(store, from_us, END_US, Grain::Hour, None);
    async move { read.await.unwrap().platform.totals.requests }
}

#[test]
fn two_days_of_backlog_are_taken_newest_first_within_the_memory_of_a_portion() {
    let (dir, store) = (tempfile::tempdir().unwrap(), Store::new(Arc::new(InMemory::new())));
    fill(dir.path());
    let one = sealed_segments(dir.path()).unwrap()[0].metadata().unwrap().len();
    let dirs = [dir.path().to_owned()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut portions, mut done, mut first_mb) = (0, Collected::default(), 0);
        while portions == 0 || done.left > 0 {
            let mut seen = Vec::new();
            done = collect_some(&store, &dirs, END_US, one * 2 * SEGMENTS, &mut |at, all| {
                seen.push((at, all));
            })
            .await;
            assert!(done.failed.is_empty(), "{done:?}");
            let all = (done.segments + done.left) as usize;
            assert!(seen.is_sorted() && seen[0] == (0, all), "{seen:?}");
            assert_eq!(seen.last(), Some(&(done.segments as usize, all)));
            // Nobody takes the books for complete as long as older segments wait.
            assert_eq!(done.complete_to_us == END_US, done.left == 0);
            let rolled_up = roll_up(&store, END_US, &mut |_, _| {}).await.unwrap();
            assert!(rolled_up.failed.is_empty(), "{rolled_up:?}");
            portions += 1;
            let hours = (done.segments / SEGMENTS) as i64;
            if portions == 1 {
                assert!((1..=3).contains(&hours), "{done:?}");
                let whole = hours * (SEGMENTS * RECORDS) as i64;
                assert_eq!(requests(&store, END_US - hours * HOUR_US).await, whole, "the newest hours");
            }
            // What the first portions leave behind is kept; then it is the same again and again.
            if portions == 4 {
                first_mb = peak_mb();
            }
        }
        assert!(portions > 10, "{portions}");
        assert_eq!(requests(&store, START_US as i64).await, (HOURS * SEGMENTS * RECORDS) as i64);
        let grown = peak_mb() - first_mb;
        assert!(grown < 100, "{grown} MB more after {portions} portions than after 4");
        println!("{first_mb} MB, {grown} MB more after {portions} portions");
    });
}
