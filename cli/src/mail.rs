//! Messages as mails, each once.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use tokio::time::Instant;
use weir_analytics::alerts::Message;
use weir_analytics::claim::{self, MailLedger};
use weir_analytics::store::StoreError;
use weir_analytics::view::QuotaFinding;
use weir_policy::Policy;
use weir_reports::Directories;
use weir_reports::mail::{
    ComposeInput, Delivery, Ledger, LedgerError, MailOptions, Mailer, compose_message, deliver,
};

use crate::clock;
use crate::config::Mail;
use crate::installation::{CommandError, Installation};

/// For how long mails are sent in one tick: a server that is slow holds up neither the pages nor the next
/// tick for longer.
const LONGEST: Duration = Duration::from_secs(30);

/// What became of messages.
#[derive(Default)]
pub struct Mailed {
    /// Ids of the messages that everybody has who is to have them.
    pub done: HashSet<String>,
    pub sent: u64,
    pub failed: Vec<String>,
}

/// Mails the messages that were not mailed yet, the platform team's first, to those whom the policy
/// names now.
pub async fn send(
    installation: &Installation,
    settings: &Mail,
    policy: &Policy,
    quotas: &[QuotaFinding],
    messages: &[Message],
) -> Result<Mailed, CommandError> {
    let mut mailed = Mailed::default();
    let mut waiting: Vec<&Message> = messages.iter().filter(|m| !m.mailed).collect();
    if waiting.is_empty() {
        return Ok(mailed);
    }
    waiting.sort_by(|a, b| (&a.to, a.decided_us).cmp(&(&b.to, b.decided_us)));
    let site = installation.config.site.as_ref();
    let directories = directories(installation).await?;
    let mailer = Mailer::new(&options(settings)?).map_err(|e| CommandError::Usage(e.to_string()))?;
    let ledger = Books(MailLedger { store: &installation.store, now_us: installation.now_us });
    let (most, until) = (u64::from(settings.mails_per_tick.get()), Instant::now() + LONGEST);
    for message in waiting {
        if mailed.sent >= most || Instant::now() >= until {
            break;
        }
        let input = ComposeInput {
            policy,
            from: &settings.from,
            public_url: site.and_then(|site| site.public_url.as_deref()),
            directories: &directories,
            // The same bytes at each attempt.
            now_us: message.decided_us,
        };
        let composed = compose_message(message, quotas, &input);
        let delivery = deliver(&mailer, &composed.mails, &ledger).await;
        mailed.sent += delivery.sent.len() as u64;
        mailed.failed.extend(composed.failed.iter().map(ToString::to_string));
        mailed.failed.extend(troubles(&delivery));
        if delivery.is_settled() {
            mailed.done.insert(message.id.clone());
        }
        if delivery.is_useless() {
            break;
        }
    }
    mailer.close().await;
    Ok(mailed)
}

/// What portal directories are called, the same for all who share the store.
pub async fn directories(installation: &Installation) -> Result<Directories, CommandError> {
    let fresh = clock::random()
        .map_err(|source| CommandError::Io { what: "cannot read /dev/urandom".to_owned(), source })?;
    let secret = claim::portal_secret(&installation.store, fresh).await?;
    Ok(Directories { secret, renewed: claim::renewed(&installation.store).await? })
}

fn troubles(delivery: &Delivery) -> Vec<String> {
    let of_mails = delivery.postponed.iter().chain(&delivery.refused).map(|(_, error)| error.to_string());
    let given_up = delivery.given_up.iter().map(|to| {
        format!(
            "a mail to {to} may not have arrived: two attempts ended without an outcome; see `weir findings`"
        )
    });
    of_mails.chain(delivery.ledger.iter().map(ToString::to_string)).chain(given_up).collect()
}

fn options(settings: &Mail) -> Result<MailOptions, CommandError> {
    let password = settings.password_file.as_ref().map(|path| {
        let what = format!("cannot read [mail] password_file {}", path.display());
        fs::read_to_string(path).map_err(|source| CommandError::Io { what, source })
    });
    Ok(MailOptions {
        url: with_user(&settings.url, settings.user.as_deref())?,
        password: password.transpose()?.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()),
        ca_file: settings.ca_file.clone(),
        ..MailOptions::default()
    })
}

/// Puts the user into the URL, every byte that is special there escaped.
fn with_user(url: &str, user: Option<&str>) -> Result<String, CommandError> {
    let Some(user) = user else { return Ok(url.to_owned()) };
    match url.split_once("://") {
        Some((_, host)) if host.contains('@') => {
            Err(CommandError::Usage("[mail] names a user twice: in url and as user; remove one".to_owned()))
        }
        Some((scheme, host)) => Ok(format!("{scheme}://{}@{host}", escaped(user))),
        None => Ok(url.to_owned()),
    }
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (b as char).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// The ledger of mails as those who send them want it.
struct Books<'a>(MailLedger<'a>);

fn ledger_error(error: StoreError) -> LedgerError {
    LedgerError(Box::new(error))
}

impl Ledger for Books<'_> {
    async fn create(&self, name: &str) -> Result<bool, LedgerError> {
        self.0.create(name).await.map_err(ledger_error)
    }

    async fn contains(&self, name: &str) -> Result<bool, LedgerError> {
        self.0.contains(name).await.map_err(ledger_error)
    }

    async fn remove(&self, name: &str) -> Result<(), LedgerError> {
        self.0.remove(name).await.map_err(ledger_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_goes_into_the_url_once_and_escaped() {
        assert_eq!(with_user("smtp://h:25", Some("me@x")).unwrap(), "smtp://me%40x@h:25");
        assert_eq!(with_user("smtps://you@h", None).unwrap(), "smtps://you@h");
        assert!(with_user("smtps://you@h", Some("me")).is_err());
    }
}
