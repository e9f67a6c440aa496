use super::*;
use crate::testing::{sample_records, told};

fn file(table: &Table) -> Bytes {
    usage_file(&fold(&[table], Grain::Minute).unwrap(), &()).unwrap()
}

fn rows(file: Bytes) -> Vec<String> {
    let (batch, IgnoredAny) = parquet_file::decode(file, "x").unwrap();
    told(&columns::table_from_batch(&batch, "x").unwrap())
}

/// Records cut anywhere into tables and files, merged with hardly any memory.
#[test]
fn however_few_rows_are_in_memory_the_sums_are_the_same() {
    let whole = Table::of_records(&sample_records(1, 300..900));
    let mut rng = fastrand::Rng::with_seed(11);
    for grain in [Grain::Minute, Grain::Hour, Grain::Month] {
        let want = told(&fold(&[&whole], grain).unwrap());
        for rows_at_once in [1, 7, 50, 1_000] {
            let mut merge = Merge { rows: rows_at_once, ..Merge::new(grain) };
            let mut at = 300;
            while at < 900 {
                let to = (at + rng.u64(1..120)).min(900);
                let some = Table::of_records(&sample_records(1, at..to));
                if rng.bool() {
                    merge.table(some).unwrap();
                } else {
                    merge.file(file(&some), "x", Vec::new());
                }
                at = to;
            }
            let merged = merge.finish(&()).unwrap();
            assert_eq!(merged.requests, 600);
            assert_eq!(rows(merged.file), want, "{grain:?}, {rows_at_once} rows at once");
        }
    }
}

#[test]
fn more_files_than_are_open_at_a_time_are_merged_in_turns() {
    let mut merge = Merge { rows: 10, ..Merge::new(Grain::Minute) };
    let mut whole = Vec::new();
    for n in 0..3 * FILES_AT_ONCE as u64 {
        let some = Table::of_records(&sample_records(1, n * 3..n * 3 + 3));
        merge.file(file(&some), "x", Vec::new());
        whole.push(some);
    }
    let want = fold(&whole.iter().collect::<Vec<_>>(), Grain::Minute).unwrap();
    assert_eq!(rows(merge.finish(&()).unwrap().file), told(&want));
}

#[test]
fn steps_that_are_replaced_are_left_out() {
    let whole = fold(&[&Table::of_records(&sample_records(1, 0..900))], Grain::Hour).unwrap();
    let without = whole.time_us[0];
    let mut merge = Merge { rows: 5, ..Merge::new(Grain::Hour) };
    merge.file(file(&whole), "x", vec![without]);
    let want = told(&whole.filtered(|time| time != without));
    assert!(!want.is_empty() && want.len() < whole.len());
    assert_eq!(rows(merge.finish(&()).unwrap().file), want);
}

#[test]
fn nothing_is_merged_to_nothing() {
    let merged = Merge::new(Grain::Day).finish(&()).unwrap();
    assert_eq!((merged.requests, rows(merged.file).len()), (0, 0));
}

/// It would be added up wrongly.
#[test]
fn a_file_that_is_not_sorted_is_refused() {
    let mut unsorted = Table::of_records(&sample_records(1, 0..300));
    unsorted.texts[0].reverse();
    let mut merge = Merge::new(Grain::Minute);
    merge.file(usage_file(&unsorted, &()).unwrap(), "p/q", Vec::new());
    let told = merge.finish(&()).err().unwrap().to_string();
    assert!(told.contains("`p/q`") && told.contains("not sorted"), "{told}");
}

/// Else names would pile up over a large file.
#[test]
fn what_waits_for_more_rows_keeps_the_names_it_uses() {
    let whole = fold(&[&Table::of_records(&sample_records(1, 0..300))], Grain::Minute).unwrap();
    let (mut rest, last) = (whole.clone(), whole.len() - 1);
    let front = rest.take_front(last);
    assert_eq!([told(&front), told(&rest)].concat(), told(&whole));
    assert!(rest.names.list().len() <= 4 && front.names.list().len() > 4);
}
