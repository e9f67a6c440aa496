//! The checker of "at most L in any W": it knows nothing of limiters, only of what was let through.

/// The most events in any interval of `window_us`, half open, wherever it starts. `times_us` need
/// not be sorted.
pub fn most_in_any(times_us: &mut [u64], window_us: u64) -> usize {
    times_us.sort_unstable();
    let (mut first, mut most) = (0, 0);
    for last in 0..times_us.len() {
        while times_us[last] - times_us[first] >= window_us {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

/// One admission: the interval (microseconds) in which it took place, as between the sending of a
/// request and its answer, and its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from_us: u64,
    pub to_us: u64,
    pub units: u64,
}

/// The fullest window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fullest {
    pub units: u64,
    /// Where it begins.
    pub from_us: u64,
}

/// The most events that certainly lie in one interval of `window_us`, when of each event only an
/// interval (from, to) is known in which it took place. Whatever this counts beyond a limit is a
/// breach, however slow the wire.
pub fn most_certain_in_any(spans_us: &mut [(u64, u64)], window_us: u64) -> usize {
    let mut spans: Vec<Span> =
        spans_us.iter().map(|&(from_us, to_us)| Span { from_us, to_us, units: 1 }).collect();
    fullest_for_certain(&mut spans, window_us).units as usize
}

/// The interval of `window_us`, half open, that certainly holds the most units.
pub fn fullest_for_certain(spans: &mut [Span], window_us: u64) -> Fullest {
    spans.sort_unstable_by_key(|span| span.from_us);
    let mut by_end: Vec<usize> = (0..spans.len()).collect();
    by_end.sort_unstable_by_key(|&i| spans[i].to_us);
    let mut inside = vec![false; spans.len()];
    let (mut next, mut units, mut fullest) = (0, 0, Fullest::default());
    for start in 0..spans.len() {
        let from_us = spans[start].from_us;
        while next < by_end.len() && spans[by_end[next]].to_us < from_us + window_us {
            // One that began before this interval is in none of the later ones either.
            if by_end[next] >= start {
                inside[by_end[next]] = true;
                units += spans[by_end[next]].units;
            }
            next += 1;
        }
        if units > fullest.units {
            fullest = Fullest { units, from_us };
        }
        units -= if inside[start] { spans[start].units } else { 0 };
    }
    fullest
}

/// The most units that may lie in one closed interval of `window_us`: those of all spans that have a
/// moment in it. A client for which this is within its limit has certainly kept to it.
pub fn most_possible_in_any(spans: &[Span], window_us: u64) -> u64 {
    // A span touches the windows that begin between its start less a window and its end.
    let begins = spans.iter().map(|s| (s.from_us.saturating_sub(window_us), 0, s.units));
    let ends = spans.iter().map(|s| (s.to_us, 1, s.units));
    let mut changes: Vec<(u64, u8, u64)> = begins.chain(ends).collect();
    changes.sort_unstable();
    let (mut units, mut most) = (0, 0);
    for (_, is_end, n) in changes {
        units = if is_end == 1 { units - n } else { units + n };
        most = most.max(units);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_window_may_start_anywhere() {
        let mut times = [900, 0, 950, 1_000, 1_050, 1_899, 3_000];
        assert_eq!(most_in_any(&mut times, 1_000), 5);
        assert_eq!(most_in_any(&mut [], 1_000), 0);
    }

    #[test]
    fn a_window_is_half_open() {
        assert_eq!(most_in_any(&mut [0, 1_000], 1_000), 1);
        assert_eq!(most_in_any(&mut [0, 999], 1_000), 2);
    }

    #[test]
    fn only_what_lies_wholly_within_is_certain() {
        let mut spans = [(0, 100), (500, 600), (950, 1_050), (990, 999), (1_000, 1_001)];
        // From 0: the first, second and fourth; from 500: all but the first.
        assert_eq!(most_certain_in_any(&mut spans, 1_000), 4);
        assert_eq!(most_certain_in_any(&mut [(0, 1_000)], 1_000), 0);
        assert_eq!(most_certain_in_any(&mut [(0, 10), (0, 10), (999, 1_000)], 1_000), 2);
    }

    #[test]
    fn units_add_up_and_the_fullest_window_is_named() {
        let span = |from_us, to_us, units| Span { from_us, to_us, units };
        let mut spans =
            [span(5_000, 5_010, 3), span(0, 100, 4), span(5_400, 5_500, 2), span(6_000, 6_001, 9)];
        assert_eq!(fullest_for_certain(&mut spans, 1_000), Fullest { units: 11, from_us: 5_400 });
        assert_eq!(fullest_for_certain(&mut [], 1_000), Fullest::default());
    }

    #[test]
    fn whatever_touches_a_window_may_lie_in_it() {
        let span = |from_us, to_us| Span { from_us, to_us, units: 2 };
        assert_eq!(most_possible_in_any(&[span(0, 100), span(1_100, 1_200)], 1_000), 4);
        assert_eq!(most_possible_in_any(&[span(0, 100), span(1_101, 1_200)], 1_000), 2);
        assert_eq!(most_possible_in_any(&[], 1_000), 0);
    }

    #[test]
    fn without_uncertainty_both_checkers_agree() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut times: Vec<u64> = (0..500).map(|_| rng.u64(..20_000)).collect();
        let mut spans: Vec<(u64, u64)> = times.iter().map(|&t| (t, t)).collect();
        let most = most_in_any(&mut times, 1_000);
        assert_eq!(most_certain_in_any(&mut spans, 1_000), most);
    }
}
