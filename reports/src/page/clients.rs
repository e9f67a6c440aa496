//! All clients in one table: who uses most, who grows, who is near a limit.

use std::collections::{BTreeMap, HashMap};

use askama::Template;
use weir_analytics::forecast::Forecast;
use weir_analytics::view::{QuotaFinding, Totals, Usage};

use super::overview::period;
use super::{Books, Frame};
use crate::breakdown::{errors, grouped};
use crate::limits::highest_use;
use crate::number;
use crate::own::Own;
use crate::runout::{self, RunsOut};
use crate::site::SiteInput;
use crate::subject::Subject;
use crate::when::Zone;

/// Quotas that run out soon, shown by name.
const MOST_SOON: usize = 20;

#[derive(Template)]
#[template(path = "page/clients.html")]
pub struct Clients {
    pub frame: Frame,
    pub period: String,
    pub books: Books,
    pub lines: Vec<Line>,
    /// Quotas that will likely run out, the soonest first.
    pub soon: Vec<Soon>,
    pub more_soon: Option<String>,
    /// `a week before`, where there is something to compare with.
    pub compared: bool,
}

/// A client whose quota will likely run out.
pub struct Soon {
    pub client: String,
    pub link: Option<String>,
    pub told: RunsOut,
}

/// One client. Cells that are sorted by something else than their text carry that as a number.
pub struct Line {
    pub name: String,
    pub link: Option<String>,
    pub tier: String,
    pub requests: Cell,
    pub growth: Cell,
    pub refused: Cell,
    pub errors: Cell,
    pub p95: Cell,
    pub bytes: Cell,
    pub nearest: Cell,
    /// The limit that is nearest.
    pub limit: String,
    /// `full`, `warn` or nothing.
    pub class: &'static str,
}

/// What is shown and what it is sorted by.
pub struct Cell {
    pub text: String,
    pub value: f64,
}

fn cell(text: String, value: f64) -> Cell {
    Cell { text, value }
}

impl Clients {
    pub fn new(
        input: &SiteInput,
        clients: &[Own],
        frame: Frame,
        links: &dyn Fn(&str) -> Option<String>,
    ) -> Clients {
        let (usage, zone) = (input.overview, Zone::utc());
        let before = input.previous.map(by_client).unwrap_or_default();
        let own: HashMap<&str, &Own> = clients.iter().map(|own| (own.id, own)).collect();
        let mut lines: Vec<Line> = by_client_sorted(usage)
            .into_iter()
            .map(|(id, totals)| {
                let unknown;
                let (subject, near) = match own.get(id) {
                    Some(own) => (&own.subject, nearest(&own.subject, own.usage, &own.findings)),
                    None => {
                        unknown = Subject::of(input.policy, id);
                        (&unknown, None)
                    }
                };
                line(subject, &totals, before.get(id), near, links(id))
            })
            .collect();
        lines.extend(silent(input, usage, &before, links));
        let compared = !before.is_empty();
        let likely = runout::sorted(input.forecasts.iter().filter(|f| f.is_likely));
        let more = likely.len().saturating_sub(MOST_SOON) as i64;
        let soon = |forecast: &&Forecast| {
            let client = Subject::of(input.policy, &forecast.client).name;
            Some(Soon { client, link: links(&forecast.client), told: RunsOut::of(forecast, &zone)? })
        };
        Clients {
            frame,
            period: period(usage, &zone),
            books: Books::of(usage, input.now_us, &zone),
            lines,
            soon: likely.iter().take(MOST_SOON).filter_map(soon).collect(),
            more_soon: (more > 0).then(|| number::counted(more, "other", "others")),
            compared,
        }
    }
}

fn by_client(usage: &Usage) -> BTreeMap<&str, Totals> {
    by_client_sorted(usage).into_iter().collect()
}

fn by_client_sorted(usage: &Usage) -> Vec<(&str, Totals)> {
    grouped(usage.rows.iter().map(|row| (row.client.as_str(), &row.totals)))
}

/// Clients of the policy that sent nothing.
fn silent(
    input: &SiteInput,
    usage: &Usage,
    before: &BTreeMap<&str, Totals>,
    links: &dyn Fn(&str) -> Option<String>,
) -> Vec<Line> {
    let active = by_client(usage);
    let silent = input.policy.clients.iter().filter(|client| !active.contains_key(&*client.id));
    let nothing = Totals::default();
    let line = |id: &str| line(&Subject::of(input.policy, id), &nothing, before.get(id), None, links(id));
    silent.map(|client| line(&client.id)).collect()
}

/// The share of a limit that was used, in percent and in words, and which limit it is.
type Near = (f64, String, String);

/// The limit that was used most.
fn nearest(subject: &Subject, usage: &Usage, findings: &[&QuotaFinding]) -> Option<Near> {
    let used = subject.limits.iter().filter_map(|own| {
        let highest = highest_use(own, usage, findings, &subject.zone)?;
        let share = 100.0 * highest.used as f64 / own.limit.amount.max(1) as f64;
        let at_least = if highest.at_least { "at least " } else { "" };
        Some((share, format!("{at_least}{share:.0} %"), crate::limits::words(&own.full_name())))
    });
    used.max_by(|a, b| a.0.total_cmp(&b.0))
}

fn line(
    subject: &Subject,
    totals: &Totals,
    before: Option<&Totals>,
    near: Option<Near>,
    link: Option<String>,
) -> Line {
    let (refused, failed) = (totals.refused(), errors(totals));
    let p95 = totals.latencies.quantile_us(0.95);
    let bytes = totals.bytes_in + totals.bytes_out;
    let (share, told, limit) = near.unwrap_or((-1.0, "–".to_owned(), String::new()));
    Line {
        name: subject.name.clone(),
        link,
        tier: subject.tier.as_deref().map_or_else(String::new, crate::name::shown),
        requests: cell(number::integer(totals.requests), totals.requests as f64),
        growth: growth(totals.requests, before.map_or(0, |b| b.requests)),
        refused: cell(number::integer(refused), refused as f64),
        errors: cell(number::integer(failed), failed as f64),
        p95: cell(number::latency(p95), p95.unwrap_or(-1.0)),
        bytes: cell(number::bytes(bytes), bytes as f64),
        nearest: cell(told, share),
        limit,
        class: match share {
            s if s >= 100.0 => "full",
            s if s >= 80.0 => "warn",
            _ => "",
        },
    }
}

/// By how much it grew. Where there was nothing before there is nothing to divide by.
fn growth(now: i64, before: i64) -> Cell {
    if before <= 0 {
        return cell(
            if now > 0 { "new".to_owned() } else { "–".to_owned() },
            f64::from(u8::from(now > 0)) * 1e9,
        );
    }
    let percent = 100.0 * (now - before) as f64 / before as f64;
    cell(format!("{percent:+.0} %").replace('-', "−"), percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_never_a_division_by_nothing() {
        let text = |now, before| growth(now, before).text;
        assert_eq!([text(5, 0), text(0, 0), text(150, 100)], ["new", "–", "+50 %"]);
        assert_eq!(text(0, 10), "−100 %");
    }
}
