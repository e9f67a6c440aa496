//! The figures on the terminal.

use crate::measure::{Figures, Round};
use crate::variant::Kind;

/// The median; of an even number of values the mean of the middle two. NaN of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The median of one figure of one variant.
pub fn of(rounds: &[Round], kind: Kind, figure: fn(&Figures) -> f64) -> f64 {
    median(rounds.iter().map(|round| figure(&round.0[&kind])).collect())
}

/// The median over the rounds of the ratio of two variants' processor time per request.
pub fn cpu_ratio(rounds: &[Round], kind: Kind, to: Kind) -> f64 {
    median(rounds.iter().map(|r| r.0[&kind].cpu_us / r.0[&to].cpu_us).collect())
}

pub fn print(rounds: &[Round]) {
    println!(
        "{:<32}{:>12}{:>16}{:>12}{:>10}{:>10}",
        "", "CPU/request", "vs limit_req+log", "requests/s", "p50", "p99"
    );
    for kind in Kind::ALL {
        let peer = if kind.refuses() { Kind::LimitReqLogRefused } else { Kind::LimitReqLog };
        println!(
            "{:<32}{:>9.2} us{:>16.2}{:>12.0}{:>7.0} us{:>7.0} us",
            kind.name(),
            of(rounds, kind, |f| f.cpu_us),
            cpu_ratio(rounds, kind, peer),
            of(rounds, kind, |f| f.per_s),
            of(rounds, kind, |f| f.p50_us),
            of(rounds, kind, |f| f.p99_us),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let round = |bare, weir| {
            let cpu = |cpu_us| Figures { cpu_us, ..Figures::default() };
            Round(BTreeMap::from([(Kind::Bare, cpu(bare)), (Kind::WeirAlone, cpu(weir))]))
        };
        let rounds = [round(10.0, 11.0), round(20.0, 22.0), round(10.0, 12.0)];
        let ratio = cpu_ratio(&rounds, Kind::WeirAlone, Kind::Bare);
        assert!((ratio - 1.1).abs() < 1e-9);
    }
}
