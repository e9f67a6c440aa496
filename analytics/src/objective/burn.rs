//! How fast an error budget burns, and when that is worth an alert.
//!
//! Windows and shares are those that "The Site Reliability Workbook" (Beyer et al., O'Reilly 2018,
//! chapter 5, "Alerting on SLOs", table 5-8) recommends to start from: 2 % of the budget in an hour,
//! 5 % in six hours, 10 % in three days, each beside a window of a twelfth, so that an alert ends soon
//! after its cause. For a budget of 30 days these are burn rates of 14.4, 6 and 1.

use serde::Serialize;

use super::account::Tally;
use super::{Promise, Promised};
use crate::calendar::{DAY_US, HOUR_US, MINUTE_US, civil};
use crate::finding::{Figure, Finding, Kind, Measure, Severity, episode_key, whom};

/// One rule of when to alert.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub long_us: i64,
    pub short_us: i64,
    /// The share of the whole budget that the long window may use up.
    pub spends: f64,
    pub severity: Severity,
}

impl Rule {
    pub fn windows(&self) -> [i64; 2] {
        [self.long_us, self.short_us]
    }

    /// So many times as fast as the budget allows.
    pub fn factor(&self, window_us: i64) -> f64 {
        self.spends * window_us as f64 / self.long_us as f64
    }
}

/// The most urgent first.
pub const ALERTS: [Rule; 3] = [
    Rule { long_us: HOUR_US, short_us: 5 * MINUTE_US, spends: 0.02, severity: Severity::Critical },
    Rule { long_us: 6 * HOUR_US, short_us: 30 * MINUTE_US, spends: 0.05, severity: Severity::Critical },
    Rule { long_us: 3 * DAY_US, short_us: 6 * HOUR_US, spends: 0.10, severity: Severity::Warning },
];

/// Windows up to this are added up from minutes, longer ones from hours.
pub const BY_THE_MINUTE_US: i64 = 6 * HOUR_US;

pub const LONGEST_US: i64 = 3 * DAY_US;

/// Fewer bad requests in the long window are chance. At 14.4 times the budget, five or more where the
/// budget alone would bring them happen once in 30,000 such hours (Poisson).
const LEAST_BAD: i64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alert {
    Ok,
    Firing,
    /// Even at the rate of the alert there would be fewer bad requests than can be told from chance.
    TooFew,
}

/// One rule's look at a promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Burn {
    pub long_us: i64,
    pub short_us: i64,
    /// So many times as fast as the budget allows; `None` without requests.
    pub long: Option<f64>,
    pub short: Option<f64>,
    /// What both have to reach.
    pub factor: f64,
    /// Requests of the long window that count, and the bad ones among them.
    pub requests: i64,
    pub bad: i64,
    pub state: Alert,
    pub severity: Severity,
}

/// Rules whose long window is longer than the objective's own are left out.
pub fn burns(sums: &[[Tally; 2]; ALERTS.len()], promised: Promised, window_us: i64) -> Vec<Burn> {
    let rules = ALERTS.iter().zip(sums).filter(|(rule, _)| rule.long_us <= window_us);
    rules.map(|(rule, [long, short])| one(rule, long, short, promised, window_us)).collect()
}

fn one(rule: &Rule, long: &Tally, short: &Tally, promised: Promised, window_us: i64) -> Burn {
    let rate = |tally: &Tally| {
        let (good, bad) = tally.judged(promised);
        (good + bad > 0).then(|| bad as f64 / (good + bad) as f64 / promised.budget())
    };
    let factor = rule.factor(window_us);
    let (good, bad) = long.judged(promised);
    let burns = |tally: &Tally| rate(tally).is_some_and(|rate| rate >= factor);
    let at_the_rate = (good + bad) as f64 * (promised.budget() * factor).min(1.0);
    Burn {
        long_us: rule.long_us,
        short_us: rule.short_us,
        long: rate(long),
        short: rate(short),
        factor,
        requests: good + bad,
        bad,
        state: match () {
            () if bad >= LEAST_BAD && burns(long) && burns(short) => Alert::Firing,
            () if at_the_rate < LEAST_BAD as f64 => Alert::TooFew,
            () => Alert::Ok,
        },
        severity: rule.severity,
    }
}

