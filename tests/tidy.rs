//! What a program can check of the house: which way the arrows point, and a few rules of taste.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Package name -> names of the packages it needs in ordinary builds, directly or not.
struct Graph {
    needs: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read() -> Graph {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
            .arg(root().join("Cargo.toml"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let is_ordinary = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null());
        let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let deps = list(&node["deps"]);
            let deps = deps.iter().filter(|d| is_ordinary(d)).map(|d| names[&text(&d["pkg"])].clone());
            needs.entry(names[&text(&node["id"])].clone()).or_default().extend(deps);
        }
        Graph { needs }
    }

    fn all_of(&self, package: &str) -> BTreeSet<&str> {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![package]);
        while let Some(name) = todo.pop() {
            for next in self.needs.get(name).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    todo.push(next);
                }
            }
        }
        seen
    }
}

/// Each room and all the rooms it may stand on, directly or not (ARCHITECTURE.md, "Rooms").
const MAY_USE: [(&str, &[&str]); 8] = [
    ("weir-limiter", &[]),
    ("weir-metering", &[]),
    ("weir-policy", &["weir-limiter"]),
    ("weir-redis-link", &["weir-limiter", "weir-policy"]),
    ("weir-gateway", &["weir-limiter", "weir-policy", "weir-metering", "weir-redis-link"]),
    (
        "ngx_http_weir_module",
        &["weir-gateway", "weir-limiter", "weir-policy", "weir-metering", "weir-redis-link"],
    ),
    ("weir-analytics", &["weir-limiter", "weir-policy", "weir-metering"]),
    ("weir-reports", &["weir-analytics", "weir-limiter", "weir-policy", "weir-metering"]),
];

/// What must not reach a room, whoever brings it.
const MUST_NOT_KNOW: [(&str, &[&str]); 6] = [
    ("weir-limiter", &["tokio", "redis", "ngx", "libc", "rustix"]),
    ("weir-policy", &["redis", "ngx", "tokio"]),
    ("weir-metering", &["arrow", "ngx", "tokio"]),
    ("weir-redis-link", &["ngx", "arrow", "polars"]),
    (
        "ngx_http_weir_module",
        &["arrow", "arrow-array", "polars", "polars-core", "parquet", "lettre", "object_store"],
    ),
    ("weir-analytics", &["lettre", "askama", "ngx", "redis"]),
];

#[test]
fn the_arrows_between_the_rooms_point_one_way() {
    let graph = Graph::read();
    for (room, allowed) in MAY_USE {
        let ours = graph.all_of(room).into_iter().filter(|n| graph.needs.contains_key(*n));
        for other in ours.filter(|n| n.starts_with("weir-") || *n == "ngx_http_weir_module") {
            assert!(
                allowed.contains(&other),
                "{room} must not stand on {other}: see ARCHITECTURE.md, \"Rooms\""
            );
        }
    }
}

#[test]
fn no_room_learns_what_it_must_not_know() {
    let graph = Graph::read();
    for (room, banned) in MUST_NOT_KNOW {
        let all = graph.all_of(room);
        assert!(!all.is_empty() || room == "weir-limiter", "{room} is not in the workspace any more");
        for name in banned {
            assert!(
                !all.contains(name),
                "{name} has come into {room}: `cargo tree -p {room} -i {name}` shows by whom"
            );
        }
    }
}

/// Every source file below a folder, with its path from the root.
fn sources(endings: &[&str]) -> Vec<(String, String)> {
    let output =
        Command::new("git").arg("-C").arg(root()).args(["ls-files", "-co", "--exclude-standard"]).output();
    let output = output.expect("git runs");
    assert!(output.status.success(), "this test lists the files by git, in a checkout");
    let listed = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let files = listed.lines().filter(|f| endings.iter().any(|e| f.ends_with(e)));
    let read = |f: &str| Some((f.to_owned(), std::fs::read_to_string(Path::new(&root()).join(f)).ok()?));
    let files: Vec<_> = files.filter_map(read).collect();
    assert!(files.len() > 5, "hardly a file found: {}", files.len());
    files
}

