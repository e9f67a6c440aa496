//! Events on their way out, and the tickets that make sure of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use weir_limiter::{Answer, Transaction};

/// What a [`Link`](crate::Link) has to tell. All times are milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A transaction's answer; also one that came after the time-out, when the breaker is open.
    Answer { id: u64, answer: Answer },
    /// There will be no answer. Whether the server ran the transaction is unknown; it is never sent
    /// again.
    Lost { id: u64, why: Arc<str> },
    /// It was not run: the life that it was made for is over, or keeps its keys no longer. Made anew,
    /// it finds the server that does.
    Moved { id: u64 },
    /// `TIME` (server time) was read between `sent_ms` and `received_ms` (the gateway's clock) from
    /// the server's life `life`. Comes before that server's first answer. A life ends with the
    /// server's process, or when it takes no writes any more; FLUSHALL does not end it. `is_only`: there
    /// is no other server, so every other life has ended.
    Connected { sent_ms: u64, received_ms: u64, time_ms: u64, life: u64, is_only: bool },
    /// The same, on a connection that is open already: every ten seconds or so.
    Heard { sent_ms: u64, received_ms: u64, time_ms: u64, life: u64 },
    /// This life of one of several servers is over, for us at least.
    Ended { life: u64 },
    /// A server answers in time and takes writes.
    Up,
    /// None does; once per outage, and again when it turns out that the reason is another.
    Down { why: Arc<str> },
    /// One of several servers does not, others do: what is meant for it is lost at once.
    Ailing { server: Arc<str>, why: Arc<str> },
    /// It does again.
    Recovered { server: Arc<str> },
    /// How many gateways announced themselves in the last minute, this one included; when it changed.
    Gateways(u32),
    /// What is published was taken in: see [`Follow`](crate::Follow).
    News,
}

/// Events between the link's thread and the caller's.
pub struct Mailbox {
    events: Mutex<Vec<Event>>,
    wake: Box<dyn Fn() + Send + Sync>,
    /// Tickets that have neither an answer nor a loss.
    outstanding: AtomicUsize,
}

impl Mailbox {
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Mailbox> {
        Arc::new(Mailbox { events: Mutex::default(), wake, outstanding: AtomicUsize::new(0) })
    }

    /// Puts events in, in this order and with no other between them.
    pub fn post(&self, new: impl IntoIterator<Item = Event>) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = events.is_empty();
        events.extend(new);
        let rings = was_empty && !events.is_empty();
        drop(events);
        if rings {
            // A ticket dropped by a panic posts while unwinding: a second panic would be an abort.
            let _ = catch_unwind(AssertUnwindSafe(&self.wake));
        }
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }
}

/// A transaction under way. However it ends, by an answer, an error, a panic or the end of the
/// thread, exactly one event comes of it.
pub struct Ticket {
    pub transaction: Transaction,
    mailbox: Arc<Mailbox>,
    is_settled: bool,
}

impl Ticket {
    pub fn new(transaction: Transaction, mailbox: &Arc<Mailbox>) -> Ticket {
        mailbox.outstanding.fetch_add(1, Ordering::Relaxed);
        Ticket { transaction, mailbox: mailbox.clone(), is_settled: false }
    }

    pub fn answer(mut self, answer: Answer) {
        self.settle(Event::Answer { id: self.transaction.id, answer });
    }

    pub fn lose(mut self, why: &Arc<str>) {
        self.settle(Event::Lost { id: self.transaction.id, why: why.clone() });
    }

    pub fn moved(mut self) {
        self.settle(Event::Moved { id: self.transaction.id });
    }

    fn settle(&mut self, event: Event) {
        self.is_settled = true;
        self.mailbox.outstanding.fetch_sub(1, Ordering::Relaxed);
        self.mailbox.post([event]);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_settled {
            let why = "the link to Redis was closed".into();
            self.settle(Event::Lost { id: self.transaction.id, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> (Arc<Mailbox>, Arc<AtomicUsize>) {
        let rings = Arc::new(AtomicUsize::new(0));
        let counter = rings.clone();
        let wake = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        (Mailbox::new(wake), rings)
    }

    fn transaction(id: u64) -> Transaction {
        Transaction { id, life: 0, parts: Vec::new() }
    }

    #[test]
    fn the_bell_rings_once_until_the_box_is_emptied() {
        let (mailbox, rings) = mailbox();
        mailbox.post([]);
        assert_eq!(rings.load(Ordering::Relaxed), 0);
        mailbox.post([Event::Up]);
        mailbox.post([Event::Gateways(1), Event::Gateways(2)]);
        assert_eq!(rings.load(Ordering::Relaxed), 1);
        assert_eq!(mailbox.take().len(), 3);
        assert_eq!(mailbox.take(), []);
        mailbox.post([Event::Up]);
        assert_eq!(rings.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn every_ticket_ends_in_exactly_one_event() {
        let (mailbox, _) = mailbox();
        let answer = Answer { time_ms: 1, life: 2, fields: Vec::new() };
        let tickets: Vec<_> = (1..=4).map(|id| Ticket::new(transaction(id), &mailbox)).collect();
        assert_eq!(mailbox.outstanding(), 4);
        let [first, second, third, fourth] = tickets.try_into().ok().unwrap();
        first.answer(answer);
        second.lose(&"why".into());
        drop(third);
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let _held = fourth;
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(unwound.is_err());
        let ids: Vec<_> = mailbox
            .take()
            .into_iter()
            .map(|event| match event {
                Event::Answer { id, .. } => (id, "answer"),
                Event::Lost { id, .. } => (id, "lost"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids, [(1, "answer"), (2, "lost"), (3, "lost"), (4, "lost")]);
        assert_eq!(mailbox.outstanding(), 0);
    }

    #[test]
    fn a_bell_that_panics_loses_no_event() {
        let mailbox = Mailbox::new(Box::new(|| std::panic::resume_unwind(Box::new(()))));
        mailbox.post([Event::Up]);
        assert_eq!(mailbox.take(), [Event::Up]);
    }
}
