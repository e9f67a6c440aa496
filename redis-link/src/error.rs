//! Why a link can't be made, each with what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a link can't be made of these options. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("no Redis address: give one, such as redis://127.0.0.1:6379/0")]
    NoAddress,
    #[error(
        "{given} addresses of single servers: several hosts are those of a Redis Cluster, \
         redis+cluster://HOST:PORT,HOST:PORT, or of Sentinels, redis+sentinel://HOST:PORT,HOST:PORT/MASTER"
    )]
    ManyAddresses { given: usize },
    #[error("{url}: it must have the form, user and master's name of the first address")]
    Mixed { url: String },
    #[error(
        "{url}: {form} is not supported; supported are redis://, redis+sentinel:// and \
         redis+cluster://, each also with rediss, valkey and valkeys, and unix://"
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
    #[error("a user without a password: add {file}=FILE")]
    NoPassword { file: &'static str },
    #[error("{what} is for Sentinels: write redis+sentinel://HOST:PORT,HOST:PORT/MASTER, or remove {what}")]
    NeedsSentinel { what: &'static str },
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
    #[error("{what} {}: {reason}", path.display())]
    Password { what: &'static str, path: PathBuf, reason: &'static str },
    #[error("{what} {}: {reason}", path.display())]
    Pem { what: &'static str, path: PathBuf, reason: &'static str },
    #[error("no certificate authority: this machine trusts none, give ca=FILE")]
    NoAuthority,
    #[error("the certificate and the key can't be used: {0}")]
    Identity(#[source] rustls::Error),
    #[error("the thread for Redis can't be started: {0}; look at the limits on processes and files")]
    Thread(#[source] io::Error),
}
