//! A real SMTP server that keeps what it is sent.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::process::Process;
use crate::tls::Tls;
use crate::{StartError, TempDir, parts, ports, temp_dir};

const READY_WITHIN: Duration = Duration::from_secs(60);
pub const USER: &str = "weir";
pub const PASSWORD: &str = "only for this test";

/// A mail server of its own. It requires STARTTLS with a certificate by its own authority, and AUTH
/// as [`USER`] with [`PASSWORD`], unless it was started plain.
pub struct Smtp {
    port: u16,
    /// Of the messages; it outlives the server, so that it can be away and come back.
    mails: PathBuf,
    tls: Option<Tls>,
    process: Option<Process>,
    dir: TempDir,
}

/// One message that was taken.
#[derive(Clone, Debug, Deserialize)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Who had logged in.
    pub user: Option<String>,
    /// The message as it was sent, header and body.
    #[serde(skip)]
    pub text: String,
}

impl Mail {
    /// The subject; a long one goes on in lines that begin with a space.
    pub fn subject(&self) -> String {
        let unfolded = self.text.replace("\r\n ", " ");
        unfolded.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned()
    }

    /// The HTML part as it was sent, encoded; empty when there is none.
    pub fn html(&self) -> &str {
        self.text.split_once("Content-Type: text/html").map_or("", |(_, html)| html)
    }

    pub fn is_to(&self, address: &str) -> bool {
        self.to.iter().any(|to| to == address)
    }
}

impl Smtp {
    /// With STARTTLS and AUTH, running.
    pub fn start() -> Result<Smtp, StartError> {
        let dir = temp_dir();
        let tls = Tls::make(dir.path())?;
        let mails = dir.path().join("mails");
        let mut smtp = Smtp { port: ports::free(), mails, tls: Some(tls), process: None, dir };
        smtp.come_back()?;
        Ok(smtp)
    }

    /// Without TLS and AUTH, keeping messages in `mails`, for the demo.
    pub fn start_plain(mails: &Path) -> Result<Smtp, StartError> {
        let (port, mails, dir) = (ports::free(), mails.to_owned(), temp_dir());
        let mut smtp = Smtp { port, mails, tls: None, process: None, dir };
        smtp.come_back()?;
        Ok(smtp)
    }

    /// Ends the server; connections are then refused.
    pub fn go_away(&mut self) {
        self.process = None;
    }

    /// Starts the server (again) on its port.
    pub fn come_back(&mut self) -> Result<(), StartError> {
        fs::create_dir_all(&self.mails).map_err(StartError::io("making the mails' folder"))?;
        // Not whatever python3 comes first in PATH: aiosmtpd is Debian's, for Debian's Python.
        let mut command = Command::new(parts::program("Python", "/usr/bin/python3")?);
        command.arg(parts::root().join("testbed/smtp_catcher.py"));
        command.arg(self.port.to_string()).arg(&self.mails);
        if let Some(tls) = &self.tls {
            command.arg(&tls.cert).arg(&tls.key).args([USER, PASSWORD]);
        }
        let log = self.dir.path().join("smtp.log");
        let mut process = Process::spawn("smtp_catcher.py", command, &log)?;
        process.ready(READY_WITHIN, || greets(self.port))?;
        self.process = Some(process);
        Ok(())
    }

    /// While set, each message is answered with this, for example `451 4.3.0 try again later`.
    pub fn refuse(&self, answer: Option<&str>) -> std::io::Result<()> {
        let file = self.mails.join("refuse");
        match answer {
            Some(text) => fs::write(file, text),
            None => fs::remove_file(file),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority to trust; `None` when started plain.
    pub fn ca(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.ca.as_path())
    }

    /// All messages taken so far, in order.
    pub fn mails(&self) -> std::io::Result<Vec<Mail>> {
        let mut abouts: Vec<PathBuf> = fs::read_dir(&self.mails)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .collect();
        abouts.sort_unstable();
        abouts.iter().map(|about| read_mail(about)).collect()
    }
}

fn read_mail(about: &Path) -> std::io::Result<Mail> {
    let mut mail: Mail = serde_json::from_slice(&fs::read(about)?)?;
    let message = fs::read(about.with_extension("eml"))?;
    mail.text = String::from_utf8_lossy(&message).into_owned();
    Ok(mail)
}

fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("220 ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Says each line and returns the answers' codes.
    fn converse(port: u16, lines: &[&str]) -> Vec<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let mut code = || loop {
            let mut line = String::new();
            answers.read_line(&mut line).unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line[..3].to_owned();
            }
        };
        let mut codes = vec![code()];
        for line in lines {
            stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
            codes.push(code());
        }
        codes
    }

    #[test]
    fn plain_it_keeps_messages_and_refuses_when_told() {
        let dir = crate::temp_dir();
        let smtp = Smtp::start_plain(dir.path()).unwrap();
        let talk = [
            "EHLO x",
            "MAIL FROM:<a@x.example>",
            "RCPT TO:<b@x.example>",
            "DATA",
            "Subject: s\r\n\r\nt\r\n.",
        ];
        assert_eq!(converse(smtp.port(), &talk), ["220", "250", "250", "250", "354", "250"]);
        smtp.refuse(Some("451 4.3.0 later")).unwrap();
        assert_eq!(converse(smtp.port(), &talk).last().unwrap(), "451");
        let mails = smtp.mails().unwrap();
        assert_eq!(mails.len(), 1);
        assert_eq!((mails[0].from.as_str(), mails[0].tls), ("a@x.example", false));
        assert_eq!(mails[0].to, ["b@x.example"]);
        assert_eq!(mails[0].subject(), "s");
        assert!(mails[0].text.ends_with("\r\n\r\nt\r\n") && mails[0].html().is_empty());
    }

    #[test]
    fn it_wants_tls_and_goes_away_and_comes_back() {
        let mut smtp = Smtp::start().unwrap();
        let codes = converse(smtp.port(), &["EHLO x", "MAIL FROM:<a@x.example>"]);
        assert_eq!(codes[2], "530");
        smtp.go_away();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, smtp.port())).is_err());
        smtp.come_back().unwrap();
        assert!(smtp.mails().unwrap().is_empty());
    }
}
