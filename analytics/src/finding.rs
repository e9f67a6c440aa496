//! One shape for everything that is found, whoever found it: what `weir findings` prints, pages show
//! and mails say.

pub mod file;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::anomaly::{self, Anomaly};
use crate::calendar::HOUR_US;
use crate::view::QuotaFinding;

/// What sort of thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A threshold below the whole of a limit of an hour or longer, or of a calendar quota.
    QuotaThreshold,
    /// The whole of such a limit.
    QuotaExhausted,
    /// A good part of a client's requests was refused by shorter limits.
    SustainedRefusals,
    /// Unlike itself; `about` says how.
    Anomaly,
    /// An error budget is used up too fast; `about` is the objective.
    ObjectiveBurn,
    /// What is going to happen; `about` is the limit or whatever else is forecast.
    Forecast,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::QuotaThreshold,
        Kind::QuotaExhausted,
        Kind::SustainedRefusals,
        Kind::Anomaly,
        Kind::ObjectiveBurn,
        Kind::Forecast,
    ];

    /// As in JSON, in the policy and in Parquet.
    pub fn word(self) -> &'static str {
        match self {
            Kind::QuotaThreshold => "quota_threshold",
            Kind::QuotaExhausted => "quota_exhausted",
            Kind::SustainedRefusals => "sustained_refusals",
            Kind::Anomaly => "anomaly",
            Kind::ObjectiveBurn => "objective_burn",
            Kind::Forecast => "forecast",
        }
    }
}

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Within the day.
    Warning,
    /// Now: requests are refused or fail. Not held back by quiet hours.
    Critical,
}

impl Severity {
    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Requests,
    Bytes,
    /// Of `weir_cost`.
    Units,
    Percent,
    Milliseconds,
    /// So many times something else.
    Times,
    /// A moment, microseconds UTC.
    Moment,
}

impl Measure {
    /// As in JSON and in Parquet.
    pub fn word(self) -> &'static str {
        match self {
            Measure::Requests => "requests",
            Measure::Bytes => "bytes",
            Measure::Units => "units",
            Measure::Percent => "percent",
            Measure::Milliseconds => "milliseconds",
            Measure::Times => "times",
            Measure::Moment => "moment",
        }
    }
}

/// One number that a finding rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `used`, `expected`: lower-case words, as a row of a table is called.
    pub name: String,
    pub value: f64,
    pub unit: Measure,
}

impl Figure {
    pub fn new(name: &str, value: f64, unit: Measure) -> Figure {
        Figure { name: name.to_owned(), value, unit }
    }
}

/// One episode of something worth a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Names the episode: [`subject_key`] of what it is about, a hyphen, and the millisecond it began.
    pub key: String,
    pub kind: Kind,
    /// The limit as the policy spells it; `spike`; `availability`.
    pub about: String,
    /// `None`: all clients together.
    pub client: Option<String>,
    /// `POST /orders`; `None`: all endpoints together.
    pub endpoint: Option<String>,
    pub severity: Severity,
    /// Microseconds UTC.
    pub since_us: i64,
    /// `None` while it goes on, or where nobody can tell.
    pub until_us: Option<i64>,
    /// One sentence without a full stop, plain text, that says who and what. Times in it are UTC.
    /// Names in it come from requests: it has to be escaped wherever it is put.
    pub sentence: String,
    /// The most telling first.
    pub figures: Vec<Figure>,
}

impl Finding {
    /// What it is about, whenever it began: episodes of one subject follow each other.
    pub fn subject(&self) -> &str {
        self.key.rsplit_once('-').map_or(&self.key, |(subject, _)| subject)
    }

    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|f| f.name == name).map(|f| f.value)
    }
}

