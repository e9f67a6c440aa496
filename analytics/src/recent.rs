//! What the newest records say that roll-ups do not: which limit refused whom, and which gateways are
//! at work with which policy.

use std::collections::BTreeMap;

use weir_metering::Decision;

use crate::books::hours_of_records;
use crate::bundle::{Files, Reading};
use crate::calendar::HOUR_US;
use crate::parquet_file::FileError;
use crate::records::{Records, Row};
use crate::store::Store;
use crate::view::{GatewaySeen, LimitUse, Recent};

/// Parts that are read at most, the newest ones: a tick must not read a busy day over and over. What
/// they reach back to is said with the result.
const MOST_PARTS: u64 = 120;

/// Looks at the records of the `span_us` before `to_us`, or of fewer hours where those are many.
pub async fn read(store: &Store, span_us: i64, to_us: i64) -> Result<Recent, FileError> {
    let mut hours = hours_of_records(store).await?;
    hours.retain(|hour| hour.end_us() > to_us - span_us && hour.start_us < to_us);
    let newest_us = hours.last().map_or(0, |newest| newest.start_us);
    let mut seen = Seen::default();
    let mut parts = 0;
    for &hour in hours.iter().rev() {
        let files = Files::of_hour(store, hour).await?;
        if parts > 0 && parts + files.segments() > MOST_PARTS {
            break;
        }
        for object in files.counting() {
            seen.read(Reading::of(store, &object.path).await?, hour.start_us >= newest_us - HOUR_US)?;
        }
        parts += files.segments();
        seen.from_us = Some(hour.start_us);
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
    fn read(&mut self, reading: Reading, of_now: bool) -> Result<(), FileError> {
        let writers = reading.note.of.clone();
        for records in reading {
            let records = records?;
            for row in records.rows() {
                self.add_limit(&records, row);
                if of_now {
                    self.add_gateway(&records, row);
                }
            }
        }
        for writer in writers.into_values().filter(|_| of_now) {
            if let Some(gateway) = self.gateways.get_mut(&writer.gateway) {
                gateway.missing += writer.missing as i64;
            }
        }
        Ok(())
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

    fn add_gateway(&mut self, records: &Records, row: &Row) {
        let name = records.names().get(row.gateway);
        if !self.gateways.contains_key(name) {
            let new = GatewaySeen {
                name: name.to_owned(),
                records: 0,
                missing: 0,
                newest_us: i64::MIN,
                policy_version: String::new(),
                degraded: 0,
            };
            self.gateways.insert(name.to_owned(), new);
        }
        let Some(gateway) = self.gateways.get_mut(name) else { return };
        gateway.records += 1;
        gateway.degraded += i64::from(is_degraded(row.decision));
        if row.time_us > gateway.newest_us {
            gateway.newest_us = row.time_us;
            gateway.policy_version = format!("{:016x}", row.policy_version);
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
