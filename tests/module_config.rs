//! What nginx says of the directives, and that the sample configurations work as they stand.

mod module_common;

use std::fs;

use module_common::{Plan, policy};
use weir_testbed::http::Request;
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::redis::Redis;
use weir_testbed::{TempDir, parts, ports, temp_dir};

/// What `nginx -t` says to further lines in http and in the location.
fn said(http: &str, location: &str) -> String {
    said_with(&policy("\"5 requests/minute\""), http, location)
}

fn said_with(policy: &str, http: &str, location: &str) -> String {
    let dir = temp_dir();
    fs::write(dir.path().join("policy.toml"), policy).unwrap();
    let server = format!("location / {{ weir on; {location} }}");
    let plan = Plan::new(policy, &server).http(http);
    let output = Nginx::test(dir.path(), &plan.config(ports::free())).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), text.contains("test is successful"), "{text}");
    text
}

#[test]
fn every_wrong_value_is_named_with_what_would_be_right() {
    let cases = [
        (
            "weir_status 200",
            "invalid value \"200\" in \"weir_status\" directive, it must be a number from 400 to 599",
        ),
        ("weir_status 4x9", "invalid value \"4x9\" in \"weir_status\""),
        ("weir_headers on", "it must be \"standard\", \"legacy\", \"both\" or \"off\""),
        ("weir_fallback Local", "it must be \"local\", \"allow\" or \"deny\""),
        ("weir_log_level debug", "it must be \"info\", \"notice\", \"warn\" or \"error\""),
        ("weir_phase access", "it must be \"preaccess\" or \"precontent\""),
        ("weir_dry_run maybe", "it must be \"on\" or \"off\""),
        ("weir_key", "invalid number of arguments in \"weir_key\" directive"),
        ("weir_client $no_such_thing", "unknown \"no_such_thing\" variable"),
        ("weir_retry_jitter 2d", "it must be a time from 0 to 1h"),
        ("weir_cost 1; weir_cost 2", "\"weir_cost\" directive is duplicate"),
        ("weir_zone 1m", "\"weir_zone\" directive is not allowed here"),
    ];
    for (line, wanted) in cases {
        let text = said("", &format!("{line};"));
        assert!(text.contains("[emerg] ") && text.contains(wanted), "{line}: {text}");
    }
}

#[test]
fn every_wrong_setting_of_the_gateway_is_named() {
    let cases = [
        ("weir_zone 4m", "\"weir_zone\" directive is duplicate"),
        ("weir_redis_timeout 5s", "invalid value \"5s\" in \"weir_redis_timeout\" directive"),
        ("weir_redis 127.0.0.1", "invalid parameter \"127.0.0.1\" in \"weir_redis\" directive"),
        ("weir_redis redis://a colour=red", "invalid parameter \"colour\""),
        ("weir_redis http://a", "is not supported"),
        ("weir_redis redis://a password_file=/nowhere", "password_file /nowhere"),
        ("weir_gateways_min 0", "it must be a number from 1 to 10000"),
        ("weir_gateway \"\"", "it must be a name of 1 to 255 printable characters"),
        ("weir_usage", "\"weir_usage\" directive is not allowed here"),
    ];
    for (line, wanted) in cases {
        let text = said(&format!("{line};\n"), "");
        assert!(text.contains("[emerg] ") && text.contains(wanted), "{line}: {text}");
    }
}

#[test]
fn a_password_in_an_address_is_not_shown() {
    let text = said("weir_redis redis://me:hunter2@127.0.0.1/nine;\n", "");
    assert!(text.contains("[emerg] ") && !text.contains("hunter2"), "{text}");
}

#[test]
fn every_problem_of_a_policy_is_named_with_its_line() {
    let text = said_with(
        "[tiers.t]\nlimits = [\"5 reqests/minute\", \"1 requests/0 seconds\"]\n[clients.x]\ntier = \"gold\"\n",
        "",
        "",
    );
    for wanted in ["policy.toml:2:11: ", "did you mean \"requests\"?", "policy.toml:4:", "\"gold\""] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn a_published_policy_is_refused_until_it_is_supported() {
    let dir = temp_dir();
    let config = Plan::new("", "location / { weir on; }").config(ports::free());
    let config = config.replace("weir_policy policy.toml;", "weir_policy redis;");
    let output = Nginx::test(dir.path(), &config).unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("\"weir_policy redis\" is not supported yet: name a file"), "{text}");
}

