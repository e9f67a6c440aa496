//! Keeps a connection: dials, probes, announces this gateway, and dials again.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};

use crate::dial::{Dialled, Line, Reading, dial};
use crate::exchange::{Failure, begin, integer, run, time_ms};
use crate::gate::Gate;
use crate::mailbox::{Event, Mailbox};
use crate::options::{Address, Plan};

/// Between announcements while all is well.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);
/// A gateway that announced itself within this time counts.
const SEEN_WITHIN_MS: u64 = 60_000;
/// A connection that gives no good answer for so long is dialled anew.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that lasted so long was a good one: the next one is dialled at once.
const LASTING: Duration = Duration::from_secs(2);

/// Runs for the life of the link.
pub struct Keeper {
    plan: Plan,
    gate: Arc<Gate>,
    mailbox: Arc<Mailbox>,
    random: Rng,
    /// The count told last.
    gateways: Option<u32>,
}

impl Keeper {
    pub fn new(plan: Plan, gate: Arc<Gate>, mailbox: Arc<Mailbox>, random: Rng) -> Keeper {
        Keeper { plan, gate, mailbox, random, gateways: None }
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
        let dialled = match timeout(self.dial_limit(), dial(&self.plan, attempt)).await {
            Ok(Ok(dialled)) => dialled,
            Ok(Err(why)) => return (why, Duration::ZERO),
            Err(_) => return (self.no_greeting(), Duration::ZERO),
        };
        let mut since = None;
        let why = self.serve(dialled, &mut since).await;
        (why, since.map_or(Duration::ZERO, |since: Instant| since.elapsed()))
    }

    fn dial_limit(&self) -> Duration {
        let many = self.plan.options.timeout.saturating_mul(10);
        many.max(Duration::from_secs(1))
    }

    fn no_greeting(&self) -> Arc<str> {
        let limit = self.dial_limit().as_millis();
        // A server without TLS waits for the rest of what it takes for a command.
        let hint = match self.plan.address {
            Address::Tls { .. } => ", does it speak TLS?",
            _ => "",
        };
        format!("{} did not greet within {limit} ms{hint}", self.plan.shown()).into()
    }

    /// Uses a connection until it ends. `since` is set when it was found good.
    async fn serve(&mut self, mut dialled: Dialled, since: &mut Option<Instant>) -> Arc<str> {
        let line = dialled.line.clone();
        let mut reading = dialled.reading;
        let why = tokio::select! {
            why = dialled.ended() => why,
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
                Ok(Ok(())) => {}
                Ok(Err(failure)) => self.take_failure(failure)?,
                Err(_) => gate.close(&self.too_slow()),
            }
        }
    }

    /// Closes the gate for it; an error when the connection can't be kept.
    fn take_failure(&self, failure: Failure) -> Result<(), Arc<str>> {
        let why = failure.why().clone();
        self.gate.close(&why);
        match failure {
            Failure::Refused(refusal) if !refusal.wants_new_connection => Ok(()),
            Failure::Spoilt(_) => Ok(()),
            Failure::Refused(_) | Failure::Broken(_) => Err(why),
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
        let items = run(line, self.announcement(server_ms)).await?;
        let received_ms = clock();
        let mut items = items.into_iter();
        let time_ms = time_ms(items.next())?;
        *reading = Reading { sent_ms, received_ms, time_ms };
        let count = integer(items.nth(2))?;
        self.tell_gateways(u32::try_from(count).unwrap_or(u32::MAX));
        Ok(())
    }

    fn announcement(&self, server_ms: u64) -> redis::Pipeline {
        let key = format!("{}:gateways", self.plan.options.prefix);
        let gone_ms = server_ms.saturating_sub(SEEN_WITHIN_MS);
        let mut pipe = begin();
        pipe.cmd("ZADD").arg(&key).arg(server_ms).arg(&self.plan.options.gateway);
        pipe.cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(gone_ms);
        pipe.cmd("ZCARD").arg(&key);
        pipe.cmd("PEXPIRE").arg(&key).arg(2 * SEEN_WITHIN_MS);
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
fn back_off(failures: usize, random: &mut Rng) -> Duration {
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
}
