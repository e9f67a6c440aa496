//! When a quota runs out, in words and drawn: the figures of `weir forecast`. A quota that will last,
//! as nine of ten outcomes have it, is not worth a word.

use std::hash::{Hash, Hasher};

use weir_analytics::forecast::Forecast;
use weir_limiter::Unit;

use crate::chart::{Chart, fan};
use crate::limits::{quantity, unit_of, words};
use crate::number;
use crate::when::Zone;

/// Drawings on one page.
const MOST_CHARTS: usize = 6;

/// One quota that may run out before its period ends.
#[derive(Clone, Debug)]
pub struct RunsOut {
    /// `500,000 requests/month`
    pub limit: String,
    /// `312,000 requests`
    pub used: String,
    pub percent: String,
    /// `28 Nov 2026, 14:00 UTC`: as likely before as after (P50); `None` where it is likelier to last.
    pub likely: Option<String>,
    /// It runs out with a chance of 80 % or more.
    pub is_likely: bool,
    /// One of ten runs out before.
    pub earliest: String,
    /// Nine of ten have run out by then; `None` where fewer do in this period.
    pub latest: Option<String>,
    /// At the end of the period.
    pub at_end: [String; 3],
    pub ends: String,
}

/// Whether there is anything to say.
pub fn is_told(forecast: &Forecast) -> bool {
    forecast.runs_out_us[0].is_some()
}

impl RunsOut {
    pub fn of(forecast: &Forecast, zone: &Zone) -> Option<RunsOut> {
        let [earliest, likely, latest] = forecast.runs_out_us.map(|us| us.map(|us| zone.moment_named(us)));
        let unit = unit_of(&forecast.limit);
        let end = &forecast.at_end;
        Some(RunsOut {
            limit: words(&forecast.limit),
            used: quantity(unit, forecast.used),
            percent: number::percent(whole(forecast.used as f64), whole(forecast.amount as f64)),
            likely,
            is_likely: forecast.is_likely,
            earliest: earliest?,
            latest,
            at_end: [end.p10, end.p50, end.p90].map(|n| amount(unit, n)),
            ends: zone.moment_named(forecast.to_us),
        })
    }
}

/// What is to come is told as coarsely as it is known.
fn amount(unit: Unit, n: f64) -> String {
    match unit {
        Unit::Requests | Unit::Cost if n < 10_000.0 => number::integer(whole(n.round())),
        Unit::Requests | Unit::Cost => number::compact(n),
        Unit::Bytes | Unit::BytesIn | Unit::BytesOut => number::bytes(whole(n)),
    }
}

fn whole(n: f64) -> i64 {
    n as i64
}

/// The forecasts of a client on its pages.
pub fn told(forecasts: &[&Forecast], zone: &Zone) -> (Vec<RunsOut>, Vec<Chart>) {
    let soonest = sorted(forecasts.iter().copied());
    let drawn = |(n, forecast): (usize, &&Forecast)| {
        let unit = unit_of(&forecast.limit);
        let word = if unit.is_known_afterwards() { "bytes used" } else { "requests used" };
        let title = format!("How far {} go", words(&forecast.limit));
        fan((format!("forecast-{n}"), title, word.to_owned()), forecast, zone, &move |v| amount(unit, v))
    };
    let charts = soonest.iter().take(MOST_CHARTS).enumerate().map(drawn).collect();
    (soonest.iter().filter_map(|forecast| RunsOut::of(forecast, zone)).collect(), charts)
}

/// Those worth a word, the soonest first.
pub fn sorted<'a>(forecasts: impl Iterator<Item = &'a Forecast>) -> Vec<&'a Forecast> {
    let mut told: Vec<&Forecast> = forecasts.filter(|forecast| is_told(forecast)).collect();
    let when = |forecast: &&Forecast| {
        forecast.runs_out_us.map(|us| us.unwrap_or(i64::MAX)).map(|us| us.max(forecast.known_to_us))
    };
    told.sort_by_key(|forecast| {
        let [earliest, likely, _] = when(forecast);
        (likely, earliest)
    });
    told
}

/// What pages tell, but for the clock.
pub fn hash(forecast: &Forecast, hasher: &mut impl Hasher) {
    let hour = |us: i64| us.div_euclid(crate::columns::HOUR);
    let end = &forecast.at_end;
    (&forecast.limit, forecast.used, forecast.from_us, forecast.to_us).hash(hasher);
    (forecast.is_likely, forecast.runs_out_us.map(|us| us.map(hour)), hour(forecast.known_to_us))
        .hash(hasher);
    [end.p10, end.p50, end.p90].map(whole).hash(hasher);
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::columns::{DAY, HOUR};
    use crate::sample::START;
    use weir_analytics::forecast::Band;

    /// A day of which half is over.
    pub fn forecast(amount: u64, used: u64, [p10, p50, p90]: [f64; 3]) -> Forecast {
        let (from_us, now) = (START, START + DAY / 2);
        let at_end = Band { p10, p50, p90 };
        let out = |end: f64| (end >= amount as f64).then_some(now + 6 * HOUR);
        Forecast {
            client: "acme".to_owned(),
            limit: format!("{amount} requests/day"),
            amount,
            is_bytes: false,
            from_us,
            to_us: from_us + DAY,
            known_to_us: now,
            used,
            at_end,
            runs_out_us: [out(p90), out(p50), out(p10)],
            is_likely: out(p50).is_some(),
            past: vec![(from_us, 0.0), (now, used as f64)],
            ahead: vec![(from_us + DAY, at_end)],
        }
    }

    #[test]
    fn a_quota_is_told_with_its_band_and_one_that_lasts_is_not() {
        let likely = forecast(1_000, 400, [900.0, 1_100.0, 1_400.0]);
        let told = RunsOut::of(&likely, &Zone::utc()).unwrap();
        assert_eq!(
            (told.limit.as_str(), told.used.as_str(), told.percent.as_str()),
            ("1,000 requests/day", "400 requests", "40 %")
        );
        assert!(told.likely.unwrap().ends_with("18:00 UTC") && told.latest.is_none());
        assert_eq!(told.at_end, ["900", "1,100", "1,400"]);
        let lasts = forecast(1_000, 400, [500.0, 700.0, 900.0]);
        let (lines, charts) = super::told(&[&lasts, &likely], &Zone::utc());
        assert_eq!((lines.len(), charts.len()), (1, 1));
        assert_eq!(super::told(&[&lasts], &Zone::utc()).1.len(), 0);
    }
}
