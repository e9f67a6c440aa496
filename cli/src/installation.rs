//! What most commands begin with: the configuration, the store, the policy, the time.

use std::fmt::Display;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weir_analytics::import::ImportError;
use weir_analytics::parquet_file::FileError;
use weir_analytics::quota::QuotaError;
use weir_analytics::rollup::RollupError;
use weir_analytics::store::{Store, StoreError};
use weir_policy::{Book, Problem, parse_bytes};
use weir_redis_link::DeskError;

use crate::clock;
use crate::config::{Config, ConfigError};
use crate::published;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Cube(#[from] weir_analytics::cube::CubeError),
    #[error(transparent)]
    Rollup(#[from] RollupError),
    #[error(transparent)]
    Quota(#[from] QuotaError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Render(#[from] weir_reports::RenderError),
    #[error("cannot read the policy {}: {source}; name a policy file that this user may read, here or as [policy] file in weir.toml", path.display())]
    ReadPolicy { path: PathBuf, source: io::Error },
    #[error("{}:\n{}", wrong(path), lines(problems))]
    Policy { path: PathBuf, problems: Vec<Problem> },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{error}{}", what_of(error))]
    Desk {
        #[from]
        error: DeskError,
    },
    /// It can not or must not be done, for the reason that the words give.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Usage(String),
}

/// Not every policy is a file.
fn wrong(path: &Path) -> String {
    match path.is_file() {
        true => format!("the policy {0} is wrong; run `weir check {0}`", path.display()),
        false => format!("{} is wrong", path.display()),
    }
}

/// What to do where Redis itself is the trouble; other errors say so.
fn what_of(error: &DeskError) -> &'static str {
    match error {
        DeskError::Redis(_) => "; start it, or correct [redis] in weir.toml: `weir doctor` looks at it",
        DeskError::NoText(_) => "; publish a policy with `weir apply`",
        _ => "",
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("  {p}\n")).collect()
}

/// An installation at work.
pub struct Installation {
    pub config: Config,
    pub store: Store,
    /// When the command began, microseconds UTC.
    pub now_us: i64,
}

impl Installation {
    /// Reads the configuration, and opens and checks the store: `store_url`, or else the
    /// configuration's. With a URL of its own a command needs no configuration.
    pub async fn open(path: &Path, store_url: Option<&str>) -> Result<Installation, CommandError> {
        let config = match (Config::read(path), store_url) {
            (Err(ConfigError::Read { source, .. }), Some(_)) if source.kind() == io::ErrorKind::NotFound => {
                Config::default()
            }
            (read, _) => read?,
        };
        let url = match store_url {
            Some(url) => url,
            None => config.storage_url(path)?,
        };
        let store = Store::open(url)?;
        store.check(nonce()?).await?;
        Ok(Installation { config, store, now_us: clock::now_us() })
    }

    /// The policy, if the installation names one: its file, else what is published.
    pub async fn book(&self) -> Result<Option<Book>, CommandError> {
        let Some(path) = &self.config.policy.file else {
            return published::book(&self.config).await;
        };
        let text =
            fs::read(path).map_err(|source| CommandError::ReadPolicy { path: path.clone(), source })?;
        let policy =
            parse_bytes(&text).map_err(|problems| CommandError::Policy { path: path.clone(), problems })?;
        Ok(Some(Book::compile(policy)))
    }
}

/// Said where a command can do nothing without a policy.
pub const NO_POLICY: &str =
    "there is no policy; set [policy] file in weir.toml, or publish one with `weir apply POLICY`";

/// Says that the policy does not know a client that somebody asks for: it may be misspelt. The books may
/// know it all the same.
pub fn note_unknown(book: &Book, client: &str) {
    if book.policy().client(client).is_none() {
        eprintln!("the policy has no client {client:?}; see `weir client list`");
    }
}

fn nonce() -> Result<u128, CommandError> {
    let random = clock::random::<16>();
    let failed = |source| CommandError::Io { what: "cannot read /dev/urandom".to_owned(), source };
    Ok(u128::from_le_bytes(random.map_err(failed)?))
}

/// Runs a command's future to its end. `false` and errors are exit status 1, wrong usage is 2.
pub fn run<F>(command: &str, future: F) -> ExitCode
where
    F: Future<Output = Result<bool, CommandError>>,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(command, &e),
    };
    match runtime.block_on(future) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e @ CommandError::Usage(_)) => {
            failed(command, &e);
            ExitCode::from(2)
        }
        Err(e) => failed(command, &e),
    }
}

fn failed(command: &str, error: &dyn Display) -> ExitCode {
    eprintln!("weir {command}: {error}");
    ExitCode::FAILURE
}
