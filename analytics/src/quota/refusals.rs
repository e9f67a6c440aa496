//! Clients of whom a good part is refused by limits shorter than an hour: one finding an episode.

use std::collections::BTreeMap;

use weir_limiter::Window;
use weir_policy::{ANONYMOUS, parse_limit};

use super::window::{Episode, begin_anew};
use super::{LONGEST_LOOKBACK_US, LOOKBACK_US, QuotaError, SHORTEST_WINDOW_US, kept};
use crate::books::each_usage;
use crate::bundle;
use crate::calendar::{HOUR_US, MINUTE_US, Partition};
use crate::finding::{Figure, Finding, Kind, Measure, Severity, episode_key, printable, subject_key};
use crate::records::Records;
use crate::store::Store;
use crate::table::{PASSED, REQUESTS, Table};
use crate::view::Grain;

const FOLDER: &str = "findings/refusals";

/// Refusals are judged over so long, and are sustained from this part of all requests on.
const SPAN_US: i64 = 15 * MINUTE_US;
const PERCENT: i64 = 5;

/// With fewer refused the share is chance.
const LEAST_REFUSED: i64 = 20;

/// Without sustained refusals for so long an episode is over.
const CALM_US: i64 = HOUR_US;

/// Looks for new episodes since the last look, keeps them, and returns all of at least the last `days`
/// days.
pub async fn find_since(
    store: &Store,
    last_look_us: i64,
    now_us: i64,
    days: u32,
) -> Result<Vec<Finding>, QuotaError> {
    let mut known: Vec<Finding> = Vec::new();
    for finding in kept::read::<Finding>(store, FOLDER, now_us, days).await? {
        if !known.iter().any(|k| k.key == finding.key) {
            known.push(finding);
        }
    }
    let back_us = (now_us - last_look_us).clamp(LOOKBACK_US, LONGEST_LOOKBACK_US);
    let mut new = Vec::new();
    for (client, begun) in episodes(store, now_us - back_us - CALM_US, now_us).await? {
        let subject = subject_key(&("sustained_refusals", &client));
        // Late records may put the beginning elsewhere: it is the same episode all the same.
        let is_known = |k: &Finding, at_us: i64| {
            k.subject() == subject && (k.since_us - at_us).abs() < CALM_US + SPAN_US
        };
        for episode in begun.into_iter().filter(|e| e.at_us > now_us - back_us) {
            if known.iter().any(|k| is_known(k, episode.at_us)) {
                continue;
            }
            if let Some(finding) = judge(store, &client, episode.at_us).await? {
                known.push(finding.clone());
                new.push(finding);
            }
        }
    }
    kept::put(store, FOLDER, now_us, &new).await?;
    known.sort_by_key(|f| f.since_us);
    Ok(known)
}

/// Minute -> requests and refusals.
type Minutes = BTreeMap<i64, (i64, i64)>;

/// By client, the ends of the minutes at which sustained refusals begin; whatever limit refused.
async fn episodes(
    store: &Store,
    from_us: i64,
    to_us: i64,
) -> Result<Vec<(String, Vec<Episode>)>, QuotaError> {
    let mut clients: BTreeMap<String, Minutes> = BTreeMap::new();
    for partition in Partition::covering(Grain::Minute, from_us - SPAN_US, to_us) {
        let mut add = |table: &Table| {
            for row in (0..table.len()).filter(|&row| table.time_us[row] < to_us) {
                let client = table.names.get(table.texts[0][row]);
                if client == ANONYMOUS {
                    continue;
                }
                // REJECTED and REJECTED_DEGRADED.
                let refused = table.sums[PASSED + 2][row] + table.sums[PASSED + 7][row];
                let minutes = clients.entry(client.to_owned()).or_default();
                let minute = minutes.entry(table.time_us[row]).or_default();
                *minute = (minute.0 + table.sums[REQUESTS][row], minute.1 + refused);
            }
        };
        each_usage(store, partition, &mut add).await?;
    }
    let begun = |minutes: &Minutes| {
        let sustained = minutes.iter().filter_map(|(&at_us, _)| {
            let span = minutes.range(at_us - SPAN_US + MINUTE_US..=at_us);
            let (all, refused) = span.fold((0, 0), |sum, (_, m)| (sum.0 + m.0, sum.1 + m.1));
            is_sustained(all, refused).then_some(Episode { at_us: at_us + MINUTE_US, used: 0 })
        });
        begin_anew(sustained, CALM_US)
    };
    Ok(clients.into_iter().map(|(client, minutes)| (client, begun(&minutes))).collect())
}

