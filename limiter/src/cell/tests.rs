use super::*;

fn cell(leased: bool, window: u64, test: impl FnOnce(Cell<'_>)) {
    let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    let cell = Cell::new(&words, leased);
    cell.reset(7, 0);
    cell.set(Field::WindowMs, window);
    test(cell);
}

#[test]
fn a_unit_counts_for_a_window_and_hardly_longer() {
    cell(false, 60_000, |c| {
        c.note(5_000, 1, 60);
        assert_eq!(c.used(5_000), 1);
        assert_eq!(c.used(65_000), 1, "the interval [5000, 65000] is one window long");
        assert_eq!(c.used(65_001), 0);
    });
}

#[test]
fn nothing_is_forgotten_when_the_ring_is_full() {
    for leased in [false, true] {
        cell(leased, 60_000, |c| {
            let mut log: Vec<u64> = Vec::new();
            let mut now = 1_000;
            for i in 0..5_000u64 {
                now += i * 7_919 % 97;
                c.note(now, 1, 58);
                log.push(now);
                let exact = log.iter().filter(|&&t| t + 60_000 >= now).count() as u64;
                let generous = log.iter().filter(|&&t| t + 64_000 >= now).count() as u64;
                let used = c.used(now);
                assert!(used >= exact, "{used} < {exact} at {now}");
                assert!(used <= generous, "{used} > {generous} at {now}");
            }
        });
    }
}

#[test]
fn an_old_use_is_not_taken_for_one_to_come() {
    for idle in [61_100, 5_000_000, 9_000_000, 16_700_000, 20_000_000, 90_000_000] {
        cell(false, 60_000, |c| {
            c.note(5_000, 7, 58);
            c.set(Field::Touched, 5_000);
            c.touch(5_000 + idle, 60_000);
            assert_eq!(c.used(5_000 + idle), 0, "idle for {idle} ms");
            c.note(5_000 + idle, 1, 58);
            assert_eq!(c.used(5_000 + idle), 1);
        });
    }
}

#[test]
fn a_burst_keeps_its_own_stamps() {
    cell(false, 60_000, |c| {
        for i in 0..80u64 {
            c.note(100_000 + i * 12, 1, 58);
        }
        // Half a second into the next burst, a minute later, half of the first has left.
        assert!(c.used(160_500) <= 44, "{}", c.used(160_500));
    });
}

#[test]
fn what_was_published_is_not_published_again() {
    cell(true, 60_000, |c| {
        c.note(1_000, 3, 58);
        assert_eq!(c.unsettled(1_000), vec![Slot { stamp: 1_001, units: 3 }]);
        c.mark_settled(1_000);
        assert!(c.unsettled(1_000).is_empty());
        c.note(1_010, 2, 58);
        assert_eq!(c.unsettled(1_010), vec![Slot { stamp: 1_011, units: 2 }]);
        c.unsettle_all();
        assert_eq!(c.unsettled(1_010).iter().map(|s| s.units).sum::<u64>(), 5);
    });
}

#[test]
fn published_and_unpublished_units_survive_mergers() {
    cell(true, 60_000, |c| {
        let (mut published, mut noted) = (0, 0);
        for i in 0..2_000u64 {
            let now = 1_000 + i * 61;
            c.note(now, 2, 58);
            noted += 2;
            if i % 20 == 19 {
                published += c.unsettled(now).iter().map(|s| s.units).sum::<u64>();
                c.mark_settled(now);
            }
        }
        assert_eq!(published, noted);
    });
}

#[test]
fn leases_are_taken_from_the_one_that_ends_first() {
    cell(true, 60_000, |c| {
        assert!(c.add_lease(Lease { end: 500, rest: 5, used: 0 }));
        assert!(c.add_lease(Lease { end: 400, rest: 3, used: 0 }));
        assert_eq!(c.usable(400), 8);
        assert_eq!(c.usable(401), 5);
        assert_eq!(c.take(400, 4), 4);
        assert_eq!(c.lease(1), Lease { end: 400, rest: 0, used: 3 });
        assert_eq!(c.lease(0), Lease { end: 500, rest: 4, used: 1 });
        assert_eq!(c.take(450, 9), 4);
    });
}

#[test]
fn a_fifth_lease_finds_no_place() {
    cell(true, 1_000, |c| {
        for end in 1..=LEASES as u64 {
            assert!(c.add_lease(Lease { end, rest: 1, used: 0 }));
        }
        assert!(!c.add_lease(Lease { end: 9, rest: 1, used: 0 }));
    });
}