#[test]
fn without_a_zone_or_a_policy_it_says_what_is_missing() {
    let dir = temp_dir();
    fs::write(dir.path().join("policy.toml"), policy("\"1 requests/minute\"")).unwrap();
    let config = Plan::new("", "location / { weir on; }").config(ports::free());
    for (line, wanted) in [
        ("weir_zone 4m;", "weir needs \"weir_zone\""),
        ("weir_policy policy.toml;", "weir needs \"weir_policy\""),
    ] {
        let output = Nginx::test(dir.path(), &config.replace(line, "")).unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn settings_are_inherited_where_none_stands_and_off_ends_that() {
    let server = "weir on; weir_endpoint above; weir_headers legacy;
        location / { try_files /index.html =404; }
        location /own { weir_endpoint own; weir_headers standard; try_files /index.html =404; }
        location /ended { weir_endpoint off; try_files /index.html =404; }
        location /off { weir off; try_files /index.html =404; }
        location /outer { weir_status 418; location /outer/inner { try_files /index.html =404; } }";
    let mut site = Plan::new(&policy("\"4 requests/minute\""), server).start();
    assert!(site.get("/").header("X-RateLimit-Limit").is_some());
    assert!(site.get("/own").header("RateLimit").is_some());
    site.get("/ended");
    assert!(site.get("/off").header("X-RateLimit-Limit").is_none());
    site.get("/");
    assert_eq!(site.get("/outer/inner").status, 418);
    site.close();
    let log = site.log();
    let wanted = [
        "200 PASSED acme above",
        "200 PASSED acme own",
        "200 PASSED acme /ended",
        "200 - - -",
        "200 PASSED acme above",
        "418 REJECTED acme above",
    ];
    assert_eq!(log, wanted);
}

/// A sample as it stands in nginx/, with only addresses and folders changed to those of the test.
fn sample(name: &str, changes: &[(&str, String)]) -> String {
    let mut text = fs::read_to_string(parts::root().join("nginx").join(name)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from} in {name}");
        text = text.replace(from, to);
    }
    text
}

/// Runs a sample under Debian's layout: policy beside nginx.conf, the module loaded at its head.
fn run(name: &str, changes: &[(&str, String)], check: impl FnOnce(u16)) {
    run_with(&sample("policy.toml", &[]), name, changes, check);
}

fn run_with(policy: &str, name: &str, changes: &[(&str, String)], check: impl FnOnce(u16)) {
    let (dir, port, backend) = (temp_dir(), ports::free(), ports::free());
    fs::write(dir.path().join("policy.toml"), policy).unwrap();
    let mut all = vec![
        ("listen 8080", format!("listen 127.0.0.1:{port}")),
        ("127.0.0.1:9000", format!("127.0.0.1:{backend}")),
        ("/var/spool/weir", dir.path().join("spool").display().to_string()),
    ];
    all.extend_from_slice(changes);
    fs::write(dir.path().join("sample.conf"), sample(name, &all)).unwrap();
    let config = format!(
        "{}load_module {};\nevents {{}}\nhttp {{\n{HTTP_PREAMBLE}include sample.conf;\n\
         server {{ listen 127.0.0.1:{backend}; return 200 backend; }} }}\n",
        preamble(1),
        parts::module().unwrap().display()
    );
    let nginx = Nginx::start(dir.path(), &config, port).unwrap();
    check(port);
    let log = nginx.error_log();
    assert!(!log.contains("[emerg]") && !log.contains("[alert]"), "{log}");
}

fn ask(port: u16, path: &str, header: &str, value: &str) -> (u16, Option<String>) {
    let answer = Request::get(port, path).header(header, value).send().unwrap();
    (answer.status, answer.header("RateLimit-Policy").map(str::to_owned))
}

#[test]
fn the_sample_for_one_gateway_works() {
    run("gateway.conf", &[], |port| {
        let (status, policy) = ask(port, "/orders", "X-Api-Key", "weir_sample_initech");
        assert_eq!(status, 200);
        assert!(policy.unwrap().starts_with("\"requests-60s\";q=100;w=60"));
        assert_eq!(ask(port, "/", "X-Api-Key", "nobody's"), (200, None));
        let usage = Request::get(port, "/usage").key("weir_sample_initech").send().unwrap();
        assert!(usage.text().contains("\"remaining\":99"), "{}", usage.text());
        assert_eq!(ask(port, "/weir/metrics", "Accept", "*/*").0, 200);
    });
}

#[test]
fn the_sample_for_several_gateways_works() {
    let redis = Redis::start().unwrap();
    let change = [("redis://127.0.0.1:6379/0", redis.url())];
    run("gateway-redis.conf", &change, |port| {
        let up = || ask(port, "/transfers", "X-Api-Key", "weir_sample_acme").0 == 200;
        assert!(weir_testbed::wait::until(std::time::Duration::from_secs(10), up));
    });
    let keys = redis.command(&["KEYS", "*"]).unwrap();
    assert!(keys.lines().any(|key| key.starts_with("production:{acme}")), "{keys}");
}

#[test]
fn the_sample_for_keys_in_headers_and_queries_works() {
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
    });
    let written = fs::read_to_string(path).unwrap();
    assert!(written.matches("client=acme").count() == 3 && !written.contains("weir_sample_acme"));
}

