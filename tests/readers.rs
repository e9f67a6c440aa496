//! The books as DuckDB and pyarrow read them: what weir stores and what it exports, with the types that
//! docs/store.md states, and the query that stands there.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use weir_testbed::gateway::key_hash;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::{load, parts, temp_dir};

const KEY: &str = "only-key";
const REQUESTS: i64 = 300;

const RECORDS: &str = "time TIMESTAMP WITH TIME ZONE, gateway VARCHAR, stream VARCHAR, number BIGINT, \
    client VARCHAR, tier VARCHAR, endpoint VARCHAR, method VARCHAR, status INTEGER, latency_us BIGINT, \
    upstream_us BIGINT, bytes_in BIGINT, bytes_out BIGINT, decision VARCHAR, limit VARCHAR, \
    policy_version VARCHAR";
const USAGE: &str = "time TIMESTAMP WITH TIME ZONE, client VARCHAR, tier VARCHAR, endpoint VARCHAR, \
    method VARCHAR, requests BIGINT, status_0 BIGINT, status_1 BIGINT, status_2 BIGINT, status_3 BIGINT, \
    status_4 BIGINT, status_5 BIGINT, passed BIGINT, delayed BIGINT, rejected BIGINT, \
    delayed_dry_run BIGINT, rejected_dry_run BIGINT, passed_degraded BIGINT, delayed_degraded BIGINT, \
    rejected_degraded BIGINT, over BIGINT, over_dry_run BIGINT, over_degraded BIGINT, bytes_in BIGINT, \
    bytes_out BIGINT, latency_sum_us BIGINT, latency_min_us BIGINT, latency_max_us BIGINT, \
    latency MAP(INTEGER, BIGINT), status MAP(INTEGER, BIGINT)";

/// Gateways that have served one client and ended; their books are closed.
fn booked() -> Scene {
    let tier = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"100000 requests/minute\"]\n";
    let policy = format!("{tier}[clients.acme]\nkeys = [\"{}\"]\n", key_hash(KEY));
    let mut scene = Plot::new(&policy).start().unwrap();
    assert!(load::run(scene.plan(KEY, REQUESTS as f64, 1.0)).iter().all(|s| s.status == 200));
    scene.close();
    scene.installation.ok(&["tick"]).unwrap();
    scene
}

