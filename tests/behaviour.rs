//! One suite of behaviour, run over the limiter in this process, over nginx with the module alone,
//! and over nginx with its limits in Redis: all three keep the same promises.

use std::sync::Arc;
use std::time::Duration;

use weir_limiter::{Ask, Counter, Decision, Mode, Table, Worker};
use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::wait;

/// What came of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Admitted { remaining: u64 },
    Refused { retry_after_ms: u64 },
}

impl Verdict {
    fn is_admitted(self) -> bool {
        matches!(self, Verdict::Admitted { .. })
    }
}

/// Something that limits clients.
trait Subject {
    /// One request of a client.
    fn ask(&mut self, client: &str) -> Verdict;
    /// Lets time pass.
    fn wait(&mut self, ms: u64);

    fn admitted(&mut self, client: &str, requests: usize) -> usize {
        (0..requests).filter(|_| self.ask(client).is_admitted()).count()
    }
}

/// (client, its limits as (amount, window in ms)).
type Client = (&'static str, &'static [(u64, u64)]);

/// All clients of the suite.
const CLIENTS: [Client; 3] =
    [("five", &[(5, 2_000)]), ("other", &[(5, 2_000)]), ("two-limits", &[(4, 1_000), (6, 4_000)])];

fn admits_exactly_its_amount(subject: &mut dyn Subject) {
    let verdicts: Vec<Verdict> = (0..5).map(|_| subject.ask("five")).collect();
    let counted_down: Vec<Verdict> = (0..5).rev().map(|remaining| Verdict::Admitted { remaining }).collect();
    assert_eq!(verdicts, counted_down);
    assert_eq!(subject.admitted("five", 20), 0);
}

/// A fixed window would open whole at its boundary, and a bucket would refill bit by bit.
fn slides(subject: &mut dyn Subject) {
    assert_eq!(subject.admitted("five", 2), 2);
    subject.wait(1_200);
    assert_eq!(subject.admitted("five", 5), 3);
    // The two have left the window, the three have not.
    subject.wait(1_200);
    assert_eq!(subject.admitted("five", 5), 2);
}

fn does_not_charge_what_it_refused(subject: &mut dyn Subject) {
    assert_eq!(subject.admitted("five", 5), 5);
    for _ in 0..4 {
        subject.wait(300);
        assert_eq!(subject.admitted("five", 10), 0);
    }
    subject.wait(1_200);
    assert_eq!(subject.admitted("five", 10), 5);
}

fn says_truly_when_to_come_back(subject: &mut dyn Subject) {
    assert_eq!(subject.admitted("five", 5), 5);
    let Verdict::Refused { retry_after_ms } = subject.ask("five") else {
        panic!("a sixth request of five was admitted");
    };
    // Never longer than the window and the rounding of its stamps and of whole seconds.
    assert!((1..=3_000).contains(&retry_after_ms), "{retry_after_ms}");
    subject.wait(retry_after_ms);
    assert!(subject.ask("five").is_admitted());
}

/// Refusals by the short limit must leave nothing in the long one.
fn charges_all_limits_or_none(subject: &mut dyn Subject) {
    assert_eq!(subject.admitted("two-limits", 10), 4);
    subject.wait(1_200);
    assert_eq!(subject.admitted("two-limits", 10), 2);
    let refused = subject.ask("two-limits");
    assert!(
        matches!(refused, Verdict::Refused { retry_after_ms } if retry_after_ms > 1_200),
        "the long limit refuses, and for longer than the short one could: {refused:?}"
    );
}

fn keeps_clients_apart(subject: &mut dyn Subject) {
    assert_eq!(subject.admitted("five", 10), 5);
    assert_eq!(subject.admitted("other", 10), 5);
    assert_eq!(subject.admitted("five", 1), 0);
}

/// Each behaviour as a test of its own over a subject of its own.
macro_rules! suite {
    ($name:ident, $subject:expr, $($behaviour:ident)*) => {
        mod $name {
            $(#[test]
            fn $behaviour() {
                super::$behaviour(&mut $subject);
            })*
        }
    };
}

macro_rules! suites {
    ($($name:ident: $subject:expr;)*) => {
        $(suite!($name, $subject,
            admits_exactly_its_amount
            slides
            does_not_charge_what_it_refused
            says_truly_when_to_come_back
            charges_all_limits_or_none
            keeps_clients_apart
        );)*
    };
}

suites! {
    in_process: super::InProcess::new();
    nginx_alone: super::InNginx::alone();
    nginx_with_redis: super::InNginx::with_redis();
}

