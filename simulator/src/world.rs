//! The world: time, messages, deaths.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use fastrand::Rng;
use weir_limiter::{Answer, Ask, Counter, Decision, LimitState, Mode, Table, Transaction, Worker};

use crate::checker::{SlidingLog, Violation, first_violation};
use crate::scene::{Scene, Traffic};
use crate::server::Server;

/// A request waits for a lease at most so long, as `weir_redis_timeout` says.
const TIMEOUT_MS: u64 = 20;
/// A connection that was cut comes up again after so long.
const RECONNECT_MS: u64 = 30;

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
    /// Requests refused although they came when Retry-After had said.
    pub transactions: u64,
    pub most_fields: usize,
    /// The lowest value that a field ever had at the server at the end.
    pub lowest_field: i64,
    pub violation: Option<Violation>,
}

enum Event {
    Arrive { client: usize },
    Execute { from: Address, transaction: Transaction },
    Reply { to: Address, id: u64, answer: Option<Answer> },
    GiveUp { at: Address, request: u64 },
    Tick { at: Address },
    Connect { to: Address },
    Connected { to: Address, sent: u64, time_ms: u64, life: u64 },
    WorkerDies,
    ServerRestarts,
    LimitChanges,
}

/// A worker, and which of its lives is meant: messages to a dead one are dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Address {
    gateway: usize,
    worker: usize,
    life: u64,
}

struct Waiting {
    request: u64,
    client: usize,
    cost: u64,
}

struct Process {
    worker: Worker,
    life: u64,
    connection: u64,
    waiting: Vec<Waiting>,
    next_tick: u64,
}

struct Gateway {
    table: Table,
    /// Its clock is the world's plus this.
    offset_ms: u64,
    processes: Vec<Process>,
}

struct World {
    scene: Scene,
    rng: Rng,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    next_event: u64,
    server: Server,
    gateways: Vec<Gateway>,
    counters: Vec<Arc<Counter>>,
    /// (from, amount).
    limits: Vec<(u64, u64)>,
    admitted: Vec<Vec<(u64, u64)>>,
    exact: Vec<SlidingLog>,
    /// What polite clients hold themselves to.
    polite: Vec<SlidingLog>,
    outcome: Outcome,
    next_request: u64,
    /// When each client's next request comes, ms.
    next_arrival: Vec<f64>,
}

/// Plays a scene to its end.
pub fn run(scene: &Scene) -> Outcome {
    let mut world = World::new(scene.clone());
    world.start();
    world.play();
    world.judge()
}

fn new_table() -> Table {
    let words = vec![0u64; Table::bytes_for(64) / 8].leak();
    // SAFETY: leaked, aligned to 8, and used through tables only. A run leaks some 40 KiB.
    unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, [1, 2]) }.expect("room for 64 keys")
}

