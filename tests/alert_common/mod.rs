//! An installation with a real mail server, books that tests fill, and a webhook.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use weir_metering::{Decision, Record, SpoolOptions, SpoolWriter};
use weir_testbed::smtp::{Mail, Smtp};
use weir_testbed::weir::Installation;

pub const PLATFORM: &str = "platform@example.com";

pub fn policy(clients: &[&str], alerts: &str) -> String {
    let clients: String =
        clients.iter().map(|id| format!("[clients.{id}]\ncontacts = [\"api@{id}.example\"]\n")).collect();
    format!(
        "default_tier = \"t\"\n[tiers.t]\nlimits = [\"50 requests/hour\"]\n{clients}\
         [alerts]\nto = [\"{PLATFORM}\"]\nthresholds = [80, 100]\n{alerts}\n"
    )
}

/// An installation with a mail server in the clear, and books that tests fill.
pub struct Place {
    pub installation: Installation,
    pub smtp: Smtp,
    streams: u128,
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new(policy: &str, more: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let smtp = Smtp::start_plain(&dir.path().join("mails")).unwrap();
        let installation = Installation::new(dir.path(), 1)
            .unwrap()
            .mail(&format!("smtp+plain://127.0.0.1:{}", smtp.port()))
            .more(more);
        fs::write(installation.policy(), policy).unwrap();
        Place { installation, smtp, streams: 0, dir }
    }

    /// Meters `n` requests of a client, the last of this moment.
    pub fn meter(&mut self, client: &str, n: usize) {
        self.meter_each(&vec![client; n]);
    }

    /// Meters one request of each, the last of this moment.
    pub fn meter_each(&mut self, clients: &[&str]) {
        let now_us = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
        self.streams += 1;
        let options = SpoolOptions::new(self.installation.spool(0), "gw");
        let mut writer = SpoolWriter::open(options, 1, self.streams, now_us).unwrap();
        for (i, client) in clients.iter().enumerate() {
            let record = Record {
                time_us: now_us - (clients.len() - i) as u64,
                client,
                tier: "t",
                endpoint: "/orders",
                method: "GET",
                status: 200,
                latency_us: 0,
                upstream_us: None,
                bytes_in: 1,
                bytes_out: 2,
                decision: Decision::Passed,
                limit: "50 requests/hour",
                policy_version: 1,
            };
            assert!(writer.append(&record));
        }
        writer.close(now_us);
    }

    /// One tick with a clock that is off: `+26h`, `-2d`.
    pub fn tick_at(&self, offset: &str) -> Output {
        let library = Path::new("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
        assert!(library.exists(), "Debian's libfaketime is missing; run scripts/setup.sh");
        let mut command = self.installation.command(&["tick"]).unwrap();
        command.env("LD_PRELOAD", library).env("FAKETIME", offset).output().unwrap()
    }

    /// The same, of which nothing fails.
    pub fn good_tick_at(&self, offset: &str) {
        let output = self.tick_at(offset);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "at {offset}: {said}");
    }

    pub fn told(&self) -> Vec<(String, String)> {
        let of = |mail: &Mail| (mail.to.join(","), mail.subject());
        let mut told: Vec<_> = self.smtp.mails().unwrap().iter().map(of).collect();
        told.sort();
        told
    }

    pub fn recipients(&self) -> Vec<String> {
        self.told().into_iter().map(|(to, _)| to).collect()
    }
}

/// Header lines and body.
pub type Request = (Vec<String>, String);

/// A server that keeps what it is sent, and answers as it is told.
pub struct Hook {
    pub port: u16,
    kept: Arc<Mutex<Vec<Request>>>,
    pub answer: Arc<Mutex<String>>,
    /// Bodies with this text are answered with 500.
    pub refused: Arc<Mutex<Option<String>>>,
}

impl Hook {
    pub fn open(answer: &str) -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hook = Hook {
            port: listener.local_addr().unwrap().port(),
            kept: Arc::default(),
            answer: Arc::new(Mutex::new(answer.to_owned())),
            refused: Arc::default(),
        };
        let (kept, answer, refused) = (hook.kept.clone(), hook.answer.clone(), hook.refused.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, refused) = (answer.lock().unwrap().clone(), refused.lock().unwrap().clone());
                let _ = converse(stream, &kept, &answer, refused.as_deref());
            }
        });
        hook
    }

    pub fn kept(&self) -> Vec<Request> {
        self.kept.lock().unwrap().clone()
    }
}

fn converse(
    stream: TcpStream,
    kept: &Mutex<Vec<Request>>,
    answer: &str,
    refused: Option<&str>,
) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let length = value(&head, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let answer = if refused.is_some_and(|text| body.contains(text)) { "500 No" } else { answer };
    kept.lock().unwrap().push((head, body));
    write!(out, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

pub fn value(head: &[String], name: &str) -> Option<String> {
    head.iter().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

pub fn secret(dir: &Path) {
    fs::write(dir.join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
}
