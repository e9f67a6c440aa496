//! Commands that answer people: `weir explain`, `weir top`, `weir doctor`, on real gateways and a real
//! Redis.

// It waits for real processes.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::load;
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::weir::Installation;
use weir_testbed::{ports, wait};

const KEY: &str = "canary-explained-key";

fn policy() -> String {
    format!(
        "default_tier = \"basic\"\n[unknown]\naction = \"observe\"\n[tiers.basic]\n\
         limits = [\n  \"5 requests/minute\",\n  \"1000 requests/hour\",\n]\n\
         [[endpoints]]\nmatch = \"POST /orders\"\nlimits = [\"3 requests/minute\"]\n\
         [clients.acme]\nname = \"Acme Corp\"\nkeys = [\"{}\"]\n\
         [clients.dry]\ndry_run = true\n\
         [tiers.soft]\nlimits = [\"2 requests/minute\"]\nover = \"degrade up to 150%\"\n\
         [clients.soft]\ntier = \"soft\"\nkeys = [\"{}\"]\n",
        key_hash(KEY),
        key_hash("soft-key")
    )
}

/// Two gateways that share their limits, and an installation that knows them.
fn scene(redis: &Redis) -> Scene {
    let mut scene = Plot::new(&policy())
        .shared_by_two(&redis.url())
        .options(|options| options.http("weir_redis_timeout 1s;").location("weir_fallback deny;"))
        .start()
        .and_then(Scene::linked)
        .unwrap();
    let urls: Vec<String> =
        scene.ports().iter().map(|port| format!("http://127.0.0.1:{port}/weir/metrics")).collect();
    let more = format!("[gateways]\nmetrics = {urls:?}\n");
    scene.installation = scene.installation.clone().more(&more);
    scene
}

