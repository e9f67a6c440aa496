//! Use of one limit in sliding windows: exact, for any events.

/// Something that counts against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Microseconds UTC.
    pub at_us: i64,
    pub weight: u64,
}

/// A stretch during which the use of a limit stood at a threshold again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episode {
    /// The first moment at which the threshold was reached.
    pub at_us: i64,
    /// The use in the window that ended then.
    pub used: u64,
}

/// The use in the window that ends with each event, that event included: the sum of the weights in
/// (at - window, at]. `events` are ascending.
pub fn uses(events: &[Event], window_us: i64) -> impl Iterator<Item = (Event, u64)> + '_ {
    let (mut oldest, mut used) = (0, 0u64);
    events.iter().map(move |&event| {
        used = used.saturating_add(event.weight);
        while events[oldest].at_us <= event.at_us - window_us {
            used -= events[oldest].weight;
            oldest += 1;
        }
        (event, used)
    })
}

/// The episodes in which `needed` was reached within a window. A new one begins when a whole window
/// has passed in which it wasn't.
///
/// So whether an episode begins at a moment depends on the two windows before it alone: every run
/// that sees these finds the same beginning.
pub fn episodes(events: &[Event], window_us: i64, needed: u64) -> Vec<Episode> {
    let reached = uses(events, window_us).filter(|&(_, used)| used >= needed);
    begin_anew(reached.map(|(event, used)| Episode { at_us: event.at_us, used }), window_us)
}

/// Of moments in ascending order those that follow a whole window without any.
pub fn begin_anew(moments: impl Iterator<Item = Episode>, window_us: i64) -> Vec<Episode> {
    let mut last = None;
    let mut begun = Vec::new();
    for moment in moments {
        if last.is_none_or(|last: i64| moment.at_us - last >= window_us) {
            begun.push(moment);
        }
        last = Some(moment.at_us);
    }
    begun
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(times: &[i64]) -> Vec<Event> {
        times.iter().map(|&at_us| Event { at_us, weight: 1 }).collect()
    }

    #[test]
    fn use_is_that_of_the_naive_count() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..50 {
            let mut all: Vec<Event> =
                (0..80).map(|_| Event { at_us: rng.i64(0..300), weight: rng.u64(0..4) }).collect();
            all.sort();
            let window = rng.i64(1..100);
            for (i, (event, used)) in uses(&all, window).enumerate() {
                let inside = all[..=i].iter().filter(|e| e.at_us > event.at_us - window);
                assert_eq!(used, inside.map(|e| e.weight).sum::<u64>());
            }
        }
    }

    #[test]
    fn a_steady_client_at_its_limit_is_one_episode() {
        let busy: Vec<i64> = (0..1000).collect();
        let found = episodes(&events(&busy), 100, 80);
        assert_eq!(found, [Episode { at_us: 79, used: 80 }]);
    }

    #[test]
    fn after_a_quiet_window_a_new_episode_begins() {
        let times: Vec<i64> = (0..10).chain(105..115).chain(400..410).collect();
        let found = episodes(&events(&times), 100, 10);
        let starts: Vec<i64> = found.iter().map(|e| e.at_us).collect();
        assert_eq!(starts, [9, 114, 409]);
        assert!(episodes(&events(&times), 100, 12).is_empty());
    }

    #[test]
    fn a_later_look_finds_the_same_beginning() {
        let mut rng = fastrand::Rng::with_seed(2);
        let mut times: Vec<i64> = (0..4000).map(|_| rng.i64(0..10_000)).collect();
        times.sort_unstable();
        let (window, needed) = (200, 92);
        let all = episodes(&events(&times), window, needed);
        for cut in (0..9000).step_by(500) {
            let late: Vec<i64> = times.iter().copied().filter(|&t| t > cut - 2 * window).collect();
            let settled = |e: &&Episode| e.at_us > cut;
            let (seen, want) = (episodes(&events(&late), window, needed), all.iter().filter(settled));
            assert!(seen.iter().filter(settled).eq(want), "cut {cut}");
        }
        assert!(all.len() > 2);
    }
}
