//! docs/rollout.md, step by step, with the policies as they stand there.

// It waits for real gateways.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::fs;
use std::time::Duration;

use module_common::Plan;
use serde_json::Value;
use weir_testbed::gateway::{key_hash, write_policy};
use weir_testbed::http::{Answer, Request};
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::{parts, wait};

const KEY: &str = "rollout-key";
const SOON: Duration = Duration::from_secs(60);

/// The policies of the document, in their order; its client's key is ours.
fn written() -> Vec<String> {
    let text = fs::read_to_string(parts::root().join("docs/rollout.md")).unwrap();
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| block.replace("sha256:5f63…", &key_hash(KEY))).collect()
}

fn ask(scene: &Scene, key: Option<&str>) -> Answer {
    let request = Request::get(scene.port(), "/orders");
    key.map_or_else(|| request.clone(), |key| request.clone().key(key)).send().unwrap()
}

/// Writes the file that the gateway watches, and waits for it.
fn put(scene: &Scene, policy: &str) {
    let checked = scene.installation.dir().join("checked.toml");
    fs::write(&checked, policy).unwrap();
    let said = scene.installation.ok(&["check", &checked.to_string_lossy()]).unwrap();
    let version = said.trim_end().rsplit(' ').next().unwrap().to_owned();
    write_policy(&scene.installation.policy(), policy).unwrap();
    let metrics = || Request::get(scene.port(), "/weir/metrics").send().unwrap().text();
    assert!(wait::until(SOON, || metrics().contains(&version)), "{}", scene.gateways[0].nginx.error_log());
}

/// What `weir doctor` finds; nothing may be wrong.
fn doctor(scene: &Scene) -> Value {
    let url = format!("http://127.0.0.1:{}/weir/metrics", scene.port());
    scene.installation.json(&["doctor", "--json", "--gateway", &url]).unwrap()
}

#[test]
fn from_nothing_to_enforcement_as_the_document_says() {
    let redis = Redis::start().unwrap();
    let [observe, enrol, limits] = <[String; 3]>::try_from(written()).unwrap();
    let scene = Plot::new(&observe).redis(&redis).start().and_then(Scene::linked).unwrap();

    // 1. Nobody is refused, everybody is seen.
    for key in [Some(KEY), None, Some("nobodys")] {
        for _ in 0..5 {
            assert_eq!(ask(&scene, key).status, 200);
        }
    }
    let unknown = |scene: &Scene, name: &str| {
        let told = doctor(scene);
        told["unknown"].as_array().unwrap().iter().any(|caller| caller["name"] == name)
    };
    assert!(unknown(&scene, &key_hash(KEY)) && unknown(&scene, "127.0.0.1"), "{}", doctor(&scene));

    // 2. What doctor shows is what goes into the policy.
    let enrolled = format!("{enrol}\n{observe}");
    put(&scene, &enrolled);
    for _ in 0..5 {
        assert_eq!(ask(&scene, Some(KEY)).status, 200);
    }

    // 3. The grandfathered are tried first: told, and not refused.
    let dry = format!("{}\n{limits}", enrolled.replace("\"unlimited\"", "\"basic\""));
    put(&scene, &dry);
    let answers: Vec<Answer> = (0..130).map(|_| ask(&scene, Some(KEY))).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(answers.last().unwrap().header("RateLimit").is_some_and(|field| field.contains(";r=0;")));
    let told = scene.installation.json(&["explain", "--client", "acme", "--json"]).unwrap();
    assert!(told["limits"][0]["from"].as_str().unwrap().contains("policy.toml:"), "{told}");
    assert_eq!(ask(&scene, None).status, 200);

    // 4. What a letter says: how often it would have been refused, and where its figures are.
    scene.installation.ok(&["portal", "show", "acme"]).unwrap();

    // 5. Nobody gets a fresh window.
    let enforced = dry.replace("dry_run = true", "# dry_run = true");
    put(&scene, &enforced);
    let refused = ask(&scene, Some(KEY));
    assert_eq!((refused.status, refused.header("Retry-After").is_some()), (429, true), "{refused:?}");
    let id = serde_json::from_slice::<Value>(&refused.body).unwrap()["request_id"].as_str().map(str::len);
    assert_eq!(id, Some(32));
    assert_eq!(ask(&scene, None).status, 200, "strangers are only observed");
    put(&scene, &dry);
    assert_eq!(ask(&scene, Some(KEY)).status, 200, "the way back");

    // 6. Strangers have one small tier together, and at last no entry.
    let small = "[tiers.small]\nlimits = [\"2 requests/hour\"]\n";
    let limit = enforced.replace("action = \"observe\"", "action = \"limit\"\ntier = \"small\"") + small;
    put(&scene, &limit);
    assert!(wait::until(SOON, || ask(&scene, None).status == 429));
    assert_eq!(ask(&scene, Some("nobodys")).status, 429);
    put(&scene, &enforced.replace("\"observe\"", "\"reject\""));
    assert_eq!((ask(&scene, None).status, ask(&scene, Some("nobodys")).status), (403, 403));
    put(&scene, &dry.replace("\"observe\"", "\"reject\""));
    assert_eq!(ask(&scene, Some(KEY)).status, 200);
}

