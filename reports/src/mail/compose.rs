//! From a finding to messages.

use std::time::{Duration, SystemTime};

use askama::Template;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message as Letterhead};
use sha2::{Digest, Sha256};
use thiserror::Error;
use weir_analytics::alerts::{Message, To};
use weir_analytics::view::QuotaFinding;
use weir_policy::Policy;

use super::general;
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
    pub message: Letterhead,
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
    let client = Some(finding.client.as_str());
    let say = |from: &Mailbox| {
        let facts = Facts::of(finding, &zone(client, audience, input.policy));
        let mut letter = Letter::new(client, audience, input, from);
        (letter.bar, letter.rows) = (facts.percent.clamp(1, 100), rows(&facts));
        render(&letter, &facts)
    };
    let thread = [finding.client.as_str(), &finding.limit];
    each(client, audience, input, say, &Named { what: "mail", id: &finding.id, thread: &thread })
}

/// The same for whatever else there is to tell: one finding, its end, or a digest of several. The
/// finding of a quota is told by [`compose`] where `quotas` has it.
pub fn compose_message(message: &Message, quotas: &[QuotaFinding], input: &ComposeInput) -> Composed {
    let (client, audience) = match &message.to {
        To::Platform => (None, Audience::Platform),
        To::Client(id) => (Some(id.as_str()), Audience::Client),
    };
    let single = message.findings.first().filter(|_| !message.is_digest());
    let quota = single.and_then(|finding| quotas.iter().find(|q| q.id == finding.key));
    if let Some(quota) = quota.filter(|_| !message.recovered) {
        return compose(quota, audience, input);
    }
    let about = client.or(single.and_then(|finding| finding.client.as_deref()));
    let zone = zone(client, audience, input.policy);
    let say = |from: &Mailbox| {
        let mut letter = Letter::new(about, audience, input, from);
        match single {
            Some(finding) => {
                letter.rows = general::rows(finding, &zone, input.now_us);
                general::single(&letter, finding, message.recovered, &zone)
            }
            None => general::digest(&letter, message, &zone),
        }
    };
    // What begins and what ends are a thread; a digest is one of its own.
    let thread = [single.map_or(message.id.as_str(), |finding| finding.subject())];
    each(client, audience, input, say, &Named { what: "message", id: &message.id, thread: &thread })
}

/// What the ids of a mail follow from, besides its recipient.
struct Named<'a> {
    what: &'a str,
    id: &'a str,
    thread: &'a [&'a str],
}

/// The mail for each recipient.
fn each(
    client: Option<&str>,
    audience: Audience,
    input: &ComposeInput,
    say: impl Fn(&Mailbox) -> Result<[String; 3], askama::Error>,
    named: &Named,
) -> Composed {
    let mut composed = Composed::default();
    let from = match input.from.parse::<Mailbox>() {
        Ok(from) => from,
        Err(_) => {
            composed.failed.push(ComposeError::From { address: input.from.to_string() });
            return composed;
        }
    };
    let said = say(&from);
    for to in recipients(client, audience, input.policy) {
        let failed = |why: String| ComposeError::Build { to: to.clone(), why };
        let mail = match &said {
            Ok(parts) => message(parts, audience, named, &from, &to, input.now_us),
            Err(error) => Err(failed(error.to_string())),
        };
        match mail {
            Ok(mail) => composed.mails.push(mail),
            Err(error) => composed.failed.push(error),
        }
    }
    composed
}

/// In the policy's order, none twice.
fn recipients(client: Option<&str>, audience: Audience, policy: &Policy) -> Vec<String> {
    let all: Vec<String> = match audience {
        Audience::Platform => policy.alerts.to.iter().map(ToString::to_string).collect(),
        Audience::Client => client.map(|c| Subject::of(policy, c).contacts).unwrap_or_default(),
    };
    let mut seen = std::collections::BTreeSet::new();
    all.into_iter().filter(|to| seen.insert(to.to_lowercase())).collect()
}

