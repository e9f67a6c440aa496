//! Mails about any finding, and digests of many: the sentence and the figures that it brings.

use askama::Template;
use weir_analytics::alerts::Message;
use weir_analytics::finding::{Figure, Finding, Measure, Severity, whom};

use super::compose::Letter;
use crate::name::{shown, shown_within};
use crate::number;
use crate::when::Zone;

macro_rules! files {
    ($($name:ident = $path:literal),* $(,)?) => { $(
        #[derive(Template)]
        #[template(path = $path)]
        struct $name<'a> {
            letter: &'a Letter,
            told: &'a Told,
        }
    )* };
}

files! {
    FindingSubject = "mail/finding/subject.txt",
    FindingText = "mail/finding/body.txt",
    FindingHtml = "mail/finding/body.html",
    DigestSubject = "mail/digest/subject.txt",
    DigestText = "mail/digest/body.txt",
    DigestHtml = "mail/digest/body.html",
}

/// What the templates say beside the letter.
struct Told {
    sentence: String,
    recovered: bool,
    colour: &'static str,
    at: String,
    lines: Vec<Line>,
    /// All of them, those without a line included.
    count: String,
    /// Of those.
    critical: usize,
    more: String,
}

/// One finding of a digest.
struct Line {
    colour: &'static str,
    severity: &'static str,
    at: String,
    sentence: String,
}

/// The figures as rows, and when it began and, as far as was known then, ended.
pub fn rows(finding: &Finding, zone: &Zone, now_us: i64) -> Vec<(String, String)> {
    let mut rows = vec![("Since".to_string(), zone.moment_named(finding.since_us))];
    let ended = finding.until_us.filter(|us| *us <= now_us);
    rows.extend(ended.map(|us| ("Until".to_string(), zone.moment_named(us))));
    rows.extend(finding.endpoint.as_deref().map(|endpoint| ("Endpoint".to_string(), shown(endpoint))));
    let row = |figure: &Figure| (capital(&shown(&figure.name)), value(figure, zone));
    rows.extend(finding.figures.iter().map(row));
    rows
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn value(figure: &Figure, zone: &Zone) -> String {
    let whole = figure.value.max(0.0).round() as u64;
    match figure.unit {
        Measure::Requests => format!("{} requests", number::amount(whole)),
        Measure::Bytes => number::bytes(i64::try_from(whole).unwrap_or(i64::MAX)),
        Measure::Units => format!("{} units", number::amount(whole)),
        Measure::Percent => format!("{} %", short(figure.value)),
        Measure::Milliseconds => format!("{} ms", number::amount(whole)),
        Measure::Times => short(figure.value),
        Measure::Moment => zone.moment_named(figure.value as i64),
    }
}

/// One digit behind the point, where there is something.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_string()
}

/// The longest sentence that is shown whole.
const LONGEST: usize = 300;

/// The finding's sentence; a client knows who it is.
fn sentence(finding: &Finding, letter: &Letter) -> String {
    let who = whom(finding.client.as_deref(), None) + ": ";
    let own = finding.sentence.strip_prefix(&who).filter(|_| letter.to_client);
    shown_within(own.unwrap_or(&finding.sentence), LONGEST)
}

fn colour(severity: Severity, recovered: bool) -> &'static str {
    match severity {
        _ if recovered => "#2e8b57",
        Severity::Critical => "#cf2f38",
        Severity::Warning => "#d08000",
        Severity::Info => "#1d5fbf",
    }
}

/// Subject, text and HTML.
pub fn single(
    letter: &Letter,
    finding: &Finding,
    recovered: bool,
    zone: &Zone,
) -> Result<[String; 3], askama::Error> {
    let told = Told {
        sentence: sentence(finding, letter),
        recovered,
        colour: colour(finding.severity, recovered),
        at: zone.time_named(finding.until_us.filter(|_| recovered).unwrap_or(finding.since_us)),
        lines: Vec::new(),
        count: String::new(),
        critical: 0,
        more: String::new(),
    };
    let (letter, told) = (letter, &told);
    Ok([
        FindingSubject { letter, told }.render()?.trim().to_string(),
        FindingText { letter, told }.render()?,
        FindingHtml { letter, told }.render()?,
    ])
}

pub fn digest(letter: &Letter, message: &Message, zone: &Zone) -> Result<[String; 3], askama::Error> {
    let line = |f: &Finding| Line {
        colour: colour(f.severity, message.recovered),
        severity: f.severity.word(),
        at: zone.moment(f.since_us),
        sentence: sentence(f, letter),
    };
    let worst = message.findings.iter().map(|f| f.severity).max().unwrap_or(Severity::Info);
    let told = Told {
        sentence: message.findings.first().map(|f| sentence(f, letter)).unwrap_or_default(),
        recovered: message.recovered,
        colour: colour(worst, message.recovered),
        at: zone.moment_named(message.decided_us),
        lines: message.findings.iter().map(line).collect(),
        count: number::amount((message.findings.len() + message.more) as u64),
        critical: message.findings.iter().filter(|f| f.severity == Severity::Critical).count(),
        more: if message.more > 0 { number::amount(message.more as u64) } else { String::new() },
    };
    let (letter, told) = (letter, &told);
    Ok([
        DigestSubject { letter, told }.render()?.trim().to_string(),
        DigestText { letter, told }.render()?,
        DigestHtml { letter, told }.render()?,
    ])
}
