//! The exact moments, from the records of those who came near.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use weir_policy::Book;

use super::QuotaError;
use super::watch::{Line, Watch};
use super::window::{Episode, Event, begin_anew, uses};
use crate::bundle;
use crate::calendar::Partition;
use crate::records::{Records, Row};
use crate::store::Store;
use crate::view::{Grain, QuotaFinding};

/// What the records say of one watched limit.
#[derive(Default)]
struct Evidence {
    /// Admitted requests with their endpoint, in the order of reading.
    admitted: Vec<(Event, u32)>,
    endpoints: crate::names::Names,
    /// Second -> (first refusal by this limit in it, if any; refusals to the client). A client that
    /// is refused a million times makes a few thousand entries.
    refused: BTreeMap<i64, (Option<i64>, i64)>,
}

/// What the records say of all watched limits.
#[derive(Default)]
pub struct Seen {
    /// One for each episode that began; they have no id yet.
    pub findings: Vec<QuotaFinding>,
    /// Position of the watched limit, threshold, and when it was reached last.
    pub last_reached: Vec<(usize, u16, i64)>,
}

/// All episodes of the watched limits that begin in a time span, less its first two windows: before
/// those it can't be told when an episode began.
pub async fn find(
    store: &Store,
    book: &Book,
    watches: &[Watch],
    span: Range<i64>,
) -> Result<Seen, QuotaError> {
    let evidence = gather(store, watches, &span).await?;
    let mut seen = Seen::default();
    for (i, (watch, mut evidence)) in watches.iter().zip(evidence).enumerate() {
        evidence.admitted.sort_unstable_by_key(|(event, _)| *event);
        for threshold in watch.thresholds(book) {
            let moments = evidence.moments(watch, threshold);
            seen.last_reached.extend(moments.last().map(|last| (i, threshold, last.at_us)));
            let begun = begin_anew(moments.into_iter(), watch.window_us);
            let settled = begun.into_iter().filter(|e| e.at_us >= span.start + 2 * watch.window_us);
            seen.findings.extend(settled.map(|episode| evidence.finding(watch, threshold, episode)));
        }
    }
    Ok(seen)
}

/// The first moment in a time span at which a watched limit refused somebody.
pub async fn first_refusal(
    store: &Store,
    watch: &Watch,
    span: Range<i64>,
) -> Result<Option<i64>, QuotaError> {
    let evidence = gather(store, std::slice::from_ref(watch), &span).await?;
    let refused = evidence.iter().flat_map(|e| e.refused.values());
    Ok(refused.filter_map(|&(first, _)| first).find(|at_us| span.contains(at_us)))
}

async fn gather(store: &Store, watches: &[Watch], span: &Range<i64>) -> Result<Vec<Evidence>, QuotaError> {
    let mut evidence: Vec<Evidence> = watches.iter().map(|_| Evidence::default()).collect();
    let by_line = by_line(watches);
    for hour in Partition::covering(Grain::Minute, span.start, span.end) {
        let mut each = |records: &Records| take(records, &by_line, watches, &mut evidence);
        bundle::each_readable(store, hour, &mut each).await?;
    }
    Ok(evidence)
}

/// Client -> line -> the watched limits it counts against.
type ByLine<'a> = HashMap<&'a str, HashMap<&'a Line, Vec<usize>>>;

fn by_line(watches: &[Watch]) -> ByLine<'_> {
    let mut by_line: ByLine = HashMap::new();
    for (i, watch) in watches.iter().enumerate() {
        let lines = by_line.entry(&watch.client).or_default();
        watch.lines.iter().for_each(|line| lines.entry(line).or_default().push(i));
    }
    by_line
}

fn take(records: &Records, by_line: &ByLine<'_>, watches: &[Watch], evidence: &mut [Evidence]) {
    let name = |at: u32| records.names().get(at);
    for row in records.rows() {
        let Some(lines) = by_line.get(name(row.client)) else { continue };
        let line = (name(row.tier).to_owned(), name(row.endpoint).to_owned(), name(row.method).to_owned());
        for &i in lines.get(&line).into_iter().flatten() {
            evidence[i].take(&watches[i], row, name(row.endpoint), name(row.limit));
        }
    }
}

