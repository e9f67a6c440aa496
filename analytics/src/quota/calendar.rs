//! Calendar quotas: the use of a day or month so far, from the roll-ups.
//!
//! Days in the middle, hours and minutes at the edges of the period: the sum is exact wherever the
//! client's midnight lies. The moment of a crossing is that of the end of its minute.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use weir_limiter::{Unit, Window};
use weir_policy::{ANONYMOUS, Applied, Book, Policy};

use super::QuotaError;
use super::exact;
use super::ledger::Known;
use super::watch::{Line, Step, Steps, Watch, add_steps, limits, watches};
use crate::books::newest_usage;
use crate::calendar::{DAY_US, HOUR_US, MINUTE_US, Partition};
use crate::parquet_file::FileError;
use crate::store::Store;
use crate::table::Table;
use crate::view::{Grain, QuotaFinding};

/// A client that is refused at its quota has used all of it but what gateways hold in leases.
const NEAR_PERCENT: u16 = 90;

pub fn is_used(policy: &Policy) -> bool {
    limits(policy).any(|limit| is_calendar(limit.window, limit.unit))
}

fn is_calendar(window: Window, unit: Unit) -> bool {
    // The cost of a request is not in its record.
    matches!(window, Window::Day | Window::Month) && unit != Unit::Cost
}

/// Adds the thresholds that were crossed in the periods of now and of the last look.
pub async fn find(
    store: &Store,
    book: &Book,
    last_look_us: i64,
    now_us: i64,
    known: &mut Known,
) -> Result<(), QuotaError> {
    let mut tables = Tables { store, read: HashMap::new() };
    let clients = tables.steps(Grain::Hour, &(last_look_us - HOUR_US..now_us + HOUR_US)).await?;
    let mut by_period: BTreeMap<(i64, i64), BTreeMap<(String, String), Watch>> = BTreeMap::new();
    for (client, lines) in clients.iter().filter(|(client, _)| *client != ANONYMOUS) {
        for at_us in [last_look_us, now_us] {
            for watch in watches(book, client, at_us, period_us, lines.keys()) {
                let Some(period) = watch.period_us.clone() else { continue };
                let watches = by_period.entry((period.start, period.end)).or_default();
                watches.insert((client.clone(), watch.name.clone()), watch);
            }
        }
    }
    for ((start_us, end_us), watches) in by_period {
        let steps = tables.period(&(start_us..end_us)).await?;
        for watch in watches.into_values() {
            let Some(lines) = steps.get(&watch.client) else { continue };
            look(&mut tables, book, widened(book, watch, lines, now_us), lines, now_us, known).await?;
        }
    }
    Ok(())
}

fn period_us(applied: &Applied) -> Option<i64> {
    let length_us = i64::try_from(applied.window_ms).ok()?.checked_mul(1000)?;
    is_calendar(applied.limit.window, applied.limit.unit).then_some(length_us)
}

/// With all lines of the period that count against the limit, not only the newest.
fn widened(book: &Book, watch: Watch, lines: &BTreeMap<Line, Vec<(i64, Step)>>, now_us: i64) -> Watch {
    let at_us = watch.period_us.as_ref().map_or(now_us, |p| now_us.min(p.end - 1));
    let all = watches(book, &watch.client, at_us, period_us, lines.keys());
    all.into_iter().find(|w| w.name == watch.name).unwrap_or(watch)
}

async fn look(
    tables: &mut Tables<'_>,
    book: &Book,
    watch: Watch,
    lines: &BTreeMap<Line, Vec<(i64, Step)>>,
    now_us: i64,
    known: &mut Known,
) -> Result<(), QuotaError> {
    let Some(period) = watch.period_us.clone() else { return Ok(()) };
    let mut steps: Vec<(i64, Step)> =
        lines.iter().filter(|(line, _)| watch.lines.contains(line)).flat_map(|(_, s)| s.clone()).collect();
    steps.sort_unstable_by_key(|(_, step)| step.at_us);
    let used: u64 = steps.iter().map(|(_, s)| weight(&watch, s)).sum();
    let open = |t: &u16| !known.has_in_period(&watch.client, &watch.name, *t, period.start);
    let open: Vec<u16> = watch.thresholds(book).into_iter().filter(open).collect();
    for threshold in open {
        let at_us = if used >= watch.needed(threshold) {
            Some(tables.moment(&watch, &steps, watch.needed(threshold)).await?.min(now_us))
        } else if threshold == 100
            && used >= watch.needed(NEAR_PERCENT)
            && steps.iter().any(|(_, s)| s.refused > 0)
        {
            let since_us = period.start.max(now_us - 2 * HOUR_US);
            exact::first_refusal(tables.store, &watch, since_us..now_us).await?
        } else {
            None
        };
        let Some(at_us) = at_us else { continue };
        let until: Vec<(i64, Step)> = steps.iter().filter(|(_, s)| s.at_us <= at_us).cloned().collect();
        let used: u64 = until.iter().map(|(_, s)| weight(&watch, s)).sum();
        let (top_endpoint, top_share_percent) = top_endpoint(&watch, lines);
        known.keep_in_period(QuotaFinding {
            id: String::new(),
            client: watch.client.clone(),
            limit: watch.name.clone(),
            amount: watch.limit.amount,
            used,
            threshold: u32::from(threshold),
            window_from_us: period.start,
            window_to_us: at_us,
            refused: until.iter().map(|(_, s)| s.refused).sum(),
            top_endpoint,
            top_share_percent,
        });
    }
    Ok(())
}

fn weight(watch: &Watch, step: &Step) -> u64 {
    watch.weight(step.admitted, step.bytes_in, step.bytes_out)
}

