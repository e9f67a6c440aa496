//! What one worker process of a gateway owns, and what happens to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use weir_limiter::{LimitState, Mode, Table, Worker};
use weir_metering::Decision;
use weir_policy::{Action, Tables};
use weir_redis_link::{Brake, Event, Link};

use crate::answer::{Answer, Links, line, request_id};
use crate::books::Books;
use crate::clock::Now;
use crate::fields::fields;
use crate::figures::{Figures, Use};
use crate::judge::charges;
use crate::metrics::{Count, Counters, Metrics, Seen};
use crate::policy_file::Version;
use crate::profile::Profiles;
use crate::published::Source;
use crate::queue::Queues;
use crate::reader::{Inbox, Reader};
use crate::settings::Rules;
use crate::shelf::Shelf;
use crate::usage::usage;
use crate::walk::{Outcome, RequestFacts, Verdict, Walk};
use crate::walks::{Token, Walks};

mod holding;
mod news;
mod options;

pub use options::{GatewayOptions, Level, Line, StartError};

/// How often the policy file is looked at.
const LOOK_MS: u64 = 1_000;
/// ... when it was seen to change.
const LOOK_AGAIN_MS: u64 = 250;
/// At most this long an exiting worker waits for its last settlements to reach Redis.
const FAREWELL: Duration = Duration::from_millis(500);
/// Losses are told at most this often.
const TELL_MS: u64 = 60_000;

/// One worker of a gateway.
pub struct Gateway {
    worker: Worker,
    counters: &'static Counters,
    figures: Figures,
    link: Option<Link>,
    books: Books,
    /// The policy comes from a watched file.
    is_file: bool,
    inbox: Arc<Inbox>,
    reader: Reader,
    /// A look at the policy file is under way.
    is_looking: bool,
    /// Why limits are not enforced, and until when.
    off: Option<(Brake, u64)>,
    book: Arc<Tables>,
    profiles: Profiles,
    walks: Walks,
    /// Memory that the last request left for the next.
    spare_states: Vec<LimitState>,
    /// Requests that wait for a lease, in the order in which they came.
    waiting: VecDeque<Token>,
    /// Requests that wait for a lock whose holder does not run just now.
    locked_out: VecDeque<Token>,
    /// When they are decided about again, and how long after the last time, in ms.
    locks_due_ms: u64,
    lock_pause_ms: u64,
    /// ... and those that are held back.
    queues: Queues,
    ready: Vec<Token>,
    /// Gateways seen in the last minute, this one included.
    gateways: u32,
    gateways_min: u32,
    look_ms: u64,
    tell_ms: u64,
    /// Keys that had to make room in the zone, as told last, and when to tell again.
    evicted: u64,
    tell_full_ms: u64,
    /// The last number drawn, see [`chance`].
    chance: u64,
    /// What no other worker has.
    id: u64,
    lines: Vec<Line>,
}

