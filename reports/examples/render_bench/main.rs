//! How long all pages take, for a platform of a thousand clients and two hundred endpoints, and what
//! readers of them wait for: one JSON object a line, for `make bench-site`.
//!
//! ```sh
//! cargo run --release -p weir-reports --example render_bench
//! ```

// A benchmark reads the clock.
#![allow(clippy::disallowed_methods)]

mod browse;
mod said;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::ops::Range;
use std::time::Instant;

use weir_analytics::cube::{Data, Gathered, HOUR_DAYS};
use weir_analytics::table::{BYTES_IN, BYTES_OUT, LATENCY_SUM_US, PASSED, REQUESTS, STATUS_0, Table};
use weir_analytics::view::{
    Completeness, Grain, Latencies, QuotaFinding, Recent, Row, Series, Totals, Usage,
};
use weir_reports::{Directories, SiteInput, render_site};

const CLIENTS: usize = 1_000;
const ENDPOINTS: usize = 200;
/// Endpoints that one client calls on one day.
const CALLED: usize = 20;
const HOUR: i64 = 3_600_000_000;
const NOW: i64 = 1_795_528_800_000_000;
const YEAR_DAYS: i64 = 365;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("weir-render-bench-{}", std::process::id()));
    let done = measure(&dir);
    fs::remove_dir_all(&dir)?;
    done
}

fn measure(dir: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let clients: Vec<(String, Usage)> = (0..CLIENTS).map(|n| (id(n), usage_of(n))).collect();
    let overview = together(clients.iter().map(|(_, usage)| usage));
    let endpoints = by_endpoint(&clients);
    let text: String = (0..CLIENTS).map(|n| format!("[clients.{}]\ntier = \"basic\"\n", id(n))).collect();
    let limits = "limits = [\"100 requests/minute\", \"2000 requests/hour\", \"500 MB/hour\"]";
    let policy =
        weir_policy::parse(&format!("[tiers.basic]\n{limits}\n{text}")).map_err(|p| format!("{p:?}"))?;
    let begun = Instant::now();
    let mut days = Gathered::default();
    // A real run reads a month at a time as well.
    for first in (0..YEAR_DAYS).step_by(30) {
        days.add(&days_of(first..YEAR_DAYS.min(first + 30)), 0);
    }
    let mut hours = Gathered::default();
    (0..HOUR_DAYS).for_each(|day| hours.add(&hours_of(day), 0));
    let data = Data { hours: hours.sorted(), days: days.sorted(), months: months() };
    figure("gather_s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let (findings, recent, directories) =
        (Vec::<QuotaFinding>::new(), Recent::default(), Directories::new([1; 32]));
    let mut input = SiteInput {
        now_us: NOW,
        policy: &policy,
        overview: &overview,
        previous: Some(&overview),
        clients: &clients,
        endpoints: &endpoints,
        findings: &findings,
        recent: &recent,
        anomalies: &said::anomalies(),
        promises: Some(&said::promises()),
        forecasts: &said::forecasts(),
        data: Some(&data),
        live: &[],
        live_usage: None,
        public_url: Some("https://usage.example.com"),
        directories: &directories,
    };
    let report = render_site(&input, &dir.join("site"), &dir.join("portal"))?;
    figure("render_1000_clients_s", begun.elapsed().as_secs_f64());
    figure("render_mb_written", report.bytes as f64 / 1e6);
    // Every five minutes the data is read anew, though nothing may have changed; between that it is not.
    for (name, data) in [("unchanged", Some(&data)), ("unchanged_without_data", None)] {
        input.data = data;
        let begun = Instant::now();
        let again = render_site(&input, &dir.join("site"), &dir.join("portal"))?;
        figure(&format!("render_{name}_s"), begun.elapsed().as_secs_f64());
        figure(&format!("render_{name}_kept"), (again.kept + again.kept_pages) as f64);
    }
    figure("render_peak_mb", peak_mb()?);
    browse::measure(dir)
}

fn figure(name: &str, value: f64) {
    println!("{{\"figure\": \"{name}\", \"value\": {value:.3}}}");
}

/// What Linux says this process had at most, data included that a real run would read.
fn peak_mb() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1e3)
}

fn id(n: usize) -> String {
    format!("client-{n:04}")
}

fn endpoint(n: usize) -> String {
    format!("/resource/{n:03}/{{id}}")
}

fn totals(n: i64) -> Totals {
    let mut totals = Totals { requests: n, bytes_in: n * 600, bytes_out: n * 7_000, ..Totals::default() };
    totals.status_class[2] = n;
    totals.decisions[0] = n;
    totals.latencies = Latencies { bins: (0..12).map(|bin| (480 + 9 * bin, n / 12 + 1)).collect() };
    totals
}

