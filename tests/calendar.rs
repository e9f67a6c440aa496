//! Calendar quotas, in a real nginx: they end at midnight where the client lives.

// The tests have to know what time it is.
#![allow(clippy::disallowed_methods)]

mod module_common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use module_common::{KEY, Plan, parameter, policy};
use weir_testbed::gateway::key_hash;
use weir_testbed::http::Request;
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::{load, wait};

const DAY_S: u64 = 86_400;

/// Zones without summer time, and the hours by which they are ahead.
const ZONES: [(&str, u64); 2] = [("Pacific/Kiritimati", 14), ("Asia/Tokyo", 9)];

/// Seconds until midnight, rounded up.
fn left_s(hours_ahead: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let local_s = now.as_secs() + hours_ahead * 3_600;
    DAY_S - local_s % DAY_S
}

/// One of the zones in which midnight is not about to come.
fn far_from_midnight() -> (&'static str, u64) {
    ZONES.into_iter().find(|(_, ahead)| left_s(*ahead) > 600).unwrap()
}

#[test]
fn a_day_quota_is_refused_until_the_clients_midnight() {
    let (zone, ahead) = far_from_midnight();
    let policy = policy("\"2 requests/day\"") + &format!("timezone = \"{zone}\"\n");
    let server = "location / { weir on; } location = /usage { weir_usage; }";
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

#[test]
fn two_gateways_share_a_day_under_a_key_that_expires() {
    let redis = Redis::start().unwrap();
    let (zone, _) = far_from_midnight();
    let policy =
        policy("\"120 requests/day\", \"5000 requests/month\"") + &format!("timezone = \"{zone}\"\n");
    let scene = Plot::new(&policy)
        .shared_by_two(&redis.url())
        .options(|options| options.http("weir_redis_timeout 1s;").location("weir_fallback deny;"))
        .start()
        .and_then(Scene::linked)
        .unwrap();
    let samples = load::run(scene.plan(KEY, 200.0, 3.0));
    let answered = |status| samples.iter().filter(|sample| sample.status == status).count();
    assert_eq!(answered(200) + answered(429), samples.len(), "all were decided");
    assert!((110..=120).contains(&answered(200)), "{} of 120", answered(200));
    let keys = redis.command(&["KEYS", "*{acme}*"]).unwrap();
    for (key, days) in [("{acme}:requests:day:2", 3), ("{acme}:requests:month:2", 33)] {
        let mut names = keys.lines().filter(|name| name.contains(key));
        let name = names.next().unwrap_or_else(|| panic!("no {key} among {keys}"));
        let ttl_s: u64 = redis.command(&["TTL", name]).unwrap().parse().unwrap();
        assert!(ttl_s > days * DAY_S && ttl_s < (2 * days + 1) * DAY_S, "{name} expires in {ttl_s} s");
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// `2026-11-25T13:00:00Z` of seconds since 1970.
fn spelled(at_s: u64) -> String {
    jiff::Timestamp::from_second(at_s as i64).unwrap().to_string()
}

/// Without a new policy: of two keys one ends when the other begins, and so does a grant.
#[test]
fn keys_and_grants_begin_and_end_by_themselves() {
    let (start, end) = (now_s() + 6, now_s() + 12);
    let policy = format!(
        "[unknown]\naction = \"reject\"\n[tiers.t]\nlimits = [\"0 requests/hour\"]\n\
         [clients.acme]\ntier = \"t\"\nexempt = true\nkeys = [{{ hash = \"{}\", not_after = {start} }}, \
         {{ hash = \"{}\", not_before = {start} }}]\n\
         [clients.hooli]\ntier = \"t\"\nkeys = [\"{}\"]\n\
         [[clients.hooli.grants]]\nlimit = \"1000000 requests/hour\"\nfrom = {start}\nuntil = {end}\n\
         reason = \"a sale\"\n",
        key_hash("old"),
        key_hash("new"),
        key_hash("hooli"),
        start = spelled(start),
        end = spelled(end),
    );
    let site = Plan::new(&policy, "location / { weir on; }").start();
    let ask = |key: &str| Request::get(site.port, "/").key(key).send().unwrap().status;
    // What was answered before the time that is stated; a machine that was late has seen nothing.
    let before = |at_s: u64, seen: [u16; 3], expected: [u16; 3]| {
        assert!(now_s() >= at_s || seen == expected, "{seen:?}, not {expected:?}");
    };
    let all = || ["old", "new", "hooli"].map(ask);
    before(start, all(), [200, 403, 429]);
    let later = |key: &str, status: u16| {
        assert!(wait::until(Duration::from_secs(60), || ask(key) == status), "{key}: {}", ask(key));
    };
    later("old", 403);
    later("new", 200);
    assert!(now_s() >= start);
    let granted = wait::until(Duration::from_secs(60), || now_s() >= end || ask("hooli") == 200);
    assert!(granted);
    later("hooli", 429);
    assert!(now_s() >= end, "before the grant ended");
    assert_eq!([ask("old"), ask("new")], [403, 200]);
}
