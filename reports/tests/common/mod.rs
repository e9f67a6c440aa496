//! Data that several tests are made of.
#![allow(dead_code)] // each test file uses some of it

use std::collections::BTreeMap;

use weir_analytics::anomaly::{Anomaly, Course, Kind, Point};
use weir_analytics::books::endpoint_name;
use weir_analytics::cube::{Data, Gathered};
use weir_analytics::finding::Severity;
use weir_analytics::forecast::{Band, Forecast};
use weir_analytics::objective::{Alert, Burn, Kept, Period, Promise, Promised};
use weir_analytics::table::Table;
use weir_analytics::view::{
    Completeness, GatewaySeen, Grain, Latencies, LimitUse, QuotaFinding, Recent, Row, Series, Totals, Usage,
};
use weir_policy::Policy;

/// 24 Nov 2026, 14:05 UTC.
pub const NOW: i64 = 1_795_529_100_000_000;
pub const HOUR: i64 = 3_600_000_000;

/// A policy with one client for each (id, name, contacts).
pub fn policy(clients: &[(&str, &str, &[&str])]) -> Policy {
    let mut text = String::from(
        "[tiers.basic]\nlimits = [\"100 requests/minute\", \"2000 requests/hour\", \"500 MB/hour\"]\n\
         [alerts]\nto = [\"platform@example.com\"]\n",
    );
    for (id, name, contacts) in clients {
        text += &format!(
            "[clients.{id}]\nname = {}\ntier = \"basic\"\ntimezone = \"America/Chicago\"\ncontacts = {contacts:?}\n",
            toml(name)
        );
    }
    weir_policy::parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

/// The policy's own checks refuse some names; pages and mails do not rely on that.
pub fn renamed(mut policy: Policy, id: &str, name: &str) -> Policy {
    let client = policy.clients.iter_mut().find(|client| &*client.id == id).expect("the client is there");
    client.name = Some(name.into());
    policy
}

fn toml(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == ' ' { c.to_string() } else { format!("\\U{:08x}", c as u32) }
        })
        .collect();
    format!("\"{escaped}\"")
}

pub fn totals(n: i64) -> Totals {
    let mut totals = Totals { requests: n, bytes_in: n * 500, bytes_out: n * 5_000, ..Totals::default() };
    totals.status_class[2] = n;
    totals.decisions[0] = n;
    totals.latencies = Latencies { bins: [(Latencies::bin(20_000), n)].into() };
    totals
}

/// A day of hours in which one client sends `n` requests an hour to one endpoint.
pub fn usage(client: &str, endpoint: &str, n: i64, hours: i64) -> Usage {
    let to_us = NOW / HOUR * HOUR;
    let points: Vec<(i64, Totals)> = (0..hours).map(|h| (to_us - (hours - h) * HOUR, totals(n))).collect();
    let mut sum = Totals::default();
    points.iter().for_each(|(_, point)| sum.add(point));
    let row = Row {
        client: client.to_string(),
        tier: "basic".to_string(),
        endpoint: endpoint.to_string(),
        method: "GET".to_string(),
        totals: sum.clone(),
    };
    Usage {
        from_us: to_us - 24 * HOUR,
        to_us,
        status: BTreeMap::from([(200, sum.requests)]),
        completeness: Completeness {
            records: sum.requests,
            missing: 0,
            complete_to_us: (!points.is_empty()).then_some(to_us),
            ..Completeness::default()
        },
        series: Series { grain: Grain::Hour, points },
        rows: if hours > 0 { vec![row] } else { Vec::new() },
        totals: sum,
    }
}

/// The sum of some clients' usage.
pub fn together(parts: &[(String, Usage)]) -> Usage {
    let mut whole = usage("", "", 0, 0);
    let mut points: BTreeMap<i64, Totals> = BTreeMap::new();
    for (_, part) in parts {
        whole.totals.add(&part.totals);
        whole.rows.extend(part.rows.iter().cloned());
        whole.completeness.records += part.completeness.records;
        whole.completeness.known = part.completeness.known.clone();
        whole.completeness.complete_to_us = part.completeness.complete_to_us;
        part.series.points.iter().for_each(|(us, totals)| points.entry(*us).or_default().add(totals));
        part.status.iter().for_each(|(code, n)| *whole.status.entry(*code).or_default() += n);
    }
    whole.series.points = points.into_iter().collect();
    whole
}

/// The same usage by endpoint, where each client has one.
pub fn by_endpoint(clients: &[(String, Usage)]) -> Vec<(String, Usage)> {
    let name = |usage: &Usage| usage.rows.first().map(|row| endpoint_name(&row.method, &row.endpoint));
    let mut found: BTreeMap<String, Vec<(String, Usage)>> = BTreeMap::new();
    for part in clients {
        if let Some(name) = name(&part.1) {
            found.entry(name).or_default().push(part.clone());
        }
    }
    found.into_iter().map(|(name, parts)| (name, together(&parts))).collect()
}

/// The rows of some clients' usage as of its beginning, and their series as their month.
pub fn data(clients: &[(String, Usage)]) -> Data {
    let [mut hours, mut days] = [Gathered::default(), Gathered::default()];
    for row in clients.iter().flat_map(|(_, usage)| &usage.rows) {
        let mut table = Table::default();
        push(&mut table, NOW / HOUR * HOUR, row);
        hours.add(&table, 0);
        days.add(&table, 0);
    }
    Data { hours: hours.sorted(), days: days.sorted(), months: clients.iter().cloned().collect() }
}

