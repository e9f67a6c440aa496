//! Every page of made-up sites, as it looks in a real browser: pictures in build/screenshots/, and what
//! axe and a look for overlaps and cut-off text say.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use weir_testbed::browser::{Page, Visit};
use weir_testbed::parts;

mod served;
use served::{Served, serve};

/// Name, width in pixels, dark, printed.
type View = (&'static str, u32, bool, bool);

const VIEWS: [View; 5] = [
    ("desktop-light", 1440, false, false),
    ("desktop-dark", 1440, true, false),
    ("phone-light", 390, false, false),
    ("phone-dark", 390, true, false),
    ("print", 794, false, true),
];
/// Of what is rare, two are enough, and the narrowest screen.
const RARE: [View; 3] = [
    ("desktop-light", 1440, false, false),
    ("phone-dark", 390, true, false),
    ("narrow-light", 320, false, false),
];

impl Served {
    fn first(&self, folder: &str) -> PathBuf {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(self.dir.path().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        // Sample data has hours to explore of the busiest clients alone.
        entries.sort_by_key(|path| (!path.join("data").is_dir(), path.clone()));
        entries[0].strip_prefix(self.dir.path()).unwrap().to_owned()
    }

    /// Name of the picture and path of each kind of page.
    fn pages(&self) -> Vec<(String, String)> {
        let platform = ["index", "explore", "clients", "limits", "anomalies", "objectives", "health"];
        let mut all: Vec<(String, String)> =
            platform.map(|page| (format!("platform-{page}"), format!("site/{page}.html"))).into();
        for folder in
            ["client", "endpoint"].into_iter().filter(|f| self.dir.path().join("site").join(f).is_dir())
        {
            let page = self.first(&format!("site/{folder}"));
            all.push((format!("platform-{folder}"), page.display().to_string()));
        }
        let portal = self.first("portal");
        let own = ["index", "explore", "month"];
        all.extend(own.map(|p| (format!("portal-{p}"), format!("{}/{p}.html", portal.display()))));
        all.into_iter().filter(|(_, path)| self.dir.path().join(path).is_file()).collect()
    }

    fn look(&self, case: &str, views: &[View]) -> Page {
        let folder = parts::root().join("build/screenshots");
        fs::create_dir_all(&folder).unwrap();
        let pages = self.pages();
        let first = Visit::new(&format!("{}/{}", self.url, pages[0].1));
        pages.iter().fold(first, |visit, page| self.one(visit, case, page, views, &folder)).open().unwrap()
    }

    fn one(
        &self,
        visit: Visit,
        case: &str,
        (name, path): &(String, String),
        views: &[View],
        folder: &Path,
    ) -> Visit {
        // The page before was left as it is printed.
        let screen = json!({ "view": { "width": 1440, "dark": false, "print": false } });
        let mut visit = visit.step(screen).step(json!({ "goto": format!("{}/{path}", self.url) }));
        if name.ends_with("explore") && case != "empty" {
            visit = visit.step(json!({ "wait": "#explore[data-ready]" }));
        }
        for &(how, width, dark, print) in views {
            let name = format!("{case}-{name}-{how}");
            visit = visit
                .step(json!({ "view": { "width": width, "dark": dark, "print": print } }))
                .screenshot(&folder.join(format!("{name}.png")))
                .step(json!({ "looks": name }))
                .step(json!({ "axe": name }));
        }
        visit
    }
}

/// One browser at a time: several would only wait for one another.
static BROWSER: Mutex<()> = Mutex::new(());

fn assert_looks_right(case: &str, views: &[View]) {
    let _alone = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    let site = serve(case);
    let page = site.look(case, views);
    assert!(page.notes.is_empty(), "{case}: {:#?}", page.notes);
    // A page without data yet asks for it and says that there is none.
    let console: Vec<&String> =
        page.console.iter().filter(|said| case != "empty" || !said.contains("404")).collect();
    assert!(console.is_empty(), "{case}: {console:?}");
    let elsewhere = page.requests.iter().find(|url| !url.starts_with(&site.url) && !url.starts_with("data:"));
    assert_eq!(elsewhere, None, "{case}");
}

#[test]
fn a_week_of_eighty_clients_looks_right_in_both_themes_at_any_width_and_in_print() {
    assert_looks_right("week", &VIEWS);
}

#[test]
fn nothing_at_all_and_one_point_look_right() {
    assert_looks_right("empty", &RARE);
    assert_looks_right("one", &RARE);
}

#[test]
fn trillions_look_right() {
    assert_looks_right("huge", &RARE);
}

#[test]
fn names_of_200_characters_from_right_to_left_or_like_markup_look_right() {
    assert_looks_right("hostile", &RARE);
}