/// The limiter itself, with a clock that only the test moves.
struct InProcess {
    worker: Worker,
    now_ms: u64,
    /// The worker's table lies in here.
    _memory: Vec<u64>,
}

impl InProcess {
    fn new() -> InProcess {
        let mut memory = vec![0_u64; 128 * 1024];
        let len = size_of_val(&memory[..]);
        // SAFETY: the memory is aligned to 8 bytes, lives as long as the worker, and a Vec's heap
        // block does not move with the struct.
        let table = unsafe { Table::create(memory.as_mut_ptr().cast(), len, [1, 2]) };
        let worker = Worker::new(table.expect("1 MiB is enough"), Mode::Alone, 1, |_| true);
        InProcess { worker, now_ms: 1_000_000, _memory: memory }
    }

    fn counters(client: &str) -> Vec<(Arc<Counter>, u64, u64)> {
        let (_, limits) = CLIENTS.into_iter().find(|(id, _)| *id == client).expect("a client");
        limits
            .iter()
            .map(|&(amount, window)| (Counter::new(client, &format!(":requests:{window}")), amount, window))
            .collect()
    }
}

impl Subject for InProcess {
    fn ask(&mut self, client: &str) -> Verdict {
        let counters = InProcess::counters(client);
        let asks: Vec<Ask<'_>> = counters
            .iter()
            .map(|(counter, amount, window_ms)| Ask {
                counter,
                amount: *amount,
                window_ms: *window_ms,
                cost: 1,
                until: u64::MAX,
            })
            .collect();
        let mut states = Vec::new();
        match self.worker.decide(self.now_ms, &asks, &mut states) {
            Decision::Allow => {
                let remaining = states.iter().map(|s| s.remaining).min().expect("a limit");
                Verdict::Admitted { remaining }
            }
            Decision::Refuse { retry_after_ms, .. } => Verdict::Refused { retry_after_ms },
            other => panic!("a limiter on its own always decides, not {other:?}"),
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
    }
}

/// A gateway asked over HTTP.
struct InNginx {
    scene: Scene,
    _redis: Option<Redis>,
}

impl InNginx {
    fn alone() -> InNginx {
        InNginx { scene: Plot::new(&policy()).start().unwrap(), _redis: None }
    }

    fn with_redis() -> InNginx {
        let redis = Redis::start().unwrap();
        // Time enough for a cold key while other tests keep the machine busy.
        let plot =
            Plot::new(&policy()).redis(&redis).options(|options| options.http("weir_redis_timeout 1s;"));
        InNginx { scene: plot.start().unwrap().linked().unwrap(), _redis: Some(redis) }
    }
}

/// The clients as a policy; a client's API key is its name.
fn policy() -> String {
    let mut text = "default_tier = \"none\"\n[tiers.none]\nlimits = [\"1 requests/hour\"]\n".to_owned();
    for (client, limits) in CLIENTS {
        let limits: Vec<String> =
            limits.iter().map(|(n, ms)| format!("\"{n} requests/{} seconds\"", ms / 1000)).collect();
        text += &format!(
            "[tiers.{client}]\nlimits = [{}]\n[clients.{client}]\ntier = \"{client}\"\nkeys = [\"{}\"]\n",
            limits.join(", "),
            key_hash(client)
        );
    }
    text
}

impl Subject for InNginx {
    fn ask(&mut self, client: &str) -> Verdict {
        let answer = Request::get(self.scene.port(), "/").key(client).send().unwrap();
        let number = |text: Option<&str>| text.and_then(|t| t.trim().parse::<u64>().ok());
        match answer.status {
            200 => Verdict::Admitted {
                remaining: least_remaining(answer.header("RateLimit").expect("a RateLimit field")),
            },
            429 => Verdict::Refused {
                retry_after_ms: 1000 * number(answer.header("Retry-After")).expect("Retry-After"),
            },
            other => panic!("status {other}: {}", self.scene.gateways[0].nginx.error_log()),
        }
    }

    fn wait(&mut self, ms: u64) {
        wait::pass(Duration::from_millis(ms));
    }
}

/// The least `r` of a RateLimit field: `"a";r=3;t=2, "b";r=5;t=9`.
fn least_remaining(field: &str) -> u64 {
    let parts = field.split([';', ',']).filter_map(|part| part.trim().strip_prefix("r="));
    parts.filter_map(|r| r.parse().ok()).min().unwrap_or_else(|| panic!("no r in {field}"))
}
