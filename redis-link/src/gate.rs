//! The breaker: whether transactions go out to a server, and why not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::crowd::{Crowd, Told};
use crate::dial::{Line, Reading};
use crate::mailbox::Event;

/// Open to transactions while the server answers in time.
pub struct Gate {
    crowd: Arc<Crowd>,
    /// The server behind it, as it may be shown.
    server: Arc<str>,
    is_open: AtomicBool,
    state: Mutex<State>,
    closed: Notify,
}

struct State {
    pass: Option<Pass>,
    passes: u64,
    why: Arc<str>,
    told: Told,
    /// The server's life when it was open last; 0 before.
    life: u64,
}

/// Leave to use a line; void when the gate closes.
#[derive(Clone)]
pub struct Pass {
    pub line: Arc<Line>,
    /// Tells passes apart: who was let in before an outage can't close the gate after it.
    number: u64,
}

impl Gate {
    pub fn new(crowd: Arc<Crowd>, server: Arc<str>) -> Arc<Gate> {
        let why = "Redis was not reached yet".into();
        let state = State { pass: None, passes: 0, why, told: Told::default(), life: 0 };
        let (is_open, state, closed) = (AtomicBool::new(false), Mutex::new(state), Notify::new());
        Arc::new(Gate { crowd, server, is_open, state, closed })
    }

    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// A pass, or why there is none.
    pub fn pass(&self) -> Result<Pass, Arc<str>> {
        let state = self.lock();
        state.pass.clone().ok_or_else(|| state.why.clone())
    }

    pub fn open(&self, line: &Arc<Line>, reading: Reading) {
        let mut state = self.lock();
        let was_open = state.pass.is_some();
        state.passes += 1;
        state.pass = Some(Pass { line: line.clone(), number: state.passes });
        let was_told = state.told.clear();
        let former = std::mem::replace(&mut state.life, line.life);
        drop(state);
        self.is_open.store(true, Ordering::Release);
        let is_only = !self.crowd.is_several;
        let mut events = Vec::new();
        if former != 0 && former != line.life && !is_only {
            events.push(Event::Ended { life: former });
        }
        let Reading { sent_ms, received_ms, time_ms } = reading;
        events.push(Event::Connected { sent_ms, received_ms, time_ms, life: line.life, is_only });
        if !was_open {
            self.crowd.opened(&self.server, was_told, events);
        }
    }

    /// The server was heard again.
    pub fn heard(&self, line: &Line, reading: Reading) {
        let Reading { sent_ms, received_ms, time_ms } = reading;
        self.crowd.post(Event::Heard { sent_ms, received_ms, time_ms, life: line.life });
    }

    /// Closes the gate, if it isn't closed.
    pub fn close(&self, why: &Arc<str>) {
        self.close_if(why, |_| true);
    }

    /// Closes the gate on account of somebody who was let in by `pass`.
    pub fn close_for(&self, pass: &Pass, why: &Arc<str>) {
        self.close_if(why, |open| open.is_some_and(|open| open.number == pass.number));
    }

    /// Closes it for good: the server behind it has no keys any more.
    pub fn dismiss(&self) {
        let mut state = self.lock();
        let was_open = state.pass.take().is_some();
        state.why = "this server of the Cluster has no slots any more".into();
        let (why, life) = (state.why.clone(), std::mem::take(&mut state.life));
        drop(state);
        self.is_open.store(false, Ordering::Release);
        self.crowd.closed(&self.server, &why, was_open, false);
        if life != 0 {
            self.crowd.post(Event::Ended { life });
        }
    }

    fn close_if(&self, why: &Arc<str>, concerns: impl Fn(Option<&Pass>) -> bool) {
        let mut state = self.lock();
        if !concerns(state.pass.as_ref()) {
            return;
        }
        let was_open = state.pass.take().is_some();
        state.why = why.clone();
        let is_news = state.told.is_news(why);
        drop(state);
        self.is_open.store(false, Ordering::Release);
        self.closed.notify_one();
        self.crowd.closed(&self.server, why, was_open, is_news);
    }

    /// Waits until the gate is closed; one waiter only.
    pub async fn wait_closed(&self) {
        while self.is_open() {
            self.closed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Mailbox;

    fn gate() -> (Arc<Gate>, Arc<Mailbox>) {
        let mailbox = Mailbox::new(Box::new(|| {}));
        (Gate::new(Crowd::new(mailbox.clone(), false), "here".into()), mailbox)
    }

    const READING: Reading = Reading { sent_ms: 1, received_ms: 2, time_ms: 3 };

    fn down(why: &str) -> Event {
        Event::Down { why: why.into() }
    }

    #[tokio::test]
    async fn passes_are_given_while_it_is_open() {
        let (gate, mailbox) = gate();
        assert!(!gate.is_open());
        assert!(gate.pass().err().unwrap().contains("not reached yet"));
        gate.open(&Line::idle(7).await, READING);
        assert!(gate.is_open());
        assert_eq!(gate.pass().ok().unwrap().line.life, 7);
        let connected = Event::Connected { sent_ms: 1, received_ms: 2, time_ms: 3, life: 7, is_only: true };
        assert_eq!(mailbox.take(), [connected, Event::Up]);
        gate.close(&"slow".into());
        assert!(!gate.is_open());
        assert_eq!(&*gate.pass().err().unwrap(), "slow");
        gate.wait_closed().await;
    }

    #[tokio::test]
    async fn each_reason_is_told_once_per_outage_and_only_so_many() {
        let (gate, mailbox) = gate();
        let line = Line::idle(7).await;
        gate.open(&line, READING);
        mailbox.take();
        ["slow", "slow", "cut", "slow"].iter().for_each(|&why| gate.close(&why.into()));
        assert_eq!(mailbox.take(), [down("slow"), down("cut")]);
        (0..100).for_each(|n| gate.close(&n.to_string().into()));
        assert_eq!(mailbox.take(), [down("0"), down("1")]);
        gate.open(&line, READING);
        mailbox.take();
        gate.close(&"slow".into());
        assert_eq!(mailbox.take(), [down("slow")]);
    }

    #[tokio::test]
    async fn who_was_let_in_before_an_outage_cant_close_it_after() {
        let (gate, mailbox) = gate();
        let line = Line::idle(7).await;
        gate.open(&line, READING);
        let early = gate.pass().ok().unwrap();
        gate.close_for(&early, &"slow".into());
        gate.close_for(&early, &"slower".into());
        gate.open(&line, READING);
        gate.close_for(&early, &"slowest".into());
        assert!(gate.is_open());
        gate.close_for(&gate.pass().ok().unwrap(), &"cut".into());
        assert!(!gate.is_open());
        let told: Vec<_> = mailbox.take().into_iter().filter(|e| matches!(e, Event::Down { .. })).collect();
        assert_eq!(told, [down("slow"), down("cut")]);
    }
}
