//! Which limits to look at: the policy's, for whom the roll-ups show enough use.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use weir_limiter::{Limit, Unit, Window};
use weir_policy::{ANONYMOUS, Applied, Book, Policy};

use super::SHORTEST_WINDOW_US;
use super::window::{Event, uses};
use crate::books::each_usage;
use crate::calendar::{HOUR_US, MINUTE_US, Partition};
use crate::parquet_file::FileError;
use crate::store::Store;
use crate::table::{BYTES_IN, BYTES_OUT, PASSED, REQUESTS, Table};
use crate::view::Grain;

/// Tier, endpoint and method of a record.
pub type Line = (String, String, String);

/// One limit of one client.
#[derive(Clone, Debug)]
pub struct Watch {
    pub client: String,
    /// As the policy spells it.
    pub name: String,
    pub limit: Limit,
    pub window_us: i64,
    /// The period of a calendar quota, microseconds UTC.
    pub period_us: Option<Range<i64>>,
    /// What counts against it.
    pub lines: BTreeSet<Line>,
}

impl Watch {
    /// Those of the platform team and those of the client.
    pub fn thresholds(&self, book: &Book) -> BTreeSet<u16> {
        let alerts = &book.policy().alerts;
        let own = alerts.clients.get(&*self.client).and_then(|c| c.thresholds.as_ref());
        alerts.thresholds.iter().chain(own.into_iter().flatten()).copied().collect()
    }

    /// The use at which a threshold is reached, rounded up.
    pub fn needed(&self, threshold: u16) -> u64 {
        let needed = (u128::from(self.limit.amount) * u128::from(threshold)).div_ceil(100);
        u64::try_from(needed).unwrap_or(u64::MAX).max(1)
    }

    /// What one admitted request counts.
    pub fn weight(&self, requests: i64, bytes_in: i64, bytes_out: i64) -> u64 {
        let weight = match self.limit.unit {
            Unit::Requests => requests,
            Unit::Bytes => bytes_in.saturating_add(bytes_out),
            Unit::BytesIn => bytes_in,
            Unit::BytesOut => bytes_out,
            // The cost of a request is not in its record.
            Unit::Cost => 0,
        };
        u64::try_from(weight).unwrap_or(0)
    }
}

/// The sliding windows of an hour or longer that the policy limits anything in.
pub fn windows(policy: &Policy) -> BTreeSet<i64> {
    limits(policy).filter_map(window_us).collect()
}

/// All limits of tiers and clients.
pub fn limits(policy: &Policy) -> impl Iterator<Item = &Limit> {
    let tiers =
        policy.tiers.iter().flat_map(|t| t.limits.iter().chain(t.endpoints.iter().flat_map(|e| &e.limits)));
    let clients =
        policy.clients.iter().flat_map(|c| c.limits.iter().chain(c.endpoints.iter().flat_map(|e| &e.limits)));
    tiers.chain(clients)
}

fn window_us(limit: &Limit) -> Option<i64> {
    let Window::Sliding { ms } = limit.window else { return None };
    let us = i64::try_from(ms).ok()?.checked_mul(1000)?;
    (us >= SHORTEST_WINDOW_US && limit.unit != Unit::Cost).then_some(us)
}

/// The limits with a window for which the roll-ups of a time span allow that a threshold was reached.
pub async fn suspicious(
    store: &Store,
    book: &Book,
    window_us: i64,
    span: Range<i64>,
) -> Result<Vec<Watch>, FileError> {
    // Long windows are judged by hours: a day of minutes is more than is worth reading.
    let (grain, step_us) =
        if window_us <= 2 * HOUR_US { (Grain::Minute, MINUTE_US) } else { (Grain::Hour, HOUR_US) };
    let mut lines = Steps::new();
    for partition in Partition::covering(grain, span.start, span.end) {
        let mut add = |table: &Table| add_steps(&mut lines, table, &(i64::MIN..span.end));
        each_usage(store, partition, &mut add).await?;
    }
    let slides =
        |applied: &Applied| (self::window_us(&applied.limit) == Some(window_us)).then_some(window_us);
    let mut found = Vec::new();
    for (client, lines) in lines.iter().filter(|(client, _)| *client != ANONYMOUS) {
        let watches = watches(book, client, span.end, slides, lines.keys());
        let is_near = |w: &Watch| w.thresholds(book).first().is_some_and(|&t| w.is_near(lines, step_us, t));
        found.extend(watches.into_iter().filter(is_near));
    }
    Ok(found)
}

