//! Mails as the bytes that go over the wire, read back by an independent parser.

mod common;

use common::{NOW, finding, hostile, policy, renamed};
use mailparse::{MailHeaderMap, ParsedMail, parse_mail};
use weir_analytics::view::QuotaFinding;
use weir_policy::Policy;
use weir_reports::mail::{Audience, ComposeInput, Composed, OutgoingMail, compose};

fn acme() -> Policy {
    policy(&[
        ("acme", "Acme Corp", &["api@acme.example", "ops@acme.example"]),
        ("beta", "Beta Canary", &["b@beta.example"]),
    ])
}

fn composed(policy: &Policy, finding: &QuotaFinding, audience: Audience) -> Composed {
    let input = ComposeInput {
        policy,
        from: "weir <weir@example.com>",
        public_url: Some("https://usage.example.com"),
        directories: &weir_reports::Directories::new([9; 32]),
        now_us: NOW,
    };
    compose(finding, audience, &input)
}

fn first(policy: &Policy, finding: &QuotaFinding, audience: Audience) -> OutgoingMail {
    let composed = composed(policy, finding, audience);
    assert!(composed.failed.is_empty(), "{:?}", composed.failed);
    composed.mails.into_iter().next().expect("one recipient at least")
}

fn header(mail: &ParsedMail, name: &str) -> String {
    let values = mail.headers.get_all_values(name);
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values.into_iter().next().unwrap()
}

/// The text and the HTML of a message.
fn bodies(raw: &[u8]) -> (String, String) {
    let mail = parse_mail(raw).unwrap();
    assert_eq!(mail.ctype.mimetype, "multipart/alternative");
    let kinds: Vec<&str> = mail.subparts.iter().map(|part| part.ctype.mimetype.as_str()).collect();
    assert_eq!(kinds, ["text/plain", "text/html"]);
    (mail.subparts[0].get_body().unwrap(), mail.subparts[1].get_body().unwrap())
}

#[test]
fn a_subject_says_it_all() {
    let subject = |threshold, audience| first(&acme(), &finding("acme", threshold), audience).subject;
    assert_eq!(
        subject(80, Audience::Platform),
        "Acme Corp used 80 % of 2,000 requests/hour (1,600) by 14:05 UTC"
    );
    assert_eq!(
        subject(80, Audience::Client),
        "80 % of your 2,000 requests/hour used (1,600) by 08:05 CST (14:05 UTC)"
    );
    assert_eq!(
        subject(100, Audience::Platform),
        "Acme Corp reached 2,000 requests/hour at 14:05 UTC; 312 requests refused"
    );
    assert_eq!(
        subject(100, Audience::Client),
        "Your limit of 2,000 requests/hour was reached at 08:05 CST (14:05 UTC); 312 requests refused"
    );
}

#[test]
fn both_parts_say_the_same() {
    for threshold in [80, 90, 100] {
        for audience in [Audience::Platform, Audience::Client] {
            let mail = first(&acme(), &finding("acme", threshold), audience);
            let (text, html) = bodies(&mail.message.formatted());
            let used = format!(
                "{} requests ({threshold} %)",
                if threshold == 100 {
                    "2,000"
                } else if threshold == 90 {
                    "1,800"
                } else {
                    "1,600"
                }
            );
            let link = format!(
                "https://usage.example.com/portal/{}/",
                weir_reports::Directories::new([9; 32]).of("acme")
            );
            for fact in [
                "Acme Corp",
                "2,000 requests/hour",
                &used,
                "97 % of it POST /orders",
                "24 Nov 2026",
                &link,
                "unsubscribe",
            ] {
                assert!(text.contains(fact), "{fact} in {text}");
                assert!(html.contains(fact), "{fact} in the HTML");
            }
            assert!(!html.contains("<img") && !html.contains("url("), "nothing is loaded from anywhere");
            assert!(text.lines().all(|line| line.len() <= 160), "{text}");
        }
    }
}

