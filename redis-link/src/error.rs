//! Why a link can't be made, each with what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a link can't be made of these options. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("no Redis address: give one, such as redis://127.0.0.1:6379/0")]
    NoAddress,
    #[error(
        "{given} Redis addresses: only a single server is supported so far, give the address of \
         the one that takes writes; Sentinel and Cluster are not supported yet"
    )]
    ManyAddresses { given: usize },
    #[error(
        "{url}: {form} is not supported yet; supported are redis://, rediss://, valkey://, \
         valkeys:// and unix:// addresses of a single server that takes writes"
    )]
    Form { url: String, form: &'static str },
    #[error("{url}: {reason}")]
    Url { url: String, reason: &'static str },
    #[error("prefix={prefix:?}: {reason}")]
    Prefix { prefix: String, reason: &'static str },
    #[error("the gateway's name is empty: set weir_gateway")]
    NoGateway,
    #[error("a Redis timeout of 0 leaves no time for any answer: give at least 1 ms")]
    NoTimeout,
    #[error(
        "there is a password in the address and one in password_file: keep the file, take the \
         password out of the address"
    )]
    TwoPasswords,
    #[error("a user without a password: add password_file=FILE")]
    NoPassword,
    #[error("{what} needs TLS: write rediss:// instead of redis://, or remove {what}")]
    NeedsTls { what: &'static str },
    #[error("cert and key belong together: give both or neither")]
    HalfIdentity,
    #[error(
        "{what} {}: {source}; it must be readable by the user that nginx's workers run as",
        path.display()
    )]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{what} {} is open to everyone on this machine: chmod 600 it", path.display())]
    Exposed { what: &'static str, path: PathBuf },
    #[error("password_file {}: {reason}", path.display())]
    Password { path: PathBuf, reason: &'static str },
    #[error("{what} {}: {reason}", path.display())]
    Pem { what: &'static str, path: PathBuf, reason: &'static str },
    #[error("no certificate authority: this machine trusts none, give ca=FILE")]
    NoAuthority,
    #[error("the certificate and the key can't be used: {0}")]
    Identity(#[source] rustls::Error),
    #[error("the thread for Redis can't be started: {0}; look at the limits on processes and files")]
    Thread(#[source] io::Error),
}
