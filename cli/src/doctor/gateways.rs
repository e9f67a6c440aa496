//! What gateways say of themselves, held against each other.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::published::{Source, Wanted};
use crate::columns::{short, shown};
use crate::gateways::{self, Answer, Figure, Told};
use crate::step::counted;

/// Clocks that differ by more than this, and by more than the answer took, are worth knowing.
const CLOCK_US: i64 = 1_000_000;
/// Percent of the zone.
const NEARLY_FULL: u64 = 90;

pub async fn examine(urls: &[String], wanted: Option<Wanted>, report: &mut Report) {
    if urls.is_empty() {
        let remedy = "set [gateways] metrics in weir.toml to the addresses of their weir_metrics";
        return report.note("gateways", "none is named", remedy);
    }
    let mut told: Vec<(&String, Told)> = Vec::new();
    for url in urls {
        match gateways::ask(url).await {
            Ok(answer) => {
                clock(url, &answer, report);
                told.push((url, answer.told));
            }
            Err(why) => {
                report.wrong("gateway", format!("{url} {why}"), "start it, or correct [gateways] metrics")
            }
        }
    }
    for (url, told) in &told {
        one(url, told, report);
    }
    together(&told, wanted, report);
    report.unknown = unknown(told.iter().map(|(_, told)| told));
}

fn clock(url: &str, answer: &Answer, report: &mut Report) {
    let middle_us = answer.sent_us.midpoint(answer.received_us);
    let off_us = answer.told.time_us - middle_us;
    if off_us.abs() > CLOCK_US + (answer.received_us - answer.sent_us) {
        let found =
            format!("the clock of {url} and that of this machine differ by {} s", off_us.abs() / 1_000_000);
        report.wrong("clock", found, "run NTP on both: records and quotas of days go by it");
    }
}

fn one(url: &str, told: &Told, report: &mut Report) {
    let (version, policy) = (shown(&told.version), shown(&told.policy));
    let seen = counted(told.weir_gateways, "gateway");
    report.ok("gateway", format!("{url}: weir {version}, policy {policy}, sees {seen}"));
    let mut wrong = |text: &str, remedy: &str| report.wrong("gateway", format!("{url}: {text}"), remedy);
    if told.weir_redis_up == Some(0) {
        wrong("Redis does not answer it", "look at its error log; weir_fallback decides until then");
    }
    let full = told.weir_shm_keys.saturating_mul(100) / told.weir_shm_capacity.max(1);
    if told.weir_shm_evicted > 0 && full >= NEARLY_FULL {
        let text = format!("the zone is full, {} keys in use made room for others", told.weir_shm_evicted);
        wrong(&text, "raise weir_zone");
    }
    if told.weir_records_lost > 0 {
        let text = format!("{} records were lost", told.weir_records_lost);
        wrong(&text, "look at the spool's disk, and at its error log");
    }
    if told.weir_policy_problems > 0 {
        let text = format!("{} times a policy could not be used", told.weir_policy_problems);
        report.note(
            "gateway",
            format!("{url}: {text}"),
            "its error log says why; the last good one is in force",
        );
    }
}

/// All gateways should have the same policy and the same weir in force.
fn together(told: &[(&String, Told)], wanted: Option<Wanted>, report: &mut Report) {
    let policies: BTreeSet<&str> = told.iter().map(|(_, told)| told.policy.as_str()).collect();
    let versions: BTreeSet<&str> = told.iter().map(|(_, told)| told.version.as_str()).collect();
    let list = |set: &BTreeSet<&str>| set.iter().map(|text| shown(text)).collect::<Vec<_>>().join(", ");
    if policies.len() > 1 {
        let found = format!("gateways have different policies in force: {}", list(&policies));
        report.wrong("policy", found, "give all of them the same one; look again in a few seconds");
    } else if let (Some(Wanted { version, source }), Some(&policy)) = (wanted, policies.first())
        && policy != format!("{version:016x}")
    {
        let found = format!("gateways have {} in force, and {source} is {version:016x}", shown(policy));
        let remedy = match source {
            Source::File => "give them this one, or take theirs",
            Source::Published => {
                "look again in a few seconds; gateways that go by a file of their own take \
                                  no notice of what is published"
            }
        };
        report.note("policy", found, remedy);
    }
    if versions.len() > 1 {
        let found = format!("gateways run different versions of weir: {}", list(&versions));
        report.note("gateways", found, "finish the upgrade");
    }
}

/// Summed over gateways, the heaviest first.
fn unknown<'a>(told: impl Iterator<Item = &'a Told>) -> Vec<Figure> {
    let mut sums: BTreeMap<&str, Figure> = BTreeMap::new();
    for figure in told.flat_map(|told| &told.unknown) {
        let sum = sums
            .entry(&figure.name)
            .or_insert_with(|| Figure { name: figure.name.clone(), ..Figure::default() });
        sum.add(figure);
    }
    let mut sums: Vec<Figure> = sums.into_values().collect();
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.requests));
    sums
}

pub fn row(figure: &Figure) -> Vec<String> {
    let Figure { requests, refused, .. } = figure;
    vec![shown(&figure.name), requests.to_string(), refused.to_string(), short(figure.bytes() as f64)]
}
