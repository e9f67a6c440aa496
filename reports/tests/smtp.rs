//! Mails sent to a real mail server, over every kind of connection.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{NOW, finding, hostile, policy, renamed};
use mailparse::{MailHeaderMap, parse_mail};
use weir_reports::mail::{Audience, ComposeInput, MailOptions, Mailer, OutgoingMail, SendError, compose};

/// aiosmtpd, ended by its process id when dropped.
struct MailServer {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl MailServer {
    fn start(mode: &str) -> MailServer {
        let dir = tempfile::tempdir().unwrap();
        certificate(dir.path());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smtp_server.py");
        let mut child = Command::new("/usr/bin/python3")
            .args([script, mode])
            .args([dir.path().join("cert.pem"), dir.path().join("key.pem"), dir.path().to_path_buf()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Debian's python3 starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("aiosmtpd tells its port; install python3-aiosmtpd");
        MailServer { child, port, dir }
    }

    fn mailer(&self, scheme: &str, password: Option<&str>, ca: Option<PathBuf>) -> Mailer {
        let user = if password.is_some() { "weir%40example.com@" } else { "" };
        let options = MailOptions {
            url: format!("{scheme}://{user}127.0.0.1:{}", self.port),
            password: password.map(str::to_string),
            ca_file: ca,
            timeout: Duration::from_secs(20),
        };
        Mailer::new(&options).unwrap()
    }

    fn ca(&self) -> Option<PathBuf> {
        Some(self.dir.path().join("cert.pem"))
    }

    fn message(&self, number: usize) -> Vec<u8> {
        fs::read(self.dir.path().join(format!("{number}.eml"))).unwrap()
    }

    /// Sender, recipients and whether it came over TLS, as JSON, one line for each message.
    fn envelopes(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("envelopes")).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn certificate(dir: &Path) {
    let status = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=weir test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("openssl is installed").success());
}

fn mail(name: &str) -> OutgoingMail {
    let policy = renamed(policy(&[("acme", "Acme", &[])]), "acme", name);
    let input = ComposeInput {
        policy: &policy,
        from: "weir <weir@example.com>",
        public_url: None,
        directories: &weir_reports::Directories::new([1; 32]),
        now_us: NOW,
    };
    compose(&finding("acme", 100), Audience::Platform, &input).mails.remove(0)
}

#[tokio::test]
async fn starttls_with_a_password() {
    let server = MailServer::start("starttls");
    let mailer = server.mailer("smtp", Some("right horse"), server.ca());
    mailer.send(&mail("Acme")).await.unwrap();
    mailer.send(&mail("Acme")).await.unwrap();
    assert_eq!(server.envelopes(), [r#"["weir@example.com", ["platform@example.com"], true]"#; 2]);
}

#[tokio::test]
async fn implicit_tls() {
    let server = MailServer::start("tls");
    server.mailer("smtps", Some("right horse"), server.ca()).send(&mail("Acme")).await.unwrap();
    assert_eq!(server.envelopes().len(), 1);
}

#[tokio::test]
async fn every_hostile_name_arrives_as_one_whole_message() {
    let server = MailServer::start("plain");
    let mailer = server.mailer("smtp+plain", None, None);
    for (n, name) in hostile().iter().enumerate() {
        let sent = mail(name);
        mailer.send(&sent).await.unwrap();
        let raw = server.message(n + 1);
        let parsed = parse_mail(&raw).unwrap();
        assert_eq!(
            parsed.headers.get_first_value("Subject").as_deref(),
            Some(sent.subject.as_str()),
            "{name:?}"
        );
        assert_eq!(raw.trim_ascii_end(), sent.message.formatted().trim_ascii_end(), "{name:?} byte for byte");
    }
    let envelopes = server.envelopes();
    assert_eq!(envelopes.len(), hostile().len());
    assert!(
        envelopes.iter().all(|e| e == r#"["weir@example.com", ["platform@example.com"], false]"#),
        "{envelopes:?}"
    );
}

#[tokio::test]
async fn a_certificate_of_nobody_is_not_trusted() {
    for (mode, scheme) in [("starttls", "smtp"), ("tls", "smtps")] {
        let (server, stranger) = (MailServer::start(mode), MailServer::start(mode));
        for ca in [None, stranger.ca()] {
            let error = server.mailer(scheme, Some("right horse"), ca).send(&mail("Acme")).await.unwrap_err();
            assert!(matches!(error, SendError::Unreachable { .. }), "{error}");
        }
        assert!(server.envelopes().is_empty());
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_nothing() {
    let server = MailServer::start("plain");
    let error =
        server.mailer("smtp", Some("right horse"), server.ca()).send(&mail("Acme")).await.unwrap_err();
    assert!(matches!(&error, SendError::Unreachable { why, .. } if why.contains("STARTTLS")), "{error}");
    assert!(server.envelopes().is_empty());
}

#[tokio::test]
async fn a_wrong_password_is_said_without_the_password() {
    let server = MailServer::start("starttls");
    let error =
        server.mailer("smtp", Some("wrong horse"), server.ca()).send(&mail("Acme")).await.unwrap_err();
    assert!(matches!(&error, SendError::Unreachable { why, .. } if why.contains("535")), "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong horse"));
}
