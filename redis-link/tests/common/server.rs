//! A real `redis-server` on a free loopback port, in a folder of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::wait_until;

pub struct Redis {
    child: Option<Child>,
    pub port: u16,
    args: Vec<String>,
    dir: tempfile::TempDir,
}

impl Redis {
    pub fn start() -> Redis {
        Redis::start_with(|_, _| Vec::new())
    }

    /// `extra` gets the folder and the port, and gives more arguments.
    pub fn start_with(extra: impl Fn(&Path, u16) -> Vec<String>) -> Redis {
        // Somebody else may take a free port before the server does.
        (0..5).find_map(|_| Redis::try_start(&extra)).expect("redis-server ends at once: see its arguments")
    }

    fn try_start(extra: impl Fn(&Path, u16) -> Vec<String>) -> Option<Redis> {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let args = extra(dir.path(), port);
        let mut redis = Redis { child: None, port, args, dir };
        redis.spawn().then_some(redis)
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        assert!(self.spawn(), "the port was taken");
    }

    /// Starts the server and waits until it says that it is ready; false if it ended instead.
    fn spawn(&mut self) -> bool {
        let log = self.dir.path().join("redis.log");
        let _ = std::fs::remove_file(&log);
        let speaks_tls = self.args.iter().any(|arg| arg == "--tls-port");
        let plain_port = if speaks_tls { 0 } else { self.port };
        let mut command = Command::new("redis-server");
        command
            .args(&self.args)
            .args(["--port", &plain_port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(self.dir.path())
            .arg("--logfile")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !self.args.iter().any(|arg| arg == "--sentinel") {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        let mut child = command.spawn().expect("redis-server must be installed");
        let mut has_ended = false;
        wait_until("redis-server is ready", || {
            has_ended = child.try_wait().unwrap().is_some();
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            has_ended || log.contains("Ready to accept connections") || log.contains("Sentinel ID is")
        });
        self.child = (!has_ended).then_some(child);
        !has_ended
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Another client's connection, for looking and for meddling.
    pub fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    pub fn kill_9(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Answers nothing from now on, while the kernel still accepts connections and bytes for it.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id() as i32;
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill_9();
        }
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
