//! The thread beside nginx's event loop, and its handle.

use std::sync::mpsc::RecvTimeoutError::Disconnected;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use weir_limiter::Transaction;

use crate::cluster::Cluster;
use crate::crowd::Crowd;
use crate::dial::Role;
use crate::error::LinkError;
use crate::exchange::{Failure, answer, commands, key, run};
use crate::follow::{Follow, Follower};
use crate::gate::{Gate, Pass};
use crate::keeper::{Beacon, Home, Keeper, too_slow};
use crate::mailbox::{Event, Mailbox, Ticket};
use crate::options::{LinkOptions, Plan};
use crate::place::Place;

/// More transactions than this under way at once are lost: it bounds the memory of a worker whose
/// Redis has stopped.
const MAX_OUTSTANDING: usize = 10_000;

/// What the thread may need beyond a deadline to come to its end.
const GRACE: Duration = Duration::from_millis(500);

/// A worker process's connection to Redis. Dropping it ends the thread without flushing.
pub struct Link {
    mailbox: Arc<Mailbox>,
    crowd: Arc<Crowd>,
    /// Gone once the link is closed.
    queue: Option<UnboundedSender<Ticket>>,
    stop: Option<oneshot::Sender<Duration>>,
    thread: Option<JoinHandle<()>>,
    /// Closed by the thread's end. The lock makes the link shareable, it is never contended.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Link {
    /// Checks addresses, names and files, without touching the network.
    pub fn check(options: &LinkOptions) -> Result<(), LinkError> {
        Plan::new(options.clone()).map(drop)
    }

    /// Starts the thread. Redis may be away: the link is down until it was reached.
    ///
    /// `wake` is called from any thread when events begin to wait for [`Link::take`]; it must
    /// neither block nor panic.
    pub fn start(options: LinkOptions, wake: Box<dyn Fn() + Send + Sync>) -> Result<Link, LinkError> {
        Link::start_following(options, None, wake)
    }

    /// The same for a gateway that also follows what is published.
    pub fn start_following(
        options: LinkOptions,
        follow: Option<Follow>,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Link, LinkError> {
        let plan = Plan::new(options)?;
        let mailbox = Mailbox::new(wake);
        let crowd = Crowd::new(mailbox.clone(), matches!(plan.place, Place::Cluster { .. }));
        let (queue, tickets) = unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let (fleet, tender) = fleet(&plan, &crowd, &mailbox);
        let follower =
            follow.map(|follow| Follower::new(plan.clone(), fleet.clone(), mailbox.clone(), follow));
        let pump = Pump { plan, fleet: fleet.clone() };
        let runtime = runtime()?;
        let thread = spawn_without_signals(move || {
            // Dropped in reverse order, also by a panic: first the gates close.
            let _end = end;
            let _last_words = LastWords(fleet);
            live(runtime, tender, follower, pump, tickets, stopped);
        })?;
        Ok(Link {
            mailbox,
            crowd,
            queue: Some(queue),
            stop: Some(stop),
            thread: Some(thread),
            ended: Mutex::new(ended),
        })
    }

    /// Hands a transaction over; its `Answer` or `Lost` comes as an event. Never blocks.
    pub fn send(&self, transaction: Transaction) {
        let ticket = Ticket::new(transaction, &self.mailbox);
        if let Err(why) = self.may_send() {
            return ticket.lose(&why);
        }
        if let Some(queue) = &self.queue {
            // A ticket that comes back is dropped, which counts as lost.
            let _ = queue.send(ticket);
        }
    }

    fn may_send(&self) -> Result<(), Arc<str>> {
        if !self.crowd.is_up() {
            return Err(self.crowd.why());
        }
        match self.mailbox.outstanding() > MAX_OUTSTANDING {
            true => Err("too many transactions wait for Redis".into()),
            false => Ok(()),
        }
    }

    /// All events since the last call, in order.
    pub fn take(&self) -> Vec<Event> {
        self.mailbox.take()
    }

    /// Whether the server, or one of several, answered in time the last time it was asked.
    pub fn is_up(&self) -> bool {
        self.crowd.is_up()
    }

    /// Sends what is queued, waits for the answers as far as `deadline` allows and ends the thread.
    pub fn close(mut self, deadline: Duration) {
        self.shut(deadline);
    }

    fn shut(&mut self, deadline: Duration) {
        self.queue = None;
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(deadline);
        }
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let is_over = ended.recv_timeout(deadline.saturating_add(GRACE)) == Err(Disconnected);
        // A thread that is stuck in the system is left alone: it must not keep nginx from ending.
        if let Some(thread) = self.thread.take().filter(|_| is_over) {
            let _ = thread.join();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shut(Duration::ZERO);
        }
    }
}

