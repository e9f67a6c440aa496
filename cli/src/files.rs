//! `weir files`: the files that count, for engines that would otherwise read a glob.

use std::path::Path;
use std::process::ExitCode;

use weir_analytics::rollup;

use crate::grain::GrainArg;
use crate::installation::{self, Installation};
use crate::step::say;

/// Print the usage files that count: the newest generation of each partition.
#[derive(clap::Args)]
pub struct FilesArgs {
    /// Which roll-up
    #[arg(long, value_enum, default_value_t = GrainArg::Minute)]
    pub grain: GrainArg,
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
        let files = rollup::files(&installation.store, args.grain.grain()).await?;
        let files: Vec<String> = files.into_iter().map(|path| format!("{base}/{path}")).collect();
        if args.json {
            say(&serde_json::to_string(&files).unwrap_or_default());
        } else {
            files.iter().for_each(|file| say(file));
        }
        Ok(true)
    })
}
