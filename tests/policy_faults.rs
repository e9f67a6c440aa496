//! What may befall a policy on its way into a running gateway: the last good one stays in force, the
//! error log says what is wrong and where, and nobody is refused or let through for it.

// It waits for real processes.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use module_common::{KEY, Plan, Site, policy, remaining};
use weir_testbed::gateway::{key_hash, write_policy};
use weir_testbed::http::Request;
use weir_testbed::scene::Plot;
use weir_testbed::{parts, wait};

const PATIENCE: Duration = Duration::from_secs(240);

fn site(limits: &str) -> Site {
    Plan::new(&policy(limits), "location / { weir on; } location = /metrics { weir_metrics; }").start()
}

/// How many policies the gateway could not use so far. `None` while it has no time to answer: it reads
/// a policy where it serves requests, and an unoptimised build needs long for the worst of them.
fn problems(site: &Site) -> Option<u64> {
    let text = Request::get(site.port, "/metrics").send().ok()?.text();
    text.lines().find_map(|line| line.strip_prefix("weir_policy_problems_total "))?.parse().ok()
}

fn put(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Texts that no gateway takes, and how `weir check` begins to say so.
fn broken() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let tables: String = (0..200_000).map(|n| format!("[t{n}]\n")).collect();
    vec![
        ("brackets", "[".repeat(20_000).into_bytes(), "1:"),
        ("a long key", format!("{}b = 1\n", "a.".repeat(200_000)).into_bytes(), "1:16: "),
        ("tables without end", tables.into_bytes(), "1:"),
        ("NUL", b"[tiers.t]\nlimits = [\"5 requests/hour\0\"]\n".to_vec(), "2:27: "),
        ("no UTF-8", b"[tiers.t]\nlimits = [\"5 \xff\"]\n".to_vec(), "2:14: "),
        ("a key twice", b"[tiers.t]\nlimits = []\nlimits = []\n".to_vec(), "3:1: "),
        ("nothing", Vec::new(), "1:1: "),
    ]
}

#[test]
fn a_policy_that_is_no_policy_leaves_the_last_good_one_in_force() {
    let site = site("\"1000 requests/hour\"");
    let path = site.dir().join("policy.toml");
    let workers = site.nginx.workers();
    let mut left = site.remaining("/");
    for (told, (what, bytes, _)) in (1..).zip(broken()) {
        put(&path, &bytes);
        assert!(
            wait::until(PATIENCE, || problems(&site) == Some(told)),
            "{what}: {}",
            site.nginx.error_log()
        );
        left -= 1;
        assert_eq!(site.remaining("/"), left, "{what}");
    }
    // A gigabyte that takes no room on the disk.
    let huge = File::create(path.with_extension("new")).unwrap();
    huge.set_len(1 << 30).unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
    let told = broken().len() as u64 + 1;
    assert!(wait::until(PATIENCE, || problems(&site) == Some(told)), "{}", site.nginx.error_log());
    assert_eq!(site.remaining("/"), left - 1);
    assert_eq!(site.nginx.workers(), workers, "no worker died of it");
    assert!(site.nginx.error_log().contains("stays in force"));
    // What an editor of another system writes is taken.
    let text = policy("\"2000 requests/hour\"").replace('\n', "\r\n");
    put(&path, format!("\u{feff}{text}").as_bytes());
    assert!(wait::until(PATIENCE, || site.remaining("/") > 1_000), "{}", site.nginx.error_log());
    site.assert_quiet();
}

