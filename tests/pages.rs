//! The pages in a real browser.

use std::fs;
use std::path::PathBuf;

use weir_testbed::browser::{Page, Visit};
use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::{TempDir, ports, temp_dir};

/// Names that would do harm if they were taken for anything but text.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&\u{202e}</title><script>alert(2)</script>";
const HOSTILE_ENDPOINT: &str = "<b onmouseover=alert(3)>{{7*7}}</b>";

fn policy() -> String {
    let client = |id: &str, name: &str| {
        let name = serde_json::to_string(name).unwrap();
        format!("[clients.{id}]\nname = {name}\nkeys = [\"{}\"]\n", key_hash(id))
    };
    format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"30 requests/hour\"]\n{}{}",
        client("acme", "Acme Corp"),
        client("hostile", HOSTILE)
    )
}

/// A site that was made from real traffic, and the nginx that serves it.
struct Site {
    scene: Scene,
    url: String,
    _nginx: Nginx,
    _dir: TempDir,
}

impl Site {
    /// `acme` sends 41 requests, of which 30 pass; `hostile` sends 7.
    fn make() -> Site {
        let endpoint = format!("weir_endpoint '{HOSTILE_ENDPOINT}';");
        let plot = Plot::new(&policy());
        let mut scene = plot.options(move |options| options.location(&endpoint)).start().unwrap();
        for (key, requests) in [("acme", 41), ("hostile", 7)] {
            for _ in 0..requests {
                Request::get(scene.port(), "/orders").key(key).send().unwrap();
            }
        }
        scene.close();
        scene.installation.ok(&["tick"]).unwrap();
        let (dir, port) = (temp_dir(), ports::free());
        let root = scene.installation.dir().display().to_string();
        let config = format!(
            "{}events {{}}\nhttp {{\n{HTTP_PREAMBLE}include /etc/nginx/mime.types;
             server {{ listen 127.0.0.1:{port}; root {root}; }}\n}}\n",
            preamble(1)
        );
        let nginx = Nginx::start(dir.path(), &config, port).unwrap();
        Site { scene, url: format!("http://127.0.0.1:{port}"), _nginx: nginx, _dir: dir }
    }

    fn overview(&self) -> Visit {
        Visit::new(&format!("{}/site/", self.url))
    }

    /// The portal page of the client whose page has this text in its source.
    fn portal(&self, text: &str) -> Visit {
        let folders = fs::read_dir(self.scene.installation.portal()).unwrap().flatten();
        let has = |folder: &PathBuf| fs::read_to_string(folder.join("index.html")).unwrap().contains(text);
        let folder = folders.map(|entry| entry.path()).find(has);
        let folder = folder.unwrap_or_else(|| panic!("no portal page has {text}"));
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        Visit::new(&format!("{}/portal/{name}/", self.url))
    }
}

/// What every page owes its reader.
fn assert_clean(page: &Page, url: &str) {
    assert_eq!(page.status, 200);
    assert!(page.console.is_empty(), "{:?}", page.console);
    assert!(page.failed.is_empty(), "{:?}", page.failed);
    let elsewhere: Vec<&String> =
        page.requests.iter().filter(|r| !r.starts_with(url) && !r.starts_with("data:")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    for selector in ["img[onerror]", "b", "[onmouseover]"] {
        assert_eq!(page.count[selector], 0, "a name became an element: {selector}");
    }
    assert!(!page.title.is_empty());
}

fn counting(visit: Visit) -> Visit {
    visit.count("img[onerror]").count("b").count("[onmouseover]").count("table").count("svg")
}

#[test]
fn the_overview_shows_the_numbers_with_and_without_javascript() {
    let site = Site::make();
    for visit in [site.overview(), site.overview().without_javascript()] {
        let page = counting(visit).open().unwrap();
        assert_clean(&page, &site.url);
        assert!(page.count["table"] >= 1 && page.count["svg"] >= 1);
        for text in ["48", "11", "Acme Corp", "<img src=x onerror=alert(1)>", "{{7*7}}"] {
            assert!(page.text.contains(text), "{text} is not in\n{}", page.text);
        }
    }
}

#[test]
fn a_portal_page_shows_its_client_and_nobody_else() {
    let site = Site::make();
    for visit in [site.portal("Acme Corp"), site.portal("Acme Corp").without_javascript()] {
        let page = counting(visit).open().unwrap();
        assert_clean(&page, &site.url);
        for text in ["41", "30", "11"] {
            assert!(page.text.contains(text), "{text} is not in\n{}", page.text);
        }
        assert!(!page.text.contains("hostile"), "another client shows");
    }
}

#[test]
fn a_hostile_name_is_text_on_its_own_page() {
    let site = Site::make();
    let page = counting(site.portal("onerror=alert(1)")).open().unwrap();
    assert_clean(&page, &site.url);
    assert!(page.text.contains("<img src=x onerror=alert(1)>"), "{}", page.text);
    assert!(page.text.contains('7') && !page.text.contains("Acme"));
}

#[test]
fn links_lead_to_pages_that_are_there() {
    let site = Site::make();
    let page = site.overview().open().unwrap();
    for link in page.links.iter().filter(|link| link.starts_with(&site.url)) {
        let port = site.url.rsplit(':').next().unwrap().parse().unwrap();
        let path = link.strip_prefix(&site.url).unwrap().split('#').next().unwrap();
        assert_eq!(Request::get(port, path).send().unwrap().status, 200, "{link}");
    }
}