/// The figures of step 4, once the records are collected.
#[test]
fn a_dry_run_leaves_the_figures_that_a_letter_needs() {
    let [observe, enrol, limits] = <[String; 3]>::try_from(written()).unwrap();
    let dry = format!("{}\n{observe}\n{limits}", enrol.replace("\"unlimited\"", "\"basic\""));
    let mut scene = Plot::new(&dry).start().unwrap();
    let answers = (0..120).map(|_| ask(&scene, Some(KEY)).status);
    assert!(answers.into_iter().all(|status| status == 200));
    scene.close();
    scene.installation.ok(&["tick"]).unwrap();
    let text = scene.installation.ok(&["export", "--grain", "minute", "--client", "acme"]).unwrap();
    let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let columns = rows.next().unwrap();
    let at = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let (dry, all) = (at("rejected_dry_run"), at("requests"));
    let sums = rows.fold((0u64, 0u64), |(would, requests), row| {
        (would + row[dry].parse::<u64>().unwrap(), requests + row[all].parse::<u64>().unwrap())
    });
    assert_eq!(sums.1, 120);
    // A minute that ends meanwhile gives room again.
    assert!((1..=20).contains(&sums.0), "{text}");
}

/// Both tables: what `limit_req` and Kong say is said in the policy, and both limiters stand in one place.
#[test]
fn limit_req_and_weir_stand_side_by_side() {
    let policy = format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"100 requests/minute\", \"2000 requests/hour\", \
         \"500 MB/hour\"]\nover = \"delay 2s burst 20\"\n[tiers.bounded]\nlimits = [\"10 requests/second\"]\n\
         over = \"degrade up to 150%\"\n[clients.acme]\nkeys = [\"{}\"]\n",
        key_hash(KEY)
    );
    let http = "limit_req_zone $http_x_api_key zone=z:10m rate=100r/m;\n\
                log_format both '$status $limit_req_status $weir_status';\n";
    let server = "access_log both.log both; weir on; weir_headers both; weir_fallback allow;
        location / { limit_req zone=z burst=20 nodelay; limit_req_status 429; limit_req_dry_run on;
                     try_files /index.html =404; }
        location /other { limit_req zone=z; weir_dry_run on; weir_status 429; weir_log_level notice;
                          try_files /index.html =404; }";
    let site = Plan::new(&policy, server).http(http).start();
    let answer = Request::get(site.port, "/").key(KEY).send().unwrap();
    let limit = answer.header("X-RateLimit-Limit");
    assert!(answer.status == 200 && limit.is_some() && answer.header("RateLimit").is_some(), "{answer:?}");
    Request::get(site.port, "/other").key(KEY).send().unwrap();
    let log = || fs::read_to_string(site.dir().join("both.log")).unwrap_or_default();
    assert!(wait::until(SOON, || log().lines().count() == 2), "{}", log());
    assert!(log().starts_with("200 PASSED PASSED\n"), "{}", log());
}