fn explain(installation: &Installation, key: &str, arguments: &[&str]) -> Output {
    let mut command = installation.command(&[&["explain"], arguments].concat()).unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(key.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

#[test]
fn explain_says_who_by_which_line_what_is_left_and_what_would_happen() {
    let redis = Redis::start().unwrap();
    let scene = scene(&redis);
    let line = format!("{KEY}\n");
    let told = json(&explain(&scene.installation, &line, &["--json"]));
    let file = scene.installation.policy().display().to_string();
    assert_eq!((&told["client"], &told["name"]), (&"acme".into(), &"Acme Corp".into()));
    assert_eq!(told["limits"][0]["from"], format!("{file}:6"));
    assert_eq!(told["limits"][1]["from"], format!("{file}:7"));
    assert_eq!((&told["limits"][0]["left"], &told["would_pass"]), (&5.into(), &true.into()));
    // Used up over both gateways.
    let statuses: Vec<u16> =
        (0..8).map(|n| Request::get(scene.ports()[n % 2], "/x").key(KEY).send().unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5, "{statuses:?}");
    let full = || json(&explain(&scene.installation, &line, &["--json"]));
    assert!(wait::until(Duration::from_secs(60), || full()["would_pass"] == false), "{}", full());
    let told = full();
    assert_eq!((&told["limits"][0]["used"], &told["limits"][0]["left"]), (&5.into(), &0.into()));
    let wait_ms = told["limits"][0]["wait_ms"].as_u64().unwrap();
    assert!((1..=67_000).contains(&wait_ms), "{wait_ms}");

    let output = explain(&scene.installation, &line, &[]);
    let shown = text(&output);
    assert!(output.status.success() && !shown.contains(KEY), "{shown}");
    for words in ["Acme Corp [acme], tier basic", "refused with 429: 5 requests/minute is used up; room in"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // What is over a soft limit passes up to its ceiling: here one more.
    let soft = || json(&explain(&scene.installation, "soft-key", &["--json"]))["now"].to_string();
    let ask = || Request::get(scene.port(), "/x").key("soft-key").send().unwrap().status;
    assert_eq!([ask(), ask()], [200, 200]);
    assert!(wait::until(Duration::from_secs(60), || soft().contains("passes as OVER")), "{}", soft());
    assert_eq!([ask(), ask()], [200, 429]);
    assert!(wait::until(Duration::from_secs(60), || soft().contains("refused with 429")), "{}", soft());
    assert!(soft().contains("up to 150 % of it pass as OVER"), "{}", soft());
    let post =
        json(&explain(&scene.installation, &line, &["--json", "--method", "POST", "--endpoint", "/orders"]));
    assert_eq!(post["limits"][2]["from"], format!("{file}:11"), "{post}");
}

#[test]
fn explain_tells_apart_unknown_callers_dry_runs_and_what_cannot_be_seen() {
    let redis = Redis::start().unwrap();
    let scene = scene(&redis);
    let none = json(&explain(&scene.installation, "", &["--json"]));
    assert_eq!(
        (&none["client"], &none["note"]),
        (&"anonymous".into(), &"the caller showed no API key".into())
    );
    let wrong = explain(&scene.installation, "canary-wrong", &[]);
    assert!(text(&wrong).contains("an API key that no client has") && !text(&wrong).contains("canary"));
    let dry = json(&explain(&scene.installation, "", &["--json", "--client", "dry"]));
    assert_eq!((&dry["client"], &dry["would_pass"]), (&"dry".into(), &true.into()));
    let installation = scene.installation.clone();
    drop(redis);
    let blind = explain(&installation, KEY, &[]);
    assert!(blind.status.success(), "{}", text(&blind));
    assert!(text(&blind).contains("left      not known: Redis cannot be asked"), "{}", text(&blind));
    fs::write(installation.policy(), "[tiers.x]\nlimits = [\"5 reqests/minute\"]\n").unwrap();
    let broken = explain(&installation, KEY, &[]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken).contains("2:11: tiers.x.limits[0]"), "{}", text(&broken));
}

#[test]
fn top_is_one_plain_table_when_piped() {
    let redis = Redis::start().unwrap();
    let scene = scene(&redis);
    let warm = || Request::get(scene.port(), "/x").key(KEY).send().unwrap();
    warm();
    let mut top = scene.installation.command(&["top", "--every", "2", "--by", "refusals"]).unwrap();
    let child = top.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    load::run(scene.plan(KEY, 100.0, 4.0));
    let output = child.wait_with_output().unwrap();
    let shown = text(&output);
    assert!(output.status.success(), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("CLIENT") && lines[0].contains("REFUSED/S"), "{shown}");
    assert!(lines[1].starts_with("acme") && lines[1].contains("basic"), "{shown}");
    assert!(!shown.contains('\u{1b}') && lines.len() == 2, "no terminal, no escapes: {shown}");
    let nobody = scene.installation.run(&["top", "--gateway", "http://127.0.0.1:1/x"]).unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        text(&nobody).contains("no gateway answers: http://127.0.0.1:1/x cannot be asked"),
        "{}",
        text(&nobody)
    );
    let odd = scene.installation.run(&["top", "--gateway", "file:///etc/passwd"]).unwrap();
    assert!(text(&odd).contains("is none of a gateway"), "{}", text(&odd));
}

#[test]
fn nobody_is_followed_to_another_address() {
    let moved = ports::free();
    let server = format!("server {{ listen 127.0.0.1:{moved}; return 302 http://127.0.0.1:1/; }}");
    let plot = Plot::new(&policy()).options(move |options| options.http(&server));
    let scene = plot.start().unwrap();
    let url = format!("http://127.0.0.1:{moved}/weir/metrics");
    let told = text(&scene.installation.run(&["top", "--gateway", &url]).unwrap());
    assert!(told.contains("it answered 302 Found"), "{told}");
}

#[test]
fn doctor_finds_nothing_wrong_with_a_healthy_installation() {
    let redis = Redis::start().unwrap();
    let scene = scene(&redis);
    for _ in 0..5 {
        Request::get(scene.port(), "/x").key("canary-lost").send().unwrap();
    }
    // The last of them may still be on its way into the figures.
    let seen = || json(&scene.installation.run(&["doctor", "--json"]).unwrap());
    let all = || seen()["unknown"][0]["requests"] == 5;
    assert!(wait::until(Duration::from_secs(60), all), "{}", seen());
    let output = scene.installation.run(&["doctor"]).unwrap();
    let shown = text(&output);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("2 gateways seen in the last minute") && !shown.contains("WRONG"), "{shown}");
    assert!(shown.contains(&key_hash("canary-lost")) && !shown.contains("canary-lost"), "{shown}");
}

