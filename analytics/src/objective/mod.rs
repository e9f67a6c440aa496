//! What clients were promised of the API, and how it was kept: good and bad requests, error budgets,
//! and how fast budgets burn. docs/objectives.md has the rules and where they come from.
//!
//! Reckoned from the roll-ups each time: nothing is kept.

mod account;
mod burn;
mod spans;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use futures::StreamExt;
use serde::Serialize;
use weir_policy::{Book, Objective};

use crate::books::{all_held, newest_usage};
use crate::calendar::{HOUR_US, MINUTE_US, Partition, day_of_folder};
use crate::completeness::Known;
use crate::finding::Finding;
use crate::held::Held;
use crate::parquet_file::FileError;
use crate::store::Store;
use crate::table::{REQUESTS, Table};
use crate::view::Grain;

use account::Accounts;
pub use burn::{Alert, Burn};
use spans::Spans;

/// Requests to the store under way at a time.
const REQUESTS_AT_ONCE: usize = 8;

/// What is an error, what a refusal looks like, and when nothing counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Status codes of errors of the service, each a range.
    pub errors: Vec<Range<u16>>,
    /// What a refused request is answered with: refusals are never errors.
    pub refused_status: u16,
    /// Planned and announced, microseconds UTC, half open.
    pub maintenance: Vec<Range<i64>>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { errors: std::iter::once(500..600).collect(), refused_status: 429, maintenance: Vec::new() }
    }
}

impl Rules {
    fn is_error(&self, status: u16) -> bool {
        self.errors.iter().any(|range| range.contains(&status))
    }
}

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "of")]
pub enum Promised {
    /// So many percent of requests are answered without an error of the service.
    Availability { percent: f64 },
    /// So many percent are answered within so many milliseconds.
    Latency { percent: f64, ms: u64 },
}

impl Promised {
    pub fn percent(self) -> f64 {
        match self {
            Promised::Availability { percent } | Promised::Latency { percent, .. } => percent,
        }
    }

    /// The share of requests that may be bad.
    pub fn budget(self) -> f64 {
        1.0 - self.percent() / 100.0
    }

    pub fn word(self) -> &'static str {
        match self {
            Promised::Availability { .. } => "availability",
            Promised::Latency { .. } => "latency",
        }
    }
}

/// How a promise was kept over a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// As far as is known.
    Met,
    Missed,
    /// Of so few requests not one may be bad: one error would say nothing of the service.
    TooFew,
    /// Nothing is known of the time.
    Unknown,
}

/// One promise over one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Period {
    /// Microseconds UTC, half open; up to now where it goes on.
    pub from_us: i64,
    pub to_us: i64,
    pub good: i64,
    pub bad: i64,
    /// Turned away by a limit: neither good nor bad.
    pub refused: i64,
    /// Time of which nothing is known, and time that does not count; microseconds.
    pub unknown_us: i64,
    pub maintenance_us: i64,
    /// Percent of good ones among good and bad; `None` without any.
    pub percent: Option<f64>,
    /// What is left of the bad ones that were allowed, 1 for all; below 0 when it is overdrawn.
    pub budget_left: Option<f64>,
    pub kept: Kept,
}

/// What one client was promised, for all endpoints or one, and how it is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Promise {
    pub client: String,
    /// `POST /orders`; `None`: all endpoints together.
    pub endpoint: Option<String>,
    pub tier: String,
    pub promised: Promised,
    /// The calendar month (UTC), up to now: the statement.
    pub month: Period,
    /// The objective's own window, up to now; `None` for a month that is over.
    pub window: Option<Period>,
    /// By alert; empty for a month that is over.
    pub burns: Vec<Burn>,
}

impl Promise {
    /// What somebody has to be told now: the most urgent of its alerts.
    pub fn finding(&self, now_us: i64) -> Option<Finding> {
        burn::finding(self, now_us)
    }
}