/// What the templates say beside the facts.
pub(super) struct Letter {
    pub name: String,
    pub tier: Option<String>,
    pub to_client: bool,
    pub client_is_told: bool,
    pub link: Option<String>,
    /// 1 to 100.
    pub bar: u64,
    pub rows: Vec<(String, String)>,
    /// Why the reader gets this mail.
    pub why: &'static str,
    /// How not to get it any more.
    pub stop: String,
}

impl Letter {
    fn new(client: Option<&str>, audience: Audience, input: &ComposeInput, from: &Mailbox) -> Letter {
        let subject = client.map(|client| Subject::of(input.policy, client));
        let to_client = audience == Audience::Client;
        Letter {
            name: subject.as_ref().map_or_else(|| "All clients".to_string(), |s| s.name.clone()),
            tier: subject.as_ref().and_then(|s| s.tier.as_deref()).map(shown),
            to_client,
            client_is_told: subject.is_some_and(|s| !s.contacts.is_empty()),
            link: input.public_url.map(|url| match client {
                Some(client) => input.directories.url(url, client),
                None => url.trim_end_matches('/').to_string() + "/",
            }),
            bar: 100,
            rows: Vec::new(),
            why: why(to_client),
            stop: format!("To stop it, write \"unsubscribe\" to {}.", from.email),
        }
    }
}

/// The time zone of the reader.
fn zone(client: Option<&str>, audience: Audience, policy: &Policy) -> Zone {
    match (audience, client) {
        (Audience::Client, Some(client)) => Subject::of(policy, client).zone,
        _ => policy.alerts.timezone.as_deref().map_or_else(Zone::utc, Zone::named),
    }
}

fn rows(facts: &Facts) -> Vec<(String, String)> {
    let mut rows = vec![
        ("Limit", facts.limit.clone()),
        ("Used", format!("{} ({} %)", facts.used, facts.percent)),
        ("Window", format!("{} {}", facts.window, facts.zone)),
    ];
    rows.extend(facts.mostly.clone().map(|mostly| ("Mostly", mostly)));
    rows.push(("Refused", facts.refused.clone()));
    rows.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
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
fn render(letter: &Letter, facts: &Facts) -> Result<[String; 3], askama::Error> {
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
    [subject, text, html]: &[String; 3],
    audience: Audience,
    named: &Named,
    from: &Mailbox,
    to: &str,
    now_us: i64,
) -> Result<OutgoingMail, ComposeError> {
    let address: Address = to.parse().map_err(|_| ComposeError::To { address: to.to_string() })?;
    let failed = |why: String| ComposeError::Build { to: to.to_string(), why };
    let audience = format!("{audience:?}");
    let id = digest(&[named.what, named.id, &audience, to]);
    // The warning and what follows it answer the same imagined first mail: so they form a thread.
    let thread: Vec<&str> = ["thread"].iter().chain(named.thread).copied().chain([&*audience, to]).collect();
    let thread = digest(&thread);
    let called = |kind: &str, id: &str| format!("<{kind}.{id}@{}>", from.email.domain());
    let message = Letterhead::builder()
        .from(from.clone())
        .to(Mailbox::new(None, address))
        .subject(subject.clone())
        .date(SystemTime::UNIX_EPOCH + Duration::from_micros(now_us.max(0).unsigned_abs()))
        .message_id(Some(called("quota", &id)))
        .in_reply_to(called("limit", &thread))
        .references(called("limit", &thread))
        .raw_header(header("Auto-Submitted", "auto-generated".to_string()))
        .raw_header(header("List-Unsubscribe", format!("<mailto:{}?subject=unsubscribe>", from.email)))
        .multipart(alternative(&id, text.clone(), html.clone()))
        .map_err(|error| failed(error.to_string()))?;
    Ok(OutgoingMail { id, to: to.to_string(), subject: subject.clone(), message })
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
