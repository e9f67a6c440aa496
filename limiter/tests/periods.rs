//! Windows of days and weeks, and counters that stand for one period of a calendar.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_limiter::{Answer, Ask, Counter, Decision, LimitState, Mode, Table, Transaction, Worker};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// The longest window a policy can have, and the one that a month is counted in.
const WINDOWS: [u64; 2] = [31 * DAY, 33 * DAY];
/// A gateway that has been up for so long.
const UP: u64 = 400 * DAY + 12_345;

fn worker(mode: Mode, keys: usize) -> Worker {
    let words = vec![0u64; Table::bytes_for(keys) / 8].leak();
    // SAFETY: leaked, aligned, and used through tables only.
    let table = unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, [5, 6]) }.unwrap();
    Worker::new(table, mode, 1, |_| true)
}

fn sliding(counter: &Arc<Counter>, amount: u64, window_ms: u64) -> Ask<'_> {
    Ask { counter, amount, window_ms, cost: 1, until: u64::MAX }
}

fn decide(worker: &mut Worker, now: u64, asks: &[Ask<'_>]) -> (Decision, Vec<LimitState>) {
    let mut states = Vec::new();
    (worker.decide(now, asks, &mut states), states)
}

fn allows(worker: &mut Worker, now: u64, ask: Ask<'_>) -> bool {
    decide(worker, now, &[ask]).0 == Decision::Allow
}

#[test]
fn a_month_long_window_forgets_nothing_over_days_of_idleness() {
    for window in WINDOWS {
        let (mut w, c) = (worker(Mode::Alone, 100), Counter::new("acme", ":requests:x"));
        // A day of use, then eleven of none, and again.
        for (burst, start) in [UP, UP + 12 * DAY, UP + 24 * DAY].into_iter().enumerate() {
            for i in 0..400 {
                assert!(allows(&mut w, start + i * 216_000, sliding(&c, 1_200, window)), "{burst} {i}");
            }
        }
        assert!(!allows(&mut w, UP + 25 * DAY, sliding(&c, 1_200, window)));
        let ask = [sliding(&c, 1_200, window)];
        let (Decision::Refuse { retry_after_ms, .. }, _) = decide(&mut w, UP + 30 * DAY, &ask) else {
            panic!("a month has not passed");
        };
        assert!(!allows(&mut w, UP + window - 1, ask[0]));
        let at = UP + 30 * DAY + retry_after_ms;
        assert!(at >= UP + window && at < UP + window + window / 20, "{retry_after_ms}");
        assert!(allows(&mut w, at, ask[0]));
        assert!(allows(&mut w, UP + 3 * window, ask[0]), "all of it has left");
    }
}

#[test]
fn a_counter_that_gives_way_to_another_bounds_every_wait() {
    let (mut w, day) = (worker(Mode::Alone, 100), Counter::new("acme", ":requests:day:2026-11-24"));
    let until = UP + 10 * HOUR;
    let ask = Ask { counter: &day, amount: 2, window_ms: 3 * DAY, cost: 1, until };
    let (_, fresh) = decide(&mut w, UP, &[Ask { cost: 0, ..ask }]);
    assert_eq!(fresh[0].reset_ms, 10 * HOUR, "nothing is counted yet");
    assert!(allows(&mut w, UP, ask) && allows(&mut w, UP + HOUR, ask));
    let (decision, states) = decide(&mut w, UP + 2 * HOUR, &[ask]);
    assert_eq!(decision, Decision::Refuse { by: 0, retry_after_ms: 8 * HOUR });
    assert_eq!(states[0], LimitState { remaining: 0, reset_ms: 8 * HOUR });
    let costly = Ask { cost: 3, ..ask };
    let (decision, _) = decide(&mut w, UP + 2 * HOUR, &[costly]);
    assert_eq!(decision, Decision::Refuse { by: 0, retry_after_ms: 8 * HOUR });
    // A request that waited over midnight.
    let (decision, _) = decide(&mut w, until + 5, &[ask]);
    assert_eq!(decision, Decision::Refuse { by: 0, retry_after_ms: 0 });
}

#[test]
fn of_a_day_that_ends_soon_and_an_hour_that_does_not_the_hour_decides() {
    let mut w = worker(Mode::Alone, 100);
    let (day, hour) = (Counter::new("acme", ":requests:day:1"), Counter::new("acme", ":requests:3600000"));
    let asks = |until| {
        [Ask { counter: &day, amount: 1, window_ms: 3 * DAY, cost: 1, until }, sliding(&hour, 1, HOUR)]
    };
    let until = UP + HOUR / 6;
    assert_eq!(decide(&mut w, UP, &asks(until)).0, Decision::Allow);
    let (decision, _) = decide(&mut w, UP + 1_000, &asks(until));
    assert!(matches!(decision, Decision::Refuse { by: 1, retry_after_ms } if retry_after_ms > HOUR / 2));
}

#[test]
fn a_past_period_makes_room_before_what_is_in_use() {
    let mut w = worker(Mode::Alone, 64);
    let minute = Counter::new("acme", ":requests:60000");
    let now = UP + DAY;
    assert!(allows(&mut w, now - 30_000, sliding(&minute, 1, 60_000)));
    for i in 0..500 {
        let past = Counter::new(&format!("c{i}"), ":requests:day:1");
        let ask = Ask { counter: &past, amount: 9, window_ms: 3 * DAY, cost: 1, until: now - 1_000 };
        assert!(allows(&mut w, now - 2_000, ask));
        assert!(!allows(&mut w, now, sliding(&minute, 1, 60_000)), "after {i} others");
    }
}

/// A server as far as transactions see it.
#[derive(Default)]
struct Server(HashMap<String, BTreeMap<u64, i64>>);

impl Server {
    fn run(&mut self, now: u64, transaction: &Transaction) -> Answer {
        let fields = transaction.parts.iter().map(|part| {
            let hash = self.0.entry(part.counter.name.clone()).or_default();
            part.add.iter().for_each(|(stamp, units)| *hash.entry(*stamp).or_default() += units);
            let all = hash.iter().map(|(stamp, units)| (*stamp, *units)).collect();
            hash.retain(|stamp, _| !part.drop.contains(stamp));
            all
        });
        Answer { time_ms: now, life: 1, fields: fields.collect() }
    }
}

/// Says all that is to be said; how long after `now` the latest lease ends.
fn exchange(worker: &mut Worker, now: u64, server: &mut Server) -> u64 {
    let mut longest = 0;
    worker.tick(now);
    for _ in 0..10 {
        for transaction in worker.outgoing() {
            let adds = transaction.parts.iter().flat_map(|part| &part.add);
            longest =
                adds.filter(|add| add.1 > 0).fold(longest, |most, add| most.max(add.0.saturating_sub(now)));
            let answer = server.run(now, &transaction);
            worker.answered(now, transaction.id, &answer);
        }
    }
    longest
}

fn gateways(server: &mut Server) -> [Worker; 2] {
    [(), ()].map(|()| {
        let mut gateway = worker(Mode::Shared, 100);
        gateway.set_gateways(2);
        gateway.connected(UP, UP + 1, UP, 1);
        exchange(&mut gateway, UP, server);
        gateway
    })
}

/// Sends requests to both gateways in turn, one each `every` ms, until `to`. Which were let through.
fn flood(
    gateways: &mut [Worker; 2],
    server: &mut Server,
    times: std::ops::Range<u64>,
    every: u64,
    ask: impl Fn(usize, u64) -> (Arc<Counter>, u64),
) -> BTreeMap<String, u64> {
    let mut admitted = BTreeMap::new();
    for (n, now) in times.step_by(every as usize).enumerate() {
        let (counter, until) = ask(n % 2, now);
        let ask = Ask { counter: &counter, amount: 5_000, window_ms: 3 * DAY, cost: 1, until };
        let gateway = &mut gateways[n % 2];
        let mut decision = decide(gateway, now, &[ask]).0;
        for _ in 0..3 {
            let longest = exchange(gateway, now, server);
            // Six minutes, and the coarser of the two roundings of stamps.
            assert!(longest <= HOUR / 10 + 3 * DAY * 8 / 1_000, "units on lease for {longest} ms");
            if decision == Decision::Wait {
                decision = decide(gateway, now, &[ask]).0;
            }
        }
        *admitted.entry(counter.name.clone()).or_default() += u64::from(decision == Decision::Allow);
    }
    admitted
}

#[test]
fn two_gateways_never_let_more_through_in_a_period_and_all_of_it() {
    let mut server = Server::default();
    let mut both = gateways(&mut server);
    let admitted = flood(&mut both, &mut server, UP..UP + 3 * DAY, 10_007, |_, now| {
        let day = (now - UP) / DAY;
        (Counter::new("acme", &format!(":requests:day:{day}")), UP + (day + 1) * DAY)
    });
    assert_eq!(admitted.len(), 3);
    assert!(admitted.values().all(|&n| n <= 5_000 && n > 4_950), "{admitted:?}");
}

#[test]
fn gateways_whose_clocks_are_hours_apart_keep_each_period_to_its_limit() {
    let mut server = Server::default();
    let mut both = gateways(&mut server);
    let admitted = flood(&mut both, &mut server, UP..UP + 3 * DAY, 10_007, |gateway, now| {
        let behind = gateway as u64 * 9 * HOUR;
        let day = (now + 10 * HOUR - behind - UP) / DAY;
        (Counter::new("acme", &format!(":requests:day:{day}")), UP + (day + 1) * DAY + behind - 10 * HOUR)
    });
    assert!(admitted.values().all(|&n| n <= 5_000), "{admitted:?}");
}
