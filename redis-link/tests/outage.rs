//! A real Redis that is away, dies, freezes, fills up or takes no writes.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::server::Redis;
use common::watched::Watched;
use common::{PREFIX, add, options, wait_until};
use redis::Commands;
use weir_limiter::Transaction;
use weir_redis_link::{Event, LinkOptions};

#[test]
fn redis_may_be_away_at_the_start() {
    let mut redis = Redis::start();
    redis.kill_9();
    let mut link = Watched::start(options(&redis.url()));
    let why = link.wait_down();
    assert!(why.contains("refused"), "{why}");
    assert!(!link.link.is_up());
    assert!(link.ask(add(1, "a", &[(1, 1)])).is_err());
    redis.restart();
    link.wait_up();
    link.ask(add(2, "a", &[(1, 1)])).unwrap();
}

#[test]
fn a_killed_server_comes_back_as_another_life() {
    let mut redis = Redis::start();
    let mut link = Watched::start(options(&redis.url()));
    let life = link.wait_life();
    link.wait_up();
    redis.kill_9();
    link.wait_down();
    assert!(!link.link.is_up());
    assert!(link.ask(add(1, "a", &[(1, 1)])).is_err());
    redis.restart();
    let next = link.wait_life();
    link.wait_up();
    assert_ne!(next, life);
    assert!(link.ask(Transaction { life, ..add(2, "a", &[(1, 1)]) }).is_err());
    assert_eq!(link.ask(Transaction { life: next, ..add(3, "a", &[(1, 1)]) }).unwrap().life, next);
}

#[test]
fn a_cut_connection_loses_what_was_under_way_and_is_made_anew_with_the_same_life() {
    let redis = Redis::start();
    let mut client = redis.client();
    let mut link = Watched::start(options(&redis.url()));
    let life = link.wait_life();
    link.wait_up();
    // Holds the answers back, so that the cut finds some under way.
    let () = redis::cmd("CLIENT").arg("PAUSE").arg(400).arg("WRITE").query(&mut client).unwrap();
    (0..10).for_each(|id| link.link.send(add(id, "a", &[(1, 1)])));
    std::thread::sleep(Duration::from_millis(50));
    let () =
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut client).unwrap();
    for id in 0..10 {
        let why = link.outcome(id).unwrap_err();
        assert!(why.contains("connection"), "{why}");
    }
    link.wait_down();
    assert_eq!(link.wait_life(), life);
    link.wait_up();
    link.ask(add(11, "a", &[(1, 1)])).unwrap();
}

#[test]
fn a_frozen_server_opens_the_breaker_in_time_and_late_answers_still_come() {
    let redis = Redis::start();
    let timeout = Duration::from_millis(500);
    let mut link = Watched::up(LinkOptions { timeout, ..options(&redis.url()) });
    link.ask(add(1, "a", &[(1, 1)])).unwrap();
    redis.freeze();
    let begun = Instant::now();
    (2..7).for_each(|id| link.link.send(add(id, "a", &[(1, 1)])));
    let why = link.wait_down();
    let took = begun.elapsed();
    assert!(why.contains("500 ms"), "{why}");
    assert!(took >= timeout && took < timeout + Duration::from_secs(5), "{took:?}");
    assert!(!link.link.is_up());

    // Nothing waits on it twice.
    let begun = Instant::now();
    assert!(link.ask(add(100, "a", &[(1, 1)])).is_err());
    assert!(begun.elapsed() < Duration::from_secs(1));
    let ended = link
        .rest()
        .into_iter()
        .find(|event| matches!(event, Event::Answer { .. } | Event::Lost { .. } | Event::Down { .. }));
    assert_eq!(ended, None, "what is under way is neither answered nor lost");

    redis.thaw();
    for id in 2..7 {
        assert_eq!(link.outcome(id).unwrap().fields, [[(1, id as i64)]]);
    }
    link.wait_life();
    link.wait_up();
    assert_eq!(link.ask(add(7, "a", &[(1, 1)])).unwrap().fields, [[(1, 7)]]);
}