impl Gateway {
    /// Starts a worker. `wake` is called, from another thread, when [`Gateway::receive`] has
    /// something to receive.
    ///
    /// # Errors
    /// [`StartError`]: the options cannot work, which [`LinkOptions`] could have been checked for.
    pub fn start(
        options: GatewayOptions,
        table: Table,
        now: Now,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Gateway, StartError> {
        let mode = if options.link.is_some() { Mode::Shared } else { Mode::Alone };
        let inbox = Inbox::new(wake);
        let is_file = matches!(options.policy, Source::File(_));
        let dir = options.policy.keep().or_else(|| Some(options.spool.as_ref()?.dir.clone()));
        let reader = Reader::start(options.policy.clone(), Shelf::new(dir), options.trim, Arc::clone(&inbox))
            .map_err(StartError::Thread)?;
        let follow = options.policy.follow(options.book.version(), &inbox, &reader);
        let bell = Arc::clone(&inbox);
        let start = |link| Link::start_following(link, Some(follow), Box::new(move || bell.ring()));
        let link = options.link.map(start).transpose()?;
        let mut worker = Worker::new(table, mode, options.owner, options.alive);
        // Until Redis has been reached nobody waits for it.
        worker.link(false);
        let mut gateway = Gateway {
            worker,
            counters: options.counters,
            figures: options.figures,
            link,
            books: Books::new(options.spool, options.boot, options.random),
            is_file,
            inbox,
            reader,
            is_looking: false,
            off: None,
            book: options.book,
            profiles: Profiles::default(),
            walks: Walks::new(options.first_life),
            spare_states: Vec::new(),
            waiting: VecDeque::new(),
            locked_out: VecDeque::new(),
            locks_due_ms: 0,
            lock_pause_ms: 0,
            queues: Queues::default(),
            ready: Vec::new(),
            gateways: 1,
            gateways_min: options.gateways_min,
            look_ms: now.boot_ms,
            tell_ms: now.boot_ms,
            evicted: table.evicted(),
            tell_full_ms: now.boot_ms,
            chance: (options.random)() as u64 | 1,
            id: (options.random)() as u64,
            lines: Vec::new(),
        };
        gateway.open_books(now);
        Ok(gateway)
    }

    /// Who, what, and may it: the walk of a request up to its verdict.
    pub fn admit(&mut self, now: Now, facts: &RequestFacts<'_>, rules: Rules) -> Token {
        let token = self.note(now, facts, rules);
        self.judge(now.boot_ms, token, true);
        if self.walks.get(token).is_some_and(|walk| walk.verdict == Verdict::Wait) {
            self.counters.add(Count::Waited, 1);
        }
        self.send();
        token
    }

    /// Who and what, without asking the limiter: for a request that was answered before it came to
    /// that.
    pub fn note(&mut self, now: Now, facts: &RequestFacts<'_>, rules: Rules) -> Token {
        let walk = self.identify(now, facts, rules);
        self.walks.insert(walk)
    }

    /// The same for a request that passes because the limiter failed.
    pub fn note_degraded(&mut self, now: Now, facts: &RequestFacts<'_>, rules: Rules) -> Token {
        let mut walk = self.identify(now, facts, rules);
        walk.decision = Decision::PassedDegraded;
        self.walks.insert(walk)
    }

    pub fn walk(&self, token: Token) -> Option<&Walk> {
        self.walks.get(token)
    }

    /// Takes in what came from Redis, and policies that were read. Returns the requests that waited and need not wait any longer,
    /// in the order in which they came. `clock` is read when the answers are there: one that came
    /// after the moment that stands for its coming would be taken for a clock that was set.
    pub fn receive(&mut self, clock: impl FnOnce() -> u64) -> Vec<Token> {
        self.take_news();
        let events = self.link.as_ref().map(Link::take).unwrap_or_default();
        if events.is_empty() {
            return Vec::new();
        }
        let now_ms = clock();
        for event in events {
            self.take_in(now_ms, event);
        }
        let waiting = std::mem::take(&mut self.waiting);
        let mut ready: Vec<Token> =
            waiting.into_iter().filter(|token| self.judge(now_ms, *token, true)).collect();
        self.serve_queues(now_ms, &mut ready);
        self.send();
        ready
    }

    /// The request has waited as long as it may: it is decided now.
    pub fn expire(&mut self, now_ms: u64, token: Token) {
        if self.walks.get(token).is_some_and(|walk| walk.verdict.is_pending()) {
            self.leave(token);
            self.judge(now_ms, token, false);
            self.send();
        }
    }

    fn identify(&mut self, now: Now, facts: &RequestFacts<'_>, rules: Rules) -> Walk {
        let mut walk = Walk::new(&self.book, &mut self.profiles, facts, rules, now);
        walk.states = std::mem::take(&mut self.spare_states);
        walk.states.clear();
        walk.dry_run |= self.is_off(now.boot_ms);
        walk
    }

    /// Tells name and value, in pieces, of each header field for the answer to a request.
    pub fn fields(&self, token: Token, tell: impl FnMut(&'static str, &[&str])) {
        if let Some(walk) = self.walks.get(token).filter(|walk| !walk.is_look) {
            fields(walk, walk.rules.headers, tell);
        }
    }

    /// What a client that is turned away reads. `plain` as its `Accept` field prefers.
    pub fn answer(&self, token: Token, plain: bool, links: &Links<'_>) -> Option<Answer> {
        let walk = self.walks.get(token)?;
        Some(walk.profile.answers.of(walk, walk.refusal()?, plain).with(links))
    }

    /// A name for the request, for where `$request_id` stands in no log.
    pub fn request_id(&self, token: Token) -> [u8; 32] {
        request_id(self.id, token)
    }

    /// What the log says of a client that is turned away.
    pub fn refusal_line(&self, token: Token, request_id: &[u8]) -> Option<String> {
        let walk = self.walks.get(token)?;
        Some(line(walk, walk.refusal()?, request_id))
    }

    /// The request is over: its bytes are charged and it is booked. Call it once.
    pub fn finish(&mut self, now: Now, token: Token, outcome: &Outcome) {
        let Some(walk) = self.walks.get(token).filter(|walk| !walk.is_look) else {
            return;
        };
        if walk.profile.action == Action::Ignore {
            return;
        }
        for charge in charges(walk, outcome) {
            self.worker.charge(now.boot_ms, &charge);
        }
        self.counters.decided(walk.decision());
        note_figures(&self.figures, walk, outcome, now);
        match self.books.append(&walk.record(outcome, now.unix_us), walk.card()) {
            Some(true) => self.counters.add(Count::Records, 1),
            Some(false) => self.counters.add(Count::RecordsLost, 1),
            None => {}
        }
        self.send();
    }

    /// Asks what is left of a caller's limits, over all gateways: the walk may have to wait as that of
    /// a request does. Nothing is charged or booked.
    pub fn look(&mut self, now: Now, facts: &RequestFacts<'_>) -> Token {
        let mut walk = self.identify(now, facts, Rules::default());
        walk.is_look = true;
        let token = self.walks.insert(walk);
        self.judge(now.boot_ms, token, true);
        self.send();
        token
    }

    /// The caller's limits and what is left of them, as JSON: those that the request of the token
    /// asked for. One that was a request like any other (`weir on` at the same place) has been charged.
    pub fn usage(&self, token: Token) -> Option<String> {
        Some(usage(self.walks.get(token)?, self.book.version()))
    }

    /// What this gateway has done, over all its workers.
    pub fn metrics(&self, now: Now) -> Metrics<'_> {
        let seen = Seen {
            figures: self.figures,
            book: &self.book,
            now,
            link_up: self.link.as_ref().map(Link::is_up),
            gateways: self.gateways,
            is_enforced: self.off.is_none(),
        };
        Metrics::of(self.counters, self.worker.table(), seen)
    }

    /// Does something while the lock on a request's client is held.
    #[cfg(feature = "test-hooks")]
    pub fn hold_lock(&self, token: Token, body: impl FnOnce()) {
        if let Some(applied) = self.walk(token).and_then(|walk| walk.profile.limits.first()) {
            self.worker.hold_lock(&applied.counter, body);
        }
    }

    /// Forgets a request, whatever became of it.
    pub fn release(&mut self, token: Token) {
        let Some(walk) = self.walks.get_mut(token) else {
            return;
        };
        self.spare_states = std::mem::take(&mut walk.states);
        if walk.verdict.is_pending() {
            self.leave(token);
        }
        self.walks.remove(token);
    }

    /// Does what is due. Returns the time at which it wants to be called again.
    pub fn tick(&mut self, now: Now) -> u64 {
        self.look_at_policy(now.boot_ms);
        self.end_brake(now.boot_ms);
        self.open_books(now);
        self.books.tick(now);
        self.tell_losses(now.boot_ms);
        self.tell_full_zone(now.boot_ms);
        let limiter = self.worker.tick(now.boot_ms);
        let mut ready = std::mem::take(&mut self.ready);
        self.try_locks(now.boot_ms, &mut ready);
        self.serve_queues(now.boot_ms, &mut ready);
        self.ready = ready;
        self.send();
        self.due(limiter).max(now.boot_ms + 1)
    }

    /// The time of the next [`Gateway::tick`] as it stands now: what came from Redis may have brought
    /// it nearer.
    pub fn next_tick(&self) -> u64 {
        self.due(self.worker.next_due())
    }

    fn due(&self, limiter: Option<u64>) -> u64 {
        let locks = (!self.locked_out.is_empty()).then_some(self.locks_due_ms);
        let others = limiter.into_iter().chain(self.queues.next_due()).chain(locks);
        others.fold(self.look_ms, u64::min)
    }

    /// Requests that need not be held back any longer since this was last called.
    pub fn take_ready(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.ready)
    }

