//! Policies that are wrong: each is refused, with the place, the reason and the remedy.

use weir_policy::{Problem, hash_key, parse, spell_hash};

/// A right policy for the texts below to spoil. It ends in a client, for keys that follow.
const RIGHT: &str = "\
[tiers.basic]
limits = [\"100 requests/minute\"]
[clients.acme]
tier = \"basic\"
";

fn problems(text: &str) -> Vec<Problem> {
    parse(text).err().unwrap_or_else(|| panic!("accepted:\n{text}"))
}

/// The one problem of a text.
fn problem(text: &str) -> String {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:#?}\n{text}");
    problems[0].to_string()
}

fn key_of(text: &str) -> String {
    spell_hash(&hash_key(text.as_bytes()))
}

/// Checks that each addition to a right policy is one problem that says this, at this place.
fn each(cases: &[(&str, &str)]) {
    assert!(parse(RIGHT).is_ok());
    for (addition, said) in cases {
        let found = problem(&format!("{RIGHT}{addition}"));
        assert!(found.contains(said), "{addition}\n  said     {found}\n  expected {said}");
    }
}

#[test]
fn limits() {
    let tier = |limits: &str| format!("[tiers.t]\nlimits = {limits}\n");
    for (limits, said) in [
        (
            r#"["1 requests/minute", "9 reqests/minute"]"#,
            r#"2:32: tiers.t.limits[1]: "reqests" is not a unit; did you mean "requests"?"#,
        ),
        (
            r#"["9 requests/mintue"]"#,
            r#"2:11: tiers.t.limits[0]: "mintue" is not a window; did you mean "minute"?"#,
        ),
        (r#"["-9 requests/minute"]"#, "negative"),
        (r#"["9 requests/0 minutes"]"#, "the window is 0"),
        (r#"["9.5 requests/minute"]"#, "not a whole number"),
        (
            r#"["5 requests/7 days"]"#,
            "\"7 days\" is not a window; a calendar quota is for one day or one month",
        ),
        (r#"[100]"#, "2:11: tiers.t.limits[0]: this is a whole number; write text in quotes"),
        (r#""100 requests/minute""#, "2:10: tiers.t.limits: this is text; write a list in brackets"),
        ("[]", "1:1: tiers.t: this tier has no limits; add limits"),
        (
            r#"["5 requests/minute", "6 requests/60 seconds"]"#,
            "2:32: tiers.t.limits[1]: a second limit of requests in the same window",
        ),
    ] {
        let found = problem(&tier(limits));
        assert!(found.contains(said), "{limits}\n  said     {found}\n  expected {said}");
    }
}

#[test]
fn tiers() {
    each(&[
        ("[tiers.t]", "5:1: tiers.t: this tier has no limits"),
        ("[tiers.\"\"]\nexempt = true", r#"5:1: tiers."": the name is empty"#),
        ("[tiers.\"a\\nb\"]\nexempt = true", "control character"),
        ("[tiers.unknown]\nexempt = true", "stands for callers without a tier"),
        ("[tiers.t]\nexempt = 1", "this is a whole number; write true or false"),
        ("[tiers.t]\nexempt = true\ndry_run = \"110%\"", "is not a share"),
        (
            "[tiers.t]\nexempt = true\nover = \"delay 2h burst 50\"",
            "7:8: tiers.t.over: nobody is held back for \"2h\"",
        ),
        (
            "[tiers.t]\nexempt = true\nover = \"degrade up to 50%\"",
            "tiers.t.over: a limit cannot go up to \"50%\"",
        ),
        ("[tiers.t]\nexempt = true\nover = \"rejcet\"", "did you mean \"reject\"?"),
        ("[tiers.t]\nexempt = true\nwebhooks = \"metre\"", "did you mean \"meter\"?"),
        ("[tiers.t]\nexempt = true\nwebhooks = true", "write text in quotes"),
        (
            "[tiers.t]\nexempt = true\nlimit = []",
            r#"7:1: tiers.t.limit: "limit" is not a known key; did you mean "limits"?"#,
        ),
        ("[tiers.t]\nexempt = true\nobjective = {}", "promises nothing"),
        ("[tiers.t]\nexempt = true\nobjective = { availability = 100 }", "100 is out of bounds"),
        (
            "[tiers.t]\nexempt = true\nobjective = { latency_ms = 300 }",
            "latency_ms and latency_share together",
        ),
        (
            "[tiers.t]\nexempt = true\nobjective = { latency_ms = -3, latency_share = 99 }",
            "-3 is negative or too large",
        ),
        ("[tiers.t]\nexempt = true\nobjective = { availability = nan }", "write a number"),
        (
            "[tiers.t]\nexempt = true\nobjective = { availability = 99.9, window = \"30 days\" }",
            "is not a duration",
        ),
    ]);
    assert!(problem("").contains("1:1: the policy has no tiers"), "an emptied file lifts no limits");
    assert!(problem("tiers = 5").contains("this is a whole number; write a table"));
}

#[test]
fn clients() {
    each(&[
        ("name = \"\"", "5:8: clients.acme.name: the name is empty"),
        ("teir = \"basic\"", r#"5:1: clients.acme.teir: "teir" is not a known key; did you mean "tier"?"#),
        ("zzz = 1", "known keys here: name, tier, keys"),
        ("dry_run = \"10%\"", "write true or false"),
        ("webhooks = \"cuont\"", "did you mean \"count\"?"),
        ("timezone = \"Mars/Phobos\"", "\"Mars/Phobos\" is not a time zone"),
        ("timezone = \"../../etc/passwd\"", "is not a time zone"),
        ("contacts = [\"a@b\\r\\nRCPT TO:<x@y.z>\"]", "clients.acme.contacts[0]: \"a@b\\r\\nRCPT"),
        ("contacts = [\"a@b.c\", \"a@b.c\"]", "a second time"),
        ("limits = [\"5 requests/mnth\"]", "did you mean \"month\"?"),
        (
            "[clients.b]\ntier = \"baisc\"",
            r#"6:8: clients.b.tier: no tier is called "baisc"; did you mean "basic"?"#,
        ),
        ("[clients.b]", "5:1: clients.b: this client has no tier; add tier"),
        ("[clients.anonymous]\ntier = \"basic\"", "stands for all unknown callers"),
        ("[clients.\"a.b\"]\ntier = 7", r#"clients."a.b".tier: this is a whole number"#),
    ]);
    let twice = problems(&format!("{RIGHT}[clients.acme]\ntier = \"basic\""));
    assert_eq!(twice[0].to_string(), r#"5:10: "acme" stands here a second time; keep one of the two"#);
    let many: Vec<String> = (0..1_000).map(|n| format!("\"a{n}@b.c\"")).collect();
    let text = format!("{RIGHT}contacts = [{}]", many.join(","));
    assert!(problem(&text).contains("1000 addresses are too many"));
    let long = format!("{RIGHT}[clients.{}]\ntier = \"basic\"", "x".repeat(129));
    assert!(problem(&long).contains("the name has 129 bytes"));
}

#[test]
fn a_default_tier_that_is_none_is_one_problem_and_not_one_of_each_client() {
    let clients: String = (0..50).map(|n| format!("[clients.c{n}]\n")).collect();
    let text = format!("default_tier = \"bsic\"\n{RIGHT}{clients}");
    assert!(problem(&text).starts_with("1:16: default_tier: no tier is called"));
}

#[test]
fn keys() {
    each(&[
        ("keys = [\"sha256:12\"]", "5:9: clients.acme.keys[0]: the hash has 2 characters"),
        ("keys = [\"weir_secret\"]", "this is not the hash of an API key"),
        ("keys = [{ not_before = 2026-12-01T00:00:00Z }]", "this key has no hash"),
        ("keys = [7]", "this is a whole number"),
    ]);
    let keys = |items: &str| format!("{RIGHT}keys = [{}]", items.replace('#', &key_of("k")));
    for (items, said) in [
        ("{ hash = \"#\", not_before = 2026-12-01 }", "a date, a time and an offset"),
        ("{ hash = \"#\", not_before = 2026-12-01T00:00:00 }", "a date, a time and an offset"),
        ("{ hash = \"#\", not_before = \"soon\" }", "this is text"),
        (
            "{ hash = \"#\", not_before = 2026-12-01T00:00:00Z, not_after = 2026-12-01T00:00:00Z }",
            "ends before",
        ),
        ("\"#\", \"#\"", "keys[1]: this client has this key already"),
    ] {
        let found = problem(&keys(items));
        assert!(found.contains(said), "{items}\n  said {found}");
    }
    let twice = format!("{}\n[clients.b]\ntier = \"basic\"\nkeys = [\"{}\"]", keys("\"#\""), key_of("k"));
    assert!(problem(&twice).contains(r#"8:9: clients.b.keys[0]: client "acme" has this key already"#));
}

#[test]
fn a_problem_never_repeats_what_may_be_a_key() {
    for text in [
        "keys = [\"weir_canary\"]",
        "keys = [\"sha256:weir_canary\"]",
        "keys = [weir_canary]",
        "keys = [\"weir_canary]",
        "keys = \"weir_canary\"",
        "keys = [{ hash = \"weir_canary\" }]",
    ] {
        for problem in problems(&format!("{RIGHT}{text}")) {
            assert!(!problem.to_string().contains("canary"), "{problem}");
        }
    }
}

#[test]
fn endpoints_routes_and_the_rest() {
    each(&[
        ("[[endpoints]]\nlimits = [\"1 requests/second\"]", "5:1: endpoints[0]: this rule has no match"),
        ("[[endpoints]]\nmatch = \"POST /x\"", "this rule has no limits"),
        ("[[endpoints]]\nmatch = \"POST /x\"\nlimits = []", "this rule has no limits"),
        ("[[endpoints]]\nmatch = \"PSOT /x\"\nlimits = [\"1 requests/second\"]", "did you mean \"POST\"?"),
        (
            "[[endpoints]]\nmatch = \"* x\"\nlimits = [\"1 requests/second\"]\n\
          [[endpoints]]\nmatch = \"*  x\"\nlimits = [\"1 requests/hour\"]",
            "8:1: endpoints[1]: a second rule for \"* x\"",
        ),
        ("[endpoints]\nmatch = \"* x\"", "this is a table; write a list"),
        ("[routes]\na = \"GET orders\"", "does not begin with /"),
        (
            "[routes]\na = \"GET /x/{id}\"\nb = \"GET /x/{key}\"",
            "7:5: routes.b: route \"a\" has the same paths",
        ),
        ("[unknown]\naction = \"block\"", "\"block\" is not known here; write observe, limit, reject"),
        ("[unknown]\naction = \"limit\"", "needs a tier"),
        ("[unknown]\ntier = \"gold\"", "no tier is called \"gold\""),
        ("[alerts]\nto = []", "alerts go to nobody"),
        ("[alerts]\nthresholds = [80]", "alerts go to nobody"),
        ("[alerts]\nto = [\"-oQ/tmp@b.c\"]", "is not a mail address"),
        ("[alerts]\nto = [\"a@b.c\"]\nthresholds = [0]", "0 is out of bounds"),
        ("[alerts]\nto = [\"a@b.c\"]\nthresholds = [80, 80]", "a second time"),
        ("[alerts]\nto = [\"a@b.c\"]\nthresholds = [80.5]", "this is a number with a point"),
        ("[alerts]\nto = [\"a@b.c\"]\ncooldown = 6", "write text in quotes"),
        ("[alerts]\nto = [\"a@b.c\"]\nquiet = \"22-7\"", "no stretch of the day"),
        ("[alerts]\nto = [\"a@b.c\"]\nquiet = \"07:00-07:00\"", "no stretch of the day"),
        ("[alerts]\nto = [\"a@b.c\"]\ntimezone = \"Mars\"", "is not a time zone"),
        ("[alerts]\nto = [\"a@b.c\"]\nmute = [{ kind = \"anomalies\" }]", "is not known here"),
        ("[alerts]\nto = [\"a@b.c\"]\nmute = [{ until = \"soon\" }]", "a date, a time and an offset"),
        ("[teirs]", "5:2: teirs: \"teirs\" is not a known key; did you mean \"tiers\"?"),
    ]);
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_text() {
    let text = "\
default_tier = \"gold\"
[clients.a]
keys = [\"oops\", \"sha256:0\"]
[tiers.t]
limits = [\"x\", \"1 req/min\", \"1 requests/week\"]
nonsense = 1
";
    let found = problems(text);
    let places: Vec<(usize, &str)> = found.iter().map(|p| (p.line, &*p.path)).collect();
    assert_eq!(
        places,
        [
            (1, "default_tier"),
            (3, "clients.a.keys[0]"),
            (3, "clients.a.keys[1]"),
            (5, "tiers.t.limits[0]"),
            (5, "tiers.t.limits[1]"),
            (5, "tiers.t.limits[2]"),
            (6, "tiers.t.nonsense"),
        ]
    );
}

/// The limiter asks sixteen together: those of a client and its tier, of all rules that match, and over
/// all clients.
#[test]
fn more_limits_than_a_request_can_ask() {
    let windows = |from: usize, n: usize| {
        let limits: Vec<String> = (from..from + n).map(|s| format!("\"{s} requests/{s} seconds\"")).collect();
        format!("[{}]", limits.join(", "))
    };
    let rule = |owner: &str, matcher: &str, n: usize| {
        format!("[[{owner}endpoints]]\nmatch = \"{matcher}\"\nlimits = {}\n", windows(100, n))
    };
    let tier = |n: usize| format!("[tiers.t]\nlimits = {}\n", windows(1, n));
    let said = "a request can meet 17 limits here";
    assert!(parse(&tier(16)).is_ok());
    let found = problem(&tier(17));
    assert!(found.starts_with("1:1: tiers.t: ") && found.contains(said), "{found}");
    assert!(found.ends_with("; remove 1 of those that apply to the same method and endpoint"), "{found}");
    // Rules that can match the same request add up, others do not.
    let rules = |a: &str, b: &str| tier(6) + &rule("tiers.t.", a, 5) + &rule("", b, 6);
    for (a, b) in [("POST /a", "* /a"), ("POST /a", "POST *"), ("POST *", "* /a"), ("* *", "POST /a")] {
        assert!(problem(&rules(a, b)).contains(said), "{a} and {b}");
    }
    for (a, b) in [("POST /a", "GET /a"), ("POST /a", "* /b"), ("POST /a", "GET *")] {
        assert!(parse(&rules(a, b)).is_ok(), "{a} and {b}");
    }
    assert!(problem(&rule("", "* *", 17)).contains("no tiers"), "one thing after the other");
    let found = problem(&(tier(1) + &rule("", "* *", 17)));
    assert!(found.contains("endpoints: a request can meet 17 limits here (over all clients"), "{found}");
    // What replaces a limit of the tier is not one more.
    let client = |from: usize, n: usize| {
        format!(
            "{}[tiers.u]\nlimits = {}\n[clients.acme]\ntier = \"t\"\nlimits = {}\n",
            tier(10),
            windows(1, 1),
            windows(from, n)
        )
    };
    assert!(parse(&client(1, 10)).is_ok());
    assert!(parse(&client(8, 9)).is_ok());
    let found = problem(&client(8, 10));
    assert!(found.contains("clients.acme: ") && found.contains(said), "{found}");
    let named = client(8, 10).replace("tier = \"t\"", "tier = \"u\"");
    assert!(problem(&named).contains(said), "an authenticator may name the other tier");
}
