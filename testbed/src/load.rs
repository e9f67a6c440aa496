//! A client that sends a plan of requests at set times over keep-alive connections and notes what
//! became of each.
//!
//! Load is open: a request is due when the plan says so, whatever became of the ones before, and
//! its latency counts from then. So a server that stalls is seen to stall (no coordinated omission).

mod alarm;
mod connection;
mod summary;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use alarm::Alarm;
use connection::Connection;

use crate::process::raise_file_limit;
pub use summary::{Summary, quantile_us};

/// A request as it goes over the wire, made once and sent many times.
#[derive(Clone, Debug)]
pub struct Shot {
    pub bytes: Vec<u8>,
    /// The loopback port it goes to.
    pub port: u16,
}

impl Shot {
    pub fn new(method: &str, path: &str, key: &str, port: u16) -> Shot {
        let body = if method == "POST" { "Content-Length: 2\r\n\r\n{}" } else { "\r\n" };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\n{body}");
        Shot { bytes: head.into_bytes(), port }
    }
}

/// One request of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// When it is due, after the plan's start.
    pub at: Duration,
    /// Whose it is; only carried over to the sample.
    pub client: u32,
    /// Index into [`Plan::shots`].
    pub shot: u32,
}

/// What to send, and over how many connections at most.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shots: Vec<Shot>,
    /// Ascending by `at`.
    pub calls: Vec<Call>,
    /// Requests in flight at most; a request that finds none free is sent late, and its latency
    /// shows it.
    pub connections: usize,
    /// How long an answer is waited for.
    pub patience: Duration,
}

impl Plan {
    /// `rate` requests a second for `length`, evenly spaced, going through `shots` in turn.
    pub fn even(shots: Vec<Shot>, rate: f64, length: Duration, connections: usize) -> Plan {
        let count = (rate * length.as_secs_f64()) as u32;
        let of = shots.len() as u32;
        let calls = (0..count)
            .map(|i| Call { at: Duration::from_secs_f64(f64::from(i) / rate), client: 0, shot: i % of })
            .collect();
        Plan { shots, calls, connections, patience: Duration::from_secs(10) }
    }
}

/// What became of one request. Times are microseconds after the epoch given to [`start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub client: u32,
    pub shot: u32,
    /// 0 when the connection broke or no answer came in time.
    pub status: u16,
    /// Of request and answer together, heads included; 0 without an answer.
    pub bytes: u32,
    pub due_us: u64,
    pub sent_us: u64,
    pub done_us: u64,
}

impl Sample {
    /// From when it was due, not from when it was sent.
    pub fn latency_us(&self) -> u64 {
        self.done_us - self.due_us
    }
}

/// A plan that is being carried out on a thread of its own.
pub struct Running(JoinHandle<Vec<Sample>>);

impl Running {
    /// Waits for its end; samples come in the order of the plan.
    pub fn join(self) -> Vec<Sample> {
        self.0.join().expect("the load client does not panic")
    }
}

/// Starts a plan now. Times in the samples count from `epoch`, so that those of several plans can be
/// compared.
pub fn start(plan: Plan, epoch: Instant) -> Running {
    let thread = std::thread::Builder::new().name("load".into());
    Running(thread.spawn(move || carry_out(plan, epoch)).expect("a thread can be started"))
}

/// Carries out a plan and returns its samples.
pub fn run(plan: Plan) -> Vec<Sample> {
    start(plan, Instant::now()).join()
}

fn carry_out(plan: Plan, epoch: Instant) -> Vec<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs an epoll descriptor");
    let workers = plan.connections.min(plan.calls.len());
    raise_file_limit();
    let shared = Arc::new(Shared { plan, next: AtomicUsize::new(0), epoch, begun: Instant::now() });
    runtime.block_on(async {
        let tasks: Vec<_> = (0..workers).map(|_| tokio::spawn(work(Arc::clone(&shared)))).collect();
        let mut samples = Vec::with_capacity(shared.plan.calls.len());
        for task in tasks {
            samples.extend(task.await.expect("a worker does not panic"));
        }
        samples.sort_unstable_by_key(|(index, _)| *index);
        samples.into_iter().map(|(_, sample)| sample).collect()
    })
}

