//! Alerts as a whole: `weir tick` on books made for it, a real SMTP server, a webhook and a heartbeat.
#![allow(clippy::disallowed_methods)] // the clock of what is metered

mod alert_common;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use alert_common::{Hook, PLATFORM, Place, policy, secret, value};
use weir_testbed::wait::{pass, until};

#[test]
fn a_use_that_flaps_and_ticks_that_repeat_are_one_mail_each() {
    let mut place = Place::new(&policy(&["acme"], ""), "");
    place.meter("acme", 41);
    for _ in 0..3 {
        place.installation.ok(&["tick"]).unwrap();
    }
    assert_eq!(place.recipients(), ["api@acme.example", PLATFORM]);
    // Late records of another gateway put the crossing elsewhere.
    place.meter("acme", 3);
    place.installation.ok(&["tick"]).unwrap();
    assert_eq!(place.told().len(), 2);
}

#[test]
fn a_client_that_leaves_between_crossing_and_mail_hears_no_more_and_the_new_contact_does() {
    let mut place = Place::new(&policy(&["gone", "stays"], ""), "");
    place.smtp.go_away();
    place.meter("gone", 50);
    place.meter("stays", 50);
    assert!(!place.installation.run(&["tick"]).unwrap().status.success());
    let changed = policy(&["stays"], "").replace("api@stays", "new@stays");
    fs::write(place.installation.policy(), changed).unwrap();
    place.smtp.come_back().unwrap();
    place.installation.ok(&["tick"]).unwrap();
    assert_eq!(place.recipients(), ["new@stays.example", PLATFORM, PLATFORM]);
}

