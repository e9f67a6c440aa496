//! Who a client is: each sample of nginx/ that says so, with callers who tell the truth and such who
//! do not.

mod module_common;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use module_common::samples::{ask, run, run_with, sample, service};
use module_common::{Plan, policy};
use weir_testbed::http::{Answer, Request};
use weir_testbed::tls::Tls;
use weir_testbed::{ports, temp_dir, wait};

/// The amount of the first limit that an answer tells of: 10000 for acme, 1500 for globex, 100 for
/// initech; none for who is unknown.
fn amount(policy: Option<&str>) -> Option<u64> {
    policy?.split(';').find_map(|part| part.strip_prefix("q=")?.parse().ok())
}

fn told(answer: &Answer) -> (u16, Option<u64>) {
    (answer.status, amount(answer.header("RateLimit-Policy")))
}

fn with(port: u16, path: &str, fields: &[(&str, &str)]) -> (u16, Option<u64>) {
    let request = Request::get(port, path);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(name, value));
    told(&request.send().unwrap())
}

#[test]
fn a_key_in_a_header_or_a_query_that_no_log_shows() {
    let log = temp_dir();
    let path = log.path().join("api.log");
    let change = [("/var/log/nginx/api.log", path.display().to_string())];
    run("identity-query.conf", &change, |port| {
        for (path, header, value) in [
            ("/?api_key=weir_sample_acme", "X-Other", "-"),
            ("/", "Authorization", "Bearer weir_sample_acme"),
            ("/", "X-Api-Key", "weir_sample_acme"),
        ] {
            let (status, policy) = ask(port, path, header, value);
            assert!(status == 200 && policy.is_some(), "{path} {header}: {status}");
        }
        let both = with(port, "/?api_key=weir_sample_acme", &[("X-Api-Key", "weir_sample_initech")]);
        assert_eq!(both, (200, Some(100)), "the first that is not empty counts");
    });
    let written = fs::read_to_string(path).unwrap();
    assert!(written.matches("client=acme").count() == 3 && !written.contains("weir_sample_acme"));
}

#[test]
fn a_key_in_a_cookie() {
    run("identity-cookie.conf", &[], |port| {
        let cookie = |text: &str| with(port, "/", &[("Cookie", text)]);
        assert_eq!(cookie("theme=dark; api_key=weir_sample_initech"), (200, Some(100)));
        assert_eq!(cookie("api_key=weir_sample_initechx"), (200, None));
        assert_eq!(cookie("xapi_key=weir_sample_initech"), (200, None));
    });
}

#[test]
fn the_subject_of_a_certificate_that_was_verified() {
    let dir = temp_dir();
    let tls = Tls::make(dir.path()).unwrap();
    let strangers = dir.path().join("strangers");
    fs::create_dir(&strangers).unwrap();
    let stranger = Tls::make(&strangers).unwrap().client("/O=API clients/CN=acme").unwrap();
    let file = |path: &std::path::Path| path.display().to_string();
    let changes = [
        ("/etc/ssl/api/cert.pem", file(&tls.cert)),
        ("/etc/ssl/api/key.pem", file(&tls.key)),
        ("/etc/ssl/api/clients-ca.pem", file(&tls.ca)),
    ];
    run("identity-mtls.conf", &changes, |port| {
        let client = |subject: &str| over_tls(port, &tls, Some(&tls.client(subject).unwrap()));
        assert_eq!(client("/O=API clients/CN=acme"), (200, Some(10_000)));
        assert_eq!(client("/O=Globex/CN=gateway.globex.example"), (200, Some(1_500)));
        assert_eq!(client("/O=API clients/OU=x,CN=acme/CN=nobody"), (200, None), "a part is no subject");
        assert_eq!(client("/O=Another/CN=acme"), (200, None));
        assert_eq!(over_tls(port, &tls, None), (200, None));
        // nginx turns a certificate away that it cannot verify, whatever its subject says.
        assert_eq!(over_tls(port, &tls, Some(&stranger)), (400, None));
    });
}

/// A request over TLS by the openssl command, with an API key that must not count.
fn over_tls(port: u16, server: &Tls, client: Option<&Tls>) -> (u16, Option<u64>) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-verify_quiet", "-connect", &format!("127.0.0.1:{port}")]);
    command.arg("-CAfile").arg(&server.ca);
    if let Some(client) = client {
        command.arg("-cert").arg(&client.cert).arg("-key").arg(&client.key);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl must be installed");
    let request = "GET / HTTP/1.1\r\nHost: x\r\nX-Api-Key: weir_sample_initech\r\nConnection: close\r\n\r\n";
    child.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{text:?}"));
    let policy = text.lines().find_map(|line| line.strip_prefix("RateLimit-Policy: "));
    (status, amount(policy))
}

#[test]
fn a_user_whose_password_was_seen() {
    let dir = temp_dir();
    let users = dir.path().join("users");
    fs::write(&users, "initech:{PLAIN}swordfish\nnobody:{PLAIN}x\n").unwrap();
    let change = [("/etc/nginx/api-users", users.display().to_string())];
    let policy = sample("policy.toml", &[("\"100 requests/minute\"", "\"2 requests/minute\"".to_owned())]);
    run_with(&policy, "identity-basic.conf", &change, |port| {
        // initech:swordfish, initech:guess
        let (right, wrong) = ("Basic aW5pdGVjaDpzd29yZGZpc2g=", "Basic aW5pdGVjaDpndWVzcw==");
        let login = |value: &str| with(port, "/", &[("Authorization", value)]);
        assert_eq!(login(right), (200, Some(2)));
        for _ in 0..5 {
            assert_eq!(login(wrong), (401, None));
            assert_eq!(with(port, "/", &[("X-Api-Key", "weir_sample_initech")]), (401, None));
        }
        assert_eq!(login(right), (200, Some(2)), "guesses were charged to nobody");
        assert_eq!(login(right).0, 429);
    });
}