/// The servers, and what takes care of them.
#[derive(Clone)]
pub enum Fleet {
    One(Arc<Gate>),
    Cluster(Arc<Cluster>),
}

enum Tender {
    One(Box<Keeper>),
    Cluster(Arc<Cluster>),
}

fn fleet(plan: &Plan, crowd: &Arc<Crowd>, mailbox: &Arc<Mailbox>) -> (Fleet, Tender) {
    let home = match plan.place.clone() {
        Place::One(address) => Home::At(address, Role::Single),
        Place::Sentinel { sentinels, master } => Home::Sentinel { sentinels, master },
        Place::Cluster { .. } => {
            let cluster = Cluster::new(plan.clone(), crowd.clone(), mailbox.clone());
            return (Fleet::Cluster(cluster.clone()), Tender::Cluster(cluster));
        }
    };
    let gate = Gate::new(crowd.clone(), "Redis".into());
    // The sender may go: what is announced there never changes.
    let (_, beacon) = watch::channel(Beacon { key: plan.gateways_key(), counts: true });
    let keeper = Keeper::new(plan.clone(), home, beacon, gate.clone(), mailbox.clone());
    (Fleet::One(gate), Tender::One(Box::new(keeper)))
}

impl Fleet {
    /// The gate that a key is behind.
    pub fn gate(&self, key: &str) -> Result<Arc<Gate>, Arc<str>> {
        match self {
            Fleet::One(gate) => Ok(gate.clone()),
            Fleet::Cluster(cluster) => cluster.gate(key),
        }
    }
}

impl Tender {
    async fn run(self) {
        match self {
            Tender::One(keeper) => keeper.run().await,
            Tender::Cluster(cluster) => cluster.run().await,
        }
    }
}

/// Closes the gates when the thread ends, whatever ends it.
struct LastWords(Fleet);

impl Drop for LastWords {
    fn drop(&mut self) {
        let why = "the thread for Redis has ended".into();
        match &self.0 {
            Fleet::One(gate) => gate.close(&why),
            Fleet::Cluster(cluster) => cluster.close(&why),
        }
    }
}

fn runtime() -> Result<Runtime, LinkError> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // For look-ups of host names, and beside them for what comes of a published policy.
        .max_blocking_threads(2)
        .build()
        .map_err(LinkError::Thread)
}

/// The thread's body.
fn live(
    runtime: Runtime,
    tender: Tender,
    follower: Option<Follower>,
    pump: Pump,
    tickets: UnboundedReceiver<Ticket>,
    stopped: oneshot::Receiver<Duration>,
) {
    runtime.block_on(async {
        tokio::select! {
            () = tender.run() => {}
            () = followed(follower) => {}
            () = pump.run(tickets) => {}
            () = deadline(stopped) => {}
        }
    });
    // Not a plain drop, which would wait for a look-up of a host name.
    runtime.shutdown_background();
}

async fn followed(follower: Option<Follower>) {
    match follower {
        Some(follower) => follower.run().await,
        None => std::future::pending().await,
    }
}

async fn deadline(stopped: oneshot::Receiver<Duration>) {
    sleep(stopped.await.unwrap_or_default()).await;
}

/// Takes tickets from the queue and sees each through. Ends when the queue is closed and all are
/// through.
struct Pump {
    plan: Plan,
    fleet: Fleet,
}

