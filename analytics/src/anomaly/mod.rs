//! What is unlike itself: hours of the whole, of a client, or of an endpoint of a client, with far more
//! or fewer requests, more errors, longer latencies or another mix of endpoints than the hours that they
//! should be like.
//!
//! Found anew from the roll-ups when an hour has ended or late records came. docs/findings.md has the
//! formulas.

mod course;
#[cfg(test)]
mod injected;
mod judge;
mod mix;
#[cfg(test)]
mod nab;
mod series;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::calendar::{DAY_US, HOUR_US};
use crate::parquet_file::FileError;
use crate::reckoned::{self, Basis};
use crate::store::Store;
use crate::view::Grain;

pub use course::{Course, Point};
use judge::{AS_GRAVE, HISTORY, Judged, count_floor, expected, judge};
pub use mix::Part;
use mix::Parts;
use series::Subject;

/// Hours of calm that end an episode: what comes sooner is more of the same.
pub const CALM_HOURS: i64 = 6;

/// Fewer requests in an hour, and fewer expected, are not worth a word.
const LEAST_REQUESTS: f64 = 20.0;

const WEEK_HOURS: usize = 7 * 24;

/// Shares and means of fewer requests than this are chance.
const LEAST_SAMPLE: f64 = 50.0;

/// The least by which a share of errors has to be above the usual.
const LEAST_ERRORS: f64 = 0.01;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// More requests; `value` and `expected` are requests in an hour.
    Spike,
    /// Fewer requests.
    Drop,
    /// None at all.
    Silence,
    /// A larger share of errors (5xx), 0 to 1.
    Errors,
    /// A longer mean latency, microseconds.
    Latency,
    /// Of a client: requests to other endpoints; `value` and `expected` are the share, 0 to 1, of the
    /// endpoint whose share changed most.
    Mix,
}

/// One episode of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    pub kind: Kind,
    /// `None`: all clients together.
    pub client: Option<String>,
    /// `POST /orders`; `None`: all endpoints together.
    pub endpoint: Option<String>,
    /// From the beginning of its first hour to the end of its last, microseconds UTC.
    pub from_us: i64,
    pub to_us: i64,
    /// The hour that deviated most, and what it was and should have been.
    pub worst_us: i64,
    pub value: f64,
    pub expected: f64,
    /// Deviations by the usual one; below zero for less than expected.
    pub score: f64,
    /// What most of a spike was, or what changed most in a mix, in the hour that deviated most: an
    /// endpoint of a client, or a client.
    #[serde(default)]
    pub part: Option<Part>,
}

/// The episodes of at least the last `days` days up to the last hour that has ended, oldest first.
/// `holidays` are days (UTC, by their beginning) on which clients may be as quiet as they like.
pub async fn find(
    store: &Store,
    holidays: &BTreeSet<i64>,
    now_us: i64,
    days: u32,
) -> Result<Vec<Anomaly>, FileError> {
    let courses = find_with_courses(store, holidays, now_us, days).await?;
    Ok(courses.into_iter().map(|course| course.anomaly).collect())
}

/// The same, each with the hours around it and what was expected of them.
pub async fn find_with_courses(
    store: &Store,
    holidays: &BTreeSet<i64>,
    now_us: i64,
    days: u32,
) -> Result<Vec<Course>, FileError> {
    let to_us = Grain::Hour.floor(now_us);
    let from_us = to_us - i64::from(days) * DAY_US - HISTORY as i64 * HOUR_US;
    let known = series::known(store, from_us, to_us).await?;
    let basis = Basis::hours(store, from_us..to_us).await?.and(&(&known, holidays));
    reckoned::once(store, "anomalies", basis, reckon(store, holidays, from_us..to_us, &known)).await
}

