//! Decisions of one gateway that stands alone, and of one whose server is away.

use std::sync::Arc;

use weir_limiter::{Ask, Counter, Decision, Fallback, LimitState, Mode, Table, Why, Worker};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 3_600_000;

fn worker(mode: Mode) -> Worker {
    let words = vec![0u64; Table::bytes_for(1000) / 8].leak();
    // SAFETY: leaked, aligned, and used through tables only.
    let table = unsafe { Table::create(words.as_mut_ptr().cast(), words.len() * 8, [5, 6]) }.unwrap();
    Worker::new(table, mode, 1, |_| true)
}

fn ask(counter: &Arc<Counter>, amount: u64, window_ms: u64, cost: u64) -> Ask<'_> {
    Ask { counter, amount, window_ms, cost, until: u64::MAX }
}

fn decide(worker: &mut Worker, now: u64, asks: &[Ask<'_>]) -> (Decision, Vec<LimitState>) {
    let mut states = Vec::new();
    (worker.decide(now, asks, &mut states), states)
}

#[test]
fn a_limit_admits_its_amount_and_no_more_in_any_window() {
    let (mut w, c) = (worker(Mode::Alone), Counter::new("acme", ":requests:60000"));
    for i in 0..100 {
        let (decision, states) = decide(&mut w, 1_000 + i * 10, &[ask(&c, 100, MINUTE, 1)]);
        assert_eq!(decision, Decision::Allow, "request {i}");
        assert_eq!(states[0].remaining, 99 - i);
    }
    let (decision, states) = decide(&mut w, 2_000, &[ask(&c, 100, MINUTE, 1)]);
    assert!(matches!(decision, Decision::Refuse { by: 0, .. }));
    assert_eq!(states[0].remaining, 0);
}

#[test]
fn retry_after_is_true_and_not_late() {
    let (mut w, c) = (worker(Mode::Alone), Counter::new("acme", ":requests:60000"));
    for i in 0..100 {
        decide(&mut w, 1_000 + i * 500, &[ask(&c, 100, MINUTE, 1)]);
    }
    let (decision, _) = decide(&mut w, 55_000, &[ask(&c, 100, MINUTE, 1)]);
    let Decision::Refuse { retry_after_ms, .. } = decision else { panic!("{decision:?}") };
    assert!((6_000..8_000).contains(&retry_after_ms), "{retry_after_ms}");
    let (before, _) = decide(&mut w, 55_000 + retry_after_ms - 1_001, &[ask(&c, 100, MINUTE, 1)]);
    assert!(matches!(before, Decision::Refuse { .. }), "a second earlier it is still full");
    let (at, _) = decide(&mut w, 55_000 + retry_after_ms, &[ask(&c, 100, MINUTE, 1)]);
    assert_eq!(at, Decision::Allow);
}

#[test]
fn several_limits_are_charged_all_or_none_and_the_last_to_have_room_decides() {
    let mut w = worker(Mode::Alone);
    let (minute, hour) = (Counter::new("acme", ":requests:60000"), Counter::new("acme", ":requests:3600000"));
    let asks = [ask(&minute, 10, MINUTE, 1), ask(&hour, 15, HOUR, 1)];
    for i in 0..10 {
        assert_eq!(decide(&mut w, 1_000 + i, &asks).0, Decision::Allow);
    }
    for i in 0..1_000 {
        assert!(matches!(decide(&mut w, 2_000 + i, &asks).0, Decision::Refuse { by: 0, .. }));
    }
    // Had the hour been charged for the refused, it would be full.
    for i in 0..5 {
        assert_eq!(decide(&mut w, 62_000 + i, &asks).0, Decision::Allow);
    }
    assert!(
        matches!(decide(&mut w, 62_100, &asks).0, Decision::Refuse { by: 1, retry_after_ms } if retry_after_ms > 3_000_000)
    );
}

#[test]
fn a_lower_limit_waits_until_the_window_is_below_it_and_a_higher_one_is_open_at_once() {
    let (mut w, c) = (worker(Mode::Alone), Counter::new("acme", ":requests:60000"));
    for i in 0..50 {
        decide(&mut w, 1_000 + i * 100, &[ask(&c, 50, MINUTE, 1)]);
    }
    assert!(matches!(decide(&mut w, 7_000, &[ask(&c, 20, MINUTE, 1)]).0, Decision::Refuse { .. }));
    assert_eq!(decide(&mut w, 7_000, &[ask(&c, 51, MINUTE, 1)]).0, Decision::Allow);
    assert!(matches!(decide(&mut w, 63_000, &[ask(&c, 20, MINUTE, 1)]).0, Decision::Refuse { .. }));
    assert_eq!(decide(&mut w, 66_500, &[ask(&c, 20, MINUTE, 1)]).0, Decision::Allow);
}

#[test]
fn costs_above_one_and_above_the_limit() {
    let (mut w, c) = (worker(Mode::Alone), Counter::new("acme", ":units:60000"));
    assert_eq!(decide(&mut w, 1_000, &[ask(&c, 10, MINUTE, 7)]).0, Decision::Allow);
    assert!(matches!(decide(&mut w, 1_000, &[ask(&c, 10, MINUTE, 4)]).0, Decision::Refuse { .. }));
    assert_eq!(decide(&mut w, 1_000, &[ask(&c, 10, MINUTE, 3)]).0, Decision::Allow);
    assert!(matches!(decide(&mut w, 200_000, &[ask(&c, 10, MINUTE, 11)]).0, Decision::Refuse { .. }));
    assert!(
        matches!(decide(&mut w, 200_000, &[ask(&c, 0, MINUTE, 1)]).0, Decision::Refuse { .. }),
        "a limit of 0 refuses all"
    );
}

#[test]
fn bytes_are_charged_afterwards_and_overrun_by_one_answer_at_most() {
    let (mut w, c) = (worker(Mode::Alone), Counter::new("acme", ":bytes:3600000"));
    let mut sent = 0;
    for i in 0..100 {
        if decide(&mut w, 1_000 + i, &[ask(&c, 1_000_000, HOUR, 0)]).0 == Decision::Allow {
            w.charge(1_000 + i, &ask(&c, 1_000_000, HOUR, 70_000));
            sent += 70_000;
        }
    }
    assert_eq!(sent, 1_050_000);
}

#[test]
fn clients_do_not_disturb_one_another() {
    let (mut w, a, b) =
        (worker(Mode::Alone), Counter::new("a", ":requests:60000"), Counter::new("b", ":requests:60000"));
    for i in 0..200 {
        decide(&mut w, 1_000 + i, &[ask(&a, 100, MINUTE, 1)]);
    }
    assert_eq!(decide(&mut w, 1_500, &[ask(&b, 1, MINUTE, 1)]).0, Decision::Allow);
}

#[test]
fn extreme_numbers_do_not_wrap() {
    let (mut w, c) = (worker(Mode::Alone), Counter::new("acme", ":bytes:60000"));
    let most = u64::MAX / 2;
    assert_eq!(decide(&mut w, 1_000, &[ask(&c, most, MINUTE, 0)]).0, Decision::Allow);
    w.charge(1_000, &ask(&c, most, MINUTE, most));
    let (decision, states) = decide(&mut w, 1_001, &[ask(&c, 1_000, MINUTE, 1)]);
    assert!(matches!(decision, Decision::Refuse { .. }));
    assert_eq!(states[0].remaining, 0);
    assert!(matches!(
        decide(&mut w, 1_001, &[ask(&c, u64::MAX, MINUTE, u64::MAX)]).0,
        Decision::Refuse { .. }
    ));
}

#[test]
fn without_a_server_the_fallback_rules() {
    let (mut w, c) = (worker(Mode::Shared), Counter::new("acme", ":requests:60000"));
    let asks = [ask(&c, 100, MINUTE, 1)];
    let mut states = Vec::new();
    assert_eq!(w.decide(1_000, &asks, &mut states), Decision::CannotDecide(Why::NoClock));
    let local =
        |w: &mut Worker, now| w.decide_fallback(now, &asks, Fallback::Local { gateways: 4 }, &mut Vec::new());
    let admitted = (0..100).filter(|i| local(&mut w, 1_000 + i) == Decision::Allow).count();
    assert_eq!(admitted, 25, "its share of the limit");
    assert!(matches!(w.decide_fallback(2_000, &asks, Fallback::Deny, &mut states), Decision::Refuse { .. }));
    assert_eq!(w.decide_fallback(2_000, &asks, Fallback::Allow, &mut states), Decision::Allow);
}

#[test]
fn what_the_fallback_admitted_is_published_when_the_server_is_back() {
    let (mut w, c) = (worker(Mode::Shared), Counter::new("acme", ":requests:60000"));
    let asks = [ask(&c, 100, MINUTE, 1)];
    w.link(false);
    for i in 0..10 {
        w.decide_fallback(1_000 + i, &asks, Fallback::Local { gateways: 1 }, &mut Vec::new());
    }
    assert!(w.outgoing().is_empty(), "nothing is sent while nobody listens");
    w.connected(3_000, 3_001, 500_000, 77);
    w.tick(12_000);
    let sent: i64 = w.outgoing().iter().flat_map(|t| &t.parts).flat_map(|p| &p.add).map(|a| a.1).sum();
    assert_eq!(sent, 10);
}

#[test]
fn a_lost_transaction_is_not_repeated_and_nobody_waits_for_it() {
    let (mut w, c) = (worker(Mode::Shared), Counter::new("acme", ":requests:60000"));
    let asks = [ask(&c, 100, MINUTE, 1)];
    w.connected(900, 901, 500_000, 77);
    assert_eq!(decide(&mut w, 1_000, &asks).0, Decision::Wait);
    let sent = w.outgoing();
    assert_eq!(sent.len(), 1);
    assert_eq!(decide(&mut w, 1_001, &asks).0, Decision::Wait);
    assert!(w.outgoing().is_empty(), "one acquisition at a time");
    w.lost(1_005, sent[0].id);
    assert_eq!(decide(&mut w, 1_006, &asks).0, Decision::CannotDecide(Why::Lost));
    assert!(w.outgoing().is_empty());
    assert_eq!(decide(&mut w, 1_300, &asks).0, Decision::Wait, "after a pause it is tried anew");
}
