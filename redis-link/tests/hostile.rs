//! Servers that misbehave: nothing hangs, nothing is granted, memory stays small.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::fake::{Fake, Reply, Script};
use common::watched::Watched;
use common::{add, boottime_ms, options};
use weir_redis_link::{Event, LinkOptions};

fn bytes(text: &str) -> Reply {
    Reply::Bytes(text.as_bytes().to_vec())
}

/// A transaction's EXEC as it should be: TIME, HINCRBY, HGETALL, PEXPIRE.
const GOOD: &str =
    "*4\r\n*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n:5\r\n*2\r\n$1\r\n1\r\n$1\r\n5\r\n:1\r\n";

#[test]
fn the_fake_is_taken_for_redis_even_byte_by_byte() {
    for reply in [bytes(GOOD), Reply::Dripping(GOOD.as_bytes().to_vec())] {
        let fake = Fake::start(Script::from([("EXEC", reply)]));
        let mut link = Watched::up(options(&fake.url()));
        let answer = link.ask(add(1, "a", &[(1, 5)])).unwrap();
        assert_eq!(answer.time_ms, 1_700_000_000_123);
        assert_eq!(answer.fields, [[(1, 5)]]);
    }
}

/// Each of these in place of EXEC's reply ends the connection and grants nothing.
#[test]
fn replies_of_another_shape_end_the_connection() {
    let deep = "*1\r\n".repeat(10_000);
    let swapped = GOOD.replace(":5\r\n*2\r\n$1\r\n1\r\n$1\r\n5\r\n", "*2\r\n$1\r\n1\r\n$1\r\n5\r\n:5\r\n");
    for reply in [
        "+OK\r\n",
        ":1\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*1\r\n:1\r\n",
        "*4\r\n:1\r\n:1\r\n*0\r\n:1\r\n",
        "*4\r\n*2\r\n$1\r\n1\r\n$7\r\n1000000\r\n:1\r\n*0\r\n:1\r\n",
        "*4\r\n*2\r\n$20\r\n18446744073709551615\r\n$1\r\n0\r\n:1\r\n*0\r\n:1\r\n",
        "*5\r\n*2\r\n$1\r\n1\r\n$1\r\n0\r\n:1\r\n*0\r\n:1\r\n:1\r\n",
        "*4\r\n*2\r\n$1\r\n1\r\n$1\r\n0\r\n:1\r\n*1\r\n$1\r\n1\r\n:1\r\n",
        "*4\r\n*2\r\n$1\r\n1\r\n$1\r\n0\r\n:1\r\n*2\r\n:1\r\n:1\r\n:1\r\n",
        ">2\r\n$10\r\ninvalidate\r\n*0\r\n",
        "%1\r\n+a\r\n+b\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "\u{0}\u{0}\u{0}",
        "$1073741824\r\n",
        "*1000000000\r\n",
        "*4\r\n$9223372036854775807\r\n",
        &deep,
        &swapped,
    ] {
        let fake = Fake::start(Script::from([("EXEC", bytes(reply))]));
        let mut link = Watched::up(options(&fake.url()));
        let why = link.ask(add(1, "a", &[(1, 5)])).unwrap_err();
        let down = link.wait_down();
        assert_eq!(why, down, "{reply:?}");
        link.wait_up();
        assert!(fake.connections.load(Ordering::SeqCst) >= 2, "{reply:?}");
    }
}

/// An answer that looks good counts for nothing if the commands before it were not queued.
#[test]
fn commands_that_were_not_queued_end_the_connection() {
    for (command, reply) in [
        ("MULTI", "+QUEUED\r\n"),
        ("HINCRBY", ":5\r\n"),
        ("HGETALL", "+OK\r\n"),
        ("HGETALL", "+PONG\r\n"),
        ("HGETALL", "$6\r\nQUEUED\r\n"),
    ] {
        let fake = Fake::start(Script::from([("EXEC", bytes(GOOD))]));
        let mut link = Watched::up(options(&fake.url()));
        link.ask(add(1, "a", &[(1, 5)])).unwrap();
        fake.set(command, bytes(reply));
        let why = link.ask(add(2, "a", &[(1, 5)])).unwrap_err();
        assert!(why.contains("did not queue"), "{why}");
        assert_eq!(link.wait_down(), why);
        fake.unset(command);
        link.wait_up();
    }
}

