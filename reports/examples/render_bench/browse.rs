//! What readers wait for: the pages from a local nginx in Chromium, four times slower than this machine.

use std::error::Error;
use std::path::Path;

use serde_json::{Value, json};
use weir_testbed::browser::Visit;
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::ports;

use crate::figure;

const SLOWER: u32 = 4;

/// Bytes that came over the wire, the page's own and those of what it asked for.
const TRANSFERRED: &str = "performance.getEntries().filter((e) => e.transferSize !== undefined && \
    !e.name.includes('/data/')).reduce((n, e) => n + e.transferSize, 0)";
const DATA: &str = "performance.getEntriesByType('resource').filter((e) => e.name.includes('/data/'))\
    .reduce((n, e) => n + e.transferSize, 0)";
const PAINTED: &str = "performance.getEntriesByName('first-contentful-paint')[0].startTime";

/// Chooses a value and waits until the answer is on the screen.
fn change(field: &str, choice: &str) -> Value {
    let script = format!(
        "(async () => {{ const root = document.getElementById('explore'); const turn = root.dataset.ready; \
         const field = root.querySelector('select[name={field}]'); const begun = performance.now(); \
         field.value = {choice}; field.dispatchEvent(new Event('change', {{ bubbles: true }})); \
         while (root.dataset.ready === turn) await new Promise((then) => setTimeout(then, 0)); \
         return performance.now() - begun; }})()"
    );
    json!({ "run": script })
}

pub fn measure(dir: &Path) -> Result<(), Box<dyn Error>> {
    let port = ports::free();
    let config = format!(
        "{}events {{}}\nhttp {{\n{HTTP_PREAMBLE}include /etc/nginx/mime.types;\ngzip on;\n\
         gzip_types text/css application/javascript image/svg+xml;\n\
         server {{ listen 127.0.0.1:{port}; root {}; }}\n}}\n",
        preamble(1),
        dir.join("site").display()
    );
    let _nginx = Nginx::start(dir, &config, port)?;
    let url = format!("http://127.0.0.1:{port}");
    for page in ["index", "clients", "objectives", "anomalies", "limits", "health"] {
        let notes = noted(&Visit::new(&format!("{url}/{page}.html")), &[TRANSFERRED, PAINTED])?;
        figure(&format!("{page}_transferred_kb"), notes[0] / 1e3);
        figure(&format!("{page}_first_paint_ms"), notes[1]);
    }
    explore(&url)
}

/// Thirty days of hours: the first answer, and what each further choice takes.
fn explore(url: &str) -> Result<(), Box<dyn Error>> {
    let changes = [
        ("a_client", change("client", "field.options[300].value")),
        ("another_client", change("client", "field.options[700].value")),
        ("what_is_counted", change("count", "'rejected'")),
        ("all_clients", change("client", "''")),
        ("compared", change("compare", "'previous'")),
        ("an_endpoint", change("endpoint", "field.options[50].value")),
    ];
    let mut visit = Visit::new(&format!("{url}/explore.html?range=30d&grain=hour"));
    for step in [json!({ "slower": SLOWER }), json!({ "wait": "#explore[data-ready]" })] {
        visit = visit.step(step);
    }
    for script in [TRANSFERRED, DATA, PAINTED] {
        visit = visit.step(json!({ "run": script }));
    }
    let visit = changes.iter().fold(visit, |visit, (_, step)| visit.step(step.clone()));
    let notes = numbers(&visit)?;
    figure("explore_transferred_kb", notes[0] / 1e3);
    figure("explore_data_kb", notes[1] / 1e3);
    figure("explore_first_paint_ms", notes[2]);
    for ((name, _), took) in changes.iter().zip(&notes[3..]) {
        figure(&format!("filter_{name}_ms"), *took);
    }
    Ok(())
}

fn noted(visit: &Visit, scripts: &[&str]) -> Result<Vec<f64>, Box<dyn Error>> {
    let slower = visit.clone().step(json!({ "slower": SLOWER }));
    numbers(&scripts.iter().fold(slower, |visit, script| visit.step(json!({ "run": script }))))
}

fn numbers(visit: &Visit) -> Result<Vec<f64>, Box<dyn Error>> {
    Ok(visit.open()?.notes.iter().map(|note| note.parse()).collect::<Result<_, _>>()?)
}
