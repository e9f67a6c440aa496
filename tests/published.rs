//! The published policy, from `weir apply` to the answers of real gateways, through a real Redis.

// The tests wait for real gateways.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::time::Duration;

use weir_testbed::gateway::key_hash;
use weir_testbed::http::{Answer, Request};
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::wait;
use weir_testbed::weir::Installation;

const KEY: &str = "acme-key";
const SOON: Duration = Duration::from_secs(60);

fn policy(limit: &str) -> String {
    format!(
        "default_tier = \"basic\"\n[tiers.basic]\nlimits = [\"{limit}\"]\n\
         [clients.acme]\nname = \"Acme Corp\"\nkeys = [\"{}\"]\n",
        key_hash(KEY)
    )
}

/// Gateways that go by what is published, at which nothing is yet.
fn scene(gateways: usize, redis: &Redis) -> Scene {
    Plot::new(&policy("1000 requests/hour"))
        .shared_by(gateways, &redis.url())
        .options(|options| options.published().http("weir_redis_timeout 1s;"))
        .start()
        .and_then(Scene::linked)
        .unwrap()
}

/// Writes the policy file and publishes it; what the command said.
fn apply(installation: &Installation, text: &str, reason: &str) -> String {
    fs::write(installation.policy(), text).unwrap();
    installation.ok(&["apply", "--reason", reason, "--by", "bob@desk"]).unwrap()
}

