//! Findings that were made before, in the store: `findings/quotas/…`; and when thresholds were reached
//! last: `findings/reached/…`.

use std::collections::HashMap;

use weir_policy::Book;

use super::watch::Watch;
use super::{QuotaError, kept};
use crate::finding::subject_key;
use crate::store::Store;
use crate::view::QuotaFinding;

const FINDINGS: &str = "findings/quotas";
const REACHED: &str = "findings/reached";

/// The findings that are known.
#[derive(Default)]
pub struct Known {
    findings: Vec<QuotaFinding>,
    /// Key -> which of the findings are of it.
    by_key: HashMap<String, Vec<usize>>,
    /// Key -> when the threshold was reached last, as far as it was worth noting.
    reached: HashMap<String, i64>,
    /// What this look adds.
    new: Vec<QuotaFinding>,
    newly_reached: Vec<(String, i64)>,
}

/// Reads the findings of at least the last `days` days.
pub async fn read(store: &Store, now_us: i64, days: u32) -> Result<Known, QuotaError> {
    let mut known = Known::default();
    for finding in kept::read::<QuotaFinding>(store, FINDINGS, now_us, days).await? {
        // Two jobs at once may have found the same.
        if !known.has(&finding.id) {
            known.push(finding);
        }
    }
    for (key, at_us) in kept::read::<(String, i64)>(store, REACHED, now_us, 1).await? {
        known.note_reached(&key, at_us);
    }
    Ok(known)
}

impl Known {
    fn note_reached(&mut self, key: &str, at_us: i64) {
        let last = self.reached.entry(key.to_owned()).or_insert(at_us);
        *last = at_us.max(*last);
    }

    /// Whether no new finding can be made now: a crossing would be one that is known already, or the
    /// threshold was reached within the window before.
    pub fn covers(&self, book: &Book, watch: &Watch, threshold: u16, now_us: i64) -> bool {
        let key = key(&watch.client, &watch.name, u32::from(threshold));
        let goes_on = self.reached.get(&key).is_some_and(|&last| last + watch.window_us > now_us);
        goes_on || self.same(&key, now_us, same_within_us(book, watch.window_us)).is_some()
    }

    fn same(&self, key: &str, at_us: i64, within_us: i64) -> Option<&QuotaFinding> {
        let is_same = |f: &&QuotaFinding| (f.window_to_us - at_us).abs() < within_us;
        self.of_key(key).find(is_same)
    }

    fn of_key(&self, key: &str) -> impl Iterator<Item = &QuotaFinding> {
        self.by_key.get(key).into_iter().flatten().map(|&i| &self.findings[i])
    }

    fn has(&self, id: &str) -> bool {
        self.of_key(of_id(id)).any(|f| f.id == id)
    }

    /// Whether a calendar quota's threshold was found in the period that began then.
    pub fn has_in_period(&self, client: &str, limit: &str, threshold: u16, start_us: i64) -> bool {
        self.has(&id(client, limit, u32::from(threshold), start_us))
    }

    /// Adds a finding in a window that slides, unless it is one that is known.
    pub fn keep(&mut self, book: &Book, mut finding: QuotaFinding, window_us: i64) {
        let key = key(&finding.client, &finding.limit, finding.threshold);
        if self.same(&key, finding.window_to_us, same_within_us(book, window_us)).is_none() {
            finding.id = id(&finding.client, &finding.limit, finding.threshold, finding.window_to_us);
            self.add(finding);
        }
    }

    /// Adds one in a period of the calendar: there is one in each, whenever in it that was.
    pub fn keep_in_period(&mut self, mut finding: QuotaFinding) {
        finding.id = id(&finding.client, &finding.limit, finding.threshold, finding.window_from_us);
        if !self.has(&finding.id) {
            self.add(finding);
        }
    }

    fn add(&mut self, finding: QuotaFinding) {
        self.new.push(finding.clone());
        self.push(finding);
    }

    fn push(&mut self, finding: QuotaFinding) {
        self.by_key.entry(of_id(&finding.id).to_owned()).or_default().push(self.findings.len());
        self.findings.push(finding);
    }

    /// Notes that a threshold is reached again and again, so that nobody has to look into the records
    /// before a new episode can begin: a whole window after it was reached last.
    pub fn keep_last(&mut self, book: &Book, watch: &Watch, threshold: u16, last_us: i64, now_us: i64) {
        if self.covers(book, watch, threshold, now_us) || last_us + watch.window_us <= now_us {
            return;
        }
        let key = key(&watch.client, &watch.name, u32::from(threshold));
        self.note_reached(&key, last_us);
        self.newly_reached.push((key, last_us));
    }

    /// Writes down what is new, and gives all of them, oldest first.
    pub async fn close(mut self, store: &Store, now_us: i64) -> Result<Vec<QuotaFinding>, QuotaError> {
        kept::put(store, FINDINGS, now_us, &self.new).await?;
        kept::put(store, REACHED, now_us, &self.newly_reached).await?;
        self.findings.sort_by(|a, b| (a.window_to_us, &a.id).cmp(&(b.window_to_us, &b.id)));
        Ok(self.findings)
    }
}

/// Crossings of one threshold closer than this are one finding.
fn same_within_us(book: &Book, window_us: i64) -> i64 {
    let cooldown = i64::try_from(book.policy().alerts.cooldown_s).unwrap_or(i64::MAX);
    cooldown.saturating_mul(1_000_000).max(window_us)
}

/// Stands for client, limit and threshold.
fn key(client: &str, limit: &str, threshold: u32) -> String {
    subject_key(&(client, limit, threshold))
}

fn id(client: &str, limit: &str, threshold: u32, at_us: i64) -> String {
    format!("{}-{}", key(client, limit, threshold), at_us.div_euclid(1000))
}

/// The key in an id.
fn of_id(id: &str) -> &str {
    id.rsplit_once('-').map_or(id, |(key, _)| key)
}