#[test]
fn many_at_once_are_a_digest_for_the_team_and_everybody_hears_of_itself_alone() {
    let ids: Vec<String> = (0..12).map(|n| format!("client{n:02}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut place = Place::new(&policy(&ids, ""), "");
    ids.iter().for_each(|id| place.meter(id, 50));
    place.installation.ok(&["tick"]).unwrap();
    let mails = place.smtp.mails().unwrap();
    assert_eq!(mails.len(), 13);
    assert!(mails[0].is_to(PLATFORM), "the team's first");
    assert!(mails[0].subject().starts_with("12 findings, 12 critical"), "{}", mails[0].subject());
    for mail in &mails[1..] {
        let own = mail.to[0].trim_start_matches("api@").trim_end_matches(".example");
        for id in &ids {
            assert_eq!(mail.text.contains(id), *id == own, "{id} in a mail to {own}");
        }
    }
}

#[test]
fn mail_pages_and_findings_say_the_same() {
    let mut place = Place::new(&policy(&["acme"], ""), "");
    place.meter("acme", 41);
    place.installation.ok(&["tick"]).unwrap();
    let told: serde_json::Value =
        serde_json::from_str(&place.installation.ok(&["findings", "--json"]).unwrap()).unwrap();
    let finding = &told["findings"][0];
    assert_eq!((&finding["kind"], &finding["client"]), (&"quota_threshold".into(), &"acme".into()));
    let figure = |name: &str| {
        let figures = finding["figures"].as_array().unwrap();
        figures.iter().find(|figure| figure["name"] == name).unwrap()["value"].as_f64().unwrap()
    };
    assert_eq!((figure("threshold"), figure("used")), (80.0, 40.0));
    let portals = fs::read_dir(place.installation.portal()).unwrap().flatten();
    let mut texts: Vec<String> =
        portals.map(|portal| fs::read_to_string(portal.path().join("index.html")).unwrap()).collect();
    texts.push(fs::read_to_string(place.installation.site().join("index.html")).unwrap());
    texts.extend(place.smtp.mails().unwrap().into_iter().map(|mail| mail.text));
    assert_eq!(texts.len(), 4, "the client's page, the team's, and a mail to each");
    for text in &texts {
        assert!(text.contains("80 %") && text.contains("50 requests/hour"), "{text}");
        assert!(text.contains("(40)") || text.contains("40 requests (80 %)"), "{text}");
    }
}

#[test]
fn as_many_mails_a_tick_as_configured_and_the_rest_in_the_next() {
    let ids: Vec<String> = (0..12).map(|n| format!("client{n:02}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut place = Place::new(&policy(&ids, ""), "mails_per_tick = 5\n");
    ids.iter().for_each(|id| place.meter(id, 50));
    for most in [5, 10, 13, 13] {
        place.installation.ok(&["tick"]).unwrap();
        assert_eq!(place.told().len(), most);
    }
    let mut told = place.recipients();
    told.dedup();
    assert_eq!(told.len(), 13, "nobody has two");
}

#[test]
fn the_webhook_has_what_the_team_is_told_signed_and_again_with_the_same_id() {
    let hook = Hook::open("302 Found\r\nlocation: http://127.0.0.1:1/");
    let more = format!(
        "[webhook]\nurl = \"http://127.0.0.1:{0}/in\"\nsecret_file = \"secret\"\n\
         [heartbeat]\nurl = \"http://127.0.0.1:{0}/beat\"\n",
        hook.port
    );
    let mut place = Place::new(&policy(&["acme"], ""), &more);
    secret(place.dir.path());
    place.meter("acme", 50);
    // A redirect is neither a receipt nor followed, and a tick that failed does not call the heartbeat.
    assert!(!place.installation.run(&["tick"]).unwrap().status.success());
    *hook.answer.lock().unwrap() = "204 No Content".to_owned();
    place.installation.ok(&["tick"]).unwrap();
    place.installation.ok(&["tick"]).unwrap();
    let kept = hook.kept();
    let lines: Vec<&str> = kept.iter().map(|(head, _)| head[0].as_str()).collect();
    let (post, beat) = ("POST /in HTTP/1.1", "GET /beat HTTP/1.1");
    assert_eq!(lines, [post, post, beat, beat]);
    let id = |n: usize| value(&kept[n].0, "webhook-id").unwrap();
    assert_eq!((id(0), &kept[0].1), (id(1), &kept[1].1));
    assert!(value(&kept[1].0, "webhook-signature").unwrap().starts_with("v1,"));
    let body: serde_json::Value = serde_json::from_str(&kept[1].1).unwrap();
    assert_eq!(body["type"], "findings.fired");
    assert_eq!(body["data"]["findings"][0]["kind"], "quota_exhausted");
    assert_eq!(place.told().len(), 2, "mails do not wait for the webhook");
}

#[test]
fn a_metadata_address_is_not_called() {
    let more = "[webhook]\nurl = \"http://169.254.169.254/latest\"\nsecret_file = \"secret\"\n";
    let mut place = Place::new(&policy(&["acme"], ""), more);
    secret(place.dir.path());
    place.meter("acme", 50);
    let output = place.installation.run(&["tick"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("metadata address"), "{said}");
}

/// How long it takes from a crossing to the client's mail, with a tick a minute: a hundred clients that
/// cross at any moment of three minutes. `cargo test --test alerts crossing -- --ignored --nocapture`.
#[test]
#[ignore = "takes five minutes"]
fn seconds_from_crossing_to_mail() {
    let ids: Vec<String> = (0..100).map(|n| format!("client{n:02}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut place = Place::new(&policy(&ids, ""), "");
    let mut ticks = place.installation.spawn(&["run", "--every", "60"]).unwrap();
    let mut crossed = std::collections::BTreeMap::new();
    for id in &ids {
        place.meter(id, 50);
        crossed.insert(format!("api@{id}.example"), SystemTime::now());
        pass(Duration::from_millis(1_800));
    }
    let all = || place.recipients().iter().filter(|to| *to != PLATFORM).count() >= 100;
    assert!(until(Duration::from_secs(200), all), "{:?}", place.recipients());
    ticks.kill().unwrap();
    ticks.wait().unwrap();
    let mut seconds: Vec<f64> = Vec::new();
    for (about, at) in came(&place) {
        let to = crossed.iter().find(|(to, _)| about.contains(&format!("\"{to}\"")));
        seconds.extend(to.map(|(_, since)| at.duration_since(*since).unwrap_or_default().as_secs_f64()));
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "{} mails, seconds from crossing: p50 {:.1}, p99 {:.1}",
        seconds.len(),
        seconds[49],
        seconds[98]
    );
    assert_eq!(seconds.len(), 100);
}

/// Ten thousand clients that use up their limit in the same minute, tick after tick without a pause until
/// everybody has a mail: how soon that is, and what a tick holds in memory. Without pages, which are made
/// after the mails. Part of `make bench-findings`.
#[test]
#[ignore = "takes minutes"]
fn ten_thousand_clients_cross_in_one_minute() {
    let count: usize = std::env::var("WEIR_CROSSING").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let most = 2_000;
    let ids: Vec<String> = (0..count).map(|n| format!("client{n:05}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let policy = policy(&ids, "").replace("50 requests/hour", "1 requests/hour");
    let mut place = Place::new(&policy, &format!("mails_per_tick = {most}\n"));
    place.meter_each(&ids);
    let crossed = SystemTime::now();
    let mut turn = 0;
    while place.told().len() <= count {
        turn += 1;
        assert!(turn < 100, "{} mails", place.told().len());
        let begun = std::time::Instant::now();
        let peak_kib = tick_without_pages(&place);
        let (seconds, mails) = (begun.elapsed().as_secs_f64(), place.told().len());
        println!("tick {turn}: {seconds:.0} s, {peak_kib} KiB at most, {mails} mails so far");
        assert!(mails <= turn * (most + 1), "{mails}");
    }
    let mut told = place.recipients();
    assert_eq!(told.iter().filter(|to| *to == PLATFORM).count(), 1, "the team has one digest");
    told.dedup();
    assert_eq!(told.len(), count + 1, "nobody has two");
    let mut seconds: Vec<f64> =
        came(&place).map(|(_, at)| at.duration_since(crossed).unwrap_or_default().as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[(share * (seconds.len() - 1) as f64) as usize];
    println!("seconds from crossing: p50 {:.1}, p99 {:.1}, last {:.1}", at(0.5), at(0.99), at(1.0));
}

/// Runs a tick to its good end and says how much it held in memory at most.
fn tick_without_pages(place: &Place) -> u64 {
    let mut command = place.installation.command(&["tick"]).unwrap();
    let config = place.dir.path().join("weir.toml");
    let text = fs::read_to_string(&config).unwrap();
    let (before, after) = (text.find("[site]").unwrap(), text.find("[mail]").unwrap());
    fs::write(&config, format!("{}{}", &text[..before], &text[after..])).unwrap();
    let mut tick = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peak_kib = 0;
    let status = loop {
        let text = fs::read_to_string(format!("/proc/{}/status", tick.id())).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak_kib = peak.and_then(|kib| kib.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(peak_kib);
        match tick.try_wait().unwrap() {
            Some(status) => break status,
            None => pass(Duration::from_millis(50)),
        }
    };
    assert!(status.success(), "{status}");
    peak_kib
}

/// What the server says of each mail, and when it came.
fn came(place: &Place) -> impl Iterator<Item = (String, SystemTime)> {
    let entries = fs::read_dir(place.dir.path().join("mails")).unwrap().flatten();
    let abouts = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "json"));
    abouts.map(|entry| {
        let about = fs::read_to_string(entry.path()).unwrap_or_default();
        (about, entry.metadata().unwrap().modified().unwrap())
    })
}
