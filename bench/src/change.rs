//! How long it takes from saving the watched policy file until the last worker of the last gateway
//! goes by it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use weir_testbed::{fastrand, wait};

use crate::error::{BenchError, Result};
use crate::figures::{Figures, median};
use crate::pair::Pair;
use crate::settings::Settings;
use crate::variant::policy;

pub const KEY: &str = "the-client";
pub const WORKERS: usize = 2;
const HEEDED_WITHIN: Duration = Duration::from_secs(20);
/// Connections that are tried until each worker has one.
const TRIES: usize = 500;

/// Raised and lowered in turn; what was used in the meantime is far from the one and over the other.
const AMOUNTS: [u64; 2] = [1, 1_000_000];

pub fn measure(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let with = |amount: u64| policy(&[KEY.to_owned()], &format!("\"{amount} requests/hour\""));
    let pair = Pair::start(&with(AMOUNTS[1]), WORKERS)?;
    let mut talks = Vec::new();
    for port in pair.ports() {
        talks.extend(one_a_worker(port, WORKERS)?);
    }
    // From here on the lower limit is used up.
    for talk in &mut talks {
        talk.ask()?;
    }
    let (mut rng, mut seconds) = (fastrand::Rng::with_seed(1), Vec::new());
    for n in 0..settings.changes {
        // Workers look once a second: a change comes at any moment in between.
        wait::pass(Duration::from_millis(rng.u64(0..1000)));
        let (amount, status) = (AMOUNTS[n % 2], [429, 200][n % 2]);
        let saved = Instant::now();
        pair.save(&with(amount))?;
        until_all_say(&mut talks, status)?;
        seconds.push(saved.elapsed().as_secs_f64());
        eprintln!("changed limit {} of {}: {:.2} s", n + 1, settings.changes, seconds[n]);
    }
    tell("change_to_enforced", seconds, figures);
    Ok(())
}

/// `what`: how the figures begin.
pub fn tell(what: &str, mut seconds: Vec<f64>, figures: &mut Figures) {
    seconds.sort_unstable_by(f64::total_cmp);
    let rank = (0.99 * seconds.len() as f64).ceil() as usize;
    let of = |i: usize| seconds.get(i).copied().unwrap_or(f64::NAN);
    figures.at_most(&format!("{what}_p99_s"), of(rank.max(1) - 1), 2.0);
    figures.at_most(&format!("{what}_max_s"), of(seconds.len().max(1) - 1), 2.0);
    figures.add(format!("{what}_p50_s"), median(seconds));
}

/// Asks each worker until its answer has this status.
pub fn until_all_say(talks: &mut [Talk], status: u16) -> Result<()> {
    let end = Instant::now() + HEEDED_WITHIN;
    for talk in talks {
        while talk.ask()?.0 != status {
            if Instant::now() > end {
                let what = format!("worker {} did not answer {status}", talk.worker);
                return Err(BenchError::wrong("a changed limit", what));
            }
            wait::pass(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// A keep-alive connection, which stays with its worker.
pub struct Talk {
    stream: TcpStream,
    worker: u32,
}

/// One connection for each worker of a gateway.
pub fn one_a_worker(port: u16, workers: usize) -> Result<Vec<Talk>> {
    let mut talks = BTreeMap::new();
    for _ in 0..TRIES {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        let mut talk = Talk { stream, worker: 0 };
        talk.worker = talk.ask()?.1;
        talks.entry(talk.worker).or_insert(talk);
        if talks.len() == workers {
            return Ok(talks.into_values().collect());
        }
    }
    Err(BenchError::wrong("a changed limit", format!("{} of {workers} workers found", talks.len())))
}

impl Talk {
    /// Status of the answer, and the worker that gave it.
    pub fn ask(&mut self) -> Result<(u16, u32)> {
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let read = self.stream.read(&mut buffer)?;
            bytes.extend_from_slice(&buffer[..read]);
            if let Some(answer) = parse(&bytes) {
                return Ok(answer);
            }
            if read == 0 {
                return Err(BenchError::wrong("a changed limit", "the gateway closed a connection"));
            }
        }
    }
}

/// Of an answer that is whole.
fn parse(bytes: &[u8]) -> Option<(u16, u32)> {
    let status = crate::pace::complete(bytes)?;
    let text = String::from_utf8_lossy(bytes);
    let worker = text.lines().find_map(|line| line.strip_prefix("X-Worker: "))?.trim().parse().ok()?;
    Some((status, worker))
}
