//! Which mail server, and how to talk to it safely.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use thiserror::Error;
use url::{Host, Url};

/// `[mail]` of the installation, with the password out of its file.
#[derive(Clone, Default)]
pub struct MailOptions {
    /// `smtp://[user@]host[:587]` demands STARTTLS, `smtps://[user@]host[:465]` is TLS from the first
    /// byte, `smtp+plain://host[:25]` is without TLS and for servers on this machine alone.
    pub url: String,
    /// Belongs to the user in the address.
    pub password: Option<String>,
    /// PEM; when given, only these authorities are trusted, else those of the system.
    pub ca_file: Option<PathBuf>,
    /// How long each step may take; 30 s when zero.
    pub timeout: Duration,
}

#[derive(Debug, Error)]
pub enum MailerError {
    #[error(
        "[mail] url {url:?} is no address of a mail server; write smtp://host, smtps://host or, on this machine, smtp+plain://127.0.0.1:25"
    )]
    Url { url: String },
    #[error("[mail] url holds a password; put it into a file and name that as password_file")]
    PasswordInUrl,
    #[error(
        "[mail] url smtp+plain:// sends mails unprotected and is only for 127.0.0.1, [::1] and localhost, not for {host}; use smtp:// or smtps://"
    )]
    PlainToOthers { host: String },
    #[error(
        "[mail] has a user without a password, or a password without a user; write smtp://user@host and password_file, or neither"
    )]
    HalfCredentials,
    #[error("cannot use {path} as ca_file: {why}; it has to hold certificates in PEM form")]
    Ca { path: PathBuf, why: String },
    #[error("cannot set up TLS: {0}; name a ca_file or install the system's certificates")]
    Tls(String),
}

/// How the connection is protected.
pub(super) enum Security {
    Plain,
    StartTls(TlsParameters),
    Tls(TlsParameters),
}

/// Checked options.
pub(super) struct Server {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub credentials: Option<Credentials>,
    pub timeout: Duration,
}

impl Server {
    pub fn new(options: &MailOptions) -> Result<Server, MailerError> {
        let wrong = || MailerError::Url { url: without_password(&options.url) };
        let url = Url::parse(&options.url).map_err(|_| wrong())?;
        if url.password().is_some() {
            return Err(MailerError::PasswordInUrl);
        }
        let host = host(&url).ok_or_else(wrong)?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(wrong());
        }
        let (security, port) = match url.scheme() {
            "smtp" => (Security::StartTls(tls(&host, options)?), 587),
            "smtps" => (Security::Tls(tls(&host, options)?), 465),
            "smtp+plain" if is_this_machine(&host) => (Security::Plain, 25),
            "smtp+plain" => return Err(MailerError::PlainToOthers { host }),
            _ => return Err(wrong()),
        };
        let timeout = if options.timeout.is_zero() { Duration::from_secs(30) } else { options.timeout };
        Ok(Server {
            host,
            port: url.port().unwrap_or(port),
            security,
            credentials: credentials(&url, options)?,
            timeout,
        })
    }
}

fn host(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain("") => None,
        Host::Domain(name) => Some(name.to_string()),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An address that cannot be parsed may hold a password all the same; it must not reach a log.
fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_string(),
    }
}

fn credentials(url: &Url, options: &MailOptions) -> Result<Option<Credentials>, MailerError> {
    match (url.username(), &options.password) {
        ("", None) => Ok(None),
        ("", Some(_)) | (_, None) => Err(MailerError::HalfCredentials),
        (user, Some(password)) => Ok(Some(Credentials::new(decoded(user), password.clone()))),
    }
}

/// Undoes the percent encoding of a user name, which often is a mail address.
fn decoded(user: &str) -> String {
    let encoded = format!("u={}", user.replace('+', "%2B"));
    url::form_urlencoded::parse(encoded.as_bytes())
        .next()
        .map_or_else(String::new, |(_, user)| user.into_owned())
}

fn tls(host: &str, options: &MailOptions) -> Result<TlsParameters, MailerError> {
    let mut builder = TlsParameters::builder(host.to_string());
    if let Some(path) = &options.ca_file {
        let failed = |why: String| MailerError::Ca { path: path.clone(), why };
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let authority = Certificate::from_pem(&pem).map_err(|error| failed(error.to_string()))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authority);
    }
    builder.build_rustls().map_err(|error| MailerError::Tls(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str, password: Option<&str>) -> Result<Server, MailerError> {
        Server::new(&MailOptions {
            url: url.to_string(),
            password: password.map(str::to_string),
            ..MailOptions::default()
        })
    }

    #[test]
    fn each_scheme_has_its_port_and_protection() {
        let starttls = server("smtp://mail.example.com", None).unwrap();
        assert_eq!((starttls.port, matches!(starttls.security, Security::StartTls(_))), (587, true));
        let tls = server("smtps://ops%40example.com@mail.example.com:4650", Some("secret")).unwrap();
        assert_eq!((tls.port, matches!(tls.security, Security::Tls(_))), (4650, true));
        assert!(tls.credentials.is_some());
        assert_eq!(decoded("ops%40example.com"), "ops@example.com");
        assert_eq!(decoded("a+b"), "a+b");
    }

    #[test]
    fn without_tls_it_goes_to_this_machine_alone() {
        for host in ["127.0.0.1", "[::1]", "localhost"] {
            let plain = server(&format!("smtp+plain://{host}:2525"), None).unwrap();
            assert!(matches!(plain.security, Security::Plain), "{host}");
            assert_eq!(plain.port, 2525);
        }
        for host in ["mail.example.com", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com"] {
            let error = server(&format!("smtp+plain://{host}"), None).err().unwrap();
            assert!(matches!(error, MailerError::PlainToOthers { .. }), "{host}");
        }
    }

    #[test]
    fn secrets_stay_out_of_addresses_and_messages() {
        for url in [
            "smtp://user:hunter2@mail.example.com",
            "smtp//user:hunter2@mail.example.com",
            "imap://u:hunter2@h",
        ] {
            let error = server(url, None).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(matches!(server("smtp://user@host", None).err(), Some(MailerError::HalfCredentials)));
        assert!(matches!(server("smtp://host", Some("x")).err(), Some(MailerError::HalfCredentials)));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["", "mail.example.com", "smtp://", "http://mail.example.com", "smtp://host/path"] {
            assert!(matches!(server(url, None).err(), Some(MailerError::Url { .. })), "{url}");
        }
    }
}