#[test]
fn doctor_names_what_is_wrong_and_what_to_do() {
    let redis = Redis::start().unwrap();
    let scene = scene(&redis);
    redis.command(&["CONFIG", "SET", "maxmemory", "100mb"]).unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    let password = scene.installation.dir().join("password");
    fs::write(&password, "hunter2-canary").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    let gone = ports::free();
    let urls: Vec<String> = scene
        .ports()
        .into_iter()
        .chain([gone])
        .map(|port| format!("http://127.0.0.1:{port}/weir/metrics"))
        .collect();
    let mut arguments = vec!["doctor"];
    urls.iter().for_each(|url| arguments.extend(["--gateway", url]));
    // One gateway has another policy in force than the other.
    let other = scene.installation.dir().join("other.toml");
    fs::write(&other, policy() + "[clients.new]\n").unwrap();
    let text_of = fs::read_to_string(scene.gateways[1].nginx.dir().join("nginx.conf")).unwrap();
    let named = scene.installation.policy().display().to_string();
    let changed = text_of.replace(&named, &other.display().to_string());
    fs::write(scene.gateways[1].nginx.dir().join("nginx.conf"), changed).unwrap();
    scene.gateways[1].nginx.reload().unwrap();
    let output = scene.installation.run(&arguments).unwrap();
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    for words in [
        "maxmemory-policy is allkeys-lru: counters in use may be evicted",
        "CONFIG SET maxmemory-policy noeviction",
        &format!("http://127.0.0.1:{gone}/weir/metrics cannot be asked"),
        "gateways have different policies in force",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // A password that others can read, a Redis that is away.
    let more = format!("[redis]\nurl = \"redis://127.0.0.1:{gone}\"\npassword_file = {password:?}\n");
    let alone = Installation::new(&scene.installation.dir().join("alone"), 1).unwrap().more(&more);
    let shown = text(&alone.run(&["doctor"]).unwrap());
    for words in [
        "can be read by everybody on this machine",
        "chmod o-rwx",
        "Redis cannot be asked",
        "policy.toml can't be read",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn top_is_live_on_a_terminal() {
    let redis = Redis::start().unwrap();
    let scene = scene(&redis);
    let top = scene.installation.command(&["top", "--every", "1"]).unwrap();
    let words: Vec<String> = std::iter::once(top.get_program())
        .chain(top.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    // `script` gives it a terminal, and ends it when the pipe that it reads from is closed.
    // A shell starts what is in the background with Ctrl-C ignored: `env` takes that back.
    let mut script = Command::new("env");
    script.args([
        "--default-signal=INT",
        "script",
        "--quiet",
        "--flush",
        "--return",
        "--command",
        &words.join(" "),
        "/dev/null",
    ]);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (seen, mut out) = (Arc::new(Mutex::new(String::new())), child.stdout.take().unwrap());
    let shown = Arc::clone(&seen);
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = out.read(&mut bytes) {
            shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    });
    let screens = || seen.lock().unwrap().matches("\u{1b}[H\u{1b}[2Jweir top: 2 gateways").count();
    let live = || {
        Request::get(scene.port(), "/x").key(KEY).send().unwrap();
        screens() >= 3 && seen.lock().unwrap().contains("acme")
    };
    assert!(wait::until(Duration::from_secs(60), live), "{:?}", seen.lock().unwrap());
    // Ctrl-C, as a person would.
    child.stdin.take().unwrap().write_all(b"\x03").unwrap();
    let ended = wait::until(Duration::from_secs(60), || child.try_wait().unwrap().is_some());
    let _ = child.kill();
    assert!(ended, "Ctrl-C ends it");
    reader.join().unwrap();
}

#[test]
fn doctor_sees_a_full_zone_lost_records_and_a_clock_that_is_off() {
    let mut clients = policy();
    for n in 0..800 {
        clients += &format!("[clients.c{n}]\nkeys = [\"{}\"]\n", key_hash(&format!("k{n}")));
    }
    // What it says of its clock arrives as a time of long ago.
    let ahead = ports::free();
    let mut scene = Plot::new(&clients)
        .options(move |options| {
            options.http(&format!(
                "server {{ listen 127.0.0.1:{ahead}; location / {{ weir_metrics; \
                 sub_filter_types application/json; sub_filter '\"time_us\":1' '\"time_us\":2'; }} }}"
            ))
        })
        .start()
        .unwrap();
    let config = scene.gateways[0].nginx.dir().join("nginx.conf");
    let small = fs::read_to_string(&config).unwrap().replace("weir_zone 16m;", "weir_zone 256k;");
    fs::write(&config, small).unwrap();
    scene.gateways[0].nginx.reload().unwrap();
    let url = format!("http://127.0.0.1:{}/weir/metrics", scene.port());
    scene.installation = scene.installation.clone().more(&format!("[gateways]\nmetrics = [{url:?}]\n"));
    let ask = |n: usize| Request::get(scene.port(), "/x").key(&format!("k{n}")).send().unwrap().status;
    let told = |arguments: &[&str]| text(&scene.installation.run(arguments).unwrap());
    assert_eq!(ask(0), 200);
    assert!(!told(&["doctor"]).contains("the zone is full"));
    assert!((1..800).all(|n| ask(n) == 200), "nobody is refused for want of room");
    let full = || told(&["doctor"]).contains("the zone is full");
    assert!(wait::until(Duration::from_secs(20), full), "{}", told(&["doctor"]));
    assert!(told(&["doctor"]).contains("raise weir_zone"));

    // A worker that starts where others may write keeps no books.
    let spool = scene.installation.spool(0);
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o777)).unwrap();
    scene.gateways[0].nginx.kill_worker().unwrap();
    let lost = || {
        let _ = Request::get(scene.port(), "/x").key("k1").send();
        told(&["doctor"]).contains(" records were lost")
    };
    assert!(wait::until(Duration::from_secs(30), lost), "{}", told(&["doctor"]));
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o700)).unwrap();

    let off = told(&["doctor", "--gateway", &format!("http://127.0.0.1:{ahead}/")]);
    assert!(off.contains("and that of this machine differ by") && off.contains("run NTP"), "{off}");
}

