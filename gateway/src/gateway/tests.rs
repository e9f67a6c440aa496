//! Walks of real requests through a gateway alone, over a zone in this process.

use std::fs;
use std::path::Path;

use weir_metering::{Entry, Segment, SpoolOptions, sealed_segments};

use super::*;
use crate::settings::{FallbackMode, Headers};
use crate::walk::{Reason, Verdict};

const KEY: &[u8] = b"acme-key";

/// A zone of its own, for the life of the test.
pub(crate) fn zone() -> Table {
    let words: &'static mut [u64] = vec![0u64; 32 << 10].leak();
    // SAFETY: the memory is aligned to 8, leaked, and used for nothing else.
    unsafe { Table::create(words.as_mut_ptr().cast(), size_of_val(words), [1, 2]) }.unwrap()
}

fn policy() -> String {
    let hash = weir_policy::spell_hash(&weir_policy::hash_key(KEY));
    format!(
        r#"
default_tier = "basic"
[tiers.basic]
limits = ["3 requests/minute", "1 KB/hour"]
[tiers.free]
limits = []
exempt = true
[clients.acme]
name = "Acme Corp"
keys = ["{hash}"]
[clients.costly]
limits = ["10 units/minute"]
[clients.dry]
dry_run = true
[clients.friend]
tier = "free"
"#
    )
}

pub(super) struct Scene {
    dir: tempfile::TempDir,
    pub gateway: Gateway,
    pub now: Now,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(&policy())
    }

    pub fn with(policy: &str) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        fs::write(&path, policy).unwrap();
        let spool = dir.path().join("spool");
        let now = Now { boot_ms: 1_000_000, unix_us: 1_800_000_000_000_000 };
        let gateway = start(&path, &spool, now);
        Scene { dir, gateway, now }
    }

    pub fn advance(&mut self, ms: u64) {
        self.now.boot_ms += ms;
        self.now.unix_us += ms * 1_000;
        self.gateway.tick(self.now);
        self.gateway.reader.settle();
        self.gateway.receive(|| self.now.boot_ms);
    }

    pub fn ask(&mut self, facts: &RequestFacts<'_>) -> Token {
        self.gateway.admit(self.now, facts, Rules::default())
    }

    pub fn fields(&self, token: Token) -> Vec<(String, String)> {
        let mut told = Vec::new();
        self.gateway.fields(token, |name, value| told.push((name.into(), value.concat())));
        told
    }

    /// What the caller is told of its own limits.
    pub fn usage(&mut self, facts: &RequestFacts<'_>) -> String {
        let token = self.gateway.look(self.now, facts);
        let usage = self.gateway.usage(token).unwrap();
        assert!(self.fields(token).is_empty(), "a look is no request");
        self.gateway.finish(self.now, token, &DONE);
        self.gateway.release(token);
        usage
    }

    fn verdict(&mut self, facts: &RequestFacts<'_>) -> Verdict {
        let token = self.ask(facts);
        self.gateway.walk(token).unwrap().verdict()
    }

    /// Rewrites the policy as an editor does, and lets the gateway see it.
    pub fn edit(&mut self, text: &str) -> Vec<String> {
        fs::write(self.dir.path().join("policy.toml"), text).unwrap();
        self.watch(6)
    }

    fn watch(&mut self, seconds: u64) -> Vec<String> {
        for _ in 0..seconds * 4 {
            self.advance(250);
        }
        self.gateway.take_lines().into_iter().map(|line| line.text).collect()
    }
}

fn start(policy: &Path, spool: &Path, now: Now) -> Gateway {
    let (book, file) = crate::PolicyFile::open(policy).unwrap();
    let options = GatewayOptions {
        counters: Box::leak(Box::default()),
        figures: crate::figures::tests::room(64),
        link: None,
        spool: Some(SpoolOptions::new(spool, "gw1")),
        policy: Source::File(file),
        book,
        gateways_min: 1,
        owner: 1,
        alive: |_| true,
        boot: 1,
        random: || 7,
        trim: || {},
        first_life: 1,
    };
    Gateway::start(options, zone(), now, Box::new(|| {})).unwrap()
}

fn acme() -> RequestFacts<'static> {
    RequestFacts { key: KEY, method: b"GET", place: b"/api/", cost: 1, ..Default::default() }
}

