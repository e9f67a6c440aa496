//! Several servers, each with a part of the keys, a clock and a life of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_limiter::{
    Answer, Ask, Counter, Decision, Fallback, Mode, Table, Transaction, Why, Worker, stamp_of,
};

const MINUTE: u64 = 60_000;

/// A server of which nothing is known but its name, its clock and what it counts.
struct Server {
    life: u64,
    ahead_ms: u64,
    hashes: HashMap<String, BTreeMap<u64, i64>>,
}

impl Server {
    fn new(life: u64, ahead_ms: u64) -> Server {
        Server { life, ahead_ms, hashes: HashMap::new() }
    }

    /// Runs what a link would bring here; `None` where it was made for another life.
    fn run(&mut self, now: u64, transaction: &Transaction) -> Option<Answer> {
        if transaction.life != 0 && transaction.life != self.life {
            return None;
        }
        let mut fields = Vec::new();
        for part in &transaction.parts {
            let hash = self.hashes.entry(part.counter.name.clone()).or_default();
            for (field, units) in &part.add {
                *hash.entry(*field).or_default() += units;
            }
            fields.push(hash.iter().map(|(s, n)| (*s, *n)).collect());
            part.drop.iter().for_each(|field| {
                hash.remove(field);
            });
        }
        Some(Answer { time_ms: now + self.ahead_ms, life: self.life, fields })
    }

    fn counted(&self, counter: &Counter, now: u64) -> i64 {
        let from = now + self.ahead_ms - MINUTE;
        let counts = |field: u64| stamp_of(field, MINUTE, now + self.ahead_ms) >= from;
        let hash = self.hashes.get(&counter.name);
        hash.map_or(0, |hash| hash.iter().filter(|f| counts(*f.0)).map(|f| f.1).sum())
    }
}

fn worker(servers: &[Server]) -> Worker {
    let words = vec![0u64; Table::bytes_for(1000) / 8].leak();
    // SAFETY: leaked, aligned, and used through tables only.
    let table = unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, [5, 6]) }.unwrap();
    let mut worker = Worker::new(table, Mode::Shared, 1, |_| true);
    for server in servers {
        worker.heard(999, 1_000, 999 + server.ahead_ms, server.life);
    }
    worker
}

/// Servers, and which of them keeps whose keys.
struct World<'a> {
    servers: &'a mut [Server],
    keeps: HashMap<&'static str, usize>,
}

impl World<'_> {
    /// Brings what the worker has to say to where it belongs, until it is silent.
    fn exchange(&mut self, worker: &mut Worker, now: u64) -> Vec<Transaction> {
        let mut all = Vec::new();
        loop {
            let out = worker.outgoing();
            if out.is_empty() {
                return all;
            }
            for transaction in out {
                let server = &mut self.servers[self.keeps[transaction.parts[0].counter.tag()]];
                match server.run(now, &transaction) {
                    Some(answer) => worker.answered(now + 1, transaction.id, &answer),
                    None => worker.moved(now + 1, transaction.id),
                }
                all.push(transaction);
            }
        }
    }

    /// What a request gets that may wait for answers.
    fn ask(&mut self, worker: &mut Worker, now: u64, counter: &Arc<Counter>) -> Decision {
        let asks = [Ask { counter, amount: 100, window_ms: MINUTE, cost: 1, until: u64::MAX }];
        for _ in 0..8 {
            let decision = worker.decide(now, &asks, &mut Vec::new());
            self.exchange(worker, now);
            if decision != Decision::Wait {
                return decision;
            }
        }
        panic!("still waiting");
    }
}

fn world(servers: &mut [Server]) -> (World<'_>, Worker) {
    let worker = worker(servers);
    (World { servers, keeps: HashMap::from([("{acme}", 0), ("{other}", 1)]) }, worker)
}

fn key() -> Arc<Counter> {
    Counter::new("acme", ":requests:60000")
}

#[test]
fn a_key_belongs_to_the_server_that_answers_and_is_reckoned_by_its_clock() {
    let mut servers = [Server::new(1, 1_000_000), Server::new(2, 1_030_000)];
    let (mut world, mut w) = world(&mut servers);
    assert_eq!(world.ask(&mut w, 2_000, &key()), Decision::Allow);
    w.tick(60_000);
    let settled = world.exchange(&mut w, 60_000);
    assert_eq!(settled[0].life, 1, "from now on for that life alone");
    let add = settled[0].parts[0].add.clone();
    let stamps: Vec<u64> = add.iter().filter(|a| a.1 > 0).map(|a| stamp_of(a.0, MINUTE, 1_060_000)).collect();
    assert!(stamps.iter().all(|s| (1_002_000..1_003_000).contains(s)), "{stamps:?}");
}

