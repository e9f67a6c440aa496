//! The books in S3 and in Azure: many writers of one name, answers that are lost, and stores that
//! can't be used.

// It waits for real processes.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weir_testbed::azure::Azure;
use weir_testbed::gateway::key_hash;
use weir_testbed::proxy::Proxy;
use weir_testbed::s3::S3;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::weir::Installation;
use weir_testbed::{TempDir, load, temp_dir, wait};

const KEY: &str = "only-key";
const REQUESTS: i64 = 200;
const MACHINES: usize = 6;

/// Gateways that have ended, and the records of what they did.
fn closed_scene() -> Scene {
    let tier = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"100000 requests/minute\"]\n";
    let policy = format!("{tier}[clients.acme]\nkeys = [\"{}\"]\n", key_hash(KEY));
    let mut scene = Plot::new(&policy).start().unwrap();
    assert!(load::run(scene.plan(KEY, REQUESTS as f64, 1.0)).iter().all(|s| s.status == 200));
    scene.close();
    scene
}

fn in_azure(scene: &Scene, container: &str, port: u16) -> Installation {
    let installation = scene.installation.clone().storage(&format!("az://{container}/pre/fix"));
    let url = format!("http://127.0.0.1:{port}");
    installation
        .environment("AZURE_STORAGE_USE_EMULATOR", "true")
        .environment("AZURITE_BLOB_STORAGE_URL", &url)
}

fn in_s3(scene: &Scene, bucket: &str, port: u16) -> Installation {
    let installation = scene.installation.clone().storage(&format!("s3://{bucket}/pre/fix"));
    installation
        .environment("AWS_ENDPOINT", &format!("http://127.0.0.1:{port}"))
        .environment("AWS_ALLOW_HTTP", "true")
        .environment("AWS_REGION", "us-east-1")
        .environment("AWS_ACCESS_KEY_ID", "test")
        .environment("AWS_SECRET_ACCESS_KEY", "test")
}

/// Starts a tick as on a machine of its own, which shares no lock with another: all of them write the
/// same names, and of each name exactly one may win.
fn tick_elsewhere(installation: &Installation) -> (Child, TempDir) {
    let dir = temp_dir();
    let mut command: Command = installation.command(&["tick"]).unwrap();
    let config: PathBuf = dir.path().join("weir.toml");
    fs::copy(installation.dir().join("weir.toml"), &config).unwrap();
    command.args(["-c".as_ref(), config.as_os_str()]).stdout(Stdio::null()).stderr(Stdio::piped());
    (command.spawn().unwrap(), dir)
}

fn booked_once(installation: &Installation) {
    for grain in ["minute", "month"] {
        assert_eq!(installation.usage(grain).unwrap().requests(), REQUESTS, "{grain}");
    }
    let audit = installation.json(&["audit", "--json"]).unwrap();
    assert_eq!((&audit["records"], &audit["breaches"]), (&REQUESTS.into(), &serde_json::json!([])));
}

fn many_writers(installation: &Installation) {
    let ticks: Vec<(Child, TempDir)> = (0..MACHINES).map(|_| tick_elsewhere(installation)).collect();
    for (tick, _dir) in ticks {
        let output = tick.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("panicked"), "{said}");
    }
    booked_once(installation);
    installation.ok(&["tick"]).unwrap();
    booked_once(installation);
}

/// A store that did what it was asked for, and whose answer never came: nothing is lost by it and
/// nothing doubled.
fn lost_answers(installation: &Installation, proxy: &Proxy) {
    // Let the first requests through, so that it is the middle of the work that goes unanswered.
    let connections = proxy.accepted();
    let mut tick = installation.spawn(&["tick"]).unwrap();
    assert!(wait::until(Duration::from_secs(60), || proxy.accepted() > connections), "it never asked");
    proxy.lose_answers();
    wait::pass(Duration::from_millis(1_500));
    tick.kill().unwrap();
    tick.wait().unwrap();
    proxy.mend();
    installation.ok(&["tick"]).unwrap();
    booked_once(installation);
}

#[test]
fn of_many_writers_to_s3_one_wins_each_name() {
    let (scene, s3) = (closed_scene(), S3::start("books").unwrap());
    many_writers(&in_s3(&scene, "books", s3.port()));
}

#[test]
fn of_many_writers_to_azure_one_wins_each_name() {
    let (scene, azure) = (closed_scene(), Azure::start("books").unwrap());
    many_writers(&in_azure(&scene, "books", azure.port()));
}

#[test]
fn what_s3_did_without_an_answer_is_done_once() {
    let (scene, s3) = (closed_scene(), S3::start("books").unwrap());
    let proxy = Proxy::to(s3.port()).unwrap();
    lost_answers(&in_s3(&scene, "books", proxy.port()), &proxy);
}

#[test]
fn what_azure_did_without_an_answer_is_done_once() {
    let (scene, azure) = (closed_scene(), Azure::start("books").unwrap());
    let proxy = Proxy::to(azure.port()).unwrap();
    lost_answers(&in_azure(&scene, "books", proxy.port()), &proxy);
}

fn in_s3_behind(proxy: &Proxy, scene: &Scene) -> Installation {
    in_s3(scene, "books", proxy.port()).environment("AWS_SECRET_ACCESS_KEY", "the-secret")
}

