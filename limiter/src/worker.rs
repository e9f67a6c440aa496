//! Decisions: may this request pass, and if not, when will it?

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::cell::{Cell, Field};
use crate::lease::{Known, Sent};
use crate::lives::Lives;
use crate::table::{Busy, Guard, Hashed, Place, Table};
use crate::wire::{Counter, Transaction};

/// Who else counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// This gateway alone: its shared memory is the authority.
    Alone,
    /// Several gateways: units are leased from a server.
    Shared,
}

/// One limit that applies to a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub counter: &'a Arc<Counter>,
    /// At most so many units ...
    pub amount: u64,
    /// ... in any interval of this length.
    pub window_ms: u64,
    /// Units of this request; 0 where they are known only afterwards (bytes): then it passes while
    /// fewer than `amount` are counted, and [`Worker::charge`] takes what it cost.
    pub cost: u64,
    /// Gateway time after which nobody asks for this counter any more, since another has taken its
    /// place: the end of a calendar period. `u64::MAX` for a window that slides.
    pub until: u64,
}

impl Ask<'_> {
    /// A time to wait, in ms: there is room again at the latest when the counter gives way to another.
    pub(crate) fn at_most(&self, now: u64, wait_ms: u64) -> u64 {
        wait_ms.min(self.until.saturating_sub(now))
    }

    /// Notes in the key's cell that it is asked for.
    pub(crate) fn touch(&self, cell: &Cell<'_>, now: u64) {
        cell.touch(now, self.window_ms);
        cell.set(Field::Until, self.until);
    }
}

/// What is left of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Units left, as far as this gateway knows.
    pub remaining: u64,
    /// Milliseconds until the oldest counted unit leaves the window; the window where none counts; no
    /// more than until the counter gives way to another.
    pub reset_ms: u64,
}

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It passes; all its limits are charged.
    Allow,
    /// It does not, and nothing is charged. `by` is the limit (index in the asks) that will be the
    /// last to have room again, after `retry_after_ms`.
    Refuse { by: usize, retry_after_ms: u64 },
    /// A lease is on its way: ask again when a transaction was answered, or fall back in the end.
    Wait,
    /// Neither yes nor no can be justified; see [`Worker::decide_fallback`].
    CannotDecide(Why),
}

/// Why nothing can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A lock is held by a process that lives but does not run.
    Busy,
    /// More limits apply than a request can have.
    TooMany,
    /// No server was heard yet.
    NoClock,
    /// The server can't be reached.
    Down,
    /// The last transaction on one of the keys failed.
    Lost,
}

/// What to do when it cannot be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This gateway takes its share, `amount / gateways`, by its own uses alone.
    Local {
        gateways: u32,
    },
    Allow,
    Deny,
}

/// What `Deny` tells a client: come back in a moment.
const DENY: Decision = Decision::Refuse { by: 0, retry_after_ms: 1000 };

/// One worker process's view of the shared table, and what only it knows: which keys it touched
/// and which transactions it has sent.
pub struct Worker {
    pub(crate) table: Table,
    mode: Mode,
    owner: u64,
    alive: fn(u64) -> bool,
    pub(crate) up: bool,
    pub(crate) gateways: u32,
    /// Changes among the servers' lives that were acted upon.
    pub(crate) seen_changes: u64,
    pub(crate) known: HashMap<Place, Known, BuildHasherDefault<Hashed>>,
    pub(crate) due: BTreeSet<(u64, Place)>,
    pub(crate) sent: HashMap<u64, Sent>,
    pub(crate) next_id: u64,
    /// Goes on with every piece of news, after which requests that wait are decided again.
    pub(crate) round: u64,
    pub(crate) out: Vec<Transaction>,
    /// A refusal is not the last word on the request: see [`Worker::decide_once_more`].
    pub(crate) undecided: bool,
    /// What is still to be charged: (counter, amount, window in ms, cost).
    pub(crate) unpaid: Vec<Unpaid>,
    /// Memory that one decision leaves for the next.
    places: Vec<Place>,
    cells: Vec<Cell<'static>>,
}

