//! A Redis and its replica, watched by three Sentinels.

use super::{Redis, agreed, redis_cli, somewhere, tls_options};
use crate::process::Process;
use crate::tls::Tls;
use crate::{StartError, TempDir, parts, temp_dir};
use std::process::Command;
use std::time::Duration;

/// What the Sentinels call the server that takes writes.
const MASTER: &str = "main";

/// Two servers and three Sentinels on loopback.
pub struct Sentinel {
    servers: Vec<Redis>,
    sentinels: Vec<Watcher>,
    is_tls: bool,
    cli: Vec<String>,
    sentinel_cli: Vec<String>,
    _certificates: Option<TempDir>,
}

struct Watcher {
    port: u16,
    process: Process,
    _dir: TempDir,
}

/// What makes a setting safe.
#[derive(Default)]
struct Secrets<'a> {
    tls: Option<Tls>,
    password: Option<&'a str>,
    sentinel_password: Option<&'a str>,
}

impl Sentinel {
    pub fn start() -> Result<Sentinel, StartError> {
        Sentinel::make(&Secrets::default(), None)
    }

    /// With TLS, a password for the servers and another for the Sentinels.
    pub fn start_secured(password: &str, sentinel_password: &str) -> Result<Sentinel, StartError> {
        let dir = temp_dir();
        let tls = Some(Tls::make(dir.path())?);
        let (password, sentinel_password) = (Some(password), Some(sentinel_password));
        Sentinel::make(&Secrets { tls, password, sentinel_password }, Some(dir))
    }

    fn make(secrets: &Secrets<'_>, certificates: Option<TempDir>) -> Result<Sentinel, StartError> {
        let (tls_cli, is_tls) = match &secrets.tls {
            Some(tls) => (tls_options(tls, 0).1, true),
            None => (Vec::new(), false),
        };
        let with = |password: Option<&str>| {
            let password = password.map(|password| ["-a".to_owned(), password.to_owned()]);
            tls_cli.iter().cloned().chain(password.into_iter().flatten()).collect::<Vec<_>>()
        };
        let (cli, sentinel_cli) = (with(secrets.password), with(secrets.sentinel_password));
        let primary = server(secrets, None)?;
        let replica = server(secrets, Some(primary.port()))?;
        replica.await_copy(&cli)?;
        let sentinels = (0..3)
            .map(|_| somewhere(|port| watcher(secrets, port, primary.port())))
            .collect::<Result<Vec<_>, _>>()?;
        let servers = vec![primary, replica];
        let all = Sentinel { servers, sentinels, is_tls, cli, sentinel_cli, _certificates: certificates };
        all.await_watch()?;
        Ok(all)
    }

    /// As `weir_redis` takes it.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "rediss+sentinel" } else { "redis+sentinel" };
        let hosts: Vec<String> = self.sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("{scheme}://{}/{MASTER}", hosts.join(","))
    }

    /// Who signs the certificates, where they speak TLS.
    pub fn ca(&self) -> Option<std::path::PathBuf> {
        self._certificates.as_ref().map(|dir| dir.path().join("ca.pem"))
    }

    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    pub fn server_mut(&mut self, server: usize) -> &mut Redis {
        &mut self.servers[server]
    }

    /// Ends one of the Sentinels.
    pub fn kill_sentinel(&mut self, sentinel: usize) {
        self.sentinels[sentinel].process.kill();
    }

    /// Runs redis-cli against a server.
    pub fn cli(&self, server: usize, words: &[&str]) -> std::io::Result<String> {
        redis_cli(self.servers[server].port(), &self.cli, words)
    }

    /// Runs redis-cli against a Sentinel.
    pub fn sentinel_cli(&self, sentinel: usize, words: &[&str]) -> std::io::Result<String> {
        redis_cli(self.sentinels[sentinel].port, &self.sentinel_cli, words)
    }

    /// The server that a Sentinel names.
    pub fn master(&self, sentinel: usize) -> Option<usize> {
        let text = self.sentinel_cli(sentinel, &["SENTINEL", "get-master-addr-by-name", MASTER]).ok()?;
        let port: u16 = text.lines().nth(1)?.trim().parse().ok()?;
        self.servers.iter().position(|server| server.port() == port)
    }

    /// Has the replica take over, and waits until the first Sentinel names it.
    pub fn fail_over(&self) -> Result<(), StartError> {
        let before = self.master(0);
        // Refused while the last failover is being forgotten.
        let asked =
            || self.sentinel_cli(0, &["SENTINEL", "FAILOVER", MASTER]).is_ok_and(|a| a.contains("OK"));
        agreed("the Sentinels", "failover", asked)?;
        agreed("the Sentinels", "other master", || self.master(0).is_some_and(|now| Some(now) != before))
    }

    /// Waits until every Sentinel knows the others and the replica.
    fn await_watch(&self) -> Result<(), StartError> {
        agreed("the Sentinels", "quorum that knows the replica", || {
            (0..self.sentinels.len()).all(|sentinel| {
                let says = |words: &[&str]| self.sentinel_cli(sentinel, words).unwrap_or_default();
                let quorum = says(&["SENTINEL", "CKQUORUM", MASTER]);
                quorum.contains("OK 3 usable") && says(&["SENTINEL", "REPLICAS", MASTER]).contains("runid")
            })
        })
    }
}

