//! What the platform team opens first.

use std::collections::BTreeSet;

use askama::Template;
use weir_analytics::books::{OTHERS, endpoint_name};
use weir_analytics::objective::Kept;
use weir_analytics::view::{Grain, QuotaFinding, Usage};

use super::{Books, Frame, StatusLine, Tile, a_week_before, charts, compared, status_lines, tile, tiles};
use crate::breakdown::{Breakdown, Label, grouped};
use crate::chart::Chart;
use crate::finding::Facts;
use crate::number;
use crate::promise::firing;
use crate::site::SiteInput;
use crate::subject::Subject;
use crate::when::Zone;

/// Clients that are shown by name; all of them are on a page of their own.
const MOST_CLIENTS: usize = 20;
/// Lines of the other tables.
const MOST_LINES: usize = 100;
/// Warnings shown; the newest ones.
const MOST_WARNINGS: usize = 20;

#[derive(Template)]
#[template(path = "page/overview.html")]
pub struct Overview {
    pub frame: Frame,
    pub period: String,
    pub books: Books,
    /// Where the gateways tell of themselves, addresses with spaces between.
    pub live: Option<String>,
    /// All clients: gateways tell of them together.
    pub live_client: &'static str,
    pub tiles: Vec<Tile>,
    pub worth: Vec<Worth>,
    pub warnings: Vec<Warning>,
    pub more_warnings: Option<String>,
    pub charts: Vec<Chart>,
    pub clients: Breakdown,
    pub endpoints: Breakdown,
    pub tiers: Breakdown,
    pub status: Vec<StatusLine>,
}

/// What another page has more of.
pub struct Worth {
    pub told: String,
    pub page: &'static str,
}

/// One client near one of its limits.
pub struct Warning {
    pub client: String,
    pub link: Option<String>,
    pub facts: Facts,
}

impl Overview {
    /// `links` gives the address of a client's page.
    pub fn new(input: &SiteInput, frame: Frame, links: &dyn Fn(&str) -> Option<String>) -> Overview {
        let (usage, zone) = (input.overview, Zone::utc());
        let mut tiles = tiles(&usage.totals, active_clients(input));
        a_week_before(&mut tiles, input.previous.map(|before| &before.totals));
        compared(&mut tiles, usage.totals.requests, input.previous.map(|before| before.totals.requests));
        Overview {
            frame,
            period: period(usage, &zone),
            live_client: "",
            live: (!input.live.is_empty()).then(|| input.live.join(" ")),
            books: Books::of(usage, input.now_us, &zone),
            tiles,
            worth: worth_a_look(input),
            warnings: warnings(input, links),
            more_warnings: more(input.findings.len()),
            charts: charts(usage, &zone),
            clients: clients(input, links),
            endpoints: endpoints(usage, &|name| super::endpoint_link(input, "", name)),
            tiers: tiers(usage),
            status: status_lines(usage),
        }
    }
}

fn active_clients(input: &SiteInput) -> Tile {
    let told = |active: &BTreeSet<&str>| {
        let count = number::integer(active.len() as i64);
        if active.contains(OTHERS) { format!("more than {count}") } else { count }
    };
    let mut note = format!("{} in the policy", number::integer(input.policy.clients.len() as i64));
    let before = input.previous.map(active).filter(|before| !before.is_empty());
    before.iter().for_each(|before| note += &format!("; {} a week before", told(before)));
    tile("Active clients", told(&active(input.overview)), note, "")
}

fn active(usage: &Usage) -> BTreeSet<&str> {
    let sent = usage.rows.iter().filter(|row| row.totals.requests > 0);
    sent.map(|row| row.client.as_str()).collect()
}

/// How many clients sent something for the first time in two weeks, and how many sent nothing any more.
/// Where some clients are not told apart, nobody knows.
fn came_and_went(now: &Usage, before: Option<&Usage>) -> (usize, usize) {
    let (now, before) = (active(now), before.map(active).unwrap_or_default());
    if before.is_empty() || now.contains(OTHERS) || before.contains(OTHERS) {
        return (0, 0);
    }
    (now.difference(&before).count(), before.difference(&now).count())
}

