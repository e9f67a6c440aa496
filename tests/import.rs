//! Input that nobody here made, through the real command: file, books, pages.

use std::collections::BTreeMap;
use std::fs;

use weir_testbed::parts::root;
use weir_testbed::temp_dir;
use weir_testbed::weir::Installation;

/// A page's text without its tags, white space folded.
fn text(html: &str) -> String {
    let visible = html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    visible.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_day_at_nasa_is_on_the_pages_as_it_is_in_the_file() {
    let file = root().join("../shared/data/nasa_http/nasa_19950801.tsv");
    let Ok(lines) = fs::read_to_string(&file) else {
        assert!(option_env!("CI").is_none(), "{} has to be there", file.display());
        println!("not run: {} is not there", file.display());
        return;
    };
    let mut hosts: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines.lines().skip(1) {
        *hosts.entry(line.split('\t').next().unwrap()).or_default() += 1;
    }
    let dir = temp_dir();
    let installation = Installation::new(dir.path(), 1).unwrap();
    fs::write(installation.policy(), "[tiers.basic]\nlimits = [\"100 requests/minute\"]\n").unwrap();
    for step in [&["import", file.to_str().unwrap()][..], &["rollup"], &["render"]] {
        installation.ok(step).unwrap();
    }

    let html = fs::read_to_string(installation.site().join("index.html")).unwrap();
    assert!(html.contains("title=\"482,000,467 B\""), "the bytes to the last are not on the overview");
    let overview = text(&html);
    for told in ["Requests 30,969", "Active clients 2,365", "30,969 records, none missing"] {
        assert!(overview.contains(told), "{told:?} is not on the overview");
    }
    for status in ["200 OK 27,972", "302 Found 355", "304 Not Modified 2,421", "404 Not Found 221"] {
        assert!(overview.contains(status), "{status:?} is not on the overview");
    }
    let portals: Vec<String> = fs::read_dir(installation.portal())
        .unwrap()
        .map(|entry| text(&fs::read_to_string(entry.unwrap().path().join("index.html")).unwrap()))
        .collect();
    assert_eq!(portals.len(), hosts.len());
    let (busiest, requests) = hosts.iter().max_by_key(|(_, n)| **n).unwrap();
    let own = portals.iter().find(|page| page.contains(busiest)).unwrap();
    assert!(own.contains(&format!("{requests} records, none missing")), "{busiest} sent {requests}");
}
