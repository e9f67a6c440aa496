//! Three judges of a run. They know nothing of stamps and leases, only who asked when, what was
//! admitted, and what a refused client was told.

use std::fmt;

use crate::fault::Fault;
use crate::scene::{Kind, Scene, Traffic, Whose};
use crate::window::{SlidingLog, first_over};

/// What must not be.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// A window holds more than it may.
    Over { limit: usize, client: usize, at_ms: u64, units: u64, allowed: u64 },
    /// A client was refused, or not decided in time, that may not be.
    Unduly { client: usize, at_ms: u64, what: &'static str },
    /// Clients got too little of what an exact sliding log admits of the same arrivals.
    Short { got: u64, exact: u64 },
    /// A client came back when it was told to, and was not served.
    Broken { client: usize, at_ms: u64 },
    /// A client was sent away for longer than a window and a tenth.
    TooLong { client: usize, at_ms: u64, retry_ms: u64, window_ms: u64 },
    /// A request waits although nothing is on its way.
    Stuck { client: usize, at_ms: u64 },
    /// The limiter itself failed.
    Panicked(String),
}

impl Failure {
    /// When, and about which client; the end where it is about a whole run.
    pub fn place(&self) -> (u64, Option<usize>) {
        match *self {
            Failure::Over { client, at_ms, .. }
            | Failure::Unduly { client, at_ms, .. }
            | Failure::Broken { client, at_ms }
            | Failure::TooLong { client, at_ms, .. }
            | Failure::Stuck { client, at_ms } => (at_ms, Some(client)),
            Failure::Short { .. } | Failure::Panicked(_) => (u64::MAX, None),
        }
    }

    /// Whether another failure is of the same sort.
    pub fn is_like(&self, other: &Failure) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Over { limit, client, at_ms, units, allowed } => write!(
                f,
                "at {at_ms} ms a window of limit {limit} of client {client} holds {units} units and may hold {allowed}"
            ),
            Failure::Unduly { client, at_ms, what } => {
                write!(f, "at {at_ms} ms client {client} was {what} without reason")
            }
            Failure::Short { got, exact } => {
                write!(f, "clients got {got} units, an exact sliding log gives {exact}")
            }
            Failure::Broken { client, at_ms } => {
                write!(f, "at {at_ms} ms client {client} came back as told and was not served")
            }
            Failure::TooLong { client, at_ms, retry_ms, window_ms } => write!(
                f,
                "at {at_ms} ms client {client} was sent away for {retry_ms} ms, the window is {window_ms} ms"
            ),
            Failure::Stuck { client, at_ms } => {
                write!(f, "at {at_ms} ms a request of client {client} waits for nothing")
            }
            Failure::Panicked(message) => write!(f, "the limiter panicked: {message}"),
        }
    }
}

/// What is known of one limit of one client.
struct Record {
    limit: usize,
    client: usize,
    /// (world time, units), of what was admitted; of bytes, when they were charged.
    admitted: Vec<(u64, u64)>,
    /// What was admitted by a worker that was stopped meanwhile: (not before, not after, units).
    vague: Vec<(u64, u64, u64)>,
    /// (world time, gateway, bytes under way there from then on), where the limit counts bytes.
    under_way: Vec<(u64, usize, u64)>,
    exact: SlidingLog,
}

/// Collects what clients see of a run, and judges it.
pub(crate) struct Judge {
    records: Vec<Record>,
    /// For each limit (from, amount).
    pub amounts: Vec<Vec<(u64, u64)>>,
    pub exact_units: u64,
    pub units: u64,
    pub failure: Option<Failure>,
}

impl Judge {
    pub fn new(scene: &Scene, keys: &[(usize, usize)]) -> Judge {
        let record = |&(limit, client): &(usize, usize)| {
            let spec = scene.limits[limit];
            Record {
                limit,
                client,
                admitted: Vec::new(),
                vague: Vec::new(),
                under_way: Vec::new(),
                exact: SlidingLog::new(spec.amount, spec.window_ms),
            }
        };
        Judge {
            records: keys.iter().map(record).collect(),
            amounts: scene.limits.iter().map(|l| vec![(0, l.amount)]).collect(),
            exact_units: 0,
            units: 0,
            failure: None,
        }
    }

    /// The first failure counts.
    pub fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// A request arrived; `keys` are those that it counts for.
    pub fn arrived(&mut self, now: u64, keys: &[usize], cost: u64) {
        let fits = keys.iter().all(|&k| self.records[k].exact.has_room(now, cost));
        if fits {
            keys.iter().for_each(|&k| self.records[k].exact.take(now, cost));
            self.exact_units += cost;
        }
    }

    pub fn admitted(&mut self, at: u64, now: u64, key: usize, units: u64) {
        if at < now {
            self.records[key].vague.push((at, now, units));
        } else {
            self.records[key].admitted.push((at, units));
        }
    }

    /// Bytes under way at a gateway change by so much.
    pub fn under_way(&mut self, now: u64, key: usize, gateway: usize, by: i64) {
        let record = &mut self.records[key].under_way;
        let before = record.iter().rev().find(|u| u.1 == gateway).map_or(0, |u| u.2);
        record.push((now, gateway, before.saturating_add_signed(by)));
    }

    /// What a client is told when it is refused.
    pub fn told(&mut self, now: u64, client: usize, retry_ms: u64, window_ms: u64) {
        if retry_ms > window_ms + window_ms / 10 {
            self.fail(Failure::TooLong { client, at_ms: now, retry_ms, window_ms });
        }
    }

