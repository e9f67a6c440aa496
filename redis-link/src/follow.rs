//! Follows the published policy and the brake, for a gateway.
//!
//! It asks once a second, with two small reads: a change is in force within two seconds, and there is
//! no message that could be lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use redis::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use crate::exchange::{Failure, begin, run};
use crate::gate::Pass;
use crate::link::Fleet;
use crate::mailbox::{Event, Mailbox};
use crate::options::Plan;
use crate::parcel::{Order, Parcel};
use crate::published::{self, Brake, CHUNK, Head, Keys, Release};

/// How often is asked what is in force.
const EVERY: Duration = Duration::from_secs(1);
/// ... until the first answer: a gateway that has just begun has no policy yet, or an old one.
const AT_FIRST: Duration = Duration::from_millis(50);

/// Longer texts are no policies; the parser says so with more words.
const MAX_BYTES: usize = 65 << 20;

/// What a gateway wants to be told.
pub struct Follow {
    /// Whether it goes by the published policy; else by the brake alone.
    pub policy: bool,
    /// The version in force at the start: its text need not be fetched.
    pub version: u64,
    /// The newest schema that the gateway can read.
    pub schema: u32,
    /// Called on a thread where it may take its time. [`Event::News`] comes when it has returned.
    pub take: Arc<dyn Fn(News) + Send + Sync>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A release whose text is not the one in force, and how to come by it.
    Policy { release: Release, parcel: Parcel },
    /// The version in force was published (again), as this release.
    InForce { release: Release },
    /// A release of a schema that this gateway does not know.
    TooNew { release: Release },
    /// Limits are not enforced until then, by the gateway's clock.
    Off { brake: Brake, until_ms: u64 },
    /// They are again.
    On,
    /// Why the policy, a part of it or the brake can't be read. Said once for each reason.
    Trouble { why: Arc<str> },
}

pub struct Follower {
    plan: Plan,
    fleet: Fleet,
    mailbox: Arc<Mailbox>,
    follow: Follow,
    keys: Keys,
    /// The release that was dealt with last.
    head: Head,
    /// Whether the brake was there when it was looked for last.
    is_off: bool,
    trouble: Option<Arc<str>>,
    /// Why parts of that release can't be had, as was told.
    lost: BTreeSet<Arc<str>>,
    /// For parcels.
    orders: UnboundedSender<Order>,
    ordered: UnboundedReceiver<Order>,
}

impl Follower {
    pub fn new(plan: Plan, fleet: Fleet, mailbox: Arc<Mailbox>, follow: Follow) -> Follower {
        let keys = Keys::new(&plan.options.prefix);
        let (orders, ordered) = unbounded_channel();
        Follower {
            plan,
            fleet,
            mailbox,
            follow,
            keys,
            head: Head::default(),
            is_off: false,
            trouble: None,
            lost: BTreeSet::new(),
            orders,
            ordered,
        }
    }

    /// Never ends by itself.
    pub async fn run(mut self) {
        let mut pause = AT_FIRST;
        loop {
            match self.look().await {
                Ok(true) => {
                    self.trouble = None;
                    pause = EVERY;
                }
                Ok(false) => {}
                Err(failure) => {
                    self.fail(failure).await;
                    pause = EVERY;
                }
            }
            let due = Instant::now() + pause;
            loop {
                tokio::select! {
                    () = sleep_until(due) => break,
                    // Never none: the other end is here too.
                    Some(order) = self.ordered.recv() => self.deliver(order).await,
                }
            }
        }
    }

    /// Whoever needs what is lost orders it again and again, and is told why once.
    async fn deliver(&mut self, order: Order) {
        let fetched = self.fetch(&order.key(&self.keys), order.bytes()).await;
        if let Err(why) = fetched.as_ref().map_err(|failure| failure.why().clone())
            && self.lost.insert(why.clone())
        {
            self.tell(News::Trouble { why }).await;
        }
        order.answer(fetched.ok().flatten());
    }

