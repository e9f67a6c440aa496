//! What is replaced under a running nginx: its binary, the module's file, and a module that is not
//! for this nginx at all.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use module_common::{KEY, Plan, policy, records_in, remaining};
use weir_testbed::http::Request;
use weir_testbed::load::{self, Plan as Load, Shot};
use weir_testbed::nginx::Nginx;
use weir_testbed::process::{children, signal_pid};
use weir_testbed::redis::Redis;
use weir_testbed::{TempDir, parts, ports, wait};

const SIGQUIT: i32 = 3;
const SIGKILL: i32 = 9;
const SIGUSR2: i32 = 12;

const ON: &str = "location / { weir on; try_files /index.html =404; }
                  location = /metrics { weir_metrics; access_log off; }";

const PATIENCE: Duration = Duration::from_secs(60);

/// nginx as a daemon: only one whose parent is not the process that started it may be upgraded.
struct Daemon {
    dir: TempDir,
    port: u16,
}

impl Daemon {
    fn start(plan: &Plan) -> Daemon {
        let (dir, port) = plan.lay_out();
        fs::write(dir.path().join("nginx.conf"), plan.config(port)).unwrap();
        let daemon = Daemon { dir, port };
        let started = daemon.nginx().status().unwrap();
        assert!(started.success(), "{}", daemon.error_log());
        assert!(wait::until(PATIENCE, || daemon.pid("nginx.pid").is_some()));
        daemon
    }

    fn nginx(&self) -> Command {
        let dir = self.dir.path();
        let mut command = Command::new(parts::program("nginx", "/usr/sbin/nginx").unwrap());
        command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).arg("-e").arg(dir.join("error.log"));
        command
    }

    fn pid(&self, file: &str) -> Option<u32> {
        fs::read_to_string(self.dir.path().join(file)).ok()?.trim().parse().ok()
    }

    fn error_log(&self) -> String {
        fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }

    fn get(&self) -> weir_testbed::http::Answer {
        Request::get(self.port, "/").key(KEY).send().unwrap()
    }

    /// Graceful end of one master and its workers.
    fn quit(&self, master: u32) {
        signal_pid(master, SIGQUIT);
        assert!(wait::until(PATIENCE, || is_gone(master)), "{}", self.error_log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for master in ["nginx.pid.oldbin", "nginx.pid"].into_iter().filter_map(|file| self.pid(file)) {
            let workers = children(master);
            workers.into_iter().chain([master]).for_each(|pid| signal_pid(pid, SIGKILL));
        }
    }
}

/// A daemon that has ended may wait for a parent that does not look.
fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// The spool files that a process has mapped.
fn spools(pid: u32) -> BTreeSet<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.split_whitespace().last());
    paths.filter(|path| path.contains("/spool/")).map(str::to_owned).collect()
}

/// Fault 10.
#[test]
fn an_upgrade_of_the_binary_fails_nothing_and_takes_its_counts_from_redis() {
    let redis = Redis::start().unwrap();
    let http = format!("weir_redis {};\nweir_redis_timeout 1s;\n", redis.url());
    let plan = Plan::new(&policy("\"100 requests/hour\""), ON).workers(2).http(&http);
    let site = Daemon::start(&plan);
    assert!(wait::until(PATIENCE, || site.error_log().matches("Redis answers").count() == 2));
    for _ in 0..60 {
        assert_eq!(site.get().status, 200);
    }
    let old = site.pid("nginx.pid").unwrap();
    // All that an upgrade sees are requests that go on; whether they are within the limit is not the
    // question here.
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let shots = vec![Shot { bytes: head.into(), port: site.port }];
    let running = load::start(Load::even(shots, 100.0, Duration::from_secs(6), 16), Instant::now());
    signal_pid(old, SIGUSR2);
    let new = wait::until_some(PATIENCE, || {
        site.pid("nginx.pid.oldbin")?;
        site.pid("nginx.pid").filter(|new| *new != old && children(*new).len() == 2)
    });
    let new = new.unwrap_or_else(|| panic!("no new master: {}", site.error_log()));
    assert!(wait::until(PATIENCE, || site.error_log().matches("Redis answers").count() == 4));
    let mut workers = children(old);
    workers.retain(|pid| *pid != new);
    workers.extend(children(new));
    let mapped: Vec<_> = workers.iter().map(|pid| spools(*pid)).collect();
    assert!(mapped.len() == 4 && mapped.iter().all(|files| !files.is_empty()), "{mapped:?}");
    let distinct: BTreeSet<_> = mapped.iter().flatten().collect();
    assert_eq!(distinct.len(), mapped.iter().map(BTreeSet::len).sum::<usize>(), "{mapped:?}");
    site.quit(old);
    let samples = running.join();
    assert!(samples.iter().all(|sample| sample.status == 200), "{samples:?}");
    let admitted = (0..60).filter(|_| site.get().status == 200).count();
    // 40 are left, and as many as lay on lease in the old zone stay counted for a while.
    assert!((30..=40).contains(&admitted), "{admitted} of 40");
    site.quit(new);
    assert_eq!(records_in(site.dir.path()), 60 + 600 + 60);
}

