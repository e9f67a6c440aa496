//! A real Redis, alone, watched by Sentinels or as a Cluster, and just enough of a client to look into
//! it.

mod cluster;
mod sentinel;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::{StartError, TempDir, parts, ports, temp_dir};

pub use cluster::RedisCluster;
pub use sentinel::Sentinel;

const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long servers may take to agree on something.
const AGREED_WITHIN: Duration = Duration::from_secs(120);

/// A Redis server of its own, without persistence unless its options ask for it.
pub struct Redis {
    port: u16,
    options: Vec<String>,
    dir: TempDir,
    process: Process,
}

impl Redis {
    pub fn start() -> Result<Redis, StartError> {
        Redis::start_somewhere(|_| Vec::new())
    }

    /// With options that may depend on the port.
    fn start_somewhere(options: impl Fn(u16) -> Vec<String>) -> Result<Redis, StartError> {
        somewhere(|port| {
            let options = options(port);
            Redis::start_with(port, &options.iter().map(String::as_str).collect::<Vec<_>>())
        })
    }

    /// On a given port, with further options as on redis-server's command line.
    pub fn start_with(port: u16, options: &[&str]) -> Result<Redis, StartError> {
        Redis::start_in(temp_dir(), port, options)
    }

    /// In a folder that holds files which the options name.
    pub fn start_in(dir: TempDir, port: u16, options: &[&str]) -> Result<Redis, StartError> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        let process = run(port, &options, &dir)?;
        Ok(Redis { port, options, dir, process })
    }

    /// A server that copies what this one has.
    pub fn start_replica(&self) -> Result<Redis, StartError> {
        let of = ["--replicaof", "127.0.0.1", &self.port.to_string()].map(str::to_owned);
        let replica = Redis::start_somewhere(|_| of.to_vec())?;
        replica.await_copy(&[])?;
        Ok(replica)
    }

    /// Makes a replica a server that takes writes.
    pub fn promote(&self) -> std::io::Result<String> {
        self.command(&["REPLICAOF", "NO", "ONE"])
    }

    /// Waits until a replica has all that its primary has.
    fn await_copy(&self, cli: &[String]) -> Result<(), StartError> {
        let has_copied = || {
            let info = redis_cli(self.port, cli, &["INFO", "replication"]).unwrap_or_default();
            info.contains("master_link_status:up")
        };
        agreed("the replica", "a copy of its primary", has_copied)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `weir_redis` and `weir.toml` take it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// One that writes down what it is told before it answers, and so knows it after a kill.
    pub fn start_durable() -> Result<Redis, StartError> {
        Redis::start_with(ports::free(), &["--appendonly", "yes", "--appendfsync", "no"])
    }

    /// SIGKILL: whatever a server without persistence knew is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port after [`kill`](Redis::kill), with what it had written down.
    pub fn start_again(&mut self) -> Result<(), StartError> {
        self.process = run(self.port, &self.options, &self.dir)?;
        Ok(())
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        self.process.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.signal(libc::SIGCONT);
    }

    /// Runs one command and returns the answer in a readable form: simple strings and integers as
    /// they are, arrays one item per line, nil as `(nil)`.
    pub fn command(&self, words: &[&str]) -> std::io::Result<String> {
        command(self.port, words)
    }
}

/// Starts something on a free port; on another if somebody was faster.
fn somewhere<T>(start: impl Fn(u16) -> Result<T, StartError>) -> Result<T, StartError> {
    let was_taken = |error: &StartError| error.to_string().contains("Address already in use");
    for _ in 0..4 {
        match start(ports::free()) {
            Err(error) if was_taken(&error) => {}
            outcome => return outcome,
        }
    }
    start(ports::free())
}

fn run(port: u16, options: &[String], dir: &TempDir) -> Result<Process, StartError> {
    let mut command = Command::new(parts::program("Redis", "/usr/bin/redis-server")?);
    let is_tls = options.iter().any(|option| option == "--tls-port");
    let plain_port = if is_tls { 0 } else { port };
    command.args(["--port", &plain_port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "no"]).arg("--dir").arg(dir.path()).args(options);
    let log = dir.path().join("redis.log");
    let mut process = Process::spawn("redis-server", command, &log)?;
    process.ready(READY_WITHIN, || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains("Ready to accept connections")
    })?;
    Ok(process)
}