fn s3_error(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>")
}

/// It is asked again, later and later, and the tick does not even fail.
#[test]
fn an_s3_that_asks_to_slow_down_is_waited_for() {
    let (scene, s3) = (closed_scene(), S3::start("books").unwrap());
    let proxy = Proxy::to(s3.port()).unwrap();
    let installation = in_s3_behind(&proxy, &scene);
    // At its first request, and in the middle of the work.
    for (after, status, code) in [(0, "503 Slow Down", "SlowDown"), (9, "500 Internal", "InternalError")] {
        proxy.answer(after, 3, status, &s3_error(code));
        installation.ok(&["tick"]).unwrap();
        assert_eq!(proxy.answered(), 3);
        booked_once(&installation);
    }
}

/// Credentials that expired, and a clock that is off: nothing is deleted, and the tick says where to look.
#[test]
fn while_s3_does_not_know_us_nothing_is_deleted() {
    let (scene, s3) = (closed_scene(), S3::start("books").unwrap());
    let proxy = Proxy::to(s3.port()).unwrap();
    let installation = in_s3_behind(&proxy, &scene);
    let spool = || fs::read_dir(scene.installation.spool(0)).unwrap().count();
    let before = spool();
    for (status, code) in [("400 Bad Request", "ExpiredToken"), ("403 Forbidden", "RequestTimeTooSkewed")] {
        proxy.answer(0, usize::MAX, status, &s3_error(code));
        let output = installation.run(&["tick"]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("credentials") && said.contains(code), "{said}");
        assert!(!said.contains("the-secret") && !said.contains("panicked"), "{said}");
        assert_eq!(spool(), before);
    }
    // They expire while a tick is at work: it fails, and what was stored is stored.
    proxy.answer(9, usize::MAX, "400 Bad Request", &s3_error("ExpiredToken"));
    let output = installation.run(&["tick"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("ExpiredToken"), "{said}");
    proxy.mend();
    installation.ok(&["tick"]).unwrap();
    booked_once(&installation);
}

/// S3 lists a thousand keys at a time: what counts is behind them.
#[test]
fn what_s3_lists_on_a_second_page_counts() {
    let (scene, s3) = (closed_scene(), S3::start("books").unwrap());
    let installation = in_s3(&scene, "books", s3.port());
    for folder in ["parts", "records"] {
        for n in 0..1_100 {
            s3.put(&format!("pre/fix/{folder}/date=2000-01-01/hour=00/not-{n:04}.ours"), "x").unwrap();
        }
    }
    installation.ok(&["tick"]).unwrap();
    booked_once(&installation);
    installation.ok(&["rollup", "--rebuild"]).unwrap();
    booked_once(&installation);
}

#[test]
fn a_store_that_cannot_be_used_is_told_by_its_url_and_without_secrets() {
    let dir = temp_dir();
    let installation = Installation::new(dir.path(), 1).unwrap();
    let azure = Azure::start("books").unwrap();
    let told = |installation: Installation| {
        let output = installation.run(&["tick"]).unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let emulator = |url: &str| {
        let installation =
            installation.clone().storage(url).environment("AZURE_STORAGE_USE_EMULATOR", "true");
        installation.environment("AZURITE_BLOB_STORAGE_URL", &format!("http://127.0.0.1:{}", azure.port()))
    };
    let absent = told(emulator("az://elsewhere"));
    assert!(
        absent.contains("the store az://elsewhere does not exist; make the bucket or container"),
        "{absent}"
    );
    let wrong_key = told(emulator("az://books").environment("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0LWtleQ=="));
    assert!(wrong_key.contains("the store az://books can't be used"), "{wrong_key}");
    assert!(wrong_key.contains("credentials") && !wrong_key.contains("c2VjcmV0LWtleQ"), "{wrong_key}");
    let nameless = told(installation.clone().storage("az://books"));
    assert!(nameless.contains("az://books") && nameless.contains("ccount"), "{nameless}");
    let s3 = S3::start("books").unwrap();
    let proxy = Proxy::to(s3.port()).unwrap();
    let in_bucket = |bucket: &str| {
        let url = format!("http://127.0.0.1:{}", proxy.port());
        let installation = installation.clone().storage(&format!("s3://{bucket}"));
        let installation =
            installation.environment("AWS_ENDPOINT", &url).environment("AWS_ALLOW_HTTP", "true");
        let keys = [("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "test")];
        let installation = keys.iter().fold(installation, |i, (name, value)| i.environment(name, value));
        installation.environment("AWS_SECRET_ACCESS_KEY", "the-secret")
    };
    let absent = told(in_bucket("elsewhere"));
    assert!(absent.contains("the store s3://elsewhere does not exist; make the bucket"), "{absent}");
    proxy.answer(0, usize::MAX, "301 Moved Permanently", &s3_error("PermanentRedirect"));
    let far = told(in_bucket("books"));
    assert!(far.contains("s3://books") && far.contains("region") && !far.contains("the-secret"), "{far}");
    // A key that is none is refused before anything is sent.
    let google =
        installation.storage("gs://books").environment("GOOGLE_SERVICE_ACCOUNT_KEY", "{\"secret\": 7}");
    let keyless = told(google);
    assert!(keyless.contains("gs://books") && !keyless.contains("secret"), "{keyless}");
}
