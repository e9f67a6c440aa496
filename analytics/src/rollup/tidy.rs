//! Deletes what nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};

use super::{RollupError, Run, is_listed};
use crate::calendar::{HOUR_US, MINUTE_US, Partition};
use crate::compaction::{Compacted, FEW, QUIET_US, compact};
use crate::generation::{self, KEPT_US};
use crate::store::Object;
use crate::view::Grain;

/// A part stays in the queue this long after it came, and keeps its partitions under watch: longer
/// than superseded generations stay, so that the last of those are deleted before the watch ends.
const WATCHED_US: i64 = KEPT_US + 10 * MINUTE_US;

impl Run<'_> {
    /// Deletes superseded generations, then parts that were folded long enough ago.
    pub(super) async fn tidy(
        &mut self,
        queue: &BTreeMap<Partition, Vec<Object>>,
        now_us: i64,
    ) -> Result<(), RollupError> {
        let recent = Partition::at(Grain::Minute, now_us - 2 * HOUR_US);
        let touched: BTreeSet<Partition> = queue.keys().copied().chain([recent]).flat_map(upwards).collect();
        for &partition in &touched {
            self.done.deleted += generation::tidy(self.store, partition, now_us).await?;
        }
        for (&hour, parts) in queue {
            let is_whole = !upwards(hour).any(|p| self.broken.contains(&p));
            if is_whole && self.bundle(hour, parts, now_us).await? {
                self.tidy_queue(hour, parts, now_us - WATCHED_US).await?;
            }
        }
        Ok(())
    }

    /// Compacts the records of an hour that is over, and says whether nothing of that is left to do: until
    /// then the queue keeps the hour in mind.
    async fn bundle(&mut self, hour: Partition, parts: &[Object], now_us: i64) -> Result<bool, RollupError> {
        let newest_us = parts.iter().map(|part| part.modified_us).max().unwrap_or(0);
        if hour.end_us().max(newest_us) > now_us - QUIET_US {
            return Ok(true);
        }
        let compacted = match compact(self.store, hour, now_us, FEW).await {
            Err(e) if e.is_of_store() => return Err(e),
            Err(e) => Compacted { failed: vec![e.to_string()], ..Compacted::default() },
            Ok(compacted) => compacted,
        };
        self.done.bundles += compacted.bundles;
        self.done.deleted += compacted.deleted;
        self.done.failed.extend(compacted.failed);
        Ok(compacted.is_done)
    }

    async fn tidy_queue(
        &mut self,
        hour: Partition,
        parts: &[Object],
        before_us: i64,
    ) -> Result<(), RollupError> {
        let old: Vec<&Object> = parts.iter().filter(|p| p.modified_us <= before_us).collect();
        if old.is_empty() {
            return Ok(());
        }
        let Some(newest) = generation::newest(self.store, hour).await? else { return Ok(()) };
        let note = newest.note(self.store).await?;
        for part in old.into_iter().filter(|p| is_listed(&note, p)) {
            self.store.delete(&part.path).await?;
            self.done.deleted += 1;
        }
        Ok(())
    }
}

/// A partition and all above it.
fn upwards(partition: Partition) -> impl Iterator<Item = Partition> {
    std::iter::successors(Some(partition), |p| p.parent())
}