/// Every promise, by client and endpoint, in the month that holds `month_us`; and of this month, how
/// fast budgets burn.
pub async fn read(
    store: &Store,
    book: &Book,
    rules: &Rules,
    now_us: i64,
    month_us: i64,
) -> Result<Vec<Promise>, FileError> {
    let tiers: BTreeMap<&str, &Objective> =
        book.policy().tiers.iter().filter_map(|tier| Some((&*tier.name, tier.objective.as_ref()?))).collect();
    if tiers.is_empty() {
        return Ok(Vec::new());
    }
    let month = Grain::Month.floor(month_us);
    let month = month..Grain::Month.next(month).min(now_us);
    let is_now = month.end == now_us;
    let mut reading = Reading {
        store,
        accounts: Accounts::new(&tiers, rules, month.clone(), is_now.then_some(now_us)),
        maintenance: Spans::of(rules.maintenance.iter().cloned()),
        active: Vec::new(),
    };
    let from_us = reading.accounts.needed_from_us();
    reading.hours(from_us..month.end).await?;
    if is_now {
        reading.minutes(now_us).await?;
    }
    let first_us = first_day(store).await?.unwrap_or(i64::MAX);
    let held = all_held(store, from_us, month.end).await?;
    let known = Known::of(&Held::default(), &held, from_us..month.end, None);
    let whole = from_us.max(first_us)..Grain::Hour.floor(month.end);
    let silent = known.silent.iter().map(|silence| silence.from_us..silence.to_us);
    let unknown = Spans::of(
        Spans::gaps(&reading.active, whole, first_us)
            .into_iter()
            .filter(|gap| !known.knows(gap.start, gap.end))
            .chain(silent),
    );
    Ok(reading.accounts.close(&unknown, &reading.maintenance))
}

/// The day of the oldest usage by the hour that is there.
async fn first_day(store: &Store) -> Result<Option<i64>, FileError> {
    let folders = store.folders("usage/grain=hour").await?;
    Ok(folders.iter().find_map(|folder| day_of_folder(folder)).map(|day| day.start_us))
}

struct Reading<'a> {
    store: &'a Store,
    accounts: Accounts<'a>,
    maintenance: Spans,
    /// The hours with any request of anybody.
    active: Vec<i64>,
}

impl Reading<'_> {
    /// Hours as they are; those with maintenance in them by the minute.
    async fn hours(&mut self, range: Range<i64>) -> Result<(), FileError> {
        let days = Partition::covering(Grain::Hour, range.start, range.end);
        let store = self.store;
        let reads = days.into_iter().map(|day| newest_usage(store, day));
        let mut reads = futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE);
        let mut partly: Vec<i64> = Vec::new();
        while let Some(read) = reads.next().await {
            let Some((table, _)) = read? else { continue };
            for row in (0..table.len()).filter(|&row| range.contains(&table.time_us[row])) {
                let at_us = table.time_us[row];
                self.active.extend((table.sums[REQUESTS][row] > 0).then_some(at_us));
                match self.maintenance.within(at_us, at_us + HOUR_US) {
                    0 => self.accounts.add_hour(&table, row, at_us),
                    HOUR_US => {}
                    _ => partly.push(at_us),
                }
            }
            self.accounts.end_of_table();
        }
        drop(reads);
        self.active.sort_unstable();
        self.active.dedup();
        partly.sort_unstable();
        partly.dedup();
        for hour in partly {
            // Minutes that are gone already can't be told apart: the hour is left out.
            if let Some(table) = self.minutes_of(hour).await? {
                for row in 0..table.len() {
                    if self.maintenance.within(table.time_us[row], table.time_us[row] + MINUTE_US) == 0 {
                        self.accounts.add_hour(&table, row, hour);
                    }
                }
                self.accounts.end_of_table();
            }
        }
        Ok(())
    }

    /// The last hours by the minute, for the shorter windows of alerts.
    async fn minutes(&mut self, now_us: i64) -> Result<(), FileError> {
        let from_us = now_us - burn::BY_THE_MINUTE_US;
        for hour in Partition::covering(Grain::Minute, from_us, now_us) {
            let Some(table) = self.minutes_of(hour.start_us).await? else { continue };
            for row in 0..table.len() {
                if self.maintenance.within(table.time_us[row], table.time_us[row] + MINUTE_US) == 0 {
                    self.accounts.add_minute(&table, row);
                }
            }
            self.accounts.end_of_table();
        }
        Ok(())
    }

    async fn minutes_of(&self, hour_us: i64) -> Result<Option<Table>, FileError> {
        let read = newest_usage(self.store, Partition::at(Grain::Minute, hour_us)).await?;
        Ok(read.map(|(table, _)| table))
    }
}