    /// What the log should say since this was last called.
    pub fn take_lines(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
    }

    /// The policy in force.
    pub fn book(&self) -> &Tables {
        &self.book
    }

    /// A first life for the tokens of a successor in the same process.
    pub fn next_life(&self) -> u32 {
        self.walks.next_life()
    }

    /// Settles what this worker knows of, seals the spool and ends the link's thread.
    pub fn close(mut self, now: Now) {
        self.worker.close(now.boot_ms);
        self.send();
        if let Some(link) = self.link.take() {
            link.close(FAREWELL);
        }
        self.books.close(now);
    }

    fn take_in(&mut self, now_ms: u64, event: Event) {
        match event {
            Event::Answer { id, answer } => self.worker.answered(now_ms, id, &answer),
            Event::Lost { id, .. } => self.worker.lost(now_ms, id),
            Event::Moved { id } => self.worker.moved(now_ms, id),
            Event::Connected { sent_ms, received_ms, time_ms, life, is_only: true } => {
                self.worker.connected(sent_ms, received_ms, time_ms, life);
            }
            Event::Connected { sent_ms, received_ms, time_ms, life, .. }
            | Event::Heard { sent_ms, received_ms, time_ms, life } => {
                self.worker.heard(sent_ms, received_ms, time_ms, life);
            }
            Event::Ended { life } => self.worker.ended(now_ms, life),
            Event::Gateways(seen) => {
                self.gateways = seen.max(1);
                self.worker.set_gateways(self.gateways);
            }
            // Taken in with whatever else has come.
            Event::News => {}
            Event::Up => {
                self.worker.link(true);
                self.say(Level::Notice, "Redis answers, limits are shared".into());
            }
            Event::Ailing { server, why } => {
                let text = format!(
                    "the Redis server {server} can't be asked, weir_fallback decides for its keys until it \
                     answers: {why}"
                );
                self.say(Level::Warn, text);
            }
            Event::Recovered { server } => {
                self.say(Level::Notice, format!("the Redis server {server} answers again"));
            }
            Event::Down { why } => {
                self.worker.link(false);
                let text = format!("Redis can't be asked, weir_fallback decides until it answers: {why}");
                self.say(Level::Warn, text);
            }
        }
    }

