//! Who sees which portal, behind the real nginx with the samples of nginx/.

// A signed link ends at a time.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;
use weir_testbed::browser::Visit;
use weir_testbed::http::{Answer, Request};
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::{ports, temp_dir};

mod site_common;
use site_common::Site;

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// What a stranger may learn: status and body, nothing else differs but the date.
fn told(answer: &Answer) -> (u16, String) {
    (answer.status, text(answer))
}

#[test]
fn an_api_key_opens_its_own_portal_and_no_other() {
    let site = Site::make();
    let own = site.ask("/by-key/", &[("X-Api-Key", "acme")]);
    assert_eq!(own.status, 200);
    assert!(text(&own).contains("Acme Corp"));
    let data = site.ask("/by-key/data/day.json", &[("X-Api-Key", "acme")]);
    assert!(data.status == 200 && text(&data).contains("\"requests\":41"), "{}", text(&data));
    let other = site.ask("/by-key/", &[("X-Api-Key", "hostile")]);
    assert!(other.status == 200 && !text(&other).contains("Acme"));
    // What a directory may be called does not lead out of it.
    let directory = site.directory("hostile");
    for path in [format!("/by-key/../{directory}/"), format!("/by-key/..%2f{directory}/index.html")] {
        let answer = site.ask(&path, &[("X-Api-Key", "acme")]);
        assert!(!text(&answer).contains("onerror"), "{path} led to another client");
    }
}

#[test]
fn a_session_opens_the_portal_of_the_client_that_it_is_of() {
    let site = Site::make();
    let own = site.ask("/by-session/", &[("Cookie", "session=acme")]);
    assert!(own.status == 200 && text(&own).contains("Acme Corp"));
    // nginx's maps of plain strings do not tell these apart.
    assert_eq!(site.ask("/by-session/", &[("Cookie", "session=Acme")]).status, 404);
}

#[test]
fn a_signed_link_opens_its_directory_until_it_expires() {
    let site = Site::make();
    let directory = site.directory("acme");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let signed = |expires: u64, directory: &str| {
        let signature = signature(&format!("{expires}{directory} CHANGE-THIS-SECRET"));
        (
            format!("/enter/{directory}?expires={expires}&signature={signature}"),
            format!("{directory}.{expires}.{signature}"),
        )
    };
    let (link, cookie) = signed(now + 3600, &directory);
    let entered = site.ask(&link, &[]);
    assert_eq!(entered.status, 303, "{}", text(&entered));
    let set = entered.header("Set-Cookie").unwrap();
    assert!(set.contains(&cookie) && set.contains("HttpOnly") && set.contains("Secure"), "{set}");
    let page = site.ask("/by-link/", &[("Cookie", &format!("weir_portal={cookie}"))]);
    assert!(page.status == 200 && text(&page).contains("Acme Corp"));
    let (old, old_cookie) = signed(now - 10, &directory);
    let other = cookie.replace(&directory, &site.directory("hostile"));
    let refused = [
        site.ask(&old, &[]),
        site.ask("/by-link/", &[("Cookie", &format!("weir_portal={old_cookie}"))]),
        site.ask("/by-link/", &[("Cookie", &format!("weir_portal={other}"))]),
        site.ask("/by-link/", &[]),
    ];
    assert!(refused.iter().all(|answer| answer.status == 404), "{:?}", refused.map(|a| a.status));
}

