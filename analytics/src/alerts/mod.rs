//! What becomes of findings: who is told, when, and how often. docs/alerts.md says it in words.
//!
//! [`fold`] is a pure function from what was known, what is found now and the policy to what is known
//! then, messages to be sent included. [`book`] keeps that in the store, a generation at a time.

pub mod book;
mod fold;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Kind, subject_key};

pub use fold::fold;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    Platform,
    /// The contacts of this client.
    Client(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Found; told when it is still there a little later.
    Pending,
    /// There, and told unless it is silenced.
    Firing,
    /// Over.
    Recovered,
}

/// Why somebody is not told of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// Told of the same too short a time ago.
    CoolDown,
    /// A wider or higher finding says it already.
    Inhibited,
    /// The policy says so.
    Muted,
    /// It was over long before anybody looked.
    History,
}

/// One episode and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    pub finding: Finding,
    pub phase: Phase,
    pub silence: Option<Silence>,
    pub first_seen_us: i64,
    /// When it was there last.
    pub last_on_us: i64,
}

/// One thing to tell somebody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub to: To,
    pub finding: Finding,
    /// It is over; otherwise it has begun.
    pub recovered: bool,
    pub since_us: i64,
}

/// A message that has been decided on. It is sent until everybody it is for has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// 24 hex digits that follow from what it says and to whom.
    pub id: String,
    pub to: To,
    /// One, or what a digest lists, the worst first.
    pub findings: Vec<Finding>,
    /// Findings that the digest has no room for.
    pub more: usize,
    pub recovered: bool,
    pub decided_us: i64,
    /// By mail and by webhook.
    pub mailed: bool,
    pub posted: bool,
}

impl Message {
    fn new(to: To, recovered: bool, mut findings: Vec<Finding>, decided_us: i64) -> Message {
        findings.sort_by(|a, b| (b.severity, a.since_us, &a.key).cmp(&(a.severity, b.since_us, &b.key)));
        let keys: Vec<&str> = findings.iter().map(|f| f.key.as_str()).collect();
        let id = subject_key(&("message", &to, recovered, keys));
        let more = findings.len().saturating_sub(MOST_LISTED);
        findings.truncate(MOST_LISTED);
        Message { id, to, findings, more, recovered, decided_us, mailed: false, posted: false }
    }

    pub fn is_digest(&self) -> bool {
        self.findings.len() + self.more > 1
    }
}

/// Everything that is known about episodes and messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// When somebody looked last, microseconds UTC; 0 when nobody has.
    pub looked_us: i64,
    /// By [`Finding::subject`].
    pub episodes: BTreeMap<String, Episode>,
    /// When each subject was told of last.
    pub told: BTreeMap<String, i64>,
    /// Waits for the end of quiet hours, or for room under the cap.
    pub held: Vec<Item>,
    pub outbox: Vec<Message>,
    /// When messages to the platform team were decided on in the last hour.
    pub platform_us: Vec<i64>,
}

/// Findings in one digest; the rest is counted.
const MOST_LISTED: usize = 50;

/// More new findings than this for the platform team at a time are one digest.
const MOST_SINGLE: usize = 5;

/// Messages to the platform team in an hour. What comes beyond waits and is a digest.
const MOST_AN_HOUR: usize = 12;

/// What is over for longer when it is first seen is history, and told to nobody.
const NEWS_US: i64 = 24 * crate::calendar::HOUR_US;

/// For how long it is remembered what was told and what is over.
const REMEMBERED_US: i64 = 40 * crate::calendar::DAY_US;

/// A message that could not be sent for so long is given up; the tick says so.
pub const GIVEN_UP_US: i64 = 72 * crate::calendar::HOUR_US;

/// How long something has to be found before it is told: late records make drops that were none.
fn hold_us(finding: &Finding) -> i64 {
    let by_late_records = matches!(finding.about.as_str(), "drop" | "silence");
    if finding.kind == Kind::Anomaly && by_late_records { 5 * crate::calendar::MINUTE_US } else { 0 }
}

/// How long something has to be absent before it is over.
fn linger_us(kind: Kind) -> i64 {
    match kind {
        // Hours are judged when they have ended: one that was calm has to pass.
        Kind::Anomaly => 2 * crate::calendar::HOUR_US + 10 * crate::calendar::MINUTE_US,
        Kind::ObjectiveBurn => 10 * crate::calendar::MINUTE_US,
        Kind::QuotaThreshold | Kind::QuotaExhausted | Kind::SustainedRefusals | Kind::Forecast => 0,
    }
}

/// Whether somebody is told that it is over: who uses less of a quota knows.
fn tells_recovery(kind: Kind) -> bool {
    matches!(kind, Kind::Anomaly | Kind::ObjectiveBurn)
}

/// Whether it is told to the client that it is about; the rest is the platform team's business.
fn is_for_client(kind: Kind) -> bool {
    match kind {
        Kind::QuotaThreshold | Kind::QuotaExhausted | Kind::SustainedRefusals | Kind::Forecast => true,
        Kind::Anomaly | Kind::ObjectiveBurn => false,
    }
}
