//! `[alerts]` and `[clients.ID.alerts]`.

use std::sync::Arc;

use super::clients::parse_timezone;
use super::rest::read_addresses;
use super::words::unknown_word;
use crate::alerts::{ALERT_KINDS, Alerts, ClientAlerts, Mute, Quiet};
use crate::grammar::duration;
use crate::grammar::name::check_client_id;
use crate::node::Node;
use crate::problem::{Fault, quote};

/// A use beyond this many percent only a dry run shows.
const MAX_THRESHOLD: u64 = 1_000;

pub fn read_alerts(node: &Node<'_>) -> Alerts {
    let Some(table) = node.table(&["to", "thresholds", "cooldown", "quiet", "timezone", "mute"]) else {
        return Alerts::default();
    };
    let usual = Alerts::default();
    let to = table.get("to").map(|node| read_addresses(&node)).unwrap_or_default();
    if table.get("to").is_none_or(|node| node.is_empty_list()) {
        table.problem("alerts go to nobody", "add to = [\"platform@example.com\"]");
    }
    let thresholds = table.get("thresholds").map(|node| read_thresholds(&node));
    let cooldown = table.get("cooldown").and_then(|node| node.parsed(duration::parse));
    let timezone: Option<Arc<str>> = table.get("timezone").and_then(|node| node.parsed(parse_timezone));
    Alerts {
        to,
        thresholds: thresholds.unwrap_or(usual.thresholds),
        cooldown_s: cooldown.unwrap_or(usual.cooldown_s),
        quiet: table.get("quiet").and_then(|node| node.parsed(parse_quiet)),
        timezone,
        mute: table.get("mute").map(|node| read_mutes(&node)).unwrap_or_default(),
        clients: usual.clients,
    }
}

pub fn read_client_alerts(node: &Node<'_>) -> Option<ClientAlerts> {
    let table = node.table(&["thresholds", "quiet", "mute"])?;
    let mute = table.get("mute");
    let kinds = mute.as_ref().and_then(Node::list).into_iter().flatten();
    Some(ClientAlerts {
        thresholds: table.get("thresholds").map(|node| read_thresholds(&node)),
        quiet: table.get("quiet").and_then(|node| node.parsed(parse_quiet)),
        mute: kinds.filter_map(|item| read_kind(&item)).collect(),
    })
}

fn read_mutes(node: &Node<'_>) -> Vec<Mute> {
    node.list().into_iter().flatten().filter_map(|item| read_mute(&item)).collect()
}

fn read_mute(node: &Node<'_>) -> Option<Mute> {
    let table = node.table(&["client", "kind", "until", "reason"])?;
    let client = table.get("client").and_then(|node| {
        // Who was deleted stays muted: no complaint about an id that nobody has.
        node.parsed(|text| check_client_id(text).map(|()| Box::from(text)))
    });
    let until = table.get("until").map(|node| node.instant().unwrap_or(i64::MIN));
    // For people; it only has to be text.
    table.get("reason").and_then(|node| node.text());
    Some(Mute {
        client,
        kind: table.get("kind").and_then(|node| read_kind(&node)),
        until_s: until.unwrap_or(i64::MAX),
    })
}

fn read_kind(node: &Node<'_>) -> Option<Box<str>> {
    let word = node.text()?;
    if !ALERT_KINDS.contains(&word) {
        unknown_word(node, word, &ALERT_KINDS);
        return None;
    }
    Some(word.into())
}

/// `22:00-07:00`
fn parse_quiet(text: &str) -> Result<Quiet, Fault> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let two_digits = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
        let (hour, minute) = (two_digits(hour) && two_digits(minute)).then_some((hour, minute))?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let ends = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    match ends {
        Some((from_min, to_min)) if from_min != to_min => Ok(Quiet { from_min, to_min }),
        _ => Err(Fault::new(
            format!("{} is no stretch of the day", quote(text)),
            "write two times of day, such as \"22:00-07:00\"",
        )),
    }
}

fn read_thresholds(node: &Node<'_>) -> Vec<u16> {
    let mut thresholds = Vec::new();
    for item in node.list().into_iter().flatten() {
        match item.whole() {
            None => {}
            Some(percent @ 1..=MAX_THRESHOLD) if !thresholds.contains(&(percent as u16)) => {
                thresholds.push(percent as u16);
            }
            Some(percent @ 1..=MAX_THRESHOLD) => {
                item.problem(format!("{percent} stands here a second time"), "keep one");
            }
            Some(percent) => item.problem(
                format!("{percent} is out of bounds"),
                format!("write percent of a limit, 1 to {MAX_THRESHOLD}"),
            ),
        }
    }
    thresholds.sort_unstable();
    thresholds
}