/// As an application signs a link: openssl is on the machine of every test.
fn signature(text: &str) -> String {
    let script = "printf %s \"$1\" | openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d =";
    let output = std::process::Command::new("sh").args(["-c", script, "sh", text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn whoever_is_not_known_gets_the_same_404_whatever_the_reason() {
    let site = Site::make();
    let directory = site.directory("acme");
    let nothing = told(&site.ask("/nothing", &[]));
    assert_eq!(nothing, (404, "Nothing here.\n".to_owned()));
    let strangers = [
        ("/by-key/".to_owned(), vec![]),
        ("/by-key/".to_owned(), vec![("X-Api-Key", "guess")]),
        ("/by-session/".to_owned(), vec![]),
        ("/by-session/".to_owned(), vec![("Cookie", "session=guess")]),
        ("/by-link/".to_owned(), vec![]),
        ("/portal/".to_owned(), vec![]),
        (format!("/portal/{}/", "0".repeat(32)), vec![]),
        (format!("/portal/{directory}/data/"), vec![]),
        ("/portal.map".to_owned(), vec![]),
    ];
    for (path, headers) in strangers {
        assert_eq!(told(&site.ask(&path, &headers)), nothing, "{path} {headers:?}");
    }
    assert_eq!(site.ask(&format!("/portal/{directory}/"), &[]).status, 200);
}

#[test]
fn every_answer_carries_the_security_headers() {
    let site = Site::make();
    let directory = site.directory("acme");
    for path in ["", "data/day.json", "explore.html", "nothing"] {
        let answer = site.ask(&format!("/portal/{directory}/{path}"), &[]);
        let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
        assert_eq!(header("Cache-Control"), "private, no-store", "{path}");
        assert_eq!(
            (header("X-Content-Type-Options"), header("Referrer-Policy")),
            ("nosniff".into(), "no-referrer".into())
        );
        let csp = header("Content-Security-Policy");
        for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(csp.contains(rule), "{path}: {csp}");
        }
        assert!(!csp.contains("unsafe"), "{csp}");
    }
    let pages = site.url.rsplit(':').next().unwrap().parse().unwrap();
    let asset =
        fs::read_dir(site.scene.installation.site().join("assets")).unwrap().flatten().next().unwrap();
    let kept =
        Request::get(pages, &format!("/assets/{}", asset.file_name().to_string_lossy())).send().unwrap();
    assert!(kept.status == 200 && kept.header("Cache-Control").unwrap().contains("immutable"));
}

#[test]
fn a_leaked_directory_is_replaced_and_gone() {
    let site = Site::make();
    let (leaked, other) = (site.directory("acme"), site.directory("hostile"));
    let renewed = site.scene.installation.ok(&["portal", "renew", "acme"]).unwrap().trim().to_owned();
    site.scene.installation.ok(&["render"]).unwrap();
    assert_eq!(site.ask(&format!("/portal/{leaked}/"), &[]).status, 404);
    assert!(text(&site.ask(&format!("/portal/{renewed}/"), &[])).contains("Acme Corp"));
    assert_eq!(site.ask(&format!("/portal/{other}/"), &[]).status, 200);
    assert!(site.scene.installation.run(&["portal", "renew", "nobody"]).unwrap().status.code() == Some(1));
    // nginx follows when it is reloaded.
    site.nginx.reload().unwrap();
    let follows = || site.ask("/by-key/", &[("X-Api-Key", "acme")]).status == 200;
    assert!(weir_testbed::wait::until(Duration::from_secs(60), follows));
}

#[test]
fn an_application_that_may_frames_a_portal_and_nobody_else_does() {
    let (dir, port, stranger) = (temp_dir(), ports::free(), ports::free());
    let site = Site::embedded_by(&format!("http://127.0.0.1:{port}"));
    let address = format!("{}/portal/{}/?embed&theme=dark", site.portals, site.directory("acme"));
    fs::write(
        dir.path().join("index.html"),
        format!(
            "<!doctype html><html lang=en><title>app</title><link rel=icon href=data:,><p id=h>none</p>\
             <iframe title=usage src='{address}'></iframe><script>addEventListener('message', e => {{\
             if (e.data.weir === 'height') {{ document.querySelector('iframe').height = e.data.height;\
             document.getElementById('h').textContent = 'high' }} }})</script>"
        ),
    )
    .unwrap();
    let config = format!(
        "{}events {{}}\nhttp {{\n{HTTP_PREAMBLE}default_type text/html;\nserver {{ listen 127.0.0.1:{port}; \
         listen 127.0.0.1:{stranger}; root {}; }}\n}}\n",
        preamble(1),
        dir.path().display()
    );
    let _application = Nginx::start(dir.path(), &config, port).unwrap();
    let theme = "frames[0].length";
    // What is within the frame is another site's, so its theme is read from the page alone.
    let root = "document.documentElement.dataset.theme + getComputedStyle(document.body).backgroundColor";
    for (asked, told) in [("dark", "darkrgb(13, 16, 21)"), ("light", "lightrgb(246, 247, 249)")] {
        let page = site.portal("acme", &format!("?embed&theme={asked}"));
        let dark = json!({ "view": { "width": 1280, "dark": asked == "light", "print": false } });
        assert_eq!(page.step(dark).step(json!({ "run": root })).open().unwrap().notes, [told]);
    }
    let page = Visit::new(&format!("http://127.0.0.1:{port}/"))
        .step(json!({ "wait": "#h:text-is('high')" }))
        .step(json!({ "run": "document.querySelector('iframe').height > 900" }))
        .step(json!({ "run": theme }))
        .open()
        .unwrap();
    assert_eq!(page.notes, ["true", "0"]);
    let refused =
        Visit::new(&format!("http://127.0.0.1:{stranger}/")).step(json!({ "note": "#h" })).open().unwrap();
    assert_eq!(refused.notes, ["none"]);
    assert!(refused.console.iter().any(|line| line.contains("frame")), "{:?}", refused.console);
}

#[test]
fn pages_are_live_while_gateways_answer_and_say_up_to_when_they_know_when_not() {
    let site = Site::make();
    let status = "[data-live] [role=status]";
    let page = site
        .page("")
        .step(json!({ "wait": "[data-live]:not([hidden])" }))
        .step(json!({ "note": status }))
        .step(json!({ "note": "[data-live] dt" }))
        .open()
        .unwrap();
    assert!(page.notes[0].starts_with("Live, as of"), "{:?}", page.notes);
    assert!(page.notes[1].contains("Gateways"), "{:?}", page.notes);
    // Nobody's limits are shown on a client's page but its own: this visitor has no session.
    let portal = site.portal("acme", "").step(json!({ "wait": "[data-live]:not([hidden])" }));
    let stranger = portal.clone().step(json!({ "note": status })).open().unwrap();
    assert!(stranger.notes[0].starts_with("Not live now. Data to"), "{:?}", stranger.notes);
    let own = portal
        .header("Cookie", "session=acme")
        .step(json!({ "note": status }))
        .step(json!({ "note": "[data-live] dd" }));
    let own = own.open().unwrap();
    assert!(own.notes[0].starts_with("Live, as of"), "{:?}", own.notes);
    assert!(own.notes[1].contains("30 left") || own.notes[1].contains(" left"), "{:?}", own.notes);
}

#[test]
fn a_gateway_that_does_not_answer_is_said_and_nothing_becomes_a_zero() {
    let mut site = Site::make();
    let partly = "without 1 of 2 gateways, which did not answer";
    for (live, told, tiles) in [
        ("\"/live/gateway-1\", \"/live/gateway-2\"", partly, 4),
        ("\"/live/gateway-2\"", "Not live now. Data to ", 0),
    ] {
        site.scene.installation.site_more(&format!("live = [{live}]\n"));
        site.scene.installation.ok(&["render"]).unwrap();
        let page = site
            .page("")
            .step(json!({ "wait": "[data-live]:not([hidden])" }))
            .step(json!({ "note": "[data-live] [role=status]" }))
            .count("[data-live] .tile")
            .open()
            .unwrap();
        assert!(page.notes[0].contains(told), "{:?}", page.notes);
        assert_eq!(page.count["[data-live] .tile"], tiles, "{told}");
    }
}