#[test]
fn a_reply_that_is_cut_off_is_lost() {
    for cut in [1, 4, 10, GOOD.len() - 1] {
        let last = Reply::Last(GOOD.as_bytes()[..cut].to_vec());
        let fake = Fake::start(Script::from([("EXEC", last)]));
        let mut link = Watched::up(options(&fake.url()));
        let why = link.ask(add(1, "a", &[(1, 5)])).unwrap_err();
        assert!(why.contains("closed the connection"), "{why}");
        link.wait_up();
    }
}

/// Errors of the whole server: the transaction is lost once, the breaker opens, and closes when the
/// server has come to its senses.
#[test]
fn every_error_of_the_server_is_lost_once_and_recovered_from() {
    let errors = [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down",
        "CLUSTERDOWN The cluster is down",
        "MOVED 1 127.0.0.1:1",
        "ASK 1 127.0.0.1:1",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "BUSY Redis is busy running a script.",
        "NOSCRIPT No matching script.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots",
        "NOREPLICAS Not enough good replicas to write.",
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair",
        "NOPERM this user has no permissions to run the 'hincrby' command",
        "ERR unknown command",
        "EXECABORT Transaction discarded because of previous errors.",
    ];
    std::thread::scope(|scope| {
        for error in errors {
            scope.spawn(move || ["MULTI", "HINCRBY", "EXEC"].map(|at| error_is_recovered_from(error, at)));
        }
    });
}

fn error_is_recovered_from(error: &str, command: &'static str) {
    let code = error.split(' ').next().unwrap();
    let fake = Fake::start(Script::new());
    let mut link = Watched::up(options(&fake.url()));
    fake.set(command, bytes(&format!("-{error}\r\n")));
    let why = link.ask(add(1, "a", &[(1, 5)])).unwrap_err();
    assert!(why.contains(code), "{command}: {why}");
    assert!(link.wait_down().contains(code), "{command} {error}");
    fake.unset(command);
    link.wait_up();
    fake.set("EXEC", bytes(GOOD));
    link.ask(add(2, "a", &[(1, 5)])).unwrap();
    let again = link.rest().into_iter().find(|event| matches!(event, Event::Lost { .. }));
    assert_eq!(again, None);
}

#[test]
fn keys_that_no_server_takes_together_are_lost_and_harm_no_other() {
    let fake = Fake::start(Script::from([("EXEC", bytes("-CROSSSLOT Keys in request don't hash\r\n"))]));
    let mut link = Watched::up(options(&fake.url()));
    let why = link.ask(add(1, "a", &[(1, 5)])).unwrap_err();
    assert!(why.contains("CROSSSLOT"), "{why}");
    fake.set("EXEC", bytes(GOOD));
    link.ask(add(2, "a", &[(1, 5)])).unwrap();
    assert!(!link.rest().iter().any(|event| matches!(event, Event::Down { .. })));
}

#[test]
fn errors_at_the_door_are_told() {
    let busy = "-ERR max number of clients reached\r\n";
    let turned_away = Reply::Last(busy.as_bytes().to_vec());
    let fake = Fake::start(Script::from([("INFO", turned_away)]));
    let why = Watched::start(options(&fake.url())).wait_down();
    assert!(why.contains("max number of clients"), "{why}");

    for (command, reply, part) in [
        ("INFO", bytes("-LOADING Redis is loading\r\n"), "LOADING"),
        ("INFO", bytes("-NOPERM no info\r\n"), "info"),
        ("INFO", bytes(":1\r\n"), "is this Redis?"),
        ("INFO", bytes("$0\r\n\r\n"), "run_id"),
        ("TIME", bytes("+now\r\n"), "TIME"),
        ("ZADD", bytes("-OOM no\r\n"), "maxmemory"),
        ("INFO", bytes("HTTP/1.1 400 Bad Request\r\n"), "is this Redis?"),
    ] {
        let fake = Fake::start(Script::from([(command, reply)]));
        let mut link = Watched::start(options(&fake.url()));
        let why = link.wait_down();
        assert!(why.contains(part), "{why}");
        fake.unset(command);
        link.wait_up();
    }
}

#[test]
fn a_server_that_repeats_the_password_does_not_get_it_told() {
    let dir = tempfile::tempdir().unwrap();
    let echo = "-ERR unknown command 'AUTH', with args beginning with: 's3cret'\r\n";
    for reply in [bytes(echo), Reply::Last(echo.as_bytes().to_vec())] {
        let fake = Fake::start(Script::from([("AUTH", reply)]));
        let file = common::private_file(dir.path(), "password", "s3cret\n");
        let mut link = Watched::start(LinkOptions { password_file: Some(file), ..options(&fake.url()) });
        let why = link.wait_down();
        assert!(why.contains("unknown command") && !why.contains("s3cret"), "{why}");
    }
}

