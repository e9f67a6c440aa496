//! The world: time and what happens in it. Traffic, messages and troubles are in modules of their own.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fastrand::Rng;
use weir_limiter::trial::{Mutant, break_rule};
use weir_limiter::{Answer, Counter, Transaction};

use crate::fault::Fault;
use crate::judge::{Failure, Judge};
use crate::process::{Fleet, Request};
use crate::scene::{Scene, Whose};
use crate::server::Server;
use crate::story::Story;
use crate::window::SlidingLog;

mod link;
mod traffic;
mod trouble;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub requests: u64,
    pub admitted: u64,
    pub refused: u64,
    /// Could not be decided in time (denied).
    pub undecided: u64,
    pub waited: u64,
    /// Units that an exact sliding log admits of the same arrivals, and that were admitted here.
    pub exact_units: u64,
    pub units: u64,
    pub transactions: u64,
    /// The most fields of a key at the server, at the end.
    pub most_fields: usize,
    pub failure: Option<Failure>,
    pub story: Story,
}

enum Event {
    Arrive {
        client: usize,
    },
    /// A client comes back with the same request when it was told to.
    ComeBack {
        request: Request,
    },
    Execute {
        from: usize,
        connection: u32,
        transaction: Box<Transaction>,
    },
    Reply {
        to: usize,
        connection: u32,
        id: u64,
        answer: Option<Box<Answer>>,
    },
    GiveUp {
        at: usize,
        request: u64,
    },
    Tick {
        at: usize,
    },
    Connect {
        to: usize,
    },
    Connected {
        to: usize,
        sent: u64,
        time_ms: u64,
        life: u64,
    },
    Charge {
        at: usize,
        key: usize,
        bytes: u64,
    },
    Known {
        gateway: usize,
        key: usize,
        bytes: u64,
        deaths: u64,
        /// Transactions that the gateway had lost on the key by then.
        lost: u64,
    },
    Resume {
        at: usize,
    },
    Close {
        at: usize,
    },
    Gone {
        at: usize,
    },
    GatewayBack {
        gateway: usize,
    },
    Replicate,
    Trouble(Fault),
}

/// An event and its moment; events of one moment happen in the order in which they were planned.
struct Entry {
    time: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

/// One counter: a limit, of one client or of all.
struct Key {
    limit: usize,
    /// Of whom; 0 where it is everybody's.
    client: usize,
    counter: Arc<Counter>,
    /// What polite clients hold themselves to.
    polite: SlidingLog,
}

struct World<'a> {
    scene: &'a Scene,
    mutant: Option<Mutant>,
    now: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    events: u64,
    server: Server,
    /// Until then the server does nothing.
    busy_until: u64,
    fleet: Fleet,
    keys: Vec<Key>,
    /// The keys of each client, one for each limit.
    keys_of: Vec<Vec<usize>>,
    /// Dice of each client, so that a fault left out does not change what clients do.
    dice: Vec<Rng>,
    network: Rng,
    /// Transactions that were lost on their way to the server, of each gateway on each key of bytes.
    lost: HashMap<(usize, usize), u64>,
    /// When each client's next request comes, ms.
    next_arrival: Vec<f64>,
    requests: u64,
    judge: Judge,
    outcome: Outcome,
}

/// Plays a scene to its end.
pub fn run(scene: &Scene) -> Outcome {
    run_broken(scene, None, false)
}

/// Plays a scene with a rule of the algorithm broken, and tells its story if that is wanted.
pub fn run_broken(scene: &Scene, mutant: Option<Mutant>, story: bool) -> Outcome {
    break_rule(mutant);
    let play = || {
        let mut world = World::new(scene, mutant, story);
        world.start();
        world.play();
        world.end()
    };
    let outcome = catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()));
        let failure = Some(Failure::Panicked(text.unwrap_or_default()));
        Outcome { failure, ..Outcome::default() }
    });
    break_rule(None);
    outcome
}

