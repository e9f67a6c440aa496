//! A private nginx: its own folder, pid file, error log and ports.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::process::{Process, children, raise_file_limit, signal_pid, tail};
use crate::{StartError, parts, wait};

const READY_WITHIN: Duration = Duration::from_secs(60);
const QUIT_WITHIN: Duration = Duration::from_secs(60);

/// A running nginx, master and workers. Dropping it ends them all.
pub struct Nginx {
    dir: PathBuf,
    port: u16,
    process: Process,
}

impl Nginx {
    /// Writes `config` to `dir/nginx.conf` and runs it; it is ready when `port` takes connections and
    /// all workers are there.
    /// The configuration's relative paths lie in `dir`.
    pub fn start(dir: &Path, config: &str, port: u16) -> Result<Nginx, StartError> {
        Nginx::start_as(&parts::nginx()?, dir, config, port)
    }

    /// The same with another nginx than the system's.
    pub fn start_as(program: &Path, dir: &Path, config: &str, port: u16) -> Result<Nginx, StartError> {
        Nginx::run(Command::new(program), dir, config, port)
    }

    /// The same by a program that is given nginx and its arguments and becomes nginx, such as
    /// `valgrind --tool=callgrind` or `env NAME=value`.
    pub fn start_by(launcher: &[String], dir: &Path, config: &str, port: u16) -> Result<Nginx, StartError> {
        let nginx = parts::nginx()?;
        let command = match launcher.split_first() {
            None => Command::new(nginx),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(nginx);
                command
            }
        };
        Nginx::run(command, dir, config, port)
    }

    fn run(mut command: Command, dir: &Path, config: &str, port: u16) -> Result<Nginx, StartError> {
        raise_file_limit();
        fs::write(dir.join("nginx.conf"), config).map_err(StartError::io("writing nginx.conf"))?;
        Nginx::add_arguments(&mut command, dir);
        let mut process = Process::spawn("nginx", command, &dir.join("nginx.log"))?;
        let error_log = dir.join("error.log");
        // The master listens before it has its workers.
        let (master, workers) = (process.pid(), workers_of(config));
        let is_ready = || listens(port) && children(master).len() >= workers;
        process.ready(READY_WITHIN, is_ready).map_err(|error| with_log(error, &error_log))?;
        Ok(Nginx { dir: dir.to_owned(), port, process })
    }

    /// SIGKILL to the master and all workers; says how many workers that were. Nothing of theirs is
    /// left when it returns, so that the system's nginx can be started on the same folder and port.
    pub fn kill_all(&mut self) -> Result<usize, StartError> {
        // A master that is stopped makes no worker that nobody knows of.
        self.process.signal(libc::SIGSTOP);
        let workers = self.workers();
        self.process.kill();
        workers.iter().for_each(|pid| signal_pid(*pid, libc::SIGKILL));
        let gone = wait::until(QUIT_WITHIN, || !listens(self.port));
        if gone { Ok(workers.len()) } else { Err(self.not_ready("the end of a killed nginx")) }
    }

    /// Starts the system's nginx again with the same configuration, after [`kill_all`](Nginx::kill_all).
    pub fn start_again(&mut self) -> Result<(), StartError> {
        let config = fs::read_to_string(self.dir.join("nginx.conf"));
        let config = config.map_err(StartError::io("reading nginx.conf"))?;
        *self = Nginx::start(&self.dir.clone(), &config, self.port)?;
        Ok(())
    }

    /// `nginx -t`: the exit status and everything it says.
    pub fn test(dir: &Path, config: &str) -> Result<Output, StartError> {
        fs::write(dir.join("nginx.conf"), config).map_err(StartError::io("writing nginx.conf"))?;
        let mut command = Command::new(parts::nginx()?);
        Nginx::add_arguments(&mut command, dir);
        command.arg("-t");
        command.output().map_err(|source| StartError::Spawn { name: "nginx -t".into(), source })
    }

    fn add_arguments(command: &mut Command, dir: &Path) {
        command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf"));
        command.arg("-e").arg(dir.join("error.log")).args(["-g", "daemon off;"]);
    }

    /// The pid of the master.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The pids of the workers; after a reload, those that are still ending too.
    pub fn workers(&self) -> Vec<u32> {
        children(self.process.pid())
    }

    /// SIGHUP, then waits until every worker from before has ended.
    pub fn reload(&self) -> Result<(), StartError> {
        let before = self.workers();
        self.process.signal(libc::SIGHUP);
        let gone = || {
            let now = self.workers();
            !now.is_empty() && before.iter().all(|old| !now.contains(old))
        };
        if wait::until(QUIT_WITHIN, gone) { Ok(()) } else { Err(self.not_ready("the reload")) }
    }

    /// SIGKILL to one worker, then waits until the master has replaced it.
    pub fn kill_worker(&self) -> Result<u32, StartError> {
        // The master listens before it has a worker.
        let workers = || Some(self.workers()).filter(|workers| !workers.is_empty());
        let before = wait::until_some(QUIT_WITHIN, workers).ok_or_else(|| self.not_ready("a worker"))?;
        let victim = before[0];
        signal_pid(victim, libc::SIGKILL);
        let replaced = || {
            let now = self.workers();
            !now.contains(&victim) && now.len() >= before.len()
        };
        if wait::until(QUIT_WITHIN, replaced) { Ok(victim) } else { Err(self.not_ready("a new worker")) }
    }

    fn not_ready(&self, name: &str) -> StartError {
        let log = tail(&self.dir.join("error.log"));
        StartError::NotReady { name: name.to_owned(), waited: QUIT_WITHIN, log }
    }

    /// Graceful end (SIGQUIT): requests in flight are answered, spools sealed. True when it ended
    /// by itself.
    pub fn quit(&mut self) -> bool {
        self.process.stop(libc::SIGQUIT, QUIT_WITHIN)
    }

    /// Whether the master is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    pub fn error_log(&self) -> String {
        fs::read_to_string(self.dir.join("error.log")).unwrap_or_default()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The workers of a master that has to be killed would live on.
        let workers = self.workers();
        if !self.process.stop(libc::SIGTERM, QUIT_WITHIN) {
            workers.into_iter().for_each(|pid| signal_pid(pid, libc::SIGKILL));
        }
    }
}

