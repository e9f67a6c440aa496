//! `weir client list` and `weir client show`.

use serde_json::{Value, json};
use weir_policy::{Client, Grant, Key, Policy, spell_hash, spell_limit};

/// One line for each client.
pub fn list(policy: &Policy) -> String {
    let rows: Vec<[String; 4]> =
        policy.clients.iter().map(|client| row(client, policy.grants_of(&client.id))).collect();
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
    let (ids, tiers, keys) = (width(0), width(1), width(2));
    let lines = rows.iter().map(|[id, tier, key, more]| {
        let line = format!("{id:ids$}  {tier:tiers$}  {key:keys$}  {more}");
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

fn row(client: &Client, grants: &[Grant]) -> [String; 4] {
    let keys = match client.keys.len() {
        1 => "1 key".to_owned(),
        count => format!("{count} keys"),
    };
    let mut more: Vec<String> = client.name.iter().map(|name| name.to_string()).collect();
    more.extend(client.limits.iter().map(spell_limit));
    more.extend(grants.iter().map(|grant| format!("+{}", spell_limit(&grant.limit))));
    let marks = [("exempt", client.exempt), ("dry run", client.dry_run)];
    more.extend(marks.iter().filter(|(_, is)| *is == Some(true)).map(|(word, _)| (*word).to_owned()));
    [client.id.to_string(), client.tier.to_string(), keys, more.join(", ")]
}

pub fn json_list(policy: &Policy) -> Value {
    policy.clients.iter().map(|client| as_json(client, policy)).collect()
}

/// All that the policy says of a client. A key is shown by its hash, which is no secret.
pub fn as_json(client: &Client, policy: &Policy) -> Value {
    let limits = |limits: &[weir_limiter::Limit]| limits.iter().map(spell_limit).collect::<Vec<_>>();
    let grants = policy.grants_of(&client.id).iter().map(|grant| {
        json!({
            "limit": spell_limit(&grant.limit),
            "from": time(grant.valid_s.start),
            "until": time(grant.valid_s.end),
            "reason": grant.reason,
        })
    });
    let endpoints = client
        .endpoints
        .iter()
        .map(|rule| json!({ "match": rule.to_string(), "limits": limits(&rule.limits) }));
    json!({
        "id": client.id,
        "name": client.name,
        "tier": &*client.tier,
        "tier_limits": policy.tier(&client.tier).map(|tier| limits(&tier.limits)),
        "limits": limits(&client.limits),
        "endpoints": endpoints.collect::<Vec<_>>(),
        "grants": grants.collect::<Vec<_>>(),
        "keys": client.keys.iter().map(key).collect::<Vec<_>>(),
        "contacts": client.contacts,
        "timezone": client.timezone.as_deref(),
        "exempt": client.exempt,
        "dry_run": client.dry_run,
    })
}

fn key(key: &Key) -> Value {
    json!({
        "hash": spell_hash(&key.hash),
        "not_before": time(key.valid_s.start),
        "not_after": time(key.valid_s.end),
    })
}

/// None where nothing is said.
fn time(second: i64) -> Option<String> {
    let is_said = second != i64::MIN && second != i64::MAX;
    is_said.then(|| jiff::Timestamp::from_second(second).ok())?.map(|time| time.to_string())
}

/// The same for people: what is there, line by line.
pub fn text(client: &Client, policy: &Policy) -> String {
    let Value::Object(object) = as_json(client, policy) else { return String::new() };
    let lines = object.iter().flat_map(|(name, value)| {
        let items = match value {
            Value::Array(items) => items.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        items.into_iter().map(move |item| format!("{:<12} {}\n", name.replace('_', " "), plain(&item)))
    });
    lines.collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(object) => {
            let said = object.iter().filter(|(_, value)| !value.is_null());
            said.map(|(name, value)| format!("{} {}", name.replace('_', " "), plain(value)))
                .collect::<Vec<_>>()
                .join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_in_lines_and_in_json() {
        let text_of_policy = "[tiers.basic]\nlimits = [\"9 requests/hour\"]\n[clients.acme]\nname = \"Acme\"\n\
                    tier = \"basic\"\nlimits = [\"5 MB/day\"]\nexempt = true\n\
                    [[clients.acme.grants]]\nlimit = \"5 requests/hour\"\nuntil = 2027-01-15T08:00:00Z\n\
                    [clients.initech]\ntier = \"basic\"\n";
        let policy = weir_policy::parse(text_of_policy).unwrap();
        assert_eq!(
            list(&policy),
            "acme     basic  0 keys  Acme, 5 MB/day, +5 requests/hour, exempt\ninitech  basic  0 keys\n"
        );
        let client = policy.client("acme").unwrap();
        assert_eq!(as_json(client, &policy)["grants"][0]["until"], "2027-01-15T08:00:00Z");
        let shown = text(client, &policy);
        assert!(shown.contains("tier limits  9 requests/hour\n"), "{shown}");
        assert!(
            shown.contains("grants       limit 5 requests/hour, until 2027-01-15T08:00:00Z\n"),
            "{shown}"
        );
        assert!(!shown.contains("timezone"), "{shown}");
    }
}
