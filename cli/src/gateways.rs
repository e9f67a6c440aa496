//! What the gateways of an installation say of themselves (`weir_metrics` as JSON).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;

/// A gateway that is asked has so long to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any gateway has to say.
const MAX_ANSWER: usize = 64 << 20;

/// One gateway, as it answered.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    pub version: String,
    pub policy: String,
    pub time_us: i64,
    #[serde(default)]
    pub weir_gateways: u64,
    pub weir_redis_up: Option<u64>,
    #[serde(default)]
    pub weir_records_lost: u64,
    #[serde(default)]
    pub weir_policy_problems: u64,
    #[serde(default)]
    pub weir_shm_evicted: u64,
    #[serde(default)]
    pub weir_shm_keys: u64,
    #[serde(default)]
    pub weir_shm_capacity: u64,
    #[serde(default)]
    pub clients: Vec<Figure>,
    #[serde(default)]
    pub unknown: Vec<Figure>,
}

/// What one client or caller has sent since a gateway began to count.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Figure {
    pub name: String,
    pub tier: Option<String>,
    pub requests: u64,
    pub refused: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Figure {
    pub fn bytes(&self) -> u64 {
        self.bytes_in.saturating_add(self.bytes_out)
    }

    /// Adds another gateway's.
    pub fn add(&mut self, other: &Figure) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        if self.tier.is_none() {
            self.tier.clone_from(&other.tier);
        }
    }
}

/// A gateway's answer, and when it was asked and had answered by our clock.
pub struct Answer {
    pub told: Told,
    pub sent_us: i64,
    pub received_us: i64,
}

/// What is wrong with an address, if anything.
pub fn problem(url: &str) -> Option<String> {
    let known = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let has_secret = url.split('/').nth(2).is_some_and(|host| host.contains('@'));
    match (known, has_secret) {
        (false, _) => {
            let text = "an address of [gateways] metrics, or of --gateway, is none of a gateway: write it like \
                        http://127.0.0.1/weir/metrics";
            Some(text.to_owned())
        }
        // It is not repeated.
        (true, true) => Some("an address of [gateways] metrics has a password in it".to_owned()),
        (true, false) if leads_to_metadata(url) => {
            Some("an address of [gateways] metrics is that of a cloud's metadata".to_owned())
        }
        (true, false) => None,
    }
}

/// Whether a URL names the address at which a cloud hands out credentials, in whatever spelling.
pub fn leads_to_metadata(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let address = host.and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    address.is_some_and(weir_redis_link::is_metadata)
}

/// Asks one. The error says what happened, without the address.
pub async fn ask(url: &str) -> Result<Answer, String> {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        // Where a gateway is, the installation says and nobody else.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    let sent_us = clock::now_us();
    let asking = client.get(url).header("Accept", "application/json").send().await;
    let mut answer = asking.map_err(|error| told(&error))?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(format!("it answered {}; is `weir_metrics` there, and may we ask?", answer.status()));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| told(&error))? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER {
            return Err("its answer has no end".to_owned());
        }
    }
    let received_us = clock::now_us();
    let told = serde_json::from_slice(&body)
        .map_err(|error| format!("it answered something else than figures: {error}"))?;
    Ok(Answer { told, sent_us, received_us })
}

/// The innermost cause, which says most.
fn told(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("cannot be asked: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_gateways_are_asked() {
        assert_eq!(problem("http://10.0.0.1/weir/metrics"), None);
        let metadata = ["http://169.254.169.254/latest/", "http://2852039166/", "https://[fd00:ec2::254]/"];
        assert!(metadata.iter().all(|url| problem(url).unwrap().contains("a cloud's metadata")));
        for url in ["file:///etc/passwd", "gopher://h/", "10.0.0.1", "http://me:secret@h/"] {
            let problem = problem(url).unwrap();
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn what_a_gateway_says_beyond_that_is_left_alone() {
        let text = r#"{"version":"1","policy":"ab","time_us":3,"weir_requests":{},"new":[],
            "clients":[{"name":"a","tier":null,"requests":1,"refused":0,"bytes_in":2,"bytes_out":3,"x":1}]}"#;
        let told: Told = serde_json::from_str(text).unwrap();
        assert_eq!((told.clients[0].bytes(), told.weir_redis_up), (5, None));
    }
}
