//! What was promised and how it is kept, in words. Nothing here names a client.

use std::hash::{Hash, Hasher};

use weir_analytics::objective::{Alert, Burn, Kept, Period, Promise, Promised};

use crate::breakdown::bar;
use crate::name::shown;
use crate::number;
use crate::when::{Zone, lasting};

/// Endpoints that a client's pages show, the worst kept.
const MOST_LINES: usize = 25;

/// Less of the budget than this is pointed out.
const LITTLE_LEFT: f64 = 0.2;

/// One promise.
#[derive(Clone, Debug)]
pub struct Told {
    /// `POST /orders`; `None`: all endpoints together.
    pub endpoint: Option<String>,
    /// `99.9 % available`
    pub promised: String,
    /// `99.932 %`
    pub kept: String,
    /// Requests that count.
    pub counted: String,
    /// Failed, or slower than promised.
    pub bad: String,
    pub refused: String,
    /// `68 %`, `−150 %`
    pub budget: String,
    /// 0 to 100, the width of the bar.
    pub bar: String,
    pub state: &'static str,
    /// `ok`, `warn`, `full` or nothing.
    pub class: &'static str,
    /// For sorting.
    pub percent: f64,
    pub budget_left: f64,
}

impl Told {
    pub fn of(promise: &Promise) -> Told {
        let month = &promise.month;
        Told {
            endpoint: promise.endpoint.as_deref().map(shown),
            promised: match promise.promised {
                Promised::Availability { percent } => format!("{percent} % available"),
                Promised::Latency { percent, ms } => format!("{percent} % within {} ms", number::amount(ms)),
            },
            kept: kept(month),
            counted: number::integer(month.good + month.bad),
            bad: number::integer(month.bad),
            refused: number::integer(month.refused),
            budget: month.budget_left.map_or("–".to_owned(), whole_percent),
            bar: bar((month.budget_left.unwrap_or(0.0).clamp(0.0, 1.0) * 1e3) as i64, 1_000),
            state: match month.kept {
                Kept::Met => "met",
                Kept::Missed => "missed",
                Kept::TooFew => "too few requests",
                Kept::Unknown => "unknown",
            },
            class: match month.kept {
                Kept::Missed => "full",
                Kept::Met if month.budget_left.is_some_and(|left| left < LITTLE_LEFT) => "warn",
                Kept::Met => "ok",
                Kept::TooFew | Kept::Unknown => "",
            },
            percent: month.percent.unwrap_or(-1.0),
            budget_left: month.budget_left.unwrap_or(2.0),
        }
    }
}

/// As `weir objectives` tells it, but for rounding one bad request away.
fn kept(month: &Period) -> String {
    match month.percent {
        None => "–".to_owned(),
        Some(percent) if month.bad > 0 && percent >= 99.9995 => "> 99.999 %".to_owned(),
        Some(percent) => format!("{percent:.3} %"),
    }
}

fn whole_percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0).replace("-0 %", "0 %").replace('-', "−")
}

/// The most urgent first: what burns, what is missed, what has least left.
pub fn urgency(promise: &Promise) -> (u8, f64) {
    let group = match (firing(promise), promise.month.kept) {
        (Some(_), _) => 0,
        (None, Kept::Missed) => 1,
        (None, Kept::Met) => 2,
        (None, Kept::TooFew) => 3,
        (None, Kept::Unknown) => 4,
    };
    (group, promise.month.budget_left.unwrap_or(1.0))
}

pub fn by_urgency(a: &&Promise, b: &&Promise) -> std::cmp::Ordering {
    let (a, b) = (urgency(a), urgency(b));
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
}

pub fn firing(promise: &Promise) -> Option<&Burn> {
    promise.burns.iter().find(|burn| burn.state == Alert::Firing)
}

/// How fast the budget burns: `22.1 × over 1 h`. The alert's window, else the shortest that tells.
pub fn burn(promise: &Promise) -> String {
    let told = |burn: &Burn| format!("{:.1} × over {}", burn.long.unwrap_or(0.0), lasting(burn.long_us));
    let tells = || promise.burns.iter().find(|burn| burn.state == Alert::Ok);
    match firing(promise).or_else(tells) {
        Some(burn) => told(burn),
        None if promise.burns.is_empty() => "–".to_owned(),
        None => "too few requests".to_owned(),
    }
}

