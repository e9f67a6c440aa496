//! The nginx module limits and tells, in a real nginx, on every kind of answer.

mod module_common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::Duration;

use module_common::{KEY, Plan, Site, parameter, policy, remaining};
use weir_testbed::gateway::write_policy;
use weir_testbed::http::Request;
use weir_testbed::load::{self, Shot};
use weir_testbed::{ports, wait};

fn site(limits: &str, server: &str) -> Site {
    Plan::new(&policy(limits), server).start()
}

#[test]
fn a_client_is_told_its_quota_and_refused_beyond_it() {
    let site = site("\"3 requests/minute\", \"1000 requests/hour\"", "location / { weir on; }");
    for left in (0..3).rev() {
        let answer = site.get("/");
        assert_eq!((answer.status, remaining(&answer)), (200, left));
        let policy = "\"requests-60s\";q=3;w=60, \"requests-3600s\";q=1000;w=3600";
        assert_eq!(answer.header("RateLimit-Policy"), Some(policy));
        assert_eq!(answer.header("Retry-After"), None);
    }
    let refused = site.get("/");
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    let reset = parameter(refused.header("RateLimit").unwrap(), "t").unwrap();
    // Uses are stamped up to a thousandth of the window late, and seconds are rounded up.
    assert!((59..=61).contains(&wait) && wait >= reset, "{wait} s, {reset} s");
    assert_eq!(refused.header("Cache-Control"), Some("no-store"));
    assert_eq!(refused.header("Content-Type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_str(&refused.text()).unwrap();
    let detail = format!("Acme Corp used 3 of 3 requests/minute; retry in {wait} s");
    assert_eq!(problem["detail"], detail);
    assert_eq!(problem["violated-policies"], serde_json::json!(["requests-60s"]));
    site.assert_quiet();
}

#[test]
fn what_was_promised_to_a_refused_client_is_true() {
    let site = site("\"2 requests/2 seconds\"", "location / { weir on; }");
    let statuses = [(); 3].map(|()| site.get("/").status);
    assert_eq!(statuses, [200, 200, 429]);
    let promised: u64 = site.get("/").header("Retry-After").unwrap().parse().unwrap();
    // A use counts to the end of its millisecond, and seconds are rounded up.
    assert!(promised <= 3);
    wait::pass(Duration::from_secs(promised));
    assert_eq!(site.get("/").status, 200);
}

#[test]
fn plain_text_for_those_who_ask_and_no_body_for_head() {
    let site = site("\"1 requests/minute\"", "location / { weir on; }");
    site.get("/");
    let plain = site.request("GET", "/").header("Accept", "text/plain").send().unwrap();
    assert_eq!(plain.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert!(plain.text().starts_with("Acme Corp used 1 of 1 requests/minute; retry in "));
    let head = site.request("HEAD", "/").send().unwrap();
    assert_eq!((head.status, head.body.len()), (429, 0));
    assert!(head.header("Retry-After").is_some());
}

#[test]
fn a_site_keeps_its_own_page_for_refusals() {
    let server = "location / { weir on; error_page 429 /busy; }
                  location = /busy { internal; add_header X-Page busy always; return 429 busy; }";
    let site = site("\"1 requests/minute\"", server);
    site.get("/");
    let refused = site.get("/");
    assert_eq!((refused.status, refused.text().as_str()), (429, "busy"));
    assert_eq!(refused.header("X-Page"), Some("busy"));
    assert!(refused.header("Retry-After").is_some() && refused.header("RateLimit").is_some());
}

#[test]
fn another_status_and_other_headers_when_asked_for() {
    let server = "weir on;
        location /503 { weir_status 503; weir_headers legacy; }
        location /both { weir_headers both; try_files /index.html =404; }
        location /off { weir_headers off; try_files /index.html =404; }";
    let site = site("\"2 requests/minute\"", server);
    let both = site.get("/both");
    assert_eq!(both.header("X-RateLimit-Limit"), Some("2"));
    assert_eq!(both.header("X-RateLimit-Remaining"), Some("1"));
    assert!(both.header("RateLimit").is_some());
    let off = site.get("/off");
    assert!(off.headers.iter().all(|(name, _)| !name.contains("ratelimit")), "{off:?}");
    let refused = site.get("/503");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("X-RateLimit-Remaining"), Some("0"));
    assert!(refused.header("RateLimit").is_none() && refused.header("Retry-After").is_some());
}

#[test]
fn a_request_is_counted_once_however_nginx_sends_it_around() {
    let server = "weir on;
        location / { try_files /index.html =404; }
        location /missing { error_page 404 /index.html; }
        location /missing-twice { error_page 404 /missing; }
        location /named { error_page 404 = @named; }
        location @named { try_files /index.html =404; }
        location /rewritten { rewrite ^ /index.html last; }
        location /auth { auth_request /ask; try_files /index.html =404; }
        location = /ask { return 204; }
        location /mirror { mirror /copy; try_files /index.html =404; }
        location /copy { try_files /index.html =404; }";
    let site = site("\"100 requests/minute\"", server);
    let paths = ["/", "/missing/x", "/missing-twice/x", "/named/x", "/rewritten", "/auth", "/mirror", "/"];
    for (n, path) in paths.into_iter().enumerate() {
        assert_eq!(site.remaining(path), 99 - n as u64, "{path}");
    }
    site.assert_quiet();
}

#[test]
fn identity_from_auth_request_is_known_in_time() {
    let server = "weir on;
        location /api { auth_request /ask; auth_request_set $who $upstream_http_x_client;
            auth_request_set $tier $upstream_http_x_tier;
            weir_client $who; weir_tier $tier; try_files /index.html =404; }
        location = /ask { weir off; proxy_pass http://127.0.0.1:LOGIN/; }";
    let login = ports::free();
    let extra = format!(
        "server {{ listen 127.0.0.1:{login}; location / {{
            add_header X-Client initech; add_header X-Tier gold; return 204; }} }}\n"
    );
    let policy = policy("\"5 requests/minute\"") + "[tiers.gold]\nlimits = [\"50 requests/minute\"]\n";
    let server = server.replace("LOGIN", &login.to_string());
    let mut site = Plan::new(&policy, &server).http(&extra).start();
    assert_eq!(site.remaining("/api"), 49, "the tier that the authenticator named");
    site.close();
    assert_eq!(site.log(), ["200 PASSED initech /api"]);
}

