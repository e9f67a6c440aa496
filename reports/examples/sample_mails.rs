//! Writes every kind of mail, made up, to be looked at: `.eml` as it is sent and `.html` as it is
//! read.
//!
//! ```sh
//! cargo run -p weir-reports --example sample_mails -- DIR
//! ```

use std::error::Error;
use std::path::PathBuf;

use weir_analytics::alerts::{Message, To};
use weir_analytics::finding::{Figure, Finding, Kind, Measure, Severity};
use weir_analytics::view::QuotaFinding;
use weir_reports::mail::{Audience, ComposeInput, OutgoingMail, compose, compose_message};

/// 24 Nov 2026, 14:05 UTC.
const NOW: i64 = 1_795_529_100_000_000;

const POLICY: &str = r#"
[tiers.basic]
limits = ["2000 requests/hour", "500 MB/hour"]
[clients.acme]
name = "Acme Corp"
tier = "basic"
timezone = "America/Chicago"
contacts = ["api-team@acme.example"]
[alerts]
to = ["platform@example.com"]
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("name a directory to write to")?);
    std::fs::create_dir_all(&dir)?;
    let policy = weir_policy::parse(POLICY).map_err(|problems| format!("{problems:?}"))?;
    let input = ComposeInput {
        policy: &policy,
        from: "weir <weir@example.com>",
        public_url: Some("https://usage.example.com"),
        directories: &weir_reports::Directories::new([42; 32]),
        now_us: NOW,
    };
    for (kind, finding) in [("warning", finding(80, 1_612, 0)), ("reached", finding(100, 2_000, 312))] {
        for audience in [Audience::Platform, Audience::Client] {
            for mail in compose(&finding, audience, &input).mails {
                write(&dir.join(format!("{kind}-{audience:?}").to_lowercase()), &mail)?;
            }
        }
    }
    let spike = spike();
    let message = |to: To, findings: Vec<Finding>, more: usize, recovered: bool| {
        let (id, decided_us) = (format!("{to:?}{more}{recovered}"), NOW);
        Message { id, to, findings, more, recovered, decided_us, mailed: false, posted: false }
    };
    let crossed: Vec<Finding> = [(100, 2_000, 312), (80, 1_612, 0)]
        .map(|(t, used, refused)| Finding::from(&finding(t, used, refused)))
        .into();
    // The worst first, as they are decided on.
    let mut many: Vec<Finding> = vec![crossed[0].clone(); 5];
    many.extend([spike.clone(), crossed[1].clone()]);
    for (kind, message) in [
        ("anomaly", message(To::Platform, vec![spike.clone()], 0, false)),
        ("anomaly-over", message(To::Platform, vec![spike], 0, true)),
        ("refusals", message(To::Client("acme".to_string()), vec![refusals()], 0, false)),
        ("burn", message(To::Platform, vec![burn()], 0, false)),
        ("burn-over", message(To::Platform, vec![Finding { until_us: Some(NOW), ..burn() }], 0, true)),
        ("digest", message(To::Platform, many, 9_994, false)),
        ("digest-client", message(To::Client("acme".to_string()), crossed, 0, false)),
    ] {
        for mail in compose_message(&message, &[], &input).mails {
            write(&dir.join(kind), &mail)?;
        }
    }
    Ok(())
}

fn spike() -> Finding {
    Finding {
        key: "spike-1".to_string(),
        kind: Kind::Anomaly,
        about: "spike".to_string(),
        client: Some("acme".to_string()),
        endpoint: Some("POST /orders".to_string()),
        severity: Severity::Warning,
        since_us: NOW - 7_500_000_000,
        until_us: Some(NOW - 300_000_000),
        sentence:
            "acme, POST /orders: 3100 requests in an hour, 3.1 times a usual Tuesday 14:00 (1000); 2 hours"
                .to_string(),
        figures: vec![
            Figure::new("value", 3_100.0, Measure::Requests),
            Figure::new("expected", 1_000.0, Measure::Requests),
            Figure::new("worst hour", NOW as f64, Measure::Moment),
            Figure::new("usual deviations", 9.04, Measure::Times),
        ],
    }
}

fn refusals() -> Finding {
    Finding {
        key: "refusals-1".to_string(),
        kind: Kind::SustainedRefusals,
        about: "20 requests/second".to_string(),
        client: Some("acme".to_string()),
        endpoint: None,
        severity: Severity::Warning,
        since_us: NOW,
        until_us: Some(NOW + 3_600_000_000),
        sentence: "acme: 13 % of 2310 requests refused in 15 minutes, most by 20 requests/second".to_string(),
        figures: vec![
            Figure::new("refused", 323.0, Measure::Requests),
            Figure::new("share", 13.0, Measure::Percent),
            Figure::new("requests", 2_310.0, Measure::Requests),
            Figure::new("refused by 20 requests/second", 300.0, Measure::Requests),
        ],
    }
}

fn burn() -> Finding {
    Finding {
        key: "burn-1".to_string(),
        kind: Kind::ObjectiveBurn,
        about: "availability".to_string(),
        client: Some("acme".to_string()),
        endpoint: Some("POST /orders".to_string()),
        severity: Severity::Critical,
        since_us: NOW - 3_600_000_000,
        until_us: None,
        sentence:
            "acme, POST /orders: 2.1 % of 48000 requests failed in the hour before 14:05, 21.0 times what \
                   99.9 % of availability allows; 71 % of the budget is left"
                .to_string(),
        figures: vec![
            Figure::new("burn rate", 21.0, Measure::Times),
            Figure::new("bad", 1_008.0, Measure::Requests),
            Figure::new("requests", 48_000.0, Measure::Requests),
            Figure::new("promised", 99.9, Measure::Percent),
            Figure::new("budget left", 71.0, Measure::Percent),
        ],
    }
}

fn write(path: &std::path::Path, mail: &OutgoingMail) -> Result<(), Box<dyn Error>> {
    println!("{}", mail.subject);
    let raw = mail.message.formatted();
    std::fs::write(path.with_extension("eml"), &raw)?;
    let parsed = mailparse::parse_mail(&raw)?;
    std::fs::write(path.with_extension("txt"), parsed.subparts[0].get_body()?)?;
    std::fs::write(path.with_extension("html"), parsed.subparts[1].get_body()?)?;
    Ok(())
}

fn finding(threshold: u32, used: u64, refused: i64) -> QuotaFinding {
    QuotaFinding {
        id: format!("acme/{threshold}"),
        client: "acme".to_string(),
        limit: "2000 requests/hour".to_string(),
        amount: 2_000,
        used,
        threshold,
        window_from_us: NOW - 3_600_000_000,
        window_to_us: NOW,
        refused,
        top_endpoint: "POST /orders".to_string(),
        top_share_percent: 97,
    }
}
