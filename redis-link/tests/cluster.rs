//! A real Redis Cluster: who keeps what, and what happens when that changes.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::watched::Watched;
use common::{PREFIX, add, options, private_file, wait_until};
use weir_limiter::Transaction;
use weir_redis_link::{Event, LinkOptions};
use weir_testbed::redis::RedisCluster;

fn key(tag: &str) -> String {
    format!("{PREFIX}:2:{{{tag}}}:requests:60000")
}

/// One tag for each primary, by its place among the nodes.
fn tags(cluster: &RedisCluster, asked: usize) -> BTreeMap<usize, String> {
    let all = (0..200).map(|n| format!("client{n}"));
    let mut tags = BTreeMap::new();
    for tag in all {
        tags.entry(cluster.keeper_of(&key(&tag), asked).unwrap()).or_insert(tag);
        if tags.len() == 3 {
            return tags;
        }
    }
    panic!("hundreds of keys and not three primaries")
}

/// Waits until all three primaries answer.
fn all_up(link: &mut Watched, cluster: &RedisCluster) {
    all_up_with(link, &tags(cluster, 0));
}

fn all_up_with(link: &mut Watched, tags: &BTreeMap<usize, String>) {
    let mut id = 900_000;
    for tag in tags.values() {
        wait_until("a primary answers", || {
            id += 1;
            link.ask(add(id, tag, &[])).is_ok()
        });
    }
}

fn stored(cluster: &RedisCluster, node: usize, tag: &str) -> String {
    cluster.cli(node, &["HGET", &key(tag), "7"]).unwrap().trim().to_owned()
}

#[test]
fn each_client_has_its_server_and_each_server_its_life() {
    let cluster = RedisCluster::start().unwrap();
    // One host is enough to find the others, whichever it is.
    for node in 0..6 {
        let url = format!("redis+cluster://127.0.0.1:{}", cluster.nodes()[node].port());
        all_up(&mut Watched::up(options(&url)), &cluster);
    }
    let mut link = Watched::up(options(&cluster.url()));
    all_up(&mut link, &cluster);
    let mut lives = HashSet::new();
    for id in 0..60 {
        let tag = format!("c{id}");
        let two = [
            common::part(&tag, ":requests:60000", &[(7, 3)], &[]),
            common::part(&tag, ":bytes:60000", &[], &[]),
        ];
        let answer = link.ask(Transaction { id, life: 0, parts: two.to_vec() }).unwrap();
        assert_eq!(answer.fields, [vec![(7, 3)], vec![]]);
        lives.insert(answer.life);
        let keeper = cluster.keeper_of(&key(&tag), 0).unwrap();
        assert_eq!(stored(&cluster, keeper, &tag), "3");
    }
    assert_eq!(lives.len(), 3);
    // Each key expires, those too by which servers are tried.
    for node in cluster.primaries(0) {
        for key in cluster.cli(node, &["KEYS", "*"]).unwrap().lines() {
            assert!(key.starts_with(PREFIX), "{key}");
            assert!(!cluster.cli(node, &["PTTL", key]).unwrap().starts_with('-'), "{key}");
        }
    }
}

#[test]
fn gateways_count_each_other_in_one_key() {
    let cluster = RedisCluster::start().unwrap();
    let mut one = Watched::up(options(&cluster.url()));
    one.wait_gateways(1);
    let mut two = Watched::up(LinkOptions { gateway: "gw-2".into(), ..options(&cluster.url()) });
    two.wait_gateways(2);
    one.wait_gateways(2);
    let keeper = cluster.keeper_of(&format!("{PREFIX}:gateways"), 0).unwrap();
    let seen = cluster.cli(keeper, &["ZCARD", &format!("{PREFIX}:gateways")]).unwrap();
    assert_eq!(seen.trim(), "2");
}

#[test]
fn a_frozen_primary_holds_up_no_other() {
    let cluster = RedisCluster::start().unwrap();
    let timeout = Duration::from_millis(300);
    let mut link = Watched::up(LinkOptions { timeout, ..options(&cluster.url()) });
    all_up(&mut link, &cluster);
    let tags = tags(&cluster, 0);
    let (frozen, slow) = tags.first_key_value().unwrap();
    cluster.nodes()[*frozen].freeze();
    link.link.send(add(1, slow, &[(7, 1)]));
    for (id, tag) in tags.values().skip(1).enumerate() {
        link.ask(add(10 + id as u64, tag, &[(7, 1)])).unwrap();
    }
    let why = link.wait("Ailing", |event| match event {
        Event::Ailing { why, .. } => Some(why.to_string()),
        _ => None,
    });
    assert!(why.contains("300 ms"), "{why}");
    // Its keys are lost at once, and nobody else waits.
    let begun = Instant::now();
    for id in 100..150 {
        assert!(link.ask(add(id, slow, &[(7, 1)])).is_err());
        link.ask(add(id + 1000, tags.values().next_back().unwrap(), &[(7, 1)])).unwrap();
    }
    assert!(begun.elapsed() < 20 * timeout, "{:?}", begun.elapsed());
    assert!(link.link.is_up());
    // Thawed before it was replaced or after: its keys find a server.
    cluster.nodes()[*frozen].thaw();
    let mut id = 10_000;
    wait_until("its keys are served again", || {
        id += 1;
        link.ask(add(id, slow, &[(8, 1)])).is_ok()
    });
}

