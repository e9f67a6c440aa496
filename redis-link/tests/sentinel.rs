//! A real Redis and its replica, watched by three real Sentinels.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::time::Duration;

use common::watched::Watched;
use common::{PREFIX, add, options, private_file, wait_until};
use weir_redis_link::{Event, LinkOptions};
use weir_testbed::redis::{Redis, Sentinel};

/// Sends until something is answered, and gives the life that answered.
fn served_by(link: &mut Watched, first_id: u64) -> u64 {
    let (mut id, mut life) = (first_id, 0);
    wait_until("a server serves", || {
        id += 1;
        life = link.ask(add(id, "a", &[(7, 1)])).map_or(0, |answer| answer.life);
        life != 0
    });
    life
}

#[test]
fn the_server_that_sentinels_name_is_used_and_left_when_they_name_another() {
    let sentinel = Sentinel::start().unwrap();
    let mut link = Watched::up(options(&sentinel.url()));
    let life = link.ask(add(1, "a", &[(7, 5)])).unwrap().life;
    let stored =
        |server| sentinel.cli(server, &["HGET", &format!("{PREFIX}:2:{{a}}:requests:60000"), "7"]).unwrap();
    assert_eq!(stored(0).trim(), "5");
    wait_until("the replica has it, too", || stored(1).trim() == "5");

    sentinel.fail_over().unwrap();
    let next = {
        let mut found = life;
        wait_until("the other one serves", || {
            found = served_by(&mut link, 100);
            found != life
        });
        found
    };
    assert!(link.ask(weir_limiter::Transaction { life, ..add(2, "a", &[(7, 1)]) }).is_err());
    assert_eq!(link.ask(add(3, "a", &[(7, 1)])).unwrap().life, next);
    let count: u64 = stored(1).trim().parse().unwrap();
    assert!(count > 5, "it went on where the first left off: {count}");
    let other_lives =
        link.rest().into_iter().filter(|e| matches!(e, Event::Connected { is_only: false, .. }));
    assert_eq!(other_lives.count(), 0, "there is only one server at a time");
}

#[test]
fn a_killed_master_is_replaced_even_when_a_sentinel_has_died() {
    let mut sentinel = Sentinel::start().unwrap();
    let mut link = Watched::up(options(&sentinel.url()));
    let life = link.ask(add(1, "a", &[(7, 1)])).unwrap().life;
    sentinel.kill_sentinel(0);
    sentinel.server_mut(0).kill();
    let why = link.wait_down();
    assert!(why.contains("closed the connection") || why.contains("broke"), "{why}");
    assert!(link.ask(add(2, "a", &[(7, 1)])).is_err());
    assert_ne!(served_by(&mut link, 100), life);
    assert_eq!(sentinel.master(1), Some(1));
}

#[test]
fn a_master_that_has_lost_its_office_is_left_for_its_successor() {
    // Demoted behind the Sentinels' back: they name it still, but it says what it is.
    let sentinel = Sentinel::start().unwrap();
    let mut link = Watched::up(options(&sentinel.url()));
    let life = link.ask(add(1, "a", &[(7, 1)])).unwrap().life;
    let port = sentinel.servers()[1].port().to_string();
    sentinel.cli(0, &["REPLICAOF", "127.0.0.1", &port]).unwrap();
    let why = link.ask(add(2, "a", &[(7, 1)])).unwrap_err();
    assert!(why.contains("READONLY") || why.contains("connection"), "{why}");
    let why = link.wait("a reason", |event| match event {
        Event::Down { why } if why.contains("is a slave now") || why.contains("can't connect") => {
            Some(why.clone())
        }
        _ => None,
    });
    assert!(why.contains("should take writes"), "{why}");
    sentinel.cli(0, &["REPLICAOF", "NO", "ONE"]).unwrap();
    assert_eq!(served_by(&mut link, 100), life);
}

#[test]
fn sentinels_that_know_nothing_or_are_none_are_told_apart() {
    let sentinel = Sentinel::start().unwrap();
    let wrong_name = sentinel.url().replace("/main", "/nobody");
    let why = Watched::start(options(&wrong_name)).wait_down();
    assert!(why.contains("no master named \"nobody\""), "{why}");

    let redis = Redis::start().unwrap();
    let url = format!("redis+sentinel://127.0.0.1:{}/main", redis.port());
    let why = Watched::start(options(&url)).wait_down();
    assert!(why.contains("Sentinel 127.0.0.1") && why.contains("unknown command"), "{why}");

    // One that is none does not keep us from those that are.
    let hosts = sentinel.url().replace("://", &format!("://127.0.0.1:{},", redis.port()));
    Watched::up(options(&hosts)).ask(add(1, "a", &[(7, 1)])).unwrap();
}

#[test]
fn a_sentinel_that_never_answers_does_not_keep_us_from_the_others() {
    let sentinel = Sentinel::start().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let hosts = sentinel.url().replace("://", &format!("://127.0.0.1:{port},"));
    let options = LinkOptions { timeout: Duration::from_millis(50), ..options(&hosts) };
    Watched::up(options).ask(add(1, "a", &[(7, 1)])).unwrap();
}

#[test]
fn tls_and_two_passwords_serve_servers_and_sentinels() {
    let sentinel = Sentinel::start_secured("pass-data", "pass-sentinel").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let base = LinkOptions {
        password_file: Some(private_file(dir.path(), "data", "pass-data\n")),
        ca: sentinel.ca(),
        ..options(&sentinel.url())
    };
    let mut locked_out = Watched::start(base.clone());
    let why = locked_out.wait_down();
    assert!(why.contains("NOAUTH"), "{why}");
    let file = Some(private_file(dir.path(), "sentinel", "pass-sentinel\n"));
    let mut link = Watched::up(LinkOptions { sentinel_password_file: file, ..base });
    let life = link.ask(add(1, "a", &[(7, 1)])).unwrap().life;
    sentinel.fail_over().unwrap();
    wait_until("the other one serves", || served_by(&mut link, 100) != life);
    let text = format!("{:?} {:?}", link.rest(), locked_out.rest());
    assert!(!text.contains("pass-"), "{text}");
}
