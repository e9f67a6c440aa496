//! Findings that were made before, in the store: `findings/quota/date=…/<key>-<ms>.json`; and, without
//! content, when a threshold was reached last: `findings/reached/date=…/<key>-<ms>`.

use std::collections::HashMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use weir_policy::Book;

use super::QuotaError;
use super::watch::Watch;
use crate::calendar::{DAY_US, civil};
use crate::store::Store;
use crate::view::QuotaFinding;

const FINDINGS: &str = "findings/quota";
const REACHED: &str = "findings/reached";

/// The findings that are known.
#[derive(Default)]
pub struct Known {
    findings: Vec<QuotaFinding>,
    /// Key -> when the threshold was reached last, as far as it was worth noting.
    reached: HashMap<String, i64>,
}

/// Reads the findings of at least the last `days` days.
pub async fn read(store: &Store, now_us: i64, days: u32) -> Result<Known, QuotaError> {
    let mut known = Known::default();
    let last = now_us.div_euclid(DAY_US);
    for day in last - i64::from(days)..=last + 1 {
        for object in store.list(&folder(FINDINGS, day * DAY_US)).await? {
            let bytes = store.get(&object.path).await?;
            let finding = serde_json::from_slice(&bytes)
                .map_err(|e| QuotaError::Finding { path: object.path.clone(), reason: e.to_string() })?;
            known.findings.push(finding);
        }
    }
    for day in last - 1..=last {
        for object in store.list(&folder(REACHED, day * DAY_US)).await? {
            known.note_reached(object.name());
        }
    }
    Ok(known)
}

impl Known {
    fn note_reached(&mut self, name: &str) {
        let Some((key, ms)) = name.rsplit_once('-') else { return };
        let at_us = ms.parse().unwrap_or(0i64).saturating_mul(1000);
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
        let is_same = |f: &&QuotaFinding| f.id.starts_with(key) && (f.window_to_us - at_us).abs() < within_us;
        self.findings.iter().find(is_same)
    }

    /// Keeps a finding, unless it is one that is known.
    pub async fn keep(
        &mut self,
        store: &Store,
        book: &Book,
        mut finding: QuotaFinding,
        window_us: i64,
    ) -> Result<(), QuotaError> {
        let key = key(&finding.client, &finding.limit, finding.threshold);
        if self.same(&key, finding.window_to_us, same_within_us(book, window_us)).is_some() {
            return Ok(());
        }
        finding.id = format!("{key}-{}", finding.window_to_us.div_euclid(1000));
        let path = format!("{}/{}.json", folder(FINDINGS, finding.window_to_us), finding.id);
        let bytes = serde_json::to_vec(&finding)
            .map_err(|e| QuotaError::Finding { path: path.clone(), reason: e.to_string() })?;
        store.create(&path, Bytes::from(bytes)).await?;
        self.findings.push(finding);
        Ok(())
    }

    /// Notes that a threshold is reached again and again, so that nobody has to look into the records
    /// before a new episode can begin: a whole window after it was reached last.
    pub async fn keep_last(
        &mut self,
        store: &Store,
        book: &Book,
        watch: &Watch,
        threshold: u16,
        last_us: i64,
        now_us: i64,
    ) -> Result<(), QuotaError> {
        if self.covers(book, watch, threshold, now_us) || last_us + watch.window_us <= now_us {
            return Ok(());
        }
        let name =
            format!("{}-{}", key(&watch.client, &watch.name, u32::from(threshold)), last_us.div_euclid(1000));
        store.create(&format!("{}/{name}", folder(REACHED, last_us)), Bytes::new()).await?;
        self.note_reached(&name);
        Ok(())
    }

    /// All of them, oldest first.
    pub fn into_findings(mut self) -> Vec<QuotaFinding> {
        self.findings.sort_by(|a, b| (a.window_to_us, &a.id).cmp(&(b.window_to_us, &b.id)));
        self.findings
    }
}

fn folder(kind: &str, time_us: i64) -> String {
    format!("{kind}/date={}", civil(time_us).date())
}

/// Crossings of one threshold closer than this are one finding.
fn same_within_us(book: &Book, window_us: i64) -> i64 {
    let cooldown = i64::try_from(book.policy().alerts.cooldown_s).unwrap_or(i64::MAX);
    cooldown.saturating_mul(1_000_000).max(window_us)
}

/// Stands for client, limit and threshold in names of objects.
fn key(client: &str, limit: &str, threshold: u32) -> String {
    let text = serde_json::json!([client, limit, threshold]).to_string();
    Sha256::digest(text)[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}
