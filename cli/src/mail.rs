//! Mails about findings, each once.

use std::fs;

use weir_analytics::claim::{self, MailLedger};
use weir_analytics::store::StoreError;
use weir_analytics::view::QuotaFinding;
use weir_policy::Policy;
use weir_reports::Directories;
use weir_reports::mail::{
    Audience, ComposeInput, Delivery, Ledger, LedgerError, MailOptions, Mailer, OutgoingMail, compose,
    deliver,
};

use crate::clock;
use crate::config::Mail;
use crate::installation::{CommandError, Installation};
use crate::step::{Told, counted};

/// Findings older than this are history: nobody is mailed about them any more, microseconds.
const NEWS_US: i64 = 24 * 3_600 * 1_000_000;

/// Sends the mails that the findings call for and that were not sent yet.
pub async fn step(
    installation: &Installation,
    policy: &Policy,
    findings: &[QuotaFinding],
) -> Result<Told, CommandError> {
    let Some(settings) = &installation.config.mail else {
        return Ok(Told::skipped("mail", "there is no [mail] in weir.toml"));
    };
    let (mails, mut failed) = letters(installation, policy, settings, findings).await?;
    let mailer = Mailer::new(&options(settings)?).map_err(|e| CommandError::Usage(e.to_string()))?;
    let ledger = Books(MailLedger { store: &installation.store, now_us: installation.now_us });
    let delivery = deliver(&mailer, &mails, &ledger).await;
    mailer.close().await;
    failed.extend(troubles(&delivery));
    let (sent, known) = (counted(delivery.sent.len() as u64, "mail"), delivery.known);
    let line = format!("{sent} sent, {known} sent before, {} waiting", delivery.postponed.len());
    Ok(Told::new("mail", line, &serde_json::json!({ "sent": delivery.sent, "known": known }), failed))
}

/// All mails about recent findings, and why some could not be composed.
async fn letters(
    installation: &Installation,
    policy: &Policy,
    settings: &Mail,
    findings: &[QuotaFinding],
) -> Result<(Vec<OutgoingMail>, Vec<String>), CommandError> {
    let site = installation.config.site.as_ref();
    let input = ComposeInput {
        policy,
        from: &settings.from,
        public_url: site.and_then(|site| site.public_url.as_deref()),
        directories: &directories(installation).await?,
        now_us: installation.now_us,
    };
    let (mut mails, mut failed) = (Vec::new(), Vec::new());
    for finding in findings.iter().filter(|f| f.window_to_us > installation.now_us - NEWS_US) {
        for audience in [Audience::Platform, Audience::Client] {
            let composed = compose(finding, audience, &input);
            mails.extend(composed.mails);
            failed.extend(composed.failed.iter().map(ToString::to_string));
        }
    }
    Ok((mails, failed))
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
    of_mails.chain(delivery.ledger.iter().map(ToString::to_string)).collect()
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