#[test]
fn the_first_key_that_is_not_empty_counts_and_a_long_one_is_nobodys() {
    let server = "location / { weir on; weir_key $http_x_first $arg_key; try_files /index.html =404; }";
    let site = site("\"100 requests/minute\"", server);
    let ask = |path: &str, name: &str, value: &str| {
        let answer = Request::get(site.port, path).header(name, value).send().unwrap();
        (answer.status, answer.header("RateLimit").is_some())
    };
    let by_query = format!("/?key={KEY}");
    assert_eq!(ask("/", "X-First", KEY), (200, true));
    assert_eq!(ask(&by_query, "X-Other", ""), (200, true));
    assert_eq!(ask(&by_query, "X-First", ""), (200, true), "an empty value is passed over");
    assert_eq!(ask(&by_query, "X-First", "wrong"), (200, false), "one that is not, is not");
    assert_eq!(ask("/", "X-First", &"k".repeat(300)), (200, false));
    assert_eq!(ask("/", "X-Api-Key", KEY), (200, false), "the default no longer stands");
}

#[test]
fn an_api_key_is_written_nowhere() {
    let server = "location / { weir on; weir_key $arg_key; weir_log_level error; }";
    let mut site = site("\"1 requests/minute\"", server);
    for _ in 0..3 {
        site.request("GET", &format!("/?key={KEY}")).send().unwrap();
    }
    assert!(site.nginx.error_log().contains("weir: refused: \"acme\" used 1 of 1 requests/minute"));
    site.close();
    let mut files = 0;
    for folder in [site.dir().to_owned(), site.dir().join("spool")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files += 1;
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
                assert!(!found, "{}", path.display());
            }
        }
    }
    assert!(files >= 5, "the configuration, the policy, logs and a segment were looked at");
}

#[test]
fn a_refused_body_is_thrown_away_and_the_connection_stays_in_step() {
    let site = site("\"1 requests/minute\"", "location / { weir on; } location /free { return 200 ok; }");
    site.get("/");
    let mut stream = site.connect();
    let body = "GET /free HTTP/1.1\r\nHost: smuggled\r\n\r\n".repeat(2_000);
    let head =
        format!("POST / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream.write_all(b"GET /free HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let statuses: Vec<_> =
        answer.split("HTTP/1.1 ").skip(1).map(|part| part.get(..3).unwrap_or(part)).collect();
    assert_eq!(statuses, ["429", "200"]);
}

#[test]
fn a_dry_run_refuses_nobody_and_says_what_it_would_have_done() {
    let server = "location / { weir on; weir_dry_run on; weir_headers off; try_files /index.html =404; }
                  location /without { try_files /index.html =404; }";
    let mut site = site("\"2 requests/minute\"", server);
    let without = site.get("/without");
    for _ in 0..4 {
        let answer = site.get("/");
        assert_eq!((answer.status, &answer.body), (200, &without.body));
        let names = |answer: &weir_testbed::http::Answer| -> Vec<String> {
            answer.headers.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&answer), names(&without));
    }
    site.close();
    let decisions: Vec<_> =
        site.log().iter().skip(1).map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(decisions, ["PASSED", "PASSED", "REJECTED_DRY_RUN", "REJECTED_DRY_RUN"]);
}

