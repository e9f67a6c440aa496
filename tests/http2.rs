//! Over HTTP/2 a connection is many requests: each is decided once, told and booked once, also while
//! they wait for one lease, and when the client takes them back.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::HeaderMap;
use module_common::{KEY, Plan, Site, parameter, policy};
use tokio::net::TcpStream;
use weir_testbed::redis::Redis;
use weir_testbed::{ports, wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// A site that speaks HTTP/2, without TLS, at a second port.
fn site(limits: &str, http: &str) -> (Site, u16) {
    site_with(&policy(limits), http)
}

fn site_with(policy: &str, http: &str) -> (Site, u16) {
    let port = ports::free();
    let server = format!(
        "listen 127.0.0.1:{port} http2 backlog=4096; http2_max_concurrent_streams 4000;
         keepalive_requests 100000;
         location / {{ weir on; try_files /index.html =404; }}
         location = /metrics {{ weir_metrics; access_log off; }}"
    );
    (Plan::new(policy, &server).debug().http(http).start(), port)
}

/// With its limits in a Redis that takes 800 ms for an answer.
fn site_with_slow_redis(limits: &str) -> (Site, u16, Redis) {
    let redis = Redis::start().unwrap();
    let (site, port) = site(limits, &format!("weir_redis {};\nweir_redis_timeout 1s;\n", redis.url()));
    let up = || site.nginx.error_log().contains("Redis answers");
    assert!(wait::until(PATIENCE, up), "{}", site.nginx.error_log());
    redis.command(&["CLIENT", "PAUSE", "800", "ALL"]).unwrap();
    (site, port, redis)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A connection that is served until its streams are over.
async fn connect(port: u16) -> SendRequest<Bytes> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    // Room for all answers: they are read one after the other, and one that is unread must not keep
    // those before it from coming.
    let (client, connection) = h2::client::Builder::new()
        .initial_connection_window_size(4 << 20)
        .initial_max_send_streams(4000)
        .max_concurrent_reset_streams(4000)
        .handshake(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// Opens a stream with the client's request.
async fn open(client: &mut SendRequest<Bytes>) -> (ResponseFuture, h2::SendStream<Bytes>) {
    let request = http::Request::get("http://localhost/").header("x-api-key", KEY).body(()).unwrap();
    let mut ready = client.clone().ready().await.unwrap();
    ready.send_request(request, true).unwrap()
}

/// Opens so many streams, all at once, and reads every answer's head.
async fn ask(port: u16, streams: usize) -> Vec<(u16, HeaderMap)> {
    let mut client = connect(port).await;
    let mut answers = Vec::new();
    for _ in 0..streams {
        answers.push(open(&mut client).await.0);
    }
    let mut heads = Vec::new();
    for answer in answers {
        let (head, mut body) = answer.await.unwrap().into_parts();
        while let Some(piece) = body.data().await {
            let len = piece.unwrap().len();
            body.flow_control().release_capacity(len).unwrap();
        }
        heads.push((head.status.as_u16(), head.headers));
    }
    heads
}

fn count(heads: &[(u16, HeaderMap)], status: u16) -> usize {
    heads.iter().filter(|(of, _)| *of == status).count()
}

fn decided(site: &Site, decision: &str) -> u64 {
    site.counted(&format!("weir_requests_total{{decision=\"{decision}\"}}"))
}

/// As many decisions and records as lines in the access log: nginx logs each request once.
fn assert_booked_once(mut site: Site) -> usize {
    let decisions: u64 = ["PASSED", "DELAYED", "REJECTED", "PASSED_DEGRADED", "REJECTED_DEGRADED"]
        .map(|d| decided(&site, d))
        .iter()
        .sum();
    site.close();
    let lines = site.log();
    assert!(lines.iter().all(|line| !line.contains(" - ")), "each has a decision: {lines:?}");
    assert_eq!((decisions, site.records()), (lines.len() as u64, lines.len()));
    site.assert_quiet();
    lines.len()
}

#[test]
fn a_thousand_streams_of_one_connection_are_a_thousand_requests() {
    let (site, port) = site("\"600 requests/hour\"", "");
    let heads = block_on(ask(port, 1_000));
    assert_eq!((count(&heads, 200), count(&heads, 429)), (600, 400));
    let has = |(status, fields): &(u16, HeaderMap)| {
        let refused = *status == 429;
        fields.contains_key("ratelimit")
            && fields.contains_key("ratelimit-policy")
            && fields.contains_key("retry-after") == refused
            && (fields["content-type"] == "application/problem+json") == refused
    };
    assert!(heads.iter().all(has));
    // Each admitted one was told another rest.
    let rest = |(_, fields): &(u16, HeaderMap)| parameter(fields["ratelimit"].to_str().unwrap(), "r");
    let rests: BTreeSet<_> = heads.iter().filter(|head| head.0 == 200).map(rest).collect();
    assert_eq!(rests.len(), 600);
    assert_eq!((decided(&site, "PASSED"), decided(&site, "REJECTED")), (600, 400));
    assert_eq!(assert_booked_once(site), 1_000);
}

#[test]
fn streams_that_wait_for_one_lease_go_on_together() {
    let (site, port, _redis) = site_with_slow_redis("\"120 requests/hour\"");
    let heads = block_on(ask(port, 200));
    assert_eq!((count(&heads, 200), count(&heads, 429)), (120, 80));
    assert!(site.counted("weir_waited_total") >= 120, "the key was cold, so they had to wait");
    assert_eq!((decided(&site, "PASSED"), decided(&site, "REJECTED")), (120, 80));
    assert_eq!(assert_booked_once(site), 200);
}

#[test]
fn streams_that_are_reset_while_they_wait_leave_nothing_behind() {
    let (site, port, redis) = site_with_slow_redis("\"10000 requests/hour\"");
    let workers = site.nginx.workers();
    block_on(async {
        let mut client = connect(port).await;
        let mut streams = Vec::new();
        for _ in 0..300 {
            streams.push(open(&mut client).await);
        }
        let waiting = || site.counted("weir_waited_total") >= 300;
        assert!(until(waiting).await, "all of them wait");
        // Half are taken back one by one, the others with their connection.
        for (_, stream) in streams.iter_mut().step_by(2) {
            stream.send_reset(Reason::CANCEL);
        }
        assert!(until(|| logged(&site, "499 ") >= 150).await, "{:?}", site.log());
        drop((streams, client));
    });
    assert!(wait::until(PATIENCE, || logged(&site, "499 ") == 300), "{:?}", site.log());
    // The answer comes when nobody waits for it any more; the lease serves those who come next.
    assert!(wait::until(PATIENCE, || redis.command(&["PING"]).is_ok()));
    let heads = block_on(ask(port, 100));
    assert_eq!(count(&heads, 200), 100);
    assert_eq!(site.nginx.workers(), workers, "and the worker is the same");
    assert_eq!(assert_booked_once(site), 400);
}

#[test]
fn streams_are_held_back_one_by_one_and_dropped_when_they_are_reset() {
    let policy =
        policy("\"20 requests/2 seconds\"").replace("[routes]", "over = \"delay 8s burst 50\"\n[routes]");
    let (site, port) = site_with(&policy, "");
    let heads = block_on(ask(port, 40));
    assert_eq!((count(&heads, 200), decided(&site, "PASSED"), decided(&site, "DELAYED")), (40, 20, 20));
    let again = block_on(async {
        let mut client = connect(port).await;
        let mut streams = Vec::new();
        for _ in 0..10 {
            streams.push(open(&mut client).await);
        }
        for (_, stream) in &mut streams {
            stream.send_reset(Reason::CANCEL);
        }
        assert!(until(|| logged(&site, "499 DELAYED") == 10).await, "{:?}", site.log());
        ask(port, 5).await
    });
    assert_eq!(count(&again, 200), 5, "who was dropped stands before nobody");
    assert_eq!(assert_booked_once(site), 55);
}

/// CVE-2023-44487: requests that are taken back as soon as they are sent.
#[test]
fn a_flood_of_resets_is_counted_as_what_nginx_made_of_it() {
    let (site, port) = site("\"101 requests/hour\"", "");
    assert_eq!(site.get("/").status, 200);
    let workers = site.nginx.workers();
    block_on(async {
        for _ in 0..5 {
            let (mut client, before) = (connect(port).await, site.log().len());
            for _ in 0..1_000 {
                let request =
                    http::Request::get("http://localhost/").header("x-api-key", KEY).body(()).unwrap();
                // nginx may have had enough of this connection.
                let Ok(mut ready) = client.clone().ready().await else { break };
                let Ok((_, mut stream)) = ready.send_request(request, true) else { break };
                stream.send_reset(Reason::CANCEL);
                client = ready;
            }
            assert!(until(|| site.log().len() > before).await, "{:?}", site.log());
        }
    });
    assert_eq!(count(&block_on(ask(port, 50)), 429), 50, "what was taken back was charged all the same");
    assert_eq!(site.nginx.workers(), workers);
    assert_eq!(decided(&site, "PASSED"), 101);
    let lines = assert_booked_once(site);
    assert!(lines > 150, "{lines} requests reached nginx");
}

fn logged(site: &Site, status: &str) -> usize {
    site.log().iter().filter(|line| line.starts_with(status)).count()
}

/// Looks again and again, while the connections of this thread go on.
async fn until(probe: impl Fn() -> bool) -> bool {
    for _ in 0..PATIENCE.as_millis() / 20 {
        if probe() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
