//! The limiter over a real Redis Cluster: two gateways, floods, and whether any window holds more than
//! its limit while slots move and primaries die.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{PREFIX, boottime_ms, options, wait_until};
use weir_limiter::{Ask, Counter, Decision, Mode, Table, Worker};
use weir_redis_link::{Event, Link, LinkOptions};
use weir_testbed::redis::RedisCluster;

const WINDOW_MS: u64 = 2000;
const LIMIT: u64 = 200;
const CLIENTS: usize = 24;

/// A gateway of one worker, as the nginx module has it, under `weir_fallback deny`.
struct Gateway {
    worker: Worker,
    link: Link,
    counters: Vec<Arc<Counter>>,
    /// (time, client) of all that was admitted.
    admitted: Vec<(u64, usize)>,
}

impl Gateway {
    fn start(url: &str, number: usize, names: &[String]) -> Gateway {
        let words = vec![0u64; Table::bytes_for(1000) / 8].leak();
        // SAFETY: leaked, aligned, and used through tables only.
        let table = unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, [5, 6]) }.unwrap();
        let mut worker = Worker::new(table, Mode::Shared, 1, |_| true);
        worker.link(false);
        let options = LinkOptions {
            timeout: Duration::from_millis(200),
            gateway: format!("gw-{number}"),
            ..options(url)
        };
        let link = Link::start(options, Box::new(|| {})).unwrap();
        let counters = names.iter().map(|name| Counter::new(name, ":requests:2000")).collect();
        Gateway { worker, link, counters, admitted: Vec::new() }
    }

    /// Asks for everybody again and again.
    fn run(mut self, is_over: &AtomicBool) -> Vec<(u64, usize)> {
        let mut states = Vec::new();
        while !is_over.load(Ordering::SeqCst) {
            for event in self.link.take() {
                self.take_in(event);
            }
            self.worker.tick(boottime_ms());
            for (client, counter) in self.counters.iter().enumerate() {
                let now = boottime_ms();
                let ask = [Ask { counter, amount: LIMIT, window_ms: WINDOW_MS, cost: 1, until: u64::MAX }];
                if self.worker.decide(now, &ask, &mut states) == Decision::Allow {
                    self.admitted.push((now, client));
                }
            }
            for transaction in self.worker.outgoing() {
                self.link.send(transaction);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.admitted
    }

    fn take_in(&mut self, event: Event) {
        let now = boottime_ms();
        match event {
            Event::Answer { id, answer } => self.worker.answered(now, id, &answer),
            Event::Lost { id, .. } => self.worker.lost(now, id),
            Event::Moved { id } => self.worker.moved(now, id),
            Event::Connected { sent_ms, received_ms, time_ms, life, .. }
            | Event::Heard { sent_ms, received_ms, time_ms, life } => {
                self.worker.heard(sent_ms, received_ms, time_ms, life);
            }
            Event::Ended { life } => self.worker.ended(now, life),
            Event::Gateways(seen) => self.worker.set_gateways(seen),
            Event::Up => self.worker.link(true),
            Event::Down { .. } => self.worker.link(false),
            Event::Ailing { .. } | Event::Recovered { .. } | Event::News => {}
        }
    }
}

/// Two gateways at work while `meanwhile` happens; all that they admitted, by client, in order.
fn played(url: &str, names: &[String], meanwhile: impl FnOnce()) -> Vec<Vec<u64>> {
    let is_over = AtomicBool::new(false);
    let mut times = vec![Vec::new(); names.len()];
    std::thread::scope(|scope| {
        let gateways = [0, 1].map(|n| Gateway::start(url, n, names));
        let threads = gateways.map(|gateway| scope.spawn(|| gateway.run(&is_over)));
        // Whatever happens, the others must hear of it.
        let over = Over(&is_over);
        meanwhile();
        drop(over);
        for (now, client) in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            times[client].push(now);
        }
    });
    times.iter_mut().for_each(|times| times.sort_unstable());
    times
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The most that any interval of a window's length holds.
fn fullest(times: &[u64]) -> u64 {
    let (mut first, mut most) = (0, 0);
    for (last, time) in times.iter().enumerate() {
        while times[first] + WINDOW_MS <= *time {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most as u64
}

fn pass(time: Duration) {
    std::thread::sleep(time);
}

fn key(name: &str) -> String {
    format!("{PREFIX}:2:{{{name}}}:requests:2000")
}

#[test]
fn no_window_holds_more_than_its_limit_while_slots_move() {
    let cluster = RedisCluster::start().unwrap();
    // The slots that redis-cli moves first are the lowest; a third of the clients is among them.
    let slots = 800;
    let goes = |name: &String| cluster.slot_of(&key(name)) < slots;
    let (going, staying): (Vec<_>, Vec<_>) = (0..400).map(|n| format!("client{n}")).partition(goes);
    let names: Vec<String> = going.iter().take(8).chain(staying.iter().take(CLIENTS - 8)).cloned().collect();
    let from = cluster.keeper_of(&key(&names[0]), 0).unwrap();
    let others: Vec<usize> = cluster.primaries(0).into_iter().filter(|node| *node != from).collect();
    let mut settled = 0;
    let times = played(&cluster.url(), &names, || {
        pass(Duration::from_secs(3));
        // There, and on to the next.
        cluster.reshard(from, others[0], slots).unwrap();
        cluster.reshard(others[0], others[1], slots).unwrap();
        settled = boottime_ms();
        pass(Duration::from_secs(5));
    });
    for name in &names[..8] {
        assert_ne!(cluster.keeper_of(&key(name), from), Some(from), "{name} has not moved");
    }
    for (client, times) in times.iter().enumerate() {
        let most = fullest(times);
        assert!(most <= LIMIT, "{} had {most} of {LIMIT}", names[client]);
        assert!(most > LIMIT / 2, "{} had {most} of {LIMIT}: hardly a test", names[client]);
        let after = times.iter().filter(|time| **time > settled).count();
        assert!(after as u64 > LIMIT / 4, "{} had {after} in the five seconds after", names[client]);
    }
}

#[test]
fn a_primary_that_dies_costs_less_than_a_limit_and_its_own_clients_alone() {
    let mut cluster = RedisCluster::start().unwrap();
    for node in 0..6 {
        // By default Redis refuses everybody while anybody's slots have no server.
        cluster.cli(node, &["CONFIG", "SET", "cluster-require-full-coverage", "no"]).unwrap();
    }
    let names: Vec<String> = (0..CLIENTS).map(|n| format!("client{n}")).collect();
    let killed = cluster.keeper_of(&key(&names[0]), 0).unwrap();
    let asked = cluster.primaries(0).into_iter().find(|node| *node != killed).unwrap();
    let is_hit: Vec<bool> = names.iter().map(|n| cluster.keeper_of(&key(n), asked) == Some(killed)).collect();
    let (mut died, mut replaced) = (0, 0);
    let times = played(&cluster.url(), &names, || {
        pass(Duration::from_secs(3));
        cluster.node_mut(killed).kill();
        died = boottime_ms();
        wait_until("a replica takes over", || cluster.keeper_of(&key(&names[0]), asked) != Some(killed));
        replaced = boottime_ms();
        pass(Duration::from_secs(6));
    });
    assert!(is_hit.iter().any(|hit| *hit) && !is_hit.iter().all(|hit| *hit));
    for (client, times) in times.iter().enumerate() {
        let most = fullest(times);
        let bound = if is_hit[client] { 2 * LIMIT - 1 } else { LIMIT };
        assert!(most <= bound, "{} had {most} of {LIMIT}", names[client]);
        let after = times.iter().filter(|time| **time > replaced + 1000).count();
        assert!(after as u64 > LIMIT / 4, "{} had {after} in the five seconds after", names[client]);
        // While its own server is away, and well before that is replaced, others are served.
        let during = times.iter().filter(|time| (died..replaced).contains(time)).count();
        let enough = LIMIT * (replaced - died) / WINDOW_MS / 2;
        assert!(is_hit[client] || during as u64 >= enough, "{} had {during} meanwhile", names[client]);
    }
}
