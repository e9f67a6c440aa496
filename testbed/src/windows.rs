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

/// The most events that certainly lie in one interval of `window_us`, when of each event only an
/// interval (from, to) is known in which it took place, as of a decision between the sending of a
/// request and its answer. Whatever this counts beyond a limit is a breach, however slow the wire.
pub fn most_certain_in_any(spans_us: &mut [(u64, u64)], window_us: u64) -> usize {
    spans_us.sort_unstable();
    let mut by_end: Vec<usize> = (0..spans_us.len()).collect();
    by_end.sort_unstable_by_key(|&i| spans_us[i].1);
    let mut inside = vec![false; spans_us.len()];
    let (mut next, mut count, mut most) = (0, 0, 0);
    for start in 0..spans_us.len() {
        while next < by_end.len() && spans_us[by_end[next]].1 < spans_us[start].0 + window_us {
            // One that began before this interval is in none of the later ones either.
            if by_end[next] >= start {
                inside[by_end[next]] = true;
                count += 1;
            }
            next += 1;
        }
        most = most.max(count);
        count -= usize::from(inside[start]);
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
    fn without_uncertainty_both_checkers_agree() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut times: Vec<u64> = (0..500).map(|_| rng.u64(..20_000)).collect();
        let mut spans: Vec<(u64, u64)> = times.iter().map(|&t| (t, t)).collect();
        let most = most_in_any(&mut times, 1_000);
        assert_eq!(most_certain_in_any(&mut spans, 1_000), most);
    }
}