#[test]
fn a_request_costs_what_its_place_says() {
    let server = "weir on; location / { try_files /index.html =404; }
                  location /dear { weir_cost $arg_cost; try_files /index.html =404; }";
    let site = site("\"10 units/minute\"", server);
    assert_eq!(site.remaining("/"), 9);
    assert_eq!(site.remaining("/dear?cost=4"), 5);
    assert_eq!(site.get("/dear?cost=6").status, 429);
    assert_eq!(site.remaining("/dear?cost=junk"), 4, "what is no number costs one");
    assert_eq!(site.remaining("/dear?cost=4"), 0);
}

#[test]
fn bytes_are_limited_after_they_were_sent() {
    let site = site("\"10 KB/hour\"", "location / { weir on; }");
    let big = vec![b'x'; 20_000];
    std::fs::write(site.dir().join("html/big"), &big).unwrap();
    assert_eq!(site.get("/big").body.len(), big.len(), "an answer under way is finished");
    let refused = site.get("/");
    assert_eq!((refused.status, remaining(&refused)), (429, 0));
}

#[test]
fn each_direction_of_bytes_can_have_a_limit_of_its_own() {
    for (limit, is_charged, is_free) in [("10 KB in/hour", "POST", "GET"), ("10 KB out/hour", "GET", "POST")]
    {
        // What nobody reads of a request is not counted; a backend reads all.
        let server = "location / { weir on; }
                      location = /in { weir on; proxy_pass http://127.0.0.1:$server_port/done; }
                      location = /done { return 200; }";
        let site = site(&format!("\"{limit}\""), server);
        std::fs::write(site.dir().join("html/big"), vec![b'x'; 20_000]).unwrap();
        let send = |method: &str| match method {
            "POST" => site.request(method, "/in").body(vec![b'x'; 20_000]).send().unwrap(),
            _ => site.request(method, "/big").send().unwrap(),
        };
        assert!((0..2).all(|_| send(is_free).status == 200), "{limit} says nothing of {is_free}");
        assert_eq!((send(is_charged).status, send(is_charged).status), (200, 429), "{limit}");
    }
}

#[test]
fn all_workers_share_one_count() {
    let plan = Plan::new(&policy("\"100 requests/minute\""), "location / { weir on; }").workers(4);
    let mut site = plan.start();
    let shots = vec![Shot::new("GET", "/", KEY, site.port)];
    let samples = load::run(load::Plan::even(shots, 600.0, Duration::from_secs(1), 64));
    let admitted = samples.iter().filter(|sample| sample.status == 200).count();
    let refused = samples.iter().filter(|sample| sample.status == 429).count();
    assert_eq!((admitted, refused), (100, 500));
    site.close();
    let segments = std::fs::read_dir(site.dir().join("spool")).unwrap();
    let stream = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy()[..32].to_owned();
    let streams: BTreeSet<String> = segments.map(|entry| stream(entry.unwrap())).collect();
    assert!(streams.len() > 1, "only one worker took part");
}

#[test]
fn a_changed_policy_is_in_force_without_a_reload_and_history_stays() {
    let site = site("\"3 requests/minute\"", "location / { weir on; }");
    let path = site.dir().join("policy.toml");
    for left in (0..3).rev() {
        assert_eq!(site.remaining("/"), left);
    }
    write_policy(&path, &policy("\"5 requests/minute\"")).unwrap();
    assert!(wait::until(Duration::from_secs(60), || site.get("/").status == 200));
    assert_eq!(site.remaining("/"), 0, "three of five were used before");
    write_policy(&path, &policy("\"5 reqests/minute\"")).unwrap();
    let said = || site.nginx.error_log().matches("did you mean \"requests\"?").count();
    assert!(wait::until(Duration::from_secs(60), || said() > 0), "{}", site.nginx.error_log());
    wait::pass(Duration::from_secs(3));
    assert_eq!(said(), 1, "it is said once");
    assert_eq!(site.get("/").status, 429, "the last good policy stays in force");
}

#[test]
fn usage_and_metrics_tell_and_take_nothing() {
    let server = "location / { weir on; }
                  location = /usage { weir_usage; } location = /metrics { weir_metrics; }";
    let site = site("\"3 requests/minute\"", server);
    site.get("/");
    for _ in 0..2 {
        let usage: serde_json::Value = serde_json::from_str(&site.get("/usage").text()).unwrap();
        assert_eq!(usage["client"], "acme");
        assert_eq!(usage["limits"][0]["remaining"], 2);
    }
    let metrics = site.get("/metrics");
    assert!(metrics.header("Content-Type").unwrap().starts_with("application/openmetrics-text"));
    assert!(metrics.text().contains("weir_requests_total{decision=\"PASSED\"} 1\n"), "{}", metrics.text());
    assert!(metrics.text().ends_with("# EOF\n"));
    assert_eq!(site.request("POST", "/metrics").send().unwrap().status, 405);
}