#[test]
fn a_key_that_moved_takes_its_uses_along() {
    let mut servers = [Server::new(1, 1_000_000), Server::new(2, 1_000_500)];
    let (mut world, mut w) = world(&mut servers);
    for i in 0..60 {
        assert_eq!(world.ask(&mut w, 2_000 + i, &key()), Decision::Allow);
    }
    // Nothing is brought along: what the gateway knows is enough.
    world.keeps.insert("{acme}", 1);
    let admitted = (0..200).filter(|i| world.ask(&mut w, 20_000 + i, &key()) == Decision::Allow).count();
    assert!((30..=40).contains(&admitted), "{admitted} more");
    w.tick(30_000);
    world.exchange(&mut w, 30_000);
    assert!(world.servers[1].counted(&key(), 30_000) >= 60 + admitted as i64);
}

#[test]
fn the_end_of_one_life_is_the_affair_of_its_own_keys() {
    let mut servers = [Server::new(1, 1_000_000), Server::new(2, 1_000_500), Server::new(3, 1_000_000)];
    let (mut world, mut w) = world(&mut servers);
    let other = Counter::new("other", ":requests:60000");
    for i in 0..50 {
        assert_eq!(world.ask(&mut w, 2_000 + i, &key()), Decision::Allow);
        assert_eq!(world.ask(&mut w, 2_000 + i, &other), Decision::Allow);
    }
    w.tick(20_000);
    world.exchange(&mut w, 20_000);
    w.ended(20_100, 1);
    world.keeps.insert("{acme}", 2);
    w.tick(20_102);
    let republished = world.exchange(&mut w, 20_102);
    assert!(republished.iter().all(|t| t.life == 0 && t.parts[0].counter == key()), "{republished:?}");
    assert_eq!(world.servers[2].counted(&key(), 20_103), 50);
    assert_eq!(world.servers[1].counted(&other, 20_103), 50);
}

#[test]
fn in_the_first_seconds_of_a_successor_a_gateway_leases_its_share_alone() {
    let mut servers = [Server::new(1, 1_000_000), Server::new(2, 1_000_000), Server::new(3, 1_000_000)];
    let (mut world, mut w) = world(&mut servers[..2]);
    w.set_gateways(4);
    assert_eq!(world.ask(&mut w, 2_000, &key()), Decision::Allow);
    w.ended(3_000, 1);
    w.heard(3_000, 3_001, 1_003_000, 3);
    world.servers[0].life = 3;
    let admitted = (0..100).filter(|i| world.ask(&mut w, 3_002 + i, &key()) == Decision::Allow).count();
    assert!((20..=25).contains(&admitted), "{admitted}");
}

#[test]
fn what_was_published_to_nobody_knows_whom_is_published_again_when_it_was_lost() {
    let servers = [Server::new(1, 1_000_000), Server::new(2, 1_000_000)];
    let (mut w, c) = (worker(&servers), key());
    let asks = [Ask { counter: &c, amount: 100, window_ms: MINUTE, cost: 1, until: u64::MAX }];
    for i in 0..10 {
        w.decide_fallback(1_500 + i, &asks, Fallback::Local { gateways: 1 }, &mut Vec::new());
    }
    assert_eq!(w.decide(2_000, &asks, &mut Vec::new()), Decision::Wait);
    let lost = w.outgoing();
    assert_eq!((lost.len(), lost[0].life), (1, 0));
    w.lost(2_001, lost[0].id);
    assert_eq!(w.decide(2_002, &asks, &mut Vec::new()), Decision::CannotDecide(Why::Lost));
    w.tick(2_300);
    let again: i64 = w.outgoing().iter().flat_map(|t| &t.parts[0].add).map(|a| a.1).sum();
    assert_eq!(again, 10);
}

#[test]
fn a_lease_whose_stamp_would_outlive_its_key_is_not_taken() {
    // The other server's clock is an hour ahead; the first lease is stamped by it.
    let mut servers = [Server::new(1, 1_000_000), Server::new(2, 4_600_000)];
    let (mut world, mut w) = world(&mut servers);
    assert_eq!(world.ask(&mut w, 2_000, &key()), Decision::Allow, "the second is stamped by its own");
    w.tick(60_000);
    world.exchange(&mut w, 60_000);
    let fields: Vec<_> = world.servers[0].hashes[&key().name].iter().filter(|f| *f.1 != 0).collect();
    assert_eq!(fields.len(), 1, "{fields:?}");
}
