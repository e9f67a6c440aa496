//! Gateways, their shared memory and their worker processes, which may die or stop at any store.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use weir_limiter::trial::{self, Mutant, die, watch_stores};
use weir_limiter::{Ask, Counter, Decision, Mode, Table, Worker};

use crate::scene::{Kind, Scene};

/// Pids are unique among all worlds of this process, which may be played side by side.
static NEXT_PID: AtomicU64 = AtomicU64::new(1);
static DEAD: RwLock<BTreeSet<u64>> = RwLock::new(BTreeSet::new());

fn is_alive(pid: u64) -> bool {
    DEAD.read().is_ok_and(|dead| !dead.contains(&pid))
}

thread_local! {
    /// Regions of shared memory that earlier worlds of this thread are done with.
    static FREE: RefCell<Vec<&'static mut [u64]>> = const { RefCell::new(Vec::new()) };
}

/// A request under way.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub id: u64,
    pub client: usize,
    pub cost: u64,
    pub bytes: u64,
    /// Its client was told that it would be served now.
    pub promised: bool,
}

/// One limit as asked for a request; owned, so that another thread can ask.
#[derive(Clone)]
pub(crate) struct Asked {
    pub key: usize,
    pub counter: Arc<Counter>,
    pub amount: u64,
    pub window_ms: u64,
    pub cost: u64,
}

impl Asked {
    pub fn ask(&self) -> Ask<'_> {
        Ask {
            counter: &self.counter,
            amount: self.amount,
            window_ms: self.window_ms,
            cost: self.cost,
            until: u64::MAX,
        }
    }
}

/// A worker that was stopped in the middle of a decision.
pub(crate) struct Stopped {
    /// Whether to go on or to die.
    orders: Sender<bool>,
    thread: JoinHandle<(Worker, Decision)>,
    pub request: Request,
    pub asked: Vec<Asked>,
    /// World time of the decision, and of its going on.
    pub since: u64,
    pub until: u64,
}

pub(crate) struct Process {
    /// None while it is stopped.
    worker: Option<Worker>,
    pub gateway: usize,
    pub pid: u64,
    /// Transactions that are neither answered nor lost.
    pub in_flight: Vec<u64>,
    pub waiting: Vec<Request>,
    /// Requests whose bytes are still to be charged: (key, bytes).
    pub open: Vec<(usize, u64)>,
    pub next_tick: u64,
    /// Times at which the last message of its connection is executed and answered.
    pub last_executed: u64,
    pub last_answered: u64,
    /// Connections that it had before.
    pub connection: u32,
    /// Dies before so many more stores.
    pub doom: Option<u32>,
    /// Stops before this store of its next decision, for so long.
    pub halt: Option<(u32, u64)>,
    pub stopped: Option<Stopped>,
    pub closing: bool,
    /// How late it learns of changes.
    pub lag_ms: u64,
}

pub(crate) struct Gateway {
    memory: Option<&'static mut [u64]>,
    table: Table,
    /// Its clock is the world's plus this.
    pub offset_ms: u64,
    /// Processes that take requests.
    pub active: Vec<usize>,
    pub dead: bool,
    /// Processes that died here.
    pub deaths: u64,
}

/// All gateways and processes.
pub(crate) struct Fleet {
    pub gateways: Vec<Gateway>,
    /// None once dead; numbers are not used again.
    pub processes: Vec<Option<Process>>,
    /// Died in the last call, to be replaced.
    pub fallen: Vec<usize>,
    pub counted: u32,
    mode: Mode,
    keys: usize,
    dead: Vec<u64>,
}

impl Fleet {
    pub fn new(scene: &Scene) -> Fleet {
        let mode = if scene.kind == Kind::Alone { Mode::Alone } else { Mode::Shared };
        // Two segments, so that a limit over all clients may need a second lock.
        let keys = if scene.small_zone { 32 } else { 128 };
        let counted = scene.gateways as u32;
        Fleet {
            gateways: Vec::new(),
            processes: Vec::new(),
            fallen: Vec::new(),
            counted,
            mode,
            keys,
            dead: Vec::new(),
        }
    }

    pub fn add_gateway(&mut self, offset_ms: u64) {
        let (memory, table) = new_table(self.keys);
        self.gateways.push(Gateway {
            memory: Some(memory),
            table,
            offset_ms,
            active: Vec::new(),
            dead: false,
            deaths: 0,
        });
    }

    /// The machine comes back with empty memory.
    pub fn renew_memory(&mut self, gateway: usize) {
        let gateway = &mut self.gateways[gateway];
        if let Some(memory) = gateway.memory.take() {
            FREE.with_borrow_mut(|free| free.push(memory));
        }
        let (memory, table) = new_table(self.keys);
        (gateway.memory, gateway.table, gateway.dead) = (Some(memory), table, false);
    }

    /// Starts a worker of a gateway.
    pub fn spawn(&mut self, gateway: usize, lag_ms: u64) -> usize {
        let pid = NEXT_PID.fetch_add(1, Ordering::Relaxed);
        let mut worker = Worker::new(self.gateways[gateway].table, self.mode, pid, is_alive);
        worker.set_gateways(self.counted);
        let id = self.processes.len();
        self.processes.push(Some(Process {
            worker: Some(worker),
            gateway,
            pid,
            in_flight: Vec::new(),
            waiting: Vec::new(),
            open: Vec::new(),
            next_tick: u64::MAX,
            last_executed: 0,
            last_answered: 0,
            connection: 0,
            doom: None,
            halt: None,
            stopped: None,
            closing: false,
            lag_ms,
        }));
        self.gateways[gateway].active.push(id);
        id
    }

