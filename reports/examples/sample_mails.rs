//! Writes every kind of mail, made up, to be looked at: `.eml` as it is sent and `.html` as it is
//! read.
//!
//! ```sh
//! cargo run -p weir-reports --example sample_mails -- DIR
//! ```

use std::error::Error;
use std::path::PathBuf;

use weir_analytics::view::QuotaFinding;
use weir_reports::mail::{Audience, ComposeInput, OutgoingMail, compose};

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
    Ok(())
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
