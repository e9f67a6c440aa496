//! The mailer is killed at random moments, over and over: what is lost, what comes twice. A thousand
//! kills with `WEIR_KILLS=1000`, a few without.
#![allow(clippy::disallowed_methods)] // real processes, and how often to kill them

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{NOW, finding, policy};
use weir_analytics::claim::{MailLedger, UNDER_WAY_US};
use weir_analytics::store::Store;
use weir_reports::mail::{
    Audience, ComposeInput, Ledger, LedgerError, MailOptions, Mailer, OutgoingMail, compose, deliver,
};

const MAILS: usize = 20;

/// A round of kills has this many, and a store of its own.
const KILLS_A_ROUND: usize = 25;

struct Books<'a>(MailLedger<'a>);

fn failed(error: weir_analytics::store::StoreError) -> LedgerError {
    LedgerError(Box::new(error))
}

impl Ledger for Books<'_> {
    async fn create(&self, name: &str) -> Result<bool, LedgerError> {
        self.0.create(name).await.map_err(failed)
    }

    async fn contains(&self, name: &str) -> Result<bool, LedgerError> {
        self.0.contains(name).await.map_err(failed)
    }

    async fn remove(&self, name: &str) -> Result<(), LedgerError> {
        self.0.remove(name).await.map_err(failed)
    }
}

fn mails() -> Vec<OutgoingMail> {
    let contacts: Vec<String> = (0..MAILS).map(|n| format!("c{n}@acme.example")).collect();
    let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
    let policy = policy(&[("acme", "Acme", &contacts)]);
    let input = ComposeInput {
        policy: &policy,
        from: "weir@example.com",
        public_url: None,
        directories: &weir_reports::Directories::new([1; 32]),
        now_us: NOW,
    };
    compose(&finding("acme", 80), Audience::Client, &input).mails
}

/// What is killed: one delivery of all mails, in a process of its own. `WEIR_MAILER` holds the store,
/// the server's port, and the time.
#[tokio::test]
async fn mailer_process() {
    let Ok(told) = std::env::var("WEIR_MAILER") else { return };
    let told: Vec<&str> = told.split(' ').collect();
    let [store, port, now_us] = told[..] else { panic!("{told:?}") };
    let store = Store::open(store).unwrap();
    let url = format!("smtp+plain://127.0.0.1:{port}");
    let timeout = Duration::from_secs(20);
    let mailer = Mailer::new(&MailOptions { url, timeout, ..MailOptions::default() }).unwrap();
    let ledger = Books(MailLedger { store: &store, now_us: now_us.parse().unwrap() });
    let delivery = deliver(&mailer, &mails(), &ledger).await;
    assert!(delivery.is_settled(), "{delivery:?}");
}

fn mailer(store: &Path, port: u16, now_us: i64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["mailer_process", "--exact", "--nocapture"]);
    command.env("WEIR_MAILER", format!("{} {port} {now_us}", store.display()));
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// The server that the other tests use as well, here in the clear.
struct Server {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Server {
    fn start(dir: &Path) -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp_server.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .args(["plain", "-", "-"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Debian's python3 starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("aiosmtpd tells its port; install python3-aiosmtpd");
        Server { child, port, dir: dir.to_owned() }
    }

    /// Recipient -> how often its mail came, by Message-ID.
    fn taken(&self) -> BTreeMap<String, BTreeMap<String, usize>> {
        let mut taken: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).unwrap().flatten() {
            if entry.path().extension().is_none_or(|e| e != "eml") {
                continue;
            }
            let text = String::from_utf8(fs::read(entry.path()).unwrap()).unwrap();
            let of = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
            };
            *taken.entry(of("To:")).or_default().entry(of("Message-ID:")).or_default() += 1;
        }
        taken
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Count {
    kills: usize,
    mails: usize,
    twice: usize,
    lost: usize,
    given_up: usize,
}

/// Kills a mailer again and again, lets the last ones end, and counts.
fn round(seed: &mut u64, count: &mut Count) {
    let folder = tempfile::tempdir().unwrap();
    let (mails, store) = (folder.path().join("mails"), folder.path().join("store"));
    fs::create_dir(&mails).unwrap();
    let server = Server::start(&mails);
    // Each run is a claim's time after the one before.
    let start_us = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
    let at = |run: usize| start_us + (run as i64 + 1) * (UNDER_WAY_US + 60_000_000);
    for run in 0..KILLS_A_ROUND {
        let mut child = mailer(&store, server.port, at(run)).spawn().unwrap();
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((*seed >> 33) % 120_000));
        child.kill().unwrap();
        child.wait().unwrap();
        count.kills += 1;
    }
    for run in KILLS_A_ROUND..KILLS_A_ROUND + 3 {
        let output = mailer(&store, server.port, at(run)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    // Of whom it was said that nobody knows: the third name of a mail's claims.
    let claims = fs::read_dir(store.join("ledger/mail")).unwrap().flatten();
    let given_up = claims.filter(|c| c.path().extension().is_some_and(|e| e == "3")).count();
    count.given_up += given_up;
    let taken = server.taken();
    for (to, copies) in &taken {
        assert_eq!(copies.len(), 1, "mails to {to} have one Message-ID: {copies:?}");
        let copies: usize = copies.values().sum();
        assert!(copies <= 2, "{to} had {copies}");
        count.twice += usize::from(copies == 2);
    }
    count.mails += MAILS;
    count.lost += MAILS - taken.len();
    assert!(MAILS - taken.len() <= given_up, "lost without a word");
}

#[test]
fn killed_mailers_send_twice_at_most_and_lose_nothing_without_a_word() {
    let kills = std::env::var("WEIR_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS_A_ROUND);
    let (mut seed, mut count) = (20_261_124, Count::default());
    while count.kills < kills {
        round(&mut seed, &mut count);
    }
    println!(
        "{} kills, {} mails: {} came twice, {} were lost, {} of unknown end were told",
        count.kills, count.mails, count.twice, count.lost, count.given_up
    );
    // Only a kill makes a copy, and only two in a row a loss.
    assert!(count.twice <= count.kills && 2 * count.given_up <= count.kills);
}
