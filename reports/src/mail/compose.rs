//! From a finding to messages.

use std::time::{Duration, SystemTime};

use askama::Template;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use sha2::{Digest, Sha256};
use thiserror::Error;
use weir_analytics::view::QuotaFinding;
use weir_policy::Policy;

use crate::directories::Directories;
use crate::finding::Facts;
use crate::name::shown;
use crate::site::hex;
use crate::subject::Subject;
use crate::when::Zone;

/// Whom a mail is for. The wording differs; the numbers are the one client's in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// `[alerts] to` of the policy.
    Platform,
    /// The `contacts` of the client that the finding is about.
    Client,
}

/// What a mail needs to know besides the finding.
pub struct ComposeInput<'a> {
    pub policy: &'a Policy,
    /// `weir <weir@example.com>`
    pub from: &'a str,
    /// As in [`crate::SiteInput`]; without it mails have no link.
    pub public_url: Option<&'a str>,
    pub directories: &'a Directories,
    /// The `Date` of the mails, microseconds since the Unix epoch.
    pub now_us: i64,
}

/// A message for one recipient, ready to be sent.
#[derive(Clone, Debug)]
pub struct OutgoingMail {
    /// 32 hex digits that follow from the finding, the audience and the recipient alone: the name of
    /// this mail in the ledger.
    pub id: String,
    pub to: String,
    pub subject: String,
    pub message: Message,
}

/// The mails of one finding, and the recipients to whom none could be made.
#[derive(Debug, Default)]
pub struct Composed {
    pub mails: Vec<OutgoingMail>,
    pub failed: Vec<ComposeError>,
}

#[derive(Debug, Error)]
pub enum ComposeError {
    #[error("{address:?} is no mail address; correct [mail] from")]
    From { address: String },
    #[error("{address:?} is no mail address; correct it in the policy")]
    To { address: String },
    #[error("cannot write the mail to {to}: {why}; this is a mistake in weir, please report it")]
    Build { to: String, why: String },
}

/// One message for each recipient that `audience` has; none when it has none. A recipient whose
/// address is wrong does not keep the others from theirs.
pub fn compose(finding: &QuotaFinding, audience: Audience, input: &ComposeInput) -> Composed {
    let subject = Subject::of(input.policy, &finding.client);
    let mut composed = Composed::default();
    let from = match input.from.parse::<Mailbox>() {
        Ok(from) => from,
        Err(_) => {
            composed.failed.push(ComposeError::From { address: input.from.to_string() });
            return composed;
        }
    };
    let letter = Letter::new(finding, &subject, audience, input, &from);
    for to in recipients(audience, &subject, input.policy) {
        match message(finding, audience, &letter, &from, &to, input.now_us) {
            Ok(mail) => composed.mails.push(mail),
            Err(error) => composed.failed.push(error),
        }
    }
    composed
}

/// In the policy's order, none twice.
fn recipients(audience: Audience, subject: &Subject, policy: &Policy) -> Vec<String> {
    let all: Vec<String> = match audience {
        Audience::Platform => policy.alerts.to.iter().map(ToString::to_string).collect(),
        Audience::Client => subject.contacts.clone(),
    };
    let mut seen = std::collections::BTreeSet::new();
    all.into_iter().filter(|to| seen.insert(to.to_lowercase())).collect()
}

/// What the templates say beside the facts.
struct Letter {
    facts: Facts,
    name: String,
    tier: Option<String>,
    to_client: bool,
    client_is_told: bool,
    link: Option<String>,
    /// 1 to 100.
    bar: u64,
    rows: Vec<(&'static str, String)>,
    /// Why the reader gets this mail.
    why: &'static str,
    /// How not to get it any more.
    stop: String,
}

impl Letter {
    fn new(
        finding: &QuotaFinding,
        subject: &Subject,
        audience: Audience,
        input: &ComposeInput,
        from: &Mailbox,
    ) -> Letter {
        let to_client = audience == Audience::Client;
        let facts = Facts::of(finding, if to_client { &subject.zone } else { &UTC });
        Letter {
            name: subject.name.clone(),
            tier: subject.tier.as_deref().map(shown),
            to_client,
            client_is_told: !subject.contacts.is_empty(),
            link: input.public_url.map(|url| input.directories.url(url, &finding.client)),
            bar: facts.percent.clamp(1, 100),
            rows: rows(&facts),
            why: why(to_client),
            stop: format!("To stop it, write \"unsubscribe\" to {}.", from.email),
            facts,
        }
    }
}

static UTC: std::sync::LazyLock<Zone> = std::sync::LazyLock::new(Zone::utc);

fn rows(facts: &Facts) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("Limit", facts.limit.clone()),
        ("Used", format!("{} ({} %)", facts.used, facts.percent)),
        ("Window", format!("{} {}", facts.window, facts.zone)),
    ];
    rows.extend(facts.mostly.clone().map(|mostly| ("Mostly", mostly)));
    rows.push(("Refused", facts.refused.clone()));
    rows
}

