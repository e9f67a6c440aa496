//! Anomalies put into made traffic: how many are found, and how often a word is said of none.

use super::judge::{AS_GRAVE, count_floor, judge};
use super::{CALM_HOURS, LEAST_REQUESTS, margin, silence};

const WEEK: usize = 7 * 24;
/// Six weeks to learn from, two in which things happen.
const HOURS: usize = 8 * WEEK;
const FROM: usize = 6 * WEEK;
/// How long what is put in lasts.
const LASTING: usize = 3;
const SERIES: usize = 60;

/// One deviate of a normal distribution (Box and Muller 1958).
fn normal(rng: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

/// A client with days and week-ends, growth of 2 % a week, and hours that scatter by 10 % more than
/// chance alone would have it.
fn traffic(rng: &mut fastrand::Rng, mean: f64) -> Vec<f64> {
    let phase = rng.f64();
    let hour = |h: usize| {
        let day = 1.0 + 0.7 * ((h as f64 / 24.0 + phase) * std::f64::consts::TAU).sin();
        let week = if h / 24 % 7 >= 5 { 0.5 } else { 1.2 };
        let grown = 1.02f64.powf(h as f64 / WEEK as f64);
        let rate = (mean * day * week * grown * (1.0 + 0.1 * normal(rng))).max(0.0);
        (rate + rate.sqrt() * normal(rng)).round().max(0.0)
    };
    (0..HOURS).map(hour).collect()
}

fn is_told(series: &[f64], at: usize) -> bool {
    let judged = judge(series, at, AS_GRAVE, |_, e| count_floor(e), margin);
    silence(series, at).is_some() || judged.is_some_and(|j| j.value.max(j.expected) >= LEAST_REQUESTS)
}

/// The share of changes by a factor that are told while they last, at hours of all sorts.
fn found(rng: &mut fastrand::Rng, mean: f64, factor: f64) -> f64 {
    let one = |_| {
        let mut series = traffic(rng, mean);
        let from = rng.usize(FROM..HOURS - LASTING);
        series[from..from + LASTING].iter_mut().for_each(|n| *n = (*n * factor).round());
        usize::from((from..from + LASTING).any(|at| is_told(&series[..=at], at)))
    };
    (0..SERIES).map(one).sum::<usize>() as f64 / SERIES as f64
}

/// Episodes in 30 days of traffic in which nothing happens.
fn false_rate(rng: &mut fastrand::Rng, mean: f64) -> f64 {
    let episodes = |_| {
        let series = traffic(rng, mean);
        let told: Vec<usize> = (FROM..HOURS).filter(|&at| is_told(&series[..=at], at)).collect();
        let begins =
            |at: &usize| told[..*at].last().is_none_or(|last| told[*at] - last > CALM_HOURS as usize);
        (0..told.len()).filter(begins).count()
    };
    let days = (SERIES * (HOURS - FROM)) as f64 / 24.0;
    (0..SERIES).map(episodes).sum::<usize>() as f64 / days * 30.0
}

#[test]
fn what_is_put_in_is_found_and_nothing_else() {
    let mut rng = fastrand::Rng::with_seed(6);
    println!("requests an hour  x5     x3     x2     x0.3   silence  false in 30 days");
    for mean in [50.0, 500.0, 5_000.0] {
        let shares = [5.0, 3.0, 2.0, 0.3, 0.0].map(|factor| found(&mut rng, mean, factor));
        let rate = false_rate(&mut rng, mean);
        let told: Vec<String> = shares.iter().map(|share| format!("{:>4.0} %", share * 100.0)).collect();
        println!("{mean:>16}  {}  {rate:.2}", told.join(" "));
        assert!(shares[0] >= 0.9 && shares[1] >= 0.8 && rate <= 0.2, "{shares:?} {rate} of {mean}");
        assert!(mean < 100.0 || shares[4] >= 0.95, "{shares:?} of {mean}");
    }
}
