//! The site as files: what hostile names do to it, what leaks, what happens at the edges.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{
    HOUR, NOW, by_endpoint, course, data, finding, forecast, hostile, policy, promise, recent, renamed,
    together, usage,
};
use weir_analytics::books::endpoint_name;
use weir_analytics::completeness::Silence;
use weir_analytics::cube::Data;
use weir_analytics::forecast::Forecast;
use weir_analytics::objective::Promise;
use weir_analytics::view::{QuotaFinding, Recent, Usage};
use weir_policy::Policy;
use weir_reports::{Directories, RenderError, RenderReport, SiteInput, render_site};

const SECRET: [u8; 32] = [9; 32];

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn render(policy: &Policy, clients: &[(String, Usage)], findings: &[QuotaFinding]) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let site = Site { dir };
        site.again(policy, clients, findings).unwrap();
        site
    }

    fn again(
        &self,
        policy: &Policy,
        clients: &[(String, Usage)],
        findings: &[QuotaFinding],
    ) -> Result<RenderReport, RenderError> {
        self.with_data(policy, clients, findings, Some(&data(clients)))
    }

    /// The same with data of its own, or none that is new.
    fn with_data(
        &self,
        policy: &Policy,
        clients: &[(String, Usage)],
        findings: &[QuotaFinding],
        data: Option<&Data>,
    ) -> Result<RenderReport, RenderError> {
        let endpoint =
            |usage: &Usage| usage.rows.first().map(|row| endpoint_name(&row.method, &row.endpoint));
        let promised =
            |(id, usage): &(String, Usage)| [promise(id, None), promise(id, endpoint(usage).as_deref())];
        let promises: Vec<Promise> = clients.iter().flat_map(promised).collect();
        let forecasts: Vec<Forecast> = clients.iter().map(|(id, _)| forecast(id)).collect();
        let input = SiteInput {
            now_us: NOW,
            policy,
            overview: &together(clients),
            previous: None,
            clients,
            endpoints: &by_endpoint(clients),
            recent: &recent("acme"),
            anomalies: &[course("acme"), course("beta")],
            promises: Some(&promises),
            forecasts: &forecasts,
            data,
            live: &["/live/gateway-1".to_string()],
            live_usage: Some("/usage"),
            findings,
            public_url: Some("https://usage.example.com/"),
            directories: &Directories::new(SECRET),
        };
        render_site(&input, &self.dir.path().join("site"), &self.dir.path().join("portal"))
    }

    fn overview(&self) -> String {
        fs::read_to_string(self.dir.path().join("site/index.html")).unwrap()
    }

    fn portal_dir(&self, client: &str) -> PathBuf {
        self.dir.path().join("portal").join(Directories::new(SECRET).of(client))
    }

    fn portal(&self, client: &str) -> String {
        fs::read_to_string(self.portal_dir(client).join("index.html")).unwrap()
    }
}

