//! The samples of deploy/, as far as they can be tried without systemd, cron or Kubernetes at work:
//! each is checked by who knows its format, and its commands are run.

// It waits for real processes.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use weir_testbed::gateway::key_hash;
use weir_testbed::s3::S3;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::weir::Installation;
use weir_testbed::{TempDir, load, parts, temp_dir};

const KEY: &str = "only-key";
const REQUESTS: i64 = 150;
/// All that cron gives its jobs, besides what stands in the crontab.
const CRON_GIVES: [(&str, &str); 2] = [("HOME", "/var/www"), ("LOGNAME", "www-data")];

fn deploy(path: &str) -> String {
    fs::read_to_string(parts::root().join("deploy").join(path)).unwrap()
}

/// Gateways that have ended, their books in S3 whose credentials stand in a file beside weir.toml.
struct Site {
    scene: Scene,
    installation: Installation,
    s3: S3,
    more_machines: Vec<TempDir>,
}

impl Site {
    fn new() -> Site {
        let tier = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"100000 requests/minute\"]\n";
        let policy = format!("{tier}[clients.acme]\nkeys = [\"{}\"]\n", key_hash(KEY));
        let mut scene = Plot::new(&policy).start().unwrap();
        assert!(load::run(scene.plan(KEY, REQUESTS as f64, 1.0)).iter().all(|s| s.status == 200));
        scene.close();
        let s3 = S3::start("books").unwrap();
        let installation = scene.installation.clone().storage(&s3.url());
        let site = Site { installation, scene, s3, more_machines: Vec::new() };
        fs::write(site.environment(), site.credentials()).unwrap();
        // Writes weir.toml.
        site.installation.command(&[]).unwrap();
        site
    }

    fn credentials(&self) -> String {
        format!(
            "AWS_ENDPOINT={}\nAWS_ALLOW_HTTP=true\nAWS_REGION=us-east-1\nAWS_ACCESS_KEY_ID=test\n\
             AWS_SECRET_ACCESS_KEY=test\n",
            self.s3.endpoint()
        )
    }

    fn environment(&self) -> PathBuf {
        self.scene.installation.dir().join("environment")
    }

    fn config(&self) -> PathBuf {
        self.installation.dir().join("weir.toml")
    }

    /// The same installation on a machine of its own: no lock is shared with another one.
    fn another_machine(&mut self) -> PathBuf {
        let dir = temp_dir();
        let config = dir.path().join("weir.toml");
        fs::copy(self.config(), &config).unwrap();
        self.more_machines.push(dir);
        config
    }

    /// The words of a sample, as systemd or Kubernetes would run them with the credentials.
    fn words(&self, words: &[String], config: &Path) -> Command {
        assert!(words[0].rsplit('/').next() == Some("weir"), "{words:?}");
        let mut command = Command::new(parts::weir().unwrap());
        command.env_clear().arg("-c").arg(config).args(&words[1..]);
        let credentials = self.credentials();
        command.envs(credentials.lines().map(|line| line.split_once('=').unwrap()));
        command
    }

    /// A line of the crontab, run as cron would run it: by a shell, with hardly an environment.
    fn cron(&self, job: &CronJob, config: &Path, bin: &Path) -> Command {
        let weir = bin.join("weir");
        let called = format!("#!/bin/sh\nexec {:?} -c {config:?} \"$@\"\n", parts::weir().unwrap());
        fs::write(&weir, called).unwrap();
        fs::set_permissions(&weir, fs::Permissions::from_mode(0o755)).unwrap();
        let line = job.command.replace("/etc/weir/environment", self.environment().to_str().unwrap());
        let mut command = Command::new("/bin/sh");
        command.env_clear().envs(CRON_GIVES).env("PATH", format!("{}:{}", bin.display(), job.path));
        command.args(["-c", &line]);
        command
    }

