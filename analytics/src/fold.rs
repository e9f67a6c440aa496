//! The roll-up itself: grouping with Polars.
//!
//! Texts go in as numbers in the order of the names and sums as integers, so Polars groups and sorts
//! fixed-width keys only. Maps are merged from the row numbers of each group.

use polars::prelude::*;

use crate::names::Names;
use crate::table::{Counts, SUMS, TEXTS, Table};
use crate::view::Grain;

/// Polars could not compute; it names the column or expression.
#[derive(Debug, thiserror::Error)]
#[error("the roll-up failed: {0}; please report this")]
pub struct FoldError(#[from] PolarsError);

/// Adds up rows of the same key in steps of a grain.
///
/// The result has one row for each (step, client, tier, endpoint, method), sorted by client,
/// endpoint, time, tier and method. Adding up what is added up already changes nothing, and neither
/// the order of the tables nor that of their rows matters.
pub fn fold(tables: &[&Table], grain: Grain) -> Result<Table, FoldError> {
    let (names, moved) = Names::merged(tables.iter().map(|t| &t.names));
    let grouped = apart(|| group(frame(tables, &moved, grain)?))?;
    let mut folded = Table { names, ..Table::default() };
    folded.time_us = integers(&grouped, "time")?;
    for (column, name) in folded.texts.iter_mut().zip(TEXTS) {
        *column = grouped.column(name)?.u32()?.into_no_null_iter().collect();
    }
    for (column, name) in folded.sums.iter_mut().zip(SUMS) {
        *column = integers(&grouped, name)?;
    }
    folded.latency_min_us = grouped.column("latency_min_us")?.i64()?.iter().collect();
    folded.latency_max_us = grouped.column("latency_max_us")?.i64()?.iter().collect();
    (folded.latency, folded.status) = merge_counts(tables, grouped.column("row")?.list()?)?;
    Ok(folded)
}

/// Runs something on a thread of its own: Polars panics on one that drives a single-threaded tokio
/// runtime, and what runtime the caller has is not our business.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// All tables one below the other as one frame, with a running row number.
fn frame(tables: &[&Table], moved: &[Vec<u32>], grain: Grain) -> Result<DataFrame, PolarsError> {
    let rows: usize = tables.iter().map(|t| t.len()).sum();
    let gather = |pick: &dyn Fn(&Table) -> &Vec<i64>| -> Vec<i64> {
        tables.iter().flat_map(|t| pick(t).iter().copied()).collect()
    };
    let options = |pick: &dyn Fn(&Table) -> &Vec<Option<i64>>| -> Vec<Option<i64>> {
        tables.iter().flat_map(|t| pick(t).iter().copied()).collect()
    };
    let steps: Vec<i64> = tables.iter().flat_map(|t| t.time_us.iter().map(|&us| grain.floor(us))).collect();
    let mut columns = vec![Column::new("time".into(), steps)];
    for (i, name) in TEXTS.into_iter().enumerate() {
        let texts = tables.iter().zip(moved).flat_map(|(t, to)| t.texts[i].iter().map(|&n| to[n as usize]));
        columns.push(Column::new(name.into(), texts.collect::<Vec<u32>>()));
    }
    for (i, name) in SUMS.into_iter().enumerate() {
        columns.push(Column::new(name.into(), gather(&|t| &t.sums[i])));
    }
    columns.push(Column::new("latency_min_us".into(), options(&|t| &t.latency_min_us)));
    columns.push(Column::new("latency_max_us".into(), options(&|t| &t.latency_max_us)));
    columns.push(Column::new("row".into(), (0..rows as u32).collect::<Vec<u32>>()));
    DataFrame::new(rows, columns)
}

fn group(frame: DataFrame) -> Result<DataFrame, PolarsError> {
    let keys = ["client", "endpoint", "time", "tier", "method"];
    let mut sums: Vec<Expr> = SUMS.iter().map(|name| col(*name).sum()).collect();
    sums.push(col("latency_min_us").min());
    sums.push(col("latency_max_us").max());
    sums.push(col("row").implode(false));
    let grouped = frame.lazy().group_by(keys.map(col)).agg(sums);
    grouped.sort(keys, SortMultipleOptions::default()).collect().map(|mut frame| {
        frame.rechunk_mut();
        frame
    })
}

fn integers(frame: &DataFrame, name: &str) -> Result<Vec<i64>, PolarsError> {
    Ok(frame.column(name)?.i64()?.into_no_null_iter().collect())
}

/// For each group the sum of the maps of its rows.
fn merge_counts(tables: &[&Table], groups: &ListChunked) -> Result<(Counts, Counts), PolarsError> {
    let places: Vec<(u32, u32)> = tables
        .iter()
        .enumerate()
        .flat_map(|(t, table)| (0..table.len() as u32).map(move |row| (t as u32, row)))
        .collect();
    let (mut latency, mut status) = (Counts::default(), Counts::default());
    let (mut bins, mut codes) = (Vec::new(), Vec::new());
    for group in groups.amortized_iter().flatten() {
        bins.clear();
        codes.clear();
        for row in group.as_ref().u32()?.into_no_null_iter() {
            let (table, row) = places[row as usize];
            bins.extend(tables[table as usize].latency.row(row as usize));
            codes.extend(tables[table as usize].status.row(row as usize));
        }
        latency.push_sum(&mut bins);
        status.push_sum(&mut codes);
    }
    Ok((latency, status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{sample_records, told};

    #[test]
    fn any_split_and_order_gives_the_same_rows() {
        let whole = Table::of_records(&sample_records(1, 0..500));
        let want = told(&fold(&[&whole], Grain::Minute).unwrap());
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..20 {
            let cut = rng.u64(1..499);
            let a = fold(&[&Table::of_records(&sample_records(1, 0..cut))], Grain::Minute).unwrap();
            let b = Table::of_records(&sample_records(1, cut..500));
            assert_eq!(told(&fold(&[&b, &a], Grain::Minute).unwrap()), want);
        }
    }

    #[test]
    fn coarser_grains_keep_every_sum() {
        let minutes = fold(&[&Table::of_records(&sample_records(2, 0..800))], Grain::Minute).unwrap();
        for grain in [Grain::Hour, Grain::Day, Grain::Month] {
            let coarse = fold(&[&minutes], grain).unwrap();
            assert!(coarse.len() < minutes.len());
            for (fine, coarse) in minutes.sums.iter().zip(&coarse.sums) {
                assert_eq!(fine.iter().sum::<i64>(), coarse.iter().sum::<i64>());
            }
            assert_eq!(coarse.latency.counts.iter().sum::<i64>(), minutes.latency.counts.iter().sum::<i64>());
            assert_eq!(coarse.status.counts.iter().sum::<i64>(), 800);
        }
    }

    #[test]
    fn nothing_folds_to_nothing() {
        assert!(fold(&[], Grain::Day).unwrap().is_empty());
        assert!(fold(&[&Table::default()], Grain::Minute).unwrap().is_empty());
    }
}
