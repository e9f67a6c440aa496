//! Keeps a connection: dials, probes, announces this gateway, and dials again.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::dial::{Dialled, Line, Reading, Role, dial};
use crate::exchange::{Failure, begin, integer, run, time_ms};
use crate::gate::Gate;
use crate::mailbox::{Event, Mailbox};
use crate::options::Plan;
use crate::place::{Address, Host};
use crate::sentinel;

/// Between announcements while all is well.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);
/// A gateway that announced itself within this time counts.
const SEEN_WITHIN_MS: u64 = 60_000;
/// A connection that gives no good answer for so long is dialled anew.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that lasted so long was a good one: the next one is dialled at once.
const LASTING: Duration = Duration::from_secs(2);

/// Where a keeper finds its server.
pub enum Home {
    At(Address, Role),
    /// Sentinels know.
    Sentinel {
        sentinels: Vec<Host>,
        master: String,
    },
}

/// Where a gateway announces itself, which also tells whether a server takes writes.
#[derive(Clone, PartialEq)]
pub struct Beacon {
    pub key: String,
    /// Whether it is there that the gateways are counted.
    pub counts: bool,
}

/// Keeps the connection to one server. Runs until it is dropped.
pub struct Keeper {
    plan: Plan,
    home: Home,
    beacon: watch::Receiver<Beacon>,
    gate: Arc<Gate>,
    mailbox: Arc<Mailbox>,
    /// Rung when the server sends us elsewhere; none outside a Cluster.
    astray: Option<Arc<Notify>>,
    random: Rng,
    /// The count told last.
    gateways: Option<u32>,
}

impl Keeper {
    pub fn new(
        plan: Plan,
        home: Home,
        beacon: watch::Receiver<Beacon>,
        gate: Arc<Gate>,
        mailbox: Arc<Mailbox>,
    ) -> Keeper {
        let random = Rng::new();
        Keeper { plan, home, beacon, gate, mailbox, astray: None, random, gateways: None }
    }

    /// A keeper of a server of a Cluster.
    pub fn of_cluster(self, astray: Arc<Notify>) -> Keeper {
        Keeper { astray: Some(astray), ..self }
    }

    /// Never ends by itself.
    pub async fn run(mut self) {
        let mut attempt = 0;
        loop {
            let (why, lasted) = self.keep_one(attempt).await;
            self.gate.close(&why);
            attempt = if lasted >= LASTING { 0 } else { attempt + 1 };
            sleep(back_off(attempt, &mut self.random)).await;
        }
    }

    /// One connection from dialling to its end: why it ended and how long it was of use.
    async fn keep_one(&mut self, attempt: usize) -> (Arc<str>, Duration) {
        let (address, role) = match self.find().await {
            Ok(found) => found,
            Err(why) => return (why, Duration::ZERO),
        };
        let dialling = dial(&self.plan, &address, role, attempt);
        let dialled = match timeout(self.plan.dial_limit(), dialling).await {
            Ok(Ok(dialled)) => dialled,
            Ok(Err(why)) => return (why, Duration::ZERO),
            Err(_) => return (self.no_greeting(&address), Duration::ZERO),
        };
        let mut since = None;
        let why = self.serve(dialled, &address, &mut since).await;
        (why, since.map_or(Duration::ZERO, |since: Instant| since.elapsed()))
    }

    async fn find(&mut self) -> Result<(Address, Role), Arc<str>> {
        match &mut self.home {
            Home::At(address, role) => Ok((address.clone(), *role)),
            Home::Sentinel { sentinels, master } => {
                let host = sentinel::master(&self.plan, sentinels, master).await?;
                Ok((self.plan.address(&host), Role::Master))
            }
        }
    }

    fn no_greeting(&self, address: &Address) -> Arc<str> {
        let limit = self.plan.dial_limit().as_millis();
        // A server without TLS waits for the rest of what it takes for a command.
        let hint = match address {
            Address::Tls(_) => ", does it speak TLS?",
            _ => "",
        };
        format!("{address} did not greet within {limit} ms{hint}").into()
    }

