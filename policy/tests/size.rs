//! Many clients: how much memory a book holds, and that compiling and finding stay quick.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use weir_policy::{Tables, hash_key, parse, spell_hash};

/// Unoptimised code takes some fifteen times as long for each.
const CLIENTS: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };

/// 20 MB for 100,000 clients with a key, a name and a contact each: of the 40 MB that a gateway may take
/// for them, since a worker that changes policies has two for a moment.
const BYTES_PER_CLIENT: usize = 200;

/// Counts what is allocated, with the 8 bytes and the rounding to 16 that a usual `malloc` adds.
struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn footprint(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

// SAFETY: everything is passed on to the system's allocator unchanged; counting touches no memory
// of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.fetch_add(footprint(layout.size()), Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(footprint(layout.size()), Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract, and `alloc` got the memory from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn policy_text() -> String {
    let mut text = "\
default_tier = \"basic\"
[tiers.basic]
limits = [\"100 requests/minute\", \"2000 requests/hour\"]
[tiers.gold]
limits = [\"1000 requests/minute\"]
dry_run = \"10%\"
"
    .to_owned();
    for n in 0..CLIENTS {
        let tier = if n % 10 == 0 { "gold" } else { "basic" };
        let key = spell_hash(&hash_key(format!("key {n}").as_bytes()));
        let _ = write!(text, "[clients.client-{n:06}]\ntier = \"{tier}\"\nkeys = [\"{key}\"]\n");
        let _ = writeln!(text, "name = \"Client {n}\"\ncontacts = [\"dev@client-{n}.example\"]");
    }
    text
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn many_clients() {
    let text = policy_text();
    let before = HELD_BYTES.load(Relaxed);
    let started = Instant::now();
    let book = Tables::compile(&parse(&text).expect("the policy is right"));
    let took = started.elapsed();
    let held = HELD_BYTES.load(Relaxed) - before;
    println!("{} bytes of text, compiled in {took:?}, {held} bytes held", text.len());
    // A release is done in well under a second; the rest is for machines that do other things too.
    let bound = if cfg!(debug_assertions) { 60 } else { 5 };
    assert!(took < Duration::from_secs(bound), "{took:?}");
    assert!(held < CLIENTS * BYTES_PER_CLIENT, "{held} bytes");

    for n in (0..CLIENTS).step_by(997) {
        let caller = book.by_key(format!("key {n}").as_bytes(), 0);
        assert_eq!(caller.id, format!("client-{n:06}"));
        assert_eq!(book.by_client(caller.id, None).tier, caller.tier);
        assert_eq!(book.client_name(caller.id), Some(&*format!("Client {n}")));
    }
    finding_allocates_nothing(&book);
}

fn finding_allocates_nothing(book: &Tables) {
    let before = ALLOCATIONS.load(Relaxed);
    let started = Instant::now();
    for _ in 0..10_000 {
        assert_eq!(book.by_key(b"key 4711", 0).id, "client-004711");
    }
    println!("{:?} a look-up", started.elapsed() / 10_000);
    // The test harness may print in another thread; a look-up that allocates would do so 10,000 times.
    assert!(ALLOCATIONS.load(Relaxed) - before < 100);
    let mut applied = Vec::new();
    book.limits(&book.by_key(b"key 4711", 0), "GET", "/orders", 0, &mut applied);
    assert_eq!(applied.len(), 2);
}
