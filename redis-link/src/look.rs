//! Looks at what Redis holds, for commands that are run by people. Nothing is written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::timeout;
use weir_limiter::{Counter, stamp_of};

use crate::dial::{Dialled, Role, ask, dial};
use crate::error::LinkError;
use crate::exchange::{Failure, begin, hash, key, run, send, time_ms};
use crate::options::{LinkOptions, Plan};
use crate::place::{Host, Place};
use crate::secret::tame;
use crate::sentinel;
use crate::slots::{self, Range, SLOTS, slot_of};

/// The longest that one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why nothing could be seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error(transparent)]
    Options(#[from] LinkError),
    #[error("{0}")]
    Redis(Arc<str>),
}

/// The way to the servers that hold the counters.
pub struct Look {
    servers: Servers,
    plan: Plan,
}

enum Servers {
    One(Dialled),
    /// Who keeps which keys. Each is dialled when it is asked.
    Many(Vec<Range>),
}

/// What one counter holds.
pub struct Used {
    /// The server's clock.
    pub time_ms: u64,
    /// (stamp in ms of the server's time, units).
    pub fields: Vec<(u64, i64)>,
}

impl Used {
    /// Units that count at the server's time, in a window that counts each for so long; those that
    /// gateways hold on lease are among them.
    pub fn units(&self, counted_ms: u64) -> u64 {
        let counting =
            self.fields.iter().filter(|(stamp, _)| stamp.saturating_add(counted_ms) > self.time_ms);
        counting.map(|(_, units)| u64::try_from(*units).unwrap_or(0)).sum()
    }

    /// Milliseconds until no more than `most` units count; 0 when that is so by now.
    pub fn ms_until(&self, counted_ms: u64, most: u64) -> u64 {
        let mut fields: Vec<(u64, u64)> =
            self.fields.iter().map(|&(stamp, units)| (stamp, u64::try_from(units).unwrap_or(0))).collect();
        fields.sort_unstable();
        let mut left = self.units(counted_ms);
        let still = fields.into_iter().filter(|(stamp, _)| stamp.saturating_add(counted_ms) > self.time_ms);
        for (stamp, units) in still {
            if left <= most {
                break;
            }
            left -= units;
            if left <= most {
                return (stamp + counted_ms).saturating_sub(self.time_ms);
            }
        }
        0
    }
}

/// What a server says of itself.
pub struct Facts {
    info: String,
    /// Whether it is the one that keeps the list of gateways.
    pub keeps_gateways: bool,
    /// Its clock, and ours when it was asked and had answered: milliseconds by [`LinkOptions::clock`].
    pub time_ms: u64,
    pub sent_ms: u64,
    pub received_ms: u64,
    /// Gateways that were there within a minute.
    pub gateways: Vec<String>,
}

impl Facts {
    /// A line of INFO.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

impl Look {
    /// Connects; with a Cluster, asks who keeps what.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn open(options: LinkOptions) -> Result<Look, LookError> {
        let plan = Plan::new(options)?;
        let connecting = timeout(PATIENCE, connect(&plan)).await;
        let servers = connecting.unwrap_or_else(|_| Err("no answer within 5 s".into()));
        Ok(Look { servers: servers.map_err(LookError::Redis)?, plan })
    }

    /// What each counter holds, all of one moment where the server is one.
    /// Each is told with how long its units count.
    pub async fn used(&self, counters: &[(&Counter, u64)]) -> Result<Vec<Used>, LookError> {
        let keys: Vec<(String, u64)> = counters
            .iter()
            .map(|(counter, window_ms)| (key(&self.plan.options.prefix, counter), *window_ms))
            .collect();
        let ranges = match &self.servers {
            Servers::One(dialled) => return used(dialled, &keys).await,
            Servers::Many(ranges) => ranges,
        };
        let mut all = Vec::new();
        let mut open: Option<(&Host, Dialled)> = None;
        // A transaction is within one slot.
        for asked in &keys {
            let slot = slot_of(&asked.0);
            let host = keeper(ranges, &asked.0)
                .ok_or_else(|| LookError::Redis(format!("no server keeps slot {slot}").into()))?;
            let dialled = match open.take().filter(|(known, _)| *known == host) {
                Some((_, dialled)) => dialled,
                None => self.dial(host).await?,
            };
            all.extend(used(&dialled, std::slice::from_ref(asked)).await?);
            open = Some((host, dialled));
        }
        Ok(all)
    }

    /// What each server says of itself, with its name.
    pub async fn facts(&self) -> Vec<(String, Result<Facts, LookError>)> {
        let ranges = match &self.servers {
            Servers::One(dialled) => return vec![(String::new(), self.facts_of(dialled, true).await)],
            Servers::Many(ranges) => ranges,
        };
        let common = keeper(ranges, &self.plan.gateways_key());
        let hosts: BTreeSet<&Host> = ranges.iter().map(|range| &range.host).collect();
        let mut all = Vec::new();
        for host in hosts {
            let facts = match self.dial(host).await {
                Ok(dialled) => self.facts_of(&dialled, common == Some(host)).await,
                Err(error) => Err(error),
            };
            all.push((host.to_string(), facts));
        }
        all
    }

    /// Slots of a Cluster that no server keeps.
    pub fn nobodys(&self) -> u32 {
        match &self.servers {
            Servers::One(_) => 0,
            Servers::Many(ranges) => {
                let kept = ranges.iter().map(|r| u32::from(r.last.saturating_sub(r.first)) + 1).sum();
                u32::from(SLOTS).saturating_sub(kept)
            }
        }
    }

