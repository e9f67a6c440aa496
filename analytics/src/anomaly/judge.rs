//! Whether one hour of a series is unlike the hours that it should be like. Pure arithmetic; the
//! formulas, where they come from and how they fare are in docs/findings.md.

use std::ops::Range;

use super::CALM_HOURS;

/// Hours that are looked back at: six weeks, so that each hour of the last four has two before it.
pub const HISTORY: usize = 42 * DAY;

pub const DAY: usize = 24;
const WEEK: usize = 7 * DAY;

/// With a shorter history nothing is said.
const SHORTEST: usize = 2 * DAY;

/// A series is held to its own restlessness of so many hours: five weeks.
const RESTLESS: usize = 35 * DAY;

/// So many episodes in that time may have been as grave as what is told; fewer in a shorter time, but
/// one in any.
pub const AS_GRAVE: f64 = 4.0;

/// The least score, however calm a series is.
const LEAST_SCORE: f64 = 5.0;

/// A median absolute deviation times this is the standard deviation, for a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;

/// An hour that is unlike the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    pub value: f64,
    pub expected: f64,
    /// What it usually deviates by.
    pub usual: f64,
    /// Deviations from what was expected, by the usual one: above or below zero.
    pub score: f64,
}

impl Judged {
    /// How strange it is, and how much is at stake: at night a few more are strange, by day many more
    /// are not. Of the same sign as the score.
    fn gravity(&self) -> f64 {
        (self.value - self.expected) * self.score.abs()
    }
}

/// What is expected of an hour, and between what it may lie without being worth a word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    pub expected: f64,
    pub low: f64,
    pub high: f64,
}

/// The band of hour `at`, see [`judge`] for the arguments. That a restless series has to exceed its own
/// past as well is not in it.
pub fn band(
    series: &[f64],
    at: usize,
    floor: impl Fn(usize, f64) -> f64,
    margin: impl Fn(f64) -> f64,
) -> Option<Band> {
    let from = (at + 1).saturating_sub(HISTORY);
    let Judged { expected, usual, .. } = score(&series[..=at], at, from, &floor)?;
    let away = (LEAST_SCORE * usual).max(margin(expected));
    Some(Band { expected, low: (expected - away).max(0.0), high: expected + away })
}

/// Judges hour `at` of an hourly series by the hours before it. `NAN` stands for an hour of which
/// nothing is known. `as_grave` is [`AS_GRAVE`]; `floor` is the least that a value may deviate by
/// chance, from the hour and what is expected then; `margin` is what has to be exceeded to be worth a
/// word.
pub fn judge(
    series: &[f64],
    at: usize,
    as_grave: f64,
    floor: impl Fn(usize, f64) -> f64,
    margin: impl Fn(f64) -> f64,
) -> Option<Judged> {
    let series = &series[..=at];
    let from = (at + 1).saturating_sub(HISTORY);
    let judged = score(series, at, from, &floor)?;
    let away = (judged.value - judged.expected).abs();
    // The scores of the past are only asked for when there is a reason to.
    if judged.score.abs() <= LEAST_SCORE || away <= margin(judged.expected) {
        return None;
    }
    let judge_hour = |hour| Some((hour, score(series, hour, from, &floor)?));
    let past: Vec<(usize, Judged)> = past_of(at, from).filter_map(judge_hour).collect();
    let gravity = judged.gravity();
    let is_as_grave = |other: &Judged| other.gravity() * gravity.signum() >= gravity.abs();
    let graver = past.iter().filter(|(_, other)| is_as_grave(other)).map(|(hour, _)| *hour);
    is_rare(graver, past.len(), as_grave).then_some(judged)
}

/// The hours whose restlessness counts. Those just before may be the same episode, which must not hide
/// itself.
pub fn past_of(at: usize, from: usize) -> Range<usize> {
    at.saturating_sub(RESTLESS).max(from)..at.saturating_sub(CALM_HOURS as usize)
}

/// Whether few enough episodes of the past were as grave. `hours` are theirs, ascending, `judged` is how
/// many were looked at: without a day of them there is no saying what is usual.
pub fn is_rare(hours: impl Iterator<Item = usize>, judged: usize, as_grave: f64) -> bool {
    let mut last = None;
    let begins = |hour: &usize| last.replace(*hour).is_none_or(|last| hour - last > CALM_HOURS as usize);
    let allowed = (as_grave * judged as f64 / RESTLESS as f64).max(1.0);
    judged >= DAY && 1.0 + hours.filter(begins).count() as f64 <= allowed
}

/// What is expected at an hour, from a history that is long enough to tell.
pub fn expected(series: &[f64], at: usize) -> Option<f64> {
    let from = (at + 1).saturating_sub(HISTORY);
    score(&series[..=at], at, from, &|_, e| count_floor(e)).map(|judged| judged.expected)
}

