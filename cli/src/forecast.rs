//! `weir forecast`: how far each calendar quota will go.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use weir_analytics::forecast::{self, Forecast};
use weir_policy::Book;

use crate::columns::{aligned, short, shown};
use crate::grain::spelled;
use crate::installation::{self, CommandError, Installation};
use crate::objectives;
use crate::step::say;

/// Print how much of each quota of a day or month will be used at its end, and when it runs out.
#[derive(clap::Args)]
pub struct ForecastArgs {
    /// Only this client
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Print a JSON object with `forecasts`
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &ForecastArgs) -> ExitCode {
    installation::run("forecast", async {
        let installation = Installation::open(config, None).await?;
        let book = objectives::book(&installation).await?;
        let mut forecasts = read(&installation, &book).await?;
        if let Some(client) = &args.client {
            installation::note_unknown(&book, client);
            forecasts.retain(|f| &f.client == client);
        }
        if args.json {
            say(&json!({ "forecasts": forecasts }).to_string());
        } else if forecasts.is_empty() {
            say("no quota of a day or month that is not used up and has history enough");
        } else {
            say(table(&forecasts).trim_end());
        }
        Ok(true)
    })
}

pub async fn read(installation: &Installation, book: &Book) -> Result<Vec<Forecast>, CommandError> {
    Ok(forecast::read(&installation.store, book, installation.now_us).await?)
}

fn table(forecasts: &[Forecast]) -> String {
    let titles =
        ["CLIENT", "QUOTA", "ENDS", ">USED", ">P10", ">P50", ">P90", "RUNS OUT (P50)", "AT THE EARLIEST"];
    let at = |moment: Option<i64>| moment.map_or_else(|| "-".to_owned(), spelled);
    let row = |f: &Forecast| {
        vec![
            shown(&f.client),
            shown(&f.limit),
            spelled(f.to_us),
            short(f.used as f64),
            short(f.at_end.p10.round()),
            short(f.at_end.p50.round()),
            short(f.at_end.p90.round()),
            at(f.runs_out_us[1]),
            at(f.runs_out_us[0]),
        ]
    };
    aligned(&titles, &forecasts.iter().map(row).collect::<Vec<_>>())
}
