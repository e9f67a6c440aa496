//! What a client that is turned away reads: problem details (RFC 9457) or one plain sentence.

use serde_json::{Value, json};

use crate::accept::{PLAIN, PROBLEM};
use crate::walk::{Quota, Reason, Refusal, Walk};

/// Problem types of the IANA registry that the rate-limit draft fills.
const TYPES: &str = "https://iana.org/assignments/http-problem-types#";

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// Empty where the media type has none.
    pub charset: &'static str,
    pub body: String,
}

/// Writes the refusal of `walk`. `name` is how the policy calls the client.
pub fn answer(walk: &Walk, refusal: Refusal, name: &str, plain: bool) -> Answer {
    let told = Told::new(walk, refusal, name);
    let (content_type, charset, body) = if plain {
        (PLAIN, "utf-8", format!("{}\n", told.detail))
    } else {
        (PROBLEM, "", format!("{}\n", told.document(refusal)))
    };
    Answer { status: refusal.status, content_type, charset, body }
}

/// What the log says of a refusal. Names that another system may have chosen are
/// quoted.
pub fn line(walk: &Walk, refusal: Refusal) -> String {
    let told = Told::new(walk, refusal, &format!("{:?}", walk.client()));
    format!("refused: {}, endpoint: {:?}", told.detail, walk.endpoint())
}

/// The parts of a problem, before it takes a form.
struct Told<'a> {
    kind: Option<&'static str>,
    title: &'static str,
    detail: String,
    violated: Option<Quota<'a>>,
}

impl<'a> Told<'a> {
    fn new(walk: &'a Walk, refusal: Refusal, name: &str) -> Told<'a> {
        match refusal.reason {
            Reason::Limit => Told::quota(walk, refusal, name),
            Reason::CannotDecide => Told {
                kind: Some("temporary-reduced-capacity"),
                title: "Temporarily reduced capacity",
                detail: format!(
                    "The quota cannot be checked at the moment; retry in {} s",
                    refusal.retry_after_s.unwrap_or(1)
                ),
                violated: None,
            },
            Reason::UnknownCaller => Told {
                kind: None,
                title: "Forbidden",
                detail: "This API answers only requests with a valid API key".into(),
                violated: None,
            },
        }
    }

    fn quota(walk: &'a Walk, refusal: Refusal, name: &str) -> Told<'a> {
        let wait = refusal.retry_after_s.map(|s| format!("; retry in {s} s")).unwrap_or_default();
        let violated = walk.nearest();
        let used = violated.map_or("used its quota".into(), |quota| {
            let used = quota.limit.amount.saturating_sub(quota.remaining);
            format!("used {used} of {}", quota.name)
        });
        Told {
            kind: Some("quota-exceeded"),
            title: "Request cannot be satisfied as assigned quota has been exceeded",
            detail: format!("{name} {used}{wait}"),
            violated,
        }
    }

    fn document(&self, refusal: Refusal) -> Value {
        let kind = self.kind.map_or("about:blank".into(), |kind| format!("{TYPES}{kind}"));
        let mut document = json!({
            "type": kind,
            "title": self.title,
            "status": refusal.status,
            "detail": self.detail,
        });
        if let Some(seconds) = refusal.retry_after_s {
            document["retry_after"] = seconds.into();
        }
        if let Some(quota) = self.violated {
            document["limit"] = quota.name.into();
            document["violated-policies"] = json!([quota.id]);
        }
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::{refused, turned_away};

    #[test]
    fn a_client_reads_what_it_used_and_when_to_come_back() {
        let walk = refused(&[("100 requests/minute", 0, 11_200)], 0, 12_000);
        let answer = answer(&walk, walk.refusal().unwrap(), "Acme Corp", false);
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
        let answer = answer(&walk, walk.refusal().unwrap(), name, false);
        let read: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(read["detail"].as_str().unwrap().starts_with(name));
        assert!(!answer.body.trim_end().contains(['\r', '\n']));
    }

    #[test]
    fn plain_text_is_one_sentence() {
        let walk = refused(&[("100 requests/minute", 0, 1_000)], 0, 1_000);
        let answer = answer(&walk, walk.refusal().unwrap(), "Acme Corp", true);
        assert_eq!(answer.content_type, "text/plain");
        assert_eq!(answer.body, "Acme Corp used 100 of 100 requests/minute; retry in 1 s\n");
    }

    #[test]
    fn what_cannot_be_decided_is_no_fault_of_the_client() {
        let walk = turned_away(Reason::CannotDecide);
        let answer = answer(&walk, walk.refusal().unwrap(), "Acme Corp", false);
        let read: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer.status, 503);
        assert!(read["type"].as_str().unwrap().ends_with("#temporary-reduced-capacity"));
        assert!(read.get("violated-policies").is_none());
    }

    #[test]
    fn an_unknown_caller_is_told_what_is_missing_and_no_time() {
        let walk = turned_away(Reason::UnknownCaller);
        let answer = answer(&walk, walk.refusal().unwrap(), "anonymous", false);
        let read: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, read["type"].as_str()), (403, Some("about:blank")));
        assert!(read.get("retry_after").is_none());
    }
}
