//! Writes a site of made-up data, to be looked at while working on templates and styles:
//!
//! ```sh
//! cargo run -p weir-reports --example sample_site -- DIR [week|hour|empty|one|huge|hostile]
//! ```
//!
//! `DIR/site/index.html` is the overview, `DIR/portal/*/index.html` are the portals.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use weir_analytics::anomaly::{Anomaly, Course, Kind, Point};
use weir_analytics::books::endpoint_name;
use weir_analytics::cube::{Cube, Data, Gathered};
use weir_analytics::finding::Severity;
use weir_analytics::fold::fold;
use weir_analytics::forecast::{Band, Forecast};
use weir_analytics::objective::{Alert, Burn, Kept, Period, Promise, Promised};
use weir_analytics::table::Table;
use weir_analytics::view::{
    Completeness, GatewaySeen, Grain, Latencies, LimitUse, QuotaFinding, Recent, Row, Series, Totals, Usage,
};
use weir_policy::Policy;
use weir_reports::{Directories, SiteInput, render_site};

/// 24 Nov 2026, 14:05 UTC.
const NOW: i64 = 1_795_529_100_000_000;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;

const ENDPOINTS: [(&str, &str, u64, i64); 12] = [
    ("GET", "/products", 9_000, 30),
    ("GET", "/products/{id}", 6_000, 22),
    ("GET", "/orders", 18_000, 14),
    ("POST", "/orders", 42_000, 9),
    ("GET", "/orders/{id}", 11_000, 8),
    ("GET", "/customers/{id}", 12_000, 5),
    ("PUT", "/customers/{id}", 35_000, 3),
    ("GET", "/search", 88_000, 3),
    ("POST", "/webhooks", 15_000, 2),
    ("GET", "/stock", 8_000, 2),
    ("GET", "/reports", 640_000, 1),
    ("DELETE", "/sessions/{id}", 5_000, 1),
];

const NAMES: [&str; 10] = [
    "Acme Corp",
    "Globex",
    "Initech",
    "Umbrella Logistics",
    "Northwind Traders",
    "Hooli",
    "Stark Supplies",
    "Wayne Imports",
    "Société Générale de Café",
    "株式会社みどり",
];

/// A month of hours, through the same roll-up as real usage.
fn data(case: &Case) -> Result<Data, Box<dyn Error>> {
    let mut table = Table::default();
    let mut dice = Dice(7);
    for rank in 0..case.clients.min(6) {
        for hour in 0..if case.steps > 0 { 24 * 31 } else { 0 } {
            let us = NOW / HOUR * HOUR - hour * HOUR;
            for (i, totals) in step_totals(case, rank, us, &mut dice).into_iter().enumerate() {
                if totals.requests > 0 && !(100..=107).contains(&hour) {
                    push(
                        &mut table,
                        us,
                        &[&format!("client-{rank:02}"), tier(rank), ENDPOINTS[i].1, ENDPOINTS[i].0],
                        &totals,
                    );
                }
            }
        }
    }
    let cube = |grain| -> Result<Cube, Box<dyn Error>> {
        let mut gathered = Gathered::default();
        gathered.add(&fold(&[&table], grain)?, 0);
        Ok(gathered.sorted())
    };
    let mut data = Data { hours: cube(Grain::Hour)?, days: cube(Grain::Day)?, ..Data::default() };
    for rank in 0..case.clients {
        data.months.insert(format!("client-{rank:02}"), client(case, rank));
    }
    Ok(data)
}

fn push(table: &mut Table, us: i64, texts: &[&str; 4], totals: &Totals) {
    table.time_us.push(us);
    for (column, text) in table.texts.iter_mut().zip(texts) {
        column.push(table.names.intern(text));
    }
    let mut sums = vec![totals.requests];
    sums.extend(totals.status_class);
    sums.extend(totals.decisions);
    sums.extend([totals.bytes_in, totals.bytes_out, totals.latency_sum_us]);
    table.sums.iter_mut().zip(sums).for_each(|(column, sum)| column.push(sum));
    table.latency_min_us.push(None);
    table.latency_max_us.push(None);
    let mut bins: Vec<(i32, i64)> = totals.latencies.bins.iter().map(|(bin, n)| (*bin, *n)).collect();
    table.latency.push_sum(&mut bins);
    let (ok, refused) = (totals.requests - totals.refused(), totals.refused());
    table
        .status
        .push_sum(&mut [(200, ok), (429, refused)].into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>());
}

