//! A real Redis, and just enough of a client to look into it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::{StartError, TempDir, parts, ports, temp_dir, wait};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// A Redis server of its own, without persistence unless its options ask for it.
pub struct Redis {
    port: u16,
    options: Vec<String>,
    dir: TempDir,
    process: Process,
}

impl Redis {
    pub fn start() -> Result<Redis, StartError> {
        Redis::start_with(ports::free(), &[])
    }

    /// On a given port, with further options as on redis-server's command line.
    pub fn start_with(port: u16, options: &[&str]) -> Result<Redis, StartError> {
        let dir = temp_dir();
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        let process = run(port, &options, &dir)?;
        Ok(Redis { port, options, dir, process })
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

    /// A replica of the server on this port, with everything that it holds.
    pub fn start_replica_of(primary: u16) -> Result<Redis, StartError> {
        let redis = Redis::start_with(ports::free(), &["--replicaof", &format!("127.0.0.1 {primary}")])?;
        let linked =
            || redis.command(&["INFO", "replication"]).is_ok_and(|i| i.contains("master_link_status:up"));
        if wait::until(READY_WITHIN, linked) {
            return Ok(redis);
        }
        let log = redis.process.log_tail();
        Err(StartError::NotReady { name: "the replica's link".into(), waited: READY_WITHIN, log })
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

fn run(port: u16, options: &[String], dir: &TempDir) -> Result<Process, StartError> {
    let mut command = Command::new(parts::program("Redis", "/usr/bin/redis-server")?);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "no"]).arg("--dir").arg(dir.path()).args(options);
    let mut process = Process::spawn("redis-server", command, &dir.path().join("redis.log"))?;
    process.ready(READY_WITHIN, || self::command(port, &["PING"]).is_ok_and(|a| a == "PONG"))?;
    Ok(process)
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
    fn a_durable_one_knows_after_a_kill_what_it_had_answered() {
        let mut redis = Redis::start_durable().unwrap();
        assert_eq!(redis.command(&["INCR", "n"]).unwrap(), "1");
        redis.kill();
        redis.start_again().unwrap();
        assert_eq!(redis.command(&["GET", "n"]).unwrap(), "1");
    }

    #[test]
    fn a_replica_follows_and_can_take_over() {
        let primary = Redis::start().unwrap();
        primary.command(&["SET", "n", "1"]).unwrap();
        let replica = Redis::start_replica_of(primary.port()).unwrap();
        assert_eq!(replica.command(&["GET", "n"]).unwrap(), "1");
        assert_eq!(replica.command(&["REPLICAOF", "NO", "ONE"]).unwrap(), "OK");
        assert_eq!(replica.command(&["INCR", "n"]).unwrap(), "2");
    }

    #[test]
    fn a_wrong_option_shows_what_redis_says() {
        let error = Redis::start_with(ports::free(), &["--no-such-option", "1"]).err().unwrap();
        assert!(error.to_string().to_lowercase().contains("no-such-option"), "{error}");
    }
}
