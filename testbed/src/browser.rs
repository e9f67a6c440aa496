//! A real browser (Debian's Chromium) that opens one page and tells what happened.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{StartError, parts};

/// What to open.
#[derive(Clone, Debug, Serialize)]
pub struct Visit {
    pub url: String,
    pub javascript: bool,
    /// CSS selectors whose elements are counted.
    pub count: Vec<String>,
    /// What is done with the page, in order: `{name: argument}`, see `visit.mjs`.
    pub steps: Vec<Value>,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
}

/// What was seen.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    pub status: u16,
    pub title: String,
    /// The text of the body as a reader sees it.
    pub text: String,
    /// Where the links lead, absolute.
    pub links: Vec<String>,
    /// Elements per selector of [`Visit::count`].
    pub count: BTreeMap<String, usize>,
    /// Errors and warnings on the console, uncaught exceptions, dialogs.
    pub console: Vec<String>,
    /// Every URL that was asked for, the page itself included.
    pub requests: Vec<String>,
    /// Those that got no answer.
    pub failed: Vec<String>,
    /// Where the page is in the end.
    pub url: String,
    /// What the steps noted down, in order.
    pub notes: Vec<String>,
}

impl Visit {
    pub fn new(url: &str) -> Visit {
        Visit {
            url: url.to_owned(),
            javascript: true,
            count: Vec::new(),
            steps: Vec::new(),
            headers: BTreeMap::new(),
        }
    }

    pub fn without_javascript(mut self) -> Visit {
        self.javascript = false;
        self
    }

    /// Counts the elements that match a CSS selector.
    pub fn count(mut self, selector: &str) -> Visit {
        self.count.push(selector.to_owned());
        self
    }

    /// Does one more thing with the page: `{"click": "button"}`.
    pub fn step(mut self, step: Value) -> Visit {
        self.steps.push(step);
        self
    }

    /// Writes a picture of the whole page, as it is at this step.
    pub fn screenshot(self, file: &Path) -> Visit {
        self.step(json!({ "shoot": file }))
    }

    pub fn header(mut self, name: &str, value: &str) -> Visit {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Opens the page in a browser of its own and waits until it has loaded.
    pub fn open(&self) -> Result<Page, StartError> {
        let folder = parts::root().join("testbed/browser");
        parts::program("Chromium", "/usr/bin/chromium")?;
        parts::made("the browser driver", "WEIR_NODE_MODULES", "testbed/browser/node_modules", "setup")?;
        let request = serde_json::to_string(self).expect("strings and booleans make JSON");
        let mut command = Command::new("node");
        command.current_dir(folder).arg("visit.mjs").arg(request);
        let name = "node visit.mjs".to_owned();
        let output = command.output();
        let output = output.map_err(|source| StartError::Spawn { name: name.clone(), source })?;
        serde_json::from_slice(&output.stdout).map_err(|_| StartError::Ended {
            name,
            status: output.status.to_string(),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::{HTTP_PREAMBLE, Nginx, preamble};
    use crate::{ports, temp_dir};

    const HTML: &str = "<!doctype html><title>t</title><link rel=icon href=data:,>\
        <p id=p>before</p><a href=/next>on</a>\
        <script>document.getElementById('p').textContent='after'; console.error('oh')</script>";

    fn serve(html: &str) -> (crate::TempDir, Nginx, String) {
        let (dir, port) = (temp_dir(), ports::free());
        std::fs::write(dir.path().join("index.html"), html).unwrap();
        let config = format!(
            "{}events {{}}\nhttp {{\n{HTTP_PREAMBLE}default_type text/html;\n\
             server {{ listen 127.0.0.1:{port}; root {}; }}\n}}\n",
            preamble(1),
            dir.path().display()
        );
        let nginx = Nginx::start(dir.path(), &config, port).unwrap();
        (dir, nginx, format!("http://127.0.0.1:{port}/"))
    }

    #[test]
    fn it_tells_what_a_page_shows_and_does() {
        let (_dir, _nginx, url) = serve(HTML);
        let page = Visit::new(&url).count("p").open().unwrap();
        assert_eq!((page.status, page.title.as_str()), (200, "t"));
        assert!(page.text.contains("after"));
        assert_eq!(page.console, ["oh"]);
        assert_eq!(page.requests, [url.as_str()]);
        assert_eq!(page.links, [format!("{url}next")]);
        assert_eq!(page.count["p"], 1);
        let used = Visit::new(&url).step(json!({ "note": "p" })).step(json!({ "axe": null })).open().unwrap();
        assert_eq!(used.notes[0], "after");
        assert!(used.notes.iter().any(|note| note.starts_with("html-has-lang")), "{:?}", used.notes);
        let still = Visit::new(&url).without_javascript().open().unwrap();
        assert!(still.text.contains("before") && still.console.is_empty());
    }
}
