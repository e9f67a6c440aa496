//! A lot at once: 1.35 billion requests of a real site go in as minutes, and the months tell them exactly.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use object_store::memory::InMemory;
use weir_analytics::books;
use weir_analytics::calendar::{HOUR_US, MINUTE_US, Partition};
use weir_analytics::held::Held;
use weir_analytics::held::Numbers;
use weir_analytics::part::{PartNote, QUEUE, part_name, usage_file};
use weir_analytics::rollup::roll_up;
use weir_analytics::store::Store;
use weir_analytics::table::{PASSED, REQUESTS, Table};
use weir_analytics::view::Grain;

const STREAM: &str = "000000000000000000000000000098ff";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A disk's syncs would be most of the time.
fn in_memory() -> Store {
    Store::new(Arc::new(InMemory::new()))
}

fn note(segment: u32, from: u64, to: u64) -> PartNote {
    let held: Numbers = serde_json::from_str(&format!("[[{from},{to}]]")).unwrap();
    PartNote {
        gateway: "gw".to_owned(),
        stream: STREAM.to_owned(),
        segment,
        boot: String::new(),
        held,
        first: from,
        next: to,
        gaps: Vec::new(),
        life: None,
        lost: BTreeMap::new(),
        others: Held::default(),
    }
}

/// The most memory that this process has had, in MB: proc(5).
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Requests of each minute (microseconds UTC), in order.
fn world_cup(csv: &str) -> BTreeMap<i64, i64> {
    let parse = |line: &str| {
        let (time, count) = line.split_once(',').unwrap();
        let time: jiff::civil::DateTime = time.parse().unwrap();
        let at = jiff::tz::TimeZone::UTC.to_timestamp(time).unwrap();
        (at.as_microsecond(), count.trim().parse().unwrap())
    };
    csv.lines().skip(1).map(parse).collect()
}

/// Minutes of one hour, each spread over the clients.
fn spread(minutes: &[(i64, i64)]) -> Table {
    const CLIENTS: i64 = 7;
    let mut table = Table::default();
    // Sorted by client, as what a part's roll-up is.
    for client in 0..CLIENTS {
        for &(time_us, count) in minutes {
            let share = (count + client) / CLIENTS;
            if share == 0 {
                continue;
            }
            let texts = [format!("client-{client}"), "t".into(), "/".into(), "GET".into()];
            table.time_us.push(time_us);
            for (column, text) in table.texts.iter_mut().zip(&texts) {
                column.push(table.names.intern(text));
            }
            for (n, column) in table.sums.iter_mut().enumerate() {
                column.push(if [REQUESTS, REQUESTS + 3, PASSED].contains(&n) { share } else { 0 });
            }
            table.latency_min_us.push(None);
            table.latency_max_us.push(None);
            table.latency.push_sum(&mut []);
            table.status.push_sum(&mut [(200, share)]);
        }
    }
    table
}

#[test]
fn the_world_cup_of_1998_is_in_the_months_to_the_last_request() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/worldcup98/invocation_count.csv");
    let Ok(csv) = std::fs::read_to_string(&file) else {
        assert!(option_env!("CI").is_none(), "{} has to be there", file.display());
        println!("not run: {} is not there", file.display());
        return;
    };
    let minutes = world_cup(&csv);
    assert_eq!(minutes.values().sum::<i64>(), 1_352_804_107);
    let (first, last) = (*minutes.keys().next().unwrap(), *minutes.keys().last().unwrap());
    let store = in_memory();
    let mut by_hour: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    for (&time_us, &count) in &minutes {
        by_hour.entry(time_us - time_us.rem_euclid(HOUR_US)).or_default().push((time_us, count));
    }
    runtime().block_on(async {
        let mut number = 0;
        for (segment, (hour_us, minutes)) in by_hour.iter().enumerate() {
            let requests = minutes.iter().map(|m| m.1).sum::<i64>() as u64;
            let note = note(segment as u32, number, number + requests);
            number += requests;
            let hour = Partition::at(Grain::Minute, *hour_us);
            let path = format!("{QUEUE}/{}/{}", hour.key(), part_name(STREAM, note.segment));
            store.create(&path, usage_file(&spread(minutes), &note).unwrap()).await.unwrap();
        }
        let done = roll_up(&store, last + 10 * HOUR_US, &mut |_, _| {}).await.unwrap();
        assert_eq!((done.parts, done.failed), (by_hour.len() as u64, Vec::<String>::new()));
        let read = books::read(&store, first, last + MINUTE_US, Grain::Month, None).await.unwrap();
        assert_eq!(read.platform.totals.requests, 1_352_804_107);
        let months: Vec<i64> =
            read.platform.series.points.iter().map(|(_, totals)| totals.requests).collect();
        let mut want: BTreeMap<i64, i64> = BTreeMap::new();
        minutes.iter().for_each(|(&at, n)| *want.entry(Grain::Month.floor(at)).or_default() += n);
        assert_eq!(months, want.into_values().collect::<Vec<i64>>());
        assert_eq!(read.clients.values().map(|c| c.totals.requests).sum::<i64>(), 1_352_804_107);
        assert_eq!(read.clients.len(), 7);
    });
    assert!(peak_mb() < 1_024, "{} MB", peak_mb());
}
