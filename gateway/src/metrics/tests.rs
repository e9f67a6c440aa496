use std::collections::BTreeSet;

use super::*;
use crate::figures::tests::room;
use crate::figures::{Seat, Use};
use crate::gateway::tests::zone;

const TIER: &str = "a \"b\" \\c";

fn told<T>(tell: impl FnOnce(&Metrics<'_>) -> T) -> T {
    let counters = Counters::default();
    counters.decided(Decision::Passed);
    counters.decided(Decision::Passed);
    counters.decided(Decision::RejectedDegraded);
    counters.add(Count::RecordsLost, 7);
    let figures = room(64);
    let one = Use { decision: Decision::Passed, bytes_in: 3, bytes_out: 4, now_s: 1_000 };
    figures.tier(&Seat::of(TIER), TIER, one);
    figures.client(&Seat::of("acme"), "acme", one);
    figures.unknown("203.0.113.9", one);
    let text = "[tiers.t]\nlimits = [\"5 requests/hour\"]\n[clients.acme]\ntier = \"t\"\n";
    let book = Tables::compile(&weir_policy::parse(text).unwrap());
    let now = Now { boot_ms: 1, unix_us: 2 };
    let seen = Seen { figures, book: &book, now, link_up: Some(true), gateways: 2, is_enforced: true };
    tell(&Metrics::of(&counters, zone(), seen))
}

#[test]
fn text_is_openmetrics() {
    let text = told(|metrics| metrics.to_text());
    let wanted = [
        "# TYPE weir_requests counter\n# HELP weir_requests Requests booked, by decision.\n",
        "weir_requests_total{decision=\"PASSED\"} 2\n",
        "weir_requests_total{decision=\"REJECTED_DEGRADED\"} 1\n",
        "weir_tier_requests_total{tier=\"a \\\"b\\\" \\\\c\",decision=\"PASSED\"} 1\n",
        "weir_records_lost_total 7\n",
        "# TYPE weir_shm_keys gauge\n",
        "\nweir_redis_up 1\n",
    ];
    for line in wanted {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    check(&text);
    assert!(!text.contains("acme") && !text.contains("203.0.113.9"), "nobody is named: {text}");
}

/// Holds a text against the rules of OpenMetrics 1.0: each family is described before its samples,
/// whose names follow from its type, no two samples are the same, and the last line is the end.
fn check(text: &str) {
    let body = text.strip_suffix("# EOF\n").expect("it ends");
    let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
    let (mut name, mut kind) = ("", "");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(families.insert(name), "{name} is one run of lines");
            assert!(matches!(kind, "counter" | "gauge"), "{kind}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.starts_with(name) && rest.ends_with('.'), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
            value.parse::<u64>().expect("a number");
            let family = sample.split('{').next().unwrap();
            let wanted = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            assert_eq!(family, wanted, "{line}");
            check_labels(sample[family.len()..].trim_start_matches('{').trim_end_matches('}'));
            assert!(samples.insert(sample), "{sample} stands once");
        }
    }
    assert!(families.len() > 10 && samples.len() > families.len());
}

fn check_labels(mut text: &str) {
    while let Some((name, rest)) = text.split_once("=\"") {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let is_end = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            is_end
        });
        text = rest[end.expect("the value ends") + 1..].trim_start_matches(',');
    }
    assert_eq!(text, "", "nothing but labels");
}

#[test]
fn json_says_the_same_and_names_clients_and_unknown_callers() {
    let read: Value = serde_json::from_str(&told(|metrics| metrics.to_json())).unwrap();
    assert_eq!(read["weir_requests"]["PASSED"], 2);
    assert_eq!(read["weir_records_lost"], 7);
    assert_eq!((&read["weir_redis_up"], &read["weir_gateways"]), (&json!(1), &json!(2)));
    let acme = json!({
        "name": "acme", "tier": "t", "requests": 1, "refused": 0, "bytes_in": 3, "bytes_out": 4,
        "decisions": { "PASSED": 1 },
    });
    assert_eq!(read["clients"], json!([acme]));
    assert_eq!(read["unknown"][0]["name"], "203.0.113.9");
    assert_eq!(read["tiers"][0]["name"], TIER);
    assert_eq!(read["policy"].as_str().unwrap().len(), 16);
}

#[test]
fn the_words_of_the_counters_do_not_overlap() {
    assert_eq!(Count::PolicyProblems as usize, WORDS - 1);
    assert_eq!(Count::Waited as usize, Decision::ALL.len());
}
