//! How much of each calendar quota will be used at the end of its period, and when it runs out.
//!
//! Reckoned from the roll-ups each time: nothing is kept. docs/forecasts.md has the method.

#[cfg(test)]
mod backtest;
pub mod method;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use futures::StreamExt;
use serde::Serialize;
use weir_limiter::{Limit, Unit, Window};
use weir_policy::{ANONYMOUS, Book, EndpointRule, Policy};

use crate::books::newest_usage;
use crate::calendar::{DAY_US, HOUR_US, Partition, civil};
use crate::finding::{Figure, Finding, Kind, Measure, Severity, episode_key, printable};
use crate::parquet_file::FileError;
use crate::store::Store;
use crate::table::{BYTES_IN, BYTES_OUT, PASSED, REQUESTS, Table};
use crate::view::Grain;

/// So much history: the method looks at 4 weeks before each of 42 past days.
const HISTORY_US: i64 = 70 * DAY_US;

const REQUESTS_AT_ONCE: usize = 8;

const SECOND_US: i64 = 1_000_000;

/// Moments of a period that are kept to be drawn, before now and after it.
const MOST_DRAWN: usize = 100;

/// A number of which 10, 50 and 90 % of outcomes are below.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Band {
    pub p10: f64,
    pub p50: f64,
    pub p90: f64,
}

/// One calendar quota of one client in its present period.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    pub client: String,
    /// As the policy spells it.
    pub limit: String,
    pub amount: u64,
    /// What is counted, as in the policy: requests, or bytes.
    pub is_bytes: bool,
    /// The period, microseconds UTC, and up to when use is known.
    pub from_us: i64,
    pub to_us: i64,
    pub known_to_us: i64,
    pub used: u64,
    /// What would be used at its end, if nothing were refused.
    pub at_end: Band,
    /// When the quota runs out, microseconds UTC: at the earliest (P90 of use), likely (P50), at the
    /// latest (P10); `None` where it lasts.
    pub runs_out_us: [Option<i64>; 3],
    /// Whether it runs out with a chance of 80 % or more.
    pub is_likely: bool,
    /// Where the quota may run out, to be drawn: what was used by a moment of the period, up to now, and
    /// what would be used by the moments to come.
    #[serde(skip)]
    pub past: Vec<(i64, f64)>,
    #[serde(skip)]
    pub ahead: Vec<(i64, Band)>,
}

/// The forecasts that are worth a look: of quotas that are not used up, with history enough.
pub async fn read(store: &Store, book: &Book, now_us: i64) -> Result<Vec<Forecast>, FileError> {
    if !has_quotas(book.policy()) {
        return Ok(Vec::new());
    }
    let known_to_us = Grain::Hour.floor(now_us);
    let from_us = known_to_us - HISTORY_US;
    let mut series = Quotas { book, now_us, from_us, all: BTreeMap::new(), active: Vec::new() };
    series.active = vec![false; usize::try_from(HISTORY_US / HOUR_US).unwrap_or(0)];
    let days = Partition::covering(Grain::Hour, from_us, now_us);
    let reads = days.into_iter().map(|day| newest_usage(store, day));
    let mut reads = futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE);
    while let Some(read) = reads.next().await {
        if let Some((table, _)) = read? {
            series.add(&table);
        }
    }
    Ok(series.close(known_to_us))
}

/// Whether there is anything to forecast: most policies have windows that slide alone.
fn has_quotas(policy: &Policy) -> bool {
    let is_quota = |limit: &Limit| matches!(limit.window, Window::Day | Window::Month);
    let of = |limits: &[Limit], rules: &[EndpointRule]| {
        limits.iter().chain(rules.iter().flat_map(|rule| &rule.limits)).any(is_quota)
    };
    policy.tiers.iter().any(|tier| of(&tier.limits, &tier.endpoints))
        || policy.clients.iter().any(|client| of(&client.limits, &client.endpoints))
}

/// One quota while it is being read.
struct Quota {
    limit: Limit,
    period_us: Range<i64>,
    hours: Vec<f64>,
    used: u64,
}

struct Quotas<'a> {
    book: &'a Book,
    now_us: i64,
    from_us: i64,
    /// By client and the limit's name.
    all: BTreeMap<(String, String), Quota>,
    /// Hours with any request of anybody.
    active: Vec<bool>,
}

