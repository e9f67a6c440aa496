//! A calendar quota, in a real nginx: it ends at midnight where the client lives.

// The test has to know what time it is.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::time::{SystemTime, UNIX_EPOCH};

use module_common::{KEY, Plan, parameter, policy};

const DAY_S: u64 = 86_400;

/// Zones without summer time, and the hours by which they are ahead.
const ZONES: [(&str, u64); 2] = [("Pacific/Kiritimati", 14), ("Asia/Tokyo", 9)];

/// Seconds until midnight, rounded up.
fn left_s(hours_ahead: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let local_s = now.as_secs() + hours_ahead * 3_600;
    DAY_S - local_s % DAY_S
}

#[test]
fn a_day_quota_is_refused_until_the_clients_midnight() {
    // Not in one where it is about to come.
    let (zone, ahead) = ZONES.into_iter().find(|(_, ahead)| left_s(*ahead) > 600).unwrap();
    let policy = policy("\"2 requests/day\"") + &format!("timezone = \"{zone}\"\n");
    let server = "location / { weir on; } location = /usage { weir on; weir_usage; }";
    let mut site = Plan::new(&policy, server).start();

    let before = left_s(ahead);
    for left in [1, 0] {
        let answer = site.get("/");
        let field = answer.header("RateLimit").unwrap();
        assert_eq!((answer.status, parameter(field, "r")), (200, Some(left)), "{field}");
        assert_eq!(answer.header("RateLimit-Policy"), Some("\"requests-day\";q=2;w=86400"));
    }
    let refused = site.get("/");
    let usage: serde_json::Value = serde_json::from_str(&site.get("/usage").text()).unwrap();
    let possible = left_s(ahead)..=before;

    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!(possible.contains(&wait), "{wait} s, but midnight in {zone} is in {possible:?} s");
    let reset = parameter(refused.header("RateLimit").unwrap(), "t").unwrap();
    assert_eq!(reset, wait);
    let problem: serde_json::Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!(problem["detail"], format!("Acme Corp used 2 of 2 requests/day; retry in {wait} s"));
    assert_eq!(problem["violated-policies"], serde_json::json!(["requests-day"]));
    let quota = &usage["limits"][0];
    assert_eq!((&quota["limit"], &quota["remaining"]), (&"2 requests/day".into(), &0.into()));
    assert!(quota["reset_s"].as_u64().is_some_and(|s| possible.contains(&s)), "{usage}");

    // What was used stays used over a reload.
    site.nginx.reload().unwrap();
    assert_eq!(site.request("GET", "/").key(KEY).send().unwrap().status, 429);
    site.close();
    site.assert_quiet();
}