    /// The verdict over the whole run.
    pub fn verdict(mut self, scene: &Scene) -> Option<Failure> {
        let mut worst: Option<Failure> = None;
        for i in 0..self.records.len() {
            self.records[i].admitted.sort_by_key(|a| a.0);
            if let Some(over) = self.first_over(scene, &self.records[i])
                && worst.as_ref().is_none_or(|w| over.place().0 < w.place().0)
            {
                worst = Some(over);
            }
        }
        // A window over its limit is the worst that can be.
        worst.or(self.failure.take()).or_else(|| self.share(scene))
    }

    fn first_over(&self, scene: &Scene, record: &Record) -> Option<Failure> {
        let spec = scene.limits[record.limit];
        let over = first_over(&record.admitted, spec.window_ms, |at, units| {
            // Bytes of an answer are charged when it was sent, by the limit that let it begin.
            let sending = if spec.whose == Whose::BytesOfEachClient {
                scene.news_ms(if scene.loss > 0.0 { 2 } else { 0 }) + scene.limits[0].window_ms / 10
            } else {
                0
            };
            // Who learnt first may use what it was granted while others still admitted by the old one.
            let (amounts, lease_ms) =
                (&self.amounts[record.limit], spec.window_ms / 10 + spec.window_ms / 100);
            let leased = if scene.lag_ms > 0 { lease_ms } else { 0 };
            let in_force = amount_at(amounts, at, scene.lag_ms + sending + leased);
            let in_force = in_force.max(raised_at(amounts, at, lease_ms));
            let amount = grace(scene, at, spec.window_ms, in_force);
            let surely = |v: &&(u64, u64, u64)| v.1 <= at && v.0 + spec.window_ms >= at;
            let units = units + record.vague.iter().filter(surely).map(|v| v.2).sum::<u64>();
            if units <= amount {
                return None;
            }
            // Costs much, so it is looked at only where the limit is exceeded.
            let since = at.saturating_sub(spec.window_ms * 6 / 5);
            let flying = most_under_way(&record.under_way, since, at);
            (units > amount + flying).then_some((units, amount + flying))
        })?;
        let (at_ms, (units, allowed)) = over;
        Some(Failure::Over { limit: record.limit, client: record.client, at_ms, units, allowed })
    }

    /// Of floods at twice the limit: 98 % of what an exact log admits, 95 % below a limit of 1,000 or
    /// with several limits.
    fn share(&self, scene: &Scene) -> Option<Failure> {
        let percent = if scene.limits[0].amount >= 1_000 && scene.limits.len() == 1 { 98 } else { 95 };
        let short = scene.kind == Kind::Flood && self.units * 100 < self.exact_units * percent;
        short.then_some(Failure::Short { got: self.units, exact: self.exact_units })
    }
}

/// The highest amount that some worker may hold for true: each learns of a change within `lag`.
fn amount_at(amounts: &[(u64, u64)], at: u64, lag: u64) -> u64 {
    let before = amounts.iter().rev().find(|a| a.0 + lag < at || a.0 == 0).map_or(u64::MAX, |a| a.1);
    let since = amounts.iter().filter(|a| a.0 + lag >= at && a.0 <= at).map(|a| a.1).max();
    before.max(since.unwrap_or(0))
}

/// The highest amount that a limit was raised to of late: who had no request until it was lowered again
/// has seen nothing of it, and uses its leases from before until they end.
fn raised_at(amounts: &[(u64, u64)], at: u64, lease_ms: u64) -> u64 {
    let raised = amounts.windows(2).filter(|two| two[1].1 > two[0].1).map(|two| two[1]);
    raised.filter(|a| a.0 <= at && at <= a.0 + lease_ms).map(|a| a.1).max().unwrap_or(0)
}

/// What windows may hold at `at`: the limit, but for a while after the server forgot.
fn grace(scene: &Scene, at: u64, window_ms: u64, amount: u64) -> u64 {
    let forgets = scene.plan.iter().find(|p| p.fault.forgets());
    let Some(planned) = forgets.filter(|_| scene.kind == Kind::Forgetful) else {
        return amount;
    };
    let calm = scene.is_calm();
    let until = if calm { planned.at_ms + window_ms * 6 / 5 + scene.reconnect_ms + 2_000 } else { u64::MAX };
    if at < planned.at_ms || at > until {
        return amount;
    }
    let new_life = matches!(planned.fault, Fault::ServerRestarts { .. } | Fault::Failover { .. });
    let in_order = scene.gateways == 1 && scene.workers == 1 && !scene.disorder;
    let only_this = scene.plan.iter().all(|p| p.fault.forgets());
    if new_life && in_order && only_this && scene.loss == 0.0 {
        // The gateway publishes all it knows before it leases anew.
        amount
    } else if calm && (new_life || scene.gateways == 1) && scene.traffic == Traffic::Steady {
        // What is about to leave the window is not missed, which is much where traffic comes in bursts.
        amount * 3 / 2 + 2
    } else {
        2 * amount
    }
}

/// The most bytes that were under way at one moment, gateway by gateway.
fn most_under_way(changes: &[(u64, usize, u64)], from: u64, to: u64) -> u64 {
    let mut most: Vec<(usize, u64)> = Vec::new();
    for &(at, gateway, bytes) in changes.iter().take_while(|c| c.0 <= to) {
        let known = most.iter().position(|m| m.0 == gateway).unwrap_or_else(|| {
            most.push((gateway, 0));
            most.len() - 1
        });
        // What was under way when the window began still counts.
        most[known].1 = if at < from { bytes } else { most[known].1.max(bytes) };
    }
    most.iter().map(|m| m.1).sum()
}
