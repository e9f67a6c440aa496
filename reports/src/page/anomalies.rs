//! What is unlike itself: when, by how much, whose, and drawn with what was expected.

use askama::Template;
use weir_analytics::anomaly::{Anomaly, Course, Kind};

use super::{Books, Frame, endpoint_link};
use crate::chart::{Chart, band};
use crate::name::shown;
use crate::number;
use crate::site::SiteInput;
use crate::subject::Subject;
use crate::when::Zone;

/// Episodes that are drawn, the newest; all others are lines of the table.
const MOST_CHARTS: usize = 12;
/// Lines of the table.
const MOST_LINES: usize = 500;

#[derive(Template)]
#[template(path = "page/anomalies.html")]
pub struct Anomalies {
    pub frame: Frame,
    pub books: Books,
    pub lines: Vec<Line>,
    pub charts: Vec<Chart>,
    /// `3 older ones`, where there are more than lines.
    pub more: Option<String>,
}

/// One episode.
pub struct Line {
    pub facts: Unusual,
    /// `Acme Corp`; `All clients`.
    pub client: String,
    pub link: Option<String>,
    pub endpoint: Option<String>,
    pub endpoint_link: Option<String>,
    /// For sorting.
    pub from_us: i64,
    pub value: f64,
    pub expected: f64,
    /// `4.2 times as many`
    pub away: String,
}

/// An episode in words that name nobody.
#[derive(Clone, Debug)]
pub struct Unusual {
    /// `Many requests`
    pub what: &'static str,
    /// `POST /orders`
    pub endpoint: Option<String>,
    /// `3,100 requests in an hour`
    pub value: String,
    /// `1,000 requests`
    pub expected: String,
    /// `24 Nov 2026, 13:00 to 15:00 UTC`
    pub when: String,
}

impl Unusual {
    pub fn of(anomaly: &Anomaly, zone: &Zone) -> Unusual {
        let told = |value| match &anomaly.part {
            Some(part) if anomaly.kind == Kind::Mix => format!("{} {}", share(value), shown(&part.name)),
            _ => told(anomaly.kind, value),
        };
        let (value, expected) = (told(anomaly.value), told(anomaly.expected));
        Unusual {
            what: what(anomaly.kind),
            endpoint: anomaly.endpoint.as_deref().map(shown),
            value,
            expected,
            when: format!("{} {}", zone.range(anomaly.from_us, anomaly.to_us), zone.name()),
        }
    }
}

fn what(kind: Kind) -> &'static str {
    match kind {
        Kind::Spike => "Many requests",
        Kind::Drop => "Few requests",
        Kind::Silence => "No requests",
        Kind::Errors => "Many errors",
        Kind::Latency => "Slow answers",
        Kind::Mix => "Other requests than usual",
    }
}

/// A value of a kind with its unit.
fn told(kind: Kind, value: f64) -> String {
    match kind {
        Kind::Spike | Kind::Drop | Kind::Silence => {
            number::counted(value.round() as i64, "request", "requests")
        }
        Kind::Errors => format!("{} errors", share(value)),
        Kind::Latency => format!("{} on average", number::latency(Some(value))),
        Kind::Mix => share(value),
    }
}

fn share(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

fn drawn(n: usize, course: &Course, who: &str) -> Chart {
    let kind = course.anomaly.kind;
    let (unit, format): (&str, fn(f64) -> String) = match kind {
        Kind::Spike | Kind::Drop | Kind::Silence => ("requests per hour", number::compact),
        Kind::Errors => ("errors (5xx) of all requests, by hour", share),
        Kind::Latency => ("average time to answer, by hour", |us| number::latency(Some(us))),
        Kind::Mix => ("share of the endpoint that changed most, by hour", share),
    };
    let endpoint = course.anomaly.endpoint.as_deref().map(|e| format!(", {}", shown(e))).unwrap_or_default();
    let title = format!("{}: {who}{endpoint}", what(kind));
    band((format!("episode-{n}"), title, unit.to_owned()), course, &Zone::utc(), &format)
}

/// How far from what was expected.
fn away(anomaly: &Anomaly) -> String {
    if matches!(anomaly.kind, Kind::Errors | Kind::Mix) {
        return format!("{:+.1} points", 100.0 * (anomaly.value - anomaly.expected));
    }
    if anomaly.expected <= 0.0 {
        return "–".to_owned();
    }
    let times = anomaly.value / anomaly.expected;
    if times >= 2.0 {
        return format!("{} times as much", number::compact((times * 10.0).round() / 10.0));
    }
    format!("{:+.0} %", 100.0 * (times - 1.0)).replace('-', "−")
}

impl Anomalies {
    pub fn new(input: &SiteInput, frame: Frame, links: &dyn Fn(&str) -> Option<String>) -> Anomalies {
        let newest: Vec<&Course> = input.anomalies.iter().rev().collect();
        let name = |id: &Option<String>| match id {
            Some(id) => Subject::of(input.policy, id).name,
            None => "All clients".to_owned(),
        };
        let line = |course: &&Course| {
            let a = &course.anomaly;
            Line {
                facts: Unusual::of(a, &Zone::utc()),
                client: name(&a.client),
                link: a.client.as_deref().and_then(links),
                endpoint: a.endpoint.as_deref().map(shown),
                endpoint_link: a.endpoint.as_deref().and_then(|e| endpoint_link(input, "", e)),
                from_us: a.from_us,
                value: a.value,
                expected: a.expected,
                away: away(a),
            }
        };
        let chart = |(n, course): (usize, &&Course)| drawn(n, course, &name(&course.anomaly.client));
        let more = newest.len().saturating_sub(MOST_LINES);
        Anomalies {
            frame,
            books: Books::of(input.overview, input.now_us, &Zone::utc()),
            lines: newest.iter().take(MOST_LINES).map(line).collect(),
            charts: newest.iter().take(MOST_CHARTS).enumerate().map(chart).collect(),
            more: (more > 0).then(|| number::counted(more as i64, "older one", "older ones")),
        }
    }
}