#[test]
fn a_server_that_stops_answering_is_lost_within_seconds() {
    let timeout = Duration::from_millis(100);
    for reply in [Reply::Silence, bytes("$1048576\r\n"), bytes("*4\r\n*2\r\n")] {
        let fake = Fake::start(Script::from([("EXEC", reply)]));
        let mut link = Watched::up(LinkOptions { timeout, ..options(&fake.url()) });
        let begun = Instant::now();
        link.link.send(add(1, "a", &[(1, 5)]));
        link.wait_down();
        assert!(begun.elapsed() < Duration::from_secs(5));
        link.outcome(1).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10));
        link.wait_up();
    }
}

/// The kernel drops SYNs to a full backlog: the worst that a network does.
#[test]
fn a_host_that_swallows_connections_is_a_time_out() {
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: listen(2) on a listening socket that is open changes its backlog and nothing else.
    assert_eq!(unsafe { libc::listen(full.as_raw_fd(), 0) }, 0);
    let address = full.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        held.push(stream);
    }
    let url = format!("redis://{address}/0");
    let timeout = Duration::from_millis(20);
    let mut link = Watched::start(LinkOptions { timeout, ..options(&url) });
    let begun = Instant::now();
    let why = link.wait_down();
    assert!(why.contains("did not greet"), "{why}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    link.link.close(Duration::ZERO);
}

#[test]
fn a_flood_of_transactions_is_bounded() {
    let fake = Fake::start(Script::from([("EXEC", Reply::Silence)]));
    let mut link = Watched::up(LinkOptions { timeout: Duration::from_secs(3), ..options(&fake.url()) });
    (0..10_100).for_each(|id| link.link.send(add(id, "a", &[(1, 1)])));
    let why = link.outcome(10_099).unwrap_err();
    assert!(why.contains("too many"), "{why}");
    assert!(link.link.is_up());
    // All the others end when the connection is given up; none twice, none never.
    for id in 0..10_099 {
        link.outcome(id).unwrap_err();
    }
    let more = link.rest().into_iter().find(|event| matches!(event, Event::Lost { .. }));
    assert_eq!(more, None);
}

static MUST_PANIC: AtomicBool = AtomicBool::new(false);

fn clock_that_may_panic() -> u64 {
    assert!(!MUST_PANIC.load(Ordering::SeqCst), "the test wants it so");
    boottime_ms()
}

#[test]
fn a_panic_of_the_thread_is_an_outage_and_not_a_hang() {
    let fake = Fake::start(Script::from([("EXEC", Reply::Silence)]));
    let mut link = Watched::up(LinkOptions {
        clock: clock_that_may_panic,
        timeout: Duration::from_millis(50),
        ..options(&fake.url())
    });
    MUST_PANIC.store(true, Ordering::SeqCst);
    link.link.send(add(1, "a", &[(1, 1)]));
    // The breaker opens; the first probe reads the clock.
    let why = link.outcome(1).unwrap_err();
    assert!(why.contains("closed"), "{why}");
    link.wait("Down", |event| match event {
        Event::Down { why } => why.contains("thread for Redis").then_some(()),
        _ => None,
    });
    assert!(!link.link.is_up());
    let why = link.ask(add(2, "a", &[(1, 1)])).unwrap_err();
    assert!(why.contains("thread for Redis"), "{why}");
    link.link.close(Duration::from_secs(1));
}

#[test]
fn the_thread_takes_no_signals_and_the_caller_keeps_its_own() {
    let fake = Fake::start(Script::new());
    let before = blocked_signals("self");
    let link = Watched::up(options(&fake.url()));
    assert_eq!(blocked_signals("self"), before);
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
    let masks: Vec<_> =
        names.filter(|id| comm(id).as_deref() == Some("weir-redis")).map(|id| blocked_signals(&id)).collect();
    assert!(!masks.is_empty());
    // All but KILL (9), STOP (19) and the two that the C library keeps to itself (32, 33).
    let all: u64 = !(1 << 8 | 1 << 18 | 3 << 31);
    assert!(masks.iter().all(|mask| mask & all == all), "{masks:x?}");
    drop(link);
}

fn comm(id: &str) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok()?;
    Some(name.trim().to_owned())
}

/// The mask of a thread of this process, "self" being the caller's.
fn blocked_signals(id: &str) -> u64 {
    let path = match id {
        "self" => "/proc/thread-self/status".to_owned(),
        id => format!("/proc/self/task/{id}/status"),
    };
    let status = std::fs::read_to_string(path).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or("0");
    u64::from_str_radix(mask.trim(), 16).unwrap()
}
