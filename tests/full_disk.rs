//! The disk of a local store is full: nothing is lost, nothing is half there, and it ends with room.

// It runs itself again where mounting is not allowed.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use weir_testbed::gateway::key_hash;
use weir_testbed::load;
use weir_testbed::scene::Plot;
use weir_testbed::{TempDir, temp_dir};

const KEY: &str = "only-key";
const REQUESTS: i64 = 500;
const TEST: &str = "on_a_full_disk_a_tick_fails_whole_and_the_next_one_catches_up";
/// Set in the process that may mount.
const UNSHARED: &str = "WEIR_TEST_UNSHARED";

/// A small file system of its own.
struct Small {
    dir: TempDir,
}

impl Small {
    /// Where mounting is not allowed, runs the test in a mount namespace of its own, where it is, and
    /// returns `None`: the work is done.
    fn mount() -> Option<Small> {
        let dir = temp_dir();
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(dir.path()).output().unwrap();
        if output.status.success() {
            return Some(Small { dir });
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(std::env::var_os(UNSHARED).is_none(), "no tmpfs can be mounted here, by any way: {said}");
        let mut again = Command::new("unshare");
        again.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
        let status = again.args(["--exact", TEST]).env(UNSHARED, "1").status().unwrap();
        assert!(status.success(), "no right to mount a tmpfs here ({said}), nor in a namespace: run as root");
        None
    }

    /// Leaves no more than some bytes.
    fn fill(&self, left: u64) {
        let path = self.dir.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        while file.write(&[1; 4096]).is_ok_and(|n| n > 0) {}
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(left)).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

/// Every file below a folder that has this ending.
fn files(dir: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = dirs.iter().flat_map(|dir| self::files(dir, ending));
    files.into_iter().filter(|path| path.to_string_lossy().ends_with(ending)).chain(below).collect()
}

#[test]
fn on_a_full_disk_a_tick_fails_whole_and_the_next_one_catches_up() {
    let Some(small) = Small::mount() else { return };
    let tier = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"100000 requests/minute\"]\n";
    let policy = format!("{tier}[clients.acme]\nkeys = [\"{}\"]\n", key_hash(KEY));
    let mut scene = Plot::new(&policy).start().unwrap();
    assert!(load::run(scene.plan(KEY, REQUESTS as f64, 1.0)).iter().all(|s| s.status == 200));
    scene.close();
    let store = small.dir.path().join("store");
    let installation = scene.installation.clone().storage(&store.to_string_lossy());
    let segments = files(&installation.spool(0), "").len();
    // From no room at all to room for a part and not for what follows.
    for left in [0, 8 << 10, 16 << 10, 24 << 10, 32 << 10] {
        small.fill(left);
        let output = installation.run(&["tick"]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{said}");
        if !output.status.success() {
            assert!(said.contains("No space left on device"), "{left}: {said}");
        }
        for path in files(&store, ".parquet") {
            let bytes = fs::read(&path).unwrap();
            assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "half of {}", path.display());
        }
        let records = !files(&store.join("records"), ".parquet").is_empty();
        assert!(records || files(&installation.spool(0), "").len() == segments, "{left}: {said}");
        assert!(left > 0 || !output.status.success(), "there was no room at all");
    }
    fs::remove_file(small.dir.path().join("ballast")).unwrap();
    installation.ok(&["tick"]).unwrap();
    for grain in ["minute", "month"] {
        assert_eq!(installation.usage(grain).unwrap().requests(), REQUESTS);
    }
    let audit = installation.json(&["audit", "--json"]).unwrap();
    assert_eq!((&audit["records"], &audit["breaches"]), (&REQUESTS.into(), &serde_json::json!([])));
}
