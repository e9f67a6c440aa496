//! Sums by client and endpoint, over all the times that are asked about at once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use weir_policy::Objective;

use super::burn::{self, ALERTS};
use super::spans::Spans;
use super::{Kept, Period, Promise, Promised, Rules};
use crate::books::endpoint_name;
use crate::calendar::HOUR_US;
use crate::table::{PASSED, REQUESTS, Table};
use crate::view::{Grain, Latencies};

/// Requests of one subject in one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: i64,
    pub refused: i64,
    pub errors: i64,
    /// With a latency, and those of them that were slower than promised.
    pub timed: i64,
    pub slow: i64,
}

impl Tally {
    /// One row. Decisions, codes and latencies of a row are not told together: a refused request is
    /// taken for one with the status of refusals, answered in time.
    fn of(table: &Table, row: usize, rules: &Rules, promised_ms: Option<u64>) -> Tally {
        // REJECTED and REJECTED_DEGRADED.
        let refused = table.sums[PASSED + 2][row] + table.sums[PASSED + 7][row];
        let (mut errors, mut like_refused) = (0, 0);
        for (code, n) in table.status.row(row) {
            let code = u16::try_from(code).unwrap_or(0);
            errors += if rules.is_error(code) { n } else { 0 };
            like_refused += if code == rules.refused_status { n } else { 0 };
        }
        if rules.is_error(rules.refused_status) {
            errors -= refused.min(like_refused);
        }
        let slowest = promised_ms.map_or(i32::MAX, |ms| Latencies::bin(ms.saturating_mul(1000)));
        let (mut timed, mut slow) = (0, 0);
        for (bin, n) in table.latency.row(row) {
            timed += n;
            slow += if bin > slowest { n } else { 0 };
        }
        let timed = (timed - refused).max(slow);
        Tally { requests: table.sums[REQUESTS][row] - refused, refused, errors, timed, slow }
    }

    fn add(&mut self, other: &Tally) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.errors += other.errors;
        self.timed += other.timed;
        self.slow += other.slow;
    }

    /// Good and bad ones.
    pub fn judged(&self, promised: Promised) -> (i64, i64) {
        match promised {
            Promised::Availability { .. } => (self.requests - self.errors, self.errors),
            Promised::Latency { .. } => (self.timed - self.slow, self.slow),
        }
    }
}

/// One client, or one endpoint of it.
struct Account<'a> {
    client: String,
    endpoint: Option<String>,
    /// As the newest row has it.
    tier: String,
    tier_us: i64,
    objective: &'a Objective,
    month: Tally,
    window: Tally,
    /// The long and the short window of each alert.
    burns: [[Tally; 2]; ALERTS.len()],
}

pub struct Accounts<'a> {
    tiers: &'a BTreeMap<&'a str, &'a Objective>,
    rules: &'a Rules,
    month: Range<i64>,
    /// `None` where the month is over.
    now_us: Option<i64>,
    all: Vec<Account<'a>>,
    positions: HashMap<(String, Option<String>), usize>,
    /// Client, tier, endpoint and method of the table at hand -> the accounts of client and endpoint.
    lines: HashMap<[u32; 4], Option<[usize; 2]>>,
}

