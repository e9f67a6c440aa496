//! What one decision costs: nanoseconds of this thread, for a request with two limits of one of 80
//! clients. `cargo run --release -p weir-simulator --example decide_cost`

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use weir_limiter::{Ask, Counter, Mode, Table, Worker};
use weir_simulator::server::Server;

const ROUNDS: u64 = 2_000_000;
const CLIENTS: usize = 80;

fn main() {
    for mode in [Mode::Alone, Mode::Shared] {
        for (name, amount) in [("admitted", 1_000_000_000), ("refused", 10)] {
            println!("{mode:?}, {name}: {:.0} ns", cost(mode, amount));
        }
    }
}

fn cost(mode: Mode, amount: u64) -> f64 {
    let words = vec![0u64; Table::bytes_for(10_000) / 8].leak();
    // SAFETY: leaked, aligned, and used through tables only.
    let table = unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, [1, 2]) }.expect("room");
    let mut worker = Worker::new(table, mode, 1, |_| true);
    worker.connected(0, 1, 1_000_000, 1);
    let counters: Vec<[Arc<Counter>; 2]> = (0..CLIENTS)
        .map(|i| {
            [":requests:60000", ":requests:3600000"].map(|rest| Counter::new(&format!("client-{i}"), rest))
        })
        .collect();
    let mut server = Server::new(1_000_000);
    let mut states = Vec::new();
    let started = Instant::now();
    for i in 0..ROUNDS {
        let now = 1_000 + i / 30;
        let [minute, hour] = &counters[(i * 31 % CLIENTS as u64) as usize];
        let asks = [
            Ask { counter: minute, amount, window_ms: 60_000, cost: 1, until: u64::MAX },
            Ask { counter: hour, amount: amount * 60, window_ms: 3_600_000, cost: 1, until: u64::MAX },
        ];
        black_box(worker.decide(now, &asks, &mut states));
        for transaction in worker.outgoing() {
            if let Some(answer) = server.execute(now, &transaction) {
                worker.answered(now, transaction.id, &answer);
            }
        }
    }
    let spent = started.elapsed().as_nanos() as f64 / ROUNDS as f64;
    println!("  {:.4} transactions a request", server.transactions as f64 / ROUNDS as f64);
    spent
}
