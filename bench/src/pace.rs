//! A client that keeps a fixed rate whatever the servers do: each request is due at its time, and its
//! latency counts from then (no coordinated omission). It looks at the clock in a busy loop, since a
//! timer would be late by as much as the servers differ; it needs a processor of its own.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::error::{BenchError, Result};

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is sent in turn, each over a connection of its own.
#[derive(Clone, Debug)]
pub struct Lane {
    pub port: u16,
    pub key: String,
}

/// What became of one request.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub lane: usize,
    pub due: Duration,
    /// From when it was due to the last byte of its answer.
    pub latency: Duration,
    pub status: u16,
}

/// What became of all, in the order of the answers.
pub struct Run {
    /// What `due` counts from.
    pub begun: Instant,
    pub samples: Vec<Sample>,
}

/// Sends `count` requests at `rate` a second over the lanes in turn. A request that finds its
/// connection busy is sent when it is free, and its latency shows it.
pub fn run(lanes: &[Lane], rate: f64, count: usize) -> Result<Run> {
    let mut poll = Poll::new()?;
    let mut lines = lanes.iter().map(Line::open).collect::<io::Result<Vec<Line>>>()?;
    for (n, line) in lines.iter_mut().enumerate() {
        poll.registry().register(&mut line.stream, Token(n), Interest::READABLE)?;
    }
    let (mut events, mut samples) = (Events::with_capacity(1024), Vec::with_capacity(count));
    let due = |n: usize| Duration::from_secs_f64(n as f64 / rate);
    let (begun, mut next, mut heard) = (Instant::now(), 0, Duration::ZERO);
    while samples.len() < count {
        let now = begun.elapsed();
        while next < count && due(next) <= now {
            lines[next % lanes.len()].add(due(next))?;
            next += 1;
        }
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            let lane = event.token().0;
            if let Some((due, status)) = lines[lane].hear()? {
                heard = begun.elapsed();
                let latency = heard.saturating_sub(due);
                samples.push(Sample { lane, due, latency, status });
            }
        }
        if now > heard.max(due(next.max(1) - 1)) + PATIENCE {
            let missing = next - samples.len();
            return Err(BenchError::wrong("load", format!("{missing} answers have not come")));
        }
    }
    Ok(Run { begun, samples })
}

/// The highest rate at which these servers answer this client: the same loop with everything due at
/// once.
pub fn peak_per_s(lanes: &[Lane], count: usize) -> Result<f64> {
    let begun = Instant::now();
    run(lanes, f64::INFINITY, count)?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// A keep-alive connection with one request in flight at most.
struct Line {
    stream: TcpStream,
    request: Vec<u8>,
    /// Due and not answered; the first is in flight.
    due: VecDeque<Duration>,
    answer: Vec<u8>,
}

impl Line {
    fn open(lane: &Lane) -> io::Result<Line> {
        let stream = std::net::TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, lane.port)))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {}\r\n\r\n", lane.key);
        let (stream, request) = (TcpStream::from_std(stream), request.into_bytes());
        Ok(Line { stream, request, due: VecDeque::new(), answer: Vec::with_capacity(4096) })
    }

    fn add(&mut self, due: Duration) -> io::Result<()> {
        self.due.push_back(due);
        if self.due.len() == 1 { self.send() } else { Ok(()) }
    }

    /// A hundred bytes always fit into the empty buffer of a socket.
    fn send(&mut self) -> io::Result<()> {
        self.answer.clear();
        self.stream.write_all(&self.request)
    }

    /// Reads what has come; of a complete answer when its request was due, and its status. The next
    /// request is on its way then.
    fn hear(&mut self) -> io::Result<Option<(Duration, u16)>> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection of the load client")),
                Ok(n) => self.answer.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            let Some(status) = complete(&self.answer) else { continue };
            let due = self.due.pop_front();
            if !self.due.is_empty() {
                self.send()?;
            }
            return Ok(due.map(|due| (due, status)));
        }
    }
}

/// The status of an answer that is complete.
pub fn complete(answer: &[u8]) -> Option<u16> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.map_or(Some(0), |digits| digits.parse().ok())?;
    (answer.len() >= end + 4 + length).then(|| head.get(9..12)?.parse().ok())?
}

/// The nearest-rank quantile of the latencies, in microseconds.
pub fn quantile_us<'a>(samples: impl IntoIterator<Item = &'a Sample>, q: f64) -> f64 {
    let mut all: Vec<Duration> = samples.into_iter().map(|s| s.latency).collect();
    all.sort_unstable();
    let rank = (q * all.len() as f64).ceil() as usize;
    all.get(rank.max(1) - 1).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_testbed::backend::{Backend, Behaviour};

    fn lanes(port: u16, count: usize) -> Vec<Lane> {
        vec![Lane { port, key: "k".into() }; count]
    }

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let whole = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(complete(whole), Some(429));
        assert_eq!(complete(&whole[..whole.len() - 1]), None);
        assert_eq!(complete(b"HTTP/1.1 200 OK\r\nContent-Le"), None);
    }

    #[test]
    fn waiting_for_a_slow_server_counts() {
        let backend = Backend::start(Behaviour::steady(Duration::from_millis(50))).unwrap();
        let samples = run(&lanes(backend.port(), 1), 1_000.0, 4).unwrap().samples;
        assert_eq!(samples.len(), 4);
        // Due after 3 ms, sent after the three before it.
        assert!(samples[3].latency >= Duration::from_millis(180), "{:?}", samples[3]);
        assert!(samples.iter().all(|s| s.status == 200));
    }

    #[test]
    fn a_peak_is_a_rate() {
        let backend = Backend::start(Behaviour::steady(Duration::from_millis(10))).unwrap();
        let peak = peak_per_s(&lanes(backend.port(), 2), 20).unwrap();
        assert!(peak > 0.0 && peak <= 200.0, "two connections, 10 ms each: {peak}");
    }
}
