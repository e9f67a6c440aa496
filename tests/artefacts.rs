//! What must not be in anything that weir writes: API keys, and one client in the files of another.

// It kills a real process at moments of its choice.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};

use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::smtp::{PASSWORD, Smtp, USER};

/// Keys that occur nowhere but in requests.
const KEYS: [&str; 3] = ["canary-key-one-7f3a", "canary-key-two-9b1c", "canary-key-six-2d4e"];

fn policy() -> String {
    let client = |n: usize| {
        format!(
            "[clients.canary-id-{n}x]\nname = \"Canary Name {n}x\"\nkeys = [\"{}\"]\n\
             contacts = [\"canary-contact-{n}x@example.com\"]\n",
            key_hash(KEYS[n])
        )
    };
    let clients: String = (0..KEYS.len()).map(client).collect();
    format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"20 requests/hour\"]\n{clients}\
         [alerts]\nto = [\"platform@example.com\"]\nthresholds = [80, 100]\n"
    )
}

/// Three clients, each with an endpoint of its own, and everything that follows.
fn scene(change: impl FnOnce(&mut Scene)) -> Scene {
    let endpoints = Plot::new(&policy()).options(|options| options.location("weir_endpoint $uri;"));
    let mut scene = endpoints.start().unwrap();
    for (n, key) in KEYS.iter().enumerate() {
        for _ in 0..25 {
            Request::get(scene.port(), &format!("/canary-endpoint-{n}x")).key(key).send().unwrap();
        }
    }
    scene.close();
    change(&mut scene);
    scene.installation.ok(&["tick"]).unwrap();
    scene
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn has(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[test]
fn no_file_of_a_portal_holds_anything_of_another_client() {
    let scene = scene(|_| {});
    for n in 0..KEYS.len() {
        let directory = scene.installation.ok(&["portal", "show", &format!("canary-id-{n}x")]).unwrap();
        let own = files(&scene.installation.portal().join(directory.trim()));
        // Names in compressed columns are looked for in analytics/src/cube.rs; the statistics of a
        // column and everything else are plain.
        let holds = |needle: &str| own.iter().any(|file| has(&fs::read(file).unwrap(), needle));
        assert!(own.len() >= 12, "{own:?}");
        assert!(holds(&format!("Canary Name {n}x")) && holds(&format!("/canary-endpoint-{n}x")));
        for other in (0..KEYS.len()).filter(|other| *other != n) {
            for what in ["id-", "Name ", "contact-", "endpoint-"] {
                assert!(!holds(&format!("{what}{other}x")), "client {n} sees client {other}");
            }
        }
    }
    let parquet = files(&scene.installation.portal())
        .into_iter()
        .filter(|f| f.extension().is_some_and(|e| e == "parquet"));
    assert_eq!(parquet.count(), 2 * KEYS.len());
}

#[test]
fn an_api_key_is_in_no_page_file_name_log_mail_or_data_file() {
    let smtp = Smtp::start().unwrap();
    let scene = scene(|scene| {
        let password = scene.installation.dir().join("smtp-password");
        fs::write(&password, PASSWORD).unwrap();
        let url = format!("smtp://{USER}@localhost:{}", smtp.port());
        let with_mail = scene.installation.clone().mail(&url).password_file(&password);
        scene.installation = with_mail.ca_file(smtp.ca().unwrap());
    });
    let root = scene.installation.dir().to_owned();
    let logs: Vec<String> = scene.gateways.iter().map(|gateway| gateway.nginx.error_log()).collect();
    let mails = smtp.mails().unwrap();
    assert!(mails.len() >= 2 * KEYS.len(), "each client is told, and the team of each");
    for key in KEYS {
        for file in files(&root) {
            assert!(!has(file.to_string_lossy().as_bytes(), key), "{file:?} is named after a key");
            assert!(!has(&fs::read(&file).unwrap(), key), "{file:?} holds a key");
        }
        assert!(logs.iter().all(|log| !log.contains(key)));
        assert!(mails.iter().all(|mail| !format!("{mail:?}").contains(key)));
    }
}

/// The pages that there are, complete as a reader finds them.
fn assert_complete(scene: &Scene) {
    for (dir, least) in [(scene.installation.site(), 12), (scene.installation.portal(), 12 * KEYS.len())] {
        let all = files(&dir);
        assert!(all.len() >= least, "{dir:?} is half there: {all:?}");
        let is_whole = |file: &PathBuf| fs::read_to_string(file).unwrap().trim_end().ends_with("</html>");
        assert!(all.iter().filter(|f| f.extension().is_some_and(|e| e == "html")).all(is_whole));
    }
}

#[test]
fn whoever_kills_a_rendering_finds_the_pages_of_before_or_the_new_ones() {
    let scene = scene(|_| {});
    assert_complete(&scene);
    for round in 0..12u32 {
        let mut child = scene.installation.spawn(&["render"]).unwrap();
        // From its first moment to its last, whichever it has reached by then.
        std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * 40));
        let _ = child.kill();
        child.wait().unwrap();
        assert_complete(&scene);
    }
    scene.installation.ok(&["render"]).unwrap();
    assert_complete(&scene);
    let left = fs::read_dir(scene.installation.dir()).unwrap().flatten();
    let half = left.filter(|entry| entry.file_name().to_string_lossy().ends_with(".new")).count();
    assert_eq!(half, 0, "what was killed half-way is cleared");
}