async fn reckon(
    store: &Store,
    holidays: &BTreeSet<i64>,
    range: Range<i64>,
    known: &[bool],
) -> Result<Vec<Course>, FileError> {
    let from_us = range.start;
    let subjects = series::read(store, from_us, range.end, known).await?;
    let mut found: Vec<Course> = Vec::new();
    for (subject, hours) in &subjects {
        let parts = Parts::of(subject, hours, &subjects);
        let (errors, latencies) = (hours.share_of(&hours.errors), hours.share_of(&hours.latency_sum_us));
        let looks: [&dyn Fn(usize) -> Option<(Kind, Judged)>; 4] = [
            &|at| requests(&hours.requests, at),
            &|at| more_errors(&errors, &hours.requests, at),
            &|at| slower(&latencies, at),
            &|at| if subject.client.is_some() { parts.judge(at) } else { None },
        ];
        for look in looks {
            let mut episodes: Vec<Anomaly> = Vec::new();
            for at in HISTORY..hours.requests.len() {
                let at_us = from_us + at as i64 * HOUR_US;
                let is_holiday = holidays.contains(&(at_us - at_us.rem_euclid(DAY_US)));
                match look(at) {
                    // That nobody at all asks for anything is no holiday.
                    Some((Kind::Drop | Kind::Mix, _)) if is_holiday => {}
                    Some((Kind::Silence, _)) if is_holiday && subject.client.is_some() => {}
                    Some((kind, judged)) => add(&mut episodes, subject, kind, at_us, judged),
                    None => {}
                }
            }
            for mut episode in episodes {
                let worst = usize::try_from((episode.worst_us - from_us) / HOUR_US).unwrap_or(0);
                episode.part = match episode.kind {
                    Kind::Spike => parts.most(worst),
                    Kind::Mix => parts.changed_most(worst),
                    _ => None,
                };
                found.push(Course::of(episode, hours, &parts, from_us));
            }
        }
    }
    found.sort_by_key(|course| course.anomaly.from_us);
    Ok(found)
}

fn add(episodes: &mut Vec<Anomaly>, subject: &Subject, kind: Kind, at_us: i64, judged: Judged) {
    let goes_on = |e: &&mut Anomaly| e.kind == kind && at_us - e.to_us < CALM_HOURS * HOUR_US;
    if let Some(episode) = episodes.iter_mut().rev().find(goes_on) {
        episode.to_us = at_us + HOUR_US;
        if judged.score.abs() > episode.score.abs() {
            (episode.worst_us, episode.score) = (at_us, judged.score);
            (episode.value, episode.expected) = (judged.value, judged.expected);
        }
        return;
    }
    episodes.push(Anomaly {
        kind,
        client: subject.client.clone(),
        endpoint: subject.endpoint.clone(),
        from_us: at_us,
        to_us: at_us + HOUR_US,
        worst_us: at_us,
        value: judged.value,
        expected: judged.expected,
        score: judged.score,
        part: None,
    });
}

fn requests(requests: &[f64], at: usize) -> Option<(Kind, Judged)> {
    if let Some(silent) = silence(requests, at) {
        return Some((Kind::Silence, silent));
    }
    let judged = judge(requests, at, AS_GRAVE, |_, e| count_floor(e), margin)?;
    let kind = if judged.score > 0.0 { Kind::Spike } else { Kind::Drop };
    (judged.value.max(judged.expected) >= LEAST_REQUESTS).then_some((kind, judged))
}

/// No request where many were expected, of a subject that has not had a silent hour for a week before
/// this silence. However restless it is, that is told.
fn silence(requests: &[f64], at: usize) -> Option<Judged> {
    if requests[at] != 0.0 {
        return None;
    }
    let begun = requests[..at].iter().rposition(|&n| n > 0.0)?;
    let was_silent = requests[begun.saturating_sub(WEEK_HOURS)..begun].contains(&0.0);
    let expected = expected(requests, at).filter(|&e| e >= LEAST_REQUESTS && !was_silent)?;
    let usual = count_floor(expected);
    Some(Judged { value: 0.0, expected, usual, score: -expected / usual })
}

fn more_errors(share: &[f64], requests: &[f64], at: usize) -> Option<(Kind, Judged)> {
    let judged = judge(share, at, AS_GRAVE, share_floor(requests), share_margin)?;
    (judged.score > 0.0).then_some((Kind::Errors, judged))
}

fn slower(mean: &[f64], at: usize) -> Option<(Kind, Judged)> {
    let judged = judge(mean, at, AS_GRAVE, mean_floor, margin)?;
    (judged.score > 0.0).then_some((Kind::Latency, judged))
}

/// Half as much again, or half of it.
fn margin(expected: f64) -> f64 {
    0.5 * expected
}

fn share_margin(expected: f64) -> f64 {
    margin(expected).max(LEAST_ERRORS)
}

/// The standard deviation of a share among n, with one error more than none.
fn share_floor(requests: &[f64]) -> impl Fn(usize, f64) -> f64 {
    |hour, expected| {
        let n = requests[hour];
        let p = expected.clamp(1.0 / n, 0.5);
        (p * (1.0 - p) / n).sqrt()
    }
}

fn mean_floor(_: usize, expected: f64) -> f64 {
    (0.1 * expected).max(1.0)
}
