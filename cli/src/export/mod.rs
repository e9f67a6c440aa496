//! `weir export`: usage as rows, with how complete it is.

mod out;
mod parquet;

use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use weir_analytics::books;
use weir_analytics::completeness::Known;
use weir_analytics::names::Names;
use weir_analytics::records::{Records, Row};
use weir_analytics::store::Store;
use weir_analytics::table::{SUMS, TEXTS, Table};
use weir_analytics::view::{Completeness, Grain, Totals};

use crate::grain::{RowsArg, moment, spelled};
use crate::installation::{self, CommandError, Installation};
use out::{Out, Values};

/// Print usage: a row for each step, client, tier, endpoint and method, or for each request.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// What there is a row of
    #[arg(long, value_enum, default_value_t = RowsArg::Day)]
    pub grain: RowsArg,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    pub format: Format,
    /// From here on (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<i64>,
    /// Until before here (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<i64>,
    /// Only this client
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Use this store instead of the configuration's
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Comma-separated, with a header; how complete it is goes to standard error
    Csv,
    /// One JSON object with `completeness` and `rows`
    Json,
    /// The columns of docs/store.md; how complete it is stands in the file's metadata
    Parquet,
}

/// Percentiles of the latency, by name.
const QUANTILES: [(&str, f64); 3] =
    [("latency_p50_us", 0.5), ("latency_p95_us", 0.95), ("latency_p99_us", 0.99)];

pub fn run(config: &Path, args: &ExportArgs) -> ExitCode {
    installation::run("export", async {
        let installation = Installation::open(config, args.store.as_deref()).await?;
        let mut out = Out::new(args.format, BufWriter::new(io::stdout()));
        let wanted = Wanted {
            range: args.from.unwrap_or(i64::MIN)..args.to.unwrap_or(i64::MAX),
            client: args.client.as_deref(),
        };
        let (store, grain) = (&installation.store, args.grain.grain());
        let written = match args.format {
            Format::Parquet => parquet::write(store, grain, &wanted, BufWriter::new(io::stdout())).await?,
            _ => match grain {
                Some(grain) => usage(store, grain, &wanted, &mut out).await?,
                None => records(store, &wanted, &mut out).await?,
            },
        };
        match written {
            // Whoever read our output has seen enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(true),
            Err(source) => Err(CommandError::Io { what: "cannot write".to_owned(), source }),
            Ok(()) => Ok(true),
        }
    })
}

/// Which rows.
struct Wanted<'a> {
    range: Range<i64>,
    client: Option<&'a str>,
}

impl Wanted<'_> {
    fn client(&self, id: &str) -> bool {
        self.client.is_none_or(|wanted| wanted == id)
    }

    fn record(&self, row: &Row, names: &Names) -> bool {
        self.range.contains(&row.time_us) && self.client(names.get(row.client))
    }
}

async fn usage(
    store: &Store,
    grain: Grain,
    wanted: &Wanted<'_>,
    out: &mut Out<impl Write>,
) -> Result<io::Result<()>, CommandError> {
    let mut written = out.begin(&usage_columns());
    let mut each = |table: &Table, rows: &[usize]| {
        for &row in rows {
            if written.is_ok() && wanted.client(table.names.get(table.texts[0][row])) {
                written = out.row(usage_values(table, row));
            }
        }
    };
    let told = books::rows(store, grain, wanted.range.clone(), &mut each).await?;
    Ok(written.and_then(|()| out.end(&told)))
}

fn usage_columns() -> Vec<&'static str> {
    let ends = ["latency_min_us", "latency_max_us"];
    let quantiles = QUANTILES.map(|(name, _)| name);
    ["time"].into_iter().chain(TEXTS).chain(SUMS).chain(ends).chain(quantiles).collect()
}

fn usage_values(table: &Table, row: usize) -> Values {
    let mut totals = Totals::default();
    books::add_row(&mut totals, table, row);
    let mut values = vec![("time", Value::from(spelled(table.time_us[row])))];
    let text = |i: usize| Value::from(table.names.get(table.texts[i][row]));
    values.extend(TEXTS.iter().enumerate().map(|(i, &name)| (name, text(i))));
    values.extend(SUMS.iter().enumerate().map(|(i, &name)| (name, table.sums[i][row].into())));
    values.push(("latency_min_us", table.latency_min_us[row].into()));
    values.push(("latency_max_us", table.latency_max_us[row].into()));
    let quantile = |q| totals.latencies.quantile_us(q).map(|us| us.round() as i64);
    values.extend(QUANTILES.map(|(name, q)| (name, quantile(q).into())));
    values
}

async fn records(
    store: &Store,
    wanted: &Wanted<'_>,
    out: &mut Out<impl Write>,
) -> Result<io::Result<()>, CommandError> {
    let mut written = out.begin(&RECORD_COLUMNS);
    let mut told = Completeness::default();
    let mut each = |records: &Records| {
        for row in records.rows() {
            if written.is_ok() && wanted.record(row, records.names()) {
                told.records += 1;
                told.complete_to_us = told.complete_to_us.max(Some(row.time_us));
                written = out.row(record_values(records, row));
            }
        }
    };
    books::records(store, wanted.range.clone(), &mut each).await?;
    (told.missing, told.known) = missing(store, wanted).await?;
    Ok(written.and_then(|()| out.end(&told)))
}

/// What is missing has no client and no time but that of its neighbours: the roll-up knows it.
async fn missing(store: &Store, wanted: &Wanted<'_>) -> Result<(i64, Known), CommandError> {
    let told = books::rows(store, Grain::Day, wanted.range.clone(), &mut |_, _| {}).await?;
    Ok((told.missing, told.known))
}

const RECORD_COLUMNS: [&str; 16] = [
    "time",
    "gateway",
    "stream",
    "number",
    "client",
    "tier",
    "endpoint",
    "method",
    "status",
    "latency_us",
    "upstream_us",
    "bytes_in",
    "bytes_out",
    "decision",
    "limit",
    "policy_version",
];

fn record_values(records: &Records, row: &Row) -> Values {
    let text = |at: u32| Value::from(records.names().get(at));
    let values: [Value; 16] = [
        spelled(row.time_us).into(),
        text(row.gateway),
        text(row.stream),
        row.number.into(),
        text(row.client),
        text(row.tier),
        text(row.endpoint),
        text(row.method),
        row.status.into(),
        row.latency_us.into(),
        row.upstream_us.into(),
        row.bytes_in.into(),
        row.bytes_out.into(),
        row.decision.word().into(),
        text(row.limit),
        format!("{:016x}", row.policy_version).into(),
    ];
    RECORD_COLUMNS.into_iter().zip(values).collect()
}
