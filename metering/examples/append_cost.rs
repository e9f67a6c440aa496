//! Prints what booking one request costs in process, and how many bytes it takes.
//!
//! `cargo run --release -p weir-metering --example append_cost [DIR]`

use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};
use weir_metering::{Decision, Record, Segment, SpoolOptions, SpoolWriter, sealed_segments};

const RECORDS: u64 = 2_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or(dir.path().to_owned(), Into::into);
    let clients: Vec<String> = (0..80).map(|i| format!("client-{i:03}")).collect();
    let mut options = SpoolOptions::new(&dir, "bench");
    options.segment_bytes = 128 << 20;
    options.max_bytes = 8 << 30;
    let mut spool = SpoolWriter::open(options, 1, u128::from(fastrand::u64(..)), 0)?;
    let records: Vec<Record<'_>> = (0..4096).map(|i| record(i, &clients)).collect();
    let begin = cpu_ns();
    let mut booked = 0u64;
    for number in 0..RECORDS {
        let mut record = records[(number & 4095) as usize].clone();
        record.time_us = number * 20;
        booked += u64::from(spool.append(black_box(&record)));
    }
    let nanoseconds = (cpu_ns() - begin) as f64 / RECORDS as f64;
    spool.close(RECORDS * 20);
    let mut bytes = 0;
    for path in sealed_segments(&dir)? {
        bytes += path.metadata()?.len();
        Segment::open(path)?;
    }
    println!("cpu_record_us {:.3}", nanoseconds / 1000.0);
    println!("booked {booked} of {RECORDS}");
    println!("spool_bytes_per_record {:.1}", bytes as f64 / booked as f64);
    Ok(())
}

/// CPU time of this thread: other load on the machine does not count.
fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// A skewed pick of clients, as APIs have it.
fn record(i: u64, clients: &[String]) -> Record<'_> {
    let pick = fastrand::f64().powi(3) * clients.len() as f64;
    Record {
        time_us: 0,
        client: &clients[pick as usize],
        tier: ["free", "pro", "enterprise"][pick as usize % 3],
        endpoint: ["orders", "orders/{id}", "reports", "search"][fastrand::usize(0..4)],
        method: ["GET", "POST"][i.is_multiple_of(7) as usize],
        status: if i.is_multiple_of(50) { 429 } else { 200 },
        latency_us: fastrand::u64(500..80_000),
        upstream_us: Some(fastrand::u64(400..79_000)),
        bytes_in: fastrand::u64(200..900),
        bytes_out: fastrand::u64(300..40_000),
        decision: Decision::Passed,
        limit: "100 requests/minute",
        policy_version: 0x1234_5678_9abc_def0,
    }
}