#[test]
fn client_and_tier_as_the_authenticator_names_them() {
    let login = ports::free();
    let _login = service(
        login,
        "if ($http_authorization = \"\") { return 401; }
         set $client globex; set $tier enterprise;
         if ($http_authorization = \"new\") { set $client hooli; }
         if ($http_authorization = \"odd\") { set $tier platinum; }
         add_header X-Client $client; add_header X-Tier $tier; return 204;",
    );
    let change = [("127.0.0.1:9001", format!("127.0.0.1:{login}"))];
    run("identity-auth-request.conf", &change, |port| {
        let forged = [("X-Client", "acme"), ("X-Tier", "enterprise"), ("X-Api-Key", "weir_sample_initech")];
        let says = |token: &str| with(port, "/", &[&[("Authorization", token)][..], &forged].concat());
        assert_eq!(says("good"), (200, Some(1_500)), "its own limit, not that of the key");
        assert_eq!(says("new"), (200, Some(10_000)), "one that the policy does not list, by its tier");
        assert_eq!(says("odd"), (200, Some(1_500)), "a tier that does not exist is not invented");
        for _ in 0..3 {
            assert_eq!(with(port, "/", &forged), (401, None), "what nobody verified counts for nothing");
        }
    });
}

#[test]
fn before_authentication_or_after_it() {
    let login = ports::free();
    let (_login, dir) =
        service(login, "access_log asked.log; if ($http_x_good = \"\") { return 401; } return 204;");
    let asked = || fs::read_to_string(dir.path().join("asked.log")).unwrap_or_default().lines().count();
    let change = [("127.0.0.1:9001", format!("127.0.0.1:{login}"))];
    let policy = sample("policy.toml", &[("\"100 requests/minute\"", "\"4 requests/minute\"".to_owned())]);
    run_with(&policy, "identity-before-after.conf", &change, |port| {
        let bad = [("X-Api-Key", "weir_sample_initech")];
        let good = [bad[0], ("X-Good", "1")];
        for _ in 0..3 {
            assert_eq!(with(port, "/after", &bad), (401, None), "turned away, and nothing used");
        }
        for _ in 0..2 {
            assert_eq!(with(port, "/after", &good), (200, Some(4)));
        }
        for _ in 0..2 {
            assert_eq!(with(port, "/before", &bad), (401, Some(4)), "turned away, and used");
        }
        let before = asked();
        for _ in 0..3 {
            assert_eq!(with(port, "/before", &good).0, 429);
        }
        assert_eq!(asked(), before, "a flood never reaches the login");
        assert_eq!(with(port, "/after", &good).0, 429);
        assert_eq!(asked(), before + 1);
    });
}

/// Whoever is not a balancer can write what it likes, and a balancer may spell as it likes.
#[test]
fn an_address_that_a_balancer_told_of_and_none_that_a_caller_made_up() {
    let from = |port: u16, told: &str| with(port, "/", &[("X-Forwarded-For", told)]);
    run("identity-address.conf", &[], |port| {
        for forged in ["192.0.2.9", "::ffff:192.0.2.9", "10.0.0.1, 192.0.2.9"] {
            assert_eq!(from(port, forged), (200, None), "{forged}");
        }
    });
    let balancer = [("10.0.0.0/8", "127.0.0.1/32".to_owned())];
    run("identity-address.conf", &balancer, |port| {
        for acme in ["192.0.2.9", "::ffff:192.0.2.9", "::FFFF:C000:0209", "0:0:0:0:0:ffff:192.0.2.9"] {
            assert_eq!(from(port, acme), (200, Some(10_000)), "{acme}");
        }
        for acme in ["2001:db8:1::7", "2001:0DB8:0001:0:0:0:0:7", "203.0.113.5, 192.0.2.9"] {
            assert_eq!(from(port, acme), (200, Some(10_000)), "{acme}");
        }
        assert_eq!(from(port, "198.51.100.7"), (200, Some(1_500)));
        for other in ["198.51.100.8", "192.0.2.9, 203.0.113.5", "acme", ""] {
            assert_eq!(from(port, other), (200, None), "{other}");
        }
        let both = [("X-Forwarded-For", "203.0.113.5"), ("X-Api-Key", "weir_sample_initech")];
        assert_eq!(with(port, "/", &both), (200, Some(100)), "no partner is known by its key");
    });
}

#[test]
fn callers_nobody_knows_are_listed_by_the_address_they_come_from() {
    let places = "location / { weir on; } location = /metrics { weir_metrics; access_log off; }";
    let site = Plan::new(&policy("\"5 requests/hour\""), places).start();
    for forged in ["192.0.2.9", "::1"] {
        let request = Request::get(site.port, "/").header("X-Forwarded-For", forged);
        assert_eq!(request.send().unwrap().status, 200);
    }
    let told = || {
        let request = Request::get(site.port, "/metrics").header("Accept", "application/json");
        serde_json::from_str::<serde_json::Value>(&request.send().unwrap().text()).unwrap()["unknown"].clone()
    };
    let is_there = || told()[0]["requests"] == 2 && told()[0]["name"] == "127.0.0.1";
    assert!(wait::until(Duration::from_secs(10), is_there), "{}", told());
}
