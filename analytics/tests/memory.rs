//! However many clients there are in an hour, they are rolled up and read for pages within the memory
//! that docs/store.md states. It is the only test of this file, since the most memory is that of a process.
//! `make soak-memory` does it with a million.

// How many, the environment says.
#![allow(clippy::disallowed_methods)]

use weir_analytics::books::{self, Each, OTHERS};
use weir_analytics::calendar::{HOUR_US, MINUTE_US, Partition};
use weir_analytics::part::{PartNote, QUEUE, usage_file};
use weir_analytics::rollup::roll_up;
use weir_analytics::store::Store;
use weir_analytics::table::{PASSED, REQUESTS, Table};
use weir_analytics::view::Grain;

/// Clients in the roll-up of one segment.
const SEGMENT: u64 = 25_000;
/// A client that sends more than the others.
const BUSIEST: u64 = 123_456;
const START_US: i64 = 1_798_761_600_000_000;

/// The most memory that this process has had, in MB: proc(5).
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// What docs/store.md states.
const MOST_MB: u64 = 450;

fn clients() -> u64 {
    std::env::var("WEIR_CLIENTS").map_or(200_000, |count| count.parse().unwrap())
}

/// What one segment was rolled up to: a request of each client, but for one that sends three.
fn segment(clients: std::ops::Range<u64>) -> Table {
    let mut table = Table::default();
    for client in clients {
        let requests = if client == BUSIEST { 3 } else { 1 };
        let texts = [format!("client-{client:07}"), "t".into(), "/".into(), "GET".into()];
        table.time_us.push(START_US + (client % 60) as i64 * MINUTE_US);
        for (column, text) in table.texts.iter_mut().zip(&texts) {
            column.push(table.names.intern(text));
        }
        for (n, column) in table.sums.iter_mut().enumerate() {
            column.push(if [REQUESTS, REQUESTS + 3, PASSED].contains(&n) { requests } else { 0 });
        }
        table.latency_min_us.push(Some(1_000));
        table.latency_max_us.push(Some(1_000));
        table.latency.push_sum(&mut [(349, requests)]);
        table.status.push_sum(&mut [(200, requests)]);
    }
    table
}

fn note(segment: u64, from: u64, to: u64) -> PartNote {
    PartNote {
        gateway: "gw".to_owned(),
        stream: format!("{:032x}", 7),
        segment: segment as u32,
        held: serde_json::from_str(&format!("[[{from},{to}]]")).unwrap(),
        first: from,
        next: to,
        ..PartNote::default()
    }
}

async fn fill(store: &Store) {
    let (hour, mut number) = (Partition::at(Grain::Minute, START_US), 0);
    for n in 0..clients() / SEGMENT {
        let table = segment(n * SEGMENT..(n + 1) * SEGMENT);
        let note = note(n, number, number + table.requests() as u64);
        number = note.next;
        let path = format!("{QUEUE}/{}/{}", hour.key(), note.name());
        store.create(&path, usage_file(&table, &note).unwrap()).await.unwrap();
    }
}

#[test]
fn many_clients_in_an_hour_take_no_more_memory_than_is_stated() {
    let all = clients() as i64;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        fill(&store).await;
        let before = peak_mb();
        let done = roll_up(&store, START_US + HOUR_US, &mut |_, _| {}).await.unwrap();
        assert_eq!((done.parts, done.failed), (clients() / SEGMENT, Vec::<String>::new()));
        let rolled_up = peak_mb();
        println!("{before} MB before, at most {rolled_up} MB while rolling up");
        let named = |id: &str| ["client-0000007", "client-0199999"].contains(&id);
        for grain in [Grain::Minute, Grain::Month] {
            let range = grain.floor(START_US)..START_US + HOUR_US;
            let each = Each { named: &named, others: 1_000 };
            let read = books::read_of(&store, range, grain, None, each).await.unwrap();
            assert_eq!(read.platform.totals.requests, all + 2);
            let rows = read.platform.rows.iter();
            let (others, told): (Vec<_>, Vec<_>) = rows.partition(|row| row.client == OTHERS);
            assert_eq!(others.iter().map(|row| row.totals.requests).sum::<i64>(), all - 1_002);
            assert_eq!((told.len(), read.clients.len()), (1_002, 1_002));
            let requests = |id: &str| read.clients[id].totals.requests;
            assert_eq!((requests("client-0123456"), requests("client-0000007")), (3, 1));
        }
        println!("at most {} MB while reading for pages", peak_mb());
        assert!(peak_mb() < MOST_MB, "{} MB", peak_mb());
    });
}
