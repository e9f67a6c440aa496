//! Filters over the page's data. The script does the filtering; what stands here without it is the
//! form's choices and the charts of the newest period.

use std::collections::BTreeMap;

use askama::Template;
use weir_analytics::books::endpoint_name;
use weir_analytics::view::Usage;

use super::{Books, Frame, charts, component};
use crate::chart::Chart;
use crate::columns::{HOUR, MINUTE};
use crate::name::shown;
use crate::when::Zone;

/// Names that a list offers, the busiest; others can still be asked for in the address.
const MOST_CHOICES: usize = 1_000;

/// What is counted instead of all requests, as the data names it.
const DECISIONS: [(&str, &str); 6] = [
    ("passed", "Passed"),
    ("delayed", "Delayed"),
    ("rejected", "Refused"),
    ("over", "Over, let through"),
    ("dry_run", "On trial"),
    ("degraded", "Degraded"),
];

#[derive(Template)]
#[template(path = "page/explore.html")]
pub struct Explore {
    pub frame: Frame,
    /// `Platform`, or what a portal calls itself.
    pub place: &'static str,
    pub books: Books,
    pub zone: String,
    /// Which of the data files there are.
    pub files: &'static str,
    /// Where the data ends, minutes since the epoch.
    pub end: i64,
    pub clients: Vec<Choice>,
    pub endpoints: Vec<Choice>,
    pub tiers: Vec<Choice>,
    pub codes: Vec<Choice>,
    pub charts: Vec<Chart>,
}

/// One value to filter by.
pub struct Choice {
    /// Escaped as in an address, so that nothing invisible stands in the page.
    pub value: String,
    pub name: String,
}

impl Explore {
    /// Over all clients; `name` is what a client is called.
    pub fn platform(usage: &Usage, now_us: i64, frame: Frame, name: &dyn Fn(&str) -> String) -> Explore {
        let choice = |id: String| Choice { value: component(&id), name: name(&id) };
        let clients = busiest(usage.rows.iter().map(|row| (row.client.clone(), row.totals.requests)));
        let tiers = busiest(usage.rows.iter().map(|row| (row.tier.clone(), row.totals.requests)));
        let named = tiers.into_iter().filter(|tier| !tier.is_empty());
        Explore {
            place: "Platform",
            files: "total clients endpoints all",
            clients: clients.into_iter().map(choice).collect(),
            tiers: named.map(plain).collect(),
            ..Explore::portal(usage, now_us, &Zone::utc(), frame, charts(usage, &Zone::utc()))
        }
    }

    /// Of one client alone; `charts` are what is seen without JavaScript.
    pub fn portal(usage: &Usage, now_us: i64, zone: &Zone, frame: Frame, charts: Vec<Chart>) -> Explore {
        let endpoints =
            usage.rows.iter().map(|row| (endpoint_name(&row.method, &row.endpoint), row.totals.requests));
        let code = |code: &u16| Choice { value: code.to_string(), name: code.to_string() };
        Explore {
            frame,
            place: "API usage",
            books: Books::of(usage, now_us, zone),
            zone: zone.name().to_owned(),
            files: "endpoints",
            end: (usage.to_us.saturating_add(HOUR - MINUTE) / HOUR).saturating_mul(60),
            clients: Vec::new(),
            endpoints: busiest(endpoints).into_iter().map(plain).collect(),
            tiers: Vec::new(),
            codes: usage.status.keys().map(code).collect(),
            charts,
        }
    }
}

fn plain(name: String) -> Choice {
    Choice { value: component(&name), name: shown(&name) }
}

/// Names by their requests, most first.
fn busiest(rows: impl Iterator<Item = (String, i64)>) -> Vec<String> {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    rows.for_each(|(name, n)| *sums.entry(name).or_default() += n);
    let mut names: Vec<(String, i64)> = sums.into_iter().collect();
    names.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    names.into_iter().take(MOST_CHOICES).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_the_busiest_first_and_bounded() {
        let rows = (0..5_000).map(|n| (format!("{n}"), n));
        let names = busiest(rows);
        assert_eq!((names.len(), names[0].as_str()), (MOST_CHOICES, "4999"));
    }
}