impl World {
    fn new(scene: Scene) -> World {
        let mut rng = Rng::with_seed(scene.seed);
        let gateways = (0..scene.gateways)
            .map(|_| {
                let table = new_table();
                let process = |_| Process {
                    worker: new_worker(table, scene.gateways),
                    life: 0,
                    connection: 0,
                    waiting: Vec::new(),
                    next_tick: u64::MAX,
                };
                Gateway {
                    table,
                    offset_ms: rng.u64(1_000..1_000_000),
                    processes: (0..scene.workers).map(process).collect(),
                }
            })
            .collect();
        World {
            server: Server::new(1_700_000_000_000 + rng.i64(0..1_000_000)),
            gateways,
            counters: (0..scene.clients).map(|i| Counter::new(&format!("client-{i}"), ":requests")).collect(),
            limits: vec![(0, scene.amount)],
            admitted: vec![Vec::new(); scene.clients],
            exact: (0..scene.clients).map(|_| SlidingLog::new(scene.amount, scene.window_ms)).collect(),
            polite: (0..scene.clients)
                .map(|_| SlidingLog::new(scene.amount * 97 / 100, scene.window_ms * 102 / 100))
                .collect(),
            now: 0,
            queue: BinaryHeap::new(),
            events: std::collections::HashMap::new(),
            next_event: 0,
            outcome: Outcome::default(),
            next_request: 0,
            next_arrival: vec![0.0; scene.clients],
            scene,
            rng,
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.next_event += 1;
        self.queue.push(Reverse((time, self.next_event)));
        self.events.insert(self.next_event, event);
    }

    fn start(&mut self) {
        for gateway in 0..self.scene.gateways {
            for worker in 0..self.scene.workers {
                self.at(0, Event::Connect { to: Address { gateway, worker, life: 0 } });
            }
        }
        for client in 0..self.scene.clients {
            let first = 20 + self.rng.u64(..20);
            self.at(first, Event::Arrive { client });
        }
        let faults = self.scene.faults;
        self.later(faults.worker_deaths, Event::WorkerDies);
        self.later(faults.server_restarts, Event::ServerRestarts);
        if faults.limit_changes {
            let at = self.rng.u64(self.scene.window_ms..self.scene.length_ms);
            self.at(at, Event::LimitChanges);
        }
    }

    /// Schedules an event of a Poisson process of `rate` per second.
    fn later(&mut self, rate: f64, event: Event) {
        if rate > 0.0 {
            let wait = self.exponential(rate);
            self.at(self.now + wait as u64, event);
        }
    }

    fn exponential(&mut self, per_second: f64) -> f64 {
        -(1.0 - self.rng.f64()).ln() * 1000.0 / per_second
    }

    fn play(&mut self) {
        while let Some(Reverse((time, id))) = self.queue.pop() {
            if time > self.scene.length_ms {
                break;
            }
            self.now = time;
            if let Some(event) = self.events.remove(&id) {
                self.happen(event);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { client } => self.arrive(client),
            Event::Execute { from, transaction } => self.execute(from, &transaction),
            Event::Reply { to, id, answer } => self.reply(to, id, answer),
            Event::GiveUp { at, request } => self.give_up(at, request),
            Event::Tick { at } => self.tick(at),
            Event::Connect { to } => self.connect(to),
            Event::Connected { to, sent, time_ms, life } => self.connected(to, sent, time_ms, life),
            Event::WorkerDies => self.worker_dies(),
            Event::ServerRestarts => self.server_restarts(),
            Event::LimitChanges => self.limit_changes(),
        }
    }

    // ---- traffic ----

    fn arrive(&mut self, client: usize) {
        let gateway = match self.scene.traffic {
            Traffic::Moving => (self.now / (self.scene.window_ms / 2)) as usize % self.scene.gateways,
            _ => self.rng.usize(..self.scene.gateways),
        };
        let worker = self.rng.usize(..self.scene.workers);
        let cost = if self.scene.costs { [1, 1, 1, 2, 5][self.rng.usize(..5)] } else { 1 };
        if !self.scene.polite || self.polite[client].admit(self.now, cost) {
            self.arrive_at(gateway, worker, client, cost);
        }
        // Kept in fractions of a millisecond: bursts hold many requests in one.
        let next = self.next_arrival[client].max(self.now as f64) + self.pause();
        self.next_arrival[client] = next;
        self.at(next as u64, Event::Arrive { client });
    }

    fn arrive_at(&mut self, gateway: usize, worker: usize, client: usize, cost: u64) {
        self.next_request += 1;
        self.outcome.requests += 1;
        if self.exact[client].admit(self.now, cost) {
            self.outcome.exact_units += cost;
        }
        let request = Waiting { request: self.next_request, client, cost };
        self.request(gateway, worker, request, true);
        self.flush(gateway, worker);
    }

    /// Milliseconds to the next request of the same client.
    fn pause(&mut self) -> f64 {
        let (rate, window) = (self.scene.rate, self.scene.window_ms);
        let period = window + window / 600 + 1;
        match self.scene.traffic {
            Traffic::Steady | Traffic::Moving => self.exponential(rate),
            Traffic::Waves if (self.now * 3 / window).is_multiple_of(2) => self.exponential(rate * 2.0),
            Traffic::Waves => self.exponential(rate * 0.05),
            Traffic::Cron if self.now % period < window / 60 => self.exponential(rate * 60.0),
            Traffic::Cron => (period - self.now % period) as f64,
        }
    }

    fn request(&mut self, gateway: usize, worker: usize, waiting: Waiting, first: bool) {
        let (amount, window_ms) = (self.limits.last().expect("never empty").1, self.scene.window_ms);
        let counter = Arc::clone(&self.counters[waiting.client]);
        let ask = Ask { counter: &counter, amount, window_ms, cost: waiting.cost };
        let now = self.now + self.gateways[gateway].offset_ms;
        let process = &mut self.gateways[gateway].processes[worker];
        let mut states: Vec<LimitState> = Vec::new();
        match process.worker.decide(now, &[ask], &mut states) {
            Decision::Allow => {
                self.outcome.admitted += 1;
                self.outcome.units += waiting.cost;
                self.admitted[waiting.client].push((self.now, waiting.cost));
            }
            Decision::Refuse { .. } => self.outcome.refused += 1,
            Decision::Wait => {
                let (life, request) = (process.life, waiting.request);
                process.waiting.push(waiting);
                if first {
                    self.outcome.waited += 1;
                    self.at(
                        self.now + TIMEOUT_MS,
                        Event::GiveUp { at: Address { gateway, worker, life }, request },
                    );
                }
            }
            Decision::CannotDecide(_) => self.outcome.undecided += 1,
        }
    }

    fn give_up(&mut self, at: Address, request: u64) {
        let Some(process) = self.process(at) else {
            return;
        };
        let before = process.waiting.len();
        process.waiting.retain(|w| w.request != request);
        if process.waiting.len() < before {
            self.outcome.undecided += 1;
        }
    }

    // ---- messages ----

    fn process(&mut self, at: Address) -> Option<&mut Process> {
        let process = &mut self.gateways[at.gateway].processes[at.worker];
        (process.life == at.life).then_some(process)
    }

    fn delay(&mut self) -> u64 {
        let long = self.scene.faults.delay_ms;
        if self.rng.u8(..10) == 0 { self.rng.u64(..=long) } else { self.rng.u64(..=1.min(long)) }
    }

    fn is_lost(&mut self) -> bool {
        self.rng.f64() < self.scene.faults.loss
    }

    /// Sends what a worker has to say, and sees that its timer is set.
    fn flush(&mut self, gateway: usize, worker: usize) {
        let process = &mut self.gateways[gateway].processes[worker];
        let from = Address { gateway, worker, life: process.life };
        for transaction in process.worker.outgoing() {
            let delay = self.delay();
            let id = transaction.id;
            if self.is_lost() {
                self.at(self.now + 500, Event::Reply { to: from, id, answer: None });
            } else {
                self.at(self.now + delay, Event::Execute { from, transaction });
            }
        }
        let now = self.now + self.gateways[gateway].offset_ms;
        let process = &mut self.gateways[gateway].processes[worker];
        if let Some(next) = process.worker.next_due().map(|t| t.max(now + 1))
            && next < process.next_tick
        {
            process.next_tick = next;
            let at = self.now + (next - now);
            self.at(at, Event::Tick { at: from });
        }
    }

    fn execute(&mut self, from: Address, transaction: &Transaction) {
        let id = transaction.id;
        let answer = self.server.execute(self.now, transaction);
        let (delay, lost) = (self.delay(), self.is_lost());
        let answer = if lost { None } else { answer };
        self.at(self.now + if lost { 500 } else { delay }, Event::Reply { to: from, id, answer });
    }

    fn reply(&mut self, to: Address, id: u64, answer: Option<Answer>) {
        let now = self.now + self.gateways[to.gateway].offset_ms;
        let Some(process) = self.process(to) else {
            return;
        };
        match &answer {
            Some(answer) => process.worker.answered(now, id, answer),
            None => process.worker.lost(now, id),
        }
        for waiting in std::mem::take(&mut process.waiting) {
            self.request(to.gateway, to.worker, waiting, false);
        }
        self.flush(to.gateway, to.worker);
    }

    fn tick(&mut self, at: Address) {
        let now = self.now + self.gateways[at.gateway].offset_ms;
        let Some(process) = self.process(at) else {
            return;
        };
        process.next_tick = u64::MAX;
        process.worker.tick(now);
        self.flush(at.gateway, at.worker);
    }

    fn connect(&mut self, to: Address) {
        let sent = self.now + self.gateways[to.gateway].offset_ms;
        let (time_ms, life) = (self.server.time_ms(self.now), self.server.life);
        let delay = self.delay();
        self.at(self.now + delay, Event::Connected { to, sent, time_ms, life });
    }

    fn connected(&mut self, to: Address, sent: u64, time_ms: u64, life: u64) {
        let now = self.now + self.gateways[to.gateway].offset_ms;
        let Some(process) = self.process(to) else {
            return;
        };
        if life < process.connection {
            return;
        }
        process.connection = life;
        process.worker.connected(sent, now, time_ms, life);
        self.flush(to.gateway, to.worker);
    }

    // ---- deaths and changes ----

    fn worker_dies(&mut self) {
        let gateway = self.rng.usize(..self.scene.gateways);
        let worker = self.rng.usize(..self.scene.workers);
        let table = self.gateways[gateway].table;
        let process = &mut self.gateways[gateway].processes[worker];
        let (life, lost) = (process.life + 1, process.waiting.len());
        *process = Process {
            worker: new_worker(table, self.scene.gateways),
            life,
            connection: 0,
            waiting: Vec::new(),
            next_tick: u64::MAX,
        };
        self.outcome.undecided += lost as u64;
        self.at(self.now, Event::Connect { to: Address { gateway, worker, life } });
        self.later(self.scene.faults.worker_deaths, Event::WorkerDies);
    }

    fn server_restarts(&mut self) {
        self.server.restart(!self.scene.faults.amnesia);
        for gateway in 0..self.scene.gateways {
            for worker in 0..self.scene.workers {
                let process = &mut self.gateways[gateway].processes[worker];
                process.worker.link(false);
                let to = Address { gateway, worker, life: process.life };
                let wait = self.rng.u64(..RECONNECT_MS);
                self.at(self.now + wait, Event::Connect { to });
            }
        }
        self.later(self.scene.faults.server_restarts, Event::ServerRestarts);
    }

    fn limit_changes(&mut self) {
        let amount = self.rng.u64(1..=2 * self.scene.amount);
        self.limits.push((self.now, amount));
    }

    // ---- judgement ----

    fn judge(mut self) -> Outcome {
        self.outcome.transactions = self.server.transactions;
        self.outcome.most_fields = self.server.most_fields();
        self.outcome.lowest_field = self.server.lowest();
        let (window, limits) = (self.scene.window_ms, &self.limits);
        let mut violations =
            self.admitted.iter().enumerate().filter_map(|(i, a)| first_violation(i, a, window, limits));
        self.outcome.violation = violations.next();
        self.outcome
    }
}

fn new_worker(table: Table, gateways: usize) -> Worker {
    // In this world a dead worker never holds a lock: it dies between events.
    let mut worker = Worker::new(table, Mode::Shared, 1, |_| true);
    worker.set_gateways(gateways as u32);
    worker
}