struct Shared {
    plan: Plan,
    /// The next call that no worker has taken.
    next: AtomicUsize,
    epoch: Instant,
    begun: Instant,
}

/// Takes call after call, waits until each is due and sends it, with one connection per port.
async fn work(shared: Arc<Shared>) -> Vec<(usize, Sample)> {
    let alarm = Alarm::new().expect("a timer needs a descriptor");
    let mut samples = Vec::new();
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(call) = shared.plan.calls.get(index) else {
            return samples;
        };
        let shot = &shared.plan.shots[call.shot as usize];
        let due = shared.begun + call.at;
        alarm.at(due).await.expect("a timer rings");
        let connection = of_port(&mut connections, shot.port);
        let sent = Instant::now();
        let (status, received) =
            connection.exchange(&shot.bytes, shared.plan.patience).await.unwrap_or_default();
        let micros = |moment: Instant| (moment - shared.epoch).as_micros() as u64;
        samples.push((
            index,
            Sample {
                client: call.client,
                shot: call.shot,
                status,
                bytes: if status == 0 { 0 } else { (shot.bytes.len() + received) as u32 },
                due_us: micros(due),
                sent_us: micros(sent),
                done_us: micros(Instant::now()),
            },
        ));
    }
}

fn of_port(connections: &mut Vec<Connection>, port: u16) -> &mut Connection {
    let known = connections.iter().position(|c| c.port() == port);
    let index = known.unwrap_or_else(|| {
        connections.push(Connection::new(port));
        connections.len() - 1
    });
    &mut connections[index]
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::backend::{Backend, Behaviour};
    use crate::ports;

    fn even(port: u16, rate: f64, millis: u64, connections: usize) -> Vec<Sample> {
        let shots = vec![Shot::new("GET", "/a", "k", port), Shot::new("POST", "/b", "k", port)];
        run(Plan::even(shots, rate, Duration::from_millis(millis), connections))
    }

    #[test]
    fn every_call_is_made_once_and_on_time() {
        let backend = Backend::start(Behaviour::instant()).unwrap();
        let samples = even(backend.port(), 500.0, 400, 8);
        assert_eq!(samples.len(), 200);
        assert_eq!(backend.answered(), 200);
        assert!(samples.iter().all(|s| s.status == 200 && s.bytes > 100));
        assert!(samples.windows(2).all(|w| w[0].due_us < w[1].due_us));
        assert!(samples.iter().all(|s| s.due_us <= s.sent_us && s.sent_us <= s.done_us));
    }

    #[test]
    fn waiting_for_a_connection_counts_as_latency() {
        let backend = Backend::start(Behaviour::steady(Duration::from_millis(100))).unwrap();
        let samples = even(backend.port(), 100.0, 50, 1);
        // Five calls within 40 ms over one connection: the last waits for the four before it.
        assert_eq!(samples.len(), 5);
        assert!(samples[4].latency_us() >= 450_000, "{:?}", samples[4]);
        assert!(samples[4].done_us - samples[4].sent_us < 400_000, "{:?}", samples[4]);
    }

    /// A server may close an idle connection whenever it likes, as nginx does at a reload.
    #[test]
    fn a_connection_that_was_closed_while_idle_costs_no_request() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 16]).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        });
        let samples = even(port, 5.0, 400, 1);
        server.join().unwrap();
        assert!(samples.len() == 2 && samples.iter().all(|s| s.status == 200), "{samples:?}");
    }

    #[test]
    fn no_server_is_status_0() {
        let samples = even(ports::free(), 100.0, 50, 2);
        assert!(samples.len() == 5 && samples.iter().all(|s| s.status == 0));
    }
}