/// What a client was promised, on its pages.
#[derive(Clone, Debug)]
pub struct Sla {
    /// `Nov 2026`
    pub month: String,
    pub lines: Vec<Told>,
    /// `12 more endpoints`
    pub more: Option<String>,
    pub unknown: Option<String>,
    pub maintenance: Option<String>,
}

impl Sla {
    /// `None` where nothing was promised, or nothing sent.
    pub fn of(promises: &[&Promise]) -> Option<Sla> {
        let month = &promises.first()?.month;
        let (mut all, mut endpoints): (Vec<&Promise>, Vec<&Promise>) =
            promises.iter().partition(|promise| promise.endpoint.is_none());
        endpoints.sort_by(by_urgency);
        let more = endpoints.len().saturating_sub(MOST_LINES) as i64;
        all.extend(endpoints.into_iter().take(MOST_LINES));
        Some(Sla {
            month: Zone::utc().month(month.from_us),
            lines: all.into_iter().map(Told::of).collect(),
            more: (more > 0).then(|| number::counted(more, "more line", "more lines")),
            unknown: unknown(month),
            maintenance: maintenance(month),
        })
    }
}

pub fn unknown(month: &Period) -> Option<String> {
    Some(month.unknown_us).filter(|us| *us > 0).map(lasting)
}

pub fn maintenance(month: &Period) -> Option<String> {
    Some(month.maintenance_us).filter(|us| *us > 0).map(lasting)
}

/// All that pages of a client tell of a promise, but for the clock.
pub fn hash(promise: &Promise, hasher: &mut impl Hasher) {
    let month = &promise.month;
    let (kind, ms) = match promise.promised {
        Promised::Availability { .. } => (0, 0),
        Promised::Latency { ms, .. } => (1, ms),
    };
    (&promise.endpoint, kind, ms, promise.promised.percent().to_bits()).hash(hasher);
    (month.from_us, month.good, month.bad, month.refused).hash(hasher);
    (unknown(month), maintenance(month)).hash(hasher);
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::sample::START;

    pub fn promise(good: i64, bad: i64, left: Option<f64>, kept: Kept) -> Promise {
        let all = good + bad;
        Promise {
            client: "acme".to_owned(),
            endpoint: None,
            tier: "t".to_owned(),
            promised: Promised::Availability { percent: 99.9 },
            month: Period {
                from_us: START,
                to_us: START + 1,
                good,
                bad,
                refused: 7,
                unknown_us: 0,
                maintenance_us: 0,
                percent: (all > 0).then(|| good as f64 / all as f64 * 100.0),
                budget_left: left,
                kept,
            },
            window: None,
            burns: Vec::new(),
        }
    }

    #[test]
    fn one_bad_request_is_never_rounded_away_and_an_overdrawn_budget_is_below_nothing() {
        let told = Told::of(&promise(1_000_000_000_000, 1, Some(0.999), Kept::Met));
        assert_eq!((told.kept.as_str(), told.bad.as_str(), told.class), ("> 99.999 %", "1", "ok"));
        let told = Told::of(&promise(60, 40, Some(-399.0), Kept::Missed));
        assert_eq!(
            (told.kept.as_str(), told.budget.as_str(), told.bar.as_str()),
            ("60.000 %", "−39900 %", "0.0")
        );
        let told = Told::of(&promise(0, 0, None, Kept::Unknown));
        assert_eq!((told.kept.as_str(), told.budget.as_str(), told.state), ("–", "–", "unknown"));
    }

    #[test]
    fn the_worst_kept_endpoints_are_shown_and_the_others_counted() {
        let mut many: Vec<Promise> =
            (0..30).map(|n| promise(1_000, n, Some(1.0 - n as f64), Kept::Met)).collect();
        many.iter_mut().enumerate().for_each(|(n, p)| p.endpoint = Some(format!("GET /{n}")));
        many[3].month.kept = Kept::Missed;
        many.push(promise(30_000, 9, Some(0.7), Kept::Met));
        let sla = Sla::of(&many.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((sla.lines.len(), sla.more.as_deref()), (26, Some("5 more lines")));
        let names: Vec<_> = sla.lines.iter().take(3).map(|line| line.endpoint.as_deref()).collect();
        assert_eq!(names, [None, Some("GET /3"), Some("GET /29")]);
    }
}
