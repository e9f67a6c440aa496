//! A Redis Cluster: one keeper and one gate per primary, and who keeps which slots.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use redis::Value;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::crowd::Crowd;
use crate::dial::{Line, Role, ask};
use crate::exchange::send;
use crate::gate::Gate;
use crate::keeper::{Beacon, Home, Keeper, back_off};
use crate::mailbox::Mailbox;
use crate::options::Plan;
use crate::place::Host;
use crate::slots::{Range, read, slot_of};

/// While nothing calls for it, it is asked so often who keeps what, in ms.
const CALM_MS: std::ops::Range<u64> = 30_000..60_000;
/// While a primary is away, or a part of the slots is nobody's.
const TROUBLED_MS: std::ops::Range<u64> = 500..1_500;
/// And never sooner again than so: a slot that moves sends many of us elsewhere at one moment.
const PAUSE_MS: std::ops::Range<u64> = 100..400;

/// The servers of a Cluster that take writes.
pub struct Cluster {
    plan: Plan,
    crowd: Arc<Crowd>,
    mailbox: Arc<Mailbox>,
    map: Mutex<Map>,
    /// Rings when a server has sent us elsewhere.
    astray: Arc<Notify>,
}

#[derive(Default)]
struct Map {
    seats: BTreeMap<Host, Seat>,
    /// By their first slot; none overlap.
    ranges: Vec<Range>,
    /// Slots of which servers have told since the ranges were read.
    moved: HashMap<u16, Host>,
}

/// A primary.
struct Seat {
    gate: Arc<Gate>,
    beacon: watch::Sender<Beacon>,
    keeper: AbortHandle,
}

impl Cluster {
    pub fn new(plan: Plan, crowd: Arc<Crowd>, mailbox: Arc<Mailbox>) -> Arc<Cluster> {
        Arc::new(Cluster { plan, crowd, mailbox, map: Mutex::default(), astray: Arc::default() })
    }

    /// The gate of the server that keeps a key.
    pub fn gate(&self, key: &str) -> Result<Arc<Gate>, Arc<str>> {
        let slot = slot_of(key);
        let map = self.lock();
        let gate = map.keeper_of(slot).and_then(|host| map.seats.get(host)).map(|seat| seat.gate.clone());
        gate.ok_or_else(|| format!("no server of the Cluster is known to keep slot {slot}").into())
    }

    /// A server has sent us elsewhere. Whether the next transaction on that slot will go there: not
    /// when two servers name each other, which a new look at the map has to end.
    pub fn sent_elsewhere(&self, to: Option<&(u16, Host)>) -> bool {
        let Some((slot, host)) = to else {
            return false;
        };
        self.astray.notify_one();
        let mut map = self.lock();
        let is_known = map.seats.get(host).is_some_and(|seat| seat.gate.is_open());
        is_known && map.moved.insert(*slot, host.clone()).is_none()
    }

    /// Closes all gates.
    pub fn close(&self, why: &Arc<str>) {
        self.lock().seats.values().for_each(|seat| seat.gate.close(why));
    }

    /// Looks who keeps what, now and whenever there is a reason. Never ends by itself.
    pub async fn run(&self) {
        let (mut keepers, mut random, mut failures) = (JoinSet::new(), Rng::new(), 0);
        loop {
            match self.look(&mut random).await {
                Ok(ranges) => {
                    failures = 0;
                    self.settle(ranges, &mut keepers);
                    while keepers.try_join_next().is_some() {}
                    self.rest(&mut random).await;
                }
                Err(why) => {
                    failures += 1;
                    self.crowd.unreachable(&why);
                    sleep(back_off(failures, &mut random)).await;
                }
            }
        }
    }

    async fn rest(&self, random: &mut Rng) {
        let pause = Duration::from_millis(random.u64(PAUSE_MS));
        let is_well = self.lock().is_well();
        let long = Duration::from_millis(random.u64(if is_well { CALM_MS } else { TROUBLED_MS }));
        sleep(pause).await;
        tokio::select! {
            () = self.astray.notified() => {}
            () = self.crowd.trouble.notified() => {}
            () = sleep(long) => {}
        }
    }

    /// Asks servers one after the other, those first that answer others as well.
    async fn look(&self, random: &mut Rng) -> Result<Vec<Range>, Arc<str>> {
        let (mut lines, mut hosts) = self.known();
        random.shuffle(&mut lines);
        random.shuffle(&mut hosts);
        let limit = self.plan.dial_limit();
        let mut why: Arc<str> = "no server of the Cluster is known".into();
        for (host, line) in lines {
            match timeout(limit, question_on(&line)).await {
                Ok(Some(reply)) => match read(&reply, &host) {
                    Some(ranges) => return Ok(ranges),
                    None => why = unreadable(&host),
                },
                _ => why = format!("{host} did not tell who keeps what").into(),
            }
        }
        for host in hosts {
            why = match timeout(limit, self.question_to(&host)).await {
                Ok(Ok(reply)) => match read(&reply, &host) {
                    Some(ranges) => return Ok(ranges),
                    None => unreadable(&host),
                },
                Ok(Err(why)) => format!("{host}: {why}").into(),
                Err(_) => format!("{host} did not answer within {} ms", limit.as_millis()).into(),
            };
        }
        Err(why)
    }

