//! Mails through a real SMTP server with STARTTLS and AUTH.

use std::fs;

use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::smtp::{Mail, PASSWORD, Smtp, USER};
use weir_testbed::weir::Installation;

const PLATFORM: &str = "platform@example.com";

/// Two clients with an hourly limit of 50: `near` has used 42 of it, `over` all. Names are of the
/// kind that breaks headers and HTML.
fn policy() -> String {
    let client = |id: &str, name: &str| {
        format!(
            "[clients.{id}]\nname = {name:?}\nkeys = [\"{}\"]\ncontacts = [\"api@{id}.example\"]\n",
            key_hash(id)
        )
    };
    format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"50 requests/hour\"]\n{}{}\
         [alerts]\nto = [\"{PLATFORM}\"]\nthresholds = [80, 100]\n",
        client("near", "Near <script>alert(1)</script> & \"Sons\""),
        client("over", "Over Ltd")
    )
}

fn scene_with_usage() -> Scene {
    let mut scene = Plot::new(&policy()).start().unwrap();
    for (key, requests) in [("near", 42), ("over", 60)] {
        for _ in 0..requests {
            Request::get(scene.port(), "/orders").key(key).send().unwrap();
        }
    }
    scene.close();
    scene
}

fn installation(scene: &Scene, smtp: &Smtp) -> Installation {
    let password = scene.installation.dir().join("smtp-password");
    fs::write(&password, PASSWORD).unwrap();
    scene
        .installation
        .clone()
        .mail(&format!("smtp://{USER}@localhost:{}", smtp.port()))
        .password_file(&password)
        .ca_file(smtp.ca().unwrap())
}

/// What each mail says: to whom, about whom, and whether the limit was reached.
fn told(mails: &[Mail]) -> Vec<(String, &'static str, bool)> {
    let of = |mail: &Mail| {
        let about = if mail.text.contains("Over Ltd") { "over" } else { "near" };
        (mail.to.join(","), about, mail.subject().contains("reached"))
    };
    let mut told: Vec<_> = mails.iter().map(of).collect();
    told.sort();
    told
}

/// The team hears of both clients, each client of itself, and each of the highest threshold crossed.
fn assert_each_mailed_once(mails: &[Mail]) {
    for mail in mails {
        assert!(mail.tls, "sent in the clear: {}", mail.text);
        assert_eq!(mail.user.as_deref(), Some(USER));
        assert!(mail.text.contains("Message-ID:") && mail.text.contains("Auto-Submitted:"));
    }
    let told = told(mails);
    let told: Vec<(&str, &str, bool)> = told.iter().map(|(to, about, r)| (to.as_str(), *about, *r)).collect();
    let expected = [
        ("api@near.example", "near", false),
        ("api@over.example", "over", true),
        (PLATFORM, "near", false),
        (PLATFORM, "over", true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_client_at_80_and_one_at_100_percent_are_mailed_once_each() {
    let (smtp, scene) = (Smtp::start().unwrap(), scene_with_usage());
    let installation = installation(&scene, &smtp);
    installation.ok(&["tick"]).unwrap();
    let mails = smtp.mails().unwrap();
    assert_each_mailed_once(&mails);
    installation.ok(&["tick"]).unwrap();
    assert_eq!(smtp.mails().unwrap().len(), mails.len(), "a second tick mailed again");
}

#[test]
fn a_name_with_html_stays_text() {
    let (smtp, scene) = (Smtp::start().unwrap(), scene_with_usage());
    installation(&scene, &smtp).ok(&["tick"]).unwrap();
    let mails = smtp.mails().unwrap();
    let to_near = mails.iter().find(|mail| mail.is_to("api@near.example")).unwrap();
    assert!(!to_near.html().is_empty() && !to_near.html().contains("<script>"), "{}", to_near.text);
}

#[test]
fn mails_wait_for_a_server_that_is_away() {
    let (mut smtp, scene) = (Smtp::start().unwrap(), scene_with_usage());
    let installation = installation(&scene, &smtp);
    smtp.go_away();
    let output = installation.run(&["tick"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked") && !said.contains(PASSWORD), "{said}");
    // The books are not held up by the mails.
    assert_eq!(installation.usage("minute").unwrap().requests(), 102, "{said}");
    smtp.come_back().unwrap();
    installation.ok(&["tick"]).unwrap();
    assert_each_mailed_once(&smtp.mails().unwrap());
}

#[test]
fn a_server_that_says_later_gets_them_later_and_once() {
    let (smtp, scene) = (Smtp::start().unwrap(), scene_with_usage());
    let installation = installation(&scene, &smtp);
    smtp.refuse(Some("451 4.3.0 try again later")).unwrap();
    installation.run(&["tick"]).unwrap();
    assert!(smtp.mails().unwrap().is_empty());
    smtp.refuse(None).unwrap();
    installation.ok(&["tick"]).unwrap();
    assert_each_mailed_once(&smtp.mails().unwrap());
}

#[test]
fn a_certificate_by_an_unknown_authority_is_not_trusted() {
    let (smtp, scene) = (Smtp::start().unwrap(), scene_with_usage());
    let other = Smtp::start().unwrap();
    let installation = installation(&scene, &smtp).ca_file(other.ca().unwrap());
    let output = installation.run(&["tick"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.to_lowercase().contains("certificate"), "{said}");
    assert!(smtp.mails().unwrap().is_empty());
}