#[test]
fn a_killed_primary_is_replaced_by_another_life_and_others_go_on() {
    let mut cluster = RedisCluster::start().unwrap();
    let mut link = Watched::up(options(&cluster.url()));
    all_up(&mut link, &cluster);
    let tags = tags(&cluster, 0);
    let (killed, tag) = tags.first_key_value().map(|(node, tag)| (*node, tag.clone())).unwrap();
    let life = link.ask(add(1, &tag, &[(7, 1)])).unwrap().life;
    cluster.node_mut(killed).kill();
    link.wait("Ailing", |event| matches!(event, Event::Ailing { .. }).then_some(()));
    link.wait("Ended", |event| (*event == Event::Ended { life }).then_some(()));
    let (mut id, mut next) = (100, None);
    wait_until("a successor serves its keys", || {
        id += 2;
        link.ask(add(id, tags.values().next_back().unwrap(), &[(7, 1)])).unwrap();
        next = link.ask(add(id + 1, &tag, &[(8, 1)])).ok();
        next.is_some()
    });
    let next = next.unwrap().life;
    assert_ne!(next, life);
    assert_eq!(link.ask(Transaction { life, ..add(2, &tag, &[(7, 1)]) }).unwrap_err(), "moved");
    link.ask(Transaction { life: next, ..add(3, &tag, &[(7, 1)]) }).unwrap();
    assert!(link.link.is_up());
}

#[test]
fn slots_that_move_under_load_lose_nothing_and_are_followed() {
    let cluster = RedisCluster::start().unwrap();
    let mut link = Watched::up(options(&cluster.url()));
    all_up(&mut link, &cluster);
    let primaries = cluster.primaries(0);
    let (from, to) = (primaries[0], primaries[1]);
    let tags: Vec<String> = (0..400).map(|n| format!("client{n}")).collect();
    let is_from = |tag: &&String| cluster.keeper_of(&key(tag), 0) == Some(from);
    let tags: Vec<&String> = tags.iter().filter(is_from).collect();
    let asked_before = looks(&cluster);
    let is_over = AtomicBool::new(false);
    let (mut answered, mut lost, mut id) = (BTreeMap::<&str, u64>::new(), Vec::new(), 0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Whatever happens, the others must hear of it.
            let _over = Over(&is_over);
            cluster.reshard(from, to, 2000).unwrap();
        });
        while !is_over.load(Ordering::SeqCst) {
            for tag in &tags {
                id += 1;
                match link.ask(add(id, tag, &[(7, 1)])) {
                    Ok(_) => *answered.entry(tag.as_str()).or_default() += 1,
                    Err(why) => lost.push(why),
                }
            }
        }
    });
    let took = begun.elapsed();
    let expected = |why: &String| ["moved", "MOVED", "ASK", "TRYAGAIN"].iter().any(|part| why.contains(part));
    assert!(lost.iter().all(expected), "{lost:?}");
    // What was lost was not run, and nothing was run twice.
    let mut moved = 0;
    for tag in &tags {
        let keeper = cluster.keeper_of(&key(tag), from).unwrap();
        moved += usize::from(keeper == to);
        let count = answered.get(tag.as_str()).copied().unwrap_or_default();
        assert_eq!(stored(&cluster, keeper, tag), count.to_string(), "{tag}");
        wait_until("it is found where it is now", || {
            id += 1;
            link.ask(add(id, tag, &[(8, 1)])).is_ok()
        });
    }
    assert!(moved > 10, "{moved} of {} clients moved", tags.len());
    // No storm of questions who keeps what: one at a time, with pauses.
    let looked = looks(&cluster) - asked_before;
    assert!(looked <= 20 + 12 * took.as_secs(), "{looked} in {took:?}");
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// How often the nodes were asked for their map, redis-cli's own questions (none) included.
fn looks(cluster: &RedisCluster) -> u64 {
    let count = |node| {
        let text = cluster.cli(node, &["INFO", "commandstats"]).unwrap();
        let line =
            text.lines().find_map(|line| line.strip_prefix("cmdstat_cluster|slots:calls=")).unwrap_or("0");
        line.split(',').next().unwrap().trim().parse::<u64>().unwrap()
    };
    (0..6).map(count).sum()
}