/// Runs `weir`, which has to fail; what it said.
fn refused(installation: &Installation, arguments: &[&str]) -> String {
    let output = installation.run(arguments).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn get(port: u16) -> Answer {
    Request::get(port, "/orders").key(KEY).send().unwrap()
}

fn version_of(text: &str, dir: &std::path::Path) -> String {
    let file = dir.join("to-check.toml");
    fs::write(&file, text).unwrap();
    let said = Installation::new(dir, 0).unwrap().ok(&["check", &file.to_string_lossy()]).unwrap();
    said.trim_end().rsplit(' ').next().unwrap().to_owned()
}

fn metrics(port: u16) -> String {
    Request::get(port, "/weir/metrics").send().unwrap().text()
}

fn await_policy(scene: &Scene, text: &str) {
    let version = version_of(text, scene.installation.dir());
    for gateway in &scene.gateways {
        let line = format!("weir_policy_version{{version=\"{version}\"}} 1\n");
        let is_there = || metrics(gateway.port()).contains(&line);
        assert!(wait::until(SOON, is_there), "{line}{}", gateway.nginx.error_log());
    }
}

fn await_log(scene: &Scene, words: &str) {
    let log = || scene.gateways[0].nginx.error_log();
    assert!(wait::until(SOON, || log().contains(words)), "no {words:?} in {}", log());
}

#[test]
fn what_is_applied_is_in_force_at_every_gateway_and_in_its_records() {
    let redis = Redis::start().unwrap();
    let mut scene = scene(2, &redis);
    for port in scene.ports() {
        assert_eq!(get(port).status, 200, "without a policy nobody is limited");
    }
    let first = policy("3 requests/hour");
    let said = apply(&scene.installation, &first, "the beginning");
    assert!(said.contains("nothing was published before") && said.contains("release 1"), "{said}");
    await_policy(&scene, &first);
    let answered: Vec<u16> = (0..6).map(|n| get(scene.ports()[n % 2]).status).collect();
    assert_eq!(answered.iter().filter(|status| **status == 200).count(), 3, "{answered:?}");

    let second = policy("1000 requests/hour");
    let said = apply(&scene.installation, &second, "acme pays for more");
    let change = "tier basic (1 client): 3 requests/hour becomes 1000 requests/hour";
    assert!(said.contains(change) && said.contains("published as release 2"), "{said}");
    await_policy(&scene, &second);
    for port in scene.ports() {
        assert_eq!(get(port).status, 200);
    }
    let said = scene.installation.ok(&["apply"]).unwrap();
    assert!(said.contains("is in force already: release 2"), "{said}");

    let history = scene.installation.json(&["history", "--json"]).unwrap();
    let row = |n: usize| (history[n]["release"].as_u64(), history[n]["reason"].as_str());
    assert_eq!([row(0), row(1)], [(Some(2), Some("acme pays for more")), (Some(1), Some("the beginning"))]);
    assert_eq!(history[0]["by"], "bob@desk");
    assert_eq!(scene.installation.ok(&["history", "1"]).unwrap(), first);

    let said = scene.installation.ok(&["rollback", "--reason", "a mistake"]).unwrap();
    assert!(said.contains("1000 requests/hour becomes 3 requests/hour"), "{said}");
    assert!(said.contains("release 3") && said.contains("back to release 1: a mistake"), "{said}");
    await_policy(&scene, &first);
    assert_eq!(get(scene.port()).status, 429, "what was used stays used");

    scene.close();
    let dir = scene.installation.dir();
    let versions: std::collections::BTreeSet<String> = scene
        .installation
        .records()
        .unwrap()
        .iter()
        .map(|record| record["policy_version"].as_str().unwrap_or_default().to_owned())
        .collect();
    for version in ["0".repeat(16), version_of(&first, dir), version_of(&second, dir)] {
        assert!(versions.contains(&version), "{version} in {versions:?}");
    }
}

#[test]
fn nobody_overwrites_what_he_has_not_seen_and_nothing_broken_is_published() {
    let redis = Redis::start().unwrap();
    let dirs = [weir_testbed::temp_dir(), weir_testbed::temp_dir()];
    let [bob, ann] = [0, 1].map(|n| Installation::new(dirs[n].path(), 0).unwrap().redis(&redis.url()));
    apply(&bob, &policy("3 requests/hour"), "first");
    fs::write(ann.policy(), policy("9 requests/hour")).unwrap();
    let text = refused(&ann, &["apply"]);
    assert!(text.contains("release 1 (version ") && text.contains("by bob@desk: first"), "{text}");
    assert!(text.contains("--over 1"), "{text}");
    ann.ok(&["apply", "--show"]).unwrap();
    ann.ok(&["apply", "--over", "1", "--by", "ann"]).unwrap();
    apply(&ann, &policy("10 requests/hour"), "she has seen her own");
    fs::write(bob.policy(), policy("4 requests/hour")).unwrap();
    assert!(refused(&bob, &["apply"]).contains("release 3"));

    fs::write(ann.policy(), policy("9 reqests/hour")).unwrap();
    let text = refused(&ann, &["apply"]);
    assert!(text.contains("3:11: tiers.basic.limits[0]: \"reqests\" is not a unit"), "{text}");
    assert!(redis.command(&["GET", "weir:{*policy}:head"]).unwrap().starts_with("3 "));
}

#[test]
fn a_gateway_starts_with_the_last_good_policy_when_redis_is_away() {
    let mut redis = Redis::start().unwrap();
    let mut scene = scene(1, &redis);
    let text = policy("3 requests/hour");
    apply(&scene.installation, &text, "");
    await_policy(&scene, &text);
    // It is kept when it is in force.
    let file = scene.installation.spool(0).join("published-policy.toml");
    assert!(wait::until(SOON, || fs::read_to_string(&file).is_ok_and(|kept| kept == text)));
    scene.close();
    redis.kill();
    scene.open_again().unwrap();
    await_policy(&scene, &text);
    let answered: Vec<u16> = (0..5).map(|_| get(scene.port()).status).collect();
    assert_eq!(answered, [200, 200, 200, 429, 429]);
    let log = scene.gateways[0].nginx.error_log();
    assert!(log.contains("Redis can't be asked"), "{log}");
}

/// Puts a release where `weir apply` would. `more`: further fields of it.
fn put(redis: &Redis, number: &str, schema: &str, version: &str, text: &str, more: &[&str]) {
    let (release, chunk) =
        (format!("weir:{{*policy}}:release:{number}"), format!("weir:{{*policy}}:text:{version}"));
    let fields = ["version", version, "schema", schema, "bytes", &text.len().to_string(), "by", "eve"];
    let fields = [&["HSET", &release], &fields[..], &["reason", "new", "at_ms", "1"], more].concat();
    redis.command(&fields).unwrap();
    redis.command(&["HSET", &chunk, "0", text]).unwrap();
    redis.command(&["SET", "weir:{*policy}:head", &format!("{number} {version}")]).unwrap();
}

#[test]
fn what_a_gateway_cannot_read_leaves_the_last_good_policy_in_force() {
    let redis = Redis::start().unwrap();
    let scene = scene(1, &redis);
    let text = policy("3 requests/hour");
    apply(&scene.installation, &text, "");
    await_policy(&scene, &text);

    let put = |number, schema, version, text| put(&redis, number, schema, version, text, &[]);
    // As a weir of next year publishes it.
    put("2", "99", "00000000000000aa", "whatever");
    await_log(&scene, "its policy has schema 99, this gateway knows 1; upgrade the gateway");
    // Whole, as its version says, and wrong.
    put("3", "1", "c57101575466bc24", "[tiers.t]\nlimits = [\"x\"]\n");
    await_log(&scene, "the published policy:2:11: tiers.t.limits[0]");
    put("4", "1", "00000000000000cc", &policy("9 requests/hour"));
    await_log(&scene, "is damaged in Redis");
    await_policy(&scene, &text);
    assert!(metrics(scene.port()).contains("weir_policy_problems_total 3"));
    let answered: Vec<u16> = (0..4).map(|_| get(scene.port()).status).collect();
    assert_eq!(answered, [200, 200, 200, 429]);
}

/// Its text is what counts, and is compiled instead.
#[test]
fn a_compiled_form_that_is_damaged_in_redis_is_told_and_done_without() {
    let redis = Redis::start().unwrap();
    let scene = scene(1, &redis);
    apply(&scene.installation, &policy("3 requests/hour"), "");
    await_policy(&scene, &policy("3 requests/hour"));
    let release = redis.command(&["HGET", "weir:{*policy}:release:1", "image"]).unwrap();
    let (format, _) = release.trim().split_once(' ').unwrap();
    let text = policy("9 requests/hour");
    let version = version_of(&text, scene.installation.dir());
    let image = format!("weir:{{*policy}}:image:{version}.{format}");
    redis.command(&["HSET", &image, "0", "no image"]).unwrap();
    put(&redis, "2", "1", &version, &text, &["image", &format!("{format} 8")]);
    await_policy(&scene, &text);
    await_log(&scene, "in Redis is of no use, its text is compiled: ");
    let log = scene.gateways[0].nginx.error_log();
    assert_eq!(log.matches("is of no use").count(), 1, "by the one worker that met it: {log}");
    assert!(metrics(scene.port()).contains("weir_policy_problems_total 0"));
}

/// What Redis lost of a release is put back by `weir apply`, and every gateway that lacks it takes it then.
#[test]
fn what_redis_lost_of_a_policy_is_told_once_and_taken_when_it_is_published_again() {
    let redis = Redis::start().unwrap();
    let scene = scene(1, &redis);
    let (first, second) = (policy("3 requests/hour"), policy("9 requests/hour"));
    apply(&scene.installation, &first, "");
    await_policy(&scene, &first);
    let kept = || fs::read_to_string(scene.installation.spool(0).join("published-policy.toml"));
    assert!(wait::until(SOON, || kept().is_ok_and(|text| text == first)));
    let said = || scene.gateways[0].nginx.error_log();
    let doctor = |words: &[&str]| {
        let output = scene.installation.run(&["doctor"]).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    };
    let again = |flaw: &str| {
        let said = scene.installation.ok(&["apply", "--by", "ann"]).unwrap();
        assert!(said.contains("it is published again: ") && said.contains(flaw), "{said}");
        doctor(&["ok     published"]);
    };
    let version = version_of(&second, scene.installation.dir());
    let text = format!("weir:{{*policy}}:text:{version}");
    let image = || redis.command(&["KEYS", &format!("weir:{{*policy}}:image:{version}.*")]).unwrap();

    // A release of which the text is not there, and no compiled form was published.
    put(&redis, "2", "1", &version, &second, &[]);
    redis.command(&["DEL", &text]).unwrap();
    await_log(&scene, "lost or not complete; publish the policy again with `weir apply`");
    doctor(&["WRONG  published", "the text of release 2 is lost", "publish it again with `weir apply`"]);
    await_policy(&scene, &first);
    fs::write(scene.installation.policy(), &second).unwrap();
    again("the text of release 2 is lost");
    await_policy(&scene, &second);
    assert!(wait::until(SOON, || kept().is_ok_and(|text| text == second)));
    assert_eq!(said().matches("lost or not complete").count(), 1, "{}", said());

    // Its compiled form alone: the text does as well.
    redis.command(&["DEL", image().trim()]).unwrap();
    doctor(&["note   published", "the compiled form of release 3 is lost", "each gateway compiles the text"]);
    again("the compiled form of release 3 is lost");
    assert!(!image().trim().is_empty());

    // Its text alone is damaged: a gateway that comes anew has the compiled form in force, and keeps the
    // text as soon as it is the right one.
    redis.command(&["HSET", &text, "0", &first]).unwrap();
    doctor(&["WRONG  published", "its text"]);
    fs::remove_file(scene.installation.spool(0).join("published-policy.toml")).unwrap();
    scene.gateways[0].nginx.reload().unwrap();
    await_log(&scene, "can't be kept in ");
    await_policy(&scene, &second);
    again("its text");
    assert!(wait::until(SOON, || kept().is_ok_and(|text| text == second)), "{}", said());
}

#[test]
fn the_emergency_brake_lets_everybody_pass_for_a_while() {
    let redis = Redis::start().unwrap();
    let mut scene = scene(2, &redis);
    let text = policy("2 requests/hour");
    apply(&scene.installation, &text, "");
    await_policy(&scene, &text);
    let port = scene.port();
    let refused = || scene.ports().iter().all(|port| get(*port).status == 429);
    assert!(wait::until(SOON, refused));
    assert!(metrics(port).contains("weir_enforced 1\n"));

    let weir = |arguments: &[&str]| scene.installation.ok(arguments).unwrap();
    let said = weir(&["enforce", "off", "--for", "1h", "--reason", "wrong limits", "--by", "bob"]);
    assert!(said.contains("not enforced until") && said.contains("by bob: wrong limits"), "{said}");
    let passes = || scene.ports().iter().all(|port| get(*port).status == 200);
    assert!(wait::until(SOON, passes));
    let answer = get(port);
    assert!(answer.header("RateLimit").is_some_and(|field| field.contains(";r=0;")), "{answer:?}");
    assert!(metrics(port).contains("weir_enforced 0\n"));
    await_log(&scene, "nobody is refused: switched off by bob: wrong limits");
    assert_eq!(weir(&["enforce", "on"]), "limits are enforced\n");
    assert!(wait::until(SOON, refused));
    await_log(&scene, "limits are enforced again");

    let wrong = scene.installation.run(&["enforce", "off", "--for", "9d", "--reason", "x"]).unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    weir(&["enforce", "off", "--for", "3s", "--reason", "for a moment"]);
    assert!(wait::until(SOON, passes) && wait::until(SOON, refused), "it ends by itself");
    assert_eq!(scene.installation.json(&["enforce", "--json"]).unwrap()["enforced"], true);

    scene.close();
    let records = scene.installation.records().unwrap();
    let dry = |record: &&serde_json::Value| record["decision"] == "REJECTED_DRY_RUN";
    assert!(records.iter().filter(dry).all(|record| record["status"] == 200));
    assert!(records.iter().any(|record| dry(&record)), "{records:?}");
}

/// The policy need not be published for that.
#[test]
fn the_brake_works_where_the_policy_is_a_file() {
    let redis = Redis::start().unwrap();
    let scene = Plot::new(&policy("1 requests/hour")).redis(&redis).start().and_then(Scene::linked).unwrap();
    assert!(wait::until(SOON, || get(scene.port()).status == 429));
    scene.installation.ok(&["enforce", "off", "--for", "1h", "--reason", "a drill"]).unwrap();
    assert!(wait::until(SOON, || get(scene.port()).status == 200));
}

/// Where nothing may pass undecided, nothing does before there is a policy.
#[test]
fn without_a_policy_weir_fallback_decides() {
    let redis = Redis::start().unwrap();
    let scene = Plot::new(&policy("5 requests/hour"))
        .redis(&redis)
        .options(|options| options.published().location("weir_fallback deny;"))
        .start()
        .and_then(Scene::linked)
        .unwrap();
    assert_eq!(get(scene.port()).status, 503);
    apply(&scene.installation, &policy("5 requests/hour"), "");
    assert!(wait::until(SOON, || get(scene.port()).status == 200));
}

#[test]
fn a_client_is_helped_stopped_and_given_keys_while_it_calls() {
    let redis = Redis::start().unwrap();
    let scene = scene(1, &redis);
    apply(&scene.installation, &policy("2 requests/hour"), "");
    let (port, weir) = (scene.port(), |arguments: &[&str]| {
        scene.installation.ok(&[arguments, &["--published", "--by", "ann"]].concat()).unwrap()
    });
    let answers = |key: &str, wanted: u16| {
        let status = || Request::get(port, "/orders").key(key).send().unwrap().status;
        assert!(
            wait::until(SOON, || status() == wanted),
            "{wanted}: {}",
            scene.gateways[0].nginx.error_log()
        );
    };
    answers(KEY, 429);
    let said =
        weir(&["client", "grant", "acme", "+500 requests/hour", "--for", "2h", "--reason", "a launch"]);
    assert!(said.contains("client acme: grant of limit 500 requests/hour, until "), "{said}");
    answers(KEY, 200);
    assert!(get(port).header("RateLimit-Policy").unwrap().contains(";q=502;"));
    weir(&["client", "block", "acme", "--reason", "abuse"]);
    answers(KEY, 429);
    weir(&["client", "block", "acme", "--off"]);
    answers(KEY, 200);

    weir(&["client", "add", "hooli", "--name", "Hooli", "--limit", "1000 requests/minute"]);
    let said = weir(&["key", "new", "--client", "hooli", "--add"]);
    let key = said.lines().last().unwrap().to_owned();
    let list = Request::get(port, "/weir/usage").key(&key);
    let is_known = || list.clone().send().unwrap().text().contains("\"client\":\"hooli\"");
    assert!(wait::until(SOON, is_known), "{said}");
    weir(&["key", "revoke", &key_hash(&key)[..20], "--reason", "leaked"]);
    assert!(wait::until(SOON, || !is_known()));
    let history = scene.installation.ok(&["history"]).unwrap();
    assert!(
        history.contains("block client acme: abuse") && history.contains("revoke a key: leaked"),
        "{history}"
    );
    assert!(!history.contains(&key), "a key stands nowhere");
    let shown = weir(&["client", "list"]);
    assert!(shown.contains("acme") && shown.contains("+500 requests/hour"), "{shown}");

    // The file has seen none of that.
    assert!(refused(&scene.installation, &["apply"]).contains("was not made from release"));
}

/// In a file everything else stays as it is, and a gateway that watches it follows.
#[test]
fn the_same_commands_edit_a_watched_file_and_keep_its_comments() {
    let text =
        policy("2 requests/hour") + "# Ask Ann before you change this.\ncontacts = [\"a@acme.example\"]\n";
    let scene = Plot::new(&text).start().unwrap();
    assert!(wait::until(SOON, || get(scene.port()).status == 429));
    let weir = |arguments: &[&str]| scene.installation.ok(arguments).unwrap();
    weir(&["client", "reset", "acme"]);
    assert!(wait::until(SOON, || get(scene.port()).status == 200));
    let file = fs::read_to_string(scene.installation.policy()).unwrap();
    assert!(file.starts_with(&text), "{file}");
    let said =
        weir(&["client", "set", "acme", "--timezone", "America/Chicago", "--limit", "7 requests/minute"]);
    assert!(said.contains("client acme: ") && said.contains("America/Chicago"), "{said}");
    let shown = scene.installation.json(&["client", "show", "acme", "--json"]).unwrap();
    assert_eq!(
        (&shown["timezone"], &shown["limits"][0]),
        (&"America/Chicago".into(), &"7 requests/minute".into())
    );
    let file = fs::read_to_string(scene.installation.policy()).unwrap();
    assert!(file.contains("# Ask Ann before you change this."), "{file}");
    let table = scene.installation.dir().join("clients.csv");
    fs::write(&table, "id,name,tier\nhooli,Hooli,basic\ninitech,Initech,gold\n").unwrap();
    let told = refused(&scene.installation, &["client", "import", &table.to_string_lossy()]);
    assert!(told.contains("gold"), "{told}");
    assert_eq!(fs::read_to_string(scene.installation.policy()).unwrap(), file, "all or none");
    fs::write(&table, "id,name,tier\nhooli,Hooli,basic\ninitech,Initech,\n").unwrap();
    weir(&["client", "import", &table.to_string_lossy()]);
    let list = scene.installation.json(&["client", "list", "--json"]).unwrap();
    let ids: Vec<&str> = list.as_array().unwrap().iter().filter_map(|client| client["id"].as_str()).collect();
    assert_eq!(ids, ["acme", "hooli", "initech"]);
}

/// Pages and mails need the policy too: where weir.toml names no file, it is what is published.
#[test]
fn the_pages_go_by_what_is_published() {
    let redis = Redis::start().unwrap();
    let dir = weir_testbed::temp_dir();
    let installation = Installation::new(dir.path(), 0).unwrap().redis(&redis.url());
    let file = dir.path().join("published.toml");
    let site = dir.path().join("pages");
    let text = format!(
        "[redis]\nurl = {:?}\n[storage]\nurl = \"store\"\n[site]\ndir = {site:?}\nportal_dir = \"portal\"\n",
        redis.url()
    );
    fs::write(&file, text).unwrap();
    let render = || {
        let mut command = std::process::Command::new(weir_testbed::parts::weir().unwrap());
        let output = command.arg("-c").arg(&file).arg("render").output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let before = render();
    assert!(before.contains("nothing is published") && !site.join("index.html").exists(), "{before}");
    apply(&installation, &policy("5 requests/hour"), "");
    let after = render();
    assert!(site.join("index.html").exists(), "{before}{after}");
}