/// One step of a line in the roll-up.
#[derive(Clone, Copy)]
pub struct Step {
    pub at_us: i64,
    pub admitted: i64,
    pub refused: i64,
    pub bytes_in: i64,
    pub bytes_out: i64,
}

/// Client -> line -> its steps.
pub type Steps = BTreeMap<String, BTreeMap<Line, Vec<Step>>>;

pub fn add_steps(lines: &mut Steps, table: &Table, span: &Range<i64>) {
    for row in (0..table.len()).filter(|&row| span.contains(&table.time_us[row])) {
        let text = |i: usize| table.names.get(table.texts[i][row]).to_owned();
        let sum = |column: usize| table.sums[column][row];
        // REJECTED and REJECTED_DEGRADED.
        let refused = sum(PASSED + 2) + sum(PASSED + 7);
        let step = Step {
            at_us: table.time_us[row],
            admitted: sum(REQUESTS) - refused,
            refused,
            bytes_in: sum(BYTES_IN),
            bytes_out: sum(BYTES_OUT),
        };
        lines.entry(text(0)).or_default().entry((text(1), text(2), text(3))).or_default().push(step);
    }
}

/// The client's own limits at a moment that `window_us` gives a window for, each with the lines that
/// count against it.
pub fn watches<'a>(
    book: &Book,
    client: &str,
    now_us: i64,
    window_us: impl Fn(&Applied) -> Option<i64>,
    lines: impl Iterator<Item = &'a Line>,
) -> Vec<Watch> {
    let mut found: BTreeMap<String, Watch> = BTreeMap::new();
    let mut applied = Vec::new();
    for line in lines {
        let (tier, endpoint, method) = line;
        let caller = book.by_client(client, Some(tier));
        book.limits(&caller, method, endpoint, now_us.div_euclid(1_000_000), &mut applied);
        for limit in applied.iter().filter(|a| is_own(a, client)) {
            let Some(window_us) = window_us(limit) else { continue };
            let watch = found.entry(limit.name.to_string()).or_insert_with(|| Watch {
                client: client.to_owned(),
                name: limit.name.to_string(),
                limit: limit.limit,
                window_us,
                period_us: limit.period_s.as_ref().map(|p| p.start * 1_000_000..p.end * 1_000_000),
                lines: BTreeSet::new(),
            });
            watch.lines.insert(line.clone());
        }
    }
    found.into_values().collect()
}

/// Not one over all clients together.
fn is_own(applied: &Applied, client: &str) -> bool {
    applied
        .counter
        .name
        .strip_prefix('{')
        .and_then(|rest| rest.strip_prefix(client))
        .is_some_and(|r| r.starts_with('}'))
}

impl Watch {
    /// Whether the use can have reached a threshold in some window, or something was refused. Any
    /// window lies within one that is a step longer and ends with a step.
    fn is_near(&self, lines: &BTreeMap<Line, Vec<Step>>, step_us: i64, threshold: u16) -> bool {
        let steps =
            || lines.iter().filter(|(line, _)| self.lines.contains(line)).flat_map(|(_, steps)| steps);
        if steps().any(|s| s.refused > 0) {
            return true;
        }
        let event =
            |s: &Step| Event { at_us: s.at_us, weight: self.weight(s.admitted, s.bytes_in, s.bytes_out) };
        let mut events: Vec<Event> = steps().map(event).collect();
        events.sort_unstable();
        // Equal moments count together: the last of them has the whole sum.
        uses(&events, self.window_us + step_us).any(|(_, used)| used >= self.needed(threshold))
    }
}