    fn booked(&self) -> i64 {
        let credentials = self.credentials();
        let with = |installation: Installation, line: &str| {
            let (name, value) = line.split_once('=').unwrap();
            installation.environment(name, value)
        };
        let installation = credentials.lines().fold(self.installation.clone(), with);
        installation.usage("month").unwrap().requests()
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", said(&output));
    said(&output)
}

/// The words of a unit's `ExecStart` for one of its instances.
fn exec_start(job: &str) -> Vec<String> {
    let unit = deploy("systemd/weir@.service").replace("%i", job);
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn the_units_are_right_for_systemd_and_start_when_they_say() {
    let (dir, weir) = (temp_dir(), parts::weir().unwrap());
    let mut timers = Vec::new();
    for file in fs::read_dir(parts::root().join("deploy/systemd")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let text = deploy(&format!("systemd/{name}")).replace("/usr/bin/weir", weir.to_str().unwrap());
        fs::write(dir.path().join(&name), text).unwrap();
        timers.extend(name.ends_with(".timer").then(|| dir.path().join(name)));
    }
    assert_eq!(timers.len(), 4);
    let mut verify = Command::new("systemd-analyze");
    assert_eq!(succeeds(verify.args(["verify", "--man=no"]).args(timers)), "");
    for (job, next) in [
        ("tick", ["13:01:00", "13:02:00"]),
        ("collect", ["13:00:30", "13:01:30"]),
        ("doctor", ["13:10:00", "14:10:00"]),
        ("audit", ["2026-11-25 00:40:00", "2026-11-26 00:40:00"]),
    ] {
        let timer = deploy(&format!("systemd/weir-{job}.timer"));
        assert!(timer.contains(&format!("Unit=weir@{job}.service\n")), "{timer}");
        let when = timer.lines().find_map(|line| line.strip_prefix("OnCalendar=")).unwrap();
        let mut calendar = Command::new("systemd-analyze");
        calendar.env("TZ", "UTC").args(["calendar", "--iterations=2", "--base-time=2026-11-24 13:00:00"]);
        let told = succeeds(calendar.arg(when));
        assert!(next.iter().all(|moment| told.contains(moment)), "{job}: {told}");
    }
}

#[test]
fn what_the_units_start_keeps_the_books() {
    let site = Site::new();
    for job in ["tick", "collect", "doctor", "audit"] {
        succeeds(&mut site.words(&exec_start(job), &site.config()));
    }
    assert_eq!(site.booked(), REQUESTS);
}

/// A line of the crontab.
struct CronJob {
    schedule: String,
    command: String,
    path: String,
}

fn crontab() -> Vec<CronJob> {
    let text = deploy("cron/weir");
    assert!(text.ends_with('\n'), "cron ignores a last line without an end");
    let path = text.lines().find_map(|line| line.strip_prefix("PATH=")).unwrap().to_owned();
    let is_job = |line: &&str| line.starts_with(|c: char| c == '*' || c.is_ascii_digit());
    let parse = |line: &str| {
        let mut rest = line;
        let mut word = || {
            let (word, after) = rest.trim_start().split_once(' ').unwrap();
            rest = after;
            word.to_owned()
        };
        let schedule = (0..5).map(|_| word()).collect::<Vec<_>>().join(" ");
        assert_eq!(word(), "www-data");
        // cron takes % for the end of the line.
        assert!(!rest.contains('%'), "{line}");
        CronJob { schedule, command: rest.trim_start().to_owned(), path: path.clone() }
    };
    text.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).filter(is_job).map(parse).collect()
}

#[test]
fn the_lines_of_the_crontab_keep_the_books_with_what_cron_gives_them() {
    let (site, bin) = (Site::new(), temp_dir());
    let jobs = crontab();
    let schedules: Vec<&str> = jobs.iter().map(|job| job.schedule.as_str()).collect();
    assert_eq!(schedules, ["* * * * *", "* * * * *", "10 * * * *", "40 0 * * *"]);
    for job in &jobs {
        let told = succeeds(&mut site.cron(job, &site.config(), bin.path()));
        assert_eq!(told, "", "cron would mail it: {}", job.command);
    }
    assert_eq!(site.booked(), REQUESTS);
    // What is wrong is told, so that cron mails it.
    fs::write(site.config(), "[storage]\nurl = \"s3://no-such-bucket\"\n").unwrap();
    for job in jobs.iter().filter(|job| !job.command.contains("doctor")) {
        let output = site.cron(job, &site.config(), bin.path()).output().unwrap();
        let told = said(&output);
        assert!(!told.is_empty(), "{}", job.command);
        assert!(
            !job.command.contains("tick") || told.contains("s3://no-such-bucket does not exist"),
            "{told}"
        );
    }
}

/// The CronJobs, as JSON.
fn cron_jobs() -> Vec<Value> {
    let yaml = parts::root().join("deploy/kubernetes/weir.yaml");
    let mut python = Command::new(parts::python().unwrap());
    let program = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    serde_json::from_str(&succeeds(python.args(["-c", program]).arg(yaml))).unwrap()
}

fn container(job: &Value) -> &Value {
    &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
}

fn words(job: &Value) -> Vec<String> {
    serde_json::from_value(container(job)["command"].clone()).unwrap()
}

#[test]
fn the_cron_jobs_are_right_for_kubernetes_and_their_commands_keep_the_books() {
    let mut validate = Command::new(parts::python().unwrap());
    validate.args(["-m", "kubernetes_validate", "--strict", "--kubernetes-version", "1.29.0"]);
    succeeds(validate.arg(parts::root().join("deploy/kubernetes/weir.yaml")));
    let (site, jobs) = (Site::new(), cron_jobs());
    let of = |field: &str| jobs.iter().map(|job| job["spec"][field].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(of("schedule"), ["* * * * *", "10 * * * *", "40 0 * * *"]);
    assert_eq!(of("concurrencyPolicy"), ["Forbid"; 3]);
    // A gateway beside its spool; the jobs are elsewhere and only know the store.
    succeeds(&mut site.words(&exec_start("collect"), &site.config()));
    for job in &jobs {
        // Whatever is mounted exists in the pod.
        let mounts = container(job)["volumeMounts"].as_array().unwrap();
        let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(mounts.iter().all(|m| volumes.iter().any(|v| v["name"] == m["name"])), "{pod}");
        succeeds(&mut site.words(&words(job), &site.config()));
    }
    assert_eq!(site.booked(), REQUESTS);
}

/// systemd, cron and Kubernetes at once, on three machines: each succeeds, and all is booked once.
#[test]
fn runs_that_overlap_on_several_machines_are_harmless() {
    let (mut site, bin) = (Site::new(), temp_dir());
    let machines: Vec<PathBuf> = (0..3).map(|_| site.another_machine()).collect();
    let mut commands = [
        site.words(&exec_start("tick"), &machines[0]),
        site.cron(&crontab()[0], &machines[1], bin.path()),
        site.words(&words(&cron_jobs()[0]), &machines[2]),
    ];
    let start = |command: &mut Command| -> Child {
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<Child> = commands.iter_mut().map(start).collect();
    for run in running {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(site.booked(), REQUESTS);
}
