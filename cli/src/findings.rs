//! `weir findings`: what was found, as text or JSON.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use weir_analytics::anomaly::{self, Anomaly, Kind};
use weir_analytics::calendar::HOUR_US;
use weir_analytics::quota;
use weir_analytics::view::QuotaFinding;

use crate::grain::spelled;
use crate::installation::{self, CommandError, Installation};
use crate::step::say;

/// Print who came near a limit of an hour or longer, and what is unlike itself.
#[derive(clap::Args)]
pub struct FindingsArgs {
    /// Of so many days
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
    /// Only this client
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Print a JSON object with `quotas` and `anomalies`
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &FindingsArgs) -> ExitCode {
    installation::run("findings", async {
        let installation = Installation::open(config, None).await?;
        print(&installation, args).await?;
        Ok(true)
    })
}

async fn print(installation: &Installation, args: &FindingsArgs) -> Result<(), CommandError> {
    let (store, now_us) = (&installation.store, installation.now_us);
    let mut quotas = match installation.book().await? {
        Some(book) => quota::find(store, &book, now_us, args.days).await?,
        None => Vec::new(),
    };
    let mut anomalies = anomaly::find(store, now_us, args.days).await?;
    if let Some(client) = &args.client {
        quotas.retain(|q| &q.client == client);
        anomalies.retain(|a| a.client.as_ref() == Some(client));
    }
    if args.json {
        say(&json!({ "quotas": quotas, "anomalies": anomalies }).to_string());
        return Ok(());
    }
    let mut lines: Vec<(i64, String)> = quotas.iter().map(|q| (q.window_to_us, quota_line(q))).collect();
    lines.extend(anomalies.iter().map(|a| (a.from_us, anomaly_line(a))));
    lines.sort();
    lines.iter().for_each(|(at_us, line)| say(&format!("{}  {line}", spelled(*at_us))));
    if lines.is_empty() {
        say(&format!("nothing found in {} days", args.days));
    }
    Ok(())
}

fn quota_line(q: &QuotaFinding) -> String {
    format!("{}: {} % of {} reached, {} refused", printable(&q.client), q.threshold, q.limit, q.refused)
}

/// `acme, POST /orders: 3100 requests in an hour, 3.1 times a usual Tuesday 14:00 (1000); 2 hours`.
fn anomaly_line(a: &Anomaly) -> String {
    let who = match (&a.client, &a.endpoint) {
        (None, _) => "all clients".to_owned(),
        (Some(client), None) => printable(client),
        (Some(client), Some(endpoint)) => format!("{}, {}", printable(client), printable(endpoint)),
    };
    let usual = format!("a usual {}", weekday_hour(a.worst_us));
    let times = if a.expected > 0.0 { a.value / a.expected } else { f64::INFINITY };
    let what = match a.kind {
        Kind::Silence => format!("silent, where {usual} has {:.0} requests", a.expected),
        Kind::Spike | Kind::Drop => {
            format!("{:.0} requests in an hour, {times:.1} times {usual} ({:.0})", a.value, a.expected)
        }
        Kind::Errors => {
            let percent = |share: f64| share * 100.0;
            format!("{:.1} % errors, where {usual} has {:.1} %", percent(a.value), percent(a.expected))
        }
        Kind::Latency => {
            let (is, was) = (a.value / 1000.0, a.expected / 1000.0);
            format!("{is:.0} ms of latency in the mean, {times:.1} times {usual} ({was:.0} ms)")
        }
    };
    let hours = (a.to_us - a.from_us) / HOUR_US;
    format!("{who}: {what}; {hours} {}", if hours == 1 { "hour" } else { "hours" })
}

/// `Tuesday 14:00`, UTC.
fn weekday_hour(time_us: i64) -> String {
    jiff::Timestamp::from_microsecond(time_us)
        .map_or_else(|_| "hour".to_owned(), |t| t.strftime("%A %H:%M").to_string())
}

/// Names come from requests: what a terminal would obey is made visible.
fn printable(name: &str) -> String {
    name.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anomaly(kind: Kind, value: f64, expected: f64) -> Anomaly {
        // Tuesday, 24 November 2026, 14:00 UTC.
        let at_us = 1_795_528_800_000_000;
        Anomaly {
            kind,
            client: Some("acme".to_owned()),
            endpoint: Some("POST /or\x1bders".to_owned()),
            from_us: at_us,
            to_us: at_us + 2 * HOUR_US,
            worst_us: at_us,
            value,
            expected,
            score: 9.0,
        }
    }

    #[test]
    fn an_anomaly_is_a_sentence_that_says_who_what_and_what_is_usual() {
        let told = |kind, value, expected| anomaly_line(&anomaly(kind, value, expected));
        let who = "acme, POST /or\\u{1b}ders";
        assert_eq!(
            told(Kind::Spike, 3100.0, 1000.0),
            format!("{who}: 3100 requests in an hour, 3.1 times a usual Tuesday 14:00 (1000); 2 hours")
        );
        assert!(
            told(Kind::Silence, 0.0, 40.0).contains("silent, where a usual Tuesday 14:00 has 40 requests")
        );
        assert!(
            told(Kind::Errors, 0.25, 0.01).contains("25.0 % errors, where a usual Tuesday 14:00 has 1.0 %")
        );
        assert!(told(Kind::Latency, 90_000.0, 30_000.0).contains("90 ms of latency in the mean, 3.0 times"));
    }
}
