//! Changes leave the rest as it is, and what comes of them is a policy.

use super::*;
use weir_policy::parse;

const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const OTHER: &str = "sha256:bb7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

const TEXT: &str = r#"# The policy of all.
default_tier = "basic"   # for those without one

[tiers.basic]
limits = ["100 requests/minute"]

[tiers.gold]
limits = ["900 requests/minute"]

# Our first client.
[clients.acme]
name = "Acme"            # as they like it
keys = [
    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", # their office
]

[clients.initech]
tier = "gold"

[alerts]
to = ["a@b.example"]     # us
"#;

/// What comes of a change, checked to be a policy.
fn changed(text: &str, change: impl FnOnce(&mut Draft)) -> String {
    let mut draft = Draft::of(text).unwrap();
    change(&mut draft);
    let new = draft.text();
    parse(&new).unwrap_or_else(|problems| panic!("{problems:#?}\n{new}"));
    new
}

/// Every line of the old text that the new one does not have.
fn lost<'a>(old: &'a str, new: &str) -> Vec<&'a str> {
    old.lines().filter(|line| !new.lines().any(|other| other == *line)).collect()
}

#[test]
fn nothing_changed_is_the_same_text() {
    assert_eq!(changed(TEXT, |_| ()), TEXT);
}

#[test]
fn fields_are_set_and_comments_stay() {
    let fields = Fields {
        name: Some("Acme Corp".into()),
        tier: Some("gold".into()),
        contacts: vec!["a@acme.example".into()],
        exempt: Some(true),
        ..Fields::default()
    };
    let new = changed(TEXT, |draft| draft.set("acme", &fields).unwrap());
    assert_eq!(lost(TEXT, &new), ["name = \"Acme\"            # as they like it"]);
    assert!(new.contains("name = \"Acme Corp\"            # as they like it"), "{new}");
    let client = parse(&new).unwrap().client("acme").unwrap().clone();
    assert_eq!((&*client.tier, client.exempt, client.contacts.len()), ("gold", Some(true), 1));
    assert!(matches!(Draft::of(TEXT).unwrap().set("hooli", &fields), Err(EditError::NoClient(_))));
}

#[test]
fn a_client_is_added_once_and_blocked_and_let_go() {
    let fields = Fields { tier: Some("gold".into()), ..Fields::default() };
    let added = changed(TEXT, |draft| draft.add("a b", &fields, &[OTHER.to_owned()]).unwrap());
    assert!(lost(TEXT, &added).is_empty(), "{added}");
    assert_eq!(parse(&added).unwrap().client("a b").unwrap().keys.len(), 1);
    let mut again = Draft::of(&added).unwrap();
    assert!(matches!(again.add("a b", &fields, &[]), Err(EditError::IsThere(_))));
    assert!(matches!(again.add("anonymous", &fields, &[]), Err(EditError::Word(_))));

    let blocked = changed(&added, |draft| draft.block("a b", true).unwrap());
    let limits = |text: &str| parse(text).unwrap().client("a b").unwrap().limits.clone();
    assert_eq!(limits(&blocked)[0].amount, 0);
    assert_eq!(changed(&blocked, |draft| draft.block("a b", true).unwrap()), blocked, "once is enough");
    assert!(limits(&changed(&blocked, |draft| draft.block("a b", false).unwrap())).is_empty());
}

#[test]
fn a_first_client_and_clients_on_one_line_are_no_special_case() {
    let fields = Fields { tier: Some("basic".into()), ..Fields::default() };
    for clients in ["", "clients = { x = { tier = \"basic\" } }\n", "[clients]\nx = { tier = \"basic\" }\n"] {
        let text = format!("{clients}[tiers.basic]\nlimits = [\"9 requests/hour\"]\n");
        let new = changed(&text, |draft| {
            draft.add("acme", &fields, &[ABC.to_owned()]).unwrap();
            let grant =
                NewGrant { limit: "5 requests/hour".into(), until_s: 1_800_000_000, reason: "r".into() };
            draft.grant("acme", &grant).unwrap();
            draft.grant("acme", &grant).unwrap();
        });
        let policy = parse(&new).unwrap();
        assert_eq!(policy.grants_of("acme").len(), 2, "{new}");
    }
}

#[test]
fn keys_are_revoked_at_once_or_at_a_time() {
    let both = changed(TEXT, |draft| draft.add_key("acme", OTHER).unwrap());
    let policy = parse(&both).unwrap();
    let revoke = |start: &str, at_s| {
        let mut draft = Draft::of(&both).unwrap();
        draft.revoke(&policy, start, at_s).map(|id| (id, draft.text()))
    };
    let (id, new) = revoke(OTHER, None).unwrap();
    assert_eq!((id.as_str(), parse(&new).unwrap().key_count()), ("acme", 1));
    let (_, new) = revoke("bb78", Some(1_800_000_000)).unwrap();
    let keys = parse(&new).unwrap().client("acme").unwrap().keys.clone();
    assert_eq!((keys.len(), keys[1].valid_s.end), (2, 1_800_000_000));
    assert!(new.contains("not_after = 2027-01-15T08:00:00Z"), "{new}");
    let revoke = |start| revoke(start, None).err().map(|error| error.to_string());
    assert!(revoke("b").unwrap().contains("several"));
    assert!(revoke("c").unwrap().contains("no key") && revoke("").unwrap().contains("no key"));
}

#[test]
fn a_grant_stands_with_its_client() {
    let grant =
        NewGrant { limit: "50 requests/minute".into(), until_s: 1_800_000_000, reason: "a launch".into() };
    let new = changed(TEXT, |draft| draft.grant("acme", &grant).unwrap());
    assert!(lost(TEXT, &new).is_empty(), "{new}");
    let text = "[[clients.acme.grants]]\nlimit = \"50 requests/minute\"\nuntil = 2027-01-15T08:00:00Z\n\
                reason = \"a launch\"\n";
    assert!(new.contains(text), "{new}");
}