/// Runs a program that prints JSON; `arguments` are its `sys.argv[1:]`.
fn python(program: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(parts::python().unwrap());
    let output = command.args(["-c", program]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"))
}

/// Columns with their types, rows, requests and the newest time in microseconds, as DuckDB sees them.
fn in_duckdb(file: &str, count: &str) -> (String, Value) {
    let program = "import duckdb, json, sys\n\
        file = duckdb.read_parquet(sys.argv[1], hive_partitioning=False)\n\
        columns = ', '.join(f'{name} {kind}' for name, kind in zip(file.columns, file.types))\n\
        told = file.aggregate(f'{sys.argv[2]}, epoch_us(max(time)), min(client)').fetchall()[0]\n\
        print(json.dumps([columns, *map(lambda v: v if isinstance(v, str) else int(v), told)]))";
    let told = python(program, &[file, count]);
    (told[0].as_str().unwrap().to_owned(), json!([told[1], told[2], told[3]]))
}

/// The same as pyarrow sees them, and the note about the file.
fn in_pyarrow(file: &str, is_usage: bool) -> (Vec<String>, Value, Value) {
    let program = "import json, sys, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq\n\
        table = pq.ParquetFile(sys.argv[1]).read()\n\
        plain = lambda kind: kind.value_type if pa.types.is_dictionary(kind) else kind\n\
        mapped = lambda kind: f'map<{kind.key_type}, {kind.item_type}>' if pa.types.is_map(kind) else plain(kind)\n\
        kinds = [f'{field.name} {mapped(field.type)}' for field in table.schema]\n\
        count = pc.sum(table['requests']).as_py() if sys.argv[2] == 'true' else table.num_rows\n\
        newest = pc.max(table['time'].cast(pa.int64())).as_py()\n\
        note = json.loads(pq.read_metadata(sys.argv[1]).metadata[b'weir'])\n\
        client = table['client'][0].as_py()\n\
        print(json.dumps([kinds, count, newest, client, note]))";
    let told = python(program, &[file, if is_usage { "true" } else { "false" }]);
    let kinds = serde_json::from_value(told[0].clone()).unwrap();
    (kinds, json!([told[1], told[2], told[3]]), told[4].clone())
}

/// What pyarrow calls a type of DuckDB.
fn arrow_name(columns: &str) -> Vec<String> {
    let names = [
        ("TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC]"),
        ("MAP(INTEGER, BIGINT)", "map<int32, int64>"),
        ("VARCHAR", "string"),
        ("BIGINT", "int64"),
        ("INTEGER", "int32"),
    ];
    // The comma within a type is none between columns.
    let columns = columns.replace("INTEGER, BIGINT", "INTEGER; BIGINT");
    let renamed = |column: &str| {
        let (name, kind) = column.split_once(' ').unwrap();
        let kind = kind.replace(';', ",");
        let known = names.iter().find(|(duckdb, _)| *duckdb == kind).unwrap();
        format!("{name} {}", known.1)
    };
    columns.split(", ").map(renamed).collect()
}

/// Both read the same file alike: types, sums, times and names.
fn read_alike(file: &Path, columns: &str) -> Value {
    let file = file.to_str().unwrap();
    let is_usage = columns == USAGE;
    let count = if is_usage { "sum(requests)" } else { "count(*)" };
    let (duckdb_columns, duckdb) = in_duckdb(file, count);
    let (arrow_columns, arrow, note) = in_pyarrow(file, is_usage);
    assert_eq!(duckdb_columns, columns, "{file}");
    assert_eq!(arrow_columns, arrow_name(columns), "{file}");
    assert_eq!(duckdb, arrow, "{file}");
    assert_eq!((&duckdb[0], &duckdb[2]), (&json!(REQUESTS), &json!("acme")), "{file}");
    note
}

#[test]
fn duckdb_and_pyarrow_read_what_is_stored_with_the_types_that_are_documented() {
    let scene = booked();
    for grain in ["minute", "hour", "day", "month"] {
        let files = scene.installation.json(&["files", "--grain", grain, "--json"]).unwrap();
        let files: Vec<String> = serde_json::from_value(files).unwrap();
        // A run across the end of a step has two files.
        if let [file] = files.as_slice() {
            let note = read_alike(Path::new(file), USAGE);
            assert!(note["streams"].is_object(), "{note}");
        }
    }
    let dir = temp_dir();
    for (grain, columns) in [("day", USAGE), ("hour", USAGE), ("record", RECORDS)] {
        let mut command =
            scene.installation.command(&["export", "--grain", grain, "--format", "parquet"]).unwrap();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file = dir.path().join(format!("{grain}.parquet"));
        fs::write(&file, output.stdout).unwrap();
        let note = read_alike(&file, columns);
        assert_eq!(note["records"], REQUESTS, "{note}");
    }
}

/// The query of docs/store.md tells the percentile that weir tells.
#[test]
fn the_documented_query_gives_the_percentile_of_the_export() {
    let scene = booked();
    let text = fs::read_to_string(parts::root().join("docs/store.md")).unwrap();
    let query = text.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    let files = scene.installation.json(&["files", "--grain", "month", "--json"]).unwrap();
    let file = files[0].as_str().unwrap();
    let list = query.find('[').unwrap()..=query.find(']').unwrap();
    let query = query.replace(&query[list], &format!("['{file}']"));
    let program =
        "import duckdb, json, sys\nprint(json.dumps(duckdb.sql(sys.argv[1]).fetchall(), default=int))";
    let told = python(program, &[&query]);
    let export = scene.installation.json(&["export", "--grain", "month", "--format", "json"]).unwrap();
    let row = &export["rows"][0];
    assert_eq!((&told[0][0], &told[0][1]), (&json!("acme"), &json!(row["requests"])));
    let (theirs, ours) = (told[0][2].as_f64().unwrap(), row["latency_p95_us"].as_f64().unwrap());
    assert!((theirs - ours).abs() <= 0.5, "{theirs} in DuckDB, {ours} by weir");
}