pub fn finding(promise: &Promise, now_us: i64) -> Option<Finding> {
    let burn = promise.burns.iter().find(|burn| burn.state == Alert::Firing)?;
    let rate = burn.long.unwrap_or(0.0);
    let since_us = now_us - burn.long_us;
    let who = whom(Some(&promise.client), promise.endpoint.as_deref());
    let bad = match promise.promised {
        Promised::Availability { .. } => "failed".to_owned(),
        Promised::Latency { ms, .. } => format!("took longer than {ms} ms"),
    };
    let share = burn.bad as f64 / burn.requests.max(1) as f64 * 100.0;
    let left = promise.window.as_ref().and_then(|window| window.budget_left);
    let about = promise.promised.word();
    let mut figures = vec![
        Figure::new("burn rate", rate, Measure::Times),
        Figure::new("bad", burn.bad as f64, Measure::Requests),
        Figure::new("requests", burn.requests as f64, Measure::Requests),
        Figure::new("promised", promise.promised.percent(), Measure::Percent),
    ];
    figures.extend(left.map(|left| Figure::new("budget left", left * 100.0, Measure::Percent)));
    Some(Finding {
        key: episode_key(&("objective", about, &promise.client, &promise.endpoint), since_us),
        kind: Kind::ObjectiveBurn,
        about: about.to_owned(),
        client: Some(promise.client.clone()),
        endpoint: promise.endpoint.clone(),
        severity: burn.severity,
        since_us,
        until_us: None,
        sentence: format!(
            "{who}: {share:.1} % of {} requests {bad} in the {} before {}, {rate:.1} times what {} % of {about} allows{}",
            burn.requests,
            span(burn.long_us),
            civil(now_us).strftime("%H:%M"),
            promise.promised.percent(),
            left.map(|left| format!("; {:.0} % of the budget is left", left * 100.0)).unwrap_or_default(),
        ),
        figures,
    })
}

/// `hour`, `6 hours`, `3 days`.
fn span(us: i64) -> String {
    match us {
        HOUR_US => "hour".to_owned(),
        us if us % DAY_US == 0 => format!("{} days", us / DAY_US),
        us => format!("{} hours", us / HOUR_US),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMISED: Promised = Promised::Availability { percent: 99.9 };
    const WINDOW_US: i64 = 30 * DAY_US;

    fn states(long: (i64, i64), short: (i64, i64)) -> Alert {
        let tally = |(requests, errors)| Tally { requests, errors, ..Tally::default() };
        one(&ALERTS[0], &tally(long), &tally(short), PROMISED, WINDOW_US).state
    }

    #[test]
    fn factors_are_the_workbooks_for_thirty_days_and_follow_other_windows() {
        let factors = |days: i64| ALERTS.map(|rule| (rule.factor(days * DAY_US) * 10.0).round() / 10.0);
        assert_eq!(factors(30), [14.4, 6.0, 1.0]);
        assert_eq!(factors(90), [43.2, 18.0, 3.0]);
        assert_eq!(burns(&Default::default(), PROMISED, DAY_US).len(), 2);
    }

    #[test]
    fn both_windows_have_to_burn() {
        assert_eq!(states((10_000, 150), (1_000, 20)), Alert::Firing);
        assert_eq!(states((10_000, 150), (1_000, 2)), Alert::Ok);
        assert_eq!(states((10_000, 100), (1_000, 20)), Alert::Ok);
        assert_eq!(states((10_000, 150), (0, 0)), Alert::Ok);
    }

    #[test]
    fn few_requests_are_said_to_be_few_unless_they_all_fail() {
        assert_eq!(states((100, 4), (100, 4)), Alert::TooFew);
        assert_eq!(states((0, 0), (0, 0)), Alert::TooFew);
        assert_eq!(states((6, 6), (6, 6)), Alert::Firing);
    }
}
