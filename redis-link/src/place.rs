//! Where Redis is: the addresses of `weir_redis`, read.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use rustls::pki_types::ServerName;

use crate::error::LinkError;
use crate::secret::redact;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    pub name: String,
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// What a connection is made to.
#[derive(Clone, PartialEq)]
pub enum Address {
    Tcp(Host),
    Tls(Host),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host) | Address::Tls(host) => host.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// How the servers are found that take writes.
#[derive(Clone)]
pub enum Place {
    /// There is one.
    One(Address),
    /// Sentinels know the address of the one.
    Sentinel { sentinels: Vec<Host>, master: String },
    /// Each has a part of the keys, and all know which.
    Cluster { seeds: Vec<Host> },
}

/// All that addresses say.
pub struct Addresses {
    pub place: Place,
    pub is_tls: bool,
    pub database: i64,
    pub user: Option<String>,
    pub password: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    One,
    Sentinel,
    Cluster,
}

/// Whether a cloud hands out credentials at this address. They use several of 169.254.0.0/16, where
/// nobody has a server of his own.
pub fn is_metadata(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == Ipv4Addr::new(100, 100, 100, 200),
        IpAddr::V6(v6) => v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    }
}

/// Reads the addresses of one installation. Names are looked at again when they are resolved.
pub fn read(urls: &[String], allow_link_local: bool) -> Result<Addresses, LinkError> {
    let found = read_any(urls)?;
    let hosts: &[Host] = match &found.place {
        Place::One(Address::Tcp(host) | Address::Tls(host)) => std::slice::from_ref(host),
        Place::One(Address::Unix(_)) => &[],
        Place::Sentinel { sentinels: hosts, .. } | Place::Cluster { seeds: hosts } => hosts,
    };
    let is_bad = |host: &Host| host.name.parse().is_ok_and(is_metadata);
    match !allow_link_local && hosts.iter().any(is_bad) {
        true => {
            let url = urls.first().map(|url| redact(url)).unwrap_or_default();
            Err(LinkError::Url {
                url,
                reason: "it is the address of a cloud's metadata; say allow_link_local if it is meant",
            })
        }
        false => Ok(found),
    }
}

fn read_any(urls: &[String]) -> Result<Addresses, LinkError> {
    let (first, others) = urls.split_first().ok_or(LinkError::NoAddress)?;
    let (form, is_tls) = form(first)?;
    if form == Form::One {
        return match others {
            [] => one(first),
            _ => Err(LinkError::ManyAddresses { given: urls.len() }),
        };
    }
    let parts = List::split(first)?;
    let mut hosts = parts.hosts(form)?;
    for url in others {
        let more = List::split(url)?;
        // User and password stand in the first alone, or in each the same.
        let is_like = more.scheme == parts.scheme && more.path == parts.path;
        if !is_like || !(more.login.is_empty() || more.login == parts.login) {
            return Err(LinkError::Mixed { url: redact(url) });
        }
        hosts.extend(more.hosts(form)?);
    }
    let fail = |reason| LinkError::Url { url: redact(first), reason };
    // The library knows how to read a login; the host it needs for that stands for all.
    let info =
        login(&parts, is_tls).ok_or_else(|| fail("the user or password holds what must be written %XX"))?;
    let (place, database) = match form {
        Form::Cluster if matches!(parts.path, "" | "0") => (Place::Cluster { seeds: hosts }, 0),
        Form::Cluster => return Err(fail("a Redis Cluster has no databases: remove what follows the hosts")),
        _ => sentinel(parts.path, hosts).map_err(fail)?,
    };
    let settings = info.redis_settings();
    let (user, password) = (settings.username().map(str::to_owned), settings.password().map(str::to_owned));
    Ok(Addresses { place, is_tls, database, user, password })
}

fn form(url: &str) -> Result<(Form, bool), LinkError> {
    let unsupported = |form| LinkError::Form { url: redact(url), form };
    match url.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default() {
        "redis" | "valkey" | "unix" | "redis+unix" | "valkey+unix" => Ok((Form::One, false)),
        "rediss" | "valkeys" => Ok((Form::One, true)),
        "redis+sentinel" | "valkey+sentinel" => Ok((Form::Sentinel, false)),
        "rediss+sentinel" | "valkeys+sentinel" => Ok((Form::Sentinel, true)),
        "redis+cluster" | "valkey+cluster" => Ok((Form::Cluster, false)),
        "rediss+cluster" | "valkeys+cluster" => Ok((Form::Cluster, true)),
        _ => Err(unsupported("this form of address")),
    }
}