    /// Hands over what the limiter wants to say. A link that is down says so in an event.
    fn send(&mut self) {
        for transaction in self.worker.outgoing() {
            if let Some(link) = &self.link {
                link.send(transaction);
            }
        }
    }

    fn open_books(&mut self, now: Now) {
        if let Err(error) = self.books.open(now) {
            self.say(Level::Error, format!("no records are written, requests go on: {error}"));
        }
    }

    fn tell_losses(&mut self, now_ms: u64) {
        if let Some(trouble) = self.books.take_trouble() {
            self.say(Level::Error, format!("spool: {trouble}"));
        }
        if now_ms < self.tell_ms {
            return;
        }
        let lost = self.books.newly_lost();
        if lost > 0 {
            self.tell_ms = now_ms + TELL_MS;
            self.say(Level::Error, format!("{lost} records were lost; look at the spool's disk"));
        }
    }

    fn tell_full_zone(&mut self, now_ms: u64) {
        let evicted = self.worker.table().evicted();
        if now_ms >= self.tell_full_ms && evicted > self.evicted {
            let more = evicted - self.evicted;
            (self.evicted, self.tell_full_ms) = (evicted, now_ms + TELL_MS);
            self.say(
                Level::Warn,
                format!("the zone is full, {more} keys in use made room for others: raise weir_zone"),
            );
        }
    }

    fn say(&mut self, level: Level, text: String) {
        self.lines.push(Line { level, text });
    }
}

fn note_figures(figures: &Figures, walk: &Walk, outcome: &Outcome, now: Now) {
    let profile = &walk.profile;
    let (bytes_in, bytes_out) = (outcome.bytes_in, outcome.bytes_out);
    let now_s = now.unix_us / 1_000_000;
    let of = Use { decision: walk.decision(), bytes_in, bytes_out, now_s };
    figures.tier(&profile.tier_seat, &profile.tier, of);
    figures.client(&profile.seat, &profile.client, of);
    if let Some(name) = &walk.stranger {
        figures.unknown(name, of);
    }
}

/// The next of a row of numbers that nobody needs to be unable to guess (xorshift).
fn chance(state: &mut u64) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 32) as u32
}

#[cfg(test)]
mod calendar;
#[cfg(test)]
mod delay;
#[cfg(test)]
mod over;
#[cfg(test)]
pub(crate) mod tests;