    /// Connections that are good, and all hosts there are to ask.
    fn known(&self) -> (Vec<(Host, Arc<Line>)>, Vec<Host>) {
        let map = self.lock();
        let open =
            map.seats.iter().filter_map(|(host, seat)| Some((host.clone(), seat.gate.pass().ok()?.line)));
        let mut hosts: Vec<Host> = map.seats.keys().cloned().collect();
        if let crate::place::Place::Cluster { seeds } = &self.plan.place {
            hosts.extend(seeds.iter().filter(|seed| !map.seats.contains_key(seed)).cloned());
        }
        (open.collect(), hosts)
    }

    async fn question_to(&self, host: &Host) -> Result<Value, Arc<str>> {
        let credentials = self.plan.credentials().map_err(|e| e.to_string())?;
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        ask(&self.plan, host, credentials.as_ref(), question).await
    }

    /// Makes the map that was read the one in force.
    fn settle(&self, ranges: Vec<Range>, keepers: &mut JoinSet<()>) {
        let mut map = self.lock();
        let is_kept = |host: &Host| ranges.iter().any(|range| range.host == *host);
        let gone: Vec<Host> = map.seats.keys().filter(|host| !is_kept(host)).cloned().collect();
        for host in gone {
            if let Some(seat) = map.seats.remove(&host) {
                // The gate first: what is under way there must not close it once more.
                seat.gate.dismiss();
                seat.keeper.abort();
            }
        }
        for range in &ranges {
            if !map.seats.contains_key(&range.host) {
                let seat = self.seat(&range.host, keepers);
                map.seats.insert(range.host.clone(), seat);
            }
        }
        for (host, seat) in &map.seats {
            let beacon = beacon(&self.plan, &ranges, host);
            seat.beacon.send_if_modified(|old| {
                let is_new = *old != beacon;
                *old = beacon;
                is_new
            });
        }
        map.ranges = ranges;
        map.moved.clear();
    }

    fn seat(&self, host: &Host, keepers: &mut JoinSet<()>) -> Seat {
        let gate = Gate::new(self.crowd.clone(), host.to_string().into());
        let none = Beacon { key: self.plan.gateways_key(), counts: false };
        let (beacon, seen) = watch::channel(none);
        let home = Home::At(self.plan.address(host), Role::Primary);
        let keeper = Keeper::new(self.plan.clone(), home, seen, gate.clone(), self.mailbox.clone());
        let keeper = keepers.spawn(keeper.of_cluster(self.astray.clone()).run());
        Seat { gate, beacon, keeper }
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn keeper_of(&self, slot: u16) -> Option<&Host> {
        self.moved.get(&slot).or_else(|| keeper_in(&self.ranges, slot))
    }

    /// Whether every slot has a server that answers.
    fn is_well(&self) -> bool {
        let covered: u32 = self.ranges.iter().map(|r| u32::from(r.last.saturating_sub(r.first)) + 1).sum();
        covered >= u32::from(crate::slots::SLOTS) && self.seats.values().all(|seat| seat.gate.is_open())
    }
}

fn keeper_in(ranges: &[Range], slot: u16) -> Option<&Host> {
    let at = ranges.partition_point(|range| range.first <= slot).checked_sub(1)?;
    ranges.get(at).filter(|range| slot <= range.last).map(|range| &range.host)
}

/// The gateways are counted in one key, on the server that keeps it; the others are tried with keys
/// that they keep.
fn beacon(plan: &Plan, ranges: &[Range], host: &Host) -> Beacon {
    let keeps = |key: &String| keeper_in(ranges, slot_of(key)) == Some(host);
    let common = plan.gateways_key();
    if keeps(&common) {
        return Beacon { key: common, counts: true };
    }
    // One slot in 16384 is found within some ten thousand tries.
    let own = (0..1_000_000).map(|n| format!("{}:probe:{n}", plan.options.prefix)).find(keeps);
    Beacon { key: own.unwrap_or(common), counts: false }
}

fn unreadable(host: &Host) -> Arc<str> {
    format!("{host} knows no server that keeps slots: is the Cluster made?").into()
}

async fn question_on(line: &Line) -> Option<Value> {
    let mut commands = redis::pipe();
    commands.cmd("CLUSTER").arg("SLOTS");
    send(line, &commands).await.ok()?.pop()
}