#[test]
fn findings_tell_who_reached_a_limit() {
    let limits = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"10 requests/hour\"]\n";
    let clients = ["busy", "calm"].map(|id| format!("[clients.{id}]\nkeys = [\"{}\"]\n", key_hash(id)));
    let mut scene = Plot::new(&(limits.to_owned() + &clients.concat())).start().unwrap();
    for (key, count) in [("busy", 14), ("calm", 2)] {
        for _ in 0..count {
            Request::get(scene.port(), "/x").key(key).send().unwrap();
        }
    }
    scene.close();
    scene.installation.ok(&["tick"]).unwrap();
    let all = scene.installation.json(&["findings", "--json"]).unwrap();
    let found = all["findings"].as_array().unwrap();
    assert!(!found.is_empty() && found.iter().all(|f| f["client"] == "busy"), "{all}");
    let whole = found.iter().find(|f| f["kind"] == "quota_exhausted").unwrap();
    let figure = |name: &str| {
        let figures = whole["figures"].as_array().unwrap();
        figures.iter().find(|f| f["name"] == name).and_then(|f| f["value"].as_f64())
    };
    assert_eq!((figure("threshold"), figure("refused")), (Some(100.0), Some(4.0)), "{all}");
    let file = scene.installation.policy().with_file_name("findings.parquet");
    let said = scene.installation.ok(&["findings", "--parquet", file.to_str().unwrap()]).unwrap();
    assert!(said.contains(&format!("{} findings written to", found.len())), "{said}");
    let bytes = fs::read(file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let lines = scene.installation.ok(&["findings"]).unwrap();
    assert!(lines.contains("busy: 100 % of 10 requests/hour reached, 4 refused"), "{lines}");
    let calm = scene.installation.ok(&["findings", "--client", "calm"]).unwrap();
    assert!(calm.contains("nothing found in 7 days"), "{calm}");
}

/// Whoever misspells a name, or has not set something up, is told what was looked for and the way out.
#[test]
fn what_is_not_there_is_named_with_the_way_out() {
    let dir = weir_testbed::temp_dir();
    let installation = Installation::new(dir.path(), 1).unwrap();
    fs::write(installation.policy(), policy()).unwrap();
    let away = format!("redis://127.0.0.1:{}", ports::free());
    for (installation, arguments, wanted) in [
        (&installation, "check nowhere.toml", ["nowhere.toml: No such file", "name a policy file"]),
        (&installation, "apply nowhere.toml", ["nowhere.toml: No such file", "name a policy file"]),
        (&installation, "cat nowhere", ["nowhere: ", "a file that ends in .weir"]),
        (&installation, "cat policy.toml", ["policy.toml: ", "name a spool"]),
        (&installation, "tail nowhere", ["nowhere does not exist", "install -d"]),
        (&installation, "import nowhere", ["nowhere", "No such file"]),
        (&installation, "history", ["[redis] url is not set", "set it to the Redis"]),
        (&installation, "key new --client nobody --add", ["\"nobody\"", "see `weir client list`"]),
        (&installation, "key revoke sha256:99", ["\"sha256:99\"", "see `weir client show`"]),
        (&installation, "client show nobody", ["\"nobody\"", "see `weir client list`"]),
        (&installation, "client import nowhere.csv", ["nowhere.csv: No such file", "name a CSV file"]),
        (&installation, "portal show nobody", ["\"nobody\"", "see `weir client list`"]),
        (&installation, "forecast --client nobody", ["\"nobody\"", "see `weir client list`"]),
        (&installation, "explain --client nobody", ["\"nobody\"", "see `weir client list`"]),
        (&installation, "top", ["no gateway to ask", "set [gateways] metrics"]),
        (&installation, "top --gateway nowhere", ["none of a gateway", "write it like http://"]),
        (&installation, "doctor --gateway nowhere", ["none of a gateway", "write it like http://"]),
        (&installation.clone().redis(&away), "history", ["can't connect to", "correct [redis] in weir.toml"]),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let said = text(&installation.run(&arguments).unwrap());
        assert!(wanted.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    }
}