/// A cheap generator: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub struct Case {
    grain: Grain,
    steps: i64,
    clients: usize,
    scale: f64,
    hostile: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("name a directory to write to")?);
    write(&case(arguments.next().as_deref().unwrap_or("week"))?, &dir)
}

pub fn case(name: &str) -> Result<Case, Box<dyn Error>> {
    Ok(match name {
        "week" => Case { grain: Grain::Hour, steps: 168, clients: 80, scale: 4_000.0, hostile: false },
        "hour" => Case { grain: Grain::Minute, steps: 9, clients: 80, scale: 900.0, hostile: false },
        "empty" => Case { grain: Grain::Hour, steps: 0, clients: 3, scale: 0.0, hostile: false },
        "one" => Case { grain: Grain::Hour, steps: 1, clients: 1, scale: 1.0, hostile: false },
        "huge" => Case { grain: Grain::Hour, steps: 168, clients: 12, scale: 6e9, hostile: false },
        "hostile" => Case { grain: Grain::Hour, steps: 24, clients: 12, scale: 500.0, hostile: true },
        other => return Err(format!("there is no case {other}").into()),
    })
}

pub fn write(case: &Case, dir: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let mut policy = weir_policy::parse(&policy(case)).map_err(|problems| format!("{problems:?}"))?;
    name_clients(&mut policy, case);
    let clients: Vec<(String, Usage)> =
        (0..case.clients).map(|rank| (format!("client-{rank:02}"), client(case, rank))).collect();
    let overview = together(case, &clients);
    let before = together(case, &clients[..clients.len() / 2 + 1]);
    let (data, directories) = (data(case)?, Directories::new([42; 32]));
    let input = SiteInput {
        now_us: NOW,
        policy: &policy,
        overview: &overview,
        previous: Some(&before),
        clients: &clients,
        endpoints: &by_endpoint(case, &clients),
        recent: &recent(case, &clients),
        anomalies: &anomalies(case),
        promises: Some(&promises(case, &clients)),
        forecasts: &forecasts(case),
        data: Some(&data),
        live: &[],
        live_usage: None,
        findings: &findings(case),
        public_url: Some("https://usage.example.com"),
        directories: &directories,
    };
    let report = render_site(&input, &dir.join("site"), &dir.join("portal"))?;
    println!("{report:?}\nsite/index.html");
    for (id, _) in clients.iter().take(3) {
        println!("portal/{}/index.html {id}", directories.of(id));
    }
    Ok(())
}

fn policy(case: &Case) -> String {
    let mut text = String::from(
        r#"
[tiers.basic]
objective = { availability = 99.9, latency_ms = 300, latency_share = 99.0 }
limits = ["100 requests/minute", "2000 requests/hour", "500 MB/hour"]
[tiers.plus]
limits = ["1000 requests/minute", "5 GB/hour"]
[tiers.enterprise]
limits = ["10000 requests/minute", "100000 requests/hour", "20 GB/hour"]
[[tiers.enterprise.endpoints]]
match = "POST /orders"
limits = ["600 requests/minute"]
[alerts]
to = ["platform@example.com"]
"#,
    );
    for rank in 0..case.clients {
        let zone = if rank % 3 == 0 { "America/Chicago" } else { "Europe/Berlin" };
        text += &format!("[clients.client-{rank:02}]\ntier = \"{}\"\ntimezone = \"{zone}\"\n", tier(rank));
    }
    text
}

/// Names come in afterwards: the policy's own checks would refuse the hostile ones.
fn name_clients(policy: &mut Policy, case: &Case) {
    for (rank, client) in policy.clients.iter_mut().enumerate() {
        let name = if case.hostile { hostile(rank) } else { plain(rank) };
        client.name = Some(name.into());
    }
}

