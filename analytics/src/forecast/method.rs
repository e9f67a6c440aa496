//! What the next hours of a series add up to. Pure arithmetic; docs/forecasts.md says why so, and how
//! it fares.

pub const DAY: usize = 24;
pub const WEEK: usize = 7 * DAY;

/// The same hours of so many weeks are averaged.
const WEEKS: usize = 4;

/// How the level of late goes on.
struct Model {
    /// How much of last week's deviation (in its logarithm) stays.
    week: f64,
    /// How much of yesterday's deviation from that is expected of the first day; of each later day its
    /// square and so on, as deviations fade.
    day: f64,
}

/// What deviates comes back to the usual, or what grows goes on: a series is told by the one that was
/// less wrong with it.
const MODELS: [Model; 2] = [Model { week: 0.0, day: 0.5 }, Model { week: 0.5, day: 0.8 }];

/// Errors count so much less for each day that they are older, where models are compared.
const FORGOTTEN: f64 = 0.95;

/// The band is made of so many past forecasts, one a day, and of no fewer.
const MOST_ERRORS: usize = 42;
const LEAST_ERRORS: usize = 7;

/// The share of outcomes that the band is to hold.
const HELD: f64 = 0.8;

/// How much an outcome outside the band widens it, and one within narrows it: in steps of the share.
const STEP: f64 = 0.15;

/// Errors of overlapping stretches are alike: few of them that are apart say little, and the band is
/// wider by this over their number.
const WIDENED: f64 = 0.25;

/// What a stretch of hours adds up to.
#[derive(Clone, Debug, PartialEq)]
pub struct Ahead {
    /// For each hour, cumulated: as likely more as less.
    pub cumulated: Vec<f64>,
    /// P90 of the whole sum over P50, and P50 over P10.
    pub spread: f64,
}

impl Ahead {
    pub fn p50(&self) -> f64 {
        self.cumulated.last().copied().unwrap_or(0.0)
    }

    pub fn p10(&self) -> f64 {
        self.p50() / self.spread
    }

    /// Four of five outcomes are above it, if their logarithms are normal between P10 and P50.
    pub fn p20(&self) -> f64 {
        self.p50() * self.spread.powf(-0.8416 / 1.2816)
    }

    pub fn p90(&self) -> f64 {
        self.p50() * self.spread
    }
}

/// Forecasts the `hours` after the end of an hourly series; `NAN` stands for an hour of which nothing
/// is known. `None` where the history is too short to say how good forecasts of this length were.
pub fn ahead(series: &[f64], hours: usize) -> Option<Ahead> {
    let of_model = |model| (model, past_errors(series, hours, model));
    let better = |a: &(&Model, Vec<f64>), b: &(&Model, Vec<f64>)| lately(&a.1).total_cmp(&lately(&b.1));
    let (model, errors) = MODELS.iter().map(of_model).min_by(better)?;
    // Forecasts of weeks overlap for weeks: those of less than two stretches apart are one and the same.
    let least = if hours > WEEK { 2 * hours.div_ceil(DAY) } else { LEAST_ERRORS };
    if hours == 0 || errors.len() < least {
        return None;
    }
    let apart = (errors.len() * DAY) as f64 / hours as f64;
    let width = width(&errors, hours.div_ceil(DAY)) * (1.0 + WIDENED / apart);
    let mut sum = 0.0;
    let cumulated = expected(series, hours, model)?.into_iter().map(|hour| {
        sum += hour;
        sum
    });
    Some(Ahead { cumulated: cumulated.collect(), spread: width.exp() })
}

/// |ln(outcome / forecast)| of forecasts of the same length made one a day before, oldest first.
fn past_errors(series: &[f64], hours: usize, model: &Model) -> Vec<f64> {
    let begins = (1..).map_while(|day: usize| series.len().checked_sub(hours + (day - 1) * DAY));
    let mut errors: Vec<f64> = begins
        .take_while(|&at| at >= WEEK)
        .filter_map(|at| {
            let outcome: f64 = series[at..at + hours].iter().sum();
            let forecast: f64 = expected(&series[..at], hours, model)?.iter().sum();
            (outcome > 0.0 && forecast > 0.0).then(|| (outcome / forecast).ln().abs())
        })
        .take(MOST_ERRORS)
        .collect();
    errors.reverse();
    errors
}

/// The mean of errors, those of late counting most.
fn lately(errors: &[f64]) -> f64 {
    let weights = || std::iter::successors(Some(1.0), |weight| Some(weight * FORGOTTEN));
    let sum: f64 = errors.iter().rev().zip(weights()).map(|(error, weight)| error * weight).sum();
    sum / weights().take(errors.len()).sum::<f64>()
}

/// How far outcomes lie from forecasts at most, but for one in five. Past forecasts are gone through in
/// the order of time, each with what was known then: where outcomes lay outside what would have been
/// said, a larger part of the errors is held, else a smaller one. `days`: until an outcome is known.
fn width(errors: &[f64], days: usize) -> f64 {
    let mut held = HELD;
    let mut said: Vec<Option<f64>> = vec![None; errors.len() + days];
    for (at, &error) in errors.iter().enumerate() {
        if let Some(said) = said[at] {
            held += STEP * if error > said { HELD } else { HELD - 1.0 };
        }
        let known = &errors[..=at];
        said[at + days] = (known.len() >= LEAST_ERRORS).then(|| quantile(known, held));
    }
    quantile(errors, held)
}

/// The mean of the same hours of the last weeks, in proportion to how late days were.
fn expected(series: &[f64], hours: usize, model: &Model) -> Option<Vec<f64>> {
    let week = if series.len() >= 2 * WEEK { ratio(series, WEEK)?.powf(model.week) } else { 1.0 };
    let day = ratio(series, DAY)? / week;
    let mut expected = usual(series, hours)?;
    for (hour, value) in expected.iter_mut().enumerate() {
        *value *= week * day.powf(model.day.powi(1 + (hour / DAY) as i32));
    }
    Some(expected)
}

