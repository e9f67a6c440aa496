//! What a client reads on every kind of answer that nginx gives: HTTP/1.0, 1.1 and 2, HEAD, ranges,
//! gzip, conditional requests, cached and proxied answers, errors of both sides. The fields are read
//! with a parser of RFC 9651, which `tests/structured_fields.rs` holds against the vectors.

// It waits for real processes.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use module_common::{KEY, Plan, Site, policy};
use serde_json::Value;
use sfv::{BareItem, List, ListEntry, Parser};
use tokio::net::TcpStream;
use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::{ports, wait};

/// The key of a client that may send nothing.
const FULL: &str = "full-key";
/// Nothing has changed since then.
const LATER: &str = "Fri, 31 Dec 2100 23:59:59 GMT";
const AMOUNT: u64 = 1_000_000_000;
const PORTAL: &str = "https://api.example/usage?who=full";

/// A site with an upstream, a cache and HTTP/2 at a second port.
fn site() -> (Site, u16) {
    let (h2, upstream) = (ports::free(), ports::free());
    let policy = policy(&format!("\"{AMOUNT} requests/hour\", \"5 GB/day\""))
        + &format!(
            "[clients.full]\nname = \"Full & Co\"\nkeys = [\"{}\"]\n\
             limits = [\"0 requests/minute\", \"0 requests/hour\"]\n\
             [unknown]\naction = \"reject\"\n",
            key_hash(FULL)
        );
    let http = format!(
        "proxy_cache_path cache keys_zone=c:1m;
         server {{ listen 127.0.0.1:{upstream}; location / {{ root html; add_header X-From upstream; }} }}
         gzip on; gzip_http_version 1.0; gzip_min_length 20; gzip_proxied any;
         gzip_types text/plain application/problem+json; types {{ text/plain txt; }}\n"
    );
    let server = format!(
        "listen 127.0.0.1:{h2} http2; if_modified_since before; weir on; weir_portal https://api.example/usage?who=$weir_client;
         location / {{ try_files $uri =404; }}
         location /proxied/ {{ proxy_pass http://127.0.0.1:{upstream}/; }}
         location /cached/ {{ proxy_pass http://127.0.0.1:{upstream}/; proxy_cache c;
             proxy_cache_valid 200 1h; add_header X-Cache $upstream_cache_status; }}
         location /broken/ {{ proxy_pass http://127.0.0.1:{closed}/; }}
         location /own-page {{ error_page 429 /busy.txt; }}
         location = /busy.txt {{ add_header X-Portal $weir_portal always; }}
         location = /usage {{ weir off; weir_usage; }}",
        closed = ports::free()
    );
    let site = Plan::new(&policy, &server).http(&http).start();
    std::fs::write(site.dir().join("html/text.txt"), "0123456789".repeat(50)).unwrap();
    std::fs::write(site.dir().join("html/busy.txt"), "busy\n").unwrap();
    (site, h2)
}

/// One member of a `RateLimit` or `RateLimit-Policy` field.
struct Member {
    name: String,
    params: Vec<(String, BareItem)>,
}

impl Member {
    fn integer(&self, name: &str) -> Option<u64> {
        let value = self.params.iter().find(|(known, _)| known == name)?;
        Some(i64::from(value.1.as_integer()?) as u64)
    }
}

/// The only field of its name, as the draft wants it: a list of strings with parameters.
fn members(headers: &[(String, String)], name: &str) -> Vec<Member> {
    let values: Vec<&str> = headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
    let [value] = values[..] else { panic!("one {name}: {headers:?}") };
    let list: List = Parser::new(value).parse().unwrap_or_else(|error| panic!("{value}: {error}"));
    let member = |entry: ListEntry| {
        let ListEntry::Item(item) = entry else { panic!("{value}: an inner list") };
        let name = item.bare_item.as_string().unwrap_or_else(|| panic!("{value}: a name in quotes"));
        let params = item.params.into_iter().map(|(key, value)| (key.as_str().to_owned(), value)).collect();
        Member { name: name.as_str().to_owned(), params }
    };
    list.into_iter().map(member).collect()
}

/// Checks both fields, and returns what is left of the limit of requests.
fn told(headers: &[(String, String)], limits: &[(&str, u64, u64)]) -> u64 {
    let policies = members(headers, "ratelimit-policy");
    assert_eq!(policies.len(), limits.len(), "{headers:?}");
    for (member, (id, q, w)) in policies.iter().zip(limits) {
        assert_eq!((member.name.as_str(), member.integer("q")), (*id, Some(*q)));
        assert_eq!(member.integer("w"), Some(*w), "{id}");
        let unit = member.params.iter().find(|(name, _)| name == "qu").map(|(_, value)| value);
        let is_bytes = id.starts_with("bytes");
        assert_eq!(unit.is_some_and(|u| u.as_string().unwrap().as_str() == "content-bytes"), is_bytes);
    }
    let state = members(headers, "ratelimit");
    assert_eq!(state.len(), 1);
    assert!(limits.iter().any(|(id, ..)| *id == state[0].name));
    assert!(state[0].integer("t").is_some(), "{headers:?}");
    state[0].integer("r").expect("r is an integer")
}

const LIMITS: [(&str, u64, u64); 2] =
    [("requests-3600s", AMOUNT, 3_600), ("bytes-day", 5_000_000_000, 86_400)];
const NONE: [(&str, u64, u64); 3] =
    [("requests-60s", 0, 60), ("requests-3600s", 0, 3_600), ("bytes-day", 5_000_000_000, 86_400)];

fn left_of_requests(site: &Site) -> u64 {
    let usage: Value = serde_json::from_str(&site.get("/usage").text()).unwrap();
    usage["limits"][0]["remaining"].as_u64().unwrap()
}

/// (what it is, request, status, a field of the answer and what it says)
type Case = (&'static str, Request, u16, Option<(&'static str, &'static str)>);

fn cases(port: u16, key: &str) -> Vec<Case> {
    let ask = |method: &str, path: &str| Request::new(method, port, path).key(key);
    let get = |path: &str| ask("GET", path);
    vec![
        ("HTTP/1.1", get("/text.txt"), 200, None),
        ("HTTP/1.0", get("/text.txt").http_1_0(), 200, None),
        ("HEAD", ask("HEAD", "/text.txt"), 200, Some(("content-length", "500"))),
        ("a range", get("/text.txt").header("Range", "bytes=3-5"), 206, Some(("content-length", "3"))),
        ("ranges", get("/text.txt").header("Range", "bytes=0-1,7-9"), 206, None),
        ("a range beyond", get("/text.txt").header("Range", "bytes=900-"), 416, None),
        ("gzip", get("/text.txt").header("Accept-Encoding", "gzip"), 200, Some(("content-encoding", "gzip"))),
        ("not modified", get("/text.txt").header("If-Modified-Since", LATER), 304, None),
        ("proxied", get("/proxied/text.txt"), 200, Some(("x-from", "upstream"))),
        ("proxied HEAD", ask("HEAD", "/proxied/text.txt"), 200, None),
        ("to be cached", get("/cached/text.txt"), 200, Some(("x-cache", "MISS"))),
        ("cached", get("/cached/text.txt"), 200, Some(("x-cache", "HIT"))),
        ("cached and not modified", get("/cached/text.txt").header("If-Modified-Since", LATER), 304, None),
        ("nothing there", get("/nothing"), 404, None),
        ("upstream has nothing there", get("/proxied/nothing"), 404, None),
        ("not allowed", ask("POST", "/text.txt").body("x"), 405, None),
        ("no upstream", get("/broken/"), 502, None),
        ("OPTIONS", ask("OPTIONS", "/text.txt"), 405, None),
    ]
}

#[test]
fn every_kind_of_answer_tells_the_quota_and_counts_once() {
    let (site, h2) = site();
    // Without any request, nothing has been used.
    let mut left = left_of_requests(&site);
    assert_eq!(left, AMOUNT);
    for (what, request, status, field) in cases(site.port, KEY) {
        let answer = request.send().unwrap();
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        told(&answer.headers, &LIMITS);
        left -= 1;
        assert_eq!(left_of_requests(&site), left, "{what}");
        for name in ["retry-after", "cache-control"] {
            assert_eq!(answer.header(name), None, "{what}");
        }
        if let Some((name, value)) = field {
            assert_eq!(answer.header(name), Some(value), "{what}");
        }
    }
    let (status, headers, _) = over_http_2(h2, "GET", "/text.txt", KEY);
    assert_eq!(status, 200);
    told(&headers, &LIMITS);
    assert_eq!(left_of_requests(&site), left - 1);
    site.assert_quiet();
}

#[test]
fn every_refusal_is_whole_however_it_was_asked_for() {
    let (site, h2) = site();
    for (what, request, ..) in cases(site.port, FULL) {
        let answer = request.send().unwrap();
        assert_eq!(answer.status, 429, "{what}: {answer:?}");
        let is_head = what.contains("HEAD");
        check_refusal(what, &answer.headers, &answer.body, is_head);
    }
    for method in ["GET", "HEAD"] {
        let (status, headers, body) = over_http_2(h2, method, "/text.txt", FULL);
        assert_eq!(status, 429);
        check_refusal("HTTP/2", &headers, &body, method == "HEAD");
    }
    // A page of the site's own keeps the fields.
    let own = Request::get(site.port, "/own-page").key(FULL).send().unwrap();
    assert_eq!((own.status, own.text().as_str()), (429, "busy\n"));
    assert_eq!(told(&own.headers, &NONE), 0);
    assert_eq!(own.header("cache-control"), Some("no-store"));
    let portal = own.header("x-portal").unwrap();
    assert!(portal.starts_with("https://api.example/usage?who=") && !portal.ends_with('='), "{portal}");
    site.assert_quiet();
}

/// A refusal's fields and, unless it is compressed or left out, its body.
fn check_refusal(what: &str, headers: &[(String, String)], body: &[u8], is_head: bool) {
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(told(headers, &NONE), 0, "{what}");
    assert_eq!(header("cache-control"), Some("no-store"), "{what}");
    let retry: u64 = header("retry-after").unwrap().parse().unwrap();
    let state = members(headers, "ratelimit");
    assert!(retry >= state[0].integer("t").unwrap() && retry > 0, "{what}");
    assert_eq!(header("content-range"), None, "{what}");
    match header("content-encoding") {
        _ if is_head => assert!(body.is_empty(), "{what}"),
        Some("gzip") => assert_eq!(&body[..2], [0x1f, 0x8b], "{what}"),
        Some(other) => panic!("{what}: {other}"),
        None => check_problem(what, body, header("content-type"), retry),
    }
}

fn check_problem(what: &str, body: &[u8], content_type: Option<&str>, retry: u64) {
    assert_eq!(content_type, Some("application/problem+json"), "{what}");
    let problem: Value = serde_json::from_slice(body).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(problem["status"], 429, "{what}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("Full & Co used 0 of 0 requests/") && detail.contains("; retry in "),
        "{detail}"
    );
    assert_eq!(problem["retry_after"], retry, "{what}");
    assert_eq!(problem["portal"], PORTAL, "{what}");
    assert_eq!(problem["request_id"].as_str().map(str::len), Some(32), "{what}");
    for member in ["type", "title", "limit"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{what}: {member}");
    }
    assert_eq!(problem["violated-policies"].as_array().map(Vec::len), Some(1), "{what}");
}

#[test]
fn plain_text_has_the_same_in_words() {
    let (site, _) = site();
    let ask = |accept: &str| {
        let request = Request::get(site.port, "/text.txt").key(FULL).header("Accept", accept);
        request.send().unwrap()
    };
    let plain = ask("text/plain");
    assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"));
    let lines: Vec<String> = plain.text().lines().map(str::to_owned).collect();
    assert!(lines[0].starts_with("Full & Co used 0 of 0 requests/"));
    assert_eq!(lines[1], format!("portal: {PORTAL}"));
    assert!(lines[2].starts_with("request_id: "));
    assert_eq!(ask("application/json").header("content-type"), Some("application/problem+json"));
    let unknown = Request::get(site.port, "/text.txt").send().unwrap();
    assert_eq!(unknown.status, 403);
    assert_eq!(unknown.header("ratelimit"), None);
    assert_eq!(unknown.header("cache-control"), Some("no-store"));
    let problem: Value = serde_json::from_str(&unknown.text()).unwrap();
    assert_eq!((&problem["status"], problem.get("retry_after")), (&403.into(), None));
}

#[test]
fn a_preflight_is_nobodys_request_and_other_options_are() {
    let (mut site, _) = site();
    let preflight = |request: Request| {
        let request = request.header("Origin", "https://app.example");
        request.header("Access-Control-Request-Method", "GET").send().unwrap()
    };
    let ask = |method: &str| Request::new(method, site.port, "/text.txt");
    // The static module answers 405: weir let them pass, with a key that is used up and with none.
    for request in [ask("OPTIONS").key(FULL), ask("OPTIONS"), ask("OPTIONS").key(KEY)] {
        let answer = preflight(request);
        assert_eq!(answer.status, 405);
        assert!(answer.header("ratelimit").is_none() && answer.header("retry-after").is_none());
    }
    assert_eq!(left_of_requests(&site), AMOUNT);
    assert_eq!(ask("OPTIONS").key(FULL).send().unwrap().status, 429);
    assert_eq!(preflight(ask("GET").key(FULL)).status, 429);
    site.close();
    let log = site.log();
    assert_eq!(log.iter().filter(|line| line.starts_with("405 PASSED")).count(), 3, "{log:?}");
}

#[test]
fn clients_that_were_refused_together_come_back_apart() {
    let server = "location / { weir on; weir_retry_jitter 30s; }";
    let site = Plan::new(&policy("\"1 requests/minute\""), server).start();
    site.get("/");
    let retries: BTreeSet<u64> =
        (0..40).map(|_| site.get("/").header("Retry-After").unwrap().parse().unwrap()).collect();
    assert!(retries.len() > 5, "{retries:?}");
    // Never before there is room: the use of a moment ago counts for a minute.
    assert!(retries.first().unwrap() >= &55 && retries.last().unwrap() <= &(61 + 30), "{retries:?}");
}

/// One request over HTTP/2 without TLS: status, fields in lower case, body.
fn over_http_2(port: u16, method: &str, path: &str, key: &str) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let exchange = async {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client: h2::client::SendRequest<Bytes> = client.ready().await.unwrap();
        let uri = format!("http://localhost{path}");
        let request = http::Request::builder().method(method).uri(uri).header("x-api-key", key);
        let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(piece) = body.data().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        let headers = head.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        (head.status.as_u16(), headers.collect(), bytes)
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(exchange)
}

/// The `request_id` of a refusal.
fn id_of(site: &Site) -> String {
    let problem: Value = serde_json::from_str(&site.get("/").text()).unwrap();
    problem["request_id"].as_str().unwrap().to_owned()
}

#[test]
fn the_id_of_a_refusal_stands_in_a_log() {
    let refusing = policy("\"0 requests/hour\"");
    let place = "location / { weir on; }";
    // The line of the refusal, where nothing else names requests.
    let site = Plan::new(&refusing, place).start();
    let ids = [id_of(&site), id_of(&site)];
    assert_ne!(ids[0], ids[1]);
    let log = site.nginx.error_log();
    for id in &ids {
        assert_eq!(log.lines().filter(|line| line.contains("refused: ") && line.contains(id)).count(), 1);
    }
    // nginx's own name for it, where the configuration uses that.
    let server = format!("{place} access_log ids.log ids;");
    let site = Plan::new(&refusing, &server).http("log_format ids '$request_id';\n").start();
    let id = id_of(&site);
    let logged = || std::fs::read_to_string(site.dir().join("ids.log")).unwrap_or_default();
    assert!(wait::until(Duration::from_secs(10), || logged().trim() == id), "{id}: {}", logged());
    assert!(site.nginx.error_log().contains(&id), "the same in the line of the refusal");
}