fn plain(rank: usize) -> String {
    NAMES.get(rank).map_or_else(|| format!("Partner {rank}"), ToString::to_string)
}

fn hostile(rank: usize) -> String {
    [
        "<script>alert(1)</script>",
        "\"onmouseover=\"alert(1)",
        "javascript:alert(1)",
        "</title></svg><b>bold",
        "{{7*7}} {% raw %}",
        "\u{202e}txt.exe",
        "line\u{2028}separator",
        "a\r\nBcc: everyone@example.com",
        "    ",
        "&amp;&lt;",
        "مرحبا بالعالم",
    ]
    .get(rank)
    .map_or_else(|| "W".repeat(200), ToString::to_string)
}

fn tier(rank: usize) -> &'static str {
    ["enterprise", "plus", "basic"][rank % 3]
}

fn client(case: &Case, rank: usize) -> Usage {
    let mut dice = Dice(rank as u64 + 1);
    let width = if case.grain == Grain::Minute { MINUTE } else { HOUR };
    let to_us = NOW / width * width + width;
    let length = if case.grain == Grain::Minute { 60 } else { 168 };
    let from_us = to_us - length * width;
    let mut rows: BTreeMap<usize, Totals> = BTreeMap::new();
    let mut points = Vec::new();
    for step in 0..case.steps {
        // The store was away for seven hours in mid-week.
        if case.steps == 168 && (60..67).contains(&step) {
            continue;
        }
        let us = to_us - (case.steps - step) * width;
        let mut sum = Totals::default();
        for (i, totals) in step_totals(case, rank, us, &mut dice).into_iter().enumerate() {
            sum.add(&totals);
            rows.entry(i).or_default().add(&totals);
        }
        if sum.requests > 0 {
            points.push((us, sum));
        }
    }
    usage(case.grain, (from_us, to_us), points, rows_of(rank, rows))
}

fn rows_of(rank: usize, rows: BTreeMap<usize, Totals>) -> Vec<Row> {
    let row = |(i, totals): (usize, Totals)| Row {
        client: format!("client-{rank:02}"),
        tier: tier(rank).to_string(),
        endpoint: ENDPOINTS[i].1.to_string(),
        method: ENDPOINTS[i].0.to_string(),
        totals,
    };
    rows.into_iter().filter(|(_, totals)| totals.requests > 0).map(row).collect()
}

/// What one client sends in one step, by endpoint: more by day than by night, and one partner whose
/// retries ran away for some hours.
fn step_totals(case: &Case, rank: usize, us: i64, dice: &mut Dice) -> Vec<Totals> {
    let hour = (us / HOUR).rem_euclid(24) as f64;
    let day = 0.35 + 0.65 * (-((hour - 14.0) / 5.0).powi(2)).exp();
    let weekend = if matches!((us / HOUR / 24 + 4).rem_euclid(7), 0 | 6) { 0.55 } else { 1.0 };
    let base = case.scale / (rank as f64 + 1.0) * day * weekend * (0.9 + 0.2 * dice.next());
    let runaway = rank == 1 && (NOW - us) < 30 * HOUR && (NOW - us) > 24 * HOUR;
    ENDPOINTS
        .iter()
        .enumerate()
        .map(|(i, &(_, _, latency, weight))| {
            let share = if runaway && i == 3 { 3.0 } else { weight as f64 / 100.0 };
            let n = (base * share + dice.next()) as i64;
            let refused = if runaway { n * 17 / 20 } else { (n as f64 * 0.002 * dice.next()) as i64 };
            totals(n, refused, latency as f64 * (1.0 + day), dice)
        })
        .collect()
}