#[test]
fn a_server_that_stays_frozen_is_dialled_anew_and_nothing_is_repeated() {
    let redis = Redis::start();
    let mut link = Watched::up(options(&redis.url()));
    redis.freeze();
    link.link.send(add(1, "a", &[(1, 1)]));
    let why = link.outcome(1).unwrap_err();
    assert!(why.contains("no good answer for 5 s"), "{why}");
    redis.thaw();
    link.wait_up();
    // The lost one ran when the server woke; it counts once.
    let mut client = redis.client();
    let key = format!("{PREFIX}:2:{{a}}:requests:60000");
    wait_until("the late transaction ran", || client.hget(&key, 1).unwrap_or(0) == 1);
    assert_eq!(link.ask(add(2, "a", &[(1, 1)])).unwrap().fields, [[(1, 2)]]);
}

#[test]
fn a_server_that_runs_a_slow_command_is_down_for_as_long() {
    let redis = Redis::start_with(|_, _| vec!["--enable-debug-command".into(), "yes".into()]);
    let timeout = Duration::from_millis(50);
    let mut link = Watched::up(LinkOptions { timeout, ..options(&redis.url()) });
    let mut client = redis.client();
    let sleeper = std::thread::spawn(move || {
        let _: redis::Value = redis::cmd("DEBUG").arg("SLEEP").arg("1").query(&mut client).unwrap();
    });
    let mut id = 0;
    wait_until("the breaker opens", || {
        id += 1;
        link.link.send(add(id, "a", &[(1, 1)]));
        !link.link.is_up()
    });
    sleeper.join().unwrap();
    link.wait_up();
}

#[test]
fn close_keeps_its_deadline_whatever_redis_does() {
    let redis = Redis::start();
    let link = Watched::up(options(&redis.url()));
    redis.freeze();
    link.link.send(add(1, "a", &[(1, 1)]));
    let begun = Instant::now();
    link.link.close(Duration::from_millis(100));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_millis(600), "{took:?}");
}

#[test]
fn a_port_where_nobody_answers_is_a_time_out() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut link = Watched::start(LinkOptions {
        timeout: Duration::from_millis(20),
        ..options(&format!("redis://127.0.0.1:{port}/0"))
    });
    let begun = Instant::now();
    let why = link.wait_down();
    assert!(why.contains("did not greet within 1000 ms"), "{why}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let begun = Instant::now();
    assert!(link.ask(add(1, "a", &[(1, 1)])).is_err());
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn replicas_and_servers_that_take_no_writes_are_down_with_a_remedy() {
    let primary = Redis::start();
    let replica =
        Redis::start_with(|_, _| vec!["--replicaof".into(), "127.0.0.1".into(), primary.port.to_string()]);
    let mut link = Watched::start(options(&replica.url()));
    let why = link.wait("Down", |event| match event {
        Event::Down { why } if why.contains("READONLY") => Some(why.to_string()),
        _ => None,
    });
    assert!(why.contains("takes writes"), "{why}");
    // Promoted, it serves.
    let () = redis::cmd("REPLICAOF").arg("NO").arg("ONE").query(&mut replica.client()).unwrap();
    link.wait_up();
    link.ask(add(1, "a", &[(1, 1)])).unwrap();
}

#[test]
fn a_full_server_is_down_until_it_has_room() {
    let redis = Redis::start();
    let mut client = redis.client();
    let mut link = Watched::up(options(&redis.url()));
    let () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query(&mut client).unwrap();
    let why = link.ask(add(1, "a", &[(1, 1)])).unwrap_err();
    assert!(why.contains("OOM") && why.contains("maxmemory"), "{why}");
    assert!(link.wait_down().contains("OOM"));
    assert!(!link.link.is_up());
    let () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "0"]).query(&mut client).unwrap();
    link.wait_up();
    assert_eq!(link.ask(add(2, "a", &[(1, 1)])).unwrap().fields, [[(1, 1)]]);
}
