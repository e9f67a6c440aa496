//! What a client may ask of itself: its limits and what is left of them.

use serde_json::{Value, json};

use weir_policy::Action;

use crate::fields::seconds;
use crate::policy_file::Version;
use crate::walk::{Quota, Walk};

/// One JSON object. Limits whose state nobody knows at the moment are left out.
pub(crate) fn usage(walk: &Walk, policy: u64) -> String {
    let limits: Vec<Value> = walk.quotas().map(limit).collect();
    let document = json!({
        "client": walk.client(),
        "tier": walk.tier(),
        "policy": Version(policy).to_string(),
        "limits": limits,
        "dry_run": walk.dry_run,
        "exempt": walk.profile.action == Action::Exempt,
    });
    format!("{document}\n")
}

fn limit(quota: Quota<'_>) -> Value {
    json!({
        "id": quota.id,
        "limit": quota.name,
        "unit": quota.limit.unit.word(),
        "amount": quota.limit.amount,
        "window_s": seconds(quota.window_ms),
        "remaining": quota.remaining,
        "reset_s": seconds(quota.reset_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::limited;

    #[test]
    fn a_client_sees_its_limits_and_what_is_left() {
        let walk = limited(&[("100 requests/minute", 20, 22_001), ("5 MB/hour", 4_999_999, 1)]);
        let read: Value = serde_json::from_str(&usage(&walk, 0xab)).unwrap();
        assert_eq!(read["client"], "acme");
        assert_eq!(read["policy"], "00000000000000ab");
        let expected = json!({
            "id": "requests-60s", "limit": "100 requests/minute", "unit": "requests",
            "amount": 100, "window_s": 60, "remaining": 20, "reset_s": 23,
        });
        assert_eq!(read["limits"][0], expected);
        assert_eq!(read["limits"][1]["unit"], "bytes");
    }
}