fn top_endpoint(watch: &Watch, lines: &BTreeMap<Line, Vec<(i64, Step)>>) -> (String, u32) {
    let mut uses: BTreeMap<&str, u64> = BTreeMap::new();
    for (line, steps) in lines.iter().filter(|(line, _)| watch.lines.contains(line)) {
        *uses.entry(&line.1).or_default() += steps.iter().map(|(_, s)| weight(watch, s)).sum::<u64>();
    }
    let total: u64 = uses.values().sum();
    match uses.into_iter().max_by_key(|&(endpoint, used)| (used, std::cmp::Reverse(endpoint))) {
        Some((endpoint, used)) if total > 0 => {
            (endpoint.to_owned(), (u128::from(used) * 100 / u128::from(total)) as u32)
        }
        _ => (String::new(), 0),
    }
}

/// Client -> line -> steps, each with its length.
type LongSteps = BTreeMap<String, BTreeMap<Line, Vec<(i64, Step)>>>;

/// Partitions, each read once in a look.
struct Tables<'a> {
    store: &'a Store,
    read: HashMap<Partition, Option<Arc<Table>>>,
}

impl Tables<'_> {
    async fn steps(&mut self, grain: Grain, span: &Range<i64>) -> Result<Steps, FileError> {
        let mut steps = Steps::new();
        for partition in Partition::covering(grain, span.start, span.end) {
            if !self.read.contains_key(&partition) {
                let table = newest_usage(self.store, partition).await?.map(|(table, _)| Arc::new(table));
                self.read.insert(partition, table);
            }
            if let Some(Some(table)) = self.read.get(&partition) {
                add_steps(&mut steps, table, span);
            }
        }
        Ok(steps)
    }

    /// All steps of a period, each moment in one of them.
    async fn period(&mut self, period: &Range<i64>) -> Result<LongSteps, FileError> {
        let mut all = LongSteps::new();
        for (grain, step_us, span) in pieces(period) {
            for (client, lines) in self.steps(grain, &span).await? {
                let client = all.entry(client).or_default();
                for (line, steps) in lines {
                    client.entry(line).or_default().extend(steps.into_iter().map(|s| (step_us, s)));
                }
            }
        }
        Ok(all)
    }

    /// The end of the minute in which `needed` was reached, in steps that ascend.
    async fn moment(&mut self, watch: &Watch, steps: &[(i64, Step)], needed: u64) -> Result<i64, FileError> {
        let mut steps = steps.to_vec();
        let mut before = 0;
        loop {
            let mut used = before;
            let Some(at) = steps.iter().position(|(_, step)| {
                let reached = used + weight(watch, step) >= needed;
                used += if reached { 0 } else { weight(watch, step) };
                reached
            }) else {
                return Ok(steps.last().map_or(0, |(length_us, step)| step.at_us + length_us));
            };
            let (length_us, step) = steps[at];
            // Other lines of the same step come before or behind: the finer steps tell.
            let same = |s: &(i64, Step)| s.1.at_us >= step.at_us;
            before = steps.iter().take_while(|s| !same(s)).map(|(_, s)| weight(watch, s)).sum();
            let finer = match length_us {
                DAY_US => (Grain::Hour, HOUR_US),
                HOUR_US => (Grain::Minute, MINUTE_US),
                _ => return Ok(step.at_us + length_us),
            };
            let inside = self.steps(finer.0, &(step.at_us..step.at_us + length_us)).await?;
            let of_watch = |(line, steps): (&Line, &Vec<Step>)| {
                let counts = watch.lines.contains(line);
                steps.iter().filter(move |_| counts).map(|s| (finer.1, *s)).collect::<Vec<_>>()
            };
            steps = inside.get(&watch.client).into_iter().flatten().flat_map(of_watch).collect();
            steps.sort_unstable_by_key(|(_, step)| step.at_us);
            if steps.is_empty() {
                return Ok(step.at_us + length_us);
            }
        }
    }
}

/// A period as whole days, and hours and minutes at its ends.
fn pieces(period: &Range<i64>) -> Vec<(Grain, i64, Range<i64>)> {
    let up = |us: i64, step: i64| us + (-us).rem_euclid(step);
    let down = |us: i64, step: i64| us - us.rem_euclid(step);
    let mut found = Vec::new();
    let mut add = |grain, step, span: Range<i64>| {
        if span.start < span.end {
            found.push((grain, step, span));
        }
    };
    let hours = up(period.start, HOUR_US)..down(period.end, HOUR_US);
    let days = up(hours.start, DAY_US)..down(hours.end, DAY_US);
    add(Grain::Minute, MINUTE_US, period.start..hours.start);
    if days.start < days.end {
        add(Grain::Hour, HOUR_US, hours.start..days.start);
        add(Grain::Day, DAY_US, days.clone());
        add(Grain::Hour, HOUR_US, days.end..hours.end);
    } else {
        add(Grain::Hour, HOUR_US, hours.clone());
    }
    add(Grain::Minute, MINUTE_US, hours.end..period.end);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_cut_at_days_hours_and_minutes_without_a_gap() {
        // A month that begins at 18:30 UTC, as in India.
        let start_us = 1_793_471_400_000_000;
        for (from, to) in [
            (start_us, start_us + 30 * DAY_US),
            (start_us, start_us + DAY_US),
            (start_us - 30 * MINUTE_US, start_us + 23 * HOUR_US),
            (0, DAY_US),
        ] {
            let pieces = pieces(&(from..to));
            let mut at = from;
            for (_, step_us, span) in &pieces {
                assert_eq!((span.start, span.start % step_us, span.end % step_us), (at, 0, 0));
                at = span.end;
            }
            assert_eq!(at, to);
        }
        assert_eq!(pieces(&(0..DAY_US)), [(Grain::Day, DAY_US, 0..DAY_US)]);
    }
}
