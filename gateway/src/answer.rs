//! What a client that is turned away reads: problem details (RFC 9457) or one plain sentence. The
//! types are those of the IANA registry that the rate-limit draft fills.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;

use serde::Serialize;

use crate::accept::{PLAIN, PROBLEM};
use crate::walk::{Quota, Reason, Refusal, Walk};
use crate::walks::Token;

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// Empty where the media type has none.
    pub charset: &'static str,
    pub body: String,
}

/// What a refusal may tell beside its reason, for people to go by. Empty where there is nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Links<'a> {
    /// Where the client reads about its limits (`weir_portal`).
    pub portal: &'a [u8],
    /// By what name the request stands in nginx's logs (`$request_id`). Where there is none it gets one
    /// that stands in the line of its refusal.
    pub request_id: &'a [u8],
}

impl Answer {
    /// With the links, which differ from request to request: in a document as members, in plain text
    /// as lines.
    pub fn with(&self, links: &Links<'_>) -> Answer {
        // Room at once for all that is added: this happens at each refusal of a flood.
        let room = self.body.len() + links.portal.len() + links.request_id.len() + 64;
        let mut body = String::with_capacity(room);
        let is_plain = self.content_type == PLAIN;
        let end = if is_plain { "" } else { END };
        body.push_str(self.body.strip_suffix(end).unwrap_or_default());
        let given = [("portal", links.portal), ("request_id", links.request_id)];
        for (name, value) in given {
            // What is not text would be of no use to anybody.
            let Some(value) = std::str::from_utf8(value).ok().filter(|value| !value.is_empty()) else {
                continue;
            };
            if is_plain {
                let _ = writeln!(body, "{name}: {}", value.escape_debug());
            } else {
                [",\"", name, "\":"].iter().for_each(|piece| body.push_str(piece));
                push_quoted(&mut body, value);
            }
        }
        body.push_str(end);
        let Answer { status, content_type, charset, .. } = *self;
        Answer { status, content_type, charset, body }
    }
}

