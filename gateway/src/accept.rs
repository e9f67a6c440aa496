//! Which of the two forms of a refusal a client would rather have.

/// The media type of a problem's machine-readable form (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";
/// The media type of its plain form.
pub const PLAIN: &str = "text/plain";

/// Whether an `Accept` field asks for plain text rather than for a problem document. Without one, or
/// with one that treats both alike, the document it is.
pub fn prefers_plain(accept: &[u8]) -> bool {
    // What nearly all programs send.
    if matches!(accept, b"" | b"*/*") {
        return false;
    }
    let Ok(accept) = std::str::from_utf8(accept) else {
        return false;
    };
    let plain = quality(accept, "text", "plain");
    plain > quality(accept, "application", "problem+json").max(quality(accept, "application", "json"))
}

/// Whether an `Accept` field asks for JSON rather than for the text format of metrics.
pub fn prefers_json(accept: &[u8]) -> bool {
    let Ok(accept) = std::str::from_utf8(accept) else {
        return false;
    };
    let text = quality(accept, "application", "openmetrics-text");
    quality(accept, "application", "json") > text.max(quality(accept, "text", "plain"))
}

/// The quality, in thousandths, that the most specific matching range gives to a media type
/// (RFC 9110, section 12.5.1).
fn quality(accept: &str, kind: &str, subtype: &str) -> u16 {
    let ranges = accept.split(',').filter_map(|range| rank(range, kind, subtype));
    ranges.max().map_or(0, |(_, quality)| quality)
}

/// How specific a range is for a media type and the quality it gives; `None` where it does not match.
fn rank(range: &str, kind: &str, subtype: &str) -> Option<(u8, u16)> {
    let mut parts = range.split(';').map(str::trim);
    let (a, b) = parts.next()?.split_once('/')?;
    let (whole_kind, whole_type) = (a.eq_ignore_ascii_case(kind), b.eq_ignore_ascii_case(subtype));
    let specific = match (a, b) {
        ("*", "*") => 0,
        (_, "*") if whole_kind => 1,
        _ if whole_kind && whole_type => 2,
        _ => return None,
    };
    Some((specific, parts.find_map(q_value).unwrap_or(1_000)))
}

/// `q=0.8` in thousandths. A weight that is none counts as 0: such a range asks for nothing.
fn q_value(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let weight: f32 = value.trim().parse().unwrap_or(0.0);
    Some((weight.clamp(0.0, 1.0) * 1_000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_documents_and_terminals_text() {
        let cases = [
            ("", false),
            ("*/*", false),
            ("application/json", false),
            ("text/plain", true),
            ("text/*", true),
            ("TEXT/Plain", true),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("text/plain;q=0.5, application/problem+json", false),
            ("text/plain, application/json;q=0.9", true),
            ("text/plain;q=0", false),
            ("*/*;q=0.1, text/plain;q=0", false),
            ("text/*;q=0.3, */*;q=0.5", false),
            ("text/plain;q=NaN", false),
            ("text", false),
            (";;;,/,q=1", false),
        ];
        for (accept, plain) in cases {
            assert_eq!(prefers_plain(accept.as_bytes()), plain, "{accept:?}");
        }
        assert!(!prefers_plain(b"\xff/plain"));
    }

    #[test]
    fn metrics_are_text_unless_json_is_asked_for() {
        assert!(prefers_json(b"application/json"));
        assert!(prefers_json(b"application/json, */*;q=0.1"));
        let prometheus = b"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.2";
        for accept in [&b""[..], b"*/*", b"text/plain", b"\xff", prometheus] {
            assert!(!prefers_json(accept), "{accept:?}");
        }
    }
}