    /// Whether there was an answer. A server that can't be asked is the keeper's business.
    async fn look(&mut self) -> Result<bool, Failure> {
        let mut question = begin();
        question.cmd("GET").arg(self.keys.brake());
        question.cmd("PTTL").arg(self.keys.brake());
        if self.follow.policy {
            question.cmd("GET").arg(self.keys.head());
        }
        let Some(mut items) = self.ask(question).await? else {
            return Ok(false);
        };
        let head = self.follow.policy.then(|| items.pop());
        let left = items.pop();
        self.take_brake(published::brake(items.pop(), left)?).await;
        match head.map(published::head).transpose()? {
            Some(head) if head != self.head && head.number != 0 => self.open(head).await,
            _ => Ok(true),
        }
    }

    /// One that holds is told each time: it may have been set anew, for longer or shorter.
    async fn take_brake(&mut self, brake: Option<Brake>) {
        let was_off = std::mem::replace(&mut self.is_off, brake.is_some());
        if let Some(brake) = brake {
            let until_ms = (self.plan.options.clock)().saturating_add(brake.left_ms);
            self.tell(News::Off { brake, until_ms }).await;
        } else if was_off {
            self.tell(News::On).await;
        }
    }

    async fn open(&mut self, head: Head) -> Result<bool, Failure> {
        let number = head.number;
        let mut question = begin();
        question.cmd("HGETALL").arg(self.keys.release(number));
        let Some(mut items) = self.ask(question).await? else {
            return Ok(false);
        };
        let missing = || Failure::Spoilt(format!("release {number} of the policy is not there").into());
        let release = published::release(number, items.pop())?.ok_or_else(missing)?;
        let news = if release.schema > self.follow.schema {
            News::TooNew { release }
        } else if release.version == self.follow.version {
            News::InForce { release }
        } else {
            self.follow.version = release.version;
            News::Policy { parcel: Parcel::new(&release, &self.orders), release }
        };
        self.head = head;
        self.lost.clear();
        self.tell(news).await;
        Ok(true)
    }

    /// A text or an image, chunk by chunk: it never changes, so it need not be read in one piece.
    async fn fetch(&self, key: &str, len: usize) -> Result<Option<Vec<u8>>, Failure> {
        let remedy = "publish the policy again with `weir apply`";
        let incomplete = || Failure::Spoilt(format!("{key} is lost or not complete; {remedy}").into());
        if len > MAX_BYTES {
            return Err(incomplete());
        }
        let mut bytes = Vec::with_capacity(len);
        for chunk in 0..len.div_ceil(CHUNK) {
            let mut question = begin();
            question.cmd("HGET").arg(key).arg(chunk);
            let Some(mut items) = self.ask(question).await? else {
                return Ok(None);
            };
            let Some(Value::BulkString(more)) = items.pop() else {
                return Err(incomplete());
            };
            bytes.extend_from_slice(&more);
        }
        if bytes.len() == len { Ok(Some(bytes)) } else { Err(incomplete()) }
    }

    /// The replies behind that to TIME; none where the server can't be asked now.
    async fn ask(&self, question: Pipeline) -> Result<Option<Vec<Value>>, Failure> {
        let Ok(pass) = self.pass() else {
            return Ok(None);
        };
        match timeout(self.plan.dial_limit(), run(&pass.line, question)).await {
            Ok(Ok(mut items)) => {
                items.remove(0);
                Ok(Some(items))
            }
            Ok(Err(Failure::Elsewhere { why, to })) => match &self.fleet {
                Fleet::Cluster(cluster) => {
                    cluster.sent_elsewhere(to.as_ref());
                    Ok(None)
                }
                Fleet::One(_) => Err(Failure::Elsewhere { why, to }),
            },
            Ok(Err(Failure::Broken(_))) | Err(_) => Ok(None),
            Ok(Err(failure)) => Err(failure),
        }
    }

    fn pass(&self) -> Result<Pass, Arc<str>> {
        self.fleet.gate(&self.keys.head())?.pass()
    }

    async fn fail(&mut self, failure: Failure) {
        let why = failure.why().clone();
        if self.trouble.replace(why.clone()).as_ref() != Some(&why) {
            self.tell(News::Trouble { why }).await;
        }
    }

    async fn tell(&self, news: News) {
        let take = self.follow.take.clone();
        // An error is a panic in there, of which the gateway's hook has told.
        if spawn_blocking(move || take(news)).await.is_ok() {
            self.mailbox.post([Event::News]);
        }
    }
}