impl<'a> Accounts<'a> {
    pub fn new(
        tiers: &'a BTreeMap<&'a str, &'a Objective>,
        rules: &'a Rules,
        month: Range<i64>,
        now_us: Option<i64>,
    ) -> Accounts<'a> {
        let (all, positions, lines) = Default::default();
        Accounts { tiers, rules, month, now_us, all, positions, lines }
    }

    /// From when on hours are needed.
    pub fn needed_from_us(&self) -> i64 {
        let longest = self.tiers.values().map(|o| window_us(o)).max().unwrap_or(0).max(burn::LONGEST_US);
        let window = self.now_us.map_or(i64::MAX, |now| Grain::Hour.floor(now - longest));
        self.month.start.min(window)
    }

    /// Adds a row of the hour that begins at `at_us`.
    pub fn add_hour(&mut self, table: &Table, row: usize, at_us: i64) {
        let (month, now_us) = (self.month.clone(), self.now_us);
        let fits = |window: i64| now_us.is_some_and(|now| at_us >= Grain::Hour.floor(now - window));
        self.add(table, row, |account, tally| {
            if month.contains(&at_us) {
                account.month.add(tally);
            }
            if fits(window_us(account.objective)) {
                account.window.add(tally);
            }
            for (alert, sums) in ALERTS.iter().zip(&mut account.burns) {
                for (window, sum) in alert.windows().into_iter().zip(sums) {
                    if window > burn::BY_THE_MINUTE_US && fits(window) {
                        sum.add(tally);
                    }
                }
            }
        });
    }

    /// Adds a row of one minute.
    pub fn add_minute(&mut self, table: &Table, row: usize) {
        let (at_us, now_us) = (table.time_us[row], self.now_us.unwrap_or(0));
        let fits = |window: i64| at_us >= Grain::Minute.floor(now_us - window) && at_us < now_us;
        self.add(table, row, |account, tally| {
            for (alert, sums) in ALERTS.iter().zip(&mut account.burns) {
                for (window, sum) in alert.windows().into_iter().zip(sums) {
                    if window <= burn::BY_THE_MINUTE_US && fits(window) {
                        sum.add(tally);
                    }
                }
            }
        });
    }

    /// Numbers of names are of one table.
    pub fn end_of_table(&mut self) {
        self.lines.clear();
    }

    fn add(&mut self, table: &Table, row: usize, put: impl Fn(&mut Account<'a>, &Tally)) {
        let Some(both) = self.find(table, row) else { return };
        for at in both {
            let account = &mut self.all[at];
            let text = |i: usize| table.names.get(table.texts[i][row]);
            if table.time_us[row] >= account.tier_us && account.tier != text(1) {
                account.tier = text(1).to_owned();
                account.objective = self.tiers.get(text(1)).copied().unwrap_or(account.objective);
            }
            account.tier_us = account.tier_us.max(table.time_us[row]);
            let ms = account.objective.latency.map(|latency| latency.ms);
            put(account, &Tally::of(table, row, self.rules, ms));
        }
    }

    fn find(&mut self, table: &Table, row: usize) -> Option<[usize; 2]> {
        let line: [u32; 4] = std::array::from_fn(|i| table.texts[i][row]);
        if let Some(found) = self.lines.get(&line) {
            return *found;
        }
        let text = |i: usize| table.names.get(table.texts[i][row]);
        let found = self.tiers.get(text(1)).copied().map(|objective| {
            let endpoint = endpoint_name(text(3), text(2));
            [None, Some(endpoint)].map(|endpoint| self.position(text(0), endpoint, text(1), objective))
        });
        self.lines.insert(line, found);
        found
    }

    fn position(
        &mut self,
        client: &str,
        endpoint: Option<String>,
        tier: &str,
        objective: &'a Objective,
    ) -> usize {
        let next = self.all.len();
        let at = *self.positions.entry((client.to_owned(), endpoint.clone())).or_insert(next);
        if at == next {
            self.all.push(Account {
                client: client.to_owned(),
                endpoint,
                tier: tier.to_owned(),
                tier_us: i64::MIN,
                objective,
                month: Tally::default(),
                window: Tally::default(),
                burns: Default::default(),
            });
        }
        at
    }

    pub fn close(mut self, unknown: &Spans, maintenance: &Spans) -> Vec<Promise> {
        self.all.sort_by(|a, b| (&a.client, &a.endpoint).cmp(&(&b.client, &b.endpoint)));
        let measure = |range: &Range<i64>| {
            let (from, to) = (range.start, range.end);
            (unknown.without(maintenance, from, to), maintenance.within(from, to))
        };
        let of_month = measure(&self.month);
        let mut promises = Vec::new();
        for account in &self.all {
            let window = self.now_us.map(|now| Grain::Hour.floor(now - window_us(account.objective))..now);
            let of_window = window.as_ref().map(measure);
            for promised in promised(account.objective) {
                let window = window.clone().zip(of_window);
                promises.push(Promise {
                    client: account.client.clone(),
                    endpoint: account.endpoint.clone(),
                    tier: account.tier.clone(),
                    promised,
                    month: period(&account.month, promised, self.month.clone(), of_month),
                    window: window.map(|(range, of)| period(&account.window, promised, range, of)),
                    burns: match self.now_us {
                        Some(_) => burn::burns(&account.burns, promised, window_us(account.objective)),
                        None => Vec::new(),
                    },
                });
            }
        }
        promises
    }
}

fn window_us(objective: &Objective) -> i64 {
    i64::try_from(objective.window_s).unwrap_or(i64::MAX).saturating_mul(1_000_000).max(HOUR_US)
}

fn promised(objective: &Objective) -> impl Iterator<Item = Promised> {
    let availability = objective.availability.map(|percent| Promised::Availability { percent });
    let latency = objective.latency.map(|l| Promised::Latency { percent: l.share, ms: l.ms });
    availability.into_iter().chain(latency)
}

fn period(
    tally: &Tally,
    promised: Promised,
    range: Range<i64>,
    (unknown_us, maintenance_us): (i64, i64),
) -> Period {
    let (good, bad) = tally.judged(promised);
    let all = (good + bad) as f64;
    let allowed = all * promised.budget();
    let is_known = unknown_us + maintenance_us < range.end - range.start;
    Period {
        from_us: range.start,
        to_us: range.end,
        good,
        bad,
        refused: tally.refused,
        unknown_us,
        maintenance_us,
        percent: (all > 0.0).then(|| good as f64 / all * 100.0),
        budget_left: (all > 0.0).then(|| 1.0 - bad as f64 / allowed),
        kept: match () {
            () if all == 0.0 && !is_known => Kept::Unknown,
            () if allowed < 1.0 => Kept::TooFew,
            () if bad as f64 <= allowed => Kept::Met,
            () => Kept::Missed,
        },
    }
}