/// What the last hours add up to, over what was usual for them.
fn ratio(series: &[f64], hours: usize) -> Option<f64> {
    let from = series.len().checked_sub(hours)?;
    let was: f64 = series[from..].iter().sum();
    let usual: f64 = usual(&series[..from], hours).map_or(f64::NAN, |hours| hours.iter().sum());
    Some(if was > 0.0 && usual > 0.0 { was / usual } else { 1.0 })
}

fn usual(series: &[f64], hours: usize) -> Option<Vec<f64>> {
    let hour = |at: usize| {
        let same = (1..=WEEKS).map_while(|week| (series.len() + at).checked_sub(WEEK * (week + at / WEEK)));
        let known: Vec<f64> = same.map(|at| series[at]).filter(|value| !value.is_nan()).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    (0..hours).map(hour).collect()
}

/// As rank p (n + 1); beyond the largest for p above 1.
fn quantile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len() - 1;
    let rank = (p * (sorted.len() + 1) as f64 - 1.0).clamp(0.0, last as f64);
    let below = rank as usize;
    let inside = sorted[below] + (sorted[(below + 1).min(last)] - sorted[below]) * rank.fract();
    inside * p.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weeks(n: usize, chance: f64) -> Vec<f64> {
        let mut rng = fastrand::Rng::with_seed(3);
        let hour = |h: usize| {
            let day = 600.0 + 500.0 * (h as f64 / 24.0 * std::f64::consts::TAU).sin();
            let week = if h / DAY % 7 >= 5 { 0.3 } else { 1.0 };
            day * week * (1.0 - chance + 2.0 * chance * rng.f64())
        };
        (0..n * WEEK).map(hour).collect()
    }

    #[test]
    fn a_season_is_foreseen_and_the_band_is_as_wide_as_errors_were() {
        let series = weeks(9, 0.1);
        let (past, next) = series.split_at(8 * WEEK);
        for hours in [6, DAY, 2 * DAY, WEEK] {
            let told = ahead(past, hours).unwrap();
            let outcome: f64 = next[..hours].iter().sum();
            assert!((told.p50() / outcome - 1.0).abs() < 0.05, "{hours}: {} for {outcome}", told.p50());
            assert!(told.spread > 1.0 && told.spread < 1.1, "{}", told.spread);
            assert!(told.p10() < told.p20() && told.p20() < told.p50() && told.p50() < told.p90());
        }
    }

    #[test]
    fn a_day_twice_as_busy_lifts_the_next_less_and_less() {
        let mut series = weeks(6, 0.0);
        let from = series.len() - DAY;
        series[from..].iter_mut().for_each(|hour| *hour *= 2.0);
        let lifted = expected(&series, 2 * DAY, &MODELS[0]).unwrap();
        let plain = expected(&weeks(6, 0.0), 2 * DAY, &MODELS[0]).unwrap();
        assert!((lifted[0] / plain[0] - 2f64.sqrt()).abs() < 0.01);
        assert!((lifted[DAY] / plain[DAY] - 2f64.powf(0.25)).abs() < 0.01);
    }

    #[test]
    fn growth_that_goes_on_is_foreseen_by_the_model_that_was_less_wrong() {
        let grown = |h: usize| 1.05f64.powf(h as f64 / DAY as f64);
        let series: Vec<f64> = weeks(9, 0.02).iter().enumerate().map(|(h, v)| v * grown(h)).collect();
        let (past, next) = series.split_at(8 * WEEK);
        let outcome: f64 = next[..3 * DAY].iter().sum();
        let error =
            |model| (expected(past, 3 * DAY, model).unwrap().iter().sum::<f64>() / outcome - 1.0).abs();
        assert!(error(&MODELS[1]) < 0.15 && error(&MODELS[0]) > 0.25);
        assert!((ahead(past, 3 * DAY).unwrap().p50() / outcome - 1.0).abs() < 0.15);
    }

    #[test]
    fn outcomes_outside_the_band_widen_it_and_those_within_narrow_it() {
        let calm: Vec<f64> = (0..40).map(|n| f64::from(n % 10)).collect();
        let plain = quantile(&calm, HELD);
        assert!((width(&calm, 1) / plain - 1.0).abs() < 0.2, "{} for {plain}", width(&calm, 1));
        // Errors that grow: what is known never holds the next.
        let grow: Vec<f64> = (0..40).map(f64::from).collect();
        assert!(width(&grow, 3) > 45.0 && quantile(&grow, HELD) < 33.0, "{}", width(&grow, 3));
        let shrink: Vec<f64> = (0..40).rev().map(f64::from).collect();
        assert!(width(&shrink, 3) < 10.0, "{}", width(&shrink, 3));
        // Outcomes that are not known yet cannot be learned from.
        assert!((width(&grow, 40) - quantile(&grow, HELD)).abs() < 1e-9);
    }

    #[test]
    fn a_short_history_is_no_ground_for_a_word_and_gaps_are_left_out() {
        let series = weeks(9, 0.1);
        assert_eq!(ahead(&series[..WEEK + 6 * DAY], DAY), None);
        assert!(ahead(&series[..WEEK + 8 * DAY], DAY).is_some());
        assert_eq!(ahead(&series, 0), None);
        let mut gappy = series.clone();
        gappy[7 * WEEK..7 * WEEK + 30].fill(f64::NAN);
        let told = ahead(&gappy, DAY).unwrap();
        assert!((told.p50() / ahead(&series, DAY).unwrap().p50() - 1.0).abs() < 0.1);
    }
}
