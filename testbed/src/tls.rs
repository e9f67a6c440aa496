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

impl Tls {
    /// Makes a new authority and a certificate for `localhost` and 127.0.0.1 in `dir`.
    pub fn make(dir: &Path) -> Result<Tls, StartError> {
        let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let (ca, ca_key, cert, key) = (file("ca.pem"), file("ca.key"), file("cert.pem"), file("cert.key"));
        let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
        openssl(&[&new[..], &["-subj", "/CN=weir test CA", "-keyout", &ca_key, "-out", &ca]].concat())?;
        let leaf = [
            "-subj",
            "/CN=localhost",
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
        openssl(&[&new[..], &leaf].concat())?;
        Ok(Tls { ca: ca.into(), cert: cert.into(), key: key.into() })
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