/// Stands for what an episode is about in its key and in names of objects: 24 hex digits.
pub fn subject_key(parts: &impl Serialize) -> String {
    let text = serde_json::to_vec(parts).unwrap_or_default();
    Sha256::digest(text)[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key of an episode.
pub fn episode_key(parts: &impl Serialize, since_us: i64) -> String {
    format!("{}-{}", subject_key(parts), since_us.div_euclid(1000))
}

impl From<&QuotaFinding> for Finding {
    fn from(q: &QuotaFinding) -> Finding {
        let is_whole = q.threshold >= 100;
        let unit = if q.limit.contains("requests") { Measure::Requests } else { Measure::Bytes };
        let mut figures = vec![
            Figure::new("used", q.used as f64, unit),
            Figure::new("limit", q.amount as f64, unit),
            Figure::new("threshold", f64::from(q.threshold), Measure::Percent),
            Figure::new("refused", q.refused as f64, Measure::Requests),
        ];
        if !q.top_endpoint.is_empty() {
            let share = f64::from(q.top_share_percent);
            figures.push(Figure::new(
                &format!("share of {}", printable(&q.top_endpoint)),
                share,
                Measure::Percent,
            ));
        }
        let refused = if q.refused > 0 { format!(", {} refused", q.refused) } else { String::new() };
        Finding {
            key: q.id.clone(),
            kind: if is_whole { Kind::QuotaExhausted } else { Kind::QuotaThreshold },
            about: q.limit.clone(),
            client: Some(q.client.clone()),
            endpoint: None,
            severity: if is_whole { Severity::Critical } else { Severity::Warning },
            since_us: q.window_to_us,
            // A window that slides is another one when it has slid its length.
            until_us: q.slides().then(|| 2 * q.window_to_us - q.window_from_us),
            sentence: format!(
                "{}: {} % of {} reached{refused}",
                printable(&q.client),
                q.threshold,
                printable(&q.limit)
            ),
            figures,
        }
    }
}

impl From<&Anomaly> for Finding {
    fn from(a: &Anomaly) -> Finding {
        let about = match a.kind {
            anomaly::Kind::Spike => "spike",
            anomaly::Kind::Drop => "drop",
            anomaly::Kind::Silence => "silence",
            anomaly::Kind::Errors => "errors",
            anomaly::Kind::Latency => "latency",
            anomaly::Kind::Mix => "mix",
        };
        let (unit, factor) = match a.kind {
            anomaly::Kind::Errors | anomaly::Kind::Mix => (Measure::Percent, 100.0),
            anomaly::Kind::Latency => (Measure::Milliseconds, 0.001),
            _ => (Measure::Requests, 1.0),
        };
        let is_outage = matches!(a.kind, anomaly::Kind::Silence | anomaly::Kind::Errors);
        let critical = a.client.is_none() && is_outage;
        let mut figures = vec![
            Figure::new("value", a.value * factor, unit),
            Figure::new("expected", a.expected * factor, unit),
            Figure::new("worst hour", a.worst_us as f64, Measure::Moment),
            Figure::new("usual deviations", a.score, Measure::Times),
        ];
        if let Some(part) = &a.part {
            let name = format!("share of {}", printable(&part.name));
            figures.push(Figure::new(&name, part.share * 100.0, Measure::Percent));
            figures.push(Figure::new("usual share", part.usual * 100.0, Measure::Percent));
        }
        Finding {
            key: episode_key(&("anomaly", about, &a.client, &a.endpoint), a.from_us),
            kind: Kind::Anomaly,
            about: about.to_owned(),
            client: a.client.clone(),
            endpoint: a.endpoint.clone(),
            severity: if critical { Severity::Critical } else { Severity::Warning },
            since_us: a.from_us,
            until_us: Some(a.to_us),
            sentence: anomaly_sentence(a),
            figures,
        }
    }
}

/// `acme: 3100 requests in an hour, 3.1 times a usual Tuesday 14:00 (1000); 97 % of it POST /orders,
/// usually 12 %; 2 hours`.
fn anomaly_sentence(a: &Anomaly) -> String {
    let who = whom(a.client.as_deref(), a.endpoint.as_deref());
    let usual = format!("a usual {}", weekday_hour(a.worst_us));
    let times = if a.expected > 0.0 { a.value / a.expected } else { f64::INFINITY };
    let whole = |share: f64| format!("{:.0} %", share * 100.0);
    let of_part = |p: &anomaly::Part| {
        format!("; {} of it {}, usually {}", whole(p.share), printable(&p.name), whole(p.usual))
    };
    let part = a.part.as_ref().map(of_part).unwrap_or_default();
    let what = match a.kind {
        anomaly::Kind::Silence => format!("silent, where {usual} has {:.0} requests", a.expected),
        anomaly::Kind::Spike | anomaly::Kind::Drop => {
            format!("{:.0} requests in an hour, {times:.1} times {usual} ({:.0})", a.value, a.expected)
        }
        anomaly::Kind::Errors => {
            let percent = |share: f64| share * 100.0;
            format!("{:.1} % errors, where {usual} has {:.1} %", percent(a.value), percent(a.expected))
        }
        anomaly::Kind::Latency => {
            let (is, was) = (a.value / 1000.0, a.expected / 1000.0);
            format!("{is:.0} ms of latency in the mean, {times:.1} times {usual} ({was:.0} ms)")
        }
        anomaly::Kind::Mix => format!("another mix of requests than on {usual}"),
    };
    let hours = (a.to_us - a.from_us) / HOUR_US;
    format!("{who}: {what}{part}; {hours} {}", if hours == 1 { "hour" } else { "hours" })
}

/// `acme, POST /orders`, `acme`, `all clients`: how a sentence begins.
pub fn whom(client: Option<&str>, endpoint: Option<&str>) -> String {
    match (client, endpoint) {
        (None, None) => "all clients".to_owned(),
        (None, Some(endpoint)) => format!("all clients, {}", printable(endpoint)),
        (Some(client), None) => printable(client),
        (Some(client), Some(endpoint)) => format!("{}, {}", printable(client), printable(endpoint)),
    }
}

/// `Tuesday 14:00`, UTC.
fn weekday_hour(time_us: i64) -> String {
    jiff::Timestamp::from_microsecond(time_us)
        .map_or_else(|_| "hour".to_owned(), |t| t.strftime("%A %H:%M").to_string())
}

/// Names come from requests: what a terminal or a mail would obey is made visible.
pub fn printable(name: &str) -> String {
    name.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anomaly(kind: anomaly::Kind, value: f64, expected: f64) -> Anomaly {
        // Tuesday, 24 November 2026, 14:00 UTC.
        let at_us = 1_795_528_800_000_000;
        Anomaly {
            kind,
            client: Some("acme".to_owned()),
            endpoint: Some("POST /or\x1bders".to_owned()),
            from_us: at_us,
            to_us: at_us + 2 * HOUR_US,
            worst_us: at_us,
            value,
            expected,
            score: 9.0,
            part: None,
        }
    }

    #[test]
    fn an_anomaly_is_a_sentence_that_says_who_what_and_what_is_usual() {
        let told = |kind, value, expected| Finding::from(&anomaly(kind, value, expected)).sentence;
        let who = "acme, POST /or\\u{1b}ders";
        assert_eq!(
            told(anomaly::Kind::Spike, 3100.0, 1000.0),
            format!("{who}: 3100 requests in an hour, 3.1 times a usual Tuesday 14:00 (1000); 2 hours")
        );
        assert!(
            told(anomaly::Kind::Silence, 0.0, 40.0)
                .contains("silent, where a usual Tuesday 14:00 has 40 requests")
        );
        assert!(
            told(anomaly::Kind::Errors, 0.25, 0.01)
                .contains("25.0 % errors, where a usual Tuesday 14:00 has 1.0 %")
        );
        assert!(
            told(anomaly::Kind::Latency, 90_000.0, 30_000.0)
                .contains("90 ms of latency in the mean, 3.0 times")
        );
    }

    #[test]
    fn what_most_of_it_was_is_named_beside_what_it_usually_is() {
        let part = anomaly::Part { name: "POST /orders".to_owned(), share: 0.97, usual: 0.12 };
        let told = |kind, value, expected| {
            let (endpoint, part) = (None, Some(part.clone()));
            Finding::from(&Anomaly { endpoint, part, ..anomaly(kind, value, expected) })
        };
        let spike = told(anomaly::Kind::Spike, 3100.0, 1000.0);
        let times = "acme: 3100 requests in an hour, 3.1 times a usual Tuesday 14:00 (1000)";
        let most = "97 % of it POST /orders, usually 12 %; 2 hours";
        assert_eq!(spike.sentence, format!("{times}; {most}"));
        let mix = told(anomaly::Kind::Mix, 0.97, 0.12);
        let other = "acme: another mix of requests than on a usual Tuesday 14:00";
        assert_eq!(mix.sentence, format!("{other}; {most}"));
        assert_eq!((mix.about.as_str(), mix.figure("share of POST /orders")), ("mix", Some(97.0)));
    }

    #[test]
    fn a_key_follows_from_what_it_is_about_and_when_it_began() {
        let one = Finding::from(&anomaly(anomaly::Kind::Spike, 9.0, 1.0));
        let more = Finding::from(&anomaly(anomaly::Kind::Spike, 12.0, 1.0));
        let other = Finding::from(&anomaly(anomaly::Kind::Drop, 9.0, 1.0));
        assert_eq!(one.key, more.key);
        assert_ne!(one.subject(), other.subject());
        assert_eq!(one.key, format!("{}-1795528800000", one.subject()));
    }

    #[test]
    fn a_finding_survives_json_and_its_words_are_those_of_json() {
        let finding = Finding::from(&anomaly(anomaly::Kind::Errors, 0.5, 0.01));
        let text = serde_json::to_string(&finding).unwrap();
        assert_eq!(serde_json::from_str::<Finding>(&text).unwrap(), finding);
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.word()));
        }
        assert_eq!(finding.figure("value"), Some(50.0));
    }
}
