//! The pages in a real browser.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use weir_testbed::browser::{Page, Visit};
use weir_testbed::http::Request;
use weir_testbed::{parts, temp_dir};

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

/// As somebody goes through a page who has no mouse: every stop shows where focus is, and is in sight.
#[test]
fn by_keyboard_alone_focus_is_seen_at_every_stop() {
    let site = Site::make();
    let pages = site.platform_pages().into_iter().map(|name| (site.page(&name), name));
    let own = ["index.html", "explore.html", "month.html"];
    let portals = own.into_iter().map(|name| (site.portal("acme", name), format!("portal {name}")));
    for (visit, name) in pages.chain(portals) {
        let visit = if name.ends_with("explore.html") { explored(visit, 1) } else { visit };
        let page = visit.step(json!({ "tabs": 400 })).open().unwrap();
        let [stops] = page.notes.as_slice() else { panic!("{name}: {:#?}", page.notes) };
        let stops: usize = stops.trim_end_matches(" stops").parse().unwrap();
        assert!((4..400).contains(&stops), "{name}: {stops} stops");
    }
}

#[test]
fn the_first_stop_skips_to_the_content_and_escape_ends_a_search() {
    let site = Site::make();
    let first = "table[data-sortable] tbody tr:not([hidden]) th";
    let page = site
        .page("clients.html")
        .step(json!({ "press": "Tab" }))
        .step(json!({ "note": ":focus" }))
        .step(json!({ "press": "Enter" }))
        .step(json!({ "run": "location.hash" }))
        .step(json!({ "press": "Tab" }))
        .step(json!({ "run": "document.querySelector('main').contains(document.activeElement)" }))
        .step(json!({ "fill": ["input[type=search]", "acme"] }))
        .step(json!({ "note": first }))
        .step(json!({ "press": "Escape" }))
        .step(json!({ "note": first }))
        .open()
        .unwrap();
    assert_eq!(page.notes[..4], ["Skip to content", "#main", "true", "Acme Corp"]);
    assert_eq!(page.notes[4].lines().count(), 2, "all clients are there again: {:?}", page.notes);
}

#[test]
fn nothing_moves_for_those_who_asked_for_that() {
    let site = Site::make();
    let moving = "[...document.querySelectorAll('*')].filter((e) => getComputedStyle(e).transitionDuration !== '0s' \
                  || getComputedStyle(e).animationName !== 'none').length";
    let view =
        |motion: bool| json!({ "view": { "width": 1280, "dark": false, "print": false, "motion": motion } });
    for visit in [site.page(""), explored(site.page("explore.html"), 1), site.portal("acme", "")] {
        let page = visit.step(view(false)).step(json!({ "run": moving })).open().unwrap();
        assert_eq!(page.notes, ["0"], "{}", page.url);
    }
    let page = site.page("").step(view(true)).step(json!({ "run": moving })).open().unwrap();
    assert_ne!(page.notes, ["0"], "without the wish there is something that moves");
}

/// The monthly report as its reader keeps it.
#[test]
fn a_month_printed_to_pdf_holds_its_text_and_nothing_to_click() {
    let site = Site::make();
    let dir = temp_dir();
    let file = dir.path().join("month.pdf");
    for visit in [site.portal("acme", "month.html"), site.portal("acme", "month.html").without_javascript()] {
        visit.step(json!({ "pdf": file })).open().unwrap();
        let text = pdf_text(&file);
        for told in ["Acme Corp", "Requests", "41", "Refused", "11", "30 requests per hour", "Status codes"] {
            assert!(text.contains(told), "{told} is not in\n{text}");
        }
        for not in ["Print or save", "Explore", "as a table", "hostile"] {
            assert!(!text.contains(not), "{not} is in\n{text}");
        }
    }
}

fn pdf_text(file: &Path) -> String {
    parts::program("poppler's pdftotext", "/usr/bin/pdftotext").unwrap();
    let mut output = Command::new("/usr/bin/pdftotext");
    output.args(["-layout".as_ref(), file.as_os_str(), "-".as_ref()]);
    let output = output.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What axe and a look for overlaps say of pages with real traffic; those with more data, and more
/// pictures, are in reports/tests/looks.rs.
#[test]
fn every_page_is_accessible_at_any_width() {
    let site = Site::make();
    let mut visits: Vec<(String, Visit, &str)> = Vec::new();
    for name in site.platform_pages() {
        let visit = site.page(&name);
        visits.push((name, visit, &site.url));
    }
    for name in ["index.html", "explore.html", "month.html"] {
        visits.push((format!("portal {name}"), site.portal("acme", name), &site.portals));
    }
    for (name, visit, url) in visits {
        let visit = if name.ends_with("explore.html") { explored(visit, 1) } else { visit };
        let look = |visit: Visit, (width, dark): (u32, bool)| {
            let view = json!({ "width": width, "dark": dark, "print": false });
            visit.step(json!({ "view": view })).step(json!({ "looks": name })).step(json!({ "axe": name }))
        };
        let page = [(1280, false), (390, true)].into_iter().fold(visit, look).open().unwrap();
        site_common::assert_clean(&page, url);
        assert!(page.notes.is_empty(), "{:#?}", page.notes);
    }
}
