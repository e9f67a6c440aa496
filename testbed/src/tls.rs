//! A certificate authority made for one test, and a server certificate by it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::StartError;

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

const NEW: [&str; 7] = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];

impl Tls {
    /// Makes a new authority and a certificate for `localhost` and 127.0.0.1 in `dir`.
    pub fn make(dir: &Path) -> Result<Tls, StartError> {
        let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let (ca, ca_key, cert, key) = (file("ca.pem"), file("ca.key"), file("cert.pem"), file("cert.key"));
        openssl(&[&NEW[..], &["-subj", "/CN=weir test CA", "-keyout", &ca_key, "-out", &ca]].concat())?;
        let tls = Tls { ca: ca.into(), cert: cert.into(), key: key.into() };
        tls.issue("/CN=localhost", &tls.cert, &tls.key)?;
        Ok(tls)
    }

    /// Makes another certificate, for a client with this subject, beside the others.
    pub fn client(&self, subject: &str) -> Result<Tls, StartError> {
        let name = subject.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let file = |end: &str| self.ca.with_file_name(format!("client{name}.{end}"));
        let tls = Tls { ca: self.ca.clone(), cert: file("pem"), key: file("key") };
        self.issue(subject, &tls.cert, &tls.key)?;
        Ok(tls)
    }

    fn issue(&self, subject: &str, cert: &Path, key: &Path) -> Result<(), StartError> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (ca, ca_key, cert, key) =
            (text(&self.ca), text(&self.ca.with_extension("key")), text(cert), text(key));
        let leaf = [
            "-subj",
            subject,
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-keyout",
            &key,
            "-out",
            &cert,
        ];
        openssl(&[&NEW[..], &leaf].concat())
    }
}

fn openssl(arguments: &[&str]) -> Result<(), StartError> {
    let name = "openssl".to_owned();
    let output = Command::new("openssl").args(arguments).output();
    let output = output.map_err(|source| StartError::Spawn { name: name.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(StartError::Ended { name, status: output.status.to_string(), log })
}
