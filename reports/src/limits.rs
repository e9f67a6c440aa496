//! How near a client came to its limits, and limits in words.

use weir_analytics::view::{Grain, QuotaFinding, Totals, Usage};
use weir_limiter::{Limit, Unit, Window};
use weir_policy::parse_limit;

use crate::columns::{DAY, HOUR, MINUTE};
use crate::name::shown;
use crate::number;
use crate::subject::OwnLimit;
use crate::when::Zone;

/// `2,000 requests/hour`, `500 MB/hour`: a limit as the policy spells it, with separators.
pub fn words(spelled: &str) -> String {
    let digits = spelled.len() - spelled.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match spelled[..digits].parse() {
        Ok(n) => format!("{}{}", number::amount(n), shown(&spelled[digits..])),
        Err(_) => shown(spelled),
    }
}

/// A number of whatever the limit counts, with its unit: `1,600 requests`, `482 MB`.
pub fn quantity(unit: Unit, n: u64) -> String {
    match unit {
        Unit::Requests => format!("{} {}", number::amount(n), if n == 1 { "request" } else { "requests" }),
        Unit::Cost => format!("{} {}", number::amount(n), if n == 1 { "unit" } else { "units" }),
        Unit::Bytes => bytes(n),
        Unit::BytesIn => format!("{} in", bytes(n)),
        Unit::BytesOut => format!("{} out", bytes(n)),
    }
}

fn bytes(n: u64) -> String {
    number::bytes(i64::try_from(n).unwrap_or(i64::MAX))
}

/// The unit of a limit as a finding names it, an endpoint behind it or not; requests where it is
/// spelled as in no policy.
pub fn unit_of(name: &str) -> Unit {
    let ends = name.match_indices(' ').map(|(at, _)| at).chain([name.len()]);
    let limit = ends.rev().find_map(|end| parse_limit(&name[..end]).ok());
    limit.map_or(Unit::Requests, |limit| limit.unit)
}

/// The most that was used of a limit in one of its windows, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HighestUse {
    pub used: u64,
    /// The steps of the series are longer than the window: it was at least this much, the mean of
    /// the busiest step.
    pub at_least: bool,
}

/// The highest use of `own` in `usage`, or what a finding of this limit within
/// the same time says if that is more.
/// `None` for what the roll-ups do not tell: units of cost and limits of single endpoints.
pub fn highest_use(
    own: &OwnLimit,
    usage: &Usage,
    findings: &[&QuotaFinding],
    zone: &Zone,
) -> Option<HighestUse> {
    let seen = if own.endpoint.is_none() { from_series(&own.limit, usage, zone) } else { None };
    let name = own.full_name();
    let here = |f: &&&QuotaFinding| {
        f.limit == name && f.window_to_us > usage.from_us && f.window_from_us < usage.to_us
    };
    let found = findings.iter().filter(here).map(|f| HighestUse { used: f.used, at_least: false });
    found.chain(seen).max_by_key(|highest| highest.used)
}

impl OwnLimit {
    /// As findings name it: `600 requests/minute POST /orders`.
    pub fn full_name(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("{} {endpoint}", self.spelled),
            None => self.spelled.clone(),
        }
    }
}

/// What one limit counts of some requests. Refused ones are not charged; that their few bytes are
/// in the sums makes byte figures err to the high side.
fn counted(unit: Unit, totals: &Totals) -> Option<i64> {
    match unit {
        Unit::Requests => Some(totals.requests - totals.refused()),
        Unit::Bytes => Some(totals.bytes_in + totals.bytes_out),
        Unit::BytesIn => Some(totals.bytes_in),
        Unit::BytesOut => Some(totals.bytes_out),
        Unit::Cost => None,
    }
}

fn from_series(limit: &Limit, usage: &Usage, zone: &Zone) -> Option<HighestUse> {
    let points: Option<Vec<(i64, i64)>> =
        usage.series.points.iter().map(|(us, t)| counted(limit.unit, t).map(|n| (*us, n))).collect();
    let points = points.filter(|points| !points.is_empty())?;
    let step = match usage.series.grain {
        Grain::Minute => MINUTE,
        Grain::Hour => HOUR,
        Grain::Day => DAY,
        Grain::Month => return None,
    };
    let (used, at_least) = match limit.window {
        // The roll-ups' days are UTC's, and another zone's periods cut them in two.
        Window::Day | Window::Month if step == DAY && !zone.is_utc() => return None,
        Window::Day => (by_period(&points, |us| zone.at(us).date().to_string()), false),
        Window::Month => (by_period(&points, |us| zone.month(us)), false),
        Window::Sliding { ms } => sliding(&points, step, i64::try_from(ms).ok()?.checked_mul(1000)?),
    };
    Some(HighestUse { used: used.max(0).unsigned_abs(), at_least })
}