#[test]
fn headers_are_those_of_a_machine_and_of_a_thread() {
    let (near, full) = (
        first(&acme(), &finding("acme", 80), Audience::Client),
        first(&acme(), &finding("acme", 100), Audience::Client),
    );
    let (near_raw, full_raw) = (near.message.formatted(), full.message.formatted());
    let (a, b) = (parse_mail(&near_raw).unwrap(), parse_mail(&full_raw).unwrap());
    assert_eq!(header(&a, "Auto-Submitted"), "auto-generated");
    assert_eq!(header(&a, "List-Unsubscribe"), "<mailto:weir@example.com?subject=unsubscribe>");
    assert_eq!(header(&a, "To"), "api@acme.example");
    assert_eq!(header(&a, "Date"), "Tue, 24 Nov 2026 14:05:00 +0000");
    assert_eq!(header(&a, "References"), header(&b, "References"), "the two form a thread");
    assert_eq!(header(&a, "In-Reply-To"), header(&a, "References"));
    assert_ne!(header(&a, "Message-ID"), header(&b, "Message-ID"));
    assert!(header(&a, "Message-ID").ends_with("@example.com>"));
}

#[test]
fn composing_again_gives_the_same_bytes_and_each_recipient_its_own_mail() {
    let again = || composed(&acme(), &finding("acme", 80), Audience::Client).mails;
    let (one, two) = (again(), again());
    assert_eq!(one.len(), 2);
    for (a, b) in one.iter().zip(&two) {
        assert_eq!((a.id.as_str(), a.message.formatted()), (b.id.as_str(), b.message.formatted()));
    }
    assert_ne!(one[0].id, one[1].id);
    assert!(
        !String::from_utf8(one[0].message.formatted()).unwrap().contains("ops@acme.example"),
        "contacts do not see one another"
    );
}

#[test]
fn no_name_breaks_out_of_its_place() {
    for name in hostile() {
        let hostile = QuotaFinding { top_endpoint: name.clone(), ..finding("acme", 100) };
        let mail = first(&renamed(acme(), "acme", &name), &hostile, Audience::Platform);
        let raw = mail.message.formatted();
        assert!(raw.is_ascii(), "{name:?}: needs no 8BITMIME");
        let text = String::from_utf8(raw.clone()).unwrap();
        assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])), "{name:?}");
        let parsed = parse_mail(&raw).unwrap();
        let mut names: Vec<String> = parsed.headers.iter().map(|h| h.get_key().to_lowercase()).collect();
        names.sort();
        let want = [
            "auto-submitted",
            "content-type",
            "date",
            "from",
            "in-reply-to",
            "list-unsubscribe",
            "message-id",
            "mime-version",
            "references",
            "subject",
            "to",
        ];
        assert_eq!(names, want, "{name:?}");
        assert_eq!(header(&parsed, "To"), "platform@example.com");
        assert_eq!(header(&parsed, "Subject"), mail.subject, "{name:?} comes back from its encoding");
        let (body, html) = bodies(&raw);
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b>"), "{name:?}");
        assert!(body.contains("-- \r\n") || body.contains("-- \n"), "{name:?} leaves the text whole");
        assert!(!body.contains('\u{202e}') && !body.contains("\n.\n"), "{name:?}");
    }
}

#[test]
fn a_clients_mail_holds_only_that_clients_numbers() {
    for mail in composed(&acme(), &finding("acme", 100), Audience::Client).mails {
        let (text, html) = bodies(&mail.message.formatted());
        for part in [text, html, mail.subject] {
            assert!(
                !part.contains("Beta Canary")
                    && !part.contains("b@beta.example")
                    && !part.contains("platform@")
            );
        }
    }
}

#[test]
fn a_deleted_client_is_written_about_but_not_to() {
    let gone = finding("gone", 80);
    assert!(composed(&acme(), &gone, Audience::Client).mails.is_empty());
    let mail = first(&acme(), &gone, Audience::Platform);
    assert!(mail.subject.starts_with("gone used 80 %"));
    assert!(bodies(&mail.message.formatted()).0.contains("not told: the policy names none"));
}

#[test]
fn a_wrong_sender_is_an_error_that_says_where() {
    let input = ComposeInput {
        policy: &acme(),
        from: "x@y\r\nRCPT TO:<z@z>",
        public_url: None,
        directories: &weir_reports::Directories::new([0; 32]),
        now_us: NOW,
    };
    let composed = compose(&finding("acme", 80), Audience::Platform, &input);
    assert!(composed.mails.is_empty());
    assert!(composed.failed[0].to_string().contains("correct [mail] from"));
}
