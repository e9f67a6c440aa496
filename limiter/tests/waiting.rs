//! Requests that wait for a lease, and what is acquired for them.

use std::sync::Arc;

use weir_limiter::{Answer, Ask, Counter, Decision, Mode, Table, Transaction, Worker};

fn worker() -> Worker {
    let words = vec![0u64; Table::bytes_for(1000) / 8].leak();
    // SAFETY: leaked, aligned, and used through tables only.
    let table = unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, [5, 6]) }.unwrap();
    let mut worker = Worker::new(table, Mode::Shared, 1, |_| true);
    worker.connected(999, 1_000, 999, 7);
    worker
}

fn ask(worker: &mut Worker, now: u64, counter: &Arc<Counter>) -> Decision {
    let asks = [Ask { counter, amount: 100, window_ms: 60_000, cost: 1, until: u64::MAX }];
    worker.decide(now, &asks, &mut Vec::new())
}

/// What a transaction acquires: the units at the latest stamp.
fn acquired(transaction: &Transaction) -> i64 {
    transaction.parts[0].add.iter().max().map_or(0, |field| field.1)
}

/// The answer of a server that held nothing before.
fn answer(now: u64, transaction: &Transaction) -> Answer {
    let fields = transaction.parts.iter().map(|part| part.add.clone()).collect();
    Answer { time_ms: now, life: 7, fields }
}

/// Whatever comes from the server makes all requests that wait ask again: they are still as many.
#[test]
fn a_request_that_asks_again_while_it_waits_is_acquired_for_once() {
    let (mut worker, key) = (worker(), Counter::new("acme", ":requests:60000"));
    for _ in 0..5 {
        assert_eq!(ask(&mut worker, 1_000, &key), Decision::Wait);
    }
    let first = worker.outgoing().remove(0);
    assert_eq!(acquired(&first), 1);
    for now in 1_001..1_021 {
        // A key that was never asked for brings news for certain.
        ask(&mut worker, now, &Counter::new("other", &format!(":{now}:60000")));
        for news in worker.outgoing() {
            worker.answered(now, news.id, &answer(now, &news));
        }
        for _ in 0..5 {
            assert_eq!(ask(&mut worker, now, &key), Decision::Wait);
        }
    }
    worker.answered(1_021, first.id, &answer(1_021, &first));
    assert_eq!(ask(&mut worker, 1_021, &key), Decision::Allow);
    for _ in 0..4 {
        assert_eq!(ask(&mut worker, 1_021, &key), Decision::Wait);
    }
    let out = worker.outgoing();
    let next = out.iter().rfind(|transaction| transaction.parts[0].counter == key).unwrap();
    assert_eq!(acquired(next), 5, "four that wait, and the one that asks for them");
}