fn push(table: &mut Table, time_us: i64, row: &Row) {
    table.time_us.push(time_us);
    for (column, text) in table.texts.iter_mut().zip([&row.client, &row.tier, &row.endpoint, &row.method]) {
        column.push(table.names.intern(text));
    }
    let totals = &row.totals;
    let mut sums = vec![totals.requests];
    sums.extend(totals.status_class);
    sums.extend(totals.decisions);
    sums.extend([totals.bytes_in, totals.bytes_out, totals.latency_sum_us]);
    table.sums.iter_mut().zip(sums).for_each(|(column, sum)| column.push(sum));
    table.latency.push_sum(&mut totals.latencies.bins.iter().map(|(b, n)| (*b, *n)).collect::<Vec<_>>());
    table.status.push_sum(&mut [(200, totals.requests)]);
}

/// Two gateways, and a limit that refused `client`.
pub fn recent(client: &str) -> Recent {
    let gateway = |name: &str, policy: &str| GatewaySeen {
        name: name.to_string(),
        records: 1_000,
        missing: 3,
        newest_us: NOW - HOUR,
        policy_version: policy.to_string(),
        degraded: 7,
    };
    let limit = LimitUse {
        limit: "2000 requests/hour".to_string(),
        client: client.to_string(),
        refused: 312,
        dry_run: 41,
        delayed: 0,
        newest_us: NOW - HOUR,
    };
    Recent {
        from_us: Some(NOW - 24 * HOUR),
        limits: vec![limit],
        gateways: vec![gateway("gw-1", "0011223344556677"), gateway("gw-2", "8899aabbccddeeff")],
    }
}

/// An afternoon on which a client sent three times of what was expected.
pub fn course(client: &str) -> Course {
    let at_us = NOW / HOUR * HOUR - 3 * HOUR;
    let anomaly = Anomaly {
        kind: Kind::Spike,
        client: Some(client.to_string()),
        endpoint: Some("GET /a".to_string()),
        from_us: at_us,
        to_us: at_us + 2 * HOUR,
        worst_us: at_us,
        value: 3_100.0,
        expected: 1_000.0,
        score: 9.0,
        part: None,
    };
    let point = |hour: i64| Point {
        at_us: at_us + hour * HOUR,
        value: Some(if (0..2).contains(&hour) { 3_100.0 } else { 990.0 }),
        band: Some((1_000.0, 500.0, 1_500.0)),
    };
    Course { anomaly, points: (-24..3).map(point).collect() }
}

/// A promise that was not kept: of 1,000 requests 40 failed. Its budget burns.
pub fn promise(client: &str, endpoint: Option<&str>) -> Promise {
    let month = Period {
        from_us: NOW - 24 * HOUR,
        to_us: NOW,
        good: 960,
        bad: 40,
        refused: 77,
        unknown_us: 2 * HOUR,
        maintenance_us: 0,
        percent: Some(96.0),
        budget_left: Some(-39.0),
        kept: Kept::Missed,
    };
    let burn = Burn {
        long_us: HOUR,
        short_us: HOUR / 12,
        long: Some(40.0),
        short: Some(40.0),
        factor: 14.4,
        requests: 1_000,
        bad: 40,
        state: Alert::Firing,
        severity: Severity::Critical,
    };
    Promise {
        client: client.to_string(),
        endpoint: endpoint.map(str::to_string),
        tier: "basic".to_string(),
        promised: Promised::Availability { percent: 99.9 },
        month,
        window: None,
        burns: vec![burn],
    }
}

/// A quota of a day that will likely run out six hours from now.
pub fn forecast(client: &str) -> Forecast {
    let at_end = Band { p10: 1_400.0, p50: 1_700.0, p90: 2_000.0 };
    let day_us = NOW / (24 * HOUR) * 24 * HOUR;
    Forecast {
        client: client.to_string(),
        limit: "1500 requests/day".to_string(),
        amount: 1_500,
        is_bytes: false,
        from_us: day_us,
        to_us: day_us + 24 * HOUR,
        known_to_us: NOW,
        used: 700,
        at_end,
        is_likely: true,
        runs_out_us: [Some(day_us + 18 * HOUR), Some(day_us + 20 * HOUR), None],
        past: vec![(day_us, 0.0), (NOW, 700.0)],
        ahead: vec![(day_us + 24 * HOUR, at_end)],
    }
}

pub fn finding(client: &str, threshold: u32) -> QuotaFinding {
    QuotaFinding {
        id: format!("{client}/2000 requests/hour/{threshold}/{NOW}"),
        client: client.to_string(),
        limit: "2000 requests/hour".to_string(),
        amount: 2_000,
        used: u64::from(threshold) * 20,
        threshold,
        window_from_us: NOW - HOUR,
        window_to_us: NOW,
        refused: if threshold >= 100 { 312 } else { 0 },
        top_endpoint: "POST /orders".to_string(),
        top_share_percent: 97,
    }
}

/// Names that try to be something else than a name.
pub fn hostile() -> Vec<String> {
    let mut names: Vec<String> = [
        "<script>alert(1)</script>",
        "\"onmouseover=\"alert(1)",
        "'><img src=x onerror=alert(1)>",
        "javascript:alert(1)",
        "</title></svg></style><b>",
        "{{7*7}}{% raw %}",
        "\u{202e}txt.exe",
        "a\u{2028}b\u{2029}c",
        "x\r\nBcc: everyone@example.com\r\n\r\nbody",
        "\n.\nQUIT",
        ".leading dot",
        "   ",
        "&amp;&lt;b&gt;",
        "Größe 株式会社",
        "nul\0byte",
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    names.push("x".repeat(10_000));
    names.push(format!("{}é", "long ".repeat(300)));
    names
}
