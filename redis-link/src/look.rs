//! Looks at what Redis holds, for commands that are run by people. Nothing is written.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::timeout;
use weir_limiter::{Counter, stamp_of};

use crate::dial::{Dialled, Role, dial};
use crate::error::LinkError;
use crate::exchange::{begin, hash, key, run, send, time_ms};
use crate::options::{LinkOptions, Plan};
use crate::place::Place;
use crate::secret::tame;
use crate::sentinel;

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

/// A connection to the server that holds the counters.
pub struct Look {
    dialled: Dialled,
    plan: Plan,
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
    /// Connects.
    ///
    /// # Errors
    /// [`LookError`]. A Cluster is not looked at: its counters lie on many servers.
    pub async fn open(options: LinkOptions) -> Result<Look, LookError> {
        let plan = Plan::new(options)?;
        let connecting = timeout(PATIENCE, connect(&plan)).await;
        let dialled = connecting.unwrap_or_else(|_| Err("no answer within 5 s".into()));
        Ok(Look { dialled: dialled.map_err(LookError::Redis)?, plan })
    }

    /// What each counter holds, all of one moment where the server is one.
    /// Each is told with how long its units count.
    pub async fn used(&self, counters: &[(&Counter, u64)]) -> Result<Vec<Used>, LookError> {
        let mut question = begin();
        for (counter, _) in counters {
            question.cmd("HGETALL").arg(key(&self.plan.options.prefix, counter));
        }
        let running = timeout(PATIENCE, run(&self.dialled.line, question)).await;
        let replies =
            running.map_err(|_| silent())?.map_err(|failure| LookError::Redis(failure.why().clone()))?;
        let mut replies = replies.into_iter();
        let wrong = |failure: crate::exchange::Failure| LookError::Redis(failure.why().clone());
        let time_ms = time_ms(replies.next()).map_err(wrong)?;
        let used = replies.zip(counters).map(|(reply, &(_, window_ms))| {
            let mut fields = hash(Some(reply)).map_err(wrong)?;
            fields.iter_mut().for_each(|field| field.0 = stamp_of(field.0, window_ms, time_ms));
            Ok(Used { time_ms, fields })
        });
        used.collect()
    }

    /// What the server says of itself.
    pub async fn facts(&self) -> Result<Facts, LookError> {
        let mut question = Pipeline::new();
        question.cmd("INFO").cmd("TIME");
        question.cmd("ZRANGE").arg(self.plan.gateways_key()).arg(0).arg(999);
        let clock = self.plan.options.clock;
        let sent_ms = clock();
        let sending = timeout(PATIENCE, send(&self.dialled.line, &question)).await;
        let replies =
            sending.map_err(|_| silent())?.map_err(|failure| LookError::Redis(failure.why().clone()))?;
        let received_ms = clock();
        let [info, time, gateways] = <[Value; 3]>::try_from(replies)
            .map_err(|_| LookError::Redis("Redis gave fewer replies than commands".into()))?;
        let info = match info {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => return Err(LookError::Redis(format!("INFO gave {other:?}").into())),
        };
        let time_ms = time_ms(Some(time)).map_err(|failure| LookError::Redis(failure.why().clone()))?;
        Ok(Facts { info, time_ms, sent_ms, received_ms, gateways: names(gateways) })
    }
}

fn silent() -> LookError {
    LookError::Redis("no answer within 5 s".into())
}

async fn connect(plan: &Plan) -> Result<Dialled, Arc<str>> {
    match plan.place.clone() {
        Place::One(address) => dial(plan, &address, Role::Single, 0).await,
        Place::Sentinel { mut sentinels, master } => {
            let host = sentinel::master(plan, &mut sentinels, &master).await?;
            dial(plan, &plan.address(&host), Role::Master, 0).await
        }
        Place::Cluster { .. } => {
            Err("the counters of a Cluster lie on many servers: ask a gateway (weir_usage)".into())
        }
    }
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