fn why(to_client: bool) -> &'static str {
    if to_client {
        "You get this mail as a contact of this API client."
    } else {
        "You get this mail because the policy's [alerts] names you."
    }
}

/// Three files for each kind, with the same two things in sight.
macro_rules! files {
    ($($name:ident = $path:literal),* $(,)?) => { $(
        #[derive(Template)]
        #[template(path = $path)]
        struct $name<'a> {
            letter: &'a Letter,
            facts: &'a Facts,
        }
    )* };
}

files! {
    WarningSubject = "mail/quota-warning/subject.txt",
    WarningText = "mail/quota-warning/body.txt",
    WarningHtml = "mail/quota-warning/body.html",
    ReachedSubject = "mail/quota-reached/subject.txt",
    ReachedText = "mail/quota-reached/body.txt",
    ReachedHtml = "mail/quota-reached/body.html",
}

/// Subject, text and HTML.
fn render(letter: &Letter) -> Result<[String; 3], askama::Error> {
    let facts = &letter.facts;
    let [subject, text, html] = if facts.reached {
        [
            ReachedSubject { letter, facts }.render()?,
            ReachedText { letter, facts }.render()?,
            ReachedHtml { letter, facts }.render()?,
        ]
    } else {
        [
            WarningSubject { letter, facts }.render()?,
            WarningText { letter, facts }.render()?,
            WarningHtml { letter, facts }.render()?,
        ]
    };
    Ok([subject.trim().to_string(), text, html])
}

fn message(
    finding: &QuotaFinding,
    audience: Audience,
    letter: &Letter,
    from: &Mailbox,
    to: &str,
    now_us: i64,
) -> Result<OutgoingMail, ComposeError> {
    let address: Address = to.parse().map_err(|_| ComposeError::To { address: to.to_string() })?;
    let failed = |why: String| ComposeError::Build { to: to.to_string(), why };
    let [subject, text, html] = render(letter).map_err(|error| failed(error.to_string()))?;
    let id = digest(&["mail", &finding.id, &format!("{audience:?}"), to]);
    // The warning and what follows it answer the same imagined first mail: so they form a thread.
    let thread = digest(&["thread", &finding.client, &finding.limit, &format!("{audience:?}"), to]);
    let named = |kind: &str, id: &str| format!("<{kind}.{id}@{}>", from.email.domain());
    let message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, address))
        .subject(subject.clone())
        .date(SystemTime::UNIX_EPOCH + Duration::from_micros(now_us.max(0).unsigned_abs()))
        .message_id(Some(named("quota", &id)))
        .in_reply_to(named("limit", &thread))
        .references(named("limit", &thread))
        .raw_header(header("Auto-Submitted", "auto-generated".to_string()))
        .raw_header(header("List-Unsubscribe", format!("<mailto:{}?subject=unsubscribe>", from.email)))
        .multipart(alternative(&id, text, html))
        .map_err(|error| failed(error.to_string()))?;
    Ok(OutgoingMail { id, to: to.to_string(), subject, message })
}

/// The two forms of the same content. The boundary follows from the mail, so that composing it again
/// gives the same bytes.
fn alternative(id: &str, text: String, html: String) -> MultiPart {
    MultiPart::alternative()
        .boundary(format!("weir-{id}"))
        .singlepart(SinglePart::plain(text))
        .singlepart(SinglePart::html(html))
}

fn header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// 128 bits of a hash over `parts`, each with its length before it, so that no two lists of parts
/// are the same bytes.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..16])
}
