//! `weir files`: the files that count, for engines that would otherwise read a glob.

use std::path::Path;
use std::process::ExitCode;

use weir_analytics::{books, rollup};

use crate::grain::RowsArg;
use crate::installation::{self, Installation};
use crate::step::say;

/// Print the files that count: of usage the newest generation of each partition, of records each once.
#[derive(clap::Args)]
pub struct FilesArgs {
    /// Which roll-up, or records
    #[arg(long, value_enum, default_value_t = RowsArg::Minute)]
    pub grain: RowsArg,
    /// Use this store instead of the configuration's
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &FilesArgs) -> ExitCode {
    installation::run("files", async {
        let installation = Installation::open(config, args.store.as_deref()).await?;
        let url = args.store.as_deref().unwrap_or(&installation.config.storage.url);
        let base = url.trim_start_matches("file://").trim_end_matches('/');
        let files = match args.grain.grain() {
            Some(grain) => rollup::files(&installation.store, grain).await?,
            None => books::record_files(&installation.store).await?,
        };
        let files: Vec<String> = files.into_iter().map(|path| format!("{base}/{path}")).collect();
        if args.json {
            say(&serde_json::to_string(&files).unwrap_or_default());
        } else {
            files.iter().for_each(|file| say(file));
        }
        Ok(true)
    })
}