/// Every element that a page has, by its tag, and every attribute that could run or load something.
fn markup(html: &str) -> (Vec<&str>, usize) {
    let tags =
        html.split('<').skip(1).map(|rest| rest.split([' ', '>', '\n', '/']).next().unwrap_or("")).collect();
    let inside = html.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    let risky = [" on", " style=", "javascript:", " srcdoc="];
    let active = inside.filter(|tag| risky.iter().any(|risk| tag.contains(risk))).count();
    (tags, active)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn no_name_adds_an_element_or_an_attribute() {
    let plain = policy(&[("acme", "Acme", &[])]);
    let render = |name: &str| {
        let mut used = usage("acme", name, 7, 24);
        used.rows[0].method = name.to_string();
        used.rows[0].tier = name.to_string();
        let found =
            QuotaFinding { top_endpoint: name.to_string(), limit: name.to_string(), ..finding("acme", 80) };
        Site::render(&renamed(plain.clone(), "acme", name), &[("acme".to_string(), used)], &[found])
    };
    let harmless = render("Acme");
    let (overview, portal) = (harmless.overview(), harmless.portal("acme"));
    for name in hostile() {
        let site = render(&name);
        assert_eq!(markup(&site.overview()), markup(&overview), "{name:?}");
        assert_eq!(markup(&site.portal("acme")), markup(&portal), "{name:?}");
        assert_eq!(markup(&site.overview()).1, 0, "nothing runs");
        let all = |site: &Site| -> Vec<usize> {
            let mut counts: Vec<usize> = pages(site).iter().map(|(_, html)| markup(html).0.len()).collect();
            counts.sort();
            counts
        };
        assert_eq!(all(&site), all(&harmless), "{name:?} adds an element somewhere");
        assert!(pages(&site).iter().all(|(_, html)| markup(html).1 == 0), "{name:?} is active somewhere");
        let shown = |html: &str| html.contains(['\u{202e}', '\u{2028}', '\u{2029}', '\0', '\r']);
        assert!(pages(&site).iter().all(|(_, html)| !shown(html)), "{name:?} is invisible somewhere");
        let invisible = ['\u{202e}', '\u{2028}', '\u{2029}', '\0', '\r'];
        assert!(!site.overview().contains(invisible) && !site.portal("acme").contains(invisible), "{name:?}");
        assert!(site.overview().len() < overview.len() + 10_000, "{name:?} does not fill the page");
    }
}

#[test]
fn a_name_is_shown_as_the_text_it_is() {
    let named = renamed(policy(&[("acme", "Acme", &[])]), "acme", "<script>alert(1)</script>");
    let site = Site::render(&named, &[("acme".to_string(), usage("acme", "/a", 7, 24))], &[]);
    for html in [site.overview(), site.portal("acme")] {
        assert!(html.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "shown, not run");
    }
}

#[test]
fn a_portal_holds_nothing_of_another_client() {
    let ids: Vec<String> = (0..12).map(|n| format!("id-canary-{n}x")).collect();
    let names: Vec<String> = (0..12).map(|n| format!("Name Canary {n}x")).collect();
    let contacts: Vec<String> = (0..12).map(|n| format!("contact-canary-{n}x@example.com")).collect();
    let contact_lists: Vec<[&str; 1]> = contacts.iter().map(|c| [c.as_str()]).collect();
    let listed: Vec<(&str, &str, &[&str])> =
        (0..12).map(|n| (ids[n].as_str(), names[n].as_str(), contact_lists[n].as_slice())).collect();
    // Each client's count of requests an hour is a number that occurs nowhere else: 7,000,003 …
    let count = |n: usize| 7_000_003 + 100_000 * n as i64;
    let clients: Vec<(String, Usage)> = (0..12)
        .map(|n| (ids[n].clone(), usage(&ids[n], &format!("/endpoint-canary-{n}x"), count(n), 24)))
        .collect();
    let findings: Vec<QuotaFinding> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| QuotaFinding { top_endpoint: format!("/found-canary-{n}x"), ..finding(id, 80) })
        .collect();
    let site = Site::render(&policy(&listed), &clients, &findings);
    for (n, id) in ids.iter().enumerate() {
        let directory = site.portal_dir(id);
        let text = |file: &PathBuf| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        let bytes: Vec<String> = files(&directory).iter().map(text).collect();
        let all = bytes.concat();
        assert!(
            all.contains(&names[n]) && all.contains(&format!("/endpoint-canary-{n}x")),
            "its own is there"
        );
        for other in (0..12).filter(|other| *other != n) {
            let canary = format!("anary-{other}x");
            assert!(!all.contains(&canary) && !all.contains(&names[other]), "{id} sees {other}");
            let number = format!(
                "{},{:03},{:03}",
                count(other) / 1_000_000,
                count(other) / 1_000 % 1_000,
                count(other) % 1_000
            );
            assert!(!all.contains(&number), "{id} sees the number of {other}");
            assert!(
                !all.contains(&Directories::new(SECRET).of(&ids[other])),
                "{id} sees the address of {other}"
            );
        }
    }
}

