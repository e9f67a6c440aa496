//! What nginx says of the directives, and that the sample configurations work as they stand.

mod module_common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use module_common::samples::{ask, run, run_with, sample, service};
use module_common::{Plan, policy};
use weir_testbed::http::Request;
use weir_testbed::nginx::Nginx;
use weir_testbed::redis::{Redis, RedisCluster, Sentinel};
use weir_testbed::{ports, temp_dir, wait};

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

/// Where a cloud hands out credentials is no Redis, in whatever spelling, unless somebody means it.
#[test]
fn the_address_of_a_clouds_metadata_is_refused_unless_it_is_allowed() {
    for host in ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "100.100.100.200"] {
        let text = said(&format!("weir_redis redis://{host};\n"), "");
        assert!(text.contains("[emerg] ") && text.contains("say allow_link_local if it is meant"), "{text}");
        let off = said(&format!("weir_redis redis://{host} allow_link_local=off;\n"), "");
        assert!(off.contains("say allow_link_local if it is meant"), "{off}");
        let meant = said(&format!("weir_redis redis://{host} allow_link_local=on;\n"), "");
        assert!(meant.contains("test is successful"), "{meant}");
    }
    let text = said("weir_redis redis://169.254.169.254 allow_link_local=yes;\n", "");
    assert!(text.contains("[emerg] ") && text.contains("allow_link_local"), "{text}");
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
fn a_published_policy_needs_redis_and_a_place_to_be_kept() {
    let dir = temp_dir();
    let config = Plan::new("", "location / { weir on; }").config(ports::free());
    let said = |policy: &str, redis: &str, spool: &str| {
        let config = config.replace("weir_policy policy.toml;", &format!("weir_policy {policy};\n{redis}"));
        let config = config.replace("weir_spool spool seal=1s;", spool);
        let output = Nginx::test(dir.path(), &config).unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (redis, spool) = ("weir_redis redis://127.0.0.1:1;", "weir_spool spool;");
    let (ok, text) = said("redis", "", spool);
    assert!(!ok && text.contains("\"weir_policy redis\" needs \"weir_redis\""), "{text}");
    let (ok, text) = said("redis", redis, "");
    assert!(ok && text.contains("[warn] ") && text.contains("add keep=DIR"), "{text}");
    let (ok, text) = said("redis", redis, spool);
    assert!(ok && !text.contains("[warn] "), "{text}");
    let (ok, text) = said("redis keep=html", redis, "");
    assert!(!ok && text.contains("html is no directory"), "{text}");
    let (ok, text) = said(&format!("redis keep={}", dir.path().display()), redis, "");
    assert!(ok && !text.contains("[warn] "), "{text}");
    for wrong in ["redis kept=/tmp", "policy.toml keep=/tmp"] {
        fs::write(dir.path().join("policy.toml"), policy("\"1 requests/minute\"")).unwrap();
        let (ok, text) = said(wrong, redis, spool);
        assert!(!ok && text.contains("invalid parameter"), "{text}");
    }
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
        assert!(weir_testbed::wait::until(std::time::Duration::from_secs(60), up));
    });
    let keys = redis.command(&["KEYS", "*"]).unwrap();
    assert!(keys.lines().any(|key| key.starts_with("production:2:{acme}")), "{keys}");
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
        // As many as the sample gives to this client in a minute.
        (0..100).for_each(|_| assert_eq!(from(Request::get(port, "/")).status, 200));
        let refused = from(Request::get(port, "/"));
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

/// The keys of limits that a sample with this `weir_redis` leaves behind its servers, once it works.
fn linked(name: &str, changes: &[(&str, String)]) {
    let secrets = temp_dir();
    let mut all = changes.to_vec();
    for (place, password) in
        [("/etc/nginx/redis-password", "pass-data"), ("/etc/nginx/sentinel-password", "pass-sentinel")]
    {
        let path = secrets.path().join(password);
        fs::write(&path, format!("{password}\n")).unwrap();
        let mut only_mine = fs::metadata(&path).unwrap().permissions();
        only_mine.set_mode(0o600);
        fs::set_permissions(&path, only_mine).unwrap();
        if name.contains("sentinel") || password == "pass-data" {
            all.push((place, path.display().to_string()));
        }
    }
    let patient = ("weir_redis_timeout 20ms", "weir_fallback deny; weir_redis_timeout 1s".to_owned());
    all.extend([patient, ("weir_fallback      local;", String::new())]);
    run(name, &all, |port| {
        let served = |key: &str| ask(port, "/", "X-Api-Key", key).0 == 200;
        let keys = ["weir_sample_acme", "weir_sample_globex", "weir_sample_initech"];
        let all_served = || keys.iter().all(|key| served(key));
        assert!(wait::until(Duration::from_secs(60), all_served), "{name} reaches its servers");
    });
}

#[test]
fn the_sample_for_a_redis_cluster_works() {
    let cluster = RedisCluster::start_secured("pass-data").unwrap();
    let nodes = "rediss+cluster://redis-1:6379,redis-2:6379,redis-3:6379";
    let ca = cluster.ca().unwrap().display().to_string();
    linked("gateway-cluster.conf", &[(nodes, cluster.url()), ("/etc/ssl/redis-ca.pem", ca)]);
    let keys: String = (0..6).filter_map(|node| cluster.cli(node, &["KEYS", "production:*"]).ok()).collect();
    for client in ["acme", "globex", "initech"] {
        assert!(keys.contains(&format!("production:2:{{{client}}}:requests:60000")), "{client}: {keys}");
    }
}

#[test]
fn the_sample_for_sentinels_works() {
    let sentinel = Sentinel::start_secured("pass-data", "pass-sentinel").unwrap();
    let hosts = "rediss+sentinel://sentinel-1:26379,sentinel-2:26379,sentinel-3:26379/main/0";
    let ca = sentinel.ca().unwrap().display().to_string();
    linked("gateway-sentinel.conf", &[(hosts, sentinel.url()), ("/etc/ssl/redis-ca.pem", ca)]);
    let master = sentinel.master(0).unwrap();
    let keys = sentinel.cli(master, &["KEYS", "production:*"]).unwrap();
    assert!(keys.contains("production:2:{acme}:requests:60000"), "{keys}");
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

#[test]
fn the_sample_for_webhooks_works() {
    let (egress, receiver) = (ports::free(), ports::free());
    let _receiver = service(receiver, "return 200 \"$http_x_webhook_client.\";");
    let policy = sample("policy.toml", &[("\"100 requests/minute\"", "\"2 requests/minute\"".to_owned())]);
    let changes = [("listen 127.0.0.1:8081", format!("listen 127.0.0.1:{egress}"))];
    run_with(&policy, "webhooks.conf", &changes, |port| {
        let call = |client: &str| {
            let url = format!("http://127.0.0.1:{receiver}/hook");
            let call = Request::new("POST", egress, "/webhooks").header("X-Webhook-Url", &url);
            call.header("X-Webhook-Client", client).send().unwrap()
        };
        let answer = call("initech");
        assert_eq!((answer.status, answer.text().as_str()), (200, "."), "nothing of ours goes out");
        assert_eq!(ask(port, "/", "X-Api-Key", "weir_sample_initech").0, 200);
        let refused = call("initech");
        assert!(refused.status == 429 && refused.header("Retry-After").is_some(), "{refused:?}");
        for _ in 0..3 {
            let met = call("globex");
            assert_eq!((met.status, met.header("RateLimit")), (200, None));
        }
    });
}