impl<'a> World<'a> {
    fn new(scene: &'a Scene, mutant: Option<Mutant>, story: bool) -> World<'a> {
        let dice = |n: u64| Rng::with_seed(scene.seed.wrapping_mul(1_000_003) ^ (scene.luck << 32) ^ n);
        let mut keys: Vec<Key> = Vec::new();
        let mut keys_of = vec![Vec::new(); scene.clients];
        for (limit, spec) in scene.limits.iter().enumerate() {
            let all = spec.whose == Whose::Everyone;
            let first = keys.len();
            for client in 0..if all { 1 } else { scene.clients } {
                let tag = if all { "everyone".to_owned() } else { format!("client-{client}") };
                let counter = Counter::new(&tag, &format!(":{limit}:{}", spec.window_ms));
                let polite = SlidingLog::new(spec.amount * 97 / 100, spec.window_ms * 102 / 100);
                keys.push(Key { limit, client, counter, polite });
            }
            for (client, keys) in keys_of.iter_mut().enumerate() {
                keys.push(if all { first } else { first + client });
            }
        }
        let names: Vec<(usize, usize)> = keys.iter().map(|k| (k.limit, k.client)).collect();
        let mut network = dice(1);
        let mut server = Server::new(1_700_000_000_000 + network.i64(0..1_000_000));
        server.drift_ppm = scene.drift_ppm;
        World {
            scene,
            mutant,
            now: 0,
            queue: BinaryHeap::with_capacity(256),
            events: 0,
            server,
            busy_until: 0,
            fleet: Fleet::new(scene),
            keys,
            keys_of,
            dice: (0..scene.clients as u64).map(|c| dice(1_000 + c)).collect(),
            network,
            lost: HashMap::new(),
            next_arrival: vec![0.0; scene.clients],
            requests: 0,
            judge: Judge::new(scene, &names),
            outcome: Outcome { story: Story::new(story), ..Outcome::default() },
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.events += 1;
        self.queue.push(Reverse(Entry { time, number: self.events, event }));
    }

    fn start(&mut self) {
        for gateway in 0..self.scene.gateways {
            let offset = self.network.u64(1_000..1_000_000);
            self.fleet.add_gateway(offset);
            for _ in 0..self.scene.workers {
                self.spawn(gateway);
            }
        }
        for client in 0..self.scene.clients {
            let first = 20 + self.dice[client].u64(..20);
            self.at(first, Event::Arrive { client });
        }
        for planned in &self.scene.plan {
            if let Fault::Failover { lag_ms } = planned.fault {
                self.at(planned.at_ms.saturating_sub(lag_ms), Event::Replicate);
            }
            self.at(planned.at_ms, Event::Trouble(planned.fault));
        }
    }

    fn play(&mut self) {
        while let Some(Reverse(Entry { time, event, .. })) = self.queue.pop() {
            if time > self.scene.length_ms {
                break;
            }
            self.now = time;
            self.happen(event);
            while let Some(id) = self.fleet.fallen.pop() {
                self.worker_died(id);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { client } => self.arrive(client),
            Event::ComeBack { request } => self.come_back(request),
            Event::Execute { from, connection, transaction } => self.execute(from, connection, transaction),
            Event::Reply { to, connection, id, answer } => self.reply(to, connection, id, answer),
            Event::GiveUp { at, request } => self.give_up(at, request),
            Event::Tick { at } => self.tick(at),
            Event::Connect { to } => self.connect(to),
            Event::Connected { to, sent, time_ms, life } => self.connected(to, sent, time_ms, life),
            Event::Charge { at, key, bytes } => self.charge(at, key, bytes),
            Event::Known { gateway, key, bytes, deaths, lost } => {
                self.known(gateway, key, bytes, deaths, lost)
            }
            Event::Resume { at } => self.resume(at),
            Event::Close { at } => self.close(at),
            Event::Gone { at } => self.gone(at),
            Event::GatewayBack { gateway } => self.gateway_back(gateway),
            Event::Replicate => self.server.replicate(),
            Event::Trouble(fault) => self.trouble(fault),
        }
    }

    /// A worker of a gateway starts and connects.
    fn spawn(&mut self, gateway: usize) {
        let lag = if self.scene.lag_ms > 0 { self.network.u64(..=self.scene.lag_ms) } else { 0 };
        let id = self.fleet.spawn(gateway, lag);
        self.at(self.now, Event::Connect { to: id });
    }

    /// Has an event wait where its worker is stopped. True where it does.
    fn postponed(&mut self, id: usize, event: impl FnOnce() -> Event) -> bool {
        let Some(until) = self.fleet.stopped_until(id) else {
            return false;
        };
        self.at(until + 1, event());
        true
    }

    /// Which worker of which gateway that is, in a story.
    fn name(&self, id: usize) -> String {
        let Some(process) = &self.fleet.processes[id] else {
            return format!("process {id}");
        };
        format!("process {id} of gateway {}", process.gateway)
    }

    fn end(mut self) -> Outcome {
        self.outcome.transactions = self.server.transactions;
        self.outcome.most_fields = self.server.most_fields();
        self.outcome.exact_units = self.judge.exact_units;
        self.outcome.units = self.judge.units;
        self.outcome.failure = self.judge.verdict(self.scene);
        self.outcome
    }
}
