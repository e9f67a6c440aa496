//! What goes wrong between a crossing and the mail about it: clocks that step, ticks that are missed,
//! policies that change, records that come late, a webhook that refuses. A real mail server tells what
//! came of it.

mod alert_common;

use std::fs;

use alert_common::{Hook, PLATFORM, Place, policy, secret};

#[test]
fn clocks_that_step_repeat_nothing_and_what_crosses_after_them_is_told() {
    let mut place = Place::new(&policy(&["acme", "globex", "initech"], ""), "");
    place.meter("acme", 41);
    place.installation.ok(&["tick"]).unwrap();
    let once = ["api@acme.example", PLATFORM];
    assert_eq!(place.recipients(), once);
    for offset in ["+3h", "-3h", "+2d", "-2d", "+0s"] {
        place.good_tick_at(offset);
        assert_eq!(place.recipients(), once, "after {offset}");
    }
    // Ahead by two days and back: what crosses now is news.
    place.good_tick_at("+2d");
    place.meter("globex", 50);
    place.good_tick_at("+0s");
    let mut both = [once.as_slice(), &["api@globex.example", PLATFORM]].concat();
    both.sort_unstable();
    assert_eq!(place.recipients(), both);
    // Behind by an hour, so that it is metered in the future.
    place.meter("initech", 50);
    place.good_tick_at("-1h");
    place.good_tick_at("+0s");
    both.extend(["api@initech.example", PLATFORM]);
    both.sort_unstable();
    assert_eq!(place.recipients(), both);
}

#[test]
fn a_day_without_a_tick_is_told_late_and_what_is_older_is_history() {
    for (offset, told) in [("+23h", ["api@acme.example", PLATFORM].as_slice()), ("+3d", &[])] {
        let mut place = Place::new(&policy(&["acme"], ""), "");
        place.installation.ok(&["tick"]).unwrap();
        place.meter("acme", 50);
        place.good_tick_at(offset);
        assert_eq!(place.recipients(), told, "at {offset}");
        let listed = place.installation.ok(&["findings"]).unwrap();
        assert!(listed.contains("acme: 100 % of 50 requests/hour reached"), "{listed}");
    }
}

#[test]
fn what_is_muted_between_crossing_and_mail_is_told_to_nobody() {
    let mut place = Place::new(&policy(&["acme", "globex"], ""), "");
    place.smtp.go_away();
    place.meter("acme", 50);
    place.meter("globex", 50);
    assert!(!place.installation.run(&["tick"]).unwrap().status.success());
    let muted = policy(&["acme", "globex"], "mute = [{ client = \"acme\", reason = \"migration\" }]");
    fs::write(place.installation.policy(), muted).unwrap();
    place.smtp.come_back().unwrap();
    place.installation.ok(&["tick"]).unwrap();
    assert_eq!(place.recipients(), ["api@globex.example", PLATFORM]);
    assert!(place.smtp.mails().unwrap().iter().all(|mail| !mail.text.contains("acme")));
    // What was not told while it was muted is not told afterwards either.
    fs::write(place.installation.policy(), policy(&["acme", "globex"], "")).unwrap();
    place.installation.ok(&["tick"]).unwrap();
    assert_eq!(place.told().len(), 2);
}

#[test]
fn thresholds_that_change_between_crossing_and_mail_repeat_nothing() {
    let mut place = Place::new(&policy(&["acme"], ""), "");
    place.meter("acme", 41);
    place.installation.ok(&["tick"]).unwrap();
    let lower = policy(&["acme"], "").replace("[80, 100]", "[50, 80, 100]");
    fs::write(place.installation.policy(), lower).unwrap();
    place.installation.ok(&["tick"]).unwrap();
    assert_eq!(place.recipients(), ["api@acme.example", PLATFORM], "80 % speaks for 50 %");
    // A larger limit: 41 of 500 are nothing, and nobody is told of an end.
    let larger = policy(&["acme"], "").replace("50 requests/hour", "500 requests/hour");
    fs::write(place.installation.policy(), larger).unwrap();
    place.installation.ok(&["tick"]).unwrap();
    assert_eq!(place.told().len(), 2);
}

#[test]
fn late_records_after_an_alert_add_what_they_add_and_repeat_nothing() {
    let mut place = Place::new(&policy(&["acme"], ""), "");
    place.meter("acme", 41);
    place.installation.ok(&["tick"]).unwrap();
    let told = place.told();
    // Another gateway was cut off: what it metered comes an hour later.
    place.meter("acme", 5);
    place.good_tick_at("+1h");
    assert_eq!(place.told(), told, "90 % of it is no threshold");
    place.meter("acme", 9);
    place.good_tick_at("+2h");
    let more: Vec<String> =
        place.told().into_iter().filter(|mail| !told.contains(mail)).map(|(to, _)| to).collect();
    assert_eq!(more, ["api@acme.example", PLATFORM], "now it is exhausted");
    place.good_tick_at("+2h");
    assert_eq!(place.told().len(), 4);
}

#[test]
fn a_message_that_the_webhook_refuses_does_not_hold_the_others_back() {
    let hook = Hook::open("204 No Content");
    let more = format!("[webhook]\nurl = \"http://127.0.0.1:{}/\"\nsecret_file = \"secret\"\n", hook.port);
    let mut place = Place::new(&policy(&["acme", "globex", "initech"], ""), &more);
    secret(place.dir.path());
    for client in ["acme", "globex", "initech"] {
        place.meter(client, 50);
    }
    *hook.refused.lock().unwrap() = Some("acme".to_owned());
    let output = place.installation.run(&["tick"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("did not take 1 of 3 messages"), "{said}");
    let about = |client: &str| hook.kept().iter().filter(|(_, body)| body.contains(client)).count();
    assert_eq!((about("acme"), about("globex"), about("initech")), (1, 1, 1));
    *hook.refused.lock().unwrap() = None;
    place.installation.ok(&["tick"]).unwrap();
    place.installation.ok(&["tick"]).unwrap();
    assert_eq!((about("acme"), about("globex"), about("initech")), (2, 1, 1));
}