pub(super) fn client(id: &'static str, cost: u64) -> RequestFacts<'static> {
    RequestFacts { client: id.as_bytes(), method: b"GET", cost, ..Default::default() }
}

pub(super) const DONE: Outcome =
    Outcome { status: 200, latency_us: 1_500, upstream_us: Some(1_000), bytes_in: 100, bytes_out: 200 };

#[test]
fn a_limit_admits_its_amount_and_then_says_when() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        assert_eq!(scene.verdict(&acme()), Verdict::Pass);
    }
    scene.advance(10_000);
    let token = scene.ask(&acme());
    let walk = scene.gateway.walk(token).unwrap();
    let refusal = walk.refusal().expect("refused");
    assert_eq!((refusal.status, refusal.reason), (429, Reason::Limit));
    let wait = refusal.retry_after_s.unwrap();
    assert!((50..=51).contains(&wait), "{wait} s");
    let shown = scene.fields(token);
    assert!(shown.contains(&("Retry-After".into(), wait.to_string())), "{shown:?}");
    let body = scene.gateway.answer(token, true, &Links::default()).unwrap().body.clone();
    assert_eq!(body, format!("Acme Corp used 3 of 3 requests/minute; retry in {wait} s\n"));
    scene.advance(wait * 1_000);
    assert_eq!(scene.verdict(&acme()), Verdict::Pass, "and that was true");
}

#[test]
fn an_unknown_key_is_met_and_never_refused() {
    let mut scene = Scene::new();
    let long = vec![b'k'; 300];
    for key in [&b"wrong"[..], b"", &long, b"\xff\x00\r\n"] {
        let facts = RequestFacts { key, method: b"GET", ..Default::default() };
        for _ in 0..5 {
            let token = scene.ask(&facts);
            let walk = scene.gateway.walk(token).unwrap();
            assert_eq!((walk.client(), walk.verdict()), ("anonymous", Verdict::Pass));
        }
    }
    assert_eq!(scene.gateway.worker.table().keys(), 0, "no key made a counter");
}

#[test]
fn unknown_callers_can_be_turned_away() {
    let text = "[unknown]\naction = \"reject\"\n[tiers.t]\nlimits = [\"1 requests/minute\"]\n";
    let mut scene = Scene::with(text);
    let token = scene.ask(&RequestFacts::default());
    let walk = scene.gateway.walk(token).unwrap();
    assert_eq!(walk.refusal().map(|r| (r.status, r.reason)), Some((403, Reason::UnknownCaller)));
    assert_eq!(walk.decision(), Decision::Rejected);
}

#[test]
fn a_request_costs_what_it_says() {
    let mut scene = Scene::new();
    assert_eq!(scene.verdict(&client("costly", 9)), Verdict::Pass);
    assert!(matches!(scene.verdict(&client("costly", 2)), Verdict::Refuse(_)));
    assert_eq!(scene.verdict(&client("costly", 1)), Verdict::Pass, "a refused request costs nothing");
}

#[test]
fn bytes_are_charged_when_they_are_known() {
    let mut scene = Scene::new();
    let token = scene.ask(&acme());
    scene.gateway.finish(scene.now, token, &Outcome { bytes_out: 5_000, ..DONE });
    let token = scene.ask(&acme());
    let walk = scene.gateway.walk(token).unwrap();
    let nearest = walk.nearest().map(|quota| (quota.name.to_owned(), quota.remaining));
    assert_eq!(nearest, Some(("1 KB/hour".to_owned(), 0)));
    assert!(matches!(walk.verdict(), Verdict::Refuse(_)));
}

#[test]
fn a_dry_run_decides_and_lets_pass() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.ask(&client("dry", 1));
    }
    let token = scene.ask(&client("dry", 1));
    let walk = scene.gateway.walk(token).unwrap();
    assert_eq!((walk.verdict(), walk.decision()), (Verdict::Pass, Decision::RejectedDryRun));
    assert!(scene.gateway.answer(token, false, &Links::default()).is_none());
    assert!(scene.fields(token).iter().all(|(name, _)| name != "Retry-After"));
}

#[test]
fn an_exempt_client_is_asked_nothing() {
    let mut scene = Scene::new();
    for _ in 0..10 {
        let token = scene.ask(&client("friend", 1));
        assert_eq!(scene.gateway.walk(token).unwrap().decision(), Decision::Passed);
        assert!(scene.fields(token).is_empty());
    }
}