/// A value beside the median of the same hours before, lifted to the level of the last day.
fn score(series: &[f64], at: usize, from: usize, floor: &impl Fn(usize, f64) -> f64) -> Option<Judged> {
    let value = series[at];
    if value.is_nan() || at < from + SHORTEST {
        return None;
    }
    let level = level(series, at, from)?;
    let days = alike(series, at, from, level, DAY, 7);
    let weeks = alike(series, at, from, level, WEEK, 4);
    // Two weeks are the least that can tell a season of the week from chance.
    let season = if weeks.len() >= 6 { &weeks } else { &days };
    let expected = median(season.clone())?;
    let away = days.iter().chain(&weeks).map(|v| v - expected);
    let usual = scatter(away)?.max(floor(at, expected)).max(f64::MIN_POSITIVE);
    Some(Judged { value, expected, usual, score: (value - expected) / usual })
}

/// What lies `step` hours back and so on up to `times`, with the hours beside; each in proportion to
/// the level at its time.
fn alike(series: &[f64], at: usize, from: usize, now: f64, step: usize, times: usize) -> Vec<f64> {
    let mut found = Vec::with_capacity(3 * times);
    for hour in same_hours(at, from, step, times) {
        let Some(then) = level(series, hour, from) else { continue };
        let lifted = if then > 0.0 { series[hour] / then * now } else { series[hour] };
        found.extend((!lifted.is_nan()).then_some(lifted));
    }
    found
}

/// What lies `step` hours back and so on up to `times`, with the hours beside.
pub fn same_hours(at: usize, from: usize, step: usize, times: usize) -> impl Iterator<Item = usize> {
    let backs = (1..=times).map(move |n| n * step).take_while(move |back| at >= from + back);
    backs.flat_map(move |back| (at - back).saturating_sub(1).max(from)..=at - back + 1)
}

/// The median of the day before, which a burst does not lift.
fn level(series: &[f64], at: usize, from: usize) -> Option<f64> {
    let day: Vec<f64> =
        series[at.saturating_sub(DAY).max(from)..at].iter().copied().filter(|v| !v.is_nan()).collect();
    (day.len() >= DAY / 4).then(|| median(day)).flatten()
}

/// What deviations usually are.
pub fn scatter(deviations: impl Iterator<Item = f64>) -> Option<f64> {
    Some(MAD_TO_SIGMA * median(deviations.map(f64::abs).collect())?)
}

pub fn median(mut values: Vec<f64>) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let lower = below.iter().copied().max_by(f64::total_cmp).filter(|_| values.len().is_multiple_of(2));
    Some(lower.map_or(upper, |lower| (lower + upper) / 2.0))
}

/// Requests: counts scatter by their root at least, and people by a twentieth.
pub fn count_floor(expected: f64) -> f64 {
    expected.max(0.0).sqrt().max(0.05 * expected).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(series: &[f64]) -> Option<Judged> {
        judge(series, series.len() - 1, AS_GRAVE, |_, e| count_floor(e), |e| 0.5 * e)
    }

    /// Days with a busy noon, calm week-ends, and chance.
    fn weeks(n: usize, growth_a_week: f64) -> Vec<f64> {
        let mut rng = fastrand::Rng::with_seed(7);
        let hour = |h: usize| {
            let day = 600.0 + 500.0 * (h as f64 / 24.0 * std::f64::consts::TAU).sin();
            let week = if h / DAY % 7 >= 5 { 0.3 } else { 1.0 };
            let grown = 1.0 + growth_a_week * h as f64 / WEEK as f64;
            (day * week * grown * (0.95 + 0.1 * rng.f64())).round()
        };
        (0..n * WEEK).map(hour).collect()
    }

    #[test]
    fn a_burst_and_a_fall_are_told_with_what_was_expected() {
        // On a Thursday: the first hours after a week-end are judged mildly.
        for (times, above) in [(4.0, true), (0.1, false)] {
            let mut series = weeks(8, 0.0);
            series.truncate(7 * WEEK + 3 * DAY + 8);
            let usual = series[series.len() - WEEK];
            series.push(usual * times);
            let told = judged(&series).unwrap();
            assert_eq!(told.score > 0.0, above);
            assert!((told.expected / usual - 1.0).abs() < 0.25, "{told:?} for {usual}");
        }
    }

    #[test]
    fn season_and_slow_growth_are_nothing_to_tell() {
        let series = weeks(6, 0.15);
        let told = (3 * WEEK..series.len()).filter(|&at| judged(&series[..=at]).is_some()).count();
        assert_eq!(told, 0);
    }

    #[test]
    fn a_short_history_is_no_ground_for_a_word() {
        let mut series = vec![100.0; SHORTEST - 1];
        series.push(100_000.0);
        assert_eq!(judged(&series), None);
    }

    #[test]
    fn hours_that_nothing_is_known_of_are_neither_judged_nor_judged_by() {
        let mut series = weeks(4, 0.0);
        series.extend([f64::NAN; 30]);
        assert_eq!(judged(&series), None);
        series.push(series[series.len() - WEEK]);
        assert_eq!(judged(&series), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