/// The parts of `scheme://login@host:port,host:port/path`.
struct List<'a> {
    url: &'a str,
    scheme: &'a str,
    login: &'a str,
    hosts: &'a str,
    path: &'a str,
}

impl<'a> List<'a> {
    fn split(url: &'a str) -> Result<List<'a>, LinkError> {
        check_tail(url)?;
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(List { url, scheme, login, hosts, path })
    }

    fn hosts(&self, form: Form) -> Result<Vec<Host>, LinkError> {
        let port = if form == Form::Sentinel { SENTINEL_PORT } else { PORT };
        let hosts: Option<Vec<Host>> = self.hosts.split(',').map(|host| self::host(host, port)).collect();
        hosts.ok_or_else(|| LinkError::Url {
            url: redact(self.url),
            reason: "write the hosts as HOST:PORT,HOST:PORT, an IPv6 address in brackets",
        })
    }
}

fn host(text: &str, port: u16) -> Option<Host> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()?),
        _ => (text, port),
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name = inner.unwrap_or(name);
    let is_one = ServerName::try_from(name).is_ok() && (inner.is_some() || !name.contains(':'));
    (is_one && port != 0).then(|| Host { name: name.to_owned(), port })
}

fn login(parts: &List<'_>, is_tls: bool) -> Option<ConnectionInfo> {
    let scheme = if is_tls { "rediss" } else { "redis" };
    let at = if parts.login.is_empty() { "" } else { "@" };
    format!("{scheme}://{}{at}host", parts.login).into_connection_info().ok()
}

/// `master` or `master/database`.
fn sentinel(path: &str, sentinels: Vec<Host>) -> Result<(Place, i64), &'static str> {
    let (master, database) = path.split_once('/').unwrap_or((path, "0"));
    if master.is_empty() || !master.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("name the master that the Sentinels watch: redis+sentinel://HOST:PORT,HOST:PORT/MASTER");
    }
    let database = database.parse().ok().filter(|number| *number >= 0);
    let database = database.ok_or("what follows the master's name is a database's number, 0 or more")?;
    Ok((Place::Sentinel { sentinels, master: master.to_owned() }, database))
}

fn check_tail(url: &str) -> Result<(), LinkError> {
    let fail = |reason| Err(LinkError::Url { url: redact(url), reason });
    let shown = &url[url.rfind('@').map_or(0, |at| at + 1)..];
    if shown.contains('#') {
        return fail("a server's certificate is always checked: remove what follows #, give ca=FILE");
    }
    if shown.contains('?') && !url.contains("unix://") {
        return fail("parameters after ? are not supported: use user=, password_file= and ca=");
    }
    Ok(())
}

fn one(url: &str) -> Result<Addresses, LinkError> {
    let fail = |reason| LinkError::Url { url: redact(url), reason };
    check_tail(url)?;
    if url[url.rfind('@').map_or(0, |at| at + 1)..].contains(',') {
        return Err(fail(
            "a list of hosts is that of a Redis Cluster, redis+cluster://HOST:PORT,HOST:PORT, or of \
                         Sentinels, redis+sentinel://HOST:PORT,HOST:PORT/MASTER",
        ));
    }
    let info = url.into_connection_info().map_err(|_| {
        fail(
            "this is not an address; write redis://HOST:PORT/DATABASE, with a number as database, \
              and special characters of a user or password as %XX",
        )
    })?;
    let settings = info.redis_settings();
    if settings.db() < 0 {
        return Err(fail("the database's number is negative"));
    }
    let address = address(info.addr(), url)?;
    Ok(Addresses {
        is_tls: matches!(address, Address::Tls(_)),
        place: Place::One(address),
        database: settings.db(),
        user: settings.username().map(str::to_owned),
        password: settings.password().map(str::to_owned),
    })
}

fn address(addr: &ConnectionAddr, url: &str) -> Result<Address, LinkError> {
    let host = |name: &String, port: u16| Host { name: name.clone(), port };
    match addr {
        ConnectionAddr::TcpTls { host: name, .. } if ServerName::try_from(name.as_str()).is_err() => {
            let reason = "the host is neither a name nor an address that a certificate can hold";
            Err(LinkError::Url { url: redact(url), reason })
        }
        ConnectionAddr::Unix(path) => Ok(Address::Unix(path.clone())),
        ConnectionAddr::TcpTls { host: name, port, .. } => Ok(Address::Tls(host(name, *port))),
        ConnectionAddr::Tcp(name, port) => Ok(Address::Tcp(host(name, *port))),
        // The library may learn more forms than were tested here.
        other => Err(LinkError::Form { url: redact(&other.to_string()), form: "this address" }),
    }
}