    /// Uses a connection until it ends. `since` is set when it was found good.
    async fn serve(
        &mut self,
        mut dialled: Dialled,
        address: &Address,
        since: &mut Option<Instant>,
    ) -> Arc<str> {
        let line = dialled.line.clone();
        let mut reading = dialled.reading;
        let replaced = self.replaced(address.clone());
        let why = tokio::select! {
            why = dialled.ended() => why,
            why = replaced => why,
            why = self.alternate(&line, &mut reading, since) => why,
        };
        line.ending.end(&why);
        why
    }

    /// Recovers and watches in turn, until the connection is given up.
    async fn alternate(
        &mut self,
        line: &Arc<Line>,
        reading: &mut Reading,
        since: &mut Option<Instant>,
    ) -> Arc<str> {
        loop {
            match timeout(PATIENCE, self.recover(line, reading)).await {
                Ok(Ok(())) => self.gate.open(line, *reading),
                Ok(Err(why)) => return why,
                Err(_) => return format!("no good answer for {} s", PATIENCE.as_secs()).into(),
            }
            since.get_or_insert_with(Instant::now);
            if let Err(why) = self.watch(line, reading).await {
                return why;
            }
        }
    }

    /// Probes until an answer comes in time. One probe at a time: a stopped server is not met with a
    /// heap of them when it goes on.
    async fn recover(&mut self, line: &Line, reading: &mut Reading) -> Result<(), Arc<str>> {
        loop {
            let sent = Instant::now();
            match self.announce(line, reading).await {
                Ok(()) if sent.elapsed() <= self.plan.options.timeout => return Ok(()),
                Ok(()) => self.gate.close(&self.too_slow()),
                Err(failure) => self.take_failure(failure)?,
            }
            sleep(Duration::from_millis(self.random.u64(100..=250))).await;
        }
    }

    /// Announces now and then until the gate closes.
    async fn watch(&mut self, line: &Line, reading: &mut Reading) -> Result<(), Arc<str>> {
        let limit = self.plan.options.timeout;
        let gate = self.gate.clone();
        loop {
            tokio::select! {
                () = gate.wait_closed() => return Ok(()),
                () = sleep(ANNOUNCE_EVERY) => {}
            }
            match timeout(limit, self.announce(line, reading)).await {
                Ok(Ok(())) => gate.heard(line, *reading),
                Ok(Err(failure)) => self.take_failure(failure)?,
                Err(_) => gate.close(&self.too_slow()),
            }
        }
    }

    /// Closes the gate for it; an error when the connection can't be kept.
    fn take_failure(&self, failure: Failure) -> Result<(), Arc<str>> {
        let why = failure.why().clone();
        if let (Failure::Elsewhere { .. }, Some(astray)) = (&failure, &self.astray) {
            // Its other keys may well be where we think.
            astray.notify_one();
            return Ok(());
        }
        self.gate.close(&why);
        match failure {
            Failure::Refused(refusal) if !refusal.wants_new_connection => Ok(()),
            Failure::Spoilt(_) => Ok(()),
            Failure::Refused(_) | Failure::Broken(_) | Failure::Elsewhere { .. } => Err(why),
        }
    }

    /// Ends when Sentinels name another master than the one at `address`: an old one that we still
    /// reach while they do not would take writes that nobody will ever see.
    fn replaced(&self, address: Address) -> impl Future<Output = Arc<str>> + use<> {
        let plan = self.plan.clone();
        let watched = match &self.home {
            Home::Sentinel { sentinels, master } => Some((sentinels.clone(), master.clone())),
            Home::At(..) => None,
        };
        async move {
            let Some((mut sentinels, master)) = watched else {
                return std::future::pending().await;
            };
            loop {
                sleep(ANNOUNCE_EVERY).await;
                let named = sentinel::master(&plan, &mut sentinels, &master).await;
                if let Some(host) = named.ok().filter(|host| plan.address(host) != address) {
                    return format!("Sentinels name another master, {host}").into();
                }
            }
        }
    }

