use std::sync::Arc;

use object_store::memory::InMemory;
use weir_metering::{Decision, Record};
use weir_policy::parse_bytes;

use super::*;
use crate::completeness::{End, Life};
use crate::part::{self, PartNote};
use crate::records::Records;
use crate::store::Created;
use crate::testing::{SAMPLE_START_US, put_segment, roll_up, runtime, stream_name};

const START_US: i64 = SAMPLE_START_US as i64;

async fn filled(segments: &[(u32, Range<u64>)]) -> Store {
    let store = Store::new(Arc::new(InMemory::new()));
    for (segment, numbers) in segments {
        put_segment(&store, 1, *segment, numbers.clone()).await.unwrap();
    }
    roll_up(&store, 0).await.unwrap();
    store
}

async fn audited(store: &Store, book: Option<&Book>) -> Audit {
    let given = Given { skew_us: 0, records_from_us: START_US };
    audit(store, book, START_US..START_US + 3_600_000_000, given, &mut |_, _| {}).await.unwrap()
}

fn kinds(audit: &Audit) -> Vec<&str> {
    audit.breaches.iter().map(|b| b.kind).collect()
}

#[test]
fn good_books_have_no_breach() {
    runtime().block_on(async {
        let store = filled(&[(0, 0..500), (1, 500..900)]).await;
        let done = audited(&store, None).await;
        assert_eq!((done.hours, done.records, done.breaches), (2, 900, Vec::new()));
    });
}

#[test]
fn a_lost_segment_is_a_gap_and_a_copied_one_a_double() {
    runtime().block_on(async {
        let store = filled(&[(0, 0..200), (2, 300..400)]).await;
        let done = audited(&store, None).await;
        assert_eq!(kinds(&done), ["gap"]);
        let told = &done.breaches[0].evidence;
        assert!(told.contains("100 records missing, numbers 200 to 299"), "{told}");
        assert!(told.contains(&stream_name(1)) && told.contains("\"gw\""), "{told}");
        // The same records under another segment's name.
        put_segment(&store, 1, 7, 100..150).await.unwrap();
        let done = audited(&store, None).await;
        assert!(kinds(&done).contains(&"double"), "{done:?}");
        assert!(done.breaches[0].evidence.contains("50 record numbers"), "{done:?}");
    });
}

#[test]
fn a_grain_that_was_tampered_with_does_not_add_up() {
    runtime().block_on(async {
        for grain in Grain::ALL {
            let store = filled(&[(0, 0..200)]).await;
            let partition = Partition::at(grain, START_US);
            let newest = generation::newest(&store, partition).await.unwrap().unwrap();
            let (mut table, note) = newest.read(&store).await.unwrap();
            table.sums[REQUESTS][0] += 1;
            store.delete(&newest.object.path).await.unwrap();
            let made = generation::create(
                &store,
                partition,
                newest.number,
                part::usage_file(&table, &note).unwrap(),
            )
            .await
            .unwrap();
            assert_eq!(made, Created::New);
            let done = audited(&store, None).await;
            assert!(
                !done.breaches.is_empty() && kinds(&done).iter().all(|k| *k == "sum"),
                "{grain:?} {done:?}"
            );
            assert!(done.breaches.iter().all(|b| b.evidence.contains("requests differ")), "{done:?}");
        }
    });
}

#[test]
fn what_was_not_rolled_up_and_what_is_damaged_is_told() {
    runtime().block_on(async {
        let store = Store::new(Arc::new(InMemory::new()));
        put_segment(&store, 1, 0, 0..100).await.unwrap();
        assert!(audited(&store, None).await.breaches[0].evidence.contains("run `weir rollup`"));
        roll_up(&store, 0).await.unwrap();
        let path = store.list(RECORDS).await.unwrap().remove(0).path;
        store.delete(&path).await.unwrap();
        store.create(&path, bytes::Bytes::from_static(b"PAR1")).await.unwrap();
        assert!(kinds(&audited(&store, None).await).contains(&"file"));
        store.delete(&path).await.unwrap();
        let told = audited(&store, None).await.breaches.remove(0).evidence;
        assert!(told.starts_with("1 segments that usage/grain=minute"), "{told}");
    });
}

