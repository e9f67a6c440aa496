//! Who calls: some 230 clients of many rates and habits, and the policy that limits them.

use std::fmt::{self, Write as _};
use std::time::Duration;

use weir_testbed::fastrand::Rng;
use weir_testbed::gateway::key_hash;
use weir_testbed::load::{Call, Plan, Shot};

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    Requests,
    Cost,
    Bytes,
}

/// At most `amount` in any `window_s` seconds.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub counted: Counted,
    pub amount: u64,
    pub window_s: u64,
}

impl Limit {
    const fn new(amount: u64, counted: Counted, window_s: u64) -> Limit {
        Limit { counted, amount, window_s }
    }

    pub fn window_us(&self) -> u64 {
        self.window_s * 1_000_000
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, window) = (self.amount, self.window_s);
        match self.counted {
            Counted::Requests => write!(f, "{n} requests/{window} seconds"),
            Counted::Cost => write!(f, "{n} units/{window} seconds"),
            Counted::Bytes => write!(f, "{n} bytes/{window} seconds"),
        }
    }
}

use Counted::{Bytes, Cost, Requests};

pub const TIERS: [(&str, &[Limit]); 6] = [
    ("small", &[Limit::new(50, Requests, 5)]),
    ("middle", &[Limit::new(100, Requests, 5)]),
    ("large", &[Limit::new(200, Requests, 2)]),
    ("double", &[Limit::new(40, Requests, 1), Limit::new(120, Requests, 4)]),
    ("cost", &[Limit::new(200, Cost, 3)]),
    ("bytes", &[Limit::new(60_000, Bytes, 2)]),
];

/// Over all clients that call `/together`.
pub const TOGETHER: Limit = Limit::new(150, Requests, 2);

/// When a client calls.
#[derive(Clone, Copy, Debug)]
pub enum Rhythm {
    /// So many a second.
    Even(f64),
    /// This many within 0.2 s, once in so many seconds, as a cron job does.
    Cron(u32, f64),
    /// This many within 0.3 s, at random with so many seconds between on average.
    Bursts(u32, f64),
}

/// By which gateway.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Spread,
    /// Always the same.
    Fixed,
    /// One at a time, another every 0.7 s.
    Moving,
}

/// What it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Plain,
    /// Costs 1 to 5 units.
    Dear,
    /// 3 kB come back.
    Big,
    Together,
}

/// What a client of a kind should see when nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Keeps to 90 % of its limit: refused nothing.
    Polite,
    /// Asks for a multiple: gets at least 90 % of its limit.
    Greedy,
    /// Asks for too much now and then.
    Rough,
}

/// Clients that are alike.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    pub tier: &'static str,
    pub clients: usize,
    pub rhythm: Rhythm,
    pub way: Way,
    pub place: Place,
    pub manners: Manners,
}

/// Some 2,000 requests a second in all.
#[rustfmt::skip]
pub const KINDS: [Kind; 12] = {
    use {Manners::*, Place::*, Rhythm::*, Way::*};
    [
        Kind { name: "steady", tier: "middle", clients: 20, rhythm: Even(18.0), way: Spread, place: Plain, manners: Polite },
        Kind { name: "moving", tier: "middle", clients: 10, rhythm: Even(18.0), way: Moving, place: Plain, manners: Polite },
        Kind { name: "cron", tier: "middle", clients: 8, rhythm: Cron(90, 5.2), way: Fixed, place: Plain, manners: Polite },
        Kind { name: "trickle", tier: "small", clients: 140, rhythm: Even(1.0), way: Spread, place: Plain, manners: Polite },
        Kind { name: "bursts", tier: "small", clients: 12, rhythm: Bursts(60, 4.0), way: Spread, place: Plain, manners: Rough },
        Kind { name: "greedy", tier: "small", clients: 8, rhythm: Even(30.0), way: Spread, place: Plain, manners: Greedy },
        Kind { name: "brisk", tier: "large", clients: 1, rhythm: Even(90.0), way: Moving, place: Plain, manners: Polite },
        Kind { name: "flood", tier: "large", clients: 1, rhythm: Even(300.0), way: Spread, place: Plain, manners: Greedy },
        Kind { name: "double", tier: "double", clients: 2, rhythm: Even(60.0), way: Spread, place: Plain, manners: Greedy },
        Kind { name: "cost", tier: "cost", clients: 2, rhythm: Even(45.0), way: Spread, place: Dear, manners: Greedy },
        Kind { name: "bytes", tier: "bytes", clients: 2, rhythm: Even(20.0), way: Spread, place: Big, manners: Rough },
        Kind { name: "crowd", tier: "small", clients: 20, rhythm: Even(8.0), way: Spread, place: Together, manners: Rough },
    ]
};

/// One client.
#[derive(Debug)]
pub struct Client {
    pub id: String,
    pub kind: &'static Kind,
    /// Its number among its kind.
    nth: usize,
}

