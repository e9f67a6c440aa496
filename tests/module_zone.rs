//! A zone of shared memory that is replaced, or too small for what comes.

mod module_common;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use module_common::{KEY, Plan, Site, policy};
use weir_testbed::gateway::key_hash;
use weir_testbed::redis::Redis;
use weir_testbed::wait;

const ON: &str = "location / { weir on; try_files /index.html =404; }
                  location = /metrics { weir_metrics; access_log off; }";

/// Fault 7.
#[test]
fn after_a_zone_of_another_size_the_limits_are_those_that_redis_knows() {
    let redis = Redis::start().unwrap();
    let http = format!("weir_redis {};\nweir_redis_timeout 1s;\n", redis.url());
    let site = Plan::new(&policy("\"20 requests/hour\""), ON).http(&http).start();
    let linked = |times| {
        let said = || site.nginx.error_log().matches("Redis answers").count() == times;
        assert!(wait::until(Duration::from_secs(60), said), "{}", site.nginx.error_log());
    };
    linked(1);
    assert_eq!([(); 15].map(|()| site.get("/").status), [200; 15]);
    let path = site.dir().join("nginx.conf");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("weir_zone 4m;", "weir_zone 5m;")).unwrap();
    site.nginx.reload().unwrap();
    linked(2);
    let admitted = (0..20).filter(|_| site.get("/").status == 200).count();
    // What lay on lease in the old zone stays counted until the lease's end.
    assert!((4..=5).contains(&admitted), "{admitted} of 5");
    assert_eq!(site.nginx.error_log().matches("zone resized from").count(), 1);
}

/// `acme`, with a limit, and `count` more clients with keys `k0`, `k1` ...
fn many(count: usize) -> String {
    let mut text = policy("\"50 requests/hour\"");
    for n in 0..count {
        let _ = writeln!(text, "[clients.c{n}]\nkeys = [\"{}\"]", key_hash(&format!("k{n}")));
    }
    text + "[unknown]\naction = \"limit\"\ntier = \"few\"\n[tiers.few]\nlimits = [\"30 requests/hour\"]\n"
}

/// A site with room for some 400 keys.
fn small(policy: &str) -> Site {
    let plan = Plan::new(policy, ON);
    let (dir, port) = plan.lay_out();
    let config = plan.config(port).replace("weir_zone 4m;", "weir_zone 256k;");
    Site::start(dir, port, &config)
}

/// Sends a request for each of these API keys, many over one connection; returns the statuses.
fn ask_all(site: &Site, keys: impl Iterator<Item = String>) -> Vec<u16> {
    let mut statuses = Vec::new();
    let keys: Vec<String> = keys.collect();
    for keys in keys.chunks(500) {
        let mut requests = String::new();
        for (n, key) in keys.iter().enumerate() {
            let close = if n + 1 == keys.len() { "Connection: close\r\n" } else { "" };
            let _ = write!(requests, "HEAD / HTTP/1.1\r\nHost: a\r\n{close}X-Api-Key: {key}\r\n\r\n");
        }
        let text = site.raw(requests.as_bytes());
        let lines =
            text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse::<u16>().ok());
        statuses.extend(lines);
    }
    assert_eq!(statuses.len(), keys.len());
    statuses
}

/// All told: cells, locks, figures, and what nginx keeps of each page.
#[test]
fn a_key_takes_at_most_512_bytes_of_a_zone() {
    let plan = Plan::new(&policy("\"50 requests/hour\""), ON);
    let (dir, port) = plan.lay_out();
    let site = Site::start(dir, port, &plan.config(port).replace("weir_zone 4m;", "weir_zone 16m;"));
    let keys = site.counted("weir_shm_capacity");
    assert!((16 << 20) / keys <= 511, "room for {keys} keys");
}

/// Fault 13: keys that nobody knows are one client and take one place, however many there are.
#[test]
fn random_keys_share_one_counter_and_take_no_room() {
    let site = small(&many(0));
    assert_eq!(site.remaining("/"), 49);
    let statuses = ask_all(&site, (0..20_000).map(|n| format!("invented-{n}")));
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 30);
    assert_eq!(site.counted("weir_shm_keys"), 2, "the client's and that of everybody else");
    assert_eq!(site.counted("weir_shm_evicted_total"), 0);
    assert_eq!(site.remaining("/"), 48);
    let known = ask_all(&site, (0..60).map(|_| KEY.to_owned()));
    assert_eq!(
        known.iter().filter(|status| **status == 200).count(),
        48,
        "who is known is limited as before"
    );
}

/// Fault 13: more clients than the zone has room for. Nobody is refused for it, a client that is busy
/// keeps its place, and the log says so once.
#[test]
fn a_zone_that_is_too_small_refuses_nobody_and_keeps_the_busy() {
    let site = small(&many(2_000));
    // Every tenth request is the busy client's.
    let keys = (0..2_000).map(|n| if n % 10 == 0 { KEY.to_owned() } else { format!("k{n}") });
    let statuses = ask_all(&site, keys);
    let (busy, others): (Vec<_>, Vec<_>) = statuses.iter().enumerate().partition(|(n, _)| n % 10 == 0);
    assert!(others.iter().all(|(_, status)| **status == 200), "{others:?}");
    let admitted = busy.iter().filter(|(_, status)| **status == 200).count();
    assert_eq!(admitted, 50, "1,800 others came by, and none took its counter");
    assert!(site.counted("weir_shm_evicted_total") > 1_000);
    // A gateway alone forgets the window of each that made room, and says so.
    assert_eq!(site.counted("weir_shm_forgotten_total"), site.counted("weir_shm_evicted_total"));
    let said = || site.nginx.error_log().matches("the zone is full").count();
    assert!(wait::until(Duration::from_secs(60), || said() > 0));
    wait::pass(Duration::from_millis(2_500));
    assert_eq!(said(), 1);
}