fn sliding(points: &[(i64, i64)], step: i64, window: i64) -> (i64, bool) {
    let busiest = points.iter().map(|(_, n)| *n).max().unwrap_or(0);
    if window < step {
        let mean = (i128::from(busiest) * i128::from(window) + i128::from(step) - 1) / i128::from(step);
        return (i64::try_from(mean).unwrap_or(i64::MAX), true);
    }
    let (mut first, mut sum, mut highest) = (0, 0, 0);
    for (us, n) in points {
        sum += n;
        while points[first].0 + window < us + step {
            sum -= points[first].1;
            first += 1;
        }
        highest = highest.max(sum);
    }
    // A window that is no multiple of the step, and shorter than one step more, may hold nothing
    // whole but that step.
    (highest.max(busiest), window % step != 0)
}

/// Sums over stretches of points with the same name; the largest of them.
fn by_period(points: &[(i64, i64)], name: impl Fn(i64) -> String) -> i64 {
    let (mut current, mut sum, mut highest) = (String::new(), 0, 0);
    for (us, n) in points {
        let period = name(*us);
        if period != current {
            (current, sum) = (period, 0);
        }
        sum += n;
        highest = highest.max(sum);
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{requests, usage};

    fn own(spelled: &str) -> OwnLimit {
        OwnLimit { limit: parse_limit(spelled).unwrap(), spelled: spelled.to_string(), endpoint: None }
    }

    fn highest(spelled: &str, usage: &Usage) -> Option<(u64, bool)> {
        highest_use(&own(spelled), usage, &[], &Zone::utc()).map(|h| (h.used, h.at_least))
    }

    #[test]
    fn limits_are_worded_with_separators() {
        assert_eq!(words("2000 requests/hour"), "2,000 requests/hour");
        assert_eq!(words("500 MB/hour"), "500 MB/hour");
        assert_eq!(words("strange\r\n"), "strange\\u{d}\\u{a}");
        assert_eq!(words(""), "\"\"");
        assert_eq!(quantity(Unit::BytesIn, 482_000_467), "482 MB in");
        assert_eq!(unit_of("5 MB in/hour PUT /images"), Unit::BytesIn);
        assert_eq!(unit_of("no limit"), Unit::Requests);
    }

    #[test]
    fn a_window_slides_over_steps() {
        let usage = usage(Grain::Minute, 120, |minute| {
            Some(requests(if (50..70).contains(&minute) { 9 } else { 1 }))
        });
        assert_eq!(highest("500 requests/hour", &usage), Some((20 * 9 + 40, false)));
        assert_eq!(highest("100 requests/minute", &usage), Some((9, false)));
        assert_eq!(highest("100 requests/20 seconds", &usage), Some((3, true)));
    }

    #[test]
    fn calendar_quotas_are_summed_by_the_clients_own_days_and_months() {
        let hourly = usage(Grain::Hour, 72, |_| Some(requests(10)));
        let daily = usage(Grain::Day, 40, |_| Some(requests(240)));
        let used = |spelled: &str, usage: &Usage, zone: &str| {
            highest_use(&own(spelled), usage, &[], &Zone::named(zone)).map(|highest| highest.used)
        };
        assert_eq!(used("500 requests/day", &hourly, "UTC"), Some(240));
        assert_eq!(used("500 requests/day", &hourly, "America/Chicago"), Some(250), "25 hours");
        assert_eq!(used("500 requests/day", &daily, "UTC"), Some(240));
        assert_eq!(used("9000 requests/month", &daily, "UTC"), Some(30 * 240), "November");
        assert_eq!(used("500 requests/day", &daily, "America/Chicago"), None, "UTC's days are others");
    }

    #[test]
    fn refused_requests_do_not_count_and_gaps_hold_nothing() {
        let usage = usage(Grain::Hour, 10, |hour| {
            let mut totals = requests(100);
            totals.decisions = [40, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0];
            (hour % 2 == 0).then_some(totals)
        });
        assert_eq!(highest("2000 requests/2 hours", &usage), Some((40, false)));
        assert_eq!(highest("5 units/hour", &usage), None);
    }

    #[test]
    fn a_finding_knows_better_than_the_series() {
        let usage = usage(Grain::Hour, 3, |_| Some(requests(10)));
        let finding = QuotaFinding {
            id: String::new(),
            client: String::new(),
            limit: "20 requests/hour".to_string(),
            amount: 20,
            used: 17,
            threshold: 80,
            window_from_us: usage.from_us,
            window_to_us: usage.from_us + HOUR,
            refused: 0,
            top_endpoint: String::new(),
            top_share_percent: 0,
        };
        let highest = highest_use(&own("20 requests/hour"), &usage, &[&finding], &Zone::utc());
        assert_eq!(highest, Some(HighestUse { used: 17, at_least: false }));
        let old = QuotaFinding { window_from_us: 0, window_to_us: HOUR, ..finding };
        let highest = highest_use(&own("20 requests/hour"), &usage, &[&old], &Zone::utc());
        assert_eq!(highest.map(|h| h.used), Some(10), "what was before is not of this time");
    }
}
