//! What all gates of a link amount to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::mailbox::{Event, Mailbox};

/// How many different reasons are told in one outage.
const MAX_TOLD: usize = 4;

/// Reasons that were told in one outage: each once, and only so many.
#[derive(Default)]
pub struct Told(Vec<Arc<str>>);

impl Told {
    pub fn is_news(&mut self, why: &Arc<str>) -> bool {
        let is_news = self.0.len() < MAX_TOLD && !self.0.contains(why);
        if is_news {
            self.0.push(why.clone());
        }
        is_news
    }

    /// Whether anything was told; the outage is over.
    pub fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

/// All gates of a link: it is up while any of them is open.
pub struct Crowd {
    mailbox: Arc<Mailbox>,
    /// Whether there may be others than one.
    pub is_several: bool,
    /// A copy of "some gate is open", for one read per request in nginx's thread.
    is_up: AtomicBool,
    state: Mutex<State>,
    /// Rings when a gate closes.
    pub trouble: Notify,
}

struct State {
    open: usize,
    why: Arc<str>,
    told: Told,
}

impl Crowd {
    pub fn new(mailbox: Arc<Mailbox>, is_several: bool) -> Arc<Crowd> {
        let state = State { open: 0, why: "Redis was not reached yet".into(), told: Told::default() };
        let (is_up, state, trouble) = (AtomicBool::new(false), Mutex::new(state), Notify::new());
        Arc::new(Crowd { mailbox, is_several, is_up, state, trouble })
    }

    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// Why nothing can be sent.
    pub fn why(&self) -> Arc<str> {
        self.lock().why.clone()
    }

    /// A gate has opened, of which `events` tell. `was_told`: that it was closed.
    pub fn opened(&self, server: &Arc<str>, was_told: bool, mut events: Vec<Event>) {
        let mut state = self.lock();
        state.open += 1;
        if state.open == 1 {
            state.told.clear();
            events.push(Event::Up);
        } else if was_told {
            events.push(Event::Recovered { server: server.clone() });
        }
        drop(state);
        self.is_up.store(true, Ordering::Release);
        self.mailbox.post(events);
    }

    /// A gate has closed, or a reason was found why it is. `is_news`: it is to be told.
    pub fn closed(&self, server: &Arc<str>, why: &Arc<str>, was_open: bool, is_news: bool) {
        let mut state = self.lock();
        state.open -= usize::from(was_open);
        let open = state.open;
        if open == 0 {
            state.why = if self.is_several { format!("{server}: {why}").into() } else { why.clone() };
            self.is_up.store(false, Ordering::Release);
        }
        let all_why = state.why.clone();
        drop(state);
        if was_open {
            self.trouble.notify_one();
        }
        match (is_news, open) {
            (true, 0) => self.mailbox.post([Event::Down { why: all_why }]),
            (true, _) => self.mailbox.post([Event::Ailing { server: server.clone(), why: why.clone() }]),
            (false, _) => {}
        }
    }

    /// Where there is no gate yet: why.
    pub fn unreachable(&self, why: &Arc<str>) {
        let mut state = self.lock();
        if state.open > 0 {
            return;
        }
        state.why = why.clone();
        let is_news = state.told.is_news(why);
        drop(state);
        if is_news {
            self.mailbox.post([Event::Down { why: why.clone() }]);
        }
    }

    pub fn post(&self, event: Event) {
        self.mailbox.post([event]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd() -> (Arc<Crowd>, Arc<Mailbox>) {
        let mailbox = Mailbox::new(Box::new(|| {}));
        (Crowd::new(mailbox.clone(), true), mailbox)
    }

    #[test]
    fn it_is_up_while_any_gate_is_open() {
        let (crowd, mailbox) = crowd();
        let (a, b, why): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "b".into(), "slow".into());
        crowd.closed(&a, &why, false, true);
        assert_eq!(mailbox.take(), [Event::Down { why: "a: slow".into() }]);
        crowd.opened(&b, false, Vec::new());
        assert_eq!((mailbox.take(), crowd.is_up()), (vec![Event::Up], true));
        crowd.opened(&a, true, Vec::new());
        assert_eq!(mailbox.take(), [Event::Recovered { server: a.clone() }]);
        crowd.closed(&a, &why, true, true);
        assert_eq!(
            (mailbox.take(), crowd.is_up()),
            (vec![Event::Ailing { server: a, why: why.clone() }], true)
        );
        crowd.closed(&b, &why, true, true);
        assert_eq!((mailbox.take(), crowd.is_up()), (vec![Event::Down { why: "b: slow".into() }], false));
    }

    #[test]
    fn each_reason_is_told_once_per_outage_and_only_so_many() {
        let (crowd, mailbox) = crowd();
        for why in ["x", "x", "1", "2", "3", "4", "5"] {
            crowd.unreachable(&why.into());
        }
        assert_eq!(mailbox.take().len(), MAX_TOLD);
        assert_eq!(&*crowd.why(), "5");
    }
}