impl Pump {
    async fn run(self, mut tickets: UnboundedReceiver<Ticket>) {
        let mut flights = JoinSet::new();
        loop {
            tokio::select! {
                ticket = tickets.recv() => match ticket {
                    Some(ticket) => self.launch(ticket, &mut flights),
                    None => break,
                },
                Some(_) = flights.join_next() => {}
            }
        }
        while flights.join_next().await.is_some() {}
    }

    fn launch(&self, ticket: Ticket, flights: &mut JoinSet<()>) {
        // All parts share a hash tag, and so a server.
        let Some(first) = ticket.transaction.parts.first() else {
            return ticket.lose(&"there is nothing in it".into());
        };
        let found = self.fleet.gate(&key(&self.plan.options.prefix, &first.counter));
        let (gate, pass) = match found.and_then(|gate| gate.pass().map(|pass| (gate, pass))) {
            Ok(found) => found,
            Err(why) => return ticket.lose(&why),
        };
        let life = ticket.transaction.life;
        if life != 0 && life != pass.line.life {
            return ticket.moved();
        }
        let flight = Flight {
            pass,
            gate,
            fleet: self.fleet.clone(),
            limit: self.plan.options.timeout,
            commands: commands(&self.plan.options.prefix, &ticket.transaction),
        };
        flights.spawn(flight.run(ticket));
    }
}

/// One transaction on its way.
struct Flight {
    pass: Pass,
    gate: Arc<Gate>,
    fleet: Fleet,
    limit: Duration,
    commands: redis::Pipeline,
}

impl Flight {
    async fn run(self, ticket: Ticket) {
        let Flight { pass, gate, fleet, limit, commands } = self;
        let exchange = run(&pass.line, commands);
        tokio::pin!(exchange);
        let outcome = match timeout(limit, &mut exchange).await {
            Ok(outcome) => outcome,
            Err(_) => {
                gate.close_for(&pass, &too_slow(limit));
                // It may have been carried out: its late answer is worth having.
                exchange.await
            }
        };
        let life = pass.line.life;
        match outcome.and_then(|items| answer(&ticket.transaction, life, items)) {
            Ok(answer) => ticket.answer(answer),
            Err(failure) => match take_failure(&failure, &pass, &gate, &fleet) {
                Fate::Lost => ticket.lose(failure.why()),
                Fate::Moved => ticket.moved(),
            },
        }
    }
}

enum Fate {
    Lost,
    Moved,
}

/// A failure that concerns more than its own keys closes the gate, before the loss is told.
fn take_failure(failure: &Failure, pass: &Pass, gate: &Gate, fleet: &Fleet) -> Fate {
    match (failure, fleet) {
        (Failure::Spoilt(_), _) => return Fate::Lost,
        (Failure::Elsewhere { to, .. }, Fleet::Cluster(cluster)) => {
            return if cluster.sent_elsewhere(to.as_ref()) { Fate::Moved } else { Fate::Lost };
        }
        (Failure::Broken(why) | Failure::Elsewhere { why, .. }, _) => pass.line.ending.end(why),
        (Failure::Refused(refusal), _) if refusal.wants_new_connection => {
            pass.line.ending.end(&refusal.why);
        }
        (Failure::Refused(_), _) => {}
    }
    gate.close_for(pass, failure.why());
    Fate::Lost
}

/// Starts a thread that no signal is delivered to: nginx's handlers belong to nginx's thread. A
/// thread inherits the mask, so it is set around the start; threads that the new one starts inherit
/// it in turn.
fn spawn_without_signals(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LinkError> {
    let _blocked = SignalsBlocked::now();
    std::thread::Builder::new().name("weir-redis".into()).spawn(body).map_err(LinkError::Thread)
}

/// All signals blocked in this thread, until dropped.
struct SignalsBlocked {
    before: libc::sigset_t,
}

impl SignalsBlocked {
    fn now() -> SignalsBlocked {
        // SAFETY: both sets are plain data on this stack, for which all zeros is a valid value;
        // sigfillset and pthread_sigmask only write to what they are given.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            SignalsBlocked { before }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the call in `now`; a null pointer asks for no old mask.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut());
        }
    }
}
