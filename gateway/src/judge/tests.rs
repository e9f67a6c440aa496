//! Judged over a server: when midnight comes while a request waits, and when the server is away.

use weir_limiter::{Answer, Mode, Table, Transaction};
use weir_policy::{Tables, parse};

use super::*;
use crate::clock::Now;
use crate::profile::Profiles;
use crate::settings::Rules;
use crate::walk::RequestFacts;

/// 2027-01-15, a second before midnight in UTC.
const EVE_S: u64 = 1_800_057_599;
const UP_MS: u64 = 5_000_000;

fn moment(after_ms: u64) -> Now {
    Now { boot_ms: UP_MS + after_ms, unix_us: EVE_S * 1_000_000 + after_ms * 1_000 }
}

fn worker() -> Worker {
    let words: &'static mut [u64] = vec![0u64; 32 << 10].leak();
    // SAFETY: the memory is aligned to 8, leaked, and used for nothing else.
    let table = unsafe { Table::create(words.as_mut_ptr().cast(), size_of_val(words), [1, 2]) }.unwrap();
    let mut worker = Worker::new(table, Mode::Shared, 1, |_| true);
    worker.connected(UP_MS - 2, UP_MS - 1, 7_000_000, 1);
    worker
}

fn book() -> Tables {
    Tables::compile(&parse("default_tier = \"t\"\n[tiers.t]\nlimits = [\"2 requests/day\"]\n").unwrap())
}

fn judge(worker: &mut Worker, walk: &mut Walk, now: Now) -> Verdict {
    Judge {
        worker,
        now_ms: now.boot_ms,
        patient: true,
        link_up: true,
        is_locked: false,
        behind: None,
        gateways: 1,
        chance: 0,
    }
    .judge(walk);
    walk.verdict
}

/// A server that held nothing before.
fn answer(transaction: &Transaction, now: Now) -> Answer {
    let fields = transaction.parts.iter().map(|part| part.add.clone()).collect();
    Answer { time_ms: 7_000_000 + now.boot_ms - UP_MS, life: 1, fields }
}

#[test]
fn a_request_that_waits_over_midnight_counts_for_the_day_on_which_it_came() {
    let (mut worker, book, mut profiles) = (worker(), book(), Profiles::default());
    let facts = RequestFacts { client: b"acme", method: b"GET", cost: 1, ..Default::default() };
    let mut walk = |now| Walk::new(&book, &mut profiles, &facts, Rules::default(), now);
    let counter = |walk: &Walk| walk.profile.limits[0].counter.name.clone();

    let mut late = walk(moment(995));
    assert_eq!(judge(&mut worker, &mut late, moment(995)), Verdict::Wait);
    let asked = worker.outgoing().remove(0);
    let mut early = walk(moment(1_002));
    assert_eq!(judge(&mut worker, &mut early, moment(1_002)), Verdict::Wait);
    let asked_next = worker.outgoing().remove(0);
    let asked = [asked, asked_next].map(|t| (t.parts[0].counter.name.clone(), t));
    assert_eq!(counter(&late), "{acme}:requests:day:2027-01-15");
    assert_eq!(counter(&early), "{acme}:requests:day:2027-01-16");
    for ((name, transaction), walk) in asked.into_iter().zip([&mut late, &mut early]) {
        assert_eq!(name, counter(walk));
        worker.answered(moment(1_010).boot_ms, transaction.id, &answer(&transaction, moment(1_010)));
        assert_eq!(judge(&mut worker, walk, moment(1_010)), Verdict::Pass);
    }
    assert_eq!(late.quotas().next().map(|quota| quota.reset_ms), Some(0), "its day is over");
    assert_eq!(early.quotas().next().map(|quota| quota.reset_ms), Some(86_400_000 - 10));
}

#[test]
fn what_waited_in_vain_over_midnight_comes_back_at_once() {
    let (mut worker, book, mut profiles) = (worker(), book(), Profiles::default());
    let facts = RequestFacts { client: b"acme", method: b"GET", cost: 3, ..Default::default() };
    let mut walk = Walk::new(&book, &mut profiles, &facts, Rules::default(), moment(900));
    worker.link(false);
    for _ in 0..3 {
        judge(&mut worker, &mut walk, moment(1_100));
    }
    let Verdict::Refuse(refusal) = walk.verdict else { panic!("{:?}", walk.verdict) };
    assert_eq!((refusal.reason, refusal.retry_after_s), (Reason::Limit, Some(TRY_AGAIN_S)));
}

#[test]
fn without_the_server_each_gateway_takes_its_share_of_the_limit_and_of_what_may_pass_beyond() {
    let (mut worker, mut profiles) = (worker(), Profiles::default());
    let text =
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"20 requests/hour\"]\nover = \"degrade up to 150%\"\n";
    let book = Tables::compile(&parse(text).unwrap());
    let facts = RequestFacts { client: b"acme", method: b"GET", cost: 1, ..Default::default() };
    worker.link(false);
    let mut decisions = [Decision::Passed; 20];
    for (after_ms, decision) in (0..).zip(&mut decisions) {
        let now = moment(after_ms);
        let mut walk = Walk::new(&book, &mut profiles, &facts, Rules::default(), now);
        Judge {
            worker: &mut worker,
            now_ms: now.boot_ms,
            patient: false,
            link_up: true,
            is_locked: false,
            behind: None,
            gateways: 2,
            chance: 0,
        }
        .judge(&mut walk);
        *decision = walk.decision;
    }
    assert_eq!(decisions[..10], [Decision::PassedDegraded; 10]);
    assert_eq!(decisions[10..15], [Decision::OverDegraded; 5]);
    assert_eq!(decisions[15..], [Decision::RejectedDegraded; 5]);
}
