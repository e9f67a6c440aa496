//! `weir top`: who sends most at this moment, over all gateways.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use crate::clock;
use crate::columns::{aligned, short, shown};
use crate::config::Config;
use crate::gateways::{self, Answer, Figure};
use crate::installation::{self, CommandError};
use crate::step::say;

/// Show which clients send most, over all gateways: live on a terminal, else one table.
#[derive(clap::Args)]
pub struct TopArgs {
    /// What counts
    #[arg(long, value_enum, default_value_t = By::Requests)]
    pub by: By,
    /// Clients shown
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub rows: usize,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub every: u64,
    /// Ask this gateway instead of those of the configuration
    #[arg(long = "gateway", value_name = "URL")]
    pub gateways: Vec<String>,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    Requests,
    /// Refused requests
    Refusals,
    /// Bytes of both directions
    Bytes,
}

/// What one client did between two looks.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    client: String,
    tier: Option<String>,
    requests_per_s: f64,
    refused_per_s: f64,
    bytes_per_s: f64,
}

pub fn run(config: &Path, args: &TopArgs) -> ExitCode {
    installation::run("top", async {
        let urls = urls(config, &args.gateways)?;
        let live = io::stdout().is_terminal() && !args.json;
        let (mut before, mut at_us) = (look(&urls).await?, clock::now_us());
        loop {
            // Ctrl-C ends it, as it ends any program.
            sleep(Duration::from_secs(args.every)).await;
            let (now, now_us) = (look(&urls).await?, clock::now_us());
            let seconds = (now_us - at_us).max(1) as f64 / 1e6;
            let rows = ranked(&before, &now, seconds, args.by);
            match args.json {
                true => say(&serde_json::to_string(&rows[..rows.len().min(args.rows)]).unwrap_or_default()),
                false => show(&rows, args, urls.len(), live),
            }
            if !live {
                return Ok(true);
            }
            (before, at_us) = (now, now_us);
        }
    })
}

/// The gateways to ask.
pub fn urls(config: &Path, given: &[String]) -> Result<Vec<String>, CommandError> {
    let urls = match given {
        [] => Config::read(config)?.gateways.metrics,
        given => given.to_vec(),
    };
    if let Some(problem) = urls.iter().find_map(|url| gateways::problem(url)) {
        return Err(CommandError::Usage(problem));
    }
    if urls.is_empty() {
        let text = "no gateway to ask; set [gateways] metrics in weir.toml to the addresses of their \
                    weir_metrics, such as [\"http://127.0.0.1/weir/metrics\"], or give --gateway URL";
        return Err(CommandError::Usage(text.to_owned()));
    }
    Ok(urls)
}

/// What clients have sent through each gateway; `None` for one that does not answer.
type Looked = Vec<Option<BTreeMap<String, Figure>>>;

async fn look(urls: &[String]) -> Result<Looked, CommandError> {
    let mut looked = Looked::new();
    let mut why = String::new();
    for url in urls {
        looked.push(match gateways::ask(url).await {
            Ok(Answer { told, .. }) => {
                Some(told.clients.into_iter().map(|figure| (figure.name.clone(), figure)).collect())
            }
            Err(error) => {
                why = format!("{url} {error}");
                None
            }
        });
    }
    match looked.iter().any(Option::is_some) {
        true => Ok(looked),
        false => Err(CommandError::Refused(format!(
            "no gateway answers: {why}; start it, or correct [gateways] metrics or --gateway"
        ))),
    }
}

