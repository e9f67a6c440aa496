//! Users, passwords and TLS, against a real Redis with certificates made for the test.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::server::Redis;
use common::watched::Watched;
use common::{PREFIX, add, options, private_file};
use weir_redis_link::{Event, Link, LinkOptions};

/// All that weir needs, and nothing more.
const NARROW: &str = "+multi +exec +time +info +select +hincrby +hgetall +hdel +pexpire \
                      +zadd +zremrangebyscore +zcard";

fn set_user(redis: &mut redis::Connection, password: &str) {
    let mut command = redis::cmd("ACL");
    command.arg(&["SETUSER", "weir", "reset", "on", &format!(">{password}")]);
    command.arg(&[format!("~{PREFIX}:*")]).arg(NARROW.split_whitespace().collect::<Vec<_>>());
    let () = command.query(redis).unwrap();
}

fn with_file(redis: &Redis, user: Option<&str>, password: &str) -> LinkOptions {
    LinkOptions {
        user: user.map(str::to_owned),
        password_file: Some(private_file(&redis.dir(), "password", &format!("{password}\n"))),
        ..options(&redis.url())
    }
}

#[test]
fn a_user_with_the_named_rights_and_no_others_is_enough() {
    let redis = Redis::start();
    set_user(&mut redis.client(), "pass-one");
    let mut link = Watched::up(with_file(&redis, Some("weir"), "pass-one"));
    link.ask(add(1, "a", &[(1, 1)])).unwrap();
    let with_drop = weir_limiter::Transaction {
        parts: vec![common::part("a", ":requests:60000", &[], &[1])],
        ..add(2, "a", &[])
    };
    link.ask(with_drop).unwrap();
}

#[test]
fn a_rotated_password_is_read_at_the_next_connection() {
    let redis = Redis::start();
    let mut admin = redis.client();
    set_user(&mut admin, "pass-one");
    let options = with_file(&redis, Some("weir"), "pass-one");
    let file = options.password_file.clone().unwrap();
    let mut link = Watched::up(options);

    set_user(&mut admin, "pass-two");
    let kill = ["KILL", "USER", "weir"];
    let () = redis::cmd("CLIENT").arg(&kill).query(&mut admin).unwrap();
    let why = link.wait("WRONGPASS", |event| match event {
        Event::Down { why } if why.contains("WRONGPASS") => Some(why.to_string()),
        _ => None,
    });
    assert!(why.contains("password_file"), "{why}");
    assert!(!link.link.is_up());

    std::fs::write(&file, "pass-two\n").unwrap();
    link.wait_up();
    link.ask(add(1, "a", &[(1, 1)])).unwrap();
    assert_shows_nothing(&link.rest());
}

#[test]
fn the_default_users_password_may_stand_in_the_address_or_the_file() {
    let redis = Redis::start_with(|_, _| vec!["--requirepass".into(), "pass-one".into()]);
    Watched::up(with_file(&redis, None, "pass-one"));
    let address = format!("redis://:pass-one@127.0.0.1:{}/0", redis.port);
    Watched::up(options(&address));

    let mut link = Watched::start(options(&redis.url()));
    let why = link.wait_down();
    assert!(why.contains("NOAUTH") && why.contains("password_file"), "{why}");
}

#[test]
fn a_missing_right_is_named() {
    let redis = Redis::start();
    let mut admin = redis.client();
    set_user(&mut admin, "pass-one");
    let () = redis::cmd("ACL").arg(&["SETUSER", "weir", "-zadd"]).query(&mut admin).unwrap();
    let mut link = Watched::start(with_file(&redis, Some("weir"), "pass-one"));
    let why = link.wait_down();
    assert!(why.contains("NOPERM") && why.contains("zadd"), "{why}");
    let () = redis::cmd("ACL").arg(&["SETUSER", "weir", "+zadd"]).query(&mut admin).unwrap();
    link.wait_up();
}

#[test]
fn a_wrong_password_is_shown_nowhere() {
    let redis = Redis::start();
    set_user(&mut redis.client(), "pass-one");
    let mut link = Watched::start(with_file(&redis, Some("weir"), "pass-wrong"));
    let why = link.wait_down();
    assert!(why.contains("WRONGPASS"), "{why}");
    let _ = link.ask(add(1, "a", &[(1, 1)]));
    assert_shows_nothing(&link.rest());
    let shown = format!("{:?}", options("redis://weir:pass-wrong@127.0.0.1/0"));
    assert!(!shown.contains("pass-"), "{shown}");
}

fn assert_shows_nothing(events: &[Event]) {
    let shown = format!("{events:?}");
    assert!(!shown.contains("pass-"), "{shown}");
}