/// Runs one command by Redis' own client, which knows of TLS and passwords.
fn redis_cli(port: u16, options: &[String], words: &[&str]) -> std::io::Result<String> {
    let mut command = Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "--no-auth-warning"]);
    let output = command.args(options).args(words).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(std::io::Error::other(format!(
            "redis-cli {words:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}

/// Waits until servers agree.
fn agreed(who: &str, on: &str, probe: impl FnMut() -> bool) -> Result<(), StartError> {
    match crate::wait::until(AGREED_WITHIN, probe) {
        true => Ok(()),
        false => {
            Err(StartError::NotReady { name: who.to_owned(), waited: AGREED_WITHIN, log: format!("no {on}") })
        }
    }
}

/// Options for a server that speaks TLS alone, and for the client that speaks with it. The files are
/// those of [`Tls`](crate::tls::Tls).
pub fn tls_options(tls: &crate::tls::Tls, port: u16) -> (Vec<String>, Vec<String>) {
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let (ca, cert, key) = (path(&tls.ca), path(&tls.cert), path(&tls.key));
    let port = port.to_string();
    let server = [
        ["--tls-port", &port],
        ["--tls-replication", "yes"],
        ["--tls-cluster", "yes"],
        ["--tls-auth-clients", "no"],
        ["--tls-ca-cert-file", &ca],
        ["--tls-cert-file", &cert],
        ["--tls-key-file", &key],
    ];
    let client = ["--tls", "--cacert", &ca];
    (server.concat().iter().map(|s| (*s).to_owned()).collect(), client.map(str::to_owned).to_vec())
}

fn command(port: u16, words: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes())?;
    read_answer(&mut BufReader::new(stream))
}

fn read_answer(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let bad = || std::io::Error::other(format!("Redis answered {line:?}"));
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(bad)?;
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "$" | "*" if rest == "-1" => Ok("(nil)".to_owned()),
        "$" => read_bulk(from, rest.parse().map_err(|_| bad())?),
        "*" => {
            let count: usize = rest.parse().map_err(|_| bad())?;
            let items: std::io::Result<Vec<String>> = (0..count).map(|_| read_answer(from)).collect();
            Ok(items?.join("\n"))
        }
        _ => Err(bad()),
    }
}

fn read_bulk(from: &mut impl BufRead, len: usize) -> std::io::Result<String> {
    let mut bytes = vec![0; len + 2];
    from.read_exact(&mut bytes)?;
    bytes.truncate(len);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_answers_dies_and_starts_again_empty() {
        let mut redis = Redis::start().unwrap();
        assert_eq!(redis.command(&["HINCRBY", "key", "7", "5"]).unwrap(), "5");
        assert_eq!(redis.command(&["HGETALL", "key"]).unwrap(), "7\n5");
        assert_eq!(redis.command(&["GET", "none"]).unwrap(), "(nil)");
        redis.kill();
        assert!(redis.command(&["PING"]).is_err());
        redis.start_again().unwrap();
        assert_eq!(redis.command(&["EXISTS", "key"]).unwrap(), "0");
    }

    #[test]
    fn a_replica_has_what_its_primary_had_and_takes_writes_once_promoted() {
        let primary = Redis::start().unwrap();
        primary.command(&["HINCRBY", "key", "7", "5"]).unwrap();
        let replica = primary.start_replica().unwrap();
        assert!(replica.command(&["HINCRBY", "key", "7", "1"]).is_err());
        replica.promote().unwrap();
        assert_eq!(replica.command(&["HINCRBY", "key", "7", "1"]).unwrap(), "6");
    }

    #[test]
    fn a_durable_one_knows_after_a_kill_what_it_had_answered() {
        let mut redis = Redis::start_durable().unwrap();
        assert_eq!(redis.command(&["INCR", "n"]).unwrap(), "1");
        redis.kill();
        redis.start_again().unwrap();
        assert_eq!(redis.command(&["GET", "n"]).unwrap(), "1");
    }

    #[test]
    fn a_wrong_option_shows_what_redis_says() {
        let error = Redis::start_with(ports::free(), &["--no-such-option", "1"]).err().unwrap();
        assert!(error.to_string().to_lowercase().contains("no-such-option"), "{error}");
    }
}