#[test]
fn weir_check_names_the_place_of_each_and_exits_with_1() {
    let dir = weir_testbed::temp_dir();
    let path = dir.path().join("policy.toml");
    let check = || Command::new(parts::weir().unwrap()).arg("check").arg(&path).output().unwrap();
    for (what, bytes, place) in broken() {
        fs::write(&path, bytes).unwrap();
        let output = check();
        assert_eq!(output.status.code(), Some(1), "{what}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wanted = format!("{}:{place}", path.display());
        assert!(said.starts_with(&wanted), "{what}: {}", said.lines().next().unwrap_or_default());
    }
    let odd = [
        ("limits = [\"-5 requests/minute\"]", "limits[0]"),
        ("limits = [\"1.5 requests/minute\"]", "limits[0]"),
        ("limits = [\"5 requests/0 seconds\"]", "limits[0]"),
        ("limits = [\"5 reqests/minute\"]", "did you mean \"requests\"?"),
        ("limts = []", "is not a known key"),
        ("limits = []", "this tier has no limits"),
    ];
    for (line, wanted) in odd {
        fs::write(&path, format!("[tiers.t]\n{line}\n")).unwrap();
        let output = check();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(wanted), "{line}: {said}");
    }
}

#[test]
fn a_file_that_is_written_slowly_vanishes_or_changes_without_end_is_never_half_a_policy() {
    let site = site("\"1000 requests/hour\"");
    let path = site.dir().join("policy.toml");
    let mut left = site.remaining("/");
    let mut same = |what: &str| {
        left -= 1;
        assert_eq!(site.remaining("/"), left, "{what}: {}", site.nginx.error_log());
    };
    // An editor that writes in place stops half-way: what is there ends in the middle of a word.
    let whole = policy("\"2000 requests/hour\"");
    fs::write(&path, &whole[..40]).unwrap();
    assert!(wait::until(PATIENCE, || problems(&site) == Some(1)));
    same("half of it");
    fs::remove_file(&path).unwrap();
    assert!(wait::until(PATIENCE, || problems(&site) == Some(2)));
    same("gone");
    // A directory instead of a file can't be read, whoever one is.
    fs::create_dir(&path).unwrap();
    assert!(wait::until(PATIENCE, || problems(&site) == Some(3)));
    same("a directory");
    fs::remove_dir(&path).unwrap();
    // A link that is turned to another file, as deployments do it.
    let (one, two) = (site.dir().join("one.toml"), site.dir().join("two.toml"));
    fs::write(&one, &whole).unwrap();
    fs::write(&two, policy("\"3000 requests/hour\"")).unwrap();
    symlink(&one, &path).unwrap();
    let amount = || {
        let field = site.get("/").header("RateLimit-Policy").unwrap().to_owned();
        module_common::parameter(&field, "q").unwrap()
    };
    assert!(wait::until(PATIENCE, || amount() == 2_000), "{}", site.nginx.error_log());
    symlink(&two, path.with_extension("new")).unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
    assert!(wait::until(PATIENCE, || amount() == 3_000), "{}", site.nginx.error_log());
    // A thousand changes as fast as they go; the last one counts.
    for n in 0..1_000 {
        write_policy(&path, &policy(&format!("\"{} requests/hour\"", 4_000 + n))).unwrap();
    }
    assert!(wait::until(PATIENCE, || amount() == 4_999), "{}", site.nginx.error_log());
    let taken = site.nginx.error_log().matches("is in force").count();
    assert!(taken < 100, "it was read {taken} times: not for every change");
    assert_eq!(problems(&site), Some(3));
}

#[test]
fn a_limit_that_is_lowered_below_what_was_used_refuses_until_there_is_room() {
    let site = site("\"10 requests/hour\"");
    let path = site.dir().join("policy.toml");
    for left in (5..10).rev() {
        assert_eq!(site.remaining("/"), left);
    }
    write_policy(&path, &policy("\"3 requests/hour\"")).unwrap();
    assert!(wait::until(PATIENCE, || site.get("/").header("RateLimit-Policy").unwrap().contains("q=3;")));
    let refused = site.get("/");
    assert_eq!((refused.status, remaining(&refused)), (429, 0), "nothing is left, and not less than that");
    assert!(refused.text().contains("Acme Corp used 3 of 3 requests/hour"), "{}", refused.text());
    write_policy(&path, &policy("\"100 requests/hour\"")).unwrap();
    assert!(wait::until(PATIENCE, || site.get("/").status == 200));
    // Some may have passed before the lower limit was in force; what was used is not forgotten.
    assert!(site.remaining("/") < 95);
}