/// Text as JSON has it.
fn push_quoted(body: &mut String, text: &str) {
    // What ids and links are. Without an early end this goes by many bytes at once.
    let is_plain = |plain: bool, b| plain & (0x20..0x7f).contains(&b) & (b != b'"') & (b != b'\\');
    if text.bytes().fold(true, is_plain) {
        ["\"", text, "\""].iter().for_each(|piece| body.push_str(piece));
    } else {
        body.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

/// The name of a request that nginx's own logs have none for: as long as `$request_id`, but made of what
/// is there, since random bytes for each refusal would be the dearest part of a flood. `worker` is a
/// number that no other worker has.
pub(crate) fn request_id(worker: u64, token: Token) -> [u8; 32] {
    let number = (u128::from(worker) << 64) | u128::from(token.to_bits());
    std::array::from_fn(|digit| b"0123456789abcdef"[(number >> (124 - 4 * digit)) as usize & 15])
}

/// How a document ends.
const END: &str = "}\n";

/// The last refusal that was written: a flood is answered with the same text again and again.
#[derive(Debug, Default)]
pub(crate) struct Answers(RefCell<Option<(Occasion, Rc<Answer>)>>);

/// All that a refusal tells, beside what the profile says.
type Occasion = (Refusal, bool, Option<usize>, Option<u64>);

impl Answers {
    /// The refusal of `walk`, whose profile these are the answers of.
    pub fn of(&self, walk: &Walk, refusal: Refusal, plain: bool) -> Rc<Answer> {
        let remaining = walk.nearest().map(|quota| quota.remaining);
        let occasion = (refusal, plain, walk.refused_by, remaining);
        let mut last = self.0.borrow_mut();
        match &*last {
            Some((known, answer)) if *known == occasion => Rc::clone(answer),
            _ => {
                let answer = Rc::new(answer(walk, refusal, plain));
                *last = Some((occasion, Rc::clone(&answer)));
                answer
            }
        }
    }
}

/// Writes the refusal of `walk`.
fn answer(walk: &Walk, refusal: Refusal, plain: bool) -> Answer {
    let told = Told::new(walk, refusal, walk.client_name());
    let (content_type, charset, mut body) = if plain {
        (PLAIN, "utf-8", told.detail)
    } else {
        // Text and numbers alone: nothing that JSON could not say.
        (PROBLEM, "", serde_json::to_string(&told).unwrap_or_default())
    };
    body.push('\n');
    Answer { status: refusal.status, content_type, charset, body }
}

/// What the log says of a refusal. Names that another system may have chosen are
/// quoted.
pub fn line(walk: &Walk, refusal: Refusal, request_id: &[u8]) -> String {
    let told = Told::new(walk, refusal, &format!("{:?}", walk.client()));
    let request_id = String::from_utf8_lossy(request_id);
    format!("refused: {}, endpoint: {:?}, request_id: {request_id:?}", told.detail, walk.endpoint())
}

/// A problem document.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated: Option<[&'a str; 1]>,
}

impl<'a> Told<'a> {
    fn new(walk: &'a Walk, refusal: Refusal, name: &str) -> Told<'a> {
        let violated = walk.nearest().filter(|_| refusal.reason == Reason::Limit);
        let (kind, title, mut detail) = match refusal.reason {
            Reason::Limit => (
                "https://iana.org/assignments/http-problem-types#quota-exceeded",
                "Request cannot be satisfied as assigned quota has been exceeded",
                used(name, violated, walk.refused_by.is_some_and(|by| walk.beyond.is_of(by))),
            ),
            Reason::CannotDecide => (
                "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
                "Temporarily reduced capacity",
                "The quota cannot be checked at the moment".into(),
            ),
            Reason::UnknownCaller => {
                ("about:blank", "Forbidden", "This API answers only requests with a valid API key".into())
            }
        };
        if let Some(seconds) = refusal.retry_after_s {
            // Writing to a String cannot fail.
            let _ = write!(detail, "; retry in {seconds} s");
        }
        Told {
            kind,
            title,
            status: refusal.status,
            detail,
            limit: violated.map(|quota| quota.name),
            retry_after: refusal.retry_after_s,
            violated: violated.map(|quota| [quota.id]),
        }
    }
}

/// `Acme Corp used 100 of 100 requests/minute`; `beyond`: and what the policy allows beyond them.
fn used(name: &str, violated: Option<Quota<'_>>, beyond: bool) -> String {
    let mut text = String::with_capacity(128);
    let _ = match violated {
        Some(quota) => {
            let used = quota.limit.amount.saturating_sub(quota.remaining);
            write!(text, "{name} used {used} of {}", quota.name)
        }
        None => write!(text, "{name} used its quota"),
    };
    if beyond {
        text.push_str(" and all that may pass beyond");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::walk::tests::{refused, turned_away};

    #[test]
    fn a_client_reads_what_it_used_and_when_to_come_back() {
        let walk = refused(&[("100 requests/minute", 0, 11_200)], 0, 12_000);
        let answer = answer(&walk, walk.refusal().unwrap(), false);
        assert_eq!((answer.status, answer.content_type), (429, "application/problem+json"));
        let read: Value = serde_json::from_str(&answer.body).unwrap();
        let expected = json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": 429,
            "detail": "Acme Corp used 100 of 100 requests/minute; retry in 12 s",
            "limit": "100 requests/minute",
            "retry_after": 12,
            "violated-policies": ["requests-60s"],
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_name_cannot_break_out_of_the_document() {
        let walk = refused(&[("100 requests/minute", 0, 1_000)], 0, 1_000);
        let name = "\"},{\"</script>\r\nX: y\u{202e}";
        let body = serde_json::to_string(&Told::new(&walk, walk.refusal().unwrap(), name)).unwrap();
        let read: Value = serde_json::from_str(&body).unwrap();
        assert!(read["detail"].as_str().unwrap().starts_with(name));
        assert!(!body.contains(['\r', '\n']));
    }

    #[test]
    fn plain_text_is_one_sentence() {
        let walk = refused(&[("100 requests/minute", 0, 1_000)], 0, 1_000);
        let answer = answer(&walk, walk.refusal().unwrap(), true);
        assert_eq!(answer.content_type, "text/plain");
        assert_eq!(answer.body, "Acme Corp used 100 of 100 requests/minute; retry in 1 s\n");
    }

    #[test]
    fn links_are_members_of_the_document_and_lines_of_the_text() {
        let walk = refused(&[("100 requests/minute", 0, 1_000)], 0, 1_000);
        let links = Links { portal: b"https://api.example/usage?\"x\"", request_id: b"f00d" };
        let document = answer(&walk, walk.refusal().unwrap(), false).with(&links);
        let read: Value = serde_json::from_str(&document.body).unwrap();
        assert_eq!((&read["portal"], &read["request_id"]), (&links_text(&links).into(), &"f00d".into()));
        assert_eq!(read["retry_after"], 1);
        let plain = answer(&walk, walk.refusal().unwrap(), true).with(&links);
        assert_eq!(plain.body.lines().count(), 3);
        assert_eq!(plain.body.lines().last(), Some("request_id: f00d"));
        let bare = answer(&walk, walk.refusal().unwrap(), false);
        assert_eq!(bare.with(&Links::default()), bare);
        assert_eq!(bare.with(&Links { portal: b"\xff", request_id: b"" }), bare);
    }

    fn links_text<'a>(links: &Links<'a>) -> &'a str {
        std::str::from_utf8(links.portal).unwrap()
    }

    #[test]
    fn what_cannot_be_decided_is_no_fault_of_the_client() {
        let walk = turned_away(Reason::CannotDecide);
        let answer = answer(&walk, walk.refusal().unwrap(), false);
        let read: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer.status, 503);
        assert!(read["type"].as_str().unwrap().ends_with("#temporary-reduced-capacity"));
        assert!(read.get("violated-policies").is_none());
    }

    #[test]
    fn an_unknown_caller_is_told_what_is_missing_and_no_time() {
        let walk = turned_away(Reason::UnknownCaller);
        let answer = answer(&walk, walk.refusal().unwrap(), false);
        let read: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, read["type"].as_str()), (403, Some("about:blank")));
        assert!(read.get("retry_after").is_none());
    }
}