#[test]
fn what_cannot_be_decided_follows_the_fallback() {
    let mut scene = Scene::new();
    let other = Worker::new(scene.gateway.worker.table(), Mode::Alone, 2, |_| true);
    let first = scene.ask(&acme());
    let counter = Arc::clone(&scene.gateway.walk(first).unwrap().profile.limits[0].counter);
    let all = [FallbackMode::Deny, FallbackMode::Allow, FallbackMode::Local];
    let mut tokens = [first; 3];
    // Whoever holds the client's lock does not give it back in time.
    other.hold_lock(&counter, || {
        tokens = all.map(|fallback| {
            let rules = Rules { fallback, ..Rules::default() };
            let token = scene.gateway.admit(scene.now, &acme(), rules);
            scene.gateway.expire(scene.now.boot_ms, token);
            token
        });
    });
    let decisions = tokens.map(|token| {
        let walk = scene.gateway.walk(token).unwrap();
        (walk.refusal().map(|refusal| refusal.status), walk.decision())
    });
    assert_eq!(
        decisions,
        [
            (Some(503), Decision::RejectedDegraded),
            (None, Decision::PassedDegraded),
            (None, Decision::PassedDegraded),
        ]
    );
}

/// As when the processor is taken from a worker in the middle of its decision.
#[test]
fn a_lock_that_is_held_is_waited_for_in_vain_only_as_long_as_for_a_lease() {
    let mut scene = Scene::new();
    let other = Worker::new(scene.gateway.worker.table(), Mode::Alone, 2, |_| true);
    let first = scene.ask(&acme());
    let counter = Arc::clone(&scene.gateway.walk(first).unwrap().profile.limits[0].counter);
    let rules = Rules { fallback: FallbackMode::Deny, ..Rules::default() };
    let (mut patient, mut impatient) = (first, first);
    other.hold_lock(&counter, || {
        [patient, impatient] = [(); 2].map(|()| scene.gateway.admit(scene.now, &acme(), rules));
        scene.advance(5);
        assert!(scene.gateway.take_ready().is_empty());
        scene.gateway.expire(scene.now.boot_ms, impatient);
    });
    let decision = |scene: &Scene, token| scene.gateway.walk(token).unwrap().decision();
    assert_eq!(decision(&scene, impatient), Decision::RejectedDegraded);
    assert_eq!(scene.gateway.walk(patient).unwrap().verdict(), Verdict::Wait);
    let wait_ms = scene.gateway.next_tick() - scene.now.boot_ms;
    assert!(wait_ms <= 10, "tried again after {wait_ms} ms");
    scene.advance(wait_ms);
    assert_eq!(scene.gateway.take_ready(), [patient]);
    assert_eq!(decision(&scene, patient), Decision::Passed);
}

#[test]
fn every_request_is_booked_once() {
    let mut scene = Scene::new();
    for i in 0..5 {
        let token = scene.ask(&acme());
        let status = if i < 3 { 200 } else { 429 };
        scene.gateway.finish(scene.now, token, &Outcome { status, bytes_in: 1, bytes_out: 1, ..DONE });
        scene.gateway.release(token);
        scene.gateway.finish(scene.now, token, &DONE);
    }
    let unreached = scene.gateway.note(scene.now, &acme(), Rules::default());
    scene.gateway.finish(scene.now, unreached, &Outcome { status: 204, ..DONE });
    assert_eq!(scene.gateway.walks.len(), 1);
    let metrics = scene.gateway.metrics(scene.now).to_text();
    assert!(metrics.contains("weir_records_total 6\n"), "{metrics}");
    let Scene { dir, gateway, now } = scene;
    gateway.close(now);
    let mut seen = Vec::new();
    for path in sealed_segments(&dir.path().join("spool")).unwrap() {
        for entry in Segment::open(&path).unwrap().records() {
            let Entry::Record { record, .. } = entry else { panic!("{entry:?}") };
            assert_eq!((record.client, record.endpoint), ("acme", "/api/"));
            seen.push((record.status, record.decision, record.limit.to_owned()));
        }
    }
    let limit = "3 requests/minute";
    let passed = (200, Decision::Passed, limit.to_owned());
    let refused = (429, Decision::Rejected, limit.to_owned());
    let unreached = (204, Decision::Passed, String::new());
    let expected = [&passed, &passed, &passed, &refused, &refused, &unreached].map(Clone::clone);
    assert_eq!(seen, expected);
}

#[test]
fn a_new_policy_is_in_force_soon_and_keeps_history() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.ask(&acme());
    }
    let lines = scene.edit(&policy().replace("3 requests/minute", "4 requests/minute"));
    assert!(lines.len() == 1 && lines[0].ends_with("is in force"), "{lines:?}");
    assert_eq!(scene.verdict(&acme()), Verdict::Pass, "a raised limit is open");
    assert!(matches!(scene.verdict(&acme()), Verdict::Refuse(_)), "what was used stays used");
}

