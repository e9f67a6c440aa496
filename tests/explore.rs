//! Filters in the pages, used as people use them, in a real browser.

use std::process::Command;

use serde_json::{Value, json};
use weir_testbed::browser::Visit;
use weir_testbed::{parts, temp_dir};

mod site_common;
use site_common::{HOSTILE_ENDPOINT, Site, assert_clean, explored};

/// The tile that tells what was counted.
const COUNTED: &str = "[data-tile=requests] dd:not(.note)";

fn note(visit: Visit, turn: u32) -> Visit {
    explored(visit, turn).step(json!({ "note": COUNTED }))
}

fn choose(visit: Visit, field: &str, value: &str) -> Visit {
    visit.step(json!({ "choose": [format!("select[name={field}]"), value] }))
}

#[test]
fn filters_change_what_is_shown_and_the_address_and_back_goes_back() {
    let site = Site::make();
    let visit = note(site.page("explore.html"), 1);
    let visit = note(choose(visit, "client", "acme"), 2);
    let visit = note(choose(visit, "count", "rejected"), 3);
    let visit = visit.step(json!({ "run": "location.search" }));
    let visit = note(visit.step(json!({ "back": null })), 4);
    let visit = note(choose(visit, "count", "429"), 5);
    let visit = note(visit.step(json!({ "click": "[data-clear]" })), 6);
    let page = visit.open().unwrap();
    assert_clean(&page, &site.url);
    assert_eq!(page.notes, ["48", "41", "11", "?client=acme&count=rejected", "41", "11", "48"]);
    assert!(page.requests.iter().any(|url| url.ends_with("hour-total.parquet")), "{:?}", page.requests);
}

#[test]
fn an_address_says_it_all_and_every_range_has_its_grain() {
    let site = Site::make();
    for (query, unit) in [
        ("range=24h", "requests per hour"),
        ("range=30d", "requests per day"),
        ("range=365d", "requests per week"),
        ("grain=month", "requests per month"),
    ] {
        let address = format!("explore.html?{query}&client=hostile&compare=previous&tier=t");
        let page = note(site.page(&address), 1).step(json!({ "note": "#x-requests .unit" })).open().unwrap();
        assert_clean(&page, &site.url);
        assert_eq!(page.notes[0], "7", "{query}");
        assert!(page.notes[1].starts_with(unit), "{query}: {:?}", page.notes);
        assert!(page.text.contains("nothing to compare with"), "{query}");
    }
    let none = note(site.page("explore.html?client=nobody"), 1).open().unwrap();
    assert_eq!(none.notes, ["0"]);
    assert!(none.text.contains("Nothing was sent in this range"));
}

#[test]
fn client_and_endpoint_together_are_read_from_the_rows_of_that_client() {
    let site = Site::make();
    let endpoint: String = format!("GET {HOSTILE_ENDPOINT}").bytes().map(|b| format!("%{b:02X}")).collect();
    let page = note(site.page(&format!("explore.html?client=acme&endpoint={endpoint}")), 1)
        .step(json!({ "click": "#x-requests summary" }))
        .step(json!({ "wait": "#x-requests .data tbody tr" }))
        .step(json!({ "note": "#x-requests .data tbody" }))
        .step(json!({ "save": "[data-csv]" }))
        .open()
        .unwrap();
    assert_clean(&page, &site.url);
    assert_eq!(page.notes[0], "41");
    assert!(page.requests.iter().any(|url| url.ends_with("hour-all.parquet")));
    assert!(page.notes[1].ends_with("\t30\t11\t0"), "the table says what the chart does: {:?}", page.notes);
    let saved: Vec<&str> = page.notes[2].lines().collect();
    assert!(saved[0].starts_with("time,client,endpoint,tier,requests"), "{saved:?}");
    assert!(saved[1].contains(",acme,GET <b onmouseover") && saved[1].contains(",41,11,"), "{saved:?}");
}

#[test]
fn a_portal_explores_its_own_data_and_exports_it() {
    let site = Site::make();
    let page = note(site.portal("acme", "explore.html"), 1).count("select[name=client]").open().unwrap();
    assert_clean(&page, &site.portals);
    assert_eq!((page.notes[0].as_str(), page.count["select[name=client]"]), ("41", 0));
    let month = site
        .portal("acme", "month.html")
        .step(json!({ "save": "a[href$=csv]" }))
        .step(json!({ "save": "a[href$=json]" }))
        .open()
        .unwrap();
    assert!(month.text.contains("41") && month.text.contains("Acme Corp"));
    assert!(month.notes[0].lines().count() == 2 && month.notes[0].contains(",41,"), "{:?}", month.notes);
    let rows: serde_json::Value = serde_json::from_str(&month.notes[1]).unwrap();
    assert_eq!(rows["rows"][0]["requests"], 41);
}

/// Rows, requests, refusals and the only endpoint of a file that DuckDB opens by this expression.
fn in_duckdb(read: &str, file: &str) -> Value {
    let program = "import duckdb, json, sys\n\
        sums = 'count(*), sum(requests)::BIGINT, sum(rejected)::BIGINT, min(endpoint), count(DISTINCT endpoint)'\n\
        print(json.dumps(duckdb.sql(f'SELECT {sums} FROM {sys.argv[1]}', params=[sys.argv[2]]).fetchall()[0]))";
    let output = Command::new(parts::python().unwrap()).args(["-c", program, read, file]).output().unwrap();
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_export_is_taken_home_with_a_click_and_opened_by_another_program() {
    let site = Site::make();
    let readers = [
        ("csv", "read_csv($1, header=true)"),
        ("json", "(SELECT unnest(rows, recursive := true) FROM read_json($1))"),
        ("parquet", "read_parquet($1)"),
    ];
    let endpoint = format!("GET {HOSTILE_ENDPOINT}");
    for page in ["index.html", "month.html"] {
        let folder = temp_dir();
        let visit = readers.iter().fold(site.portal("acme", page), |visit, (end, _)| {
            visit.step(json!({ "keep": [format!(".exports a[href$={end}]"), folder.path()] }))
        });
        let seen = visit.open().unwrap();
        assert_clean(&seen, &site.portals);
        for ((end, read), file) in readers.iter().zip(&seen.notes) {
            assert!(file.ends_with(end), "{file}");
            assert_eq!(in_duckdb(read, file), json!([1, 41, 11, endpoint, 1]), "{page}: {file}");
        }
    }
    // What the explorer shows, as CSV.
    let folder = temp_dir();
    let visit = explored(site.portal("acme", "explore.html"), 1);
    let seen = visit.step(json!({ "keep": ["[data-csv]", folder.path()] })).open().unwrap();
    let told = in_duckdb("(SELECT * FROM read_csv($1, header=true) WHERE requests > 0)", &seen.notes[0]);
    assert_eq!((&told[1], &told[2]), (&json!(41), &json!(11)), "{told}");
}

#[test]
fn by_keyboard_alone_and_without_javascript() {
    let site = Site::make();
    let visit = explored(site.page("explore.html"), 1)
        .step(json!({ "run": "document.querySelector('select[name=client]').focus()" }))
        .step(json!({ "press": "a" }));
    let page = note(visit, 2).open().unwrap();
    assert_eq!(page.notes.last().map(String::as_str), Some("41"), "{:?}", page.notes);
    let plain = site.page("explore.html").without_javascript().count("svg.plot").open().unwrap();
    assert_clean(&plain, &site.url);
    assert!(plain.count["svg.plot"] == 3 && plain.text.contains("Filters need JavaScript"));
}