const POLICY: &str = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"10 requests/minute\"]\n[clients.acme]\n";

/// Books of acme: a request each 5.9 seconds, `admitted` of them served, `dry` refused on trial.
async fn of_acme(book: &Book, admitted: u64, dry: u64) -> Store {
    let mut records = Records::default();
    for n in 0..admitted + dry {
        let dry_run = n >= admitted;
        let record = Record {
            time_us: SAMPLE_START_US + n * 5_900_000,
            client: "acme",
            tier: "t",
            endpoint: "/",
            method: "GET",
            status: 200,
            latency_us: 1_000,
            upstream_us: None,
            bytes_in: 1,
            bytes_out: 1,
            decision: if dry_run { Decision::RejectedDryRun } else { Decision::Passed },
            limit: "10 requests/minute",
            policy_version: book.version(),
        };
        records.push(n, &record, true);
    }
    let store = Store::new(Arc::new(InMemory::new()));
    let note = PartNote {
        gateway: "gw".to_owned(),
        stream: stream_name(3),
        boot: "b".to_owned(),
        held: records.numbers(),
        next: admitted + dry,
        ..PartNote::default()
    };
    part::put(&store, Partition::at(Grain::Minute, START_US), &note, records).await.unwrap();
    roll_up(&store, 0).await.unwrap();
    store
}

#[test]
fn more_than_a_limit_in_some_window_is_told_with_the_window() {
    let book = Book::compile(parse_bytes(POLICY.as_bytes()).unwrap());
    runtime().block_on(async {
        for (admitted, dry, breaches) in [(10, 5, 0), (11, 0, 1)] {
            let done = audited(&of_acme(&book, admitted, dry).await, Some(&book)).await;
            assert_eq!((done.limits, kinds(&done).len()), (1, breaches), "{done:?}");
            for breach in &done.breaches {
                assert!(breach.evidence.contains("11 admitted"), "{breach:?}");
                assert!(breach.evidence.contains("acme"), "{breach:?}");
            }
        }
    });
}

#[test]
fn what_redis_does_not_count_is_told_and_what_it_counts_beyond_is_not() {
    let book = Book::compile(parse_bytes(POLICY.as_bytes()).unwrap());
    runtime().block_on(async {
        let store = of_acme(&book, 10, 5).await;
        let after = |seconds: i64| START_US + seconds * 1_000_000;
        // The ten came within 53.1 s; a minute later five of them have left the window.
        for (at_us, units, beyond, breaches) in [
            (after(54), 10, 0, 0),
            (after(54), 13, 3, 0),
            (after(54), 9, -1, 1),
            (after(84), 5, 0, 0),
            (after(84), 4, -1, 1),
        ] {
            let mut done = audited(&store, Some(&book)).await;
            assert_eq!(done.watched()[0].counter.name, "{acme}:requests:60000");
            done.compare(&[Counted { at_us, units }]);
            assert_eq!((done.compared, done.beyond, kinds(&done).len()), (1, beyond, breaches), "{done:?}");
            for breach in &done.breaches {
                assert_eq!(breach.kind, "redis");
                assert!(breach.evidence.contains(&format!("Redis counts {units} ")), "{breach:?}");
            }
        }
    });
}

#[test]
fn a_gateway_that_went_silent_is_told() {
    runtime().block_on(async {
        let store = Store::new(Arc::new(InMemory::new()));
        let minute = |n: i64| START_US + n * 60_000_000;
        for (n, gateway, to_us, end) in [(1, "gw-a", minute(9), End::Open), (2, "gw-b", minute(2), End::Died)]
        {
            let gateway = gateway.to_owned();
            let life =
                Life { gateway: gateway.clone(), boot: "b".to_owned(), from_us: minute(0), to_us, end };
            let note = PartNote { gateway, stream: stream_name(n), life: Some(life), ..PartNote::default() };
            part::put(&store, Partition::at(Grain::Minute, START_US), &note, Records::default())
                .await
                .unwrap();
        }
        roll_up(&store, 0).await.unwrap();
        let done = audited(&store, None).await;
        assert_eq!(kinds(&done), ["silent"]);
        assert!(done.breaches[0].evidence.contains("gw-b"), "{done:?}");
    });
}
