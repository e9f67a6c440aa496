//! What the roll-ups say, in the shapes that pages, exports and mails need. Plain data: whoever
//! renders it needs neither Polars nor Arrow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::completeness::Known;

/// The distribution of latencies as counts in logarithmic bins.
///
/// Bin `b` holds latencies in (g^(b-1), g^b] microseconds with g = 1.02 (bin 0: 0 and 1 us), so
/// that the geometric middle of a bin is within 1 % of whatever lies in it. Distributions are
/// merged by adding; a percentile of merged distributions is as good as one of the records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Latencies {
    pub bins: BTreeMap<i32, i64>,
}

/// Base of the logarithmic bins, see [`Latencies`].
pub const BIN_BASE: f64 = 1.02;

impl Latencies {
    /// The bin of one latency in microseconds.
    pub fn bin(latency_us: u64) -> i32 {
        if latency_us <= 1 { 0 } else { ((latency_us as f64).ln() / BIN_BASE.ln()).ceil() as i32 }
    }

    pub fn merge(&mut self, other: &Latencies) {
        for (&bin, &count) in &other.bins {
            *self.bins.entry(bin).or_default() += count;
        }
    }

    pub fn count(&self) -> i64 {
        self.bins.values().sum()
    }

    /// The `q` quantile (0 to 1) in microseconds by the nearest-rank rule: the smallest value with
    /// at least `ceil(q n)` latencies at or below it, told as the middle of its bin. `None` when
    /// there is no latency.
    pub fn quantile_us(&self, q: f64) -> Option<f64> {
        let rank = (q * self.count() as f64).ceil().max(1.0) as i64;
        let mut seen = 0;
        for (&bin, &count) in &self.bins {
            seen += count;
            if seen >= rank {
                return Some(if bin <= 0 { 1.0 } else { BIN_BASE.powf(f64::from(bin) - 0.5) });
            }
        }
        None
    }
}

/// Sums over any set of usage rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Totals {
    pub requests: i64,
    /// Requests per status class: index 0 holds everything outside 100 to 599, 1 to 5 the classes.
    pub status_class: [i64; 6],
    /// Requests per decision, indexed by `weir_metering::Decision as usize`.
    pub decisions: [i64; 11],
    pub bytes_in: i64,
    pub bytes_out: i64,
    pub latency_sum_us: i64,
    pub latencies: Latencies,
}

impl Totals {
    /// Requests turned away (REJECTED and REJECTED_DEGRADED).
    pub fn refused(&self) -> i64 {
        self.decisions[2] + self.decisions[7]
    }

    /// Errors of the service: answers of class 5xx. Refusals are not errors.
    pub fn errors(&self) -> i64 {
        self.status_class[5]
    }

    pub fn add(&mut self, other: &Totals) {
        self.requests += other.requests;
        for (a, b) in self.status_class.iter_mut().zip(other.status_class) {
            *a += b;
        }
        for (a, b) in self.decisions.iter_mut().zip(other.decisions) {
            *a += b;
        }
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.latency_sum_us += other.latency_sum_us;
        self.latencies.merge(&other.latencies);
    }
}

/// How fine usage is told. Only `Minute` up to `Month`: finer questions go to the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    Minute,
    Hour,
    Day,
    Month,
}

/// Totals over time. A step without records is absent: a gap is not a zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    pub grain: Grain,
    /// (start of the step in microseconds since the Unix epoch UTC, totals), ascending.
    pub points: Vec<(i64, Totals)>,
}

/// How complete the books are for what is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Completeness {
    /// Records in the books.
    pub records: i64,
    /// Numbers that some stream skipped: records known to be missing.
    pub missing: i64,
    /// Everything that ended before this moment is in (microseconds UTC); `None` with no records.
    pub complete_to_us: Option<i64>,
    /// In which times every gateway is known to have been at work, and in which not.
    pub known: Known,
}

/// One line of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub client: String,
    pub tier: String,
    pub endpoint: String,
    pub method: String,
    pub totals: Totals,
}

/// What one page shows: a range of time, whole or of one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Usage {
    /// Start and end of the range, microseconds UTC, half open.
    pub from_us: i64,
    pub to_us: i64,
    pub totals: Totals,
    pub series: Series,
    /// Every (client, tier, endpoint, method) that occurs in the range.
    pub rows: Vec<Row>,
    /// Exact status code -> requests.
    pub status: BTreeMap<u16, i64>,
    pub completeness: Completeness,
}

/// A client's use of one of its limits that came near the limit or reached it.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct QuotaFinding {
    /// Names this finding for ever: client, limit, threshold and the moment of crossing. The ledger of
    /// mails is keyed by it, so that each is mailed once.
    pub id: String,
    pub client: String,
    /// As the policy spells it: `2000 requests/hour`.
    pub limit: String,
    pub amount: u64,
    pub used: u64,
    /// 80 or 100 (percent), or what the policy names.
    pub threshold: u32,
    /// The sliding window in which it was reached, microseconds UTC.
    pub window_from_us: i64,
    pub window_to_us: i64,
    /// Requests refused to this client within the window.
    pub refused: i64,
    /// The endpoint that used most of it, with its share in percent.
    pub top_endpoint: String,
    pub top_share_percent: u32,
}

impl QuotaFinding {
    /// Whether the window slides; otherwise it is a day or month of the calendar, up to the crossing.
    pub fn slides(&self) -> bool {
        !["/day", "/month"].iter().any(|end| self.limit.split(' ').any(|word| word.ends_with(end)))
    }
}

/// What the newest records say that roll-ups do not: which limits refused, and who is at work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// Records from here on were looked at, microseconds UTC; `None` where there are none.
    pub from_us: Option<i64>,
    /// By limit and client, most refusals first.
    pub limits: Vec<LimitUse>,
    /// By name.
    pub gateways: Vec<GatewaySeen>,
}

/// What one limit did to one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitUse {
    /// As the policy spells it.
    pub limit: String,
    pub client: String,
    pub refused: i64,
    /// Would have been refused, were it no trial.
    pub dry_run: i64,
    pub delayed: i64,
    /// The newest of them, microseconds UTC.
    pub newest_us: i64,
}

/// One gateway as its newest records show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySeen {
    pub name: String,
    pub records: i64,
    /// Numbers that its streams skipped: dropped in the spool, or lost.
    pub missing: i64,
    pub newest_us: i64,
    /// The policy behind its newest record, 16 hex digits.
    pub policy_version: String,
    /// Decided without the shared limits.
    pub degraded: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_one_percent_of_the_exact_one() {
        let mut latencies = Latencies::default();
        let mut exact: Vec<u64> = (1..=10_000u64).map(|i| i * i % 777_777 + 3).collect();
        for &v in &exact {
            *latencies.bins.entry(Latencies::bin(v)).or_default() += 1;
        }
        exact.sort_unstable();
        for q in [0.5, 0.95, 0.99] {
            let want = exact[(q * 10_000.0) as usize - 1] as f64;
            let got = latencies.quantile_us(q).unwrap();
            assert!((got / want - 1.0).abs() <= 0.01, "q {q}: {got} for {want}");
        }
        assert_eq!(Latencies::default().quantile_us(0.5), None);
    }
}
