//! What a gateway tells of itself: to a client its own limits, to the platform what goes on.

mod module_common;

use std::time::Duration;

use module_common::{KEY, Plan, policy};
use serde_json::Value;
use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::wait;

fn json(request: Request) -> Value {
    let answer = request.header("Accept", "application/json").send().unwrap();
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    serde_json::from_str(&answer.text()).unwrap()
}

fn usage(port: u16) -> Value {
    json(Request::get(port, "/weir/usage").key(KEY))
}

/// Another gateway has served this client: the one that is asked has never seen it.
#[test]
fn usage_is_what_all_gateways_have_let_through() {
    let redis = Redis::start().unwrap();
    let plot = Plot::new(&policy("\"100 requests/minute\", \"1000 requests/hour\""));
    let scene = plot
        .shared_by_two(&redis.url())
        .options(|options| options.http("weir_redis_timeout 1s;").location("weir_fallback deny;"))
        .start()
        .and_then(Scene::linked)
        .unwrap();
    let ports = scene.ports();
    for _ in 0..7 {
        assert_eq!(Request::get(ports[0], "/orders").key(KEY).send().unwrap().status, 200);
    }
    // The first gateway holds a few more on lease, which count until they go back.
    let left = |limit: usize| usage(ports[1])["limits"][limit]["remaining"].as_u64().unwrap();
    assert!((60..=93).contains(&left(0)) && (900..=993).contains(&left(1)), "{}", usage(ports[1]));
    let same = || (left(0), left(1));
    assert_eq!(same(), same(), "asking takes nothing");
    let none = Request::get(ports[1], "/weir/usage").send().unwrap();
    let none: Value = serde_json::from_str(&none.text()).unwrap();
    assert_eq!((&none["client"], &none["limits"]), (&"anonymous".into(), &Value::Array(Vec::new())));
}

#[test]
fn usage_without_redis_is_this_gateways_own_and_waits_for_nobody() {
    let redis = Redis::start().unwrap();
    let url = redis.url();
    drop(redis);
    let plot = Plot::new(&policy("\"100 requests/minute\"")).shared_by(1, &url);
    let scene = plot.start().unwrap();
    let told = usage(scene.port());
    assert_eq!(told["client"], "acme", "{told}");
}

#[test]
fn metrics_are_bounded_as_text_and_name_the_heaviest_as_json() {
    let text = policy("\"3 requests/minute\"")
        + &format!(
            "[tiers.gold]\nlimits = [\"9 requests/minute\"]\n[clients.rich]\ntier = \"gold\"\nkeys = [\"{}\"]\n",
            key_hash("rich-key")
        );
    let server = "location / { weir on; } location = /metrics { weir_metrics; }";
    let site = Plan::new(&text, server).workers(2).start();
    let ask = |key: &str| Request::get(site.port, "/").key(key).send().unwrap().status;
    let statuses: Vec<u16> = (0..5).map(|_| ask(KEY)).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 2);
    ask("rich-key");
    for n in 0..300 {
        ask(&format!("invented-{n}"));
        ask("lost-key");
    }
    Request::get(site.port, "/").send().unwrap();
    let all = || json(Request::get(site.port, "/metrics"))["weir_requests"]["PASSED"] == 605;
    assert!(wait::until(Duration::from_secs(60), all), "{}", json(Request::get(site.port, "/metrics")));

    let told = json(Request::get(site.port, "/metrics"));
    let figure = |list: &str, name: &str| -> Value {
        let list = told[list].as_array().unwrap();
        list.iter().find(|figure| figure["name"] == name).cloned().unwrap_or(Value::Null)
    };
    let acme = figure("clients", "acme");
    assert_eq!((&acme["requests"], &acme["refused"], &acme["tier"]), (&5.into(), &2.into(), &"basic".into()));
    assert_eq!(acme["decisions"]["REJECTED"], 2);
    assert!(acme["bytes_out"].as_u64() > Some(500));
    assert_eq!(figure("clients", "rich")["tier"], "gold");
    assert_eq!(figure("clients", "anonymous")["requests"], 601);
    let lost = figure("unknown", &key_hash("lost-key"));
    assert!(lost["requests"].as_u64() > Some(100), "{}", told["unknown"]);
    assert_eq!(told["unknown"][0]["name"], key_hash("lost-key"), "the heaviest comes first");

    let text = Request::get(site.port, "/metrics").send().unwrap().text();
    assert!(text.contains("weir_tier_requests_total{tier=\"gold\",decision=\"PASSED\"} 1\n"), "{text}");
    assert!(text.contains("weir_tier_requests_total{tier=\"basic\",decision=\"REJECTED\"} 2\n"), "{text}");
    assert!(text.lines().count() < 120 && !text.contains("acme") && !text.contains("sha256"), "{text}");
    let key = told.to_string().contains("lost-key\"") || text.contains("rich-key");
    assert!(!key, "no key is told, only hashes");
}