/// Fault 11.
#[test]
fn a_replaced_file_of_the_module_changes_nothing_until_a_restart() {
    let plan = Plan::new(&policy("\"100 requests/hour\""), ON);
    let (dir, port) = plan.lay_out();
    let (module, file) = (parts::module().unwrap(), dir.path().join("m.so"));
    let config = plan.config(port).replace(&*module.to_string_lossy(), &file.to_string_lossy());
    fs::copy(&module, &file).unwrap();
    let mut nginx = Nginx::start(dir.path(), &config, port).unwrap();
    let left = || remaining(&Request::get(port, "/").key(KEY).send().unwrap());
    assert_eq!(left(), 99);
    put(&file, b"no module at all");
    assert_eq!(left(), 98);
    nginx.reload().unwrap();
    assert_eq!(left(), 97, "{}", nginx.error_log());
    let tested = Nginx::test(dir.path(), &config).unwrap();
    assert!(!tested.status.success(), "a new process reads the new file");
    assert!(nginx.quit());
    put(&file, &fs::read(&module).unwrap());
    let _nginx = Nginx::start(dir.path(), &config, port).unwrap();
    assert_eq!(left(), 99);
}

/// As an installer does: a new file takes the name of the old one.
fn put(file: &Path, bytes: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, file).unwrap();
}

/// Fault 12: a module says which version of nginx it was built for, and with which options.
#[test]
fn a_module_for_another_nginx_is_refused_by_nginx_itself() {
    let bytes = fs::read(parts::module().unwrap()).unwrap();
    let version = 1_022_001u64.to_le_bytes();
    let other_version = 1_028_003u64.to_le_bytes();
    let text = said_of(&replaced(&bytes, &version, &other_version));
    assert!(text.contains("version 1028003 instead of 1022001"), "{text}");
    let signature = signature_of(&bytes);
    let mut other = signature.clone();
    let last = other.last_mut().unwrap();
    *last = if *last == b'0' { b'1' } else { b'0' };
    let text = said_of(&replaced(&bytes, &signature, &other));
    assert!(text.contains("is not binary compatible"), "{text}");
}

/// What `nginx -t` says of a module with this content.
fn said_of(module: &[u8]) -> String {
    let plan = Plan::new(&policy("\"1 requests/hour\""), ON);
    let (dir, _) = plan.lay_out();
    let file = dir.path().join("m.so");
    fs::write(&file, module).unwrap();
    let ours = parts::module().unwrap();
    let config = plan.config(ports::free()).replace(&*ours.to_string_lossy(), &file.to_string_lossy());
    let Output { status, stderr, .. } = Nginx::test(dir.path(), &config).unwrap();
    assert!(!status.success());
    String::from_utf8_lossy(&stderr).into_owned()
}

/// `8,4,8,` and a row of ones and zeroes, see `ngx_module.h`.
fn signature_of(module: &[u8]) -> Vec<u8> {
    let start = module.windows(6).position(|bytes| bytes == b"8,4,8,").expect("a signature");
    let rest = &module[start..];
    let len = 6 + rest[6..].iter().take_while(|byte| matches!(byte, b'0' | b'1')).count();
    rest[..len].to_vec()
}

/// `bytes` with every `from` made `to`; there is one at least.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let places: Vec<usize> =
        (0..=bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| out[at..at + to.len()].copy_from_slice(to));
    out
}
