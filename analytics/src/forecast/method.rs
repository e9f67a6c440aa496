//! What the next hours of a series add up to. Pure arithmetic; docs/forecasts.md says why so, and how
//! it fares.

pub const DAY: usize = 24;
pub const WEEK: usize = 7 * DAY;

/// The same hours of so many weeks are averaged.
const WEEKS: usize = 4;

/// How much of yesterday's deviation is expected of the first day; of each later day its square and so
/// on, as deviations fade.
const LASTING: f64 = 0.5;

/// The band is made of so many past forecasts, one a day, and of no fewer.
const MOST_ERRORS: usize = 42;
const LEAST_ERRORS: usize = 7;

/// The share of outcomes that the band is to hold.
const HELD: f64 = 0.8;

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

    pub fn p90(&self) -> f64 {
        self.p50() * self.spread
    }
}

/// Forecasts the `hours` after the end of an hourly series; `NAN` stands for an hour of which nothing
/// is known. `None` where the history is too short to say how good forecasts of this length were.
pub fn ahead(series: &[f64], hours: usize) -> Option<Ahead> {
    let errors = past_errors(series, hours);
    if hours == 0 || errors.len() < LEAST_ERRORS {
        return None;
    }
    // Errors of overlapping stretches are alike: few of them that are apart say little of the band.
    let apart = (errors.len() * DAY) as f64 / hours as f64;
    let widened = quantile(&errors, HELD) * (1.0 + 0.5 / apart);
    let mut sum = 0.0;
    let cumulated = expected(series, hours)?.into_iter().map(|hour| {
        sum += hour;
        sum
    });
    Some(Ahead { cumulated: cumulated.collect(), spread: widened.exp() })
}

/// |ln(outcome / forecast)| of forecasts of the same length made one a day before, ascending.
fn past_errors(series: &[f64], hours: usize) -> Vec<f64> {
    let begins = (1..).map_while(|day: usize| series.len().checked_sub(hours + (day - 1) * DAY));
    let mut errors: Vec<f64> = begins
        .take_while(|&at| at >= WEEK)
        .filter_map(|at| {
            let outcome: f64 = series[at..at + hours].iter().sum();
            let forecast: f64 = expected(&series[..at], hours)?.iter().sum();
            (outcome > 0.0 && forecast > 0.0).then(|| (outcome / forecast).ln().abs())
        })
        .take(MOST_ERRORS)
        .collect();
    errors.sort_unstable_by(f64::total_cmp);
    errors
}

/// The mean of the same hours of the last weeks, in proportion to how yesterday was.
fn expected(series: &[f64], hours: usize) -> Option<Vec<f64>> {
    let yesterday = series.len().checked_sub(DAY)?;
    let was: f64 = series[yesterday..].iter().sum();
    let usual: f64 = usual(&series[..yesterday], DAY).map_or(f64::NAN, |hours| hours.iter().sum());
    let ratio = if was > 0.0 && usual > 0.0 { was / usual } else { 1.0 };
    let mut expected = self::usual(series, hours)?;
    for (hour, value) in expected.iter_mut().enumerate() {
        *value *= ratio.powf(LASTING.powi(1 + (hour / DAY) as i32));
    }
    Some(expected)
}

fn usual(series: &[f64], hours: usize) -> Option<Vec<f64>> {
    let hour = |at: usize| {
        let same = (1..=WEEKS).map_while(|week| (series.len() + at).checked_sub(WEEK * (week + at / WEEK)));
        let known: Vec<f64> = same.map(|at| series[at]).filter(|value| !value.is_nan()).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    (0..hours).map(hour).collect()
}

/// Of ascending values, as rank p (n + 1).
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let last = sorted.len() - 1;
    let rank = (p * (sorted.len() + 1) as f64 - 1.0).clamp(0.0, last as f64);
    let below = rank as usize;
    sorted[below] + (sorted[(below + 1).min(last)] - sorted[below]) * rank.fract()
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
            assert!(told.p10() < told.p50() && told.p50() < told.p90());
        }
    }

    #[test]
    fn a_day_twice_as_busy_lifts_the_next_less_and_less() {
        let mut series = weeks(6, 0.0);
        let from = series.len() - DAY;
        series[from..].iter_mut().for_each(|hour| *hour *= 2.0);
        let lifted = expected(&series, 2 * DAY).unwrap();
        let plain = expected(&weeks(6, 0.0), 2 * DAY).unwrap();
        assert!((lifted[0] / plain[0] - 2f64.sqrt()).abs() < 0.01);
        assert!((lifted[DAY] / plain[DAY] - 2f64.powf(0.25)).abs() < 0.01);
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