/// An authority, and a server's and a client's certificate by it, made by the openssl command.
struct Papers {
    dir: tempfile::TempDir,
}

impl Papers {
    fn new() -> Papers {
        let papers = Papers { dir: tempfile::tempdir().unwrap() };
        papers.run("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca");
        for (name, extension) in [
            ("server", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            ("elsewhere", "subjectAltName=DNS:redis.example"),
            ("client", "extendedKeyUsage=clientAuth"),
        ] {
            std::fs::write(papers.path("ext"), extension).unwrap();
            papers.run(&format!(
                "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ));
            papers.run(&format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile ext -out {name}.crt"
            ));
        }
        papers
    }

    fn run(&self, arguments: &str) {
        let status = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("openssl must be installed");
        assert!(status.success(), "openssl {arguments}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A Redis that speaks TLS alone.
    fn redis(&self, name: &str, asks_clients: bool) -> Redis {
        let asks = if asks_clients { "yes" } else { "no" };
        let shown = |path: PathBuf| path.display().to_string();
        Redis::start_with(|_: &Path, port| {
            let pairs = [
                ("--tls-port", port.to_string()),
                ("--tls-cert-file", shown(self.path(&format!("{name}.crt")))),
                ("--tls-key-file", shown(self.path(&format!("{name}.key")))),
                ("--tls-ca-cert-file", shown(self.path("ca.crt"))),
                ("--tls-auth-clients", asks.to_owned()),
            ];
            pairs.into_iter().flat_map(|(key, value)| [key.to_owned(), value]).collect()
        })
    }

    fn options(&self, host: &str, redis: &Redis) -> LinkOptions {
        LinkOptions { ca: Some(self.path("ca.crt")), ..options(&format!("rediss://{host}:{}/0", redis.port)) }
    }
}

#[test]
fn tls_checks_the_server_and_shows_the_client() {
    let papers = Papers::new();
    let redis = papers.redis("server", true);
    for host in ["localhost", "127.0.0.1"] {
        let mut link = Watched::up(LinkOptions {
            cert: Some(papers.path("client.crt")),
            key: Some(papers.path("client.key")),
            ..papers.options(host, &redis)
        });
        link.ask(add(1, "a", &[(1, 1)])).unwrap();
    }
    // Without a certificate of its own the server turns it away.
    let mut link = Watched::start(papers.options("localhost", &redis));
    let why = link.wait_down();
    assert!(why.to_lowercase().contains("certificate"), "{why}");
}

#[test]
fn tls_refuses_a_server_that_it_cant_be_sure_of() {
    let papers = Papers::new();
    let redis = papers.redis("elsewhere", false);
    let why = Watched::start(papers.options("localhost", &redis)).wait_down();
    assert!(why.contains("not valid for name"), "{why}");

    let strangers = Papers::new();
    let redis = papers.redis("server", false);
    let why = Watched::start(strangers.options("localhost", &redis)).wait_down();
    assert!(why.contains("certificate"), "{why}");
    let trusted_by_machine = options(&format!("rediss://localhost:{}/0", redis.port));
    if Link::check(&trusted_by_machine).is_ok() {
        let why = Watched::start(trusted_by_machine).wait_down();
        assert!(why.contains("certificate"), "{why}");
    }

    let plain = Redis::start();
    let why = Watched::start(papers.options("localhost", &plain)).wait_down();
    assert!(why.contains("does it speak TLS?"), "{why}");
    let why = Watched::start(options(&redis.url())).wait_down();
    assert!(why.contains("connection"), "{why}");
}

#[test]
fn check_reads_the_papers() {
    let papers = Papers::new();
    let base = LinkOptions {
        ca: Some(papers.path("ca.crt")),
        cert: Some(papers.path("client.crt")),
        key: Some(papers.path("client.key")),
        ..options("rediss://localhost:1/0")
    };
    Link::check(&base).unwrap();
    let refused = |options: LinkOptions, part: &str| {
        let text = Link::check(&options).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    refused(LinkOptions { key: None, ..base.clone() }, "belong together");
    refused(LinkOptions { key: Some(papers.path("server.key")), ..base.clone() }, "can't be used");
    refused(LinkOptions { key: Some(papers.path("ca.crt")), ..base.clone() }, "open to everyone");
    refused(LinkOptions { ca: Some(papers.path("ca.key")), ..base.clone() }, "no certificate");
    refused(LinkOptions { ca: Some(papers.path("nowhere")), ..base.clone() }, "nginx's workers");
    refused(LinkOptions { urls: vec!["redis://localhost".into()], ..base }, "rediss://");
}