impl Evidence {
    fn take(&mut self, watch: &Watch, row: &Row, endpoint: &str, limit: &str) {
        // Limits are asked when a request comes; its record is written when it has been answered.
        let at_us = row.time_us - row.latency_us.unwrap_or(0);
        if row.decision.is_refusal() {
            let second = self.refused.entry(at_us.div_euclid(1_000_000)).or_default();
            second.1 += 1;
            if limit == watch.name {
                second.0 = Some(second.0.map_or(at_us, |first| first.min(at_us)));
            }
        } else {
            let weight = watch.weight(1, row.bytes_in, row.bytes_out);
            self.admitted.push((Event { at_us, weight }, self.endpoints.intern(endpoint)));
        }
    }

    /// When a threshold was reached, ascending. The limit itself is reached when its amount is used,
    /// or when it refuses somebody.
    fn moments(&self, watch: &Watch, threshold: u16) -> Vec<Episode> {
        let events: Vec<Event> = self.admitted.iter().map(|(event, _)| *event).collect();
        let needed = watch.needed(threshold);
        let reached = uses(&events, watch.window_us).filter(|&(_, used)| used >= needed);
        let mut moments: Vec<Episode> = reached.map(|(e, used)| Episode { at_us: e.at_us, used }).collect();
        if threshold >= 100 {
            let refusals = self.refused.values().filter_map(|&(first, _)| first);
            moments.extend(refusals.map(|at_us| Episode { at_us, used: self.used_at(watch, at_us) }));
            moments.sort_unstable_by_key(|m| m.at_us);
        }
        moments
    }

    /// Admitted requests in the window that ends at a moment.
    fn window(&self, watch: &Watch, at_us: i64) -> &[(Event, u32)] {
        let begin = self.admitted.partition_point(|(e, _)| e.at_us <= at_us - watch.window_us);
        let end = self.admitted.partition_point(|(e, _)| e.at_us <= at_us);
        &self.admitted[begin.min(end)..end]
    }

    fn used_at(&self, watch: &Watch, at_us: i64) -> u64 {
        self.window(watch, at_us).iter().map(|(e, _)| e.weight).sum()
    }

    fn finding(&self, watch: &Watch, threshold: u16, episode: Episode) -> QuotaFinding {
        let from_us = episode.at_us - watch.window_us;
        let seconds = from_us.div_euclid(1_000_000) + 1..=episode.at_us.div_euclid(1_000_000);
        let (top_endpoint, top_share_percent) = self.top_endpoint(watch, episode.at_us);
        QuotaFinding {
            id: String::new(),
            client: watch.client.clone(),
            limit: watch.name.clone(),
            amount: watch.limit.amount,
            used: episode.used,
            threshold: u32::from(threshold),
            window_from_us: from_us,
            window_to_us: episode.at_us,
            refused: self.refused.range(seconds).map(|(_, (_, count))| count).sum(),
            top_endpoint,
            top_share_percent,
        }
    }

    fn top_endpoint(&self, watch: &Watch, at_us: i64) -> (String, u32) {
        let mut uses: BTreeMap<u32, u64> = BTreeMap::new();
        for (event, endpoint) in self.window(watch, at_us) {
            *uses.entry(*endpoint).or_default() += event.weight;
        }
        let total: u64 = uses.values().sum();
        let top = uses.into_iter().max_by_key(|&(endpoint, used)| (used, std::cmp::Reverse(endpoint)));
        let Some((endpoint, used)) = top.filter(|_| total > 0) else { return (String::new(), 0) };
        (self.endpoints.get(endpoint).to_owned(), (u128::from(used) * 100 / u128::from(total)) as u32)
    }
}