#[test]
fn each_directory_holds_its_pages_and_the_assets_that_they_name() {
    let site = Site::render(
        &policy(&[("acme", "Acme", &[])]),
        &[("acme".to_string(), usage("acme", "/a", 7, 24))],
        &[],
    );
    let names = |dir: &Path| -> Vec<String> {
        let kinds = files(dir).into_iter().map(|file| {
            let path = file.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            // Names that follow from ids and contents are hex of one length.
            path.split(['/', '-', '.'])
                .filter(|word| word.len() != 12 && word.len() != 32)
                .collect::<Vec<_>>()
                .join(" ")
        });
        let mut kinds: Vec<String> = kinds.collect();
        kinds.sort();
        kinds
    };
    let assets =
        ["assets explore css", "assets explore js", "assets page js", "assets weir css", "assets weir svg"];
    let of = |more: &[&str]| {
        let mut all: Vec<String> = assets.iter().chain(more).map(ToString::to_string).collect();
        all.sort();
        all
    };
    let data = ["hour", "day"].map(|grain| {
        ["total", "clients", "endpoints", "all"].map(|kind| format!("data {grain} {kind} parquet"))
    });
    let data = data.iter().flatten().map(String::as_str);
    let platform = ["client html", "clients html", "endpoint html", "explore html", "health html"];
    let platform = platform.into_iter().chain(["anomalies html", "objectives html"]);
    let platform: Vec<&str> = platform.chain(["index html", "limits html"]).chain(data).collect();
    assert_eq!(names(&site.dir.path().join("site")), of(&platform));
    let portal = ["explore html", "index html", "month html", "data day csv", "data day json"];
    let data = ["data day endpoints parquet", "data hour endpoints parquet"];
    assert_eq!(names(&site.portal_dir("acme")), of(&[&portal[..], &data].concat()));
    for page in
        files(site.dir.path()).into_iter().filter(|file| file.extension().is_some_and(|e| e == "html"))
    {
        let html = fs::read_to_string(&page).unwrap();
        for link in ["href=\"", "src=\""].iter().flat_map(|head| html.split(*head).skip(1)) {
            let asset = link.split('"').next().unwrap();
            assert!(!asset.contains("assets/") || page.with_file_name("").join(asset).is_file(), "{asset}");
        }
        let inline = ["<style", " style=", "<script>", "onclick", "javascript:"];
        assert!(inline.iter().all(|bad| !html.contains(bad)), "{page:?} is not as the CSP wants it");
    }
}