impl Worker {
    /// `owner` marks the locks that this worker holds: a name of its process that no other process
    /// ever has (never 0). `alive` says whether the process of such a name still runs.
    pub fn new(table: Table, mode: Mode, owner: u64, alive: fn(u64) -> bool) -> Worker {
        Worker {
            table,
            mode,
            owner: owner.max(1),
            alive,
            up: true,
            gateways: 1,
            seen_changes: 0,
            known: HashMap::default(),
            due: BTreeSet::new(),
            sent: HashMap::new(),
            next_id: 1,
            round: 0,
            out: Vec::new(),
            undecided: false,
            unpaid: Vec::new(),
            places: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// The table this worker uses.
    pub fn table(&self) -> Table {
        self.table
    }

    /// Whether a server can be reached: while none can, no request is made to wait.
    pub fn link(&mut self, up: bool) {
        self.up = up;
        self.round += 1;
    }

    /// How many gateways share the limits, this one included.
    pub fn set_gateways(&mut self, n: u32) {
        self.gateways = n.max(1);
    }

    pub(crate) fn leased(&self) -> bool {
        self.mode == Mode::Shared
    }

    pub(crate) fn lock(&self, places: &[Place]) -> Result<Guard, Busy> {
        self.table.lock(places, self.owner, self.alive)
    }

    pub(crate) fn change_lives<T>(&self, change: impl FnOnce(Lives) -> T) -> Option<T> {
        self.table.change_lives(self.owner, self.alive, change)
    }

    /// Decides one request at gateway time `now`. All its limits are asked together: on `Allow`
    /// each is charged, otherwise none. `states` receives what is left of each, in order; it stays
    /// empty where nothing could be asked.
    pub fn decide(&mut self, now: u64, asks: &[Ask<'_>], states: &mut Vec<LimitState>) -> Decision {
        states.clear();
        let (places, mut cells) = self.look_up(asks);
        let decision = match self.lock(&places) {
            Ok(guard) if self.mode == Mode::Alone => {
                let now = self.find_cells(now, &places, &guard, &mut cells);
                self.decide_alone(now, asks, &cells, states)
            }
            Ok(_) if !self.table.lives().any() => Decision::CannotDecide(Why::NoClock),
            Ok(guard) => {
                let now = self.find_cells(now, &places, &guard, &mut cells);
                self.decide_shared(now, asks, &places, &cells, states)
            }
            Err(Busy::TooMany) => Decision::CannotDecide(Why::TooMany),
            Err(Busy::Locked) => Decision::CannotDecide(Why::Busy),
        };
        (self.places, self.cells) = (places, cells);
        decision
    }

    /// [`Worker::decide`] for a request that, when it is refused, is asked about once more with another
    /// counter in the place of the one that refused: what the others have on lease is kept for that.
    pub fn decide_once_more(&mut self, now: u64, asks: &[Ask<'_>], states: &mut Vec<LimitState>) -> Decision {
        self.undecided = true;
        let decision = self.decide(now, asks, states);
        self.undecided = false;
        decision
    }

    /// Where the cells of the asks live, and room for the cells.
    fn look_up(&mut self, asks: &[Ask<'_>]) -> (Vec<Place>, Vec<Cell<'static>>) {
        let (mut places, mut cells) = (std::mem::take(&mut self.places), std::mem::take(&mut self.cells));
        places.clear();
        cells.clear();
        places.extend(asks.iter().map(|ask| self.table.place(ask.counter)));
        (places, cells)
    }

    /// Looks up the cells of a request. Its moment is `now`, but not before that of anybody who
    /// decided on one of its keys since its clock was read: a worker may be stopped on its way here.
    fn find_cells(&self, now: u64, places: &[Place], guard: &Guard, cells: &mut Vec<Cell<'static>>) -> u64 {
        cells.extend(places.iter().map(|&place| guard.find_or_make(place, places, self.leased(), now)));
        cells.iter().map(|cell| cell.get(Field::Touched)).fold(now, u64::max)
    }

    fn decide_alone(
        &self,
        now: u64,
        asks: &[Ask<'_>],
        cells: &[Cell<'static>],
        states: &mut Vec<LimitState>,
    ) -> Decision {
        let refusal = self.judge_own(now, asks, 1, cells, states);
        if let Some(refusal) = refusal {
            return refusal;
        }
        for ((ask, cell), state) in asks.iter().zip(cells).zip(states) {
            self.note(cell, now, ask);
            state.remaining = state.remaining.saturating_sub(ask.cost);
        }
        Decision::Allow
    }

    /// Holds the asks against what this gateway alone has used, each limit divided by `share`.
    fn judge_own(
        &self,
        now: u64,
        asks: &[Ask<'_>],
        share: u64,
        cells: &[Cell<'static>],
        states: &mut Vec<LimitState>,
    ) -> Option<Decision> {
        let mut refusal = Refusal::default();
        for (i, (ask, cell)) in asks.iter().zip(cells).enumerate() {
            self.adopt(cell, now, ask);
            let (used, amount) = (cell.used(now), ask.amount / share);
            let reset_ms = ask.at_most(now, own_reset(cell, now));
            states.push(LimitState { remaining: amount.saturating_sub(used), reset_ms });
            if ask.cost.max(1) > amount.saturating_sub(used) {
                let excess = used.saturating_add(ask.cost.max(1)) - amount;
                refusal.add(i, ask.at_most(now, own_retry(cell, now, excess)));
            }
        }
        refusal.decision()
    }

    /// Brings a cell up to the policy that is in force.
    fn adopt(&self, cell: &Cell<'_>, now: u64, ask: &Ask<'_>) {
        ask.touch(cell, now);
        if !self.leased() {
            cell.set(Field::Amount, ask.amount);
        }
    }

    pub(crate) fn note(&self, cell: &Cell<'_>, now: u64, ask: &Ask<'_>) {
        if ask.cost > 0 {
            cell.note(now, ask.cost, cell.grain_ms());
        }
    }

    /// Decides without the server, as configured, when [`Worker::decide`] cannot or a lease did not
    /// come in time. What passes is charged to this gateway's own uses, and published later.
    pub fn decide_fallback(
        &mut self,
        now: u64,
        asks: &[Ask<'_>],
        fallback: Fallback,
        states: &mut Vec<LimitState>,
    ) -> Decision {
        states.clear();
        let (places, mut cells) = self.look_up(asks);
        let decision = match self.lock(&places) {
            Ok(guard) => {
                let now = self.find_cells(now, &places, &guard, &mut cells);
                self.fall_back(now, asks, &places, fallback, &cells, states)
            }
            Err(_) if fallback == Fallback::Deny => DENY,
            Err(_) => Decision::Allow,
        };
        (self.places, self.cells) = (places, cells);
        decision
    }

    fn fall_back(
        &mut self,
        now: u64,
        asks: &[Ask<'_>],
        places: &[Place],
        fallback: Fallback,
        cells: &[Cell<'static>],
        states: &mut Vec<LimitState>,
    ) -> Decision {
        let share = if let Fallback::Local { gateways } = fallback { u64::from(gateways.max(1)) } else { 1 };
        let refusal = self.judge_own(now, asks, share, cells, states);
        match (fallback, refusal) {
            (Fallback::Deny, _) => return DENY,
            (Fallback::Local { .. }, Some(refusal)) => return refusal,
            _ => {}
        }
        for (i, (ask, &place)) in asks.iter().zip(places).enumerate() {
            self.note(&cells[i], now, ask);
            states[i].remaining = states[i].remaining.saturating_sub(ask.cost);
            self.remember(now, place, ask);
        }
        Decision::Allow
    }

    /// Takes what a request turned out to cost, after it has passed: bytes. The bound is overrun by
    /// the answers in flight and no more, since the next request is refused.
    pub fn charge(&mut self, now: u64, ask: &Ask<'_>) {
        self.charge_unpaid(now);
        if !self.take(now, ask) {
            let Ask { amount, window_ms, cost, until, .. } = *ask;
            self.unpaid.push(Unpaid { counter: Arc::clone(ask.counter), amount, window_ms, cost, until });
        }
    }

    /// Charges what could not be charged before, since the lock was held by a process that did not run.
    pub(crate) fn charge_unpaid(&mut self, now: u64) {
        for unpaid in std::mem::take(&mut self.unpaid) {
            let Unpaid { ref counter, amount, window_ms, cost, until } = unpaid;
            if !self.take(now, &Ask { counter, amount, window_ms, cost, until }) {
                self.unpaid.push(unpaid);
            }
        }
    }

    fn take(&mut self, now: u64, ask: &Ask<'_>) -> bool {
        let place = self.table.place(ask.counter);
        let Ok(guard) = self.lock(&[place]) else {
            return false;
        };
        let cell = guard.find_or_make(place, &[place], self.leased(), now);
        let now = now.max(cell.get(Field::Touched));
        self.adopt(&cell, now, ask);
        self.note(&cell, now, ask);
        if self.leased() {
            // The key's former cell may have made room meanwhile: this one is in no life yet.
            self.enter_life(&cell);
            self.use_lease(&cell, now, place, ask);
        }
        true
    }

    /// Does something while the lock on a counter is held.
    #[cfg(feature = "test-hooks")]
    pub fn hold_lock(&self, counter: &Counter, body: impl FnOnce()) {
        if let Ok(_held) = self.lock(&[self.table.place(counter)]) {
            body();
        }
    }

    /// Transactions to send, each once.
    pub fn outgoing(&mut self) -> Vec<Transaction> {
        std::mem::take(&mut self.out)
    }
}

/// An [`Ask`] that outlives its request.
pub(crate) struct Unpaid {
    counter: Arc<Counter>,
    amount: u64,
    window_ms: u64,
    cost: u64,
    until: u64,
}

/// Collects refusals: the limit that has room last decides.
#[derive(Default)]
pub(crate) struct Refusal(Option<(usize, u64)>);

impl Refusal {
    pub(crate) fn add(&mut self, by: usize, retry_after_ms: u64) {
        if self.0.is_none_or(|(_, longest)| retry_after_ms > longest) {
            self.0 = Some((by, retry_after_ms));
        }
    }

    pub(crate) fn decision(&self) -> Option<Decision> {
        self.0.map(|(by, retry_after_ms)| Decision::Refuse { by, retry_after_ms })
    }
}

/// Milliseconds until the oldest own use leaves the window.
fn own_reset(cell: &Cell<'_>, now: u64) -> u64 {
    let window = cell.get(Field::WindowMs);
    cell.live_slots(now).next().map_or(window, |(_, slot)| slot.stamp + window - now)
}

/// Milliseconds until `units` of the own uses have left the window; the window where there are not
/// so many.
fn own_retry(cell: &Cell<'_>, now: u64, units: u64) -> u64 {
    let window = cell.get(Field::WindowMs);
    let mut left = units;
    for (_, slot) in cell.live_slots(now) {
        if slot.units >= left {
            return slot.stamp + window - now;
        }
        left -= slot.units;
    }
    window
}
