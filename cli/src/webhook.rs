//! What the platform team is told, posted as signed JSON as well. Headers, signature and secret are
//! those of Standard Webhooks (docs/alerts.md).

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use ring::hmac;
use serde_json::json;
use weir_analytics::alerts::Message;

use crate::clock;
use crate::config::Webhook;
use crate::outgoing::{self, told};

/// The key in the secret's file.
pub struct Secret(hmac::Key);

/// The shortest secret that is not to be guessed.
const SHORTEST: usize = 24;

impl Secret {
    pub fn read(settings: &Webhook) -> Result<Secret, String> {
        let path = settings.secret_file.display();
        let text = fs::read_to_string(&settings.secret_file)
            .map_err(|error| format!("cannot read [webhook] secret_file {path}: {error}"))?;
        let wrong =
            || format!("{path} holds no secret; write whsec_ and {SHORTEST} to 64 random bytes in base64");
        let bytes = text.trim().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        let bytes = bytes.filter(|bytes| (SHORTEST..=64).contains(&bytes.len())).ok_or_else(wrong)?;
        Ok(Secret(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64.
    fn sign(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{timestamp_s}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }
}

/// The body of a message, the same at each attempt.
pub fn body(message: &Message) -> String {
    let kind = if message.recovered { "findings.recovered" } else { "findings.fired" };
    let decided = jiff::Timestamp::from_microsecond(message.decided_us).unwrap_or_default();
    let data = json!({ "findings": message.findings, "more": message.more });
    json!({ "type": kind, "timestamp": decided.to_string(), "data": data }).to_string()
}

/// Why a message is not known to have arrived.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error("{0}")]
    Unanswered(String),
}

/// Posts one message; any answer of 2xx is taken for its receipt.
pub async fn post(settings: &Webhook, secret: &Secret, message: &Message) -> Result<(), PostError> {
    let client = outgoing::client(&settings.url, settings.allow_link_local).await;
    let (client, url) = client.map_err(PostError::Unanswered)?;
    let (id, body) = (format!("msg_{}", message.id), body(message));
    let timestamp_s = clock::now_us().div_euclid(1_000_000);
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", timestamp_s.to_string())
        .header("webhook-signature", secret.sign(&id, timestamp_s, &body))
        .body(body);
    let unanswered = |error: reqwest::Error| PostError::Unanswered(told(&error.without_url()));
    let answer = request.send().await.map_err(unanswered)?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(PostError::Refused(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_published_example() {
        let folder = tempfile::tempdir().unwrap();
        let secret_file = folder.path().join("secret");
        // The test vector of the reference libraries.
        fs::write(&secret_file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let settings = Webhook { url: String::new(), secret_file, allow_link_local: false };
        let secret = Secret::read(&settings).unwrap();
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_none_is_told_without_being_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let secret_file = folder.path().join("secret");
        for text in ["hunter2", "whsec_c2hvcnQ=", "whsec_!!"] {
            fs::write(&secret_file, text).unwrap();
            let settings =
                Webhook { url: String::new(), secret_file: secret_file.clone(), allow_link_local: false };
            let told = Secret::read(&settings).err().unwrap();
            assert!(told.contains("whsec_ and 24") && !told.contains(text), "{told}");
        }
    }
}