fn server(secrets: &Secrets<'_>, of: Option<u16>) -> Result<Redis, StartError> {
    Redis::start_somewhere(|port| {
        let mut options = secrets.tls.as_ref().map(|tls| tls_options(tls, port).0).unwrap_or_default();
        if let Some(password) = secrets.password {
            options.extend(["--requirepass", password, "--masterauth", password].map(str::to_owned));
        }
        if let Some(primary) = of {
            options.extend(["--replicaof", "127.0.0.1", &primary.to_string()].map(str::to_owned));
        }
        options
    })
}

fn watcher(secrets: &Secrets<'_>, port: u16, primary: u16) -> Result<Watcher, StartError> {
    let dir = temp_dir();
    let mut lines = vec![
        format!("dir {}", dir.path().display()),
        "bind 127.0.0.1".to_owned(),
        format!("sentinel monitor {MASTER} 127.0.0.1 {primary} 2"),
        format!("sentinel down-after-milliseconds {MASTER} 1000"),
        format!("sentinel failover-timeout {MASTER} 3000"),
    ];
    match &secrets.tls {
        Some(tls) => {
            lines.push("port 0".to_owned());
            let options = tls_options(tls, port).0;
            lines.extend(options.chunks(2).map(|pair| format!("{} {}", &pair[0][2..], pair[1])));
        }
        None => lines.push(format!("port {port}")),
    }
    lines.extend(secrets.password.map(|password| format!("sentinel auth-pass {MASTER} {password}")));
    if let Some(password) = secrets.sentinel_password {
        lines.push(format!("requirepass {password}"));
        lines.push(format!("sentinel sentinel-pass {password}"));
    }
    let file = dir.path().join("sentinel.conf");
    std::fs::write(&file, lines.join("\n") + "\n").map_err(StartError::io("writing sentinel.conf"))?;
    let mut command = Command::new(parts::program("Redis", "/usr/bin/redis-server")?);
    command.arg(&file).arg("--sentinel");
    let log = dir.path().join("sentinel.log");
    let mut process = Process::spawn("redis-sentinel", command, &log)?;
    process.ready(Duration::from_secs(10), || {
        std::fs::read_to_string(&log).unwrap_or_default().contains("+monitor master")
    })?;
    Ok(Watcher { port, process, _dir: dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_name_the_replica_when_it_takes_over() {
        let sentinel = Sentinel::start().unwrap();
        assert_eq!(sentinel.master(0), Some(0));
        sentinel.fail_over().unwrap();
        assert_eq!(sentinel.master(0), Some(1));
        let role = || sentinel.cli(1, &["ROLE"]).unwrap_or_default();
        agreed("the replica", "promotion", || role().starts_with("master")).unwrap();
    }
}
