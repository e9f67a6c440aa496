//! `weir explain` and `weir doctor` where the policy is published and the Redis is a Cluster.

// It waits for real processes.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::time::Duration;

use serde_json::Value;
use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::redis::RedisCluster;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::wait;
use weir_testbed::weir::Installation;

const KEY: &str = "canary-published-key";
const SOON: Duration = Duration::from_secs(30);

fn policy(amount: u32) -> String {
    format!(
        "default_tier = \"basic\"\n[tiers.basic]\nlimits = [\n  \"{amount} requests/minute\",\n]\n\
         [[endpoints]]\nmatch = \"* /orders\"\nlimits = [\"1000 requests/hour\"]\n\
         [clients.acme]\nname = \"Acme Corp\"\nkeys = [\"{}\"]\n",
        key_hash(KEY)
    )
}

/// Two gateways that go by what is published in a Cluster, and an installation that names no file.
fn scene(cluster: &RedisCluster) -> Scene {
    let mut scene = Plot::new(&policy(5))
        .shared_by_two(&cluster.url())
        .options(|options| options.published().http("weir_redis_timeout 1s;").location("weir_fallback deny;"))
        .start()
        .and_then(Scene::linked)
        .unwrap();
    let urls: Vec<String> =
        scene.ports().iter().map(|port| format!("http://127.0.0.1:{port}/weir/metrics")).collect();
    let more = format!("[gateways]\nmetrics = {urls:?}\n");
    scene.installation = scene.installation.clone().more(&more).published();
    scene
}

fn apply(installation: &Installation) {
    let file = installation.policy().display().to_string();
    installation.ok(&["apply", &file, "--by", "bob@desk", "--reason", "a test"]).unwrap();
}

fn explain(installation: &Installation) -> Value {
    installation.json(&["explain", "--client", "acme", "--endpoint", "/orders", "--json"]).unwrap()
}

/// The whole report, whether or not something is wrong.
fn doctor(installation: &Installation) -> (Option<i32>, Vec<(String, String)>) {
    let output = installation.run(&["doctor", "--json"]).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let told = findings.map(|finding| (word(finding, "state"), word(finding, "found"))).collect();
    (output.status.code(), told)
}

fn says(installation: &Installation, state: &str, words: &str) -> bool {
    doctor(installation).1.iter().any(|(found, text)| found == state && text.contains(words))
}

fn await_word(installation: &Installation, state: &str, words: &str) {
    let is_there = || says(installation, state, words);
    assert!(wait::until(SOON, is_there), "{state} {words}: {:?}", doctor(installation));
}

#[test]
fn explain_and_doctor_go_by_what_is_published_in_a_cluster() {
    let cluster = RedisCluster::start().unwrap();
    let scene = scene(&cluster);
    let at = &scene.installation;
    await_word(at, "note", "weir.toml names no policy, and none is published");
    let nothing = at.run(&["explain", "--client", "acme"]).unwrap();
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("nothing is published"), "{nothing:?}");

    apply(at);
    await_word(at, "ok", "published 20");
    let well = || doctor(at).0 == Some(0) && !says(at, "note", "gateways have");
    assert!(wait::until(SOON, well), "{:?}", doctor(at));
    for node in cluster.primaries(0) {
        let server = format!("127.0.0.1:{}: version ", cluster.nodes()[node].port());
        assert!(says(at, "ok", &server), "{server} in {:?}", doctor(at));
    }
    await_word(at, "ok", "2 gateways seen in the last minute");

    let fresh = explain(at);
    assert_eq!(
        (&fresh["limits"][0]["from"], &fresh["limits"][0]["left"]),
        (&"release 1:4".into(), &5.into())
    );
    // On another server of the Cluster than the client's own, most of the time.
    assert_eq!(fresh["limits"][1]["from"], "release 1:8", "{fresh}");
    let statuses: Vec<u16> = (0..8)
        .map(|n| Request::get(scene.ports()[n % 2], "/orders").key(KEY).send().unwrap().status)
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5, "{statuses:?}");
    assert!(wait::until(SOON, || explain(at)["would_pass"] == false), "{}", explain(at));
    let full = explain(at);
    assert_eq!((&full["limits"][0]["used"], &full["limits"][0]["left"]), (&5.into(), &0.into()), "{full}");

    at.ok(&["enforce", "off", "--for", "1h", "--reason", "a sale", "--by", "ann@desk"]).unwrap();
    let now = explain(at);
    assert_eq!(now["would_pass"], true);
    let words = "passes, since ann@desk switched enforcement off (a sale); else refused with 429";
    assert!(now["now"].as_str().unwrap().starts_with(words), "{now}");
    await_word(at, "note", "limits are not enforced until 20");
}

#[test]
fn doctor_holds_file_gateways_and_what_is_published_against_each_other() {
    let cluster = RedisCluster::start().unwrap();
    let scene = scene(&cluster);
    let published = &scene.installation;
    apply(published);
    await_word(published, "ok", "release 1 (version ");
    // Whoever has a file at hand and has changed it sees both.
    let urls: Vec<String> =
        scene.ports().iter().map(|port| format!("http://127.0.0.1:{port}/weir/metrics")).collect();
    let dir = weir_testbed::temp_dir();
    let desk = Installation::new(dir.path(), 0).unwrap().redis(&cluster.url());
    let desk = desk.more(&format!("[gateways]\nmetrics = {urls:?}\n"));
    fs::write(desk.policy(), policy(7)).unwrap();
    await_word(&desk, "note", "the file here is not what is published");
    let by_file = explain(&desk);
    assert_eq!(by_file["limits"][0]["from"], format!("{}:4", desk.policy().display()));
    let by_release = desk
        .json(&["explain", "--published", "--client", "acme", "--endpoint", "/orders", "--json"])
        .unwrap();
    assert_eq!(by_release["limits"][0]["from"], "release 1:4");

    drop(cluster);
    let gone = || doctor(published).0 == Some(1) && says(published, "wrong", "Redis cannot be asked");
    assert!(wait::until(SOON, gone), "{:?}", doctor(published));
    let blind = published.run(&["explain", "--client", "acme"]).unwrap();
    assert_eq!(blind.status.code(), Some(1), "{blind:?}");
}
