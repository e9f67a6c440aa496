//! The books in a store that speaks S3, which may be away.

use std::fs;
use std::path::Path;

use weir_testbed::gateway::key_hash;
use weir_testbed::load;
use weir_testbed::proxy::Proxy;
use weir_testbed::s3::S3;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::weir::Installation;

const KEY: &str = "only-key";

/// Gateways that have served this many requests and ended, and an installation that keeps its books
/// behind this port.
fn closed_scene(requests: usize, port: u16) -> (Scene, Installation) {
    let policy = format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"100000 requests/minute\"]\n\
         [clients.acme]\nkeys = [\"{}\"]\n",
        key_hash(KEY)
    );
    let mut scene = Plot::new(&policy).start().unwrap();
    let samples = load::run(scene.plan(KEY, requests as f64, 1.0));
    assert!(samples.len() == requests && samples.iter().all(|s| s.status == 200));
    scene.close();
    let installation = scene
        .installation
        .clone()
        .storage("s3://books")
        .environment("AWS_ENDPOINT", &format!("http://127.0.0.1:{port}"))
        .environment("AWS_ALLOW_HTTP", "true")
        .environment("AWS_REGION", "us-east-1")
        .environment("AWS_ACCESS_KEY_ID", "test")
        .environment("AWS_SECRET_ACCESS_KEY", "test");
    (scene, installation)
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn the_books_are_the_same_in_s3_and_a_second_tick_changes_nothing() {
    let s3 = S3::start("books").unwrap();
    let (_scene, installation) = closed_scene(300, s3.port());
    installation.ok(&["tick"]).unwrap();
    assert_eq!(installation.usage("minute").unwrap().requests(), 300);
    let keys = s3.keys("").unwrap();
    assert!(keys.iter().any(|key| key.starts_with("records/")), "{keys:?}");
    assert!(keys.iter().any(|key| key.starts_with("usage/grain=minute/")), "{keys:?}");
    installation.ok(&["tick"]).unwrap();
    assert_eq!(installation.usage("minute").unwrap().requests(), 300);
}

#[test]
fn while_s3_is_away_nothing_is_deleted_and_the_next_tick_catches_up() {
    let s3 = S3::start("books").unwrap();
    let proxy = Proxy::to(s3.port()).unwrap();
    let (scene, installation) = closed_scene(200, proxy.port());
    proxy.cut();
    let before = files(&scene.installation.spool(0));
    let output = installation.run(&["tick"]).unwrap();
    assert!(!output.status.success(), "a tick that could not store anything must say so");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(files(&scene.installation.spool(0)), before, "{said}");
    proxy.mend();
    installation.ok(&["tick"]).unwrap();
    assert_eq!(installation.usage("minute").unwrap().requests(), 200);
}