    fn too_slow(&self) -> Arc<str> {
        too_slow(self.plan.options.timeout)
    }

    /// Says that this gateway is there and counts those that are. It is a write like those of the
    /// transactions, and so tells whether the server takes them.
    async fn announce(&mut self, line: &Line, reading: &mut Reading) -> Result<(), Failure> {
        let clock = self.plan.options.clock;
        let sent_ms = clock();
        let passed_ms = sent_ms.saturating_sub(reading.received_ms);
        let server_ms = reading.time_ms.saturating_add(passed_ms);
        let beacon = self.beacon.borrow().clone();
        let items = run(line, self.announcement(&beacon.key, server_ms)).await?;
        let received_ms = clock();
        let mut items = items.into_iter();
        let time_ms = time_ms(items.next())?;
        *reading = Reading { sent_ms, received_ms, time_ms };
        let count = integer(items.nth(2))?;
        if beacon.counts {
            self.tell_gateways(u32::try_from(count).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn announcement(&self, key: &str, server_ms: u64) -> redis::Pipeline {
        let gone_ms = server_ms.saturating_sub(SEEN_WITHIN_MS);
        let mut pipe = begin();
        pipe.cmd("ZADD").arg(key).arg(server_ms).arg(&self.plan.options.gateway);
        pipe.cmd("ZREMRANGEBYSCORE").arg(key).arg("-inf").arg(gone_ms);
        pipe.cmd("ZCARD").arg(key);
        pipe.cmd("PEXPIRE").arg(key).arg(2 * SEEN_WITHIN_MS);
        pipe
    }

    fn tell_gateways(&mut self, count: u32) {
        if self.gateways.replace(count) != Some(count) {
            self.mailbox.post([Event::Gateways(count)]);
        }
    }
}

/// The reason of a breaker that opened on time.
pub fn too_slow(limit: Duration) -> Arc<str> {
    format!("no answer within {} ms", limit.as_millis()).into()
}

/// How long to wait before the attempt after `failures`: from 50 ms doubling to 2 s, and anywhere
/// within, so that ten thousand gateways do not come back at one moment.
pub fn back_off(failures: usize, random: &mut Rng) -> Duration {
    let most = 50u64 << failures.min(6);
    Duration::from_millis(random.u64(25..=most.min(2000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_and_scatters() {
        let mut random = Rng::with_seed(1);
        for failures in 0..80 {
            let waits: Vec<_> =
                (0..200).map(|_| back_off(failures, &mut random).as_millis() as u64).collect();
            let most = (50u64 << failures.min(6)).min(2000);
            assert!(waits.iter().all(|wait| (25..=most).contains(wait)), "{failures}");
            assert!(waits.iter().any(|wait| *wait > most * 9 / 10), "{failures}");
            assert!(waits.iter().any(|wait| *wait < 25 + most / 10), "{failures}");
        }
    }

    /// All lose a server at one moment, which is away for 20 s: after the first seconds no tenth of a
    /// second sees many more attempts than another.
    #[test]
    fn ten_thousand_gateways_do_not_come_back_at_one_moment() {
        let mut tenths = [0u32; 200];
        for seed in 0..10_000 {
            let (mut random, mut now) = (Rng::with_seed(seed), Duration::ZERO);
            for failures in 1.. {
                now += back_off(failures, &mut random);
                let Some(tenth) = tenths.get_mut((now.as_millis() / 100) as usize) else { break };
                *tenth += 1;
            }
        }
        let later = &tenths[50..];
        let mean = later.iter().sum::<u32>() / later.len() as u32;
        assert!((800..1_200).contains(&mean), "once a second each: {mean}");
        assert!(later.iter().all(|tenth| *tenth < mean * 5 / 4), "{later:?}");
    }
}
