//! What is said of each client besides its usage: unusual hours, promises, quotas that run out.

use weir_analytics::anomaly::{Anomaly, Course, Kind, Point};
use weir_analytics::forecast::{Band, Forecast};
use weir_analytics::objective::{Kept, Period, Promise, Promised};

use crate::{CALLED, CLIENTS, ENDPOINTS, HOUR, NOW, endpoint, id};

/// Two episodes of each client, with the two days around them.
pub fn anomalies() -> Vec<Course> {
    let course = |n: usize| {
        let from_us = NOW - (n % 160 + 2) as i64 * HOUR;
        let points = (-24..24).map(|hour| Point {
            at_us: from_us + hour * HOUR,
            value: Some(900.0 + (hour * 37 % 200) as f64),
            band: Some((1_000.0, 600.0, 1_400.0)),
        });
        let anomaly = Anomaly {
            kind: Kind::Spike,
            client: Some(id(n / 2)),
            endpoint: (n % 2 == 1).then(|| format!("GET {}", endpoint(n / 2 * 7 % ENDPOINTS))),
            from_us,
            to_us: from_us + HOUR,
            worst_us: from_us,
            value: 4_000.0 + n as f64,
            expected: 1_000.0,
            score: 9.0,
            part: None,
        };
        Course { anomaly, points: points.collect() }
    };
    (0..2 * CLIENTS).map(course).collect()
}

/// Availability and speed, of each client and of each of its endpoints.
pub fn promises() -> Vec<Promise> {
    let mut all = Vec::new();
    for client in 0..CLIENTS {
        let endpoints = (0..CALLED).map(|n| Some(format!("GET {}", endpoint((client * 7 + n) % ENDPOINTS))));
        for (n, endpoint) in std::iter::once(None).chain(endpoints).enumerate() {
            for promised in
                [Promised::Availability { percent: 99.9 }, Promised::Latency { percent: 99.0, ms: 300 }]
            {
                let (good, bad) = (120_000 - n as i64, ((client + n) % 160) as i64);
                let month = period(good, bad, promised);
                let (client, tier, endpoint) = (id(client), "basic".to_owned(), endpoint.clone());
                let (window, burns) = (None, Vec::new());
                all.push(Promise { client, endpoint, tier, promised, month, window, burns });
            }
        }
    }
    all
}

fn period(good: i64, bad: i64, promised: Promised) -> Period {
    let all = (good + bad) as f64;
    let left = 1.0 - bad as f64 / (all * promised.budget());
    Period {
        from_us: NOW - 24 * 24 * HOUR,
        to_us: NOW,
        good,
        bad,
        refused: 7,
        unknown_us: 0,
        maintenance_us: 0,
        percent: Some(good as f64 / all * 100.0),
        budget_left: Some(left),
        kept: if left < 0.0 { Kept::Missed } else { Kept::Met },
    }
}

/// A quota of each client that will run out.
pub fn forecasts() -> Vec<Forecast> {
    let forecast = |client: usize| {
        let used = 500_000.0 + client as f64;
        let at = |step: i64| {
            let n = used + 2_000.0 * step as f64;
            Band { p10: n * 0.95, p50: n, p90: n * 1.05 }
        };
        let at_us = |step: i64| NOW + step * 2 * HOUR;
        Forecast {
            client: id(client),
            limit: "600000 requests/month".to_owned(),
            amount: 600_000,
            is_bytes: false,
            from_us: NOW - 24 * 24 * HOUR,
            to_us: at_us(100),
            known_to_us: NOW,
            used: used as u64,
            at_end: at(100),
            runs_out_us: [Some(at_us(30)), Some(at_us(50)), Some(at_us(80))],
            is_likely: true,
            past: (0..100).map(|n| (NOW - (100 - n) * 5 * HOUR, used * n as f64 / 100.0)).collect(),
            ahead: (1..=100).map(|n| (at_us(n), at(n))).collect(),
        }
    };
    (0..CLIENTS).map(forecast).collect()
}