#[test]
fn files_and_functions_stay_short() {
    for (path, text) in sources(&[".rs"]) {
        let lines = text.lines().count();
        assert!(lines <= 600, "{path} has {lines} lines: split it by what it is about");
        for (name, length) in functions(&text) {
            assert!(length <= 70, "{path}: {name} has {length} lines: name its parts");
        }
    }
}

/// (name, lines) of each function, by the indentation that rustfmt gives.
fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    // Name, first line and indentation of the function we are in.
    let mut open: Option<(String, usize, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if let Some((name, start, depth)) = &open {
            if line.trim_start().starts_with('}') && indent == *depth {
                found.push((name.clone(), number - start + 1));
                open = None;
            }
        } else if let Some(at) = line.find("fn ").filter(|_| !line.trim_start().starts_with("//")) {
            let name = line[at + 3..].split(['(', '<']).next().unwrap_or_default().to_owned();
            if !line.trim_end().ends_with([';', '}']) && !name.is_empty() {
                open = Some((name, number, indent));
            }
        }
    }
    found
}

/// Nothing is left unfinished, set aside, or tied to somebody's machine.
#[test]
fn nothing_is_left_unfinished() {
    let bans = [
        (concat!("to", "do!("), "finish it"),
        (concat!("unimple", "mented!("), "finish it"),
        (concat!("#[ig", "nore]"), "a test that does not run is none; say by which test it is run"),
        (concat!("FIX", "ME"), "mend it, or open an issue"),
        (concat!("/ho", "me/"), "no path of one machine"),
        (concat!("/ro", "ot/"), "no path of one machine"),
    ];
    for (path, text) in sources(&[".rs", ".sh", ".html", ".conf", ".toml", "Makefile"]) {
        for (ban, remedy) in bans {
            assert!(!text.contains(ban), "{path} has {ban:?}: {remedy}");
        }
    }
}

/// Pages are escaped by askama; a filter that switches that off needs an eye on it.
#[test]
fn no_template_switches_escaping_off() {
    for (path, text) in sources(&[".html"]) {
        for (number, line) in text.lines().enumerate() {
            assert!(!line.contains("|safe") && !line.contains("| safe"), "{path}:{}: escape it", number + 1);
        }
    }
}

/// The limiter gets time as numbers: a clock read in it could not be simulated.
#[test]
fn the_limiter_reads_no_clock() {
    for (path, text) in sources(&[".rs"]).into_iter().filter(|f| f.0.starts_with("limiter/src/")) {
        for clock in ["Instant::now", "SystemTime::now", "std::time", "std::net", "std::fs"] {
            assert!(!text.contains(clock), "{path} uses {clock}: pass it in");
        }
    }
}

/// tests/README.md names a test for each fault, or says that there is none yet.
#[test]
fn every_fault_has_a_test_that_exists() {
    let table = std::fs::read_to_string(root().join("tests/README.md")).expect("tests/README.md");
    let rows: BTreeMap<usize, &str> = table
        .lines()
        .filter_map(|row| Some((row.strip_prefix("| ")?.split_once(' ')?.0.parse().ok()?, row)))
        .collect();
    for item in (1..=90).chain(99..=108) {
        let row = rows.get(&item).unwrap_or_else(|| panic!("tests/README.md has no row for item {item}"));
        let tests: Vec<_> = row.split('`').filter_map(|word| word.split_once("::")).collect();
        assert!(!tests.is_empty() || row.contains("| not yet: "), "item {item} has no test");
        for (path, name) in tests {
            let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
            let is_there = text.contains(&format!("#[test]\nfn {name}()"))
                || text.contains(&format!("#[test]\n    fn {name}()"));
            assert!(is_there, "item {item}: there is no test {name} in {path}");
        }
    }
}