#[test]
fn a_broken_policy_is_told_once_and_changes_nothing() {
    let mut scene = Scene::new();
    let before = scene.gateway.book().version();
    let lines = scene.edit("[tiers.basic]\nlimits = [\"3 reqests/minute\"]\n");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("policy.toml:2:") && lines[0].contains("stays in force"), "{lines:?}");
    assert!(scene.watch(5).is_empty(), "said once");
    assert_eq!(scene.gateway.book().version(), before);
    assert_eq!(scene.verdict(&acme()), Verdict::Pass);
    fs::remove_file(scene.dir.path().join("policy.toml")).unwrap();
    let gone = scene.watch(3);
    assert!(gone.len() == 1 && gone[0].contains("can't be read"), "{gone:?}");
    let back = scene.edit(&policy());
    assert!(back.len() == 1 && back[0].contains("which is in force"), "{back:?}");
}

#[test]
fn a_policy_in_the_writing_is_not_read() {
    let mut scene = Scene::new();
    let whole = policy().replace("3 requests/minute", "9 requests/minute");
    let path = scene.dir.path().join("policy.toml");
    for end in (60..whole.len()).step_by(40) {
        fs::write(&path, &whole[..end]).unwrap();
        scene.advance(250);
        assert!(scene.gateway.take_lines().is_empty(), "read after {end} bytes");
    }
    let lines = scene.edit(&whole);
    assert!(lines.len() == 1 && lines[0].ends_with("is in force"), "{lines:?}");
}

#[test]
fn usage_tells_and_takes_nothing() {
    let mut scene = Scene::new();
    scene.ask(&acme());
    let first = scene.usage(&acme());
    assert_eq!(first, scene.usage(&acme()));
    let read: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!((&read["client"], &read["limits"][0]["remaining"]), (&"acme".into(), &2.into()));
}

#[test]
fn the_log_names_the_client_but_no_secret() {
    let mut scene = Scene::new();
    for _ in 0..4 {
        scene.ask(&acme());
    }
    let token = scene.ask(&acme());
    let line = scene.gateway.refusal_line(token, &scene.gateway.request_id(token)).unwrap();
    assert!(line.starts_with("refused: \"acme\" used 3 of 3 requests/minute; retry in "), "{line}");
    assert!(!line.contains("acme-key"));
}

#[test]
fn headers_follow_the_place_that_decided() {
    let mut scene = Scene::new();
    let rules = Rules { headers: Headers::Off, ..Rules::default() };
    let token = scene.gateway.admit(scene.now, &acme(), rules);
    assert!(scene.fields(token).is_empty());
}

#[test]
fn a_call_to_a_client_counts_is_met_or_leaves_no_trace() {
    let text = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"2 requests/minute\"]\n\
                [clients.acme]\n[clients.met]\nwebhooks = \"meter\"\n[clients.ours]\nwebhooks = \"ignore\"\n";
    let mut scene = Scene::with(text);
    let call = |webhook: &'static str| RequestFacts {
        webhook: webhook.as_bytes(),
        key: b"the sender's",
        method: b"POST",
        cost: 1,
        ..Default::default()
    };
    let mut asked = |facts: &RequestFacts<'_>| {
        let token = scene.ask(facts);
        scene.gateway.finish(scene.now, token, &DONE);
        let walk = scene.gateway.walk(token).unwrap();
        (walk.client().to_owned(), walk.decision(), walk.nearest().is_some())
    };
    let passed = |id: &str, limited| (id.to_owned(), Decision::Passed, limited);
    assert_eq!(asked(&call("acme")), passed("acme", true));
    assert_eq!(asked(&client("acme", 1)), passed("acme", true));
    assert_eq!(asked(&call("acme")), ("acme".to_owned(), Decision::Rejected, true));
    for _ in 0..3 {
        assert_eq!(asked(&call("met")), passed("met", false));
        assert_eq!(asked(&call("ours")), passed("ours", false));
    }
    let mut own = client("met", 1);
    own.method = b"POST";
    assert_eq!(asked(&own), passed("met", true), "its own requests are another matter");
    let metrics = scene.gateway.metrics(scene.now).to_text();
    assert!(metrics.contains("weir_records_total 7\n"), "{metrics}");
}