#[test]
fn two_gateways_with_different_policies_say_so_in_each_record() {
    let text = |amount: u32| {
        format!(
            "default_tier = \"t\"\n[tiers.t]\nlimits = [\"{amount} requests/hour\"]\n\
             [clients.acme]\nkeys = [\"{}\"]\n",
            key_hash(KEY)
        )
    };
    let dir = weir_testbed::temp_dir();
    let other = dir.path().join("other.toml");
    fs::write(&other, text(200)).unwrap();
    let plot = Plot::new(&text(100)).shared_by(2, "redis://127.0.0.1:1");
    let mut scene = plot
        .each(move |n, mut options| {
            options.redis = None;
            if n == 1 {
                options.policy = other.clone();
            }
            options
        })
        .start()
        .unwrap();
    for port in scene.ports() {
        assert_eq!(Request::get(port, "/").key(KEY).send().unwrap().status, 200);
    }
    scene.close();
    let records = scene.installation.records().unwrap();
    let versions: BTreeSet<String> =
        records.iter().map(|record| record["policy_version"].to_string()).collect();
    assert_eq!((records.len(), versions.len()), (2, 2), "{records:?}");
}

/// Keys are compared as SHA-256 and a wrong one is told by nothing: not by what comes back, and not
/// by how near it is to a right one.
/// The compiled policy that the workers share: the one that meets it makes it anew, and says so once.
#[test]
fn a_damaged_image_is_told_with_its_place_and_made_anew() {
    let with = |amount: u32| {
        format!(
            "default_tier = \"t\"\n[tiers.t]\nlimits = [\"{amount} requests/hour\"]\n\
             [clients.acme]\nkeys = [\"{}\"]\n",
            key_hash("acme-key")
        )
    };
    let scene = Plot::new(&with(5)).start().unwrap();
    let (spool, nginx) = (scene.installation.spool(0), &scene.gateways[0].nginx);
    let image = || {
        let paths = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "image")).last()
    };
    let status = || Request::get(scene.port(), "/orders").key("acme-key").send().map_or(0, |a| a.status);
    write_policy(&scene.installation.policy(), &with(0)).unwrap();
    assert!(wait::until(PATIENCE, || status() == 429 && image().is_some()), "{}", nginx.error_log());
    let image = image().unwrap();
    let good = fs::read(&image).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    // The file that is mapped stays as it is.
    put(&image, &bad);
    nginx.kill_worker().unwrap();
    let line = format!("the compiled policy {} is of no use and is made anew: ", image.display());
    assert!(wait::until(PATIENCE, || nginx.error_log().contains(&line)), "{}", nginx.error_log());
    assert!(wait::until(PATIENCE, || fs::read(&image).is_ok_and(|now| now.len() == good.len() && now != bad)));
    assert!(wait::until(PATIENCE, || status() == 429), "the new worker goes by it");
    assert_eq!(nginx.error_log().matches(&line).count(), 1, "{}", nginx.error_log());
}

#[test]
fn nothing_in_an_answer_tells_how_near_a_key_is_to_a_right_one() {
    let text = policy("\"1000 requests/hour\"") + "[unknown]\naction = \"reject\"\n";
    let site = Plan::new(&text, "location / { weir on; }").start();
    let ask = |key: &str| {
        let mut answer = Request::get(site.port, "/").key(key).send().unwrap();
        answer.headers.retain(|(name, _)| name != "date");
        // The one thing that differs between any two requests.
        let mut body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        body["request_id"].take();
        (answer.status, answer.headers, body)
    };
    let far = ask("x");
    assert_eq!(far.0, 403);
    let near = [&KEY[..KEY.len() - 1], &KEY.to_uppercase(), &format!("{KEY}0"), &"x".repeat(300)];
    for key in near {
        assert_eq!(ask(key), far);
    }
    assert_eq!(site.get("/").status, 200);
}
