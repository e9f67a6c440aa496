//! What an operator writes in `weir_redis`, checked without touching the network.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::LinkError;
use crate::place::{Address, Addresses, Host, Place, read};
use crate::secret::{read_password, redact};
use crate::tls::client_config;

/// Where Redis is and how this gateway uses it.
#[derive(Clone)]
pub struct LinkOptions {
    /// One server: `redis://[user:password@]host[:port][/db]` or `unix:///path`. Sentinels:
    /// `redis+sentinel://host[:port],host[:port]/master[/db]`. A Cluster:
    /// `redis+cluster://host[:port],host[:port]`. `rediss` is Redis over TLS; `valkey` and `valkeys`
    /// stand for the same. Hosts of one installation may also stand in addresses of their own.
    pub urls: Vec<String>,
    /// Goes before every key, with a colon; keeps installations on one server apart.
    pub prefix: String,
    pub user: Option<String>,
    /// Read at every connect. Must not be readable by everyone.
    pub password_file: Option<PathBuf>,
    /// For the Sentinels, which have users of their own.
    pub sentinel_user: Option<String>,
    pub sentinel_password_file: Option<PathBuf>,
    /// PEM: who may sign the server's certificate. Without it, whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// PEM: this gateway's own certificate and key, for servers that ask for one.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Also to 169.254.0.0/16 and the like, where clouds hand out credentials.
    pub allow_link_local: bool,
    /// The longest that a transaction may go unanswered before the breaker opens.
    pub timeout: Duration,
    /// This gateway's name in the announcement; the workers of one gateway share it.
    pub gateway: String,
    /// `CLOCK_BOOTTIME` in milliseconds.
    pub clock: fn() -> u64,
}

impl LinkOptions {
    /// Those of the server at `url` where nothing else is said.
    pub fn new(url: &str, clock: fn() -> u64) -> LinkOptions {
        LinkOptions {
            urls: vec![url.to_owned()],
            prefix: "weir".to_owned(),
            user: None,
            password_file: None,
            sentinel_user: None,
            sentinel_password_file: None,
            ca: None,
            cert: None,
            key: None,
            allow_link_local: false,
            timeout: Duration::from_secs(1),
            gateway: "weir".to_owned(),
            clock,
        }
    }
}

impl fmt::Debug for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.urls.iter().map(|url| redact(url)).collect();
        f.debug_struct("LinkOptions")
            .field("urls", &urls)
            .field("prefix", &self.prefix)
            .field("user", &self.user)
            .field("password_file", &self.password_file)
            .field("sentinel_user", &self.sentinel_user)
            .field("sentinel_password_file", &self.sentinel_password_file)
            .field("ca", &self.ca)
            .field("cert", &self.cert)
            .field("key", &self.key)
            .field("allow_link_local", &self.allow_link_local)
            .field("timeout", &self.timeout)
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

/// Options that were found usable.
#[derive(Clone)]
pub struct Plan {
    pub options: LinkOptions,
    pub place: Place,
    pub database: i64,
    is_tls: bool,
    user: Option<String>,
    /// From the address; a password file is read anew at every connect instead.
    password: Option<String>,
}

/// Who this gateway is to a server.
pub struct Credentials {
    pub user: Option<String>,
    pub password: String,
}

impl Plan {
    /// Checks everything that can be checked without a network, files included.
    pub fn new(options: LinkOptions) -> Result<Plan, LinkError> {
        check_names(&options)?;
        let Addresses { place, is_tls, database, user, password } =
            read(&options.urls, options.allow_link_local)?;
        let user = options.user.clone().or(user);
        let plan = Plan { options, place, database, is_tls, user, password };
        plan.check_secrets()?;
        plan.check_tls()?;
        Ok(plan)
    }

    fn check_secrets(&self) -> Result<(), LinkError> {
        let o = &self.options;
        if o.password_file.is_some() && self.password.is_some() {
            return Err(LinkError::TwoPasswords);
        }
        if self.credentials()?.is_none() && self.user.is_some() {
            return Err(LinkError::NoPassword { file: "password_file" });
        }
        let for_sentinels = [
            ("sentinel_user", o.sentinel_user.is_some()),
            ("sentinel_password_file", o.sentinel_password_file.is_some()),
        ];
        match (&self.place, for_sentinels.iter().find(|(_, is_given)| *is_given)) {
            (Place::Sentinel { .. }, Some(_)) if self.sentinel_credentials()?.is_none() => {
                Err(LinkError::NoPassword { file: "sentinel_password_file" })
            }
            (Place::Sentinel { .. }, _) | (_, None) => Ok(()),
            (_, Some((what, _))) => Err(LinkError::NeedsSentinel { what }),
        }
    }

    fn check_tls(&self) -> Result<(), LinkError> {
        if self.is_tls {
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
            Some(path) => Some(read_password("password_file", path)?),
            None => self.password.clone(),
        };
        Ok(password.map(|password| Credentials { user: self.user.clone(), password }))
    }

    /// User and password for Sentinels as they are now.
    pub fn sentinel_credentials(&self) -> Result<Option<Credentials>, LinkError> {
        let user = self.options.sentinel_user.clone();
        let file = self.options.sentinel_password_file.as_deref();
        let password = file.map(|path| read_password("sentinel_password_file", path)).transpose()?;
        Ok(password.map(|password| Credentials { user, password }))
    }

    /// How a host is spoken to.
    pub fn address(&self, host: &Host) -> Address {
        if self.is_tls { Address::Tls(host.clone()) } else { Address::Tcp(host.clone()) }
    }

    /// The longest that a server may take to greet, or to answer what no request waits for.
    pub fn dial_limit(&self) -> Duration {
        self.options.timeout.saturating_mul(10).max(Duration::from_secs(1))
    }

    /// The Redis key that the gateways announce themselves in.
    pub fn gateways_key(&self) -> String {
        format!("{}:gateways", self.options.prefix)
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
