//! What passes over a limit, in real gateways: up to a ceiling that is as strict as a limit, and told
//! to nginx, which can route it elsewhere.

mod module_common;

use module_common::{KEY, Plan, policy};
use weir_testbed::load::{self, Sample};
use weir_testbed::redis::Redis;
use weir_testbed::scene::{Plot, Scene};
use weir_testbed::windows::most_certain_in_any;

/// One client with these limits and this way of dealing with what is over them.
fn policy_over(limits: &str, over: &str) -> String {
    policy(limits).replace("[routes]", &format!("over = \"{over}\"\n[routes]"))
}

fn spans(samples: &[Sample]) -> Vec<(u64, u64)> {
    samples.iter().filter(|s| s.status == 200).map(|s| (s.sent_us, s.done_us)).collect()
}

#[test]
fn nginx_routes_what_is_over_the_limit_and_refuses_beyond_the_ceiling() {
    let http = "map $weir_status $page { default /index.html; OVER /slow.html; }";
    let server = "location / { weir on; add_header X-Status $weir_status always; try_files $page =404; }
                  location = /metrics { weir_metrics; }";
    let policy = policy_over("\"4 requests/hour\"", "degrade up to 150%");
    let mut site = Plan::new(&policy, server).http(http).start_with("slow.html", "slow\n");
    let answers: Vec<_> = (0..8).map(|_| site.get("/")).collect();
    let seen: Vec<_> = answers.iter().map(|a| (a.status, a.header("X-Status").unwrap())).collect();
    assert_eq!(seen[..4], [(200, "PASSED"); 4]);
    assert_eq!(seen[4..6], [(200, "OVER"); 2]);
    assert_eq!(seen[6..], [(429, "REJECTED"); 2]);
    assert!(answers[..4].iter().all(|a| a.text() == "here\n"));
    assert!(answers[4..6].iter().all(|a| a.text() == "slow\n"));
    let over = &answers[4];
    assert!(over.header("RateLimit").unwrap().starts_with("\"requests-3600s\";r=0;t="), "{over:?}");
    assert_eq!((over.header("Retry-After"), over.header("Cache-Control")), (None, None));
    assert!(answers[6].text().contains("used 4 of 4 requests/hour and all that may pass beyond; retry in "));
    assert_eq!(site.counted("weir_requests_total{decision=\"OVER\"}"), 2);
    site.close();
    assert_eq!(site.log().iter().filter(|line| line.starts_with("200 OVER acme ")).count(), 2);
    assert_eq!(site.records(), 8);
    site.assert_quiet();
}

#[test]
fn the_ceiling_is_as_strict_over_two_gateways_as_the_limit() {
    let redis = Redis::start().unwrap();
    let policy = policy_over("\"80 requests/2 seconds\"", "degrade up to 150%");
    let mut scene = Plot::new(&policy)
        .shared_by_two(&redis.url())
        .options(|options| options.http("weir_redis_timeout 1s;").location("weir_fallback deny;"))
        .start()
        .and_then(Scene::linked)
        .unwrap();
    let samples = load::run(scene.plan(KEY, 1_000.0, 8.0));
    assert!(samples.iter().all(|s| s.status == 200 || s.status == 429), "all were decided");
    let mut admitted = spans(&samples);
    let most = most_certain_in_any(&mut admitted, 2_000_000);
    assert!(most <= 120, "{most} in a window that may hold 80 and 40 beyond them");
    assert!(admitted.len() >= 360, "only {} of 480 were let through", admitted.len());
    scene.close();
    let records = scene.installation.records().unwrap();
    let booked = |word: &str| records.iter().filter(|r| r["decision"] == word).count();
    let (passed, over) = (booked("PASSED"), booked("OVER"));
    assert_eq!((passed + over, records.len()), (admitted.len(), samples.len()));
    assert!(over >= 100 && passed >= 240, "{passed} within the limit, {over} over it");
    let keys = redis.command(&["KEYS", "*{acme}*"]).unwrap();
    let mut names: Vec<_> = keys.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["weir:2:{acme}:requests:2000", "weir:2:{acme}:requests:2000:over"]);
}