fn totals(n: i64, refused: i64, latency_us: f64, dice: &mut Dice) -> Totals {
    let errors = ((n - refused) as f64 * 0.004 * dice.next()) as i64;
    let not_found = (n - refused - errors) / 40;
    let mut totals =
        Totals { requests: n, bytes_in: n * 620, bytes_out: (n - refused) * 7_400, ..Totals::default() };
    totals.status_class = [0, 0, n - refused - errors - not_found, 0, refused + not_found, errors];
    (totals.decisions[0], totals.decisions[2]) = (n - refused, refused);
    totals.latencies = spread(n, latency_us, dice);
    totals
}

/// Latencies with a long tail around a median.
fn spread(n: i64, median_us: f64, dice: &mut Dice) -> Latencies {
    let mut latencies = Latencies::default();
    let parts = n.min(24);
    for part in 0..parts {
        let count = n / parts + i64::from(part < n % parts);
        let z = dice.next() + dice.next() + dice.next() + dice.next() - 2.0;
        let tail = if dice.next() > 0.97 { 4.0 } else { 1.0 };
        let us = (median_us * (z * 0.9).exp() * tail) as u64;
        *latencies.bins.entry(Latencies::bin(us)).or_default() += count;
    }
    latencies
}

fn usage(grain: Grain, (from_us, to_us): (i64, i64), points: Vec<(i64, Totals)>, rows: Vec<Row>) -> Usage {
    let mut totals = Totals::default();
    points.iter().for_each(|(_, point)| totals.add(point));
    let (ok, failed) = (totals.status_class[2], totals.status_class[5]);
    let not_found = totals.status_class[4] - totals.refused();
    let status = [
        (200, ok * 9 / 10),
        (201, ok - ok * 9 / 10),
        (404, not_found),
        (429, totals.refused()),
        (500, failed / 3),
        (502, failed - failed / 3),
    ];
    let complete_to_us = (!points.is_empty()).then_some(NOW - 2 * MINUTE);
    Usage {
        from_us,
        to_us,
        completeness: Completeness {
            records: totals.requests,
            missing: 0,
            complete_to_us,
            ..Completeness::default()
        },
        series: Series { grain, points },
        status: status.into_iter().filter(|(_, n)| *n > 0).collect(),
        rows,
        totals,
    }
}

fn together(case: &Case, clients: &[(String, Usage)]) -> Usage {
    let mut points: BTreeMap<i64, Totals> = BTreeMap::new();
    let mut rows = Vec::new();
    for (_, usage) in clients {
        rows.extend(usage.rows.iter().cloned());
        for (us, totals) in &usage.series.points {
            points.entry(*us).or_default().add(totals);
        }
    }
    let range = (clients[0].1.from_us, clients[0].1.to_us);
    usage(case.grain, range, points.into_iter().collect(), rows)
}

fn by_endpoint(case: &Case, clients: &[(String, Usage)]) -> Vec<(String, Usage)> {
    let mut found: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in clients.iter().flat_map(|(_, usage)| &usage.rows) {
        found.entry(endpoint_name(&row.method, &row.endpoint)).or_default().push(row.clone());
    }
    let whole = together(case, clients);
    let part = |rows: Vec<Row>| {
        let mut sum = Totals::default();
        rows.iter().for_each(|row| sum.add(&row.totals));
        let share = |n: i64| {
            (i128::from(n) * i128::from(sum.requests) / i128::from(whole.totals.requests.max(1))) as i64
        };
        let scaled = |t: &Totals| {
            let mut part = t.clone();
            part.requests = share(t.requests);
            part.decisions = t.decisions.map(share);
            part.status_class = t.status_class.map(share);
            part
        };
        let points = whole.series.points.iter().map(|(us, t)| (*us, scaled(t))).collect();
        usage(case.grain, (whole.from_us, whole.to_us), points, rows)
    };
    found.into_iter().map(|(name, rows)| (name, part(rows))).collect()
}