    pub fn get(&mut self, id: usize) -> Option<&mut Process> {
        self.processes[id].as_mut()
    }

    /// Until when a process is stopped.
    pub fn stopped_until(&self, id: usize) -> Option<u64> {
        self.processes[id].as_ref()?.stopped.as_ref().map(|s| s.until)
    }

    /// Lets a worker do something at world time `now`. None where it is dead, or dies of it.
    pub fn call<R>(&mut self, now: u64, id: usize, act: impl FnOnce(&mut Worker, u64) -> R) -> Option<R> {
        if self.fallen.contains(&id) {
            return None;
        }
        let process = self.processes[id].as_mut()?;
        let now = now + self.gateways[process.gateway].offset_ms;
        let worker = process.worker.as_mut()?;
        let Some(stores) = process.doom else {
            return Some(act(worker, now));
        };
        let left = Rc::new(Cell::new(stores));
        let counter = Rc::clone(&left);
        watch_stores(Some(Box::new(move || match counter.get() {
            0 => die(),
            n => counter.set(n - 1),
        })));
        let result = catch_unwind(AssertUnwindSafe(|| act(worker, now)));
        let died = trial::died();
        watch_stores(None);
        process.doom = Some(left.get());
        match result {
            Ok(value) => Some(value),
            Err(_) if died => {
                self.fallen.push(id);
                None
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Decides a request, or stops in the middle of it where that is planned: then there is no
    /// decision yet. The first number is the store before which it stops.
    pub fn decide_and_stop(
        &mut self,
        now: u64,
        id: usize,
        halt: (u32, u64),
        request: &Request,
        asked: &[Asked],
        mutant: Option<Mutant>,
    ) -> Option<Decision> {
        let process = self.processes[id].as_mut()?;
        let local = now + self.gateways[process.gateway].offset_ms;
        let mut worker = process.worker.take()?;
        let (orders, receiver) = channel::<bool>();
        let (report, reached) = channel::<()>();
        let asks = asked.to_vec();
        let thread = std::thread::spawn(move || {
            trial::break_rule(mutant);
            let mut left = halt.0;
            watch_stores(Some(Box::new(move || {
                left = left.wrapping_sub(1);
                if left == 0 && (report.send(()).is_err() || receiver.recv() != Ok(true)) {
                    die();
                }
            })));
            let asks: Vec<Ask<'_>> = asks.iter().map(Asked::ask).collect();
            let decision = worker.decide(local, &asks, &mut Vec::new());
            watch_stores(None);
            (worker, decision)
        });
        if reached.recv().is_ok() {
            let (request, asked) = (request.clone(), asked.to_vec());
            process.stopped =
                Some(Stopped { orders, thread, request, asked, since: now, until: now + halt.1 });
            return None;
        }
        // It was done before it came to that store.
        let (worker, decision) = thread.join().expect("a decision does not panic");
        process.worker = Some(worker);
        Some(decision)
    }

    /// A stopped worker goes on with what it was at.
    pub fn resume(&mut self, id: usize) -> Option<(Stopping, Decision)> {
        let process = self.processes[id].as_mut()?;
        let stopped = process.stopped.take()?;
        stopped.orders.send(true).ok()?;
        let (worker, decision) = stopped.thread.join().expect("a decision does not panic");
        process.worker = Some(worker);
        Some((Stopping { request: stopped.request, asked: stopped.asked, since: stopped.since }, decision))
    }

    /// The end of a process. Its locks stay as they are.
    pub fn bury(&mut self, id: usize) -> Option<Process> {
        let mut process = self.processes[id].take()?;
        if let Some(stopped) = process.stopped.take() {
            let _ = stopped.orders.send(false);
            let _ = stopped.thread.join();
        }
        self.gateways[process.gateway].active.retain(|&p| p != id);
        self.gateways[process.gateway].deaths += 1;
        self.dead.push(process.pid);
        if let Ok(mut dead) = DEAD.write() {
            dead.insert(process.pid);
        }
        Some(process)
    }
}

/// What a stopped worker was at.
pub(crate) struct Stopping {
    pub request: Request,
    pub asked: Vec<Asked>,
    pub since: u64,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for id in 0..self.processes.len() {
            self.bury(id);
        }
        if let Ok(mut dead) = DEAD.write() {
            dead.retain(|pid| !self.dead.contains(pid));
        }
        for gateway in &mut self.gateways {
            if let Some(memory) = gateway.memory.take() {
                FREE.with_borrow_mut(|free| free.push(memory));
            }
        }
    }
}

fn new_table(keys: usize) -> (&'static mut [u64], Table) {
    let words = Table::bytes_for(keys) / 8;
    let fits = |free: &mut Vec<&'static mut [u64]>| {
        free.iter().position(|m| m.len() == words).map(|i| free.swap_remove(i))
    };
    let memory = FREE.with_borrow_mut(fits).unwrap_or_else(|| vec![0u64; words].leak());
    // SAFETY: leaked, aligned to 8, and used by nobody else until it is given back, when all tables
    // and workers on it are gone.
    let table = unsafe { Table::create(memory.as_mut_ptr().cast(), words * 8, [1, 2]) };
    (memory, table.expect("room for the keys of a scene"))
}
