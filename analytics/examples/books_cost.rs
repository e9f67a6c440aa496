//! Prints what the books cost: bytes of one record in Parquet, and what a tick does with
//! 100,000 new records on top of a day at 200,000 requests a minute. The store is in memory, so what a
//! store takes is not in it.
//!
//! `cargo run --release -p weir-analytics --example books_cost`

#![allow(clippy::disallowed_methods)]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use object_store::memory::InMemory;
use weir_analytics::books::{self, Each};
use weir_analytics::calendar::{DAY_US, HOUR_US, MINUTE_US, Partition};
use weir_analytics::collect::collect;
use weir_analytics::fold::fold;
use weir_analytics::part::{PartNote, QUEUE, RECORDS, usage_file};
use weir_analytics::records::Records;
use weir_analytics::rollup::roll_up;
use weir_analytics::store::Store;
use weir_analytics::table::Table;
use weir_analytics::view::Grain;
use weir_metering::{Decision, Record, SpoolOptions, SpoolWriter};

const NEW: u64 = 100_000;
const PER_MINUTE: u64 = 200_000;
/// Midnight (UTC) of 2026-12-31.
const START_US: i64 = 1_798_675_200_000_000;
const CLIENTS: u64 = 80;
/// Records that one minute of the day is made from; every sum is then multiplied.
const SAMPLE: u64 = 5_000;

fn main() -> Result<(), Box<dyn Error>> {
    let spool = tempfile::tempdir()?;
    let store = Store::new(Arc::new(InMemory::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        a_day(&store).await?;
        let now_us = START_US + 23 * HOUR_US + 30 * MINUTE_US;
        fill(spool.path(), now_us as u64)?;
        let begun = Instant::now();
        let done = collect(&store, &[spool.path().to_owned()], now_us).await;
        let collected = begun.elapsed();
        let rolled = roll_up(&store, now_us, &mut |_, _| {}).await?;
        let all = begun.elapsed();
        let each = Each::BUSIEST;
        let read = books::read_of(&store, now_us - DAY_US..now_us, Grain::Hour, None, each).await?;
        let shown = begun.elapsed();
        let requests = (23 * 60 * PER_MINUTE + NEW) as i64;
        if done.new_records != NEW || read.platform.totals.requests != requests {
            return Err(format!("{done:?} {rolled:?}: {} requests", read.platform.totals.requests).into());
        }
        let records: u64 = store.list(RECORDS).await?.iter().map(|object| object.size).sum();
        println!("parquet_bytes_per_record {:.1}", records as f64 / NEW as f64);
        println!("tick_s {:.3}", shown.as_secs_f64());
        println!("tick_collect_s {:.3}", collected.as_secs_f64());
        println!("tick_roll_up_s {:.3}", (all - collected).as_secs_f64());
        println!("tick_read_for_pages_s {:.3}", (shown - all).as_secs_f64());
        Ok(())
    })
}

/// 23 hours, rolled up.
async fn a_day(store: &Store) -> Result<(), Box<dyn Error>> {
    for hour in 0..23 {
        let start_us = START_US + hour * HOUR_US;
        let first = hour as u64 * 60 * PER_MINUTE;
        let next = first + 60 * PER_MINUTE;
        let note = PartNote {
            gateway: "gateway-1".to_owned(),
            stream: format!("{:032x}", 7),
            segment: hour as u32,
            held: serde_json::from_str(&format!("[[{first},{next}]]"))?,
            first,
            next,
            ..PartNote::default()
        };
        let path = format!("{QUEUE}/{}/{}", Partition::at(Grain::Minute, start_us).key(), note.name());
        store.create(&path, usage_file(&an_hour(start_us)?, &note)?).await?;
    }
    roll_up(store, START_US + 23 * HOUR_US, &mut |_, _| {}).await?;
    Ok(())
}

/// The record of some moment: a skewed pick of clients, as APIs have it.
fn record(number: u64, time_us: u64, clients: &[String]) -> Record<'_> {
    let pick = (fastrand::f64().powi(3) * clients.len() as f64) as usize;
    Record {
        time_us,
        client: &clients[pick],
        tier: ["free", "pro", "enterprise"][pick % 3],
        endpoint: ["orders", "orders/{id}", "reports", "search"][fastrand::usize(0..4)],
        method: ["GET", "POST"][usize::from(number.is_multiple_of(7))],
        status: if number.is_multiple_of(50) { 429 } else { 200 },
        latency_us: fastrand::u64(500..80_000),
        upstream_us: Some(fastrand::u64(400..79_000)),
        bytes_in: fastrand::u64(200..900),
        bytes_out: fastrand::u64(300..40_000),
        decision: Decision::Passed,
        limit: "100 requests/minute",
        policy_version: 0x1234_5678_9abc_def0,
    }
}

fn clients() -> Vec<String> {
    (0..CLIENTS).map(|n| format!("client-{n:03}")).collect()
}

/// An hour's minutes as they are when all of its 12 million requests are folded.
fn an_hour(start_us: i64) -> Result<Table, Box<dyn Error>> {
    let (clients, mut records) = (clients(), Records::default());
    for minute in 0..60 {
        for number in 0..SAMPLE {
            let time_us = start_us + minute * MINUTE_US + number as i64;
            records.push(minute as u64 * SAMPLE + number, &record(number, time_us as u64, &clients), true);
        }
    }
    let mut table = fold(&[&Table::of_records(&records)], Grain::Minute)?;
    let times = (PER_MINUTE / SAMPLE) as i64;
    let counts = table.latency.counts.iter_mut().chain(&mut table.status.counts);
    table.sums.iter_mut().flatten().chain(counts).for_each(|n| *n *= times);
    Ok(table)
}

/// Books the new records, spread over the last half minute.
fn fill(dir: &Path, now_us: u64) -> Result<(), Box<dyn Error>> {
    let clients = clients();
    let begin_us = now_us - NEW * 300;
    let options = SpoolOptions { segment_bytes: 32 << 20, ..SpoolOptions::new(dir, "gateway-1") };
    let mut spool = SpoolWriter::open(options, 1, u128::from(fastrand::u64(..)), begin_us)?;
    for number in 0..NEW {
        if !spool.append(&record(number, begin_us + number * 300, &clients)) {
            return Err("the spool refused a record".into());
        }
    }
    spool.close(now_us);
    Ok(())
}
