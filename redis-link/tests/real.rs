//! Against a real Redis: what goes in and what comes out.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::server::Redis;
use common::watched::Watched;
use common::{PREFIX, add, boottime_ms, options, part, private_file, unix_ms};
use redis::Commands;
use weir_limiter::Transaction;
use weir_redis_link::{Event, LinkOptions};

#[test]
fn a_transaction_does_to_its_keys_what_it_says() {
    let redis = Redis::start();
    let mut link = Watched::up(options(&redis.url()));
    let first = Transaction {
        id: 1,
        life: 0,
        parts: vec![
            part("acme", ":requests:60000", &[(1000, 5), (2000, 7)], &[]),
            part("acme", ":requests:60000:POST /orders", &[(1000, 1)], &[]),
        ],
    };
    let answer = link.ask(first).unwrap();
    assert_eq!(sorted(&answer.fields[0]), [(1000, 5), (2000, 7)]);
    assert_eq!(answer.fields[1], [(1000, 1)]);

    let second = Transaction {
        id: 2,
        life: answer.life,
        parts: vec![
            part("acme", ":requests:60000", &[(2000, -3), (3000, 3)], &[1000]),
            part("acme", ":requests:60000:POST /orders", &[], &[]),
        ],
    };
    let answer = link.ask(second).unwrap();
    // Read before the drop.
    assert_eq!(sorted(&answer.fields[0]), [(1000, 5), (2000, 4), (3000, 3)]);
    assert_eq!(answer.fields[1], [(1000, 1)]);

    let mut client = redis.client();
    let key = format!("{PREFIX}:2:{{acme}}:requests:60000");
    let stored: BTreeMap<u64, i64> = client.hgetall(&key).unwrap();
    assert_eq!(stored, BTreeMap::from([(2000, 4), (3000, 3)]));
    assert_every_key_expires(&mut client);
    let expiry: i64 = client.pttl(&key).unwrap();
    assert!((100_000..=120_000).contains(&expiry), "{expiry}");
}

fn sorted(fields: &[(u64, i64)]) -> Vec<(u64, i64)> {
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    fields
}

fn assert_every_key_expires(client: &mut redis::Connection) {
    let keys: Vec<String> = client.keys("*").unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        assert!(key.starts_with(PREFIX), "{key}");
        let expiry: i64 = client.pttl(&key).unwrap();
        assert!(expiry > 0, "{key} expires in {expiry}");
    }
}

#[test]
fn times_are_the_servers_and_lie_between_our_own() {
    let redis = Redis::start();
    let (before_ms, unix_before) = (boottime_ms(), unix_ms());
    let mut link = Watched::start(options(&redis.url()));
    let life = link.wait("Connected", |event| match *event {
        Event::Connected { sent_ms, received_ms, time_ms, life, is_only } => {
            assert!(before_ms <= sent_ms && sent_ms <= received_ms && received_ms <= boottime_ms());
            assert!((unix_before..=unix_ms()).contains(&time_ms), "{time_ms}");
            assert!(is_only);
            Some(life)
        }
        _ => None,
    });
    link.wait_up();
    let unix_before = unix_ms();
    let answer = link.ask(add(1, "a", &[(1, 1)])).unwrap();
    assert!((unix_before..=unix_ms()).contains(&answer.time_ms));
    assert_eq!(answer.life, life);
    assert_ne!(life, 0);
}

#[test]
fn a_thousand_at_once_share_one_connection_and_are_all_answered() {
    let redis = Redis::start();
    let mut client = redis.client();
    let mut link = Watched::up(options(&redis.url()));
    let connected = connections_received(&mut client);
    for id in 0..1000 {
        link.link.send(add(id, &format!("client{}", id % 50), &[(7, 1)]));
    }
    let mut ids = HashSet::new();
    for id in 0..1000 {
        let answer = link.outcome(id).unwrap();
        assert_eq!(answer.fields[0].len(), 1);
        ids.insert(id);
    }
    assert_eq!(ids.len(), 1000);
    assert_eq!(connections_received(&mut client), connected);
    for n in 0..50 {
        let sum: i64 = client.hget(format!("{PREFIX}:2:{{client{n}}}:requests:60000"), 7).unwrap();
        assert_eq!(sum, 20);
    }
    assert!(link.link.is_up());
    // Far fewer wake-ups than answers would be luck; more than answers would be a bug.
    assert!(link.rings.load(Ordering::SeqCst) <= 1010);
}

