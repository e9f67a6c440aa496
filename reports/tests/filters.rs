//! Filters over a month of hours, against what DuckDB makes of the same files.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use weir_testbed::browser::Visit;
use weir_testbed::{parts, wait};

mod served;
use served::{Served, serve};

/// The tile that tells what was counted, and what it is compared with.
const COUNTED: &str = "[data-tile=requests] dd:not(.note)";
const COMPARED: &str = "[data-tile=requests] .note";
const HOUR: i64 = 60;

fn explore(site: &Served, query: &str) -> Visit {
    Visit::new(&format!("{}/site/explore.html?grain=hour&{query}", site.url))
        .step(json!({ "wait": "#explore[data-ready='1']" }))
        .step(json!({ "note": COUNTED }))
        .step(json!({ "note": COMPARED }))
}

/// Requests of the file that tells most apart, in some minutes since the epoch and under a condition,
/// written as pages write them.
fn in_duckdb(site: &Served, (from, to): (i64, i64), condition: &str) -> String {
    let file = site.dir.path().join("site/data/hour-all.parquet");
    let program = "import duckdb, sys\n\
        query = f'SELECT sum(requests)::BIGINT FROM read_parquet($1) WHERE {sys.argv[2]}'\n\
        print(f'{duckdb.sql(query, params=[sys.argv[1]]).fetchall()[0][0]:,}')";
    let condition = format!("minute >= {from} AND minute < {to} AND {condition}");
    let mut command = Command::new(parts::python().unwrap());
    let output = command.args(["-c", program]).arg(&file).arg(&condition).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Where the data of a page ends, in minutes since the epoch.
fn end(site: &Served) -> i64 {
    let html = fs::read_to_string(site.dir.path().join("site/explore.html")).unwrap();
    let told = html.split("data-end=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    told.parse().unwrap()
}

#[test]
fn what_filters_find_is_what_the_files_hold() {
    let site = serve("week");
    let month = (end(&site) - 30 * 24 * HOUR, end(&site));
    for (query, condition) in [
        ("", "true"),
        ("client=client-03", "client = 'client-03'"),
        ("endpoint=POST%20%2Forders", "endpoint = 'POST /orders'"),
        ("client=client-05&endpoint=POST%20%2Forders", "client = 'client-05' AND endpoint = 'POST /orders'"),
        ("tier=plus", "tier = 'plus'"),
    ] {
        let page = explore(&site, &format!("range=30d&{query}")).open().unwrap();
        assert_eq!(page.notes[0], in_duckdb(&site, month, condition), "{query}");
        assert!(page.console.is_empty(), "{:?}", page.console);
    }
}

#[test]
fn a_day_is_compared_with_the_day_before_and_with_the_same_a_week_before() {
    let site = serve("week");
    let end = end(&site);
    let day = |back: i64| (end - (back + 24) * HOUR, end - back * HOUR);
    for (compare, back) in [("previous", 24), ("week", 168)] {
        let page = explore(&site, &format!("range=24h&compare={compare}"))
            .step(json!({ "run": "[...document.querySelectorAll('#x-requests .u-legend th')].map((e) => e.innerText).join()" }))
            .open()
            .unwrap();
        assert_eq!(page.notes[0], in_duckdb(&site, day(0), "true"), "{compare}");
        let before = format!("against {}", in_duckdb(&site, day(back), "true"));
        assert!(page.notes[1].ends_with(&before), "{compare}: {:?}, {before}", page.notes);
        assert!(page.notes[2].ends_with("Before"), "the chart has a line of its own: {:?}", page.notes);
    }
    // There are no hours of the month before the last.
    let page = explore(&site, "range=30d&compare=previous").open().unwrap();
    assert!(page.text.contains("Hours are kept for 31 days; shown by day."), "{}", page.text);
}

#[test]
fn of_a_long_table_a_hundred_rows_are_shown_until_somebody_asks_for_more() {
    let site = serve("week");
    let url = format!("{}/site/objectives.html", site.url);
    let shown = json!({ "run": "(() => { const rows = [...document.querySelector('table[data-noun]').tBodies[0].rows]; \
        return rows.filter((row) => row.getClientRects().length).length + ' of ' + rows.length })()" });
    let found = "(() => { const last = [...document.querySelector('table[data-noun]').tBodies[0].rows].at(-1); \
        const input = document.querySelector('input[type=search]'); input.value = last.cells[0].textContent; \
        input.dispatchEvent(new Event('input')); return last.getClientRects().length > 0 })()";
    let page = Visit::new(&url)
        .step(shown.clone())
        .step(json!({ "run": found }))
        .step(json!({ "fill": ["input[type=search]", ""] }))
        .step(shown.clone())
        .step(json!({ "click": "button.rest >> nth=0" }))
        .step(shown)
        .open()
        .unwrap();
    assert_eq!(page.notes, ["100 of 160", "true", "100 of 160", "160 of 160"]);
    let plain = Visit::new(&url).without_javascript().count("table[data-noun] >> nth=0 >> tbody tr:visible");
    assert_eq!(plain.open().unwrap().count.values().next(), Some(&160));
}

/// What the end of a file says of where things lie means nothing in the next file of that name.
#[test]
fn data_that_is_published_while_a_page_is_open_is_read_anew() {
    let site = serve("week");
    let data = site.dir.path().join("site/data");
    let asks = "(async () => { while (!(await fetch('/published')).ok) await new Promise((t) => setTimeout(t, 100)); })()";
    let visit = explore(&site, "range=30d&client=client-03&count=rejected")
        .step(json!({ "run": asks }))
        .step(json!({ "choose": ["select[name=count]", ""] }))
        .step(json!({ "wait": "#explore[data-ready='2']" }))
        .step(json!({ "note": COUNTED }));
    let page = std::thread::scope(|scope| {
        let page = scope.spawn(|| visit.open().unwrap());
        let log = site.dir.path().join("access.log");
        let has_asked = || fs::read_to_string(&log).is_ok_and(|log| log.contains("GET /published"));
        assert!(wait::until(Duration::from_secs(180), has_asked));
        // The same rows in other places: DuckDB writes them as it likes.
        rewrite(&data.join("hour-clients.parquet"));
        fs::write(site.dir.path().join("published"), "").unwrap();
        page.join().unwrap()
    });
    let month = (end(&site) - 30 * 24 * HOUR, end(&site));
    assert_eq!(page.notes.last(), Some(&in_duckdb(&site, month, "client = 'client-03'")), "{:?}", page.notes);
}

fn rewrite(file: &std::path::Path) {
    let program = "import duckdb, os, sys\n\
        new = sys.argv[1] + '.new'\n\
        duckdb.sql(f\"COPY (FROM read_parquet('{sys.argv[1]}')) TO '{new}' (FORMAT parquet, CODEC zstd)\")\n\
        os.replace(new, sys.argv[1])";
    let mut command = Command::new(parts::python().unwrap());
    let output = command.args(["-c", program]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