#[test]
fn the_sample_for_scripts_of_other_sites_works() {
    run("cors.conf", &[], |port| {
        let from = |request: Request| {
            let request = request.header("Origin", "https://app.example.com").key("weir_sample_initech");
            request.send().unwrap()
        };
        let asked = Request::new("OPTIONS", port, "/").header("Access-Control-Request-Method", "GET");
        let preflight = from(asked);
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.header("Access-Control-Allow-Headers"), Some("X-Api-Key, Content-Type"));
        let refused = (0..101).map(|_| from(Request::get(port, "/"))).last().unwrap();
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("Access-Control-Allow-Origin"), Some("https://app.example.com"));
        assert_eq!(
            refused.header("Access-Control-Expose-Headers"),
            Some("RateLimit, RateLimit-Policy, Retry-After")
        );
        assert!(refused.text().contains("https://api.example.com/usage"));
        let stranger = Request::get(port, "/").header("Origin", "https://evil.example").send().unwrap();
        assert_eq!(stranger.header("Access-Control-Allow-Origin"), None);
    });
}

#[test]
fn the_sample_for_authentication_elsewhere_works() {
    let login = ports::free();
    let change = [("127.0.0.1:9001", format!("127.0.0.1:{login}"))];
    let _login = service(login, "add_header X-Client globex; add_header X-Tier enterprise; return 204;");
    run("identity-auth-request.conf", &change, |port| {
        let (status, policy) = ask(port, "/", "X-Api-Key", "weir_sample_initech");
        assert_eq!(status, 200);
        let policy = policy.unwrap();
        assert!(policy.contains("q=1500;w=60"), "its own limit, not that of the key: {policy}");
    });
}

/// Another nginx that answers with this.
fn service(port: u16, answer: &str) -> (Nginx, TempDir) {
    let dir = temp_dir();
    let config = format!(
        "{}events {{}}\nhttp {{\n{HTTP_PREAMBLE}server {{ listen 127.0.0.1:{port}; location / {{ {answer} }} }} }}\n",
        preamble(1)
    );
    (Nginx::start(dir.path(), &config, port).unwrap(), dir)
}

#[test]
fn the_sample_for_what_is_over_a_limit_works() {
    let slow = ports::free();
    let _slow = service(slow, "return 200 slow;");
    let policy = sample("policy.toml", &[("1500 requests/minute", "4 requests/minute".to_owned())]);
    let change = [("127.0.0.1:9002", format!("127.0.0.1:{slow}"))];
    run_with(&policy, "over-limit.conf", &change, |port| {
        let answers = [(); 8].map(|()| Request::get(port, "/").key("weir_sample_globex").send().unwrap());
        let texts = answers.map(|answer| if answer.status == 200 { answer.text() } else { "429".into() });
        assert_eq!(texts[..4], ["backend"; 4]);
        assert_eq!(texts[4..6], ["slow"; 2]);
        assert_eq!(texts[6..], ["429"; 2]);
    });
}
