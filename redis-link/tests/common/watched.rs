//! A link whose events are kept and waited for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weir_limiter::{Answer, Transaction};
use weir_redis_link::{Event, Link, LinkOptions};

/// How long an event may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct Watched {
    pub link: Link,
    bell: Mutex<Receiver<()>>,
    pub rings: Arc<AtomicUsize>,
    /// Events that were taken and not yet waited for.
    events: Vec<Event>,
}

impl Watched {
    pub fn start(options: LinkOptions) -> Watched {
        let (ring, bell) = channel();
        let rings = Arc::new(AtomicUsize::new(0));
        let count = rings.clone();
        let wake = Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = ring.send(());
        });
        let link = Link::start(options, wake).unwrap();
        Watched { link, bell: Mutex::new(bell), rings, events: Vec::new() }
    }

    /// Starts and waits until it is up.
    pub fn up(options: LinkOptions) -> Watched {
        let mut link = Watched::start(options);
        link.wait_up();
        link
    }

    /// Waits for the first event that `pick` takes and removes it; events are only looked for when
    /// the bell has rung, as in nginx.
    pub fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = self.events.iter().enumerate().find_map(|(at, e)| Some((at, pick(e)?)));
            if let Some((at, value)) = found {
                self.events.remove(at);
                return value;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let rang = self.bell.get_mut().unwrap().recv_timeout(left);
            assert!(rang.is_ok(), "no {what}; there are {:?}", self.events);
            self.events.extend(self.link.take());
        }
    }

    pub fn wait_up(&mut self) {
        self.wait("Up", |event| (*event == Event::Up).then_some(()));
    }

    pub fn wait_down(&mut self) -> String {
        self.wait("Down", |event| match event {
            Event::Down { why } => Some(why.to_string()),
            _ => None,
        })
    }

    pub fn wait_life(&mut self) -> u64 {
        self.wait("Connected", |event| match event {
            Event::Connected { life, .. } => Some(*life),
            _ => None,
        })
    }

    pub fn wait_gateways(&mut self, expected: u32) {
        self.wait("Gateways", |event| (*event == Event::Gateways(expected)).then_some(()));
    }

    /// The end of one transaction: its answer or why it was lost.
    pub fn outcome(&mut self, wanted: u64) -> Result<Answer, String> {
        self.wait(&format!("end of transaction {wanted}"), |event| match event {
            Event::Answer { id, answer } if *id == wanted => Some(Ok(answer.clone())),
            Event::Lost { id, why } if *id == wanted => Some(Err(why.to_string())),
            Event::Moved { id } if *id == wanted => Some(Err("moved".to_owned())),
            _ => None,
        })
    }

    pub fn ask(&mut self, transaction: Transaction) -> Result<Answer, String> {
        let id = transaction.id;
        self.link.send(transaction);
        self.outcome(id)
    }

    /// Everything that was not waited for.
    pub fn rest(&mut self) -> Vec<Event> {
        self.events.extend(self.link.take());
        std::mem::take(&mut self.events)
    }
}