impl Quotas<'_> {
    fn add(&mut self, table: &Table) {
        // Client, tier, endpoint and method -> the quotas that count them.
        let mut lines: HashMap<[u32; 4], Vec<(String, String)>> = HashMap::new();
        for row in (0..table.len()).filter(|&r| (self.from_us..self.now_us).contains(&table.time_us[r])) {
            let hour = usize::try_from((table.time_us[row] - self.from_us) / HOUR_US).unwrap_or(usize::MAX);
            if let Some(active) = self.active.get_mut(hour) {
                *active = true;
            }
            let line: [u32; 4] = std::array::from_fn(|i| table.texts[i][row]);
            let counted = lines.entry(line).or_insert_with(|| {
                let text = |i: usize| table.names.get(line[i]);
                Self::counted(self.book, self.now_us, [text(0), text(1), text(2), text(3)], &mut self.all)
            });
            for quota in counted.iter() {
                let Some(quota) = self.all.get_mut(quota) else { continue };
                let weight = weight(&quota.limit, table, row);
                // Half-hour time zones: an hour belongs to the period that it begins in.
                if table.time_us[row] >= quota.period_us.start {
                    quota.used = quota.used.saturating_add(weight);
                }
                if quota.hours.len() <= hour {
                    quota.hours.resize(hour + 1, 0.0);
                }
                quota.hours[hour] += weight as f64;
            }
        }
    }

    /// The client's own calendar quotas that count a line.
    fn counted(
        book: &Book,
        now_us: i64,
        [client, tier, endpoint, method]: [&str; 4],
        all: &mut BTreeMap<(String, String), Quota>,
    ) -> Vec<(String, String)> {
        if client == ANONYMOUS {
            return Vec::new();
        }
        let mut applied = Vec::new();
        let caller = book.by_client(client, Some(tier));
        book.limits(&caller, method, endpoint, now_us / SECOND_US, &mut applied);
        let own = format!("{{{client}}}");
        let mut found = Vec::new();
        for limit in applied.iter().filter(|a| a.counter.name.starts_with(&own) && a.limit.unit != Unit::Cost)
        {
            let Some(period) = &limit.period_s else { continue };
            let key = (client.to_owned(), limit.name.to_string());
            let period_us = period.start.saturating_mul(SECOND_US)..period.end.saturating_mul(SECOND_US);
            let (limit, used) = (limit.limit, 0);
            all.entry(key.clone()).or_insert(Quota { limit, period_us, hours: Vec::new(), used });
            found.push(key);
        }
        found
    }

    fn close(self, known_to_us: i64) -> Vec<Forecast> {
        let forecast = |((client, name), mut quota): ((String, String), Quota)| {
            let (amount, used) = (quota.limit.amount, quota.used);
            quota.hours.resize(self.active.len() + 1, 0.0);
            // The hour that goes on is part of what is forecast.
            let goes_on = quota.hours.pop().unwrap_or(0.0);
            let first = quota.hours.iter().position(|&n| n > 0.0)?;
            let of_hour = |hour: usize| if self.active[hour] { quota.hours[hour] } else { f64::NAN };
            let series: Vec<f64> = (first..quota.hours.len()).map(of_hour).collect();
            let to_us = quota.period_us.end;
            let ahead_us = (to_us - known_to_us).max(0);
            let ahead = method::ahead(&series, usize::try_from((ahead_us + HOUR_US - 1) / HOUR_US).ok()?)?;
            let before = used as f64 - goes_on;
            let ends_us = |hour: usize| (known_to_us + (hour as i64 + 1) * HOUR_US).min(to_us);
            let runs_out = |factor: f64| {
                let crosses = |&&sum: &&f64| before + sum * factor >= amount as f64;
                let hour = ahead.cumulated.iter().take_while(|sum| !crosses(sum)).count();
                (hour < ahead.cumulated.len()).then_some(ends_us(hour).max(self.now_us))
            };
            let by = |sum: f64| (before + sum).max(used as f64);
            let band =
                |p50: f64| Band { p10: by(p50 / ahead.spread), p50: by(p50), p90: by(p50 * ahead.spread) };
            let runs_out_us = [ahead.spread, 1.0, 1.0 / ahead.spread].map(runs_out);
            let (mut drawn, mut so_far) = (Vec::new(), Vec::new());
            if runs_out_us[0].is_some() {
                let to_come = (0..).zip(&ahead.cumulated).map(|(hour, sum)| (ends_us(hour), band(*sum)));
                drawn = thinned(to_come.collect());
                so_far = past(self.from_us, self.now_us, &quota);
            }
            (used < amount).then_some(Forecast {
                client,
                limit: name,
                amount,
                is_bytes: quota.limit.unit != Unit::Requests,
                from_us: quota.period_us.start,
                to_us,
                known_to_us: self.now_us,
                used,
                at_end: band(ahead.p50()),
                runs_out_us,
                is_likely: before + ahead.p20() >= amount as f64,
                past: so_far,
                ahead: drawn,
            })
        };
        self.all.into_iter().filter_map(forecast).collect()
    }
}

