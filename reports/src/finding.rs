//! A finding in words, the same on a page and in a mail.

use weir_analytics::view::QuotaFinding;
use weir_limiter::Unit;

use crate::limits::{quantity, unit_of, words};
use crate::name::shown;
use crate::number;
use crate::when::Zone;

/// What a finding says, ready to be put into sentences. It holds numbers of one client only.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The limit was reached; otherwise it came near.
    pub reached: bool,
    /// The window slides; otherwise it is a day or month.
    pub slides: bool,
    /// `2,000 requests/hour`
    pub limit: String,
    /// `1,600 requests`
    pub used: String,
    /// `1,600`, where the limit beside it names the unit; bytes keep theirs.
    pub used_short: String,
    pub percent: u64,
    /// `0 requests`
    pub refused: String,
    pub any_refused: bool,
    /// `24 Nov 2026, 13:05 to 14:05`
    pub window: String,
    /// `14:05 UTC`, or with UTC beside another zone.
    pub at: String,
    pub zone: String,
    /// `97 % of it POST /orders`
    pub mostly: Option<String>,
}

impl Facts {
    pub fn of(finding: &QuotaFinding, zone: &Zone) -> Facts {
        let unit = unit_of(&finding.limit);
        let used = quantity(unit, finding.used);
        let counts_bytes = unit.is_known_afterwards();
        Facts {
            reached: finding.threshold >= 100,
            slides: finding.slides(),
            limit: words(&finding.limit),
            used_short: if counts_bytes { used.clone() } else { number::amount(finding.used) },
            used,
            percent: percent(finding),
            refused: quantity(Unit::Requests, finding.refused.max(0).unsigned_abs()),
            any_refused: finding.refused > 0,
            window: zone.range(finding.window_from_us, finding.window_to_us),
            at: zone.time_named(finding.window_to_us),
            zone: zone.name().to_string(),
            mostly: mostly(finding),
        }
    }
}

/// Whole percent, rounded down: 99.9 % is not all.
fn percent(finding: &QuotaFinding) -> u64 {
    let share = u128::from(finding.used) * 100 / u128::from(finding.amount.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn mostly(finding: &QuotaFinding) -> Option<String> {
    let known = finding.top_share_percent > 0 && !finding.top_endpoint.is_empty();
    known.then(|| format!("{} % of it {}", finding.top_share_percent.min(100), shown(&finding.top_endpoint)))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::sample::START;

    pub fn finding(client: &str, threshold: u32) -> QuotaFinding {
        QuotaFinding {
            id: format!("{client}:2000 requests/hour:{threshold}:{START}"),
            client: client.to_string(),
            limit: "2000 requests/hour".to_string(),
            amount: 2_000,
            used: u64::from(threshold) * 20,
            threshold,
            window_from_us: START + 13 * 3_600_000_000,
            window_to_us: START + 14 * 3_600_000_000,
            refused: if threshold >= 100 { 312 } else { 0 },
            top_endpoint: "POST /orders".to_string(),
            top_share_percent: 97,
        }
    }

    #[test]
    fn a_finding_is_told_with_units() {
        let facts = Facts::of(&finding("acme", 80), &Zone::utc());
        assert_eq!((facts.limit.as_str(), facts.used_short.as_str()), ("2,000 requests/hour", "1,600"));
        assert_eq!((facts.percent, facts.at.as_str()), (80, "14:00 UTC"));
        assert_eq!(facts.mostly.as_deref(), Some("97 % of it POST /orders"));
    }

    #[test]
    fn extremes_neither_panic_nor_divide_by_nothing() {
        let odd = QuotaFinding {
            amount: 0,
            used: u64::MAX,
            refused: -1,
            top_share_percent: 0,
            ..finding("a", 100)
        };
        let facts = Facts::of(&odd, &Zone::utc());
        assert_eq!((facts.percent, facts.refused.as_str(), facts.mostly), (u64::MAX, "0 requests", None));
    }

    #[test]
    fn byte_limits_are_told_in_bytes() {
        let bytes = QuotaFinding {
            limit: "500 MB/hour".to_string(),
            amount: 500_000_000,
            used: 482_000_467,
            ..finding("a", 80)
        };
        let facts = Facts::of(&bytes, &Zone::utc());
        assert_eq!((facts.used.as_str(), facts.used_short.as_str(), facts.percent), ("482 MB", "482 MB", 96));
    }
}