fn recent(case: &Case, clients: &[(String, Usage)]) -> Recent {
    let gateway = |n: i64| GatewaySeen {
        name: format!("gateway-{n}"),
        records: 128_400 + 977 * n,
        missing: if n == 2 { 12 } else { 0 },
        newest_us: NOW - n * n * MINUTE * 3,
        policy_version: "5ca1ab1e0ddba11c".to_string(),
        degraded: if n == 3 { 4_120 } else { 0 },
    };
    let limits = clients.iter().flat_map(|(id, usage)| {
        let refused = usage.totals.refused();
        let line = |limit: &str, refused: i64, dry_run: i64| LimitUse {
            limit: limit.to_string(),
            client: id.clone(),
            refused,
            dry_run,
            delayed: refused / 9,
            newest_us: NOW - 5 * MINUTE,
        };
        [line("100 requests/minute", refused - refused / 3, 0), line("500 MB/hour", refused / 3, refused / 5)]
    });
    if case.steps == 0 {
        return Recent::default();
    }
    let mut limits: Vec<LimitUse> = limits.filter(|line| line.refused > 0).collect();
    limits.sort_by_key(|line| std::cmp::Reverse(line.refused));
    Recent { from_us: Some(NOW - 24 * HOUR), limits, gateways: (1..=4).map(gateway).collect() }
}

/// One of each kind.
fn anomalies(case: &Case) -> Vec<Course> {
    if case.steps < 100 {
        return Vec::new();
    }
    let episode = |kind, rank: Option<usize>, endpoint: Option<usize>, usual: f64, times: f64, age: i64| {
        let from_us = NOW / HOUR * HOUR - age * HOUR;
        let mut dice = Dice(age as u64);
        let mut point = |hour: i64| {
            let usual = usual * (1.2 + (hour as f64 / 24.0 * std::f64::consts::TAU).sin());
            let value = usual * if (0..3).contains(&hour) { times } else { 0.95 + 0.1 * dice.next() };
            Point {
                at_us: from_us + hour * HOUR,
                value: (!(-9..-6).contains(&hour)).then_some(value),
                band: Some((usual, usual / 2.0, usual * 1.5)),
            }
        };
        let points: Vec<Point> = (-24..9.min(age)).map(&mut point).collect();
        let anomaly = Anomaly {
            kind,
            client: rank.map(|rank| format!("client-{rank:02}")),
            endpoint: endpoint.map(|i| endpoint_name(ENDPOINTS[i].0, ENDPOINTS[i].1)),
            from_us,
            to_us: from_us + 3 * HOUR,
            worst_us: from_us + HOUR,
            value: points[25].value.unwrap_or(0.0),
            expected: points[25].band.map_or(0.0, |(expected, ..)| expected),
            score: 12.0,
            part: None,
        };
        Course { anomaly, points }
    };
    vec![
        episode(Kind::Drop, Some(4), None, case.scale / 5.0, 0.2, 120),
        episode(Kind::Latency, Some(2), Some(10), 640_000.0, 3.4, 80),
        episode(Kind::Errors, Some(0), Some(3), 0.004, 40.0, 50),
        episode(Kind::Spike, Some(1), Some(3), case.scale / 2.0, 5.0, 30),
        episode(Kind::Silence, None, None, case.scale, 0.0, 4),
    ]
}

/// What each client was promised, for all and for its first two endpoints; every fifth is not kept.
fn promises(case: &Case, clients: &[(String, Usage)]) -> Vec<Promise> {
    let promised = [Promised::Availability { percent: 99.9 }, Promised::Latency { percent: 99.0, ms: 300 }];
    let mut all = Vec::new();
    for (rank, (id, usage)) in clients.iter().enumerate() {
        let endpoints = usage.rows.iter().take(2).map(|row| Some(endpoint_name(&row.method, &row.endpoint)));
        for endpoint in std::iter::once(None).chain(endpoints) {
            for promised in promised {
                let share = if endpoint.is_some() { 10 } else { 1 };
                all.push(promise(
                    case,
                    (rank, id),
                    endpoint.clone(),
                    promised,
                    usage.totals.requests / share,
                ));
            }
        }
    }
    all
}

