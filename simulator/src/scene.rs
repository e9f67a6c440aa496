//! What a seed decides: how many gateways, which limits, which traffic, which faults.

use fastrand::Rng;

use crate::fault::{Fault, Planned};

mod calm;
mod storms;
mod weak;

/// What a scene is about, which says by what it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything goes wrong that may without a server that forgets: strict.
    Storm,
    /// The server forgets once.
    Forgetful,
    /// One gateway without a server; its workers die, stop and are reloaded: strict.
    Alone,
    /// Clients keep to 97 % of their limits in every 1.02 windows; nothing goes wrong: none is refused.
    Polite,
    /// 80 within a second, every 60.1 s, against 100 a minute: none is refused.
    Cron,
    /// Twice the limit, steadily: almost all of the limit is had.
    Flood,
    /// A client that comes back when it was told to is served.
    Comeback,
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// At random, at a constant rate.
    Steady,
    /// A burst once per window, as a cron job sends it.
    Cron,
    /// High and low in turn.
    Waves,
    /// On one gateway after the other.
    Moving,
    /// Bursts just before and just after each edge of a window.
    Edges,
    /// The same, each on one gateway after the other.
    Hopping,
}

/// Whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    EachClient,
    /// All clients together, in another slot.
    Everyone,
    /// Bytes of each client, known only when an answer was sent.
    BytesOfEachClient,
}

/// One limit of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    pub whose: Whose,
    pub amount: u64,
    pub window_ms: u64,
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    pub seed: u64,
    /// Another number is another throw of all dice in the same scene.
    pub luck: u64,
    pub kind: Kind,
    pub gateways: usize,
    pub workers: usize,
    pub clients: usize,
    /// All of them apply to each request.
    pub limits: Vec<LimitSpec>,
    pub length_ms: u64,
    /// Requests a second, all clients and gateways together.
    pub rate: f64,
    pub traffic: Traffic,
    /// The first client sends most.
    pub skewed: bool,
    /// Costs above 1 occur.
    pub costs: bool,
    /// Share of messages that are lost, each way.
    pub loss: f64,
    /// Longest delay of a message each way, ms; most take one or two ...
    pub delay_ms: u64,
    /// ... but one in so many.
    pub slow_one_in: u8,
    /// Whether messages of one connection overtake one another.
    pub disorder: bool,
    /// The server's clock against the gateways', parts per million.
    pub drift_ppm: i64,
    /// Workers learn of a changed limit within so long.
    pub lag_ms: u64,
    /// Whether a worker still hears what is under way on a connection when that breaks.
    pub late: bool,
    /// A broken connection comes up again within so long.
    pub reconnect_ms: u64,
    /// Shared memory for 32 keys.
    pub small_zone: bool,
    pub plan: Vec<Planned>,
}

impl Scene {
    /// By how much a lost transaction puts off what it says, ms.
    pub const LOSS_MS: u64 = 500;

    /// The scene of a seed: everything about it follows from the number.
    pub fn of_seed(seed: u64) -> Scene {
        let mut rng = Rng::with_seed(seed ^ 0x7765_6972);
        match rng.u8(..100) {
            0..55 => Scene::storm(seed, &mut rng),
            55..70 => Scene::forgetful(seed, &mut rng),
            70..78 => Scene::alone(seed, &mut rng),
            78..84 => Scene::polite(seed, &mut rng),
            84..86 => Scene::cron(seed, &mut rng),
            86..90 => Scene::flood(seed, &mut rng),
            _ => Scene::comeback(seed, &mut rng),
        }
    }

    /// One gateway, one client, one limit, and nothing goes wrong.
    pub fn quiet(kind: Kind, amount: u64, window_ms: u64) -> Scene {
        Scene {
            seed: 0,
            luck: 0,
            kind,
            gateways: 1,
            workers: 1,
            clients: 1,
            limits: vec![LimitSpec { whose: Whose::EachClient, amount, window_ms }],
            length_ms: 5 * window_ms,
            rate: 2_000.0 * amount as f64 / window_ms as f64,
            traffic: Traffic::Steady,
            skewed: false,
            costs: false,
            loss: 0.0,
            delay_ms: 1,
            slow_one_in: 10,
            disorder: false,
            drift_ppm: 0,
            lag_ms: 0,
            late: false,
            reconnect_ms: 30,
            small_zone: false,
            plan: Vec::new(),
        }
    }

    /// Within how long the server knows of bytes that were sent, ms, where so many transactions of
    /// theirs were lost on the way to it: they count as under way until then. What is beyond a lease is
    /// published after 100 ms; when that is lost, again.
    pub fn news_ms(&self, lost: u64) -> u64 {
        let paused = |p: &Planned| match p.fault {
            Fault::ServerPauses { for_ms } | Fault::WorkerStops { for_ms, .. } => for_ms,
            _ => 0,
        };
        let cut = |p: &Planned| matches!(p.fault, Fault::Cut { .. } | Fault::ServerRestarts { .. });
        let cuts = self.plan.iter().filter(|p| cut(p)).count() as u64;
        150 + 2 * self.delay_ms
            + lost * Scene::LOSS_MS
            + (300 + self.reconnect_ms) * cuts
            + self.plan.iter().map(paused).sum::<u64>()
    }

    /// How long a worker may go on by what it was granted before it heard of what others sent, ms: while
    /// that lease lasts. So may one that is alone, where its own news is overtaken.
    pub fn unaware_ms(&self, limit: &LimitSpec) -> u64 {
        let reloaded = self.plan.iter().any(|p| matches!(p.fault, Fault::Reload { .. }));
        if self.gateways * self.workers > 1 || reloaded || self.disorder {
            (limit.window_ms / 10).max(50)
        } else {
            0
        }
    }

    /// Whether nothing goes wrong but that the server forgets.
    pub fn is_calm(&self) -> bool {
        self.loss == 0.0
            && self.delay_ms <= 1
            && !self.disorder
            && self.plan.iter().all(|p| p.fault.forgets())
    }
}

fn one_of<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}
