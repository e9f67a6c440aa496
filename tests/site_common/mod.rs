//! A site that was made from real traffic, behind the nginx of our samples.
#![allow(dead_code)] // each test file uses some of it

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use weir_testbed::browser::{Page, Visit};
use weir_testbed::gateway::key_hash;
use weir_testbed::http::{Answer, Request};
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::{TempDir, parts, ports, temp_dir};

/// Names that would do harm if they were taken for anything but text.
pub const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&\u{202e}</title><script>alert(2)</script>";
pub const HOSTILE_ENDPOINT: &str = "<b onmouseover=alert(3)>{{7*7}}</b>";

/// The application that knows who has a session: it believes the cookie `session`.
const APPLICATION: &str = "map $cookie_session $who { default \"\"; ~^(?<id>acme|hostile|Acme)$ $id; }\n\
    server { listen 127.0.0.1:APP; location = /metrics { weir_metrics; } location / { if ($who = \"\") { return 401; } \
    add_header X-Client $who; return 204; } }\n";

pub fn policy() -> String {
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

pub struct Site {
    pub scene: Scene,
    /// Where the platform's pages are.
    pub url: String,
    /// Where the portals are.
    pub portals: String,
    pub nginx: Nginx,
    dir: TempDir,
}

impl Site {
    /// `acme` sends 41 requests, of which 30 pass; `hostile` sends 7.
    pub fn make() -> Site {
        Site::embedded_by("'none'")
    }

    /// The same, whose portals may be framed by `ancestor`.
    pub fn embedded_by(ancestor: &str) -> Site {
        let endpoint = format!("weir_endpoint '{HOSTILE_ENDPOINT}';");
        let plot = Plot::new(&policy());
        let mut scene = plot.options(move |options| options.location(&endpoint)).start().unwrap();
        let gateway = scene.port();
        for (key, requests) in [("acme", 41), ("hostile", 7)] {
            for _ in 0..requests {
                Request::get(gateway, "/orders").key(key).send().unwrap();
            }
        }
        scene.close();
        scene.installation.site_more("live = [\"/live/gateway-1\"]\nlive_usage = \"/usage\"\n");
        scene.installation.ok(&["tick"]).unwrap();
        let dir = temp_dir();
        let [pages, portals, application] = [ports::free(), ports::free(), ports::free()];
        let root = scene.installation.dir().display().to_string();
        let changes = [
            ("listen 8090".to_owned(), format!("listen 127.0.0.1:{pages}")),
            ("listen 8091".to_owned(), format!("listen 127.0.0.1:{portals}")),
            ("/var/lib/weir".to_owned(), root),
            ("127.0.0.1:9001".to_owned(), format!("127.0.0.1:{application}")),
            ("127.0.0.1:8080/weir/metrics".to_owned(), format!("127.0.0.1:{application}/metrics")),
            (
                "$weir_embed \"'none'\";\n    include".to_owned(),
                format!("$weir_embed \"{ancestor}\";\n    include"),
            ),
        ];
        for name in ["pages.conf", "portal.conf", "pages-headers.conf"] {
            let mut text = fs::read_to_string(parts::root().join("nginx").join(name)).unwrap();
            for (from, to) in &changes {
                text = text.replace(from, to);
            }
            fs::write(dir.path().join(name), text).unwrap();
        }
        fs::copy(scene.installation.policy(), dir.path().join("policy.toml")).unwrap();
        let config = format!(
            "{}load_module {};\nevents {{}}\nhttp {{\n{HTTP_PREAMBLE}include /etc/nginx/mime.types;\n\
             include pages.conf;\ninclude portal.conf;\n{}}}\n",
            preamble(1),
            parts::module().unwrap().display(),
            APPLICATION.replace("APP", &application.to_string())
        );
        let nginx = Nginx::start(dir.path(), &config, pages).unwrap();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        Site { scene, url: url(pages), portals: url(portals), nginx, dir }
    }

    pub fn page(&self, name: &str) -> Visit {
        Visit::new(&format!("{}/{name}", self.url))
    }

    /// The directory of a client's portal.
    pub fn directory(&self, client: &str) -> String {
        self.scene.installation.ok(&["portal", "show", client]).unwrap().trim().to_owned()
    }

    pub fn portal(&self, client: &str, name: &str) -> Visit {
        Visit::new(&format!("{}/portal/{}/{name}", self.portals, self.directory(client)))
    }

    /// An answer of the server of portals.
    pub fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let port = self.portals.rsplit(':').next().unwrap().parse().unwrap();
        let request = Request::get(port, path);
        headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send().unwrap()
    }

    /// Every page by its name below the platform's address, one of each kind.
    pub fn platform_pages(&self) -> Vec<String> {
        let one = |folder: &str| {
            let mut files: Vec<PathBuf> = fs::read_dir(self.scene.installation.site().join(folder))
                .unwrap()
                .flatten()
                .map(|e| e.path())
                .collect();
            files.sort();
            format!("{folder}/{}", files[0].file_name().unwrap().to_string_lossy())
        };
        let named = ["index", "explore", "clients", "limits", "anomalies", "objectives", "health"];
        named.map(|name| format!("{name}.html")).into_iter().chain([one("client"), one("endpoint")]).collect()
    }
}

/// Waits until the explorer has shown its first or its next answer.
pub fn explored(visit: Visit, turn: u32) -> Visit {
    visit.step(json!({ "wait": format!("#explore[data-ready='{turn}']") }))
}

/// What every page owes its reader.
pub fn assert_clean(page: &Page, url: &str) {
    assert_eq!(page.status, 200);
    assert!(page.console.is_empty(), "{:?}", page.console);
    assert!(page.failed.is_empty(), "{:?}", page.failed);
    let elsewhere: Vec<&String> =
        page.requests.iter().filter(|r| !r.starts_with(url) && !r.starts_with("data:")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert!(!page.title.is_empty());
}