/// What was sent in between, the most first.
fn ranked(before: &Looked, now: &Looked, seconds: f64, by: By) -> Vec<Row> {
    let mut sums: BTreeMap<&str, Figure> = BTreeMap::new();
    for (before, now) in before.iter().zip(now) {
        let (Some(before), Some(now)) = (before, now) else { continue };
        for (name, figure) in now {
            sums.entry(name).or_default().add(&since(before.get(name), figure));
        }
    }
    let mut sums: Vec<(&str, Figure)> = sums.into_iter().filter(|(_, sum)| sum.requests > 0).collect();
    let weight = |sum: &Figure| match by {
        By::Requests => sum.requests,
        By::Refusals => sum.refused,
        By::Bytes => sum.bytes(),
    };
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse((weight(sum), sum.requests)));
    let row = |(name, sum): (&str, Figure)| Row {
        client: name.to_owned(),
        requests_per_s: sum.requests as f64 / seconds,
        refused_per_s: sum.refused as f64 / seconds,
        bytes_per_s: sum.bytes() as f64 / seconds,
        tier: sum.tier,
    };
    sums.into_iter().map(row).collect()
}

/// Counters that have gone down began anew.
fn since(before: Option<&Figure>, now: &Figure) -> Figure {
    match before.filter(|before| before.requests <= now.requests) {
        None => now.clone(),
        Some(before) => Figure {
            name: String::new(),
            tier: now.tier.clone(),
            requests: now.requests - before.requests,
            refused: now.refused.saturating_sub(before.refused),
            bytes_in: now.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: now.bytes_out.saturating_sub(before.bytes_out),
        },
    }
}

fn show(rows: &[Row], args: &TopArgs, gateways: usize, live: bool) {
    let cells = |row: &Row| {
        let tier = row.tier.as_deref().map_or_else(|| "-".to_owned(), shown);
        vec![
            shown(&row.client),
            tier,
            short(row.requests_per_s),
            short(row.refused_per_s),
            short(row.bytes_per_s),
        ]
    };
    let shown: Vec<Vec<String>> = rows.iter().take(args.rows).map(cells).collect();
    let table = aligned(&["CLIENT", "TIER", ">REQUESTS/S", ">REFUSED/S", ">BYTES/S"], &shown);
    if live {
        let total: f64 = rows.iter().map(|row| row.requests_per_s).sum();
        let head =
            format!("weir top: {} gateways, {} clients, {} requests/s", gateways, rows.len(), short(total));
        // Home, clear, and the table: nothing of the last one stays.
        say(&format!("\x1b[H\x1b[2J{head}\n\n{table}"));
    } else {
        say(table.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(figures: &[(&str, u64, u64, u64)]) -> Option<BTreeMap<String, Figure>> {
        let figure = |&(name, requests, refused, bytes_out): &(&str, u64, u64, u64)| {
            let figure = Figure { requests, refused, bytes_out, ..Figure::default() };
            (name.to_owned(), figure)
        };
        Some(figures.iter().map(figure).collect())
    }

    #[test]
    fn clients_are_summed_over_gateways_and_ranked_by_what_is_asked() {
        let before = vec![looked(&[("a", 10, 0, 0), ("idle", 7, 7, 7)]), looked(&[]), None];
        let now = vec![
            looked(&[("a", 14, 0, 900), ("idle", 7, 7, 7)]),
            looked(&[("a", 2, 0, 100), ("b", 6, 6, 60)]),
            looked(&[("c", 1_000, 0, 0)]),
        ];
        let names = |by| -> Vec<String> {
            ranked(&before, &now, 2.0, by).into_iter().map(|row| row.client).collect()
        };
        assert_eq!(names(By::Refusals), ["b", "a"]);
        assert_eq!(names(By::Bytes), ["a", "b"]);
        let rows = ranked(&before, &now, 2.0, By::Requests);
        assert_eq!(rows.len(), 2, "who was not seen twice is not rated: {rows:?}");
        assert!(rows.iter().any(|row| row.client == "a" && row.requests_per_s == 3.0));
    }

    #[test]
    fn counters_that_began_anew_are_what_came_since() {
        let now = vec![looked(&[("a", 4, 1, 5)])];
        let rows = ranked(&vec![looked(&[("a", 900, 5, 50)])], &now, 1.0, By::Requests);
        assert_eq!((rows[0].requests_per_s, rows[0].refused_per_s), (4.0, 1.0));
    }
}
