//! Whole files.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::books;
use crate::testing::{roll_up, runtime};
use crate::view::Grain;

fn memory() -> Store {
    Store::new(Arc::new(InMemory::new()))
}

fn import(store: &Store, path: &Path) -> Result<Imported, ImportError> {
    let rejected = path.with_extension("rejected");
    let how = Delimited::default();
    let work = async {
        let done = delimited(store, path, &rejected, &how, &Plain, &mut |_, _| {}).await?;
        roll_up(store, 0).await.unwrap();
        Ok(done)
    };
    runtime().block_on(work)
}

fn write(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.tsv");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn lines_that_cannot_be_read_are_kept_aside_with_number_and_reason() {
    let text = b"host\ttime\turl\tresponse\tbytes\n\
        a\t807256800\t/x?secret=1\t200\t10\n\
        b\tnoon\t/x\t200\t10\n\
        \n\
        c\t807256801\t/\xff\t200\t10\n\
        d\t807256802\t/\"y\t404\t-\n\
        e\t807256803\t/z\n";
    let (folder, path) = write(text);
    let store = memory();
    let done = import(&store, &path).unwrap();
    assert_eq!((done.lines, done.requests, done.rejected, done.bytes_out), (5, 2, 3, 10));
    let kept = fs::read(done.rejected_file.unwrap()).unwrap();
    let kept: Vec<&[u8]> = kept.split(|&b| b == b'\n').collect();
    assert!(kept[0].starts_with(b"3\tthe time") && kept[0].ends_with(b"\tb\tnoon\t/x\t200\t10"));
    assert!(kept[1].starts_with(b"5\tthe endpoint is not UTF-8\tc\t") && kept[1].contains(&0xff));
    assert_eq!(kept[2], b"7\t3 columns where the header has 5\te\t807256803\t/z");
    let books =
        runtime().block_on(books::read(&store, 807_256_000_000_000, 807_260_000_000_000, Grain::Hour, None));
    let rows: Vec<(String, i64)> =
        books.unwrap().platform.rows.iter().map(|r| (r.endpoint.clone(), r.totals.requests)).collect();
    assert_eq!(rows, [("/x".to_owned(), 1), ("/\"y".to_owned(), 1)]);
    drop(folder);
}

#[test]
fn a_file_imported_twice_changes_nothing_and_says_so() {
    let (_folder, path) = write(b"client,time,path,status\nacme,807256800,/,200\nacme,807260400,/,200\n");
    let store = memory();
    assert_eq!(import(&store, &path).unwrap().new_requests, 2);
    let before = runtime().block_on(store.list("")).unwrap();
    let again = import(&store, &path).unwrap();
    assert_eq!((again.requests, again.new_requests, again.rejected_file), (2, 0, None));
    assert_eq!(runtime().block_on(store.list("")).unwrap(), before);
}

#[test]
fn a_file_is_not_imported_once_more_in_another_way() {
    let (_folder, path) = write(b"client,time,path,status,started\nacme,807256800,/,200,807000000\n");
    let store = memory();
    import(&store, &path).unwrap();
    let names = ColumnNames { time: Some("started".to_owned()), ..ColumnNames::default() };
    let how = Delimited { names, delimiter: None };
    let mut nobody = |_, _| {};
    let again = delimited(&store, &path, Path::new("unused"), &how, &Plain, &mut nobody);
    assert!(matches!(runtime().block_on(again), Err(ImportError::Otherwise { .. })));
}

#[test]
fn a_file_without_what_is_needed_is_refused() {
    let (_folder, path) = write(b"");
    assert!(matches!(import(&memory(), &path), Err(ImportError::Empty { .. })));
    let (_folder, path) = write(b"a,b\n1,2\n");
    let told = import(&memory(), &path).unwrap_err().to_string();
    assert!(told.contains("log.tsv") && told.contains("--time-column"), "{told}");
    assert!(matches!(import(&memory(), Path::new("/nowhere/x")), Err(ImportError::Io { .. })));
}

#[test]
fn without_latencies_there_are_no_percentiles() {
    let (_folder, path) = write(b"client,time,path,status\nacme,807256800,/,200\n");
    let store = memory();
    import(&store, &path).unwrap();
    let read = books::read(&store, 807_256_800_000_000, 807_256_860_000_000, Grain::Minute, None);
    let totals = runtime().block_on(read).unwrap().platform.totals;
    assert_eq!((totals.requests, totals.latencies.count(), totals.latencies.quantile_us(0.95)), (1, 0, None));
}

/// Requests and bytes by host, and requests by status, straight from the file.
type Sums = (BTreeMap<String, (i64, i64)>, BTreeMap<u16, i64>);

fn sums_of_file(path: &Path) -> Sums {
    let text = fs::read_to_string(path).unwrap();
    let (mut hosts, mut status) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let host: &mut (i64, i64) = hosts.entry(fields[0].to_owned()).or_default();
        *host = (host.0 + 1, host.1 + fields[6].parse::<i64>().unwrap());
        *status.entry(fields[5].parse().unwrap()).or_default() += 1;
    }
    (hosts, status)
}

#[test]
fn a_day_at_nasa_comes_out_as_it_went_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/nasa_http/nasa_19950801.tsv");
    if !path.exists() {
        assert!(option_env!("CI").is_none(), "{} has to be there", path.display());
        println!("not run: {} is not there", path.display());
        return;
    }
    let (folder, store) = (tempfile::tempdir().unwrap(), memory());
    let rejected = folder.path().join("rejected");
    let how = Delimited {
        names: ColumnNames { client: Some("host".to_owned()), ..ColumnNames::default() },
        delimiter: None,
    };
    let done = runtime().block_on(async {
        let done = delimited(&store, &path, &rejected, &how, &Plain, &mut |_, _| {}).await.unwrap();
        roll_up(&store, 0).await.unwrap();
        done
    });
    assert_eq!((done.requests, done.bytes_out, done.rejected), (30_969, 482_000_467, 0));
    let (hosts, status) = sums_of_file(&path);
    for grain in Grain::ALL {
        let read = books::read(&store, done.from_us.unwrap(), done.to_us.unwrap() + 1, grain, None);
        let books = runtime().block_on(read).unwrap();
        let usage = &books.platform;
        assert_eq!((usage.totals.requests, usage.totals.bytes_out), (30_969, 482_000_467), "{grain:?}");
        assert_eq!(usage.status, status, "{grain:?}");
        let by_host: BTreeMap<String, (i64, i64)> = books
            .clients
            .iter()
            .map(|(id, u)| (id.clone(), (u.totals.requests, u.totals.bytes_out)))
            .collect();
        assert_eq!(by_host, hosts, "{grain:?}");
        assert_eq!((usage.completeness.records, usage.completeness.missing), (30_969, 0));
    }
}