fn promise(
    case: &Case,
    (rank, client): (usize, &str),
    endpoint: Option<String>,
    promised: Promised,
    requests: i64,
) -> Promise {
    let allowed = requests as f64 * promised.budget();
    let bad = (allowed * if rank % 5 == 1 { 2.6 } else { 0.05 * (rank % 19) as f64 }) as i64;
    let kept = match () {
        () if case.steps == 0 => Kept::Unknown,
        () if allowed < 1.0 => Kept::TooFew,
        () if bad as f64 > allowed => Kept::Missed,
        () => Kept::Met,
    };
    let month = Period {
        from_us: NOW - 566 * HOUR - 5 * MINUTE,
        to_us: NOW,
        good: requests - bad,
        bad,
        refused: requests / 500,
        unknown_us: 7 * HOUR,
        maintenance_us: 90 * MINUTE,
        percent: (requests > 0).then(|| 100.0 * (requests - bad) as f64 / requests as f64),
        budget_left: (requests > 0).then(|| 1.0 - bad as f64 / allowed),
        kept,
    };
    let rate = if rank == 1 { 22.1 } else { 0.04 * rank as f64 };
    let burn = Burn {
        long_us: HOUR,
        short_us: 5 * MINUTE,
        long: Some(rate),
        short: Some(rate),
        factor: 14.4,
        requests,
        bad,
        state: if rank == 1 { Alert::Firing } else { Alert::Ok },
        severity: Severity::Critical,
    };
    let (client, tier) = (client.to_string(), tier(rank).to_string());
    Promise { client, endpoint, tier, promised, month, window: None, burns: vec![burn] }
}

/// A quota that will likely run out, one that may, and one that lasts.
fn forecasts(case: &Case) -> Vec<Forecast> {
    if case.steps < 100 {
        return Vec::new();
    }
    let forecast = |rank: usize, pace: f64| {
        let (from_us, to_us) = (NOW - 566 * HOUR - 5 * MINUTE, NOW + 153 * HOUR + 55 * MINUTE);
        let used = case.scale * 566.0 * pace;
        let at = |hour: i64| {
            let p50 = used + case.scale * hour as f64 * pace;
            let away = case.scale * hour as f64 * pace * 0.2;
            Band { p10: p50 - away, p50, p90: p50 + away }
        };
        let amount = (case.scale * 700.0) as u64;
        let ahead: Vec<(i64, Band)> =
            (1..=154).map(|hour| ((NOW + hour * HOUR).min(to_us), at(hour))).collect();
        let crosses = |of: fn(&Band) -> f64| {
            ahead.iter().find(|(_, band)| of(band) >= amount as f64).map(|(us, _)| *us)
        };
        Forecast {
            client: format!("client-{rank:02}"),
            limit: format!("{amount} requests/month"),
            amount,
            is_bytes: false,
            from_us,
            to_us,
            known_to_us: NOW,
            used: used as u64,
            at_end: at(154),
            is_likely: pace > 1.0,
            runs_out_us: [crosses(|band| band.p90), crosses(|band| band.p50), crosses(|band| band.p10)],
            past: (0..=566).step_by(6).map(|h| (from_us + h * HOUR, used * h as f64 / 566.0)).collect(),
            ahead,
        }
    };
    vec![forecast(0, 1.1), forecast(1, 0.96), forecast(2, 0.5)]
}

fn findings(case: &Case) -> Vec<QuotaFinding> {
    let finding =
        |client: &str, limit: &str, amount: u64, used: u64, threshold: u32, refused: i64| QuotaFinding {
            id: format!("{client}/{limit}/{threshold}"),
            client: client.to_string(),
            limit: limit.to_string(),
            amount,
            used,
            threshold,
            window_from_us: NOW - 27 * HOUR,
            window_to_us: NOW - 26 * HOUR,
            refused,
            top_endpoint: "POST /orders".to_string(),
            top_share_percent: 97,
        };
    if case.steps < 2 {
        return Vec::new();
    }
    vec![
        finding("client-01", "5 GB/hour", 5_000_000_000, 5_000_000_000, 100, 20_312),
        finding("client-00", "100000 requests/hour", 100_000, 83_412, 80, 0),
        finding("client-02", "2000 requests/hour", 2_000, 1_640, 80, 0),
    ]
}
