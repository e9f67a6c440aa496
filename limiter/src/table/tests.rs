use super::*;
use crate::cell::Lease;

/// A table in leaked memory, as shared memory is: it outlives whoever uses it.
pub(crate) fn table(keys: usize) -> Table {
    let words = vec![0u64; Table::bytes_for(keys) / 8].leak();
    // SAFETY: leaked, aligned, and used through tables only.
    unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, [1, 2]) }.unwrap()
}

fn dead(_: u64) -> bool {
    false
}

fn living(_: u64) -> bool {
    true
}

#[test]
fn a_key_leaves_room_for_the_rest_of_the_zone_within_512_bytes() {
    assert_eq!(CELL * 8, 472);
    // As for nginx: 6 in 1,000 bytes for its pages, a sixteenth for figures.
    let memory = (16 << 20) * 994 / 1000 * 15 / 16 - 8192;
    let (segments, per_segment) = Table::geometry(memory / 8).unwrap();
    assert!((16 << 20) / (segments * per_segment) <= 510);
}

#[test]
fn another_process_finds_the_same_cell() {
    let words = vec![0u64; Table::bytes_for(1000) / 8].leak();
    let (memory, len) = (words.as_mut_ptr().cast(), words.len() * 8);
    // SAFETY: leaked, aligned, and used through tables only.
    let (a, b) =
        unsafe { (Table::create(memory, len, [3, 4]).unwrap(), Table::attach(memory, len).unwrap()) };
    let counter = Counter::new("acme", ":requests:60000");
    let place = a.place(&counter);
    a.lock(&[place], 1, dead).unwrap().find_or_make(place, &[place], false, 5).set(Field::Amount, 42);
    let place = b.place(&counter);
    let cell = b.lock(&[place], 2, dead).unwrap().find(place, false).unwrap();
    assert_eq!(cell.get(Field::Amount), 42);
    assert_eq!((b.keys(), b.evicted()), (1, 0));
}

#[test]
fn a_foreign_or_small_region_is_refused() {
    let words = vec![7u64; 100_000].leak();
    let memory: *mut u8 = words.as_mut_ptr().cast();
    // SAFETY: leaked and aligned.
    unsafe {
        assert_eq!(Table::attach(memory, 800_000).err(), Some(TableError::Foreign));
        assert!(matches!(Table::create(memory, 800, [0, 0]), Err(TableError::TooSmall { .. })));
        Table::create(memory, 800_000, [0, 0]).unwrap();
        assert_eq!(Table::attach(memory, 799_992).err(), Some(TableError::Foreign));
    }
}

#[test]
fn the_lock_of_a_dead_owner_is_taken_over_and_that_of_a_living_one_is_not() {
    let table = table(100);
    let place = table.place(&Counter::new("acme", ":requests:60000"));
    std::mem::forget(table.lock(&[place], 11, dead).unwrap());
    assert_eq!(table.lock(&[place], 12, living).err(), Some(Busy::Locked));
    drop(table.lock(&[place], 12, dead).unwrap());
    assert_eq!(table.repaired(), 1);
    table.lock(&[place], 13, living).unwrap();
}

#[test]
fn a_full_table_makes_room_where_idleness_was_longest() {
    let table = table(64);
    for i in 0..10_000u64 {
        let counter = Counter::new(&format!("c{i}"), ":requests:60000");
        let place = table.place(&counter);
        let guard = table.lock(&[place], 1, dead).unwrap();
        let cell = guard.find_or_make(place, &[place], false, i);
        cell.set(Field::WindowMs, 60_000);
        assert!(guard.find(place, false).is_some());
    }
    assert!(table.keys() <= table.capacity());
    assert!(table.evicted() > 9_000);
}

/// What was used beyond leases is known to others only when it is published: until then its cell stays,
/// however long nobody asks for it, unless all others are like it.
#[test]
fn a_cell_whose_uses_nobody_else_knows_makes_room_last() {
    let table = table(1);
    let place = |name: &str| table.place(&Counter::new("acme", name));
    let make = |name: &str, now: u64, used: u64| {
        let (guard, place) = (table.lock(&[place(name)], 1, dead).unwrap(), place(name));
        let cell = guard.find_or_make(place, &[place], true, now);
        cell.touch(now, 60_000);
        cell.note(now, used, 0);
        cell
    };
    let has = |name: &str| table.lock(&[place(name)], 1, dead).unwrap().find(place(name), true).is_some();
    make("untold", 0, 5);
    let leased = make("leased", 0, 5);
    leased.add_lease(Lease { end: 9_000, rest: 0, used: 5 });
    (0..100).for_each(|n| make(&format!("other{n}"), 1_000 + n, 1).mark_settled(1_000 + n));
    assert!(has("untold") && !has("leased"), "a lease stands for its units at the server");
    assert!(table.evicted() > 50 && table.forgotten() == 0);
    for n in 0..100 {
        make(&format!("more{n}"), 2_000 + n, 1);
    }
    assert!(!has("untold") && table.forgotten() > 50, "a full table refuses nobody");
}

/// Keys of one request do not make room for one another, though they are of use for the shortest.
#[test]
fn keys_of_one_request_stay_together() {
    let table = table(1);
    let place = |n: usize| table.place(&Counter::new("acme", &format!(":{n}")));
    for n in 0..100 {
        let place = place(n);
        let guard = table.lock(&[place], 1, dead).unwrap();
        guard.find_or_make(place, &[place], false, 0).touch(0, 3_600_000);
    }
    let request: Vec<Place> = (100..100 + MAX_ASKS).map(place).collect();
    let guard = table.lock(&request, 1, dead).unwrap();
    for &place in &request {
        guard.find_or_make(place, &request, false, 1);
    }
    assert!(request.iter().all(|&place| guard.find(place, false).is_some()));
}

#[test]
fn places_of_one_client_share_a_segment() {
    let table = table(10_000);
    let at = |rest: &str| table.place(&Counter::new("acme", rest)).segment;
    assert_eq!(at(":requests:60000"), at(":bytes:3600000"));
}
