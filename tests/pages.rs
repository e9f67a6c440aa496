//! The pages in a real browser.

use std::fs;
use std::path::Path;

use serde_json::json;
use weir_testbed::browser::{Page, Visit};
use weir_testbed::http::Request;
use weir_testbed::parts;

mod site_common;
use site_common::{Site, explored};

/// The page asked for nothing elsewhere, and no name became an element.
fn assert_clean(page: &Page, url: &str) {
    site_common::assert_clean(page, url);
    for selector in ["img[onerror]", "b", "[onmouseover]"] {
        assert_eq!(page.count[selector], 0, "a name became an element: {selector}");
    }
}

fn counting(visit: Visit) -> Visit {
    visit.count("img[onerror]").count("b").count("[onmouseover]").count("table").count("svg")
}

#[test]
fn the_overview_shows_the_numbers_with_and_without_javascript() {
    let site = Site::make();
    for visit in [site.page(""), site.page("").without_javascript()] {
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
    for visit in [site.portal("acme", ""), site.portal("acme", "").without_javascript()] {
        let page = counting(visit).open().unwrap();
        assert_clean(&page, &site.portals);
        for text in ["41", "30", "11"] {
            assert!(page.text.contains(text), "{text} is not in\n{}", page.text);
        }
        assert!(!page.text.contains("hostile"), "another client shows");
    }
}

#[test]
fn a_hostile_name_is_text_on_its_own_page() {
    let site = Site::make();
    let page = counting(site.portal("hostile", "")).open().unwrap();
    assert_clean(&page, &site.portals);
    assert!(page.text.contains("<img src=x onerror=alert(1)>"), "{}", page.text);
    assert!(page.text.contains('7') && !page.text.contains("Acme"));
}

#[test]
fn links_lead_to_pages_that_are_there() {
    let site = Site::make();
    let page = site.page("").open().unwrap();
    for link in page.links.iter().filter(|link| link.starts_with(&site.url)) {
        let port = site.url.rsplit(':').next().unwrap().parse().unwrap();
        let path = link.strip_prefix(&site.url).unwrap().split('#').next().unwrap();
        assert_eq!(Request::get(port, path).send().unwrap().status, 200, "{link}");
    }
}

#[test]
fn every_page_has_a_name_in_the_way_to_the_others_and_no_dead_link() {
    let site = Site::make();
    for name in site.platform_pages() {
        let page = counting(site.page(&name)).count("nav a").count("[aria-current]").open().unwrap();
        assert_clean(&page, &site.url);
        assert_eq!(page.count["nav a"], 7, "{name}");
        for link in page.links.iter().filter(|link| link.starts_with(&site.url)) {
            let port = site.url.rsplit(':').next().unwrap().parse().unwrap();
            let path = link.strip_prefix(&site.url).unwrap().split('#').next().unwrap();
            assert_eq!(Request::get(port, path).send().unwrap().status, 200, "{name}: {link}");
        }
    }
    let limits = site.page("limits.html").open().unwrap();
    assert!(limits.text.contains("30 requests/hour") && limits.text.contains("Acme Corp"), "{}", limits.text);
    let health = site.page("health.html").open().unwrap();
    assert!(health.text.contains("gateway-1") && health.text.contains("48"), "{}", health.text);
}

#[test]
fn tables_are_sorted_and_searched_by_keyboard_and_plain_without_javascript() {
    let site = Site::make();
    let first = "table[data-sortable] tbody tr:not([hidden]) th";
    let page = site
        .page("clients.html")
        .step(json!({ "note": first }))
        .step(json!({ "run": "document.querySelector('th[aria-sort] button').focus()" }))
        .step(json!({ "press": "Enter" }))
        .step(json!({ "note": first }))
        .step(json!({ "fill": ["input[type=search]", "acme"] }))
        .step(json!({ "note": first }))
        .step(json!({ "note": "[role=status]" }))
        .open()
        .unwrap();
    assert!(page.notes[0].starts_with("Acme Corp"), "{:?}", page.notes);
    assert!(page.notes[1].ends_with("Acme Corp"), "{:?}", page.notes);
    assert_eq!((page.notes[2].as_str(), page.notes[3].as_str()), ("Acme Corp", "1 of 2"));
    let plain = site.page("clients.html").without_javascript().count("button").count("input").open().unwrap();
    assert!(plain.text.contains("Acme Corp") && plain.text.contains("41"));
    assert_eq!((plain.count["button"], plain.count["input"]), (0, 0));
}

/// Each page as a reader sees it, kept in build/screenshots/, and what axe says of it.
#[test]
fn every_page_is_accessible_in_both_themes_at_any_width() {
    let site = Site::make();
    let folder = parts::root().join("build/screenshots");
    fs::create_dir_all(&folder).unwrap();
    let mut visits: Vec<(String, Visit, &str)> = Vec::new();
    for name in site.platform_pages() {
        let visit = site.page(&name);
        let short = name.split(['/', '.']).next().unwrap_or_default().to_owned();
        visits.push((format!("platform-{short}"), visit, &site.url));
    }
    for name in ["index.html", "explore.html", "month.html"] {
        let short = name.trim_end_matches(".html");
        visits.push((format!("portal-{short}"), site.portal("acme", name), &site.portals));
    }
    for (name, visit, url) in visits {
        let visit = if name.ends_with("explore") { explored(visit, 1) } else { visit };
        let page = VIEWS.iter().fold(visit, |visit, view| look(visit, &name, view, &folder)).open().unwrap();
        site_common::assert_clean(&page, url);
        let wrong: Vec<&String> = page.notes.iter().filter(|note| *note != "false").collect();
        assert!(wrong.is_empty(), "{name} scrolls sideways (true), or axe says: {wrong:#?}");
        assert_eq!(page.notes.len(), VIEWS.len());
    }
}

/// Name, width in pixels, dark, printed.
const VIEWS: [(&str, u32, bool, bool); 5] = [
    ("desktop-light", 1280, false, false),
    ("desktop-dark", 1280, true, false),
    ("phone-light", 390, false, false),
    ("phone-dark", 390, true, false),
    ("print", 794, false, true),
];

fn look(visit: Visit, name: &str, view: &(&str, u32, bool, bool), folder: &Path) -> Visit {
    let &(how, width, dark, print) = view;
    let sideways = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    visit
        .step(json!({ "view": { "width": width, "dark": dark, "print": print } }))
        .screenshot(&folder.join(format!("{name}-{how}.png")))
        .step(json!({ "run": sideways }))
        .step(json!({ "axe": null }))
}
