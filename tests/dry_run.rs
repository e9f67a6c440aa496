//! A dry run, however it is asked for, decides, tells and records, and changes nothing else: the bytes of
//! every answer are those of an nginx where weir is off.

mod module_common;

use std::io::{Read, Write};

use module_common::{KEY, Plan, Site};
use weir_testbed::gateway::key_hash;

/// `acme` of a tier with two requests a minute.
fn policy(tier: &str, client: &str) -> String {
    format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"2 requests/minute\"]\n{tier}\n\
         [clients.acme]\nkeys = [\"{}\"]\n{client}\n",
        key_hash(KEY)
    )
}

/// The same locations with weir and without it.
fn server(weir: &str) -> String {
    format!(
        "set $route plain;
         location /with/ {{ alias html/; {weir} add_header X-Route $route; }}
         location /without/ {{ alias html/; add_header X-Route $route; }}
         location /with/proxied {{ {weir} proxy_pass http://$host_of_site/inner; }}
         location /without/proxied {{ proxy_pass http://$host_of_site/inner; }}
         location /inner {{ return 201 \"made \\n\"; }}"
    )
}

fn start(policy: &str, http: &str, weir: &str) -> Site {
    // Over the limit nginx would choose another page, if the run were not dry.
    let map = "map $weir_status $host_of_site { default $http_host; ~^OVER nowhere.invalid; }";
    let gzip = "gzip on; gzip_min_length 1; if_modified_since before;";
    Plan::new(policy, &server(weir)).http(&format!("{map}\n{gzip}\n{http}")).start()
}

/// The whole answer as it came, but for the time of day and what a dry run tells.
fn bytes(site: &Site, method: &str, path: &str, fields: &str) -> Vec<u8> {
    let mut stream = site.connect();
    let port = site.port;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Api-Key: {KEY}\r\n{fields}Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let told = ["RateLimit: ", "RateLimit-Policy: ", "Date: "];
    let kept: Vec<&str> =
        head.split("\r\n").filter(|line| told.iter().all(|name| !line.starts_with(name))).collect();
    [kept.join("\r\n").as_bytes(), &answer[end..]].concat()
}

/// Asks for a page, a part of it, its head, the same packed, whether it has changed, one that is not there,
/// and one from a backend, until all are over the limit, and compares.
fn assert_same_bytes(site: &Site) {
    for _ in 0..2 {
        for (method, page, fields) in [
            ("GET", "index.html", ""),
            ("GET", "index.html", "Range: bytes=1-2\r\n"),
            ("HEAD", "index.html", ""),
            ("GET", "index.html", "Accept-Encoding: gzip\r\n"),
            ("GET", "index.html", "If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT\r\n"),
            ("GET", "missing", ""),
            ("POST", "index.html", ""),
            ("GET", "proxied", ""),
        ] {
            let [with, without] = ["with", "without"].map(|which| {
                let answer = bytes(site, method, &format!("/{which}/{page}"), fields);
                String::from_utf8_lossy(&answer).into_owned()
            });
            assert_eq!(with, without, "{method} {page} {fields}");
            let is_as_asked =
                |field: &str, answer: &str| !fields.starts_with(field) || without.contains(answer);
            assert!(
                is_as_asked("Accept", "Content-Encoding: gzip") && is_as_asked("If", "304 Not"),
                "{without}"
            );
        }
    }
}

/// The decisions of the requests with weir, as the log has them.
fn decisions(site: &mut Site) -> Vec<String> {
    site.close();
    let of = |line: String| line.split(' ').nth(1).unwrap().to_owned();
    site.log().into_iter().map(of).filter(|decision| decision != "-").collect()
}

/// Sixteen requests, of which the first two are within the limit.
fn assert_dry(mut site: Site, beyond: &[&str]) {
    assert_same_bytes(&site);
    let head = site.get("/with/index.html");
    assert!(head.header("RateLimit").unwrap().starts_with("\"requests-60s\";r=0;t="), "{head:?}");
    assert_eq!((head.header("Retry-After"), head.header("Cache-Control")), (None, None));
    let decisions = decisions(&mut site);
    assert_eq!(decisions[..2], ["PASSED"; 2]);
    let expected = beyond.iter().chain(std::iter::repeat(&"REJECTED_DRY_RUN"));
    assert!(decisions[2..].iter().zip(expected).all(|(a, b)| a == b), "{decisions:?}");
    assert_eq!(decisions.len(), 17);
    site.assert_quiet();
}

#[test]
fn for_the_whole_gateway() {
    assert_dry(start(&policy("", ""), "weir_dry_run on;", "weir on;"), &[]);
}

#[test]
fn for_one_location() {
    assert_dry(start(&policy("", ""), "", "weir on; weir_dry_run on;"), &[]);
}

#[test]
fn for_a_tier() {
    assert_dry(start(&policy("dry_run = true", ""), "", "weir on;"), &[]);
}

#[test]
fn for_a_client_over_what_its_tier_says() {
    assert_dry(start(&policy("dry_run = \"0%\"", "dry_run = true"), "", "weir on;"), &[]);
}

#[test]
fn for_a_share_of_a_tiers_clients() {
    assert_dry(start(&policy("dry_run = \"100%\"", ""), "", "weir on;"), &[]);
    let ids: Vec<String> = (0..40).map(|n| format!("client-{n}")).collect();
    let site = start(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"1 requests/hour\"]\ndry_run = \"50%\"\n",
        "",
        "weir on; weir_client $http_x_client;",
    );
    let ask =
        |id: &String| site.request("GET", "/with/index.html").header("X-Client", id).send().unwrap().status;
    assert!(ids.iter().all(|id| ask(id) == 200), "one is within the limit");
    let refused: Vec<bool> = ids.iter().map(|id| ask(id) == 429).collect();
    let again: Vec<bool> = ids.iter().map(|id| ask(id) == 429).collect();
    assert_eq!(refused, again, "the same clients every time");
    let share = refused.iter().filter(|refused| **refused).count();
    assert!((10..=30).contains(&share), "about half of 40: {share}");
}

#[test]
fn what_would_be_routed_elsewhere_is_not() {
    let policy = policy("over = \"degrade up to 200%\"\ndry_run = true", "");
    assert_dry(start(&policy, "", "weir on;"), &["OVER_DRY_RUN", "OVER_DRY_RUN"]);
}

#[test]
fn what_would_be_held_back_is_not() {
    let policy = policy("over = \"delay 10s burst 1\"\ndry_run = true", "")
        .replace("2 requests/minute", "2 requests/9 seconds");
    let mut site = start(&policy, "", "weir on;");
    let answers = [(); 4].map(|()| bytes(&site, "GET", "/with/index.html", ""));
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let decisions = decisions(&mut site);
    assert_eq!(decisions, ["PASSED", "PASSED", "DELAYED_DRY_RUN", "REJECTED_DRY_RUN"]);
}

#[test]
fn callers_whom_nobody_knows_and_a_redis_that_is_away() {
    let unknown = "[unknown]\naction = \"reject\"\n[tiers.t]\nlimits = [\"1 requests/minute\"]\n";
    let site = start(unknown, "", "weir on; weir_dry_run on;");
    assert_same_bytes(&site);
    let away = weir_testbed::ports::free();
    let redis = format!("weir_redis redis://127.0.0.1:{away};\nweir_fallback deny;");
    let mut site = start(&policy("", ""), &redis, "weir on; weir_dry_run on;");
    assert_same_bytes(&site);
    let decisions = decisions(&mut site);
    assert_eq!(decisions, ["REJECTED_DRY_RUN"; 16], "nothing could be decided, and deny was asked for");
}