fn worth_a_look(input: &SiteInput) -> Vec<Worth> {
    let promises = || input.promises.into_iter().flatten();
    let missed = promises().filter(|p| p.endpoint.is_none() && p.month.kept == Kept::Missed).count();
    let burning = promises().filter(|promise| firing(promise).is_some()).count();
    let soon = input.forecasts.iter().filter(|forecast| forecast.is_likely).count();
    let (came, went) = came_and_went(input.overview, input.previous);
    let told = [
        (burning, "error budget burns too fast", "error budgets burn too fast", "objectives.html"),
        (missed, "promise is missed this month", "promises are missed this month", "objectives.html"),
        (soon, "quota will likely run out", "quotas will likely run out", "clients.html"),
        (input.anomalies.len(), "unusual episode in 7 days", "unusual episodes in 7 days", "anomalies.html"),
        (went, "client of last week fell silent", "clients of last week fell silent", "clients.html"),
        (came, "client is new", "clients are new", "clients.html"),
    ];
    let worth = told.into_iter().filter(|(n, ..)| *n > 0);
    worth.map(|(n, one, many, page)| Worth { told: number::counted(n as i64, one, many), page }).collect()
}

fn more(findings: usize) -> Option<String> {
    let more = findings.saturating_sub(MOST_WARNINGS);
    (more > 0).then(|| number::counted(more as i64, "more warning", "more warnings"))
}

fn warnings(input: &SiteInput, links: &dyn Fn(&str) -> Option<String>) -> Vec<Warning> {
    let mut findings: Vec<&QuotaFinding> = input.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse((finding.window_to_us, finding.threshold)));
    let warning = |finding: &&QuotaFinding| Warning {
        client: Subject::of(input.policy, &finding.client).name,
        link: links(&finding.client),
        facts: Facts::of(finding, &Zone::utc()),
    };
    findings.iter().take(MOST_WARNINGS).map(warning).collect()
}

fn clients(input: &SiteInput, links: &dyn Fn(&str) -> Option<String>) -> Breakdown {
    let rows = input.overview.rows.iter().map(|row| ((row.client.as_str(), row.tier.as_str()), &row.totals));
    Breakdown::new(("clients", "Clients", "Client"), &grouped(rows), MOST_CLIENTS, |(client, tier)| Label {
        name: Subject::of(input.policy, client).name,
        note: (!tier.is_empty()).then(|| crate::name::shown(tier)),
        link: links(client),
    })
}

/// By endpoint and method; the same table for all and for one client.
pub fn endpoints(usage: &Usage, links: &dyn Fn(&str) -> Option<String>) -> Breakdown {
    let rows = usage.rows.iter().map(|row| (endpoint_name(&row.method, &row.endpoint), &row.totals));
    Breakdown::new(("endpoints", "Endpoints", "Endpoint"), &grouped(rows), MOST_LINES, |name| Label {
        name: crate::name::shown(name),
        note: None,
        link: links(name),
    })
}

fn tiers(usage: &Usage) -> Breakdown {
    let rows = usage.rows.iter().map(|row| (row.tier.as_str(), &row.totals));
    Breakdown::new(("tiers", "Tiers", "Tier"), &grouped(rows), MOST_LINES, |tier| {
        Label::plain(if tier.is_empty() { "No tier".to_string() } else { crate::name::shown(tier) })
    })
}

/// The range a page shows. Days and months of roll-ups are days and months of UTC.
pub fn period(usage: &Usage, zone: &Zone) -> String {
    format!("{} {}", zone.range(usage.from_us, usage.to_us), zone.name())
}

/// The zone in which a series can be told: a UTC day can't be cut into local ones.
pub fn zone_for(usage: &Usage, zone: &Zone) -> Zone {
    match usage.series.grain {
        Grain::Minute | Grain::Hour => zone.clone(),
        Grain::Day | Grain::Month => Zone::utc(),
    }
}

#[cfg(test)]
mod tests {
    use weir_analytics::view::{Row, Series, Totals};

    use super::*;

    fn usage(clients: &[&str]) -> Usage {
        let row = |client: &&str| Row {
            client: (*client).to_owned(),
            tier: String::new(),
            endpoint: String::new(),
            method: String::new(),
            totals: Totals { requests: 1, ..Totals::default() },
        };
        Usage {
            from_us: 0,
            to_us: 1,
            status: Default::default(),
            series: Series { grain: Grain::Hour, points: Vec::new() },
            rows: clients.iter().map(row).collect(),
            completeness: Default::default(),
            totals: Totals::default(),
        }
    }

    #[test]
    fn who_came_and_who_fell_silent_is_told_where_it_is_known() {
        let before = usage(&["a", "b", "c"]);
        assert_eq!(came_and_went(&usage(&["b", "d"]), Some(&before)), (1, 2));
        assert_eq!(came_and_went(&usage(&["b", "d", OTHERS]), Some(&before)), (0, 0));
        assert_eq!(came_and_went(&usage(&["b"]), Some(&usage(&[]))), (0, 0));
        assert_eq!(came_and_went(&usage(&["b"]), None), (0, 0));
    }
}