/// Every page of a site, by its path.
fn pages(site: &Site) -> Vec<(PathBuf, String)> {
    let html =
        files(site.dir.path()).into_iter().filter(|file| file.extension().is_some_and(|e| e == "html"));
    html.map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn the_platforms_pages_lead_to_one_another_and_to_the_portals() {
    let clients = [("acme".to_string(), usage("acme", "/a", 7, 24))];
    let site = Site::render(&policy(&[("acme", "Acme", &[]), ("idle", "Idle", &[])]), &clients, &[]);
    let page = |name: &str| fs::read_to_string(site.dir.path().join("site").join(name)).unwrap();
    let directories = Directories::new(SECRET);
    let (client, endpoint) = (directories.page("client", "acme"), directories.page("endpoint", "GET /a"));
    for from in ["index.html", "clients.html", "limits.html", "anomalies.html", "objectives.html"] {
        assert!(page(from).contains(&client), "{from}");
    }
    assert!(page("index.html").contains(&endpoint) && page(&client).contains(&format!("../{endpoint}")));
    assert!(page(&client).contains(&directories.url("https://usage.example.com", "acme")));
    assert!(page(&endpoint).contains(&format!("../{client}")));
    assert!(page("clients.html").contains("Idle"), "who sent nothing is listed too");
    assert!(page("limits.html").contains("312") && page("limits.html").contains("41"));
    let health = page("health.html");
    assert!(health.contains("gw-2") && health.contains("do not decide by the same policy"));
    let anomalies = page("anomalies.html");
    for told in
        ["Many requests", "3,100 requests", "1,000 requests", "3.1 times as much", "Acme", "class=\"band\""]
    {
        assert!(anomalies.contains(told), "{told}");
    }
    for told in ["99.9 % available", "96.000 %", "−3900 %", "40.0 × over 1 h", "missed", "2 h of the month"]
    {
        assert!(page("objectives.html").contains(told), "{told}");
    }
    for told in ["2 error budgets burn too fast", "1 promise is missed", "1 quota will likely run out"] {
        assert!(page("index.html").contains(told), "{told}");
    }
    let soon = "1,500 requests/day will likely be used up by 24 Nov 2026, 20:00 UTC";
    assert!(page("clients.html").contains(soon));
    for html in [page(&client), site.portal("acme")] {
        assert!(html.contains("3,100 requests in an hour") && html.contains("where 1,000 requests"));
        assert!(html.contains("99.9 % available") && html.contains("96.000 %") && html.contains("GET /a"));
        assert!(html.contains("How far 1,500 requests/day go") && html.contains("between 1,400 and 2,000"));
    }
}

#[test]
fn a_portal_in_which_nothing_changed_is_taken_over_and_one_that_did_is_rendered() {
    let known = policy(&[("acme", "Acme", &[]), ("beta", "Beta", &[])]);
    let mut clients = vec![
        ("acme".to_string(), usage("acme", "/a", 7, 24)),
        ("beta".to_string(), usage("beta", "/b", 3, 24)),
    ];
    let site = Site::render(&known, &clients, &[]);
    assert_eq!(site.again(&known, &clients, &[]).unwrap().kept, 2);
    clients[1].1 = usage("beta", "/b", 4, 24);
    assert_eq!(site.again(&known, &clients, &[]).unwrap().kept, 1);
    assert!(site.portal("beta").contains("96"), "4 an hour for a day");
    // Another name, another finding, pages that somebody removed: all are rendered.
    assert_eq!(site.again(&renamed(known.clone(), "acme", "Other"), &clients, &[]).unwrap().kept, 1);
    assert_eq!(site.again(&known, &clients, &[finding("acme", 80)]).unwrap().kept, 1);
    fs::remove_file(site.portal_dir("beta").join("explore.html")).unwrap();
    let report = site.again(&known, &clients, &[finding("acme", 80)]).unwrap();
    assert_eq!((report.kept, site.portal_dir("beta").join("explore.html").exists()), (1, true));
}

#[test]
fn a_new_clients_portal_leads_to_exports_and_a_month_once_they_are_there() {
    let known = policy(&[("acme", "Acme", &[]), ("new", "New", &[])]);
    let mut clients = vec![("acme".to_string(), usage("acme", "/a", 7, 24))];
    let site = Site::render(&known, &clients, &[]);
    clients.push(("new".to_string(), usage("new", "/a", 3, 24)));
    // Data is read every five minutes; the page of who came since is there at once.
    site.with_data(&known, &clients, &[], None).unwrap();
    let leads_to = |client: &str| {
        let pages = ["index.html", "explore.html"];
        let html = pages.map(|page| fs::read_to_string(site.portal_dir(client).join(page)).unwrap()).concat();
        let own = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let own: Vec<String> = own.filter(|link| !link.starts_with('#')).map(str::to_owned).collect();
        assert_eq!(own.iter().find(|link| !site.portal_dir(client).join(link).is_file()), None, "{client}");
        own
    };
    let (old, new) = (leads_to("acme"), leads_to("new"));
    let is_export = |link: &String| link.starts_with("data/") || link == "month.html";
    assert!(old.iter().any(is_export) && !new.iter().any(is_export), "{new:?}");
    site.again(&known, &clients, &[]).unwrap();
    assert_eq!(leads_to("new"), old);
}

#[test]
fn pages_of_clients_and_endpoints_in_which_nothing_changed_are_taken_over() {
    let known = policy(&[("acme", "Acme", &[]), ("beta", "Beta", &[])]);
    let mut clients = vec![
        ("acme".to_string(), usage("acme", "/a", 7, 24)),
        ("beta".to_string(), usage("beta", "/b", 3, 24)),
    ];
    let site = Site::render(&known, &clients, &[]);
    let page = |kind: &str, name: &str| {
        fs::read_to_string(site.dir.path().join("site").join(Directories::new(SECRET).page(kind, name)))
            .unwrap()
    };
    let before = (page("client", "acme"), page("endpoint", "GET /a"));
    assert_eq!(site.again(&known, &clients, &[]).unwrap().kept_pages, 4);
    assert_eq!((page("client", "acme"), page("endpoint", "GET /a")), before);
    // Other usage, and another name on the client's page and on that of its endpoint.
    clients[1].1 = usage("beta", "/b", 4, 24);
    assert_eq!(site.again(&known, &clients, &[]).unwrap().kept_pages, 2);
    assert!(page("client", "beta").contains("96"), "4 an hour for a day");
    let renamed = renamed(known.clone(), "acme", "Other");
    assert_eq!(site.again(&renamed, &clients, &[]).unwrap().kept_pages, 2);
    assert!(page("endpoint", "GET /a").contains("Other"));
}

#[test]
fn edges_of_data_render_without_nonsense() {
    let known = policy(&[("acme", "Acme", &[])]);
    let mut huge = usage("acme", "/a", 1_000_000_000_000, 24);
    huge.completeness.missing = 3;
    let mut future = usage("acme", "/a", 5, 24);
    future.completeness.complete_to_us = Some(i64::MAX);
    let mut negative = usage("acme", "/a", -5, 3);
    negative.to_us = negative.from_us;
    let cases = [
        usage("acme", "/a", 0, 0),
        usage("acme", "/a", 1, 1),
        usage("acme", "/a", 0, 24),
        huge,
        future,
        negative,
    ];
    for (n, case) in cases.into_iter().enumerate() {
        let site = Site::render(&known, &[("acme".to_string(), case)], &[]);
        for (_, html) in pages(&site) {
            // "inf" and "NaN" as numbers, not within words.
            let broken = ["NaN", ">inf", " inf", "-inf", "\"inf"].iter().find(|word| html.contains(*word));
            assert_eq!(broken, None, "case {n}");
        }
    }
}

#[test]
fn nothing_yet_is_said_kindly_and_a_trillion_fits() {
    let known = policy(&[("acme", "Acme", &[])]);
    let empty = Site::render(&known, &[("acme".to_string(), usage("acme", "/a", 0, 0))], &[]);
    assert!(empty.overview().contains("Nothing has flowed over this weir yet"));
    assert!(
        empty.portal("acme").contains("No requests yet")
            && empty.portal("acme").contains("2,000 requests per hour")
    );
    let huge = Site::render(&known, &[("acme".to_string(), usage("acme", "/a", 1_000_000_000_000, 24))], &[]);
    assert!(huge.overview().contains("24 T") && huge.overview().contains("24,000,000,000,000"));
}

#[test]
fn the_portal_tells_use_against_each_limit_in_the_clients_time() {
    let known = policy(&[("acme", "Acme", &[])]);
    let site =
        Site::render(&known, &[("acme".to_string(), usage("acme", "/a", 1_500, 24))], &[finding("acme", 80)]);
    let html = site.portal("acme");
    assert!(html.contains("1,600 requests (80 %)"), "the finding is the highest use of the hour");
    assert!(html.contains("at least 25 requests (25 %)"), "an hour's mean for the minute");
    assert!(html.contains("8.25 MB (1.65 %)"), "bytes in and out");
    assert!(html.contains("by 08:05 CST (14:05 UTC)") && html.contains("America/Chicago"));
}

#[test]
fn late_books_and_missing_records_are_said() {
    let mut late = usage("acme", "/a", 5, 24);
    late.completeness.complete_to_us = Some(NOW - 3 * HOUR);
    late.completeness.missing = 1_234;
    let clients = [("acme".to_string(), late.clone())];
    let site = Site::render(&policy(&[("acme", "Acme", &[])]), &clients, &[]);
    let html = site.portal("acme");
    assert!(html.contains("3 h behind") && html.contains("1,234 records known to be missing"));
    assert!(!html.contains("unknown: a gateway"));
    late.completeness.known.silent =
        vec![Silence { gateway: "gw-2".to_string(), from_us: NOW - 2 * HOUR, to_us: NOW - HOUR / 2 }];
    late.completeness.known.lost = [("the disk was full".to_string(), 77)].into();
    let clients = [("acme".to_string(), late.clone())];
    let site = Site::render(&policy(&[("acme", "Acme", &[])]), &clients, &[]);
    let told = "1 h 30 min unknown: a gateway was silent";
    assert!(site.overview().contains(told) && site.portal("acme").contains(told));
    assert!(!site.portal("acme").contains("gw-2"), "how gateways are called is nobody else's business");
    let health = fs::read_to_string(site.dir.path().join("site/health.html")).unwrap();
    assert!(health.contains("gw-2") && health.contains("77 records: the disk was full"));
}

#[test]
fn the_same_input_gives_the_same_bytes_and_gone_clients_are_gone() {
    let known = policy(&[("acme", "Acme", &[]), ("beta", "Beta", &[])]);
    let clients =
        [("acme".to_string(), usage("acme", "/a", 7, 24)), ("beta".to_string(), usage("beta", "/b", 3, 24))];
    let site = Site::render(&known, &clients, &[]);
    let (before, portal) = (site.overview(), site.portal("acme"));
    site.again(&known, &clients, &[]).unwrap();
    assert_eq!((site.overview(), site.portal("acme")), (before, portal));
    site.again(&known, &clients[..1], &[]).unwrap();
    assert!(!site.portal_dir("beta").exists() && site.portal_dir("acme").exists());
}

#[test]
fn a_failed_rendering_leaves_the_pages_of_before() {
    let known = policy(&[("acme", "Acme", &[])]);
    let clients = [("acme".to_string(), usage("acme", "/a", 7, 24))];
    let site = Site::render(&known, &clients, &[]);
    let before = site.overview();
    let input = SiteInput {
        now_us: NOW,
        policy: &known,
        overview: &usage("acme", "/changed", 9, 24),
        previous: None,
        clients: &clients,
        endpoints: &[],
        recent: &Recent::default(),
        anomalies: &[],
        promises: None,
        forecasts: &[],
        data: None,
        live: &[],
        live_usage: None,
        findings: &[],
        public_url: None,
        directories: &Directories::new(SECRET),
    };
    // A file where the portals should be: the site, staged first, must not be published either.
    let blocked = site.dir.path().join("blocked");
    fs::write(&blocked, "").unwrap();
    let error = render_site(&input, &site.dir.path().join("site"), &blocked).unwrap_err();
    assert!(error.to_string().contains("is no directory"), "{error}");
    assert_eq!(site.overview(), before);
}
