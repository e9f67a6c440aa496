//! What the newest records say that roll-ups do not: which limit refused whom, and which gateways are
//! at work with which policy.

use std::collections::BTreeMap;

use weir_metering::Decision;

use crate::calendar::{HOUR_US, hour_of_folder};
use crate::parquet_file::FileError;
use crate::part::{self, PartNote};
use crate::records::{Records, Row};
use crate::store::Store;
use crate::view::{GatewaySeen, LimitUse, Recent};

/// Parts that are read at most, the newest ones: a tick must not read a busy day over and over. What
/// they reach back to is said with the result.
const MOST_PARTS: usize = 120;

/// Looks at the records of the `span_us` before `to_us`, or of fewer hours where those are many.
pub async fn read(store: &Store, span_us: i64, to_us: i64) -> Result<Recent, FileError> {
    let mut hours: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for object in store.list(part::RECORDS).await? {
        let Some(hour) = hour_of_folder(&object.path) else { continue };
        if hour.end_us() > to_us - span_us && hour.start_us < to_us {
            hours.entry(hour.start_us).or_default().push(object.path);
        }
    }
    let mut seen = Seen::default();
    let mut parts = 0;
    for (&hour_us, paths) in hours.iter().rev() {
        if parts > 0 && parts + paths.len() > MOST_PARTS {
            break;
        }
        for path in paths {
            let (records, note) = part::read_records(store, path).await?;
            seen.add(&records, &note, hour_us >= hours.keys().last().map_or(0, |newest| newest - HOUR_US));
        }
        parts += paths.len();
        seen.from_us = Some(hour_us);
    }
    Ok(seen.close())
}

#[derive(Default)]
struct Seen {
    from_us: Option<i64>,
    limits: BTreeMap<(String, String), LimitUse>,
    gateways: BTreeMap<String, GatewaySeen>,
}

impl Seen {
    /// `of_now`: gateways are told by their last two hours.
    fn add(&mut self, records: &Records, note: &PartNote, of_now: bool) {
        for row in records.rows() {
            self.add_limit(records, row);
        }
        if of_now {
            self.add_gateway(records, note);
        }
    }

    fn add_limit(&mut self, records: &Records, row: &Row) {
        let [refused, dry_run, delayed] = match row.decision {
            Decision::Rejected | Decision::RejectedDegraded => [1, 0, 0],
            Decision::RejectedDryRun => [0, 1, 0],
            Decision::Delayed | Decision::DelayedDegraded => [0, 0, 1],
            _ => return,
        };
        let (limit, client) = (records.names().get(row.limit), records.names().get(row.client));
        let key = (limit.to_owned(), client.to_owned());
        let line = self.limits.entry(key).or_insert_with(|| LimitUse {
            limit: limit.to_owned(),
            client: client.to_owned(),
            refused: 0,
            dry_run: 0,
            delayed: 0,
            newest_us: i64::MIN,
        });
        line.refused += refused;
        line.dry_run += dry_run;
        line.delayed += delayed;
        line.newest_us = line.newest_us.max(row.time_us);
    }

    fn add_gateway(&mut self, records: &Records, note: &PartNote) {
        let Some(newest) = records.rows().iter().max_by_key(|row| row.time_us) else { return };
        let gateway = self.gateways.entry(note.gateway.clone()).or_insert_with(|| GatewaySeen {
            name: note.gateway.clone(),
            records: 0,
            missing: 0,
            newest_us: i64::MIN,
            policy_version: String::new(),
            degraded: 0,
        });
        gateway.records += records.rows().len() as i64;
        gateway.missing += note.gaps.iter().map(|(from, to)| (to - from) as i64).sum::<i64>();
        gateway.degraded += records.rows().iter().filter(|row| is_degraded(row.decision)).count() as i64;
        if newest.time_us >= gateway.newest_us {
            gateway.newest_us = newest.time_us;
            gateway.policy_version = format!("{:016x}", newest.policy_version);
        }
    }

    fn close(self) -> Recent {
        let mut limits: Vec<LimitUse> = self.limits.into_values().collect();
        limits.sort_by_key(|line| std::cmp::Reverse((line.refused, line.dry_run, line.delayed)));
        Recent { from_us: self.from_us, limits, gateways: self.gateways.into_values().collect() }
    }
}

fn is_degraded(decision: Decision) -> bool {
    use Decision::{DelayedDegraded, OverDegraded, PassedDegraded, RejectedDegraded};
    matches!(decision, PassedDegraded | DelayedDegraded | RejectedDegraded | OverDegraded)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::testing::{SAMPLE_START_US, put_segment, runtime, sample_records};

    #[test]
    fn refusals_are_told_by_limit_and_gateways_by_their_newest_records() {
        let store = Store::new(Arc::new(InMemory::new()));
        let recent = runtime().block_on(async {
            for (segment, numbers) in [(0, 0..300), (2, 500..900)] {
                put_segment(&store, 1, segment, numbers).await.unwrap();
            }
            read(&store, 24 * HOUR_US, SAMPLE_START_US as i64 + 24 * HOUR_US).await.unwrap()
        });
        let rows: Vec<Row> =
            [0..300, 500..900].into_iter().flat_map(|n| sample_records(1, n).rows().to_vec()).collect();
        let of = |wanted: &[Decision]| rows.iter().filter(|r| wanted.contains(&r.decision)).count() as i64;
        let refused: i64 = recent.limits.iter().map(|line| line.refused).sum();
        assert_eq!(refused, of(&[Decision::Rejected, Decision::RejectedDegraded]));
        let dry_run: i64 = recent.limits.iter().map(|line| line.dry_run).sum();
        assert_eq!(dry_run, of(&[Decision::RejectedDryRun]));
        assert_eq!(recent.gateways.len(), 1);
        assert_eq!(recent.gateways[0].records, 700);
        assert_eq!(recent.gateways[0].newest_us, rows.iter().map(|r| r.time_us).max().unwrap());
        assert!(recent.from_us.is_some());
        assert!(recent.limits.is_sorted_by_key(|line| std::cmp::Reverse(line.refused)));
    }

    #[test]
    fn nothing_is_told_of_nothing() {
        let store = Store::new(Arc::new(InMemory::new()));
        let recent = runtime().block_on(read(&store, HOUR_US, HOUR_US)).unwrap();
        assert_eq!(recent, Recent::default());
    }
}