/// Use of the period so far, by the ends of its hours.
fn past(from_us: i64, now_us: i64, quota: &Quota) -> Vec<(i64, f64)> {
    let begins = |hour: usize| from_us + hour as i64 * HOUR_US;
    let mut sum = 0.0;
    let of_period = (0..).zip(&quota.hours).filter(|&(hour, _)| begins(hour) >= quota.period_us.start);
    let whole = of_period.map(|(hour, n)| {
        sum += n;
        (begins(hour) + HOUR_US, sum)
    });
    let first = std::iter::once((quota.period_us.start, 0.0));
    first.chain(thinned(whole.collect())).chain([(now_us, quota.used as f64)]).collect()
}

/// As many as a drawing has room for, the last one among them.
fn thinned<T>(mut all: Vec<T>) -> Vec<T> {
    let every = all.len().div_ceil(MOST_DRAWN).max(1);
    all.reverse();
    let mut kept: Vec<T> = all.into_iter().step_by(every).collect();
    kept.reverse();
    kept
}

/// What the admitted requests of a row count.
fn weight(limit: &Limit, table: &Table, row: usize) -> u64 {
    let sum = |column: usize| table.sums[column][row];
    let weight = match limit.unit {
        // Less REJECTED and REJECTED_DEGRADED.
        Unit::Requests => sum(REQUESTS) - sum(PASSED + 2) - sum(PASSED + 7),
        Unit::Bytes => sum(BYTES_IN).saturating_add(sum(BYTES_OUT)),
        Unit::BytesIn => sum(BYTES_IN),
        Unit::BytesOut => sum(BYTES_OUT),
        // The cost of a request is not in its record.
        Unit::Cost => 0,
    };
    u64::try_from(weight).unwrap_or(0)
}

impl Forecast {
    /// What somebody has to be told: that the quota will likely run out before its period ends.
    pub fn finding(&self) -> Option<Finding> {
        let likely_us = self.runs_out_us[1].filter(|_| self.is_likely)?;
        let unit = if self.is_bytes { Measure::Bytes } else { Measure::Requests };
        let percent = self.at_end.p50 / self.amount as f64 * 100.0;
        let spelt = |us: i64| civil(us).strftime("%A, %-d %B, %H:00").to_string();
        let mut figures = vec![
            Figure::new("used", self.used as f64, unit),
            Figure::new("limit", self.amount as f64, unit),
            Figure::new("at the end (P10)", self.at_end.p10, unit),
            Figure::new("at the end (P50)", self.at_end.p50, unit),
            Figure::new("at the end (P90)", self.at_end.p90, unit),
        ];
        let names = ["runs out at the earliest (P90)", "runs out (P50)", "runs out at the latest (P10)"];
        for (name, at_us) in names.iter().zip(self.runs_out_us) {
            figures.extend(at_us.map(|us| Figure::new(name, us as f64, Measure::Moment)));
        }
        Some(Finding {
            // One episode a period, however the forecast moves.
            key: episode_key(&("forecast", &self.client, &self.limit), self.from_us),
            kind: Kind::Forecast,
            about: self.limit.clone(),
            client: Some(self.client.clone()),
            endpoint: None,
            severity: Severity::Info,
            since_us: self.from_us,
            until_us: None,
            sentence: format!(
                "{}: {} will likely be used up by {} UTC; {percent:.0} % of it would be used at the end of the period",
                printable(&self.client),
                printable(&self.limit),
                spelt(likely_us),
            ),
            figures,
        })
    }
}