    async fn dial(&self, host: &Host) -> Result<Dialled, LookError> {
        let address = self.plan.address(host);
        let dialling = timeout(PATIENCE, dial(&self.plan, &address, Role::Primary, 0)).await;
        let dialled = dialling.map_err(|_| silent())?;
        dialled.map_err(|why| LookError::Redis(format!("{host}: {why}").into()))
    }

    async fn facts_of(&self, dialled: &Dialled, keeps_gateways: bool) -> Result<Facts, LookError> {
        let mut question = Pipeline::new();
        question.cmd("INFO").cmd("TIME");
        if keeps_gateways {
            question.cmd("ZRANGE").arg(self.plan.gateways_key()).arg(0).arg(999);
        }
        let clock = self.plan.options.clock;
        let sent_ms = clock();
        let sending = timeout(PATIENCE, send(&dialled.line, &question)).await;
        let replies =
            sending.map_err(|_| silent())?.map_err(|failure| LookError::Redis(failure.why().clone()))?;
        let received_ms = clock();
        let mut replies = replies.into_iter();
        let info = match replies.next() {
            Some(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            other => return Err(LookError::Redis(format!("INFO gave {other:?}").into())),
        };
        let time_ms = time_ms(replies.next()).map_err(|failure| LookError::Redis(failure.why().clone()))?;
        let gateways = replies.next().map(names).unwrap_or_default();
        Ok(Facts { info, keeps_gateways, time_ms, sent_ms, received_ms, gateways })
    }
}

/// What the counters under these keys hold, asked in one transaction; each with how long its units count.
async fn used(dialled: &Dialled, keys: &[(String, u64)]) -> Result<Vec<Used>, LookError> {
    let mut question = begin();
    for (key, _) in keys {
        question.cmd("HGETALL").arg(key);
    }
    let running = timeout(PATIENCE, run(&dialled.line, question)).await;
    let wrong = |failure: Failure| LookError::Redis(failure.why().clone());
    let mut replies = running.map_err(|_| silent())?.map_err(wrong)?.into_iter();
    let time_ms = time_ms(replies.next()).map_err(wrong)?;
    let used = replies.zip(keys).map(|(reply, &(_, window_ms))| {
        let mut fields = hash(Some(reply)).map_err(wrong)?;
        fields.iter_mut().for_each(|field| field.0 = stamp_of(field.0, window_ms, time_ms));
        Ok(Used { time_ms, fields })
    });
    used.collect()
}

fn silent() -> LookError {
    LookError::Redis("no answer within 5 s".into())
}

async fn connect(plan: &Plan) -> Result<Servers, Arc<str>> {
    match plan.place.clone() {
        Place::One(address) => dial(plan, &address, Role::Single, 0).await.map(Servers::One),
        Place::Sentinel { mut sentinels, master } => {
            let host = sentinel::master(plan, &mut sentinels, &master).await?;
            dial(plan, &plan.address(&host), Role::Master, 0).await.map(Servers::One)
        }
        Place::Cluster { seeds } => ranges(plan, &seeds).await.map(Servers::Many),
    }
}

/// Who keeps which keys of a Cluster, as the first of its servers that answers says.
pub async fn ranges(plan: &Plan, seeds: &[Host]) -> Result<Vec<Range>, Arc<str>> {
    let mut why: Arc<str> = "no server of the Cluster is known".into();
    for seed in seeds {
        let credentials = plan.credentials().map_err(|e| e.to_string())?;
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let asked = timeout(plan.dial_limit(), ask(plan, seed, credentials.as_ref(), question)).await;
        why = match asked {
            Ok(Ok(reply)) => match slots::read(&reply, seed) {
                Some(ranges) => return Ok(ranges),
                None => format!("{seed} knows no server that keeps slots: is the Cluster made?").into(),
            },
            Ok(Err(why)) => format!("{seed}: {why}").into(),
            Err(_) => format!("{seed} did not answer").into(),
        };
    }
    Err(why)
}

/// The server of a Cluster that keeps a key.
pub fn keeper<'a>(ranges: &'a [Range], key: &str) -> Option<&'a Host> {
    let slot = slot_of(key);
    ranges.iter().find(|range| (range.first..=range.last).contains(&slot)).map(|range| &range.host)
}

/// Names that others wrote, as one line each. None where the user may not read them.
fn names(reply: Value) -> Vec<String> {
    let Value::Array(items) = reply else { return Vec::new() };
    let text = |item: Value| match item {
        Value::BulkString(bytes) => Some(tame(&String::from_utf8_lossy(&bytes), None).to_string()),
        _ => None,
    };
    items.into_iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_leave_when_their_window_is_over() {
        let used =
            Used { time_ms: 100_000, fields: vec![(95_000, 3), (39_000, 9), (60_000, 4), (101_000, 2)] };
        assert_eq!(used.units(60_000), 9, "what is on lease counts, what is older than a minute does not");
        assert_eq!(used.ms_until(60_000, 9), 0);
        assert_eq!(used.ms_until(60_000, 8), 20_000);
        assert_eq!(used.ms_until(60_000, 5), 20_000);
        assert_eq!(used.ms_until(60_000, 4), 55_000);
        assert_eq!(used.ms_until(60_000, 0), 61_000);
    }
}
