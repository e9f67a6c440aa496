//! What is allowed but probably not meant.

use weir_policy::parse;

fn warnings(text: &str) -> Vec<String> {
    let policy = parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    policy.warnings().iter().map(ToString::to_string).collect()
}

fn of_limits(limits: &str) -> Vec<String> {
    warnings(&format!("[tiers.t]\nlimits = {limits}\n"))
}

#[test]
fn a_limit_that_another_one_hides() {
    assert_eq!(
        of_limits(r#"["100 requests/minute", "10000 requests/hour"]"#),
        ["2:34: tiers.t.limits[1]: this limit is never reached: \"100 requests/minute\" lets at most \
          6000 through in this window (hour); remove it, or set it below 6000"]
    );
    assert_eq!(of_limits(r#"["100 requests/minute", "6000 requests/hour"]"#).len(), 1);
    assert_eq!(of_limits(r#"["1000 requests/minute", "100 requests/hour"]"#).len(), 1);
    assert_eq!(of_limits(r#"["100 requests/40 seconds", "150 requests/minute"]"#), [""; 0]);
    assert_eq!(of_limits(r#"["100 requests/40 seconds", "200 requests/minute"]"#).len(), 1);
}

#[test]
fn limits_that_can_all_be_reached() {
    for limits in [
        r#"["100 requests/minute", "5999 requests/hour"]"#,
        r#"["100 requests/minute", "10000 units/hour"]"#,
        // Bytes are counted when they are gone: any of the two may be overrun first.
        r#"["1 MB/minute", "100 MB/hour"]"#,
        r#"["0 requests/minute", "0 requests/hour"]"#,
    ] {
        assert_eq!(of_limits(limits), [""; 0], "{limits}");
    }
}

#[test]
fn a_clients_own_limit_that_its_tier_hides() {
    let text = "\
[tiers.t]
limits = [\"100 requests/minute\", \"2000 requests/hour\"]
[clients.a]
tier = \"t\"
keys = [\"sha256:0000000000000000000000000000000000000000000000000000000000000001\"]
limits = ";
    let found = warnings(&format!("{text}[\"9000 requests/hour\"]\n"));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("6:11: clients.a.limits[0]: this limit is never reached"));
    let both = "[\"9000 requests/hour\", \"200 requests/minute\"]\n";
    assert_eq!(warnings(&format!("{text}{both}")), [""; 0], "the tier's minute is replaced");
}

#[test]
fn clients_without_keys_and_exempt_ones_with_limits() {
    let text = "\
[tiers.t]
exempt = true
limits = [\"1 requests/second\"]
[clients.a]
tier = \"t\"
keys = []
limits = [\"2 requests/second\"]
";
    let found = warnings(text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with("3:10: tiers.t.limits: exempt = true beside this"));
    assert!(found[1].starts_with("4:1: clients.a: this client has no API key"));
    assert!(found[2].starts_with("7:10: clients.a.limits: exempt = true beside this"));
}

#[test]
fn endpoint_rules_that_no_route_feeds() {
    let rules = "\
[tiers.t]
limits = [\"9 requests/second\"]
[[tiers.t.endpoints]]
match = \"GET order\"
limits = [\"1 requests/second\"]
[[tiers.t.endpoints]]
match = \"GET /orders/{id}\"
limits = [\"1 requests/second\"]
[[endpoints]]
match = \"* /elsewhere\"
limits = [\"1 requests/second\"]
[[endpoints]]
match = \"POST *\"
limits = [\"1 requests/second\"]
[[endpoints]]
match = \"POST /files/*\"
limits = [\"1 requests/second\"]
";
    let found = warnings(&format!("{rules}[routes]\norder = \"GET /orders/{{id}}\"\n"));
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].contains("did you mean the route's name, \"order\"?"));
    assert!(found[1].contains("no route is called \"/elsewhere\""));
    assert!(found[2].contains("star included"), "a star within a name stands for itself");
    assert_eq!(warnings(rules).len(), 1, "without routes every name comes from elsewhere");
}