/// A week of hours.
fn usage_of(client: usize) -> Usage {
    let from_us = NOW - 168 * HOUR;
    let points: Vec<(i64, Totals)> =
        (0..168).map(|hour| (from_us + hour * HOUR, totals(40 + (client as i64 + hour) % 60))).collect();
    usage(from_us, points, rows_of(client))
}

fn rows_of(client: usize) -> Vec<Row> {
    let row = |n: usize| Row {
        client: id(client),
        tier: "basic".to_owned(),
        endpoint: endpoint((client * 7 + n) % ENDPOINTS),
        method: "GET".to_owned(),
        totals: totals(600),
    };
    (0..CALLED).map(row).collect()
}

fn usage(from_us: i64, points: Vec<(i64, Totals)>, rows: Vec<Row>) -> Usage {
    let mut sum = Totals::default();
    points.iter().for_each(|(_, totals)| sum.add(totals));
    let completeness = Completeness {
        records: sum.requests,
        missing: 0,
        complete_to_us: Some(NOW),
        ..Completeness::default()
    };
    Usage {
        from_us,
        to_us: NOW,
        status: [(200, sum.requests)].into(),
        series: Series { grain: Grain::Hour, points },
        rows,
        completeness,
        totals: sum,
    }
}

fn together<'a>(parts: impl Iterator<Item = &'a Usage>) -> Usage {
    let (mut points, mut rows): (BTreeMap<i64, Totals>, Vec<Row>) = Default::default();
    for part in parts {
        rows.extend(part.rows.iter().cloned());
        part.series.points.iter().for_each(|(us, totals)| points.entry(*us).or_default().add(totals));
    }
    usage(NOW - 168 * HOUR, points.into_iter().collect(), rows)
}

/// As many pages of endpoints as there are, each with the curve of some client.
fn by_endpoint(clients: &[(String, Usage)]) -> Vec<(String, Usage)> {
    let one = |n: usize| {
        let rows =
            clients.iter().flat_map(|(_, usage)| &usage.rows).filter(|row| row.endpoint == endpoint(n));
        let rows: Vec<Row> = rows.cloned().collect();
        (format!("GET {}", endpoint(n)), usage(NOW - 168 * HOUR, clients[n].1.series.points.clone(), rows))
    };
    (0..ENDPOINTS).map(one).collect()
}

/// Days of a year, as the roll-up has them: of its endpoints each client calls two on a day, all of
/// them over ten days.
fn days_of(days: Range<i64>) -> Table {
    let mut table = Table::default();
    for day in days {
        for client in 0..CLIENTS {
            for n in 0..2 {
                let called = (client * 7 + (day as usize * 2 + n) % CALLED) % ENDPOINTS;
                push(&mut table, NOW / (24 * HOUR) * 24 * HOUR - day * 24 * HOUR, client, called);
            }
        }
    }
    table
}

/// A day of hours, in each of which each client calls one endpoint.
fn hours_of(day: i64) -> Table {
    let mut table = Table::default();
    for hour in 0..24 {
        for client in 0..CLIENTS {
            let called = (client * 7 + hour as usize % CALLED) % ENDPOINTS;
            push(&mut table, NOW / HOUR * HOUR - (day * 24 + hour) * HOUR, client, called);
        }
    }
    table
}

/// The month so far, by the day.
fn months() -> BTreeMap<String, Usage> {
    let one = |client: usize| {
        let days =
            (0..24).map(|day| (NOW - (24 - day) * 24 * HOUR, totals(1_000 + (client as i64 + day) % 60)));
        (id(client), usage(NOW - 24 * 24 * HOUR, days.collect(), rows_of(client)))
    };
    (0..CLIENTS).map(one).collect()
}

fn push(table: &mut Table, time_us: i64, client: usize, called: usize) {
    table.time_us.push(time_us);
    for (column, text) in
        table.texts.iter_mut().zip([id(client), "basic".to_owned(), endpoint(called), "GET".to_owned()])
    {
        column.push(table.names.intern(&text));
    }
    let mut sums = [0; weir_analytics::table::SUMS.len()];
    (sums[REQUESTS], sums[STATUS_0 + 2], sums[PASSED]) = (120, 120, 120);
    (sums[BYTES_IN], sums[BYTES_OUT], sums[LATENCY_SUM_US]) = (72_000, 840_000, 3_000_000);
    table.sums.iter_mut().zip(sums).for_each(|(column, sum)| column.push(sum));
    table.latency_min_us.push(None);
    table.latency_max_us.push(None);
    table.latency.push_sum(&mut (0..12).map(|bin| (480 + 9 * bin, 10)).collect::<Vec<_>>());
    table.status.push_sum(&mut [(200, 120)]);
}
