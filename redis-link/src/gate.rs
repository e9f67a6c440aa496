//! The breaker: whether transactions go out, and why not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::dial::{Line, Reading};
use crate::mailbox::{Event, Mailbox};

/// How many different reasons are told in one outage.
const MAX_TOLD: usize = 4;

/// Open to transactions while the server answers in time.
pub struct Gate {
    mailbox: Arc<Mailbox>,
    /// A copy of "there is a pass", for one read per request in nginx's thread.
    is_up: AtomicBool,
    state: Mutex<State>,
    closed: Notify,
}

struct State {
    pass: Option<Pass>,
    passes: u64,
    why: Arc<str>,
    /// Reasons that were told in this outage.
    told: Vec<Arc<str>>,
}

/// Leave to use a line; void when the gate closes.
#[derive(Clone)]
pub struct Pass {
    pub line: Arc<Line>,
    /// Tells passes apart: who was let in before an outage can't close the gate after it.
    number: u64,
}

impl Gate {
    pub fn new(mailbox: Arc<Mailbox>) -> Gate {
        let state =
            State { pass: None, passes: 0, why: "Redis was not reached yet".into(), told: Vec::new() };
        Gate { mailbox, is_up: AtomicBool::new(false), state: Mutex::new(state), closed: Notify::new() }
    }

    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// A pass, or why there is none.
    pub fn pass(&self) -> Result<Pass, Arc<str>> {
        let state = self.lock();
        state.pass.clone().ok_or_else(|| state.why.clone())
    }

    pub fn open(&self, line: &Arc<Line>, reading: Reading) {
        let mut state = self.lock();
        state.passes += 1;
        state.pass = Some(Pass { line: line.clone(), number: state.passes });
        state.told.clear();
        drop(state);
        self.is_up.store(true, Ordering::Release);
        let Reading { sent_ms, received_ms, time_ms } = reading;
        let life = line.life;
        self.mailbox.post([Event::Connected { sent_ms, received_ms, time_ms, life }, Event::Up]);
    }

    /// Closes the gate, if it isn't closed.
    pub fn close(&self, why: &Arc<str>) {
        self.close_if(why, |_| true);
    }

    /// Closes the gate on account of somebody who was let in by `pass`.
    pub fn close_for(&self, pass: &Pass, why: &Arc<str>) {
        self.close_if(why, |open| open.is_some_and(|open| open.number == pass.number));
    }

    fn close_if(&self, why: &Arc<str>, concerns: impl Fn(Option<&Pass>) -> bool) {
        let mut state = self.lock();
        if !concerns(state.pass.as_ref()) {
            return;
        }
        state.pass = None;
        state.why = why.clone();
        let is_news = state.told.len() < MAX_TOLD && !state.told.contains(why);
        if is_news {
            state.told.push(why.clone());
        }
        drop(state);
        self.is_up.store(false, Ordering::Release);
        self.closed.notify_one();
        if is_news {
            self.mailbox.post([Event::Down { why: why.clone() }]);
        }
    }

    /// Waits until the gate is closed; one waiter only.
    pub async fn wait_closed(&self) {
        while self.is_up() {
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

    const READING: Reading = Reading { sent_ms: 1, received_ms: 2, time_ms: 3 };

    fn down(why: &str) -> Event {
        Event::Down { why: why.into() }
    }

    #[tokio::test]
    async fn passes_are_given_while_it_is_open() {
        let mailbox = Mailbox::new(Box::new(|| {}));
        let gate = Gate::new(mailbox.clone());
        assert!(!gate.is_up());
        assert!(gate.pass().err().unwrap().contains("not reached yet"));
        gate.open(&Line::idle(7).await, READING);
        assert!(gate.is_up());
        assert_eq!(gate.pass().ok().unwrap().line.life, 7);
        let connected = Event::Connected { sent_ms: 1, received_ms: 2, time_ms: 3, life: 7 };
        assert_eq!(mailbox.take(), [connected, Event::Up]);
        gate.close(&"slow".into());
        assert!(!gate.is_up());
        assert_eq!(&*gate.pass().err().unwrap(), "slow");
        gate.wait_closed().await;
    }

    #[tokio::test]
    async fn each_reason_is_told_once_per_outage_and_only_so_many() {
        let mailbox = Mailbox::new(Box::new(|| {}));
        let gate = Gate::new(mailbox.clone());
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
        let mailbox = Mailbox::new(Box::new(|| {}));
        let gate = Gate::new(mailbox.clone());
        let line = Line::idle(7).await;
        gate.open(&line, READING);
        let early = gate.pass().ok().unwrap();
        gate.close_for(&early, &"slow".into());
        gate.close_for(&early, &"slower".into());
        gate.open(&line, READING);
        gate.close_for(&early, &"slowest".into());
        assert!(gate.is_up());
        gate.close_for(&gate.pass().ok().unwrap(), &"cut".into());
        assert!(!gate.is_up());
        let told: Vec<_> = mailbox.take().into_iter().filter(|e| matches!(e, Event::Down { .. })).collect();
        assert_eq!(told, [down("slow"), down("cut")]);
    }
}
