//! A child process that is ended by its pid, and its log.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::{StartError, wait};

/// How long a server may take to end on SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How much of a log an error shows.
const TAIL_LINES: usize = 30;

/// A running server. Dropping it ends it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Runs `command` with both outputs going to `log`. It gets a process group of its own, so that
    /// Ctrl-C in a terminal reaches only whoever started it, and that one can end it in order.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Process, StartError> {
        let out = File::create(log).map_err(StartError::io(format!("making {}", log.display())))?;
        let err = out.try_clone().map_err(StartError::io("sharing a log file"))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = command.spawn().map_err(|source| StartError::Spawn { name: name.to_owned(), source })?;
        Ok(Process { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status once the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal (`libc::SIGHUP` and its like).
    pub fn signal(&self, signal: i32) {
        signal_pid(self.pid(), signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }

    /// Sends `signal` and waits for the end, at most `grace`; then SIGKILL. True when it ended by
    /// itself.
    pub fn stop(&mut self, signal: i32, grace: Duration) -> bool {
        if self.ended().is_some() {
            return true;
        }
        self.signal(signal);
        // A stopped process acts on nothing but SIGKILL until it is continued.
        self.signal(libc::SIGCONT);
        let ended = wait::until(grace, || self.ended().is_some());
        if !ended {
            self.kill();
        }
        ended
    }

    /// Waits until `probe` says that the server answers.
    pub fn ready(&mut self, deadline: Duration, mut probe: impl FnMut() -> bool) -> Result<(), StartError> {
        let mut ended = None;
        let seen = wait::until(deadline, || {
            ended = self.ended();
            ended.is_some() || probe()
        });
        let (name, log) = (self.name.clone(), self.log_tail());
        match ended {
            Some(status) => Err(StartError::Ended { name, status: status.to_string(), log }),
            None if !seen => Err(StartError::NotReady { name, waited: deadline, log }),
            None => Ok(()),
        }
    }

    /// The last lines of what it printed.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(libc::SIGTERM, GRACE);
    }
}

/// The last lines of a file, or why there are none.
pub fn tail(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}

/// Sends a signal to one process.
pub fn signal_pid(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a pid fits in i32");
    // SAFETY: kill(2) takes two numbers and touches no memory of ours. The pid is that of a child
    // (or a child's child) of ours; a child is not reaped before it was waited for.
    unsafe { libc::kill(pid, signal) };
}

/// The processes whose parent is `pid`, ascending.
pub fn children(pid: u32) -> Vec<u32> {
    let mut pids = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        pids.extend(text.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
    }
    pids.sort_unstable();
    pids
}

/// Lets this process, and what it starts from now on, open as many files as the system allows it: the
/// usual 1024 are too few for a thousand connections.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a struct of ours that lives through them. Where raising
    // fails, the old limit stays, and whoever runs into it says so.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Processor time that a process has used since it began, all of its threads, user and system
/// (fields 14 and 15 of `/proc/<pid>/stat`, see proc(5)).
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold spaces.
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // SAFETY: sysconf takes a number and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let ticks = u64::try_from(ticks).ok().filter(|&t| t > 0)?;
    Some(Duration::from_micros((user + system) * 1_000_000 / ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &Path) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Process::spawn("sh", command, log).unwrap()
    }

    #[test]
    fn a_process_that_ends_early_shows_its_log() {
        let dir = crate::temp_dir();
        let mut process = shell("echo broken pipe dream; exit 3", &dir.path().join("log"));
        let error = process.ready(Duration::from_secs(10), || false).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("broken pipe dream"), "{error}");
    }

    #[test]
    fn one_that_ignores_sigterm_is_killed() {
        let dir = crate::temp_dir();
        let marker = dir.path().join("up");
        let script = format!("trap '' TERM; touch {}; while :; do sleep 1; done", marker.display());
        let mut process = shell(&script, &dir.path().join("log"));
        process.ready(Duration::from_secs(10), || marker.exists()).unwrap();
        assert!(!process.stop(libc::SIGTERM, Duration::from_millis(50)));
        assert!(process.ended().is_some());
    }

    #[test]
    fn cpu_time_of_a_busy_process_grows() {
        let dir = crate::temp_dir();
        let process = shell("while :; do :; done", &dir.path().join("log"));
        let pid = process.pid();
        let grew = wait::until(Duration::from_secs(10), || {
            cpu_time(pid).is_some_and(|used| used >= Duration::from_millis(50))
        });
        assert!(grew);
        assert!(children(std::process::id()).contains(&pid));
    }
}
