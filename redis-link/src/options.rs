//! What an operator writes in `weir_redis`, checked without touching the network.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use rustls::pki_types::ServerName;

use crate::error::LinkError;
use crate::secret::{read_password, redact};
use crate::tls::client_config;

/// Where Redis is and how this gateway uses it.
#[derive(Clone)]
pub struct LinkOptions {
    /// `redis://`, `rediss://`, `valkey://`, `valkeys://` (`[user:password@]host[:port][/db]`) or
    /// `unix:///path`. Exactly one.
    pub urls: Vec<String>,
    /// Goes before every key, with a colon; keeps installations on one server apart.
    pub prefix: String,
    pub user: Option<String>,
    /// Read at every connect. Must not be readable by everyone.
    pub password_file: Option<PathBuf>,
    /// PEM: who may sign the server's certificate. Without it, whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// PEM: this gateway's own certificate and key, for servers that ask for one.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The longest that a transaction may go unanswered before the breaker opens.
    pub timeout: Duration,
    /// This gateway's name in the announcement; the workers of one gateway share it.
    pub gateway: String,
    /// `CLOCK_BOOTTIME` in milliseconds.
    pub clock: fn() -> u64,
}

impl fmt::Debug for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.urls.iter().map(|url| redact(url)).collect();
        f.debug_struct("LinkOptions")
            .field("urls", &urls)
            .field("prefix", &self.prefix)
            .field("user", &self.user)
            .field("password_file", &self.password_file)
            .field("ca", &self.ca)
            .field("cert", &self.cert)
            .field("key", &self.key)
            .field("timeout", &self.timeout)
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

/// The server, as far as the options alone tell.
#[derive(Clone)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix(PathBuf),
}

/// Options that were found usable.
#[derive(Clone)]
pub struct Plan {
    pub options: LinkOptions,
    pub address: Address,
    pub database: i64,
    user: Option<String>,
    /// From the address; a password file is read anew at every connect instead.
    password: Option<String>,
}

/// Who this gateway is to the server.
pub struct Credentials {
    pub user: Option<String>,
    pub password: String,
}

impl Plan {
    /// Checks everything that can be checked without a network, files included.
    pub fn new(options: LinkOptions) -> Result<Plan, LinkError> {
        check_names(&options)?;
        let info = parse(single(&options.urls)?)?;
        let address = address(info.addr())?;
        let settings = info.redis_settings();
        let plan = Plan {
            database: settings.db(),
            user: options.user.clone().or(settings.username().map(str::to_owned)),
            password: settings.password().map(str::to_owned),
            address,
            options,
        };
        plan.check_secrets()?;
        plan.check_tls()?;
        Ok(plan)
    }

    fn check_secrets(&self) -> Result<(), LinkError> {
        let from_file = self.options.password_file.is_some();
        if from_file && self.password.is_some() {
            return Err(LinkError::TwoPasswords);
        }
        match self.credentials()? {
            None if self.user.is_some() => Err(LinkError::NoPassword),
            _ => Ok(()),
        }
    }

    fn check_tls(&self) -> Result<(), LinkError> {
        if matches!(self.address, Address::Tls { .. }) {
            return client_config(&self.options).map(drop);
        }
        let o = &self.options;
        match [("ca", &o.ca), ("cert", &o.cert), ("key", &o.key)].iter().find(|(_, f)| f.is_some()) {
            Some((what, _)) => Err(LinkError::NeedsTls { what }),
            None => Ok(()),
        }
    }

    /// User and password as they are now.
    pub fn credentials(&self) -> Result<Option<Credentials>, LinkError> {
        let password = match &self.options.password_file {
            Some(path) => Some(read_password(path)?),
            None => self.password.clone(),
        };
        Ok(password.map(|password| Credentials { user: self.user.clone(), password }))
    }

    /// The address as it may be shown.
    pub fn shown(&self) -> String {
        self.options.urls.first().map(|url| redact(url)).unwrap_or_default()
    }
}

fn check_names(options: &LinkOptions) -> Result<(), LinkError> {
    let bad_prefix = |reason| Err(LinkError::Prefix { prefix: options.prefix.clone(), reason });
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if options.prefix.is_empty() || options.prefix.len() > 64 {
        return bad_prefix("give 1 to 64 bytes");
    }
    if options.prefix.contains(odd) {
        return bad_prefix("blanks and control characters are not allowed");
    }
    if options.prefix.contains(['{', '}']) {
        return bad_prefix("braces are not allowed, they decide where a key lives in a Cluster");
    }
    if options.gateway.is_empty() {
        return Err(LinkError::NoGateway);
    }
    if options.timeout.is_zero() {
        return Err(LinkError::NoTimeout);
    }
    Ok(())
}

fn single(urls: &[String]) -> Result<&str, LinkError> {
    match urls {
        [] => Err(LinkError::NoAddress),
        [url] => Ok(url),
        _ => Err(LinkError::ManyAddresses { given: urls.len() }),
    }
}

fn parse(url: &str) -> Result<ConnectionInfo, LinkError> {
    let fail = |reason| LinkError::Url { url: redact(url), reason };
    let unsupported = |form| LinkError::Form { url: redact(url), form };
    let scheme = url.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default();
    match scheme {
        "redis" | "rediss" | "valkey" | "valkeys" | "unix" | "redis+unix" | "valkey+unix" => {}
        _ if scheme.contains("sentinel") => return Err(unsupported("Redis Sentinel")),
        _ if scheme.contains("cluster") => return Err(unsupported("Redis Cluster")),
        _ => return Err(unsupported("this form of address")),
    }
    let shown = &url[url.rfind('@').map_or(0, |at| at + 1)..];
    if shown.contains(',') {
        return Err(unsupported("a list of hosts"));
    }
    if shown.contains('#') {
        return Err(fail("a server's certificate is always checked: remove what follows #, give ca=FILE"));
    }
    if shown.contains('?') && !scheme.contains("unix") {
        return Err(fail("parameters after ? are not supported: use user=, password_file= and ca="));
    }
    let info = url.into_connection_info().map_err(|_| {
        fail(
            "this is not an address; write redis://HOST:PORT/DATABASE, with a number as database, \
              and special characters of a user or password as %XX",
        )
    })?;
    check_info(&info).map_err(fail)?;
    Ok(info)
}

fn check_info(info: &ConnectionInfo) -> Result<(), &'static str> {
    if info.redis_settings().db() < 0 {
        return Err("the database's number is negative");
    }
    match info.addr() {
        ConnectionAddr::TcpTls { host, .. } if ServerName::try_from(host.as_str()).is_err() => {
            Err("the host is neither a name nor an address that a certificate can hold")
        }
        _ => Ok(()),
    }
}

fn address(addr: &ConnectionAddr) -> Result<Address, LinkError> {
    match addr {
        ConnectionAddr::Unix(path) => Ok(Address::Unix(path.clone())),
        ConnectionAddr::TcpTls { host, port, .. } => Ok(Address::Tls { host: host.clone(), port: *port }),
        ConnectionAddr::Tcp(host, port) => Ok(Address::Tcp { host: host.clone(), port: *port }),
        // The library may learn more forms than were tested here.
        other => Err(LinkError::Form { url: redact(&other.to_string()), form: "this address" }),
    }
}