/// How many workers a configuration asks for by number.
fn workers_of(config: &str) -> usize {
    let said = config.split_once("worker_processes ").and_then(|(_, rest)| rest.split_once(';'));
    let number = said.and_then(|(number, _)| number.trim().parse().ok()).unwrap_or(0);
    if config.contains("master_process off") { 0 } else { number }
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// nginx says most of what went wrong in its error log.
fn with_log(error: StartError, error_log: &Path) -> StartError {
    match error {
        StartError::Ended { name, status, log } => {
            StartError::Ended { name, status, log: log + "\n" + &tail(error_log) }
        }
        StartError::NotReady { name, waited, log } => {
            StartError::NotReady { name, waited, log: log + "\n" + &tail(error_log) }
        }
        other => other,
    }
}

/// The lines at the head of every configuration written for a private nginx: what would otherwise
/// lie in the system's folders lies in its own.
pub fn preamble(workers: usize) -> String {
    // As root, workers would become nobody, who may not write into a folder made by mktemp.
    // SAFETY: geteuid has no arguments and cannot fail.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;\n" } else { "" };
    format!("{user}worker_processes {workers};\npid nginx.pid;\nerror_log error.log notice;\n")
}

/// The same for the `http` block.
pub const HTTP_PREAMBLE: &str = "\
    access_log off;
    client_body_temp_path temp_body;
    proxy_temp_path temp_proxy;
    fastcgi_temp_path temp_fastcgi;
    uwsgi_temp_path temp_uwsgi;
    scgi_temp_path temp_scgi;
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;
    use crate::{ports, temp_dir};

    fn config(port: u16) -> String {
        let head = preamble(2);
        format!(
            "{head}events {{ worker_connections 64; }}\nhttp {{\n{HTTP_PREAMBLE}\
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"here\\n\"; }} }}\n}}\n"
        )
    }

    #[test]
    fn it_answers_reloads_and_replaces_a_killed_worker() {
        let (dir, port) = (temp_dir(), ports::free());
        let nginx = Nginx::start(dir.path(), &config(port), port).unwrap();
        let ask = || Request::get(port, "/").send().unwrap().text();
        assert_eq!(ask(), "here\n");
        let before = nginx.workers();
        nginx.reload().unwrap();
        assert!(nginx.workers().iter().all(|pid| !before.contains(pid)));
        let victim = nginx.kill_worker().unwrap();
        assert!(!nginx.workers().contains(&victim));
        assert_eq!(ask(), "here\n");
    }

    #[test]
    fn it_is_killed_as_a_whole_and_started_again() {
        let (dir, port) = (temp_dir(), ports::free());
        let mut nginx = Nginx::start(dir.path(), &config(port), port).unwrap();
        wait::until(QUIT_WITHIN, || nginx.workers().len() == 2);
        assert_eq!(nginx.kill_all().unwrap(), 2);
        nginx.start_again().unwrap();
        assert_eq!(Request::get(port, "/").send().unwrap().text(), "here\n");
    }

    #[test]
    fn a_broken_configuration_shows_nginxs_own_words() {
        let (dir, port) = (temp_dir(), ports::free());
        let error = Nginx::start(dir.path(), "events {} nonsense;", port).err().unwrap();
        assert!(error.to_string().contains("unknown directive \"nonsense\""), "{error}");
        let output = Nginx::test(dir.path(), &config(port)).unwrap();
        assert!(output.status.success());
    }

    #[test]
    fn dropping_it_leaves_no_process_behind() {
        let (dir, port) = (temp_dir(), ports::free());
        let nginx = Nginx::start(dir.path(), &config(port), port).unwrap();
        let pids = [nginx.workers(), vec![nginx.pid()]].concat();
        drop(nginx);
        assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    }
}
