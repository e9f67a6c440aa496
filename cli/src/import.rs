//! `weir import`: access logs of others into the store.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weir_analytics::import::{ColumnNames, Delimited, Imported, Naming, delimited, without_query};
use weir_policy::Book;

use crate::grain::spelled;
use crate::installation::{self, CommandError, Installation};
use crate::progress::Bar;
use crate::rollup;
use crate::step::{Told, counted};

/// Import a file of requests. Importing it again changes nothing.
#[derive(clap::Args)]
pub struct ImportArgs {
    /// The file
    pub file: PathBuf,
    /// How the file is written
    #[arg(long, value_enum, default_value_t = Format::Delimited)]
    pub format: Format,
    /// What separates the columns; told from the header if not given
    #[arg(long, value_enum)]
    pub delimiter: Option<Delimiter>,
    /// Where lines that can't be read are kept, with their number and the reason; FILE.rejected if not given
    #[arg(long, value_name = "PATH")]
    pub rejected: Option<PathBuf>,
    /// Use this store instead of the configuration's
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub columns: ColumnArgs,
}

/// Columns whose names are not the usual ones.
#[derive(clap::Args)]
pub struct ColumnArgs {
    /// When the request ended: seconds, milliseconds or microseconds since 1970, or ISO 8601
    #[arg(long, value_name = "NAME")]
    pub time_column: Option<String>,
    /// Who sent it
    #[arg(long, value_name = "NAME")]
    pub client_column: Option<String>,
    /// What was asked for: a path, whose query is left out
    #[arg(long, value_name = "NAME")]
    pub endpoint_column: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub method_column: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub status_column: Option<String>,
    /// Bytes of the answer
    #[arg(long, value_name = "NAME")]
    pub bytes_column: Option<String>,
    /// Bytes of the request
    #[arg(long, value_name = "NAME")]
    pub bytes_in_column: Option<String>,
    /// Latency: microseconds if the name ends in _us, milliseconds if in _ms, else seconds
    #[arg(long, value_name = "NAME")]
    pub latency_column: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns between delimiters, their names in the first line
    Delimited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Delimiter {
    Tab,
    Comma,
    Semicolon,
}

impl Delimiter {
    fn byte(self) -> u8 {
        match self {
            Delimiter::Tab => b'\t',
            Delimiter::Comma => b',',
            Delimiter::Semicolon => b';',
        }
    }
}

pub fn run(config: &Path, args: &ImportArgs) -> ExitCode {
    installation::run("import", async {
        let installation = Installation::open(config, args.store.as_deref()).await?;
        let good = import(&installation, args).await?.print(args.json);
        let rolled_up = rollup::step(&installation, false).await?;
        Ok(rolled_up.print(args.json) && good)
    })
}

async fn import(installation: &Installation, args: &ImportArgs) -> Result<Told, CommandError> {
    let Format::Delimited = args.format;
    let how = Delimited { delimiter: args.delimiter.map(Delimiter::byte), names: args.columns.names() };
    let rejected = args.rejected.clone().unwrap_or_else(|| with_suffix(&args.file, ".rejected"));
    let naming = PolicyNaming(installation.book().await?);
    let bar = Bar::new("bytes");
    let mut progress = |done, all| bar.set(done, all);
    let done = delimited(&installation.store, &args.file, &rejected, &how, &naming, &mut progress).await?;
    bar.finish();
    Ok(Told::new("import", line(&done), &done, Vec::new()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn line(done: &Imported) -> String {
    let mut line = format!("{}, {} bytes", counted(done.requests, "request"), done.bytes_out);
    if let (Some(from), Some(to)) = (done.from_us, done.to_us) {
        line += &format!(" from {} to {}", spelled(from), spelled(to));
    }
    if done.new_requests == 0 && done.requests > 0 {
        line += "; all of it was imported before, nothing changed";
    } else if done.new_requests < done.requests {
        line += &format!("; {} of them were imported before", done.requests - done.new_requests);
    }
    if let Some(file) = &done.rejected_file {
        line += &format!("; {} rejected, see {}", counted(done.rejected, "line"), file.display());
    }
    line
}

impl ColumnArgs {
    fn names(&self) -> ColumnNames {
        ColumnNames {
            time: self.time_column.clone(),
            client: self.client_column.clone(),
            endpoint: self.endpoint_column.clone(),
            method: self.method_column.clone(),
            status: self.status_column.clone(),
            bytes_out: self.bytes_column.clone(),
            bytes_in: self.bytes_in_column.clone(),
            latency: self.latency_column.clone(),
        }
    }
}

/// Tiers and endpoint names as the policy has them, if there is one.
struct PolicyNaming(Option<Book>);

impl Naming for PolicyNaming {
    fn tier(&self, client: &str) -> String {
        let known = self.0.as_ref().and_then(|book| book.policy().client(client));
        known.map(|client| client.tier.to_string()).unwrap_or_default()
    }

    fn endpoint(&self, method: &str, path: &str) -> String {
        let path = without_query(path);
        let routed = self.0.as_ref().and_then(|book| book.endpoint(method, path));
        routed.unwrap_or(path).to_owned()
    }
}
