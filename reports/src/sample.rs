//! Usage made up for tests.

use weir_analytics::view::{Completeness, Grain, Latencies, Series, Totals, Usage};

use crate::columns::{DAY, HOUR, MINUTE};

/// 1 Nov 2026, 00:00 UTC: a whole hour, day and month.
pub const START: i64 = 1_793_491_200_000_000;

/// `n` requests that passed and were answered with 200, without latencies.
pub fn requests(n: i64) -> Totals {
    let mut totals = Totals { requests: n, bytes_in: n * 400, bytes_out: n * 2_000, ..Totals::default() };
    totals.status_class[2] = n;
    totals.decisions[0] = n;
    totals
}

/// `n` requests answered in `us` microseconds each.
pub fn answered_in(n: i64, us: u64) -> Totals {
    let latencies = Latencies { bins: [(Latencies::bin(us), n)].into() };
    Totals { latencies, latency_sum_us: n * us as i64, ..requests(n) }
}

/// Usage of `steps` steps from [`START`] on; a step for which `at` gives nothing has no records.
pub fn usage(grain: Grain, steps: i64, at: impl Fn(i64) -> Option<Totals>) -> Usage {
    let width = match grain {
        Grain::Minute => MINUTE,
        Grain::Hour => HOUR,
        Grain::Day => DAY,
        Grain::Month => 30 * DAY,
    };
    let points: Vec<(i64, Totals)> =
        (0..steps).filter_map(|i| at(i).map(|totals| (START + i * width, totals))).collect();
    let mut totals = Totals::default();
    for (_, point) in &points {
        totals.add(point);
    }
    let complete_to_us = (!points.is_empty()).then_some(START + steps * width);
    Usage {
        from_us: START,
        to_us: START + steps * width,
        completeness: Completeness {
            records: totals.requests,
            missing: 0,
            complete_to_us,
            ..Completeness::default()
        },
        status: [(200, totals.requests)].into(),
        series: Series { grain, points },
        rows: Vec::new(),
        totals,
    }
}
