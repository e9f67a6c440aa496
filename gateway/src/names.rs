//! Names that go into limits and records. All of them come from a bounded set: the configuration,
//! the policy, or this file. Nothing a client may choose freely becomes a name.

use std::borrow::Cow;

/// Longer endpoint names are cut: a name is stored once per spool segment, not per request, and a
/// configuration that builds names from variables must not break that.
const ENDPOINT_MAX: usize = 128;

/// Where neither a route nor a location has a name.
const NO_ENDPOINT: &str = "other";

/// The method as records spell it. Only methods that nginx knows stand for themselves: a client may
/// invent any number of others.
pub fn method(name: &[u8]) -> &'static str {
    const KNOWN: [&str; 16] = [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "COPY",
        "MOVE",
        "MKCOL",
        "LOCK",
        "UNLOCK",
        "PROPFIND",
        "PROPPATCH",
    ];
    KNOWN.into_iter().find(|known| known.as_bytes() == name).unwrap_or("OTHER")
}

/// The endpoint: what the place says, else the policy's route for the path, else the place's name.
pub fn endpoint<'a>(said: &'a [u8], route: Option<&'a str>, place: &'a [u8]) -> Cow<'a, str> {
    let named = text(said);
    if !named.is_empty() {
        return named;
    }
    if let Some(route) = route {
        return Cow::Borrowed(route);
    }
    let place = text(place);
    if place.is_empty() { Cow::Borrowed(NO_ENDPOINT) } else { place }
}

/// Bytes as printable text of bounded length: what is not UTF-8 or is a control character becomes
/// U+FFFD.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    // What nearly all names are.
    if bytes.is_empty() {
        return Cow::Borrowed("");
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.len() <= ENDPOINT_MAX
        && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    {
        return Cow::Borrowed(text);
    }
    let whole = String::from_utf8_lossy(bytes);
    let clean = whole.len() <= ENDPOINT_MAX && !whole.contains(char::is_control);
    if clean { whole } else { Cow::Owned(cut(&whole)) }
}

fn cut(whole: &str) -> String {
    let printable = |c: char| {
        if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
    };
    let mut short = String::new();
    for c in whole.chars().map(printable) {
        if short.len() + c.len_utf8() > ENDPOINT_MAX {
            break;
        }
        short.push(c);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_methods_share_one_name() {
        assert_eq!(method(b"GET"), "GET");
        assert_eq!(method(b"PROPPATCH"), "PROPPATCH");
        for odd in [&b""[..], b"get", b"FROBNICATE", b"GET ", b"\xff"] {
            assert_eq!(method(odd), "OTHER", "{odd:?}");
        }
    }

    #[test]
    fn an_endpoint_is_said_or_routed_or_placed() {
        assert_eq!(endpoint(b"orders", Some("order"), b"/api/"), "orders");
        assert_eq!(endpoint(b"", Some("order"), b"/api/"), "order");
        assert_eq!(endpoint(b"", None, b"/api/"), "/api/");
        assert_eq!(endpoint(b"", None, b""), "other");
    }

    #[test]
    fn an_endpoint_is_short_printable_utf8() {
        assert_eq!(endpoint(b"a\xffb", None, b""), "a\u{fffd}b");
        assert_eq!(endpoint(b"a\r\nb", None, b""), "a\u{fffd}\u{fffd}b");
        let long = endpoint(&[b'x'; 9000], None, b"").into_owned();
        assert_eq!(long.len(), ENDPOINT_MAX);
        let wide = "é".repeat(100);
        let short = endpoint(wide.as_bytes(), None, b"").into_owned();
        assert_eq!(short, "é".repeat(ENDPOINT_MAX / 2), "cut between characters");
    }
}
