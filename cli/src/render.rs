//! `weir render`: the pages.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use weir_analytics::books::{self, Books, Each};
use weir_analytics::calendar::{DAY_US, HOUR_US, MINUTE_US};
use weir_analytics::cube;
use weir_analytics::quota;
use weir_analytics::recent;
use weir_analytics::view::{Grain, QuotaFinding, Usage};
use weir_policy::Policy;
use weir_reports::{SiteInput, render_site};

use crate::findings::Now;
use crate::grain::{GrainArg, moment};
use crate::installation::{self, CommandError, Installation};
use crate::mail::directories;
use crate::step::{Told, counted};
use crate::unusual;

/// Findings of this many days are shown.
pub const FINDING_DAYS: u32 = 7;

/// How old the data that pages explore may be.
const DATA_US: i64 = 5 * MINUTE_US;

/// What usage is compared with.
const WEEK_US: i64 = 7 * DAY_US;

/// Render the pages, and nothing else.
#[derive(clap::Args)]
pub struct RenderArgs {
    /// Show usage from here on (UTC); a day before the end, if not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<i64>,
    /// Show usage until before here (UTC); now, or the end of the newest records, if not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<i64>,
    /// Steps of the charts
    #[arg(long, value_enum)]
    pub grain: Option<GrainArg>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &RenderArgs) -> ExitCode {
    installation::run("render", async {
        let installation = Installation::open(config, None).await?;
        let Some(book) = installation.book().await? else { return Ok(no_policy().print(args.json)) };
        let (store, now_us) = (&installation.store, installation.now_us);
        let findings = quota::find(store, &book, now_us, FINDING_DAYS).await?;
        let books = match (args.from, args.to, args.grain) {
            (None, None, None) => recent(&installation, book.policy(), None).await?,
            _ => asked(&installation, book.policy(), args).await?,
        };
        let now = Now::read(&installation, &book).await?;
        Ok(step(&installation, book.policy(), &findings, Some(&now), books).await?.print(args.json))
    })
}

/// What is said when the pages can't be made.
pub fn no_policy() -> Told {
    Told::skipped("render", "weir.toml names no [policy] file, and nothing is published")
}

/// Renders the pages of some usage.
pub async fn step(
    installation: &Installation,
    policy: &Policy,
    findings: &[QuotaFinding],
    now: Option<&Now>,
    books: Books,
) -> Result<Told, CommandError> {
    let Some(site) = &installation.config.site else {
        return Ok(Told::skipped("render", "there is no [site] in weir.toml"));
    };
    let (platform, store) = (&books.platform, &installation.store);
    let named = |id: &str| policy.client(id).is_some();
    let each = Each { named: &named, ..Each::BUSIEST };
    let before = platform.from_us - WEEK_US..platform.to_us - WEEK_US;
    let previous = books::read_of(store, before, platform.series.grain, None, each).await?.platform;
    let recent = recent::read(store, DAY_US, installation.now_us).await?;
    let anomalies = unusual::find(installation).await?;
    let data = match is_due(&site.dir, installation.now_us) {
        true => Some(cube::read(store, platform.to_us, each).await?),
        false => None,
    };
    let clients: Vec<(String, Usage)> = books.clients.into_iter().collect();
    let endpoints: Vec<(String, Usage)> = books.endpoints.into_iter().collect();
    let input = SiteInput {
        now_us: installation.now_us,
        policy,
        overview: &books.platform,
        previous: Some(&previous),
        clients: &clients,
        endpoints: &endpoints,
        recent: &recent,
        anomalies: &anomalies,
        promises: now.map(|now| now.promises.as_slice()),
        forecasts: now.map_or(&[], |now| now.forecasts.as_slice()),
        data: data.as_ref(),
        live: &site.live,
        live_usage: site.live_usage.as_deref(),
        findings,
        public_url: site.public_url.as_deref(),
        directories: &directories(installation).await?,
    };
    let report = render_site(&input, &site.dir, &site.portal_dir)?;
    let (pages, portals) = (counted(report.pages as u64, "page"), counted(report.portals as u64, "portal"));
    let line = format!("{pages}, {portals}, {} kB", report.bytes / 1000);
    let done = serde_json::json!({ "pages": report.pages, "portals": report.portals, "bytes": report.bytes });
    Ok(Told::new("render", line, &done, Vec::new()))
}

/// Whether the data that pages explore is due: reading a month of hours every minute would be waste.
fn is_due(site: &Path, now_us: i64) -> bool {
    let written = fs::metadata(site.join("data/hour-total.parquet")).and_then(|file| file.modified());
    let age = written.ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    age.is_none_or(|at| now_us - i64::try_from(at.as_micros()).unwrap_or(0) >= DATA_US)
}

async fn asked(
    installation: &Installation,
    policy: &Policy,
    args: &RenderArgs,
) -> Result<Books, CommandError> {
    let to_us = args.to.unwrap_or(installation.now_us);
    let from_us = args.from.unwrap_or(to_us - DAY_US);
    let grain = args.grain.map_or_else(|| grain_of(to_us - from_us), GrainArg::grain);
    read(installation, policy, from_us..to_us, grain, None).await
}

/// Steps that make some dozens to some hundred points.
fn grain_of(span_us: i64) -> Grain {
    match span_us / HOUR_US {
        ..3 => Grain::Minute,
        3..200 => Grain::Hour,
        200..10_000 => Grain::Day,
        _ => Grain::Month,
    }
}

/// The last day of usage: up to now, or up to the newest records where those are older than that. A
/// day that has hardly begun is shown by minutes.
pub async fn recent(
    installation: &Installation,
    policy: &Policy,
    complete_to_us: Option<i64>,
) -> Result<Books, CommandError> {
    let (store, now_us) = (&installation.store, installation.now_us);
    let newest_us = books::newest_hour(store).await?;
    let to_us = match newest_us {
        Some(hour) if hour < now_us - DAY_US || hour > now_us => hour + HOUR_US,
        _ => now_us,
    };
    let day = read(installation, policy, to_us - DAY_US..to_us, Grain::Hour, complete_to_us).await?;
    let hours: Vec<i64> = day.platform.series.points.iter().map(|(at, _)| *at).collect();
    match (hours.first(), hours.last()) {
        (Some(&first), Some(&last)) if last - first <= 2 * HOUR_US => {
            let to_us = to_us.min(last + HOUR_US);
            read(installation, policy, first..to_us, Grain::Minute, complete_to_us).await
        }
        _ => Ok(day),
    }
}

/// Each client of the policy has pages, and so have the busiest of those who are not in it.
async fn read(
    installation: &Installation,
    policy: &Policy,
    range: Range<i64>,
    grain: Grain,
    complete_to_us: Option<i64>,
) -> Result<Books, CommandError> {
    let named = |id: &str| policy.client(id).is_some();
    let each = Each { named: &named, ..Each::BUSIEST };
    Ok(books::read_of(&installation.store, range, grain, complete_to_us, each).await?)
}
