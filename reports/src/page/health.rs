//! How weir itself fares: gateways, the policy in force, completeness, lag, drops.

use std::collections::BTreeSet;

use askama::Template;
use weir_analytics::completeness::Known;

use super::{Books, Frame, Tile, count, tile};
use crate::name::shown;
use crate::number;
use crate::site::SiteInput;
use crate::when::{Zone, lasting};

/// A gateway without a record for longer than this is pointed out; it may just have no requests.
const SILENT_US: i64 = 15 * crate::columns::MINUTE;

/// Silences that are shown, the newest.
const MOST_SILENCES: usize = 50;

#[derive(Template)]
#[template(path = "page/health.html")]
pub struct Health {
    pub frame: Frame,
    pub books: Books,
    pub tiles: Vec<Tile>,
    pub gateways: Vec<Line>,
    /// Times of which nobody knows what a gateway did.
    pub silences: Vec<Unknown>,
    /// `12 records: the disk was full`, as gateways say themselves.
    pub lost: Vec<String>,
    /// Gateways decide by more than one policy.
    pub split: bool,
}

pub struct Unknown {
    pub gateway: String,
    pub when: String,
    pub lasted: String,
}

pub struct Line {
    pub name: String,
    pub newest: String,
    /// How long ago that was, where it is long.
    pub silent: Option<String>,
    pub records: String,
    pub missing: String,
    pub degraded: String,
    pub policy: String,
}

impl Health {
    pub fn new(input: &SiteInput, frame: Frame) -> Health {
        let zone = Zone::utc();
        let gateways = &input.recent.gateways;
        let newest = gateways.iter().max_by_key(|gateway| gateway.newest_us);
        let policies: BTreeSet<&str> = gateways.iter().map(|g| g.policy_version.as_str()).collect();
        Health {
            frame,
            books: Books::of(input.overview, input.now_us, &zone),
            tiles: figures(input, newest.map(|gateway| gateway.policy_version.as_str())),
            silences: silences(&input.overview.completeness.known, &zone),
            lost: lost(&input.overview.completeness.known),
            split: policies.len() > 1,
            gateways: gateways
                .iter()
                .map(|gateway| Line {
                    name: shown(&gateway.name),
                    newest: zone.moment_named(gateway.newest_us),
                    silent: silence(input.now_us, gateway.newest_us),
                    records: number::integer(gateway.records),
                    missing: number::integer(gateway.missing),
                    degraded: number::integer(gateway.degraded),
                    policy: gateway.policy_version.clone(),
                })
                .collect(),
        }
    }
}

fn silences(known: &Known, zone: &Zone) -> Vec<Unknown> {
    let silent = known.silent.iter().rev().take(MOST_SILENCES);
    let told = silent.map(|s| Unknown {
        gateway: shown(&s.gateway),
        when: format!("{} {}", zone.range(s.from_us, s.to_us), zone.name()),
        lasted: lasting(s.to_us - s.from_us),
    });
    told.collect()
}

fn lost(known: &Known) -> Vec<String> {
    let told = |(reason, n): (&String, &i64)| {
        format!("{}: {}", number::counted(*n, "record", "records"), shown(reason))
    };
    known.lost.iter().map(told).collect()
}

fn silence(now_us: i64, newest_us: i64) -> Option<String> {
    let silent = now_us.saturating_sub(newest_us);
    (silent > SILENT_US).then(|| lasting(silent))
}

fn figures(input: &SiteInput, policy: Option<&str>) -> Vec<Tile> {
    let complete = &input.overview.completeness;
    let lag = complete.complete_to_us.map(|us| input.now_us.saturating_sub(us));
    let late = lag.is_some_and(|us| us > super::LATE);
    let missing = if complete.missing > 0 { "bad" } else { "good" };
    let gateways = input.recent.gateways.len() as i64;
    let degraded: i64 = input.recent.gateways.iter().map(|gateway| gateway.degraded).sum();
    vec![
        tile("Gateways", number::integer(gateways), "with records in the last two hours".to_owned(), ""),
        tile(
            "Behind",
            lag.map_or("–".to_owned(), lasting),
            "the newest record in the books".to_owned(),
            if late { "warn" } else { "" },
        ),
        count("Missing", complete.missing, "numbers that a stream skipped".to_owned(), missing),
        count(
            "Degraded",
            degraded,
            "decided without the shared limits".to_owned(),
            if degraded > 0 { "warn" } else { "" },
        ),
        count("Records", complete.records, "in the period of the overview".to_owned(), ""),
        tile(
            "Policy",
            policy.map_or("–".to_owned(), |p| p.chars().take(8).collect()),
            "behind the newest record".to_owned(),
            "",
        ),
    ]
}