impl Client {
    pub fn limits(&self) -> &'static [Limit] {
        TIERS.iter().find(|tier| tier.0 == self.kind.tier).map_or(&[], |tier| tier.1)
    }

    /// How many different requests it makes; what the nth of them costs is n + 1.
    fn variants(&self) -> usize {
        if self.kind.place == Place::Dear { 5 } else { 1 }
    }

    fn path(&self, variant: usize) -> String {
        match self.kind.place {
            Place::Plain => "/plain".into(),
            Place::Dear => format!("/dear/{}", variant + 1),
            Place::Big => "/big".into(),
            Place::Together => "/together".into(),
        }
    }
}

pub fn clients() -> Vec<Client> {
    let of = |kind: &'static Kind| {
        (0..kind.clients).map(move |nth| Client { id: format!("{}-{nth}", kind.name), kind, nth })
    };
    static ALL: [Kind; 12] = KINDS;
    ALL.iter().flat_map(of).collect()
}

/// The policy file. A route of its own for each cost lets a record tell what the request cost.
pub fn policy(clients: &[Client]) -> String {
    let mut text = "default_tier = \"small\"\n[routes]\n".to_owned();
    for route in ["plain", "big", "together"] {
        let _ = writeln!(text, "{route} = \"* /{route}\"");
    }
    for cost in 1..=5 {
        let _ = writeln!(text, "dear-{cost} = \"* /dear/{cost}\"");
    }
    for (name, limits) in TIERS {
        let limits: Vec<String> = limits.iter().map(Limit::to_string).collect();
        let _ = writeln!(text, "[tiers.{name}]\nlimits = {limits:?}");
    }
    let _ = writeln!(text, "[[endpoints]]\nmatch = \"* together\"\nlimits = [\"{TOGETHER}\"]");
    for client in clients {
        let (id, tier, hash) = (&client.id, client.kind.tier, key_hash(&client.id));
        let _ = writeln!(text, "[clients.{id}]\ntier = \"{tier}\"\nkeys = [\"{hash}\"]");
    }
    text
}

/// Lines of the http block by which `weir_cost $units` is known.
pub const COST_OF_PATH: &str = "map $uri $units { default 1; ~^/dear/(?<n>[1-5])$ $n; }";

/// What a record's endpoint says about the cost.
pub fn cost_of_endpoint(endpoint: &str) -> u64 {
    endpoint.strip_prefix("dear-").and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// A plan of requests, and what each of its shots is.
pub struct Program {
    pub plan: Plan,
    /// For each shot: gateway and cost.
    pub shots: Vec<(usize, u64)>,
}

/// Everything that all clients send within `length`, by the gateways at these ports.
pub fn program(clients: &[Client], ports: &[u16], length: Duration, seed: u64) -> Program {
    let mut rng = Rng::with_seed(seed);
    let (mut shots, mut about, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for (number, client) in clients.iter().enumerate() {
        let first = shots.len();
        for (gateway, &port) in ports.iter().enumerate() {
            for variant in 0..client.variants() {
                shots.push(Shot::new("GET", &client.path(variant), &client.id, port));
                about.push((gateway, variant as u64 + 1));
            }
        }
        for (nth, at) in moments(client.kind.rhythm, length.as_secs_f64(), &mut rng).into_iter().enumerate() {
            let gateway = gateway(client, nth, at) % ports.len();
            let shot = first + gateway * client.variants() + rng.usize(..client.variants());
            calls.push(Call { at: Duration::from_secs_f64(at), client: number as u32, shot: shot as u32 });
        }
    }
    calls.sort_by_key(|call| call.at);
    Program { plan: Plan { shots, calls, connections: 384, patience: Duration::from_secs(10) }, shots: about }
}

fn gateway(client: &Client, nth: usize, at: f64) -> usize {
    client.nth
        + match client.kind.way {
            Way::Fixed => 0,
            Way::Spread => nth,
            Way::Moving => (at / 0.7) as usize,
        }
}

/// Seconds after the start, ascending.
fn moments(rhythm: Rhythm, length: f64, rng: &mut Rng) -> Vec<f64> {
    let (size, spread, every) = match rhythm {
        Rhythm::Even(rate) => (1, 0.0, 1.0 / rate),
        Rhythm::Cron(size, every) => (size, 0.2, every),
        Rhythm::Bursts(size, every) => (size, 0.3, every),
    };
    let (mut at, mut all) = (rng.f64() * every, Vec::new());
    while at < length {
        all.extend((0..size).map(|n| at + spread * f64::from(n) / f64::from(size)));
        at += if matches!(rhythm, Rhythm::Bursts(..)) { every * (0.5 + rng.f64()) } else { every };
    }
    all.retain(|&at| at < length);
    all.sort_by(f64::total_cmp);
    all
}
