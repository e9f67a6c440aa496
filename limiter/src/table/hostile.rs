//! Keys chosen to collide, and owners that do not run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::*;

/// A table of 1,024 keys in 16 segments whose hashes are keyed by `seed`.
fn table(seed: [u64; 2]) -> Table {
    let words = vec![0u64; Table::bytes_for(1024) / 8].leak();
    // SAFETY: leaked, aligned, and used through tables only.
    unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, seed) }.unwrap()
}

/// Names that an attacker has found to begin their probes at one cell of `table`.
fn colliding(table: Table, count: usize) -> Vec<Arc<Counter>> {
    let start = |place: Place| (place.segment, place.tag as usize % table.per_segment);
    (0..)
        .map(|n| Counter::new(&format!("c{n}"), ":requests:60000"))
        .filter(|counter| start(table.place(counter)) == (3, 17))
        .take(count)
        .collect()
}

/// (segments used, cells used, cells that had to make room) when all of these are asked for.
fn spread(table: Table, counters: &[Arc<Counter>]) -> (usize, u64, u64) {
    let mut segments = BTreeMap::new();
    for (now, counter) in counters.iter().enumerate() {
        let place = table.place(counter);
        *segments.entry(place.segment).or_insert(0) += 1;
        let guard = table.lock(&[place], 1, |_| true).unwrap();
        guard.find_or_make(place, &[place], false, now as u64).set(Field::WindowMs, 60_000);
    }
    (segments.len(), table.keys(), table.evicted())
}

/// With a secret seed, names that collide in a table of a known seed fare as any others do.
#[test]
fn keys_that_collide_under_a_known_seed_are_spread_under_a_secret_one() {
    let known = table([0, 0]);
    let chosen = colliding(known, 400);
    // All within one run of probes: the attack works where the seed is known.
    assert_eq!(spread(known, &chosen), (1, PROBES as u64, (chosen.len() - PROBES) as u64));
    let (segments, cells, evicted) = spread(table([0x5eed, 0x5ec2e7]), &chosen);
    assert_eq!(segments, 16);
    assert!(evicted <= 4 && cells + evicted == chosen.len() as u64, "{cells} cells, {evicted} evicted");
    let others: Vec<_> = (0..400).map(|n| Counter::new(&format!("other{n}"), ":requests:60000")).collect();
    let (_, as_many, _) = spread(table([0x5eed, 0x5ec2e7]), &others);
    assert!(as_many.abs_diff(cells) <= 4, "{as_many} of names that nobody chose, {cells} of the chosen");
}

static ASKED: AtomicU64 = AtomicU64::new(0);

fn living_and_counted(_: u64) -> bool {
    ASKED.fetch_add(1, Ordering::Relaxed);
    true
}

/// Whoever meets the lock of an owner that does not run tries a bounded number of times, looks once
/// whether the owner lives, and goes without.
#[test]
fn who_meets_a_lock_that_is_not_given_back_goes_on_without_it() {
    const { assert!(YIELDS <= 4, "each may cost the time slice of somebody else") };
    let table = table([1, 2]);
    let place = table.place(&Counter::new("acme", ":requests:60000"));
    let held = table.lock(&[place], 7, living_and_counted).unwrap();
    for _ in 0..100 {
        assert_eq!(table.lock(&[place], 8, living_and_counted).err(), Some(Busy::Locked));
    }
    assert_eq!(ASKED.load(Ordering::Relaxed), 100);
    drop(held);
    table.lock(&[place], 8, living_and_counted).unwrap();
    assert_eq!(table.repaired(), 0);
}

/// An owner is known by a name, not by its pid: when the kernel has given the pid of a dead worker to
/// somebody who lives, the lock is taken over all the same.
#[test]
fn a_lock_is_orphaned_though_its_owners_pid_lives_again() {
    const DEAD: u64 = 500 | 1 << 32;
    const SAME_PID: u64 = 500 | 2 << 32;
    let table = table([1, 2]);
    let place = table.place(&Counter::new("acme", ":requests:60000"));
    std::mem::forget(table.lock(&[place], DEAD, |_| true).unwrap());
    drop(table.lock(&[place], 501, |owner| owner == SAME_PID).unwrap());
    assert_eq!(table.repaired(), 1);
    // And that somebody may be our own worker.
    std::mem::forget(table.lock(&[place], DEAD, |_| true).unwrap());
    drop(table.lock(&[place], SAME_PID, |owner| owner == SAME_PID).unwrap());
    assert_eq!(table.repaired(), 2);
}
