//! What a client takes of Redis' memory: fields of its keys as workers write them, hours of them.

use std::collections::{BTreeMap, HashMap};

use weir_limiter::{Answer, Ask, Counter, Decision, Mode, Table, Transaction, Worker};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// What was seen is 222. (Redis keeps a hash of up to `hash-max-listpack-entries` fields as a list, 512
/// where nothing else is configured; beyond that it takes several times the memory for each. Coarser stamps get there, but at their price
/// polite clients are refused now and then: the simulator found some in a hundred thousand worlds.)
const MOST: usize = 240;
/// Both lists together, without what Redis takes for a key itself. What was seen is 2,398.
const MOST_BYTES: usize = 2_480;

/// Gateways in a time of their own, before a server that answers at once.
struct World {
    hashes: HashMap<String, BTreeMap<u64, i64>>,
    gateways: Vec<Worker>,
    now: u64,
}

impl World {
    fn new(gateways: usize) -> World {
        let worker = |_| {
            let words = vec![0u64; Table::bytes_for(100) / 8].leak();
            // SAFETY: leaked, aligned, and used through tables only.
            let table = unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, [5, 6]) }.unwrap();
            let mut worker = Worker::new(table, Mode::Shared, 1, |_| true);
            worker.set_gateways(gateways as u32);
            worker.connected(1_000, 1_001, server_time(1_000), 1);
            worker
        };
        World { hashes: HashMap::new(), gateways: (0..gateways).map(worker).collect(), now: 2_000 }
    }

    /// Time passes; what is due is settled.
    fn pass(&mut self, until: u64) {
        while let Some((due, at)) = self.next_due().filter(|due| due.0 <= until) {
            self.now = self.now.max(due);
            self.gateways[at].tick(self.now);
            self.exchange(at);
        }
        self.now = until;
    }

    fn next_due(&self) -> Option<(u64, usize)> {
        let due = self.gateways.iter().enumerate().filter_map(|(at, worker)| Some((worker.next_due()?, at)));
        due.min()
    }

    fn exchange(&mut self, at: usize) {
        loop {
            let out = self.gateways[at].outgoing();
            if out.is_empty() {
                return;
            }
            for transaction in out {
                let answer = self.run(&transaction);
                self.gateways[at].answered(self.now, transaction.id, &answer);
            }
        }
    }

    fn run(&mut self, transaction: &Transaction) -> Answer {
        let mut fields = Vec::new();
        for part in &transaction.parts {
            let hash = self.hashes.entry(part.counter.name.clone()).or_default();
            for &(stamp, units) in &part.add {
                *hash.entry(stamp).or_default() += units;
            }
            fields.push(hash.iter().map(|(&stamp, &units)| (stamp, units)).collect());
            hash.retain(|stamp, _| !part.drop.contains(stamp));
        }
        Answer { time_ms: server_time(self.now), life: 1, fields }
    }

    /// One request at a gateway; waits as long as answers bring it on.
    fn ask(&mut self, at: usize, asks: &[Ask<'_>]) {
        for _ in 0..10 {
            let decision = self.gateways[at].decide(self.now, asks, &mut Vec::new());
            self.exchange(at);
            if decision != Decision::Wait {
                return;
            }
        }
    }

    fn fields(&self, counter: &Counter) -> usize {
        self.hashes.get(&counter.name).map_or(0, BTreeMap::len)
    }

    fn bytes(&self, counter: &Counter) -> usize {
        let all = self.hashes.get(&counter.name).into_iter().flatten();
        7 + all.map(|(&field, &units)| entry(field as i64) + entry(units)).sum::<usize>()
    }
}

/// Bytes of a number in Redis' listpack: itself, how it is encoded, and its length again.
fn entry(number: i64) -> usize {
    match number {
        0..=127 => 2,
        -4096..=4095 => 3,
        -0x8000..=0x7fff => 4,
        -0x80_0000..=0x7f_ffff => 5,
        -0x8000_0000..=0x7fff_ffff => 6,
        _ => 10,
    }
}

fn server_time(now: u64) -> u64 {
    1_800_000_000_000 + now
}

/// Requests come in bursts.
#[derive(Clone, Copy, Debug)]
struct Use {
    gateways: usize,
    /// The limit in a minute; that in an hour is twenty times as much.
    per_minute: u64,
    burst: u64,
    every_ms: u64,
}

/// The most fields that each key of a client had in 80 minutes, and both together.
fn most(shape: Use) -> ([usize; 2], usize, usize) {
    let Use { gateways, per_minute, burst, every_ms } = shape;
    let mut world = World::new(gateways);
    let counters = [Counter::new("acme", ":requests:60000"), Counter::new("acme", ":requests:3600000")];
    let amounts = [(per_minute, MINUTE), (20 * per_minute, HOUR)];
    let ask = |(counter, (amount, window_ms))| Ask { counter, amount, window_ms, cost: 1, until: u64::MAX };
    let asks: Vec<Ask<'_>> = counters.iter().zip(amounts).map(ask).collect();
    let (mut each, mut together, mut bytes, mut n) = ([0, 0], 0, 0, 0);
    while world.now < 80 * MINUTE {
        for _ in 0..burst {
            n += 1;
            world.ask(n % gateways, &asks);
        }
        let until = world.now + every_ms;
        world.pass(until);
        let now = [world.fields(&counters[0]), world.fields(&counters[1])];
        each = [each[0].max(now[0]), each[1].max(now[1])];
        together = together.max(now[0] + now[1]);
        bytes = bytes.max(world.bytes(&counters[0]) + world.bytes(&counters[1]));
    }
    (each, together, bytes)
}

#[test]
fn keys_stay_small_whatever_the_traffic() {
    let mut over = Vec::new();
    for gateways in [1, 2, 4] {
        for (per_minute, burst, every_ms) in [
            (100, 1, 2_000),
            (100, 1, 500),
            (100, 5, 500),
            (100, 10, 10_000),
            (100, 80, 60_100),
            (100, 3, 7_777),
            (200, 8, 1_000),
            (1_000, 1, 65),
            (10_000, 5, 500),
            (10_000, 20, 3_000),
        ] {
            let shape = Use { gateways, per_minute, burst, every_ms };
            let (each, together, bytes) = most(shape);
            println!("{shape:?}: {each:?} fields, {together} together, {bytes} bytes");
            if each.iter().any(|&fields| fields > MOST) || bytes > MOST_BYTES {
                over.push((shape, each, bytes));
            }
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}
