//! Rows as a Parquet file with the columns of the store (docs/store.md).

use std::io::{self, Write};

use weir_analytics::books;
use weir_analytics::columns::{RECORDS, USAGE, rows_to_batch, table_to_batch};
use weir_analytics::parquet_file::Writer;
use weir_analytics::records::Records;
use weir_analytics::store::Store;
use weir_analytics::table::Table;
use weir_analytics::view::{Completeness, Grain};

use super::out::completeness;
use super::{Wanted, missing};
use crate::installation::CommandError;

/// Writes usage of a grain, or else records. Failures to write are of the inner result, like those of
/// the other formats.
pub async fn write(
    store: &Store,
    grain: Option<Grain>,
    wanted: &Wanted<'_>,
    to: impl Write + Send,
) -> Result<io::Result<()>, CommandError> {
    let schema = if grain.is_some() { USAGE.clone() } else { RECORDS.clone() };
    // Sorted within a partition only, and there may be several.
    let mut out = match Writer::new(to, schema, &[]) {
        Ok(out) => out,
        Err(e) => return Ok(Err(io::Error::other(e))),
    };
    let mut written = Ok(());
    let told = match grain {
        Some(grain) => usage(store, grain, wanted, &mut out, &mut written).await?,
        None => records(store, wanted, &mut out, &mut written).await?,
    };
    Ok(written.and_then(|()| out.finish(&completeness(&told)).map_err(io::Error::other)))
}

async fn usage(
    store: &Store,
    grain: Grain,
    wanted: &Wanted<'_>,
    out: &mut Writer<impl Write + Send>,
    written: &mut io::Result<()>,
) -> Result<Completeness, CommandError> {
    let mut each = |table: &Table, rows: &[usize]| {
        let of_client = |row: &usize| wanted.client(table.names.get(table.texts[0][*row]));
        let rows: Vec<usize> = rows.iter().copied().filter(of_client).collect();
        if written.is_ok() && !rows.is_empty() {
            let batch = table_to_batch(&table.picked(&rows)).map_err(io::Error::other);
            *written = batch.and_then(|batch| out.write(&batch).map_err(io::Error::other));
        }
    };
    Ok(books::rows(store, grain, wanted.range.clone(), &mut each).await?)
}

async fn records(
    store: &Store,
    wanted: &Wanted<'_>,
    out: &mut Writer<impl Write + Send>,
    written: &mut io::Result<()>,
) -> Result<Completeness, CommandError> {
    let mut told = Completeness::default();
    let mut each = |records: &Records| {
        let names = records.names();
        let is_wanted = |row: &&_| -> bool { wanted.record(row, names) };
        let rows: Vec<_> = records.rows().iter().filter(is_wanted).cloned().collect();
        told.records += rows.len() as i64;
        told.complete_to_us = told.complete_to_us.max(rows.iter().map(|row| row.time_us).max());
        if written.is_ok() && !rows.is_empty() {
            let batch = rows_to_batch(records, &rows).map_err(io::Error::other);
            *written = batch.and_then(|batch| out.write(&batch).map_err(io::Error::other));
        }
    };
    books::records(store, wanted.range.clone(), &mut each).await?;
    (told.missing, told.known) = missing(store, wanted).await?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use weir_analytics::parquet_file::decode;
    use weir_metering::{Decision, Record, SpoolOptions, SpoolWriter};

    use super::*;

    const HOUR_US: u64 = 3_600_000_000;

    /// A store with records of two clients in two hours.
    async fn filled(dir: &std::path::Path) -> Store {
        let spool = dir.join("spool");
        let mut writer = SpoolWriter::open(SpoolOptions::new(&spool, "gw"), 1, 5, HOUR_US).unwrap();
        for n in 0..20 {
            let record = Record {
                time_us: HOUR_US * (1 + n % 2) + n,
                client: ["=acme", "globex"][(n / 2 % 2) as usize],
                tier: "t",
                endpoint: "/",
                method: "GET",
                status: 200,
                latency_us: 5,
                upstream_us: None,
                bytes_in: 1,
                bytes_out: 2,
                decision: Decision::Passed,
                limit: "",
                policy_version: 1,
            };
            assert!(writer.append(&record));
        }
        writer.close(HOUR_US * 3);
        let store = Store::open(dir.join("store").to_str().unwrap()).unwrap();
        let done = weir_analytics::collect::collect(&store, &[spool], 3 * HOUR_US as i64).await;
        assert!(done.failed.is_empty(), "{done:?}");
        weir_analytics::rollup::roll_up(&store, 0, &mut |_, _| {}).await.unwrap();
        store
    }

    #[test]
    fn rows_of_a_client_and_a_range_come_back_with_how_complete_they_are() {
        let temp = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = filled(temp.path()).await;
            let from_us = 2 * HOUR_US as i64;
            for (grain, client, range, rows) in [
                (Some(Grain::Minute), None, i64::MIN..i64::MAX, 4),
                (Some(Grain::Hour), Some("=acme"), i64::MIN..i64::MAX, 2),
                (Some(Grain::Hour), None, from_us..i64::MAX, 2),
                (None, None, i64::MIN..i64::MAX, 20),
                (None, Some("globex"), from_us..i64::MAX, 5),
            ] {
                let mut file = Vec::new();
                write(&store, grain, &Wanted { range, client }, &mut file).await.unwrap().unwrap();
                let (batch, note) = decode::<serde_json::Value>(file.into(), "export").unwrap();
                assert_eq!(batch.num_rows(), rows, "{grain:?} {client:?}");
                assert_eq!(note["missing"], 0);
                let schema = if grain.is_some() { USAGE.clone() } else { RECORDS.clone() };
                assert_eq!(batch.schema().fields(), schema.fields());
            }
        });
    }
}
