//! The header fields that tell a client of its quota. They stand in this one file since the draft may
//! still move.
//!
//! `RateLimit` and `RateLimit-Policy` follow draft-ietf-httpapi-ratelimit-headers-11: lists of quoted
//! policy names, each with its parameters, integers all: q (quota), w (window, seconds), qu (what is
//! counted), r (quota left), t (seconds until more of it).

use std::fmt::Write;

use weir_limiter::Unit;
use weir_policy::Applied;

use crate::settings::Headers;
use crate::walk::Walk;

/// Tells name and value (in pieces) of each field for the answer to one request: none where nothing is
/// limited. It happens on every answer, so nothing is formatted or allocated.
pub fn fields(walk: &Walk, headers: Headers, mut tell: impl FnMut(&'static str, &[&str])) {
    let (mut number, mut other) = (itoa::Buffer::new(), itoa::Buffer::new());
    if let Some(nearest) = walk.nearest() {
        if headers.standard() {
            tell("RateLimit-Policy", &[&walk.profile.policy_field]);
            let (left, reset) = (number.format(nearest.remaining), other.format(seconds(nearest.reset_ms)));
            // `"requests-60s";r=20;t=23`
            tell("RateLimit", &["\"", nearest.id, "\";r=", left, ";t=", reset]);
        }
        if headers.legacy() {
            tell("X-RateLimit-Limit", &[number.format(nearest.limit.amount)]);
            tell("X-RateLimit-Remaining", &[number.format(nearest.remaining)]);
            tell("X-RateLimit-Reset", &[number.format(seconds(nearest.reset_ms))]);
        }
    }
    if let Some(refusal) = walk.refusal() {
        if let Some(seconds) = refusal.retry_after_s {
            tell("Retry-After", &[number.format(seconds)]);
        }
        // An answer about this moment must not be served again at another one.
        tell("Cache-Control", &["no-store"]);
    }
}

/// `"requests-60s";q=100;w=60, "bytes-3600s";q=500000000;qu="content-bytes";w=3600`
pub(crate) fn policy_field(limits: &[Applied]) -> String {
    let mut out = String::new();
    for applied in limits {
        if !out.is_empty() {
            out.push_str(", ");
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "\"{}\";q={}", applied.id, applied.limit.amount);
        if let Some(unit) = quota_unit(applied.limit.unit) {
            let _ = write!(out, ";qu=\"{unit}\"");
        }
        let _ = write!(out, ";w={}", seconds(applied.window_ms).max(1));
    }
    out
}

/// Requests are what the draft counts where nothing is said.
fn quota_unit(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Requests => None,
        Unit::Bytes | Unit::BytesIn | Unit::BytesOut => Some("content-bytes"),
        Unit::Cost => Some("units"),
    }
}

/// Whole seconds, rounded up: a client that comes back after them never comes too early.
pub(crate) fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::{limited, refused, walk_of};

    fn text(walk: &Walk, headers: Headers) -> Vec<String> {
        let mut told = Vec::new();
        fields(walk, headers, |name, value| told.push(format!("{name}: {}", value.concat())));
        told
    }

    #[test]
    fn an_answer_names_all_policies_and_the_nearest_limit() {
        let walk = limited(&[
            ("100 requests/minute", 20, 22_001),
            ("2000 requests/hour", 1_900, 3_600_000),
            ("500 MB/hour", 499_000_000, 1),
        ]);
        assert_eq!(
            text(&walk, Headers::Standard),
            [
                "RateLimit-Policy: \"requests-60s\";q=100;w=60, \"requests-3600s\";q=2000;w=3600, \
                 \"bytes-3600s\";q=500000000;qu=\"content-bytes\";w=3600",
                "RateLimit: \"requests-60s\";r=20;t=23",
            ]
        );
    }

    #[test]
    fn a_long_limit_that_is_full_gives_way_to_a_short_one_that_is_not() {
        let walk = limited(&[("10000 requests/hour", 9_000, 1_000), ("10 requests/second", 1, 400)]);
        let shown = text(&walk, Headers::Standard);
        assert_eq!(shown[1], "RateLimit: \"requests-1s\";r=1;t=1");
    }

    #[test]
    fn a_refusal_says_when_to_come_back_and_is_not_cached() {
        let walk = refused(&[("2000 requests/hour", 7, 9), ("100 requests/minute", 0, 11_200)], 1, 12_000);
        let shown = text(&walk, Headers::Both);
        assert_eq!(
            shown[1..],
            [
                "RateLimit: \"requests-60s\";r=0;t=12",
                "X-RateLimit-Limit: 100",
                "X-RateLimit-Remaining: 0",
                "X-RateLimit-Reset: 12",
                "Retry-After: 12",
                "Cache-Control: no-store",
            ]
        );
    }

    #[test]
    fn headers_off_leaves_a_refusal_its_retry_after() {
        let walk = refused(&[("100 requests/minute", 0, 100)], 0, 100);
        let shown = text(&walk, Headers::Off);
        assert_eq!(shown, ["Retry-After: 1", "Cache-Control: no-store"]);
        assert!(text(&limited(&[("100 requests/minute", 5, 1)]), Headers::Off).is_empty());
        assert!(text(&walk_of("nobody"), Headers::Both).is_empty(), "nothing is limited");
    }

    #[test]
    fn the_largest_limit_fits_into_a_field() {
        // Integers of structured fields have 15 digits at most (RFC 9651, section 3.3.1).
        assert_eq!(weir_policy::MAX_AMOUNT.to_string().len(), 15);
        let walk = limited(&[("999999999999999 units/minute", 999_999_999_999_999, 1)]);
        assert_eq!(
            text(&walk, Headers::Standard),
            [
                "RateLimit-Policy: \"units-60s\";q=999999999999999;qu=\"units\";w=60",
                "RateLimit: \"units-60s\";r=999999999999999;t=1",
            ]
        );
    }
}