fn is_sustained(requests: i64, refused: i64) -> bool {
    refused >= LEAST_REFUSED && refused * 100 >= requests * PERCENT
}

/// The finding of an episode, from the records before its beginning; `None` where limits of an hour
/// and longer refused: those have findings of their own.
async fn judge(store: &Store, client: &str, at_us: i64) -> Result<Option<Finding>, QuotaError> {
    let (mut requests, mut by_limit) = (0, BTreeMap::<String, i64>::new());
    for hour in Partition::covering(Grain::Minute, at_us - SPAN_US, at_us) {
        let is_ours = |time_us: i64| (at_us - SPAN_US..at_us).contains(&time_us);
        let mut each = |records: &Records| {
            for row in records.rows().iter().filter(|row| is_ours(row.time_us)) {
                if records.names().get(row.client) != client {
                    continue;
                }
                requests += 1;
                if row.decision.is_refusal() {
                    *by_limit.entry(records.names().get(row.limit).to_owned()).or_default() += 1;
                }
            }
        };
        bundle::each_readable(store, hour, &mut each).await?;
    }
    by_limit.retain(|limit, _| !is_long(limit));
    let refused: i64 = by_limit.values().sum();
    let most = by_limit.into_iter().max_by_key(|(_, refused)| *refused);
    let Some((limit, most)) = most.filter(|_| is_sustained(requests, refused)) else { return Ok(None) };
    let percent = refused * 100 / requests;
    Ok(Some(Finding {
        key: episode_key(&("sustained_refusals", client), at_us),
        kind: Kind::SustainedRefusals,
        about: limit.clone(),
        client: Some(client.to_owned()),
        endpoint: None,
        severity: Severity::Warning,
        since_us: at_us,
        // As far as is known: it lasts until an hour without has passed.
        until_us: Some(at_us + CALM_US),
        sentence: format!(
            "{}: {percent} % of {requests} requests refused in 15 minutes, most by {}",
            printable(client),
            printable(&limit)
        ),
        figures: vec![
            Figure::new("refused", refused as f64, Measure::Requests),
            Figure::new("share", percent as f64, Measure::Percent),
            Figure::new("requests", requests as f64, Measure::Requests),
            Figure::new(&format!("refused by {}", printable(&limit)), most as f64, Measure::Requests),
        ],
    }))
}

/// Whether a limit as records name it, an endpoint behind it or not, has alerts of its own. What the
/// policy does not know (a backend that refused by itself) is none of ours.
fn is_long(name: &str) -> bool {
    let ends = name.match_indices(' ').map(|(at, _)| at).chain([name.len()]);
    let limit = ends.rev().find_map(|end| parse_limit(&name[..end]).ok());
    limit.is_none_or(|limit| match limit.window {
        Window::Sliding { ms } => i64::try_from(ms).is_ok_and(|ms| ms * 1000 >= SHORTEST_WINDOW_US),
        Window::Day | Window::Month => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_long_from_an_hour_on() {
        for (name, long) in [
            ("100 requests/minute", false),
            ("600 requests/59 minutes POST /orders", false),
            ("50 requests/hour", true),
            ("20 requests/hour POST /orders", true),
            ("5 GB/month", true),
            ("", true),
        ] {
            assert_eq!(is_long(name), long, "{name}");
        }
    }

    #[test]
    fn few_refusals_and_small_shares_are_nothing_to_tell() {
        assert!(is_sustained(400, 20) && is_sustained(20, 20));
        assert!(!is_sustained(401, 20) && !is_sustained(19, 19));
    }
}
