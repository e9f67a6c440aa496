//! The parser by which these tests judge `RateLimit` fields, judged itself: by the test vectors of
//! the HTTP working group (github.com/httpwg/structured-field-tests), which lie beside the project in
//! `shared/data/sf-vectors`, or where `WEIR_SF_VECTORS` says.

// Which vectors are read may be chosen from outside.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sfv::{Dictionary, FieldType, Item, List, Parser};

fn vectors() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/sf-vectors");
    std::env::var_os("WEIR_SF_VECTORS").map_or(beside, PathBuf::from)
}

/// Each value that stands in this field as one, in the one way to write it; `None` for no field.
fn canonical(kind: &str, raw: &str) -> Result<Option<String>, sfv::Error> {
    let parser = Parser::new(raw);
    Ok(match kind {
        "item" => Some(parser.parse::<Item>()?.serialize()),
        "list" => parser.parse::<List>()?.serialize(),
        "dictionary" => parser.parse::<Dictionary>()?.serialize(),
        other => panic!("{other} is no kind of field"),
    })
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn the_parser_of_these_tests_reads_what_the_vectors_say() {
    let mut cases = 0;
    if !vectors().exists() && option_env!("CI").is_none() {
        eprintln!("not run: there are no vectors in {}; set WEIR_SF_VECTORS", vectors().display());
        return;
    }
    for entry in fs::read_dir(vectors()).expect("the vectors are there") {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for case in serde_json::from_str::<Vec<Value>>(&text).unwrap() {
            cases += 1;
            let name = format!("{}: {}", path.display(), case["name"]);
            let (kind, raw) = (case["header_type"].as_str().unwrap(), words(&case["raw"]).join(", "));
            match canonical(kind, &raw) {
                Err(error) => {
                    let may_fail = case["must_fail"] == true || case["can_fail"] == true;
                    assert!(may_fail, "{name}: {error}");
                }
                Ok(written) => {
                    assert_ne!(case["must_fail"], true, "{name}: {written:?}");
                    let wanted = if case["canonical"].is_null() { &case["raw"] } else { &case["canonical"] };
                    let wanted = words(wanted).join(", ");
                    assert_eq!(written.unwrap_or_default(), wanted, "{name}");
                }
            }
        }
    }
    assert!(cases > 1_500, "{cases} cases");
    println!("{cases} vectors");
}