#[test]
fn a_slot_that_is_half_moved_loses_what_is_not_there_and_no_more() {
    let cluster = RedisCluster::start().unwrap();
    let mut link = Watched::up(options(&cluster.url()));
    all_up(&mut link, &cluster);
    let primaries = cluster.primaries(0);
    let (from, to) = (primaries[0], primaries[1]);
    let tag = tags(&cluster, 0)[&from].clone();
    link.ask(add(1, &tag, &[(7, 1)])).unwrap();
    let slot = cluster.slot_of(&key(&tag));
    cluster.begin_move(slot, from, to).unwrap();
    // What lies there is used there.
    link.ask(add(2, &tag, &[(7, 1)])).unwrap();
    let bytes =
        |id| Transaction { id, life: 0, parts: vec![common::part(&tag, ":bytes:60000", &[(7, 1)], &[])] };
    let why = link.ask(bytes(3)).unwrap_err();
    assert!(why.contains("ASK"), "{why}");
    let both =
        Transaction { id: 4, life: 0, parts: [add(0, &tag, &[(7, 1)]).parts, bytes(0).parts].concat() };
    let why = link.ask(both).unwrap_err();
    assert!(why.contains("ASK") || why.contains("TRYAGAIN"), "{why}");
    assert!(link.link.is_up());
    cluster.end_move(slot, from, to).unwrap();
    let mut id = 10;
    wait_until("the slot has moved", || {
        id += 1;
        link.ask(bytes(id)).is_ok()
    });
    assert_eq!(link.ask(add(5, &tag, &[(7, 1)])).unwrap().fields, [[(7, 3)]]);
}

#[test]
fn a_cluster_without_some_of_its_slots_is_down_until_it_has_them() {
    let mut cluster = RedisCluster::start().unwrap();
    let mut link = Watched::up(options(&cluster.url()));
    all_up(&mut link, &cluster);
    let tags = tags(&cluster, 0);
    let (primary, tag) = (*tags.first_key_value().unwrap().0, tags.values().next_back().unwrap());
    let replica = cluster.replica_of(primary, primary).unwrap();
    cluster.node_mut(replica).kill();
    cluster.node_mut(primary).kill();
    let mut id = 0;
    let mut why = String::new();
    wait_until("the Cluster is down", || {
        id += 1;
        why = link.ask(add(id, tag, &[(7, 1)])).err().unwrap_or_default();
        why.contains("CLUSTERDOWN")
    });
    assert!(why.contains("CLUSTER INFO"), "{why}");
    link.wait("Down", |event| matches!(event, Event::Down { .. }).then_some(()));
    for node in [primary, replica] {
        cluster.node_mut(node).start_again().unwrap();
    }
    link.wait_up();
    wait_until("it serves again", || {
        id += 1;
        link.ask(add(id, tag, &[(8, 1)])).is_ok()
    });
}

#[test]
fn tls_and_passwords_serve_all_nodes_and_passwords_may_change() {
    let cluster = RedisCluster::start_secured("pass-one").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = private_file(dir.path(), "password", "pass-one\n");
    let secured =
        LinkOptions { password_file: Some(file.clone()), ca: cluster.ca(), ..options(&cluster.url()) };
    let mut link = Watched::up(secured.clone());
    let tags = tags(&cluster, 0);
    all_up_with(&mut link, &tags);

    // The new one is read from the file when the connections are made anew. Whether all of them are
    // away at once, or one after the other, is left to chance.
    link.rest();
    std::fs::write(&file, "pass-two\n").unwrap();
    for node in 0..6 {
        cluster.cli(node, &["CONFIG", "SET", "masterauth", "pass-two", "requirepass", "pass-two"]).unwrap();
        cluster.cli(node, &["-a", "pass-two", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
    }
    for _ in 0..3 {
        link.wait("Connected", |event| matches!(event, Event::Connected { .. }).then_some(()));
    }
    all_up_with(&mut link, &tags);
    let text = format!("{:?}", link.rest());
    assert!(!text.contains("pass-"), "{text}");

    let plain = cluster.url().replace("rediss", "redis");
    let mut other = Watched::start(LinkOptions { ca: None, urls: vec![plain], ..secured });
    let why = other.wait_down();
    let known = ["closed the connection", "connection broke", "did not answer"];
    assert!(known.iter().any(|words| why.contains(words)), "{why}");
}