fn connections_received(client: &mut redis::Connection) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query(client).unwrap();
    let line = info.lines().find_map(|l| l.strip_prefix("total_connections_received:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_key_of_another_type_is_lost_and_harms_no_other() {
    let redis = Redis::start();
    let mut client = redis.client();
    let () = client.set(format!("{PREFIX}:2:{{bad}}:requests:60000"), "x").unwrap();
    let mut link = Watched::up(options(&redis.url()));
    link.link.send(add(1, "good", &[(1, 1)]));
    link.link.send(add(2, "bad", &[(1, 1)]));
    link.link.send(add(3, "good", &[(1, 1)]));
    assert_eq!(link.outcome(1).unwrap().fields, [[(1, 1)]]);
    let why = link.outcome(2).unwrap_err();
    assert!(why.contains("WRONGTYPE"), "{why}");
    assert_eq!(link.outcome(3).unwrap().fields, [[(1, 2)]]);
    assert!(link.link.is_up());
    let down = link.rest().into_iter().find(|event| matches!(event, Event::Down { .. }));
    assert_eq!(down, None);
}

#[test]
fn fields_that_are_no_numbers_are_lost_and_harm_no_other() {
    let redis = Redis::start();
    let mut client = redis.client();
    let key = format!("{PREFIX}:2:{{bad}}:requests:60000");
    let mut link = Watched::up(options(&redis.url()));
    for (id, (field, value)) in
        [("x", "1"), ("5", "y"), ("5", "99999999999999999999"), ("-5", "1")].into_iter().enumerate()
    {
        let () = client.del(&key).unwrap();
        let () = client.hset(&key, field, value).unwrap();
        let why = link.ask(add(id as u64, "bad", &[(1, 1)])).unwrap_err();
        assert!(why.contains("not a number"), "{why}");
    }
    let () = client.del(&key).unwrap();
    let () = client.hset(&key, 1, i64::MAX).unwrap();
    let why = link.ask(add(8, "bad", &[(1, 1)])).unwrap_err();
    assert!(why.contains("overflow"), "{why}");
    link.ask(add(9, "good", &[(1, 1)])).unwrap();
}

#[test]
fn a_transaction_of_another_life_is_not_sent() {
    let redis = Redis::start();
    let mut link = Watched::start(options(&redis.url()));
    let life = link.wait_life();
    link.wait_up();
    let stale = Transaction { life: life ^ 1, ..add(1, "a", &[(1, 1)]) };
    let why = link.ask(stale).unwrap_err();
    assert_eq!(why, "moved");
    let exists: bool = redis.client().exists(format!("{PREFIX}:2:{{a}}:requests:60000")).unwrap();
    assert!(!exists);
    link.ask(Transaction { life, ..add(2, "a", &[(1, 1)]) }).unwrap();
}

#[test]
fn gateways_count_each_other() {
    let redis = Redis::start();
    let mut one = Watched::up(options(&redis.url()));
    one.wait_gateways(1);
    let other = LinkOptions { gateway: "gw-2".into(), ..options(&redis.url()) };
    let mut two = Watched::up(other);
    two.wait_gateways(2);
    // The first learns of the second by its next announcement.
    one.wait_gateways(2);
    let mut client = redis.client();
    assert_every_key_expires(&mut client);
    let key = format!("{PREFIX}:gateways");
    let seen: i64 = client.zscore(&key, "gw-1").unwrap();
    assert!(unix_ms().abs_diff(seen as u64) < 15_000, "{seen}");
    // One that was not seen for a minute does not count.
    let () = client.zadd(&key, "gw-gone", unix_ms() - 61_000).unwrap();
    let again = LinkOptions { gateway: "gw-3".into(), ..options(&redis.url()) };
    Watched::up(again).wait_gateways(3);
}

#[test]
fn workers_of_one_gateway_count_once() {
    let redis = Redis::start();
    let _one = Watched::up(options(&redis.url()));
    Watched::up(options(&redis.url())).wait_gateways(1);
}

#[test]
fn close_flushes_what_was_handed_over() {
    let redis = Redis::start();
    let link = Watched::up(options(&redis.url()));
    (0..500).for_each(|id| link.link.send(add(id, "a", &[(1, 1)])));
    let begun = Instant::now();
    link.link.close(Duration::from_secs(10));
    assert!(begun.elapsed() < Duration::from_secs(5));
    let sum: i64 = redis.client().hget(format!("{PREFIX}:2:{{a}}:requests:60000"), 1).unwrap();
    assert_eq!(sum, 500);
}

#[test]
fn a_unix_socket_and_a_database_serve_as_well() {
    let redis =
        Redis::start_with(|dir, _| vec!["--unixsocket".into(), dir.join("redis.sock").display().to_string()]);
    let socket = redis.dir().join("redis.sock");
    let mut link = Watched::up(options(&format!("unix://{}?db=3", socket.display())));
    link.ask(add(1, "a", &[(1, 1)])).unwrap();
    let mut client = redis.client();
    let () = redis::cmd("SELECT").arg(3).query(&mut client).unwrap();
    let stored: i64 = client.hget(format!("{PREFIX}:2:{{a}}:requests:60000"), 1).unwrap();
    assert_eq!(stored, 1);

    let mut link = Watched::up(options(&format!("redis://localhost:{}/3", redis.port)));
    assert_eq!(link.ask(add(1, "a", &[(1, 1)])).unwrap().fields, [[(1, 2)]]);
}

#[test]
fn a_node_of_a_cluster_and_a_sentinel_are_refused_by_name() {
    let node = Redis::start_with(|_, _| vec!["--cluster-enabled".into(), "yes".into()]);
    let why = Watched::start(options(&node.url())).wait_down();
    assert!(why.contains("write redis+cluster://"), "{why}");

    let sentinel = Redis::start_with(|dir, port| {
        let file = private_file(dir, "sentinel.conf", &format!("port {port}\n"));
        vec![file.display().to_string(), "--sentinel".into()]
    });
    let why = Watched::start(options(&sentinel.url())).wait_down();
    assert!(why.contains("write redis+sentinel://"), "{why}");
}
