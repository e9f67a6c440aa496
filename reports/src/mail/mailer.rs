//! One conversation with a mail server, step by step, because what a failure means depends on the
//! step: before the content is sent nothing was delivered; while its answer is awaited nobody knows.

use std::fmt::{self, Display, Formatter};
use std::future::Future;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::compose::OutgoingMail;
use super::server::{MailOptions, MailerError, Security, Server};

/// Why a mail was not, or perhaps not, sent. No variant holds a secret.
#[derive(Debug, Error)]
pub enum SendError {
    /// No conversation came about: the server is away, its certificate is not trusted, it offers no
    /// STARTTLS or refuses the password. Nothing was sent, and trying other mails is no use now.
    #[error("cannot use the mail server {server}: {why}; mails are kept and tried again by the next tick")]
    Unreachable { server: String, why: String },
    /// The server will not take this mail now. Nothing was sent.
    #[error("the mail server does not take the mail to {to} now: {why}; it is tried again by the next tick")]
    Temporary { to: String, why: String },
    /// The server will never take this mail. Nothing was sent.
    #[error(
        "the mail server refuses the mail to {to}: {why}; correct the address in the policy, or ask who runs the server"
    )]
    Permanent { to: String, why: String },
    /// The connection broke after the content and before the answer: it may have been delivered.
    #[error(
        "the mail server did not say whether it took the mail to {to}: {why}; it is tried once more by the next tick"
    )]
    Unknown { to: String, why: String },
}

/// Sends mails over one connection, which it opens when needed and keeps.
pub struct Mailer {
    server: Server,
    connection: Mutex<Option<AsyncSmtpConnection>>,
}

/// A mail whose sender and recipient the server has accepted, and whose content it waits for.
pub struct Offered<'a> {
    slot: MutexGuard<'a, Option<AsyncSmtpConnection>>,
    connection: AsyncSmtpConnection,
    mail: &'a OutgoingMail,
    content: Content,
    timeout: Duration,
}

impl Mailer {
    /// Checks the options; the network is not touched before the first mail.
    pub fn new(options: &MailOptions) -> Result<Mailer, MailerError> {
        Ok(Mailer { server: Server::new(options)?, connection: Mutex::new(None) })
    }

    /// Sends one mail.
    pub async fn send(&self, mail: &OutgoingMail) -> Result<(), SendError> {
        self.offer(mail).await?.send().await
    }

    /// Asks the server to take a mail, up to the point where its content would follow. Dropping what
    /// this gives leaves the mail unsent.
    pub async fn offer<'a>(&'a self, mail: &'a OutgoingMail) -> Result<Offered<'a>, SendError> {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(kept) => match self.still_there(kept).await {
                Some(kept) => kept,
                None => self.connect().await?,
            },
            None => self.connect().await?,
        };
        match self.envelope(&mut connection, mail).await {
            // Made now: next to nothing is to lie between the claim and the content's way.
            Ok(()) => {
                let (content, timeout) = (Content::of(mail), self.server.timeout);
                Ok(Offered { slot, connection, mail, content, timeout })
            }
            Err(error) => {
                hang_up(connection, self.server.timeout).await;
                Err(error)
            }
        }
    }

    /// Ends the conversation politely; without it the server sees the connection break.
    pub async fn close(self) {
        if let Some(connection) = self.connection.into_inner() {
            hang_up(connection, self.server.timeout).await;
        }
    }

    async fn still_there(&self, mut connection: AsyncSmtpConnection) -> Option<AsyncSmtpConnection> {
        matches!(timeout(self.server.timeout, connection.test_connected()).await, Ok(true))
            .then_some(connection)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let server = &self.server;
        let hello = ClientId::default();
        let tls = match &server.security {
            Security::Tls(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let address = (server.host.as_str(), server.port);
        let opening = AsyncSmtpConnection::connect_tokio1(address, Some(server.timeout), &hello, tls, None);
        let mut connection = self.step(opening).await?;
        if let Security::StartTls(parameters) = &server.security {
            self.step(connection.starttls(parameters.clone(), &hello)).await?;
        }
        if let Some(credentials) = &server.credentials {
            self.step(connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials)).await?;
        }
        Ok(connection)
    }

    /// A step before any mail: whatever fails, the server is of no use now.
    async fn step<T>(&self, step: impl Future<Output = Result<T, SmtpError>>) -> Result<T, SendError> {
        let server = format!("{}:{}", self.server.host, self.server.port);
        let failed = |why| SendError::Unreachable { server, why };
        within(self.server.timeout, step).await.map_err(|failure| failed(failure.why))
    }

    async fn envelope(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &OutgoingMail,
    ) -> Result<(), SendError> {
        let envelope = mail.message.envelope();
        let options = parameters(connection, mail)?;
        let from = Mail::new(envelope.from().cloned(), options);
        // A sender that is refused is refused for every mail, so this is for people to mend; until
        // then mails are kept.
        within(self.server.timeout, connection.command(from))
            .await
            .map_err(|failure| failure.temporary(mail))?;
        for to in envelope.to() {
            let to: Address = to.clone();
            let answer = within(self.server.timeout, connection.command(Rcpt::new(to, Vec::new()))).await;
            answer.map_err(|failure| failure.by_code(mail))?;
        }
        // So the server is waiting for the content when the mail is claimed, and next to nothing lies
        // between the two.
        within(self.server.timeout, connection.command(Data))
            .await
            .map_err(|failure| failure.by_code(mail))?;
        Ok(())
    }
}

impl Offered<'_> {
    /// Sends the content and waits for the server's word.
    pub async fn send(self) -> Result<(), SendError> {
        let Offered { mut slot, mut connection, mail, content, timeout: limit } = self;
        let result = pass_on(&mut connection, mail, content, limit).await;
        match &result {
            Ok(()) => *slot = Some(connection),
            Err(_) => hang_up(connection, limit).await,
        }
        result
    }

    /// Leaves the mail unsent. The server waits for its content, so only hanging up ends this.
    pub async fn withdraw(self) {
        hang_up(self.connection, self.timeout).await;
    }
}

async fn pass_on(
    connection: &mut AsyncSmtpConnection,
    mail: &OutgoingMail,
    content: Content,
    limit: Duration,
) -> Result<(), SendError> {
    match within(limit, connection.command(content)).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.code.is_some() => Err(failure.by_code(mail)),
        Err(failure) => Err(SendError::Unknown { to: mail.to.clone(), why: failure.why }),
    }
}

/// The content with its end, lines that begin with a dot escaped (RFC 5321, 4.5.2): in one write. In two,
/// as lettre does it, the second waits for the receipt of the first, which takes 40 ms (Nagle).
struct Content(String);

impl Content {
    fn of(mail: &OutgoingMail) -> Content {
        Content(String::from_utf8_lossy(&mail.message.formatted()).replace("\r\n.", "\r\n.."))
    }
}

impl Display for Content {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}\r\n.\r\n", self.0)
    }
}

/// An address with other letters than ASCII needs a server that knows such.
fn parameters(
    connection: &AsyncSmtpConnection,
    mail: &OutgoingMail,
) -> Result<Vec<MailParameter>, SendError> {
    let envelope = mail.message.envelope();
    if envelope.to().iter().chain(envelope.from()).all(|address| address.to_string().is_ascii()) {
        return Ok(Vec::new());
    }
    if connection.server_info().supports_feature(Extension::SmtpUtfEight) {
        return Ok(vec![MailParameter::SmtpUtfEight]);
    }
    let why = "its address needs SMTPUTF8, which the server does not offer".to_string();
    Err(SendError::Permanent { to: mail.to.clone(), why })
}

async fn hang_up(mut connection: AsyncSmtpConnection, limit: Duration) {
    // Nothing is lost when the server does not hear the farewell.
    let _ = timeout(limit.min(Duration::from_secs(2)), connection.abort()).await;
}

/// A step that failed: the server's code, where it said one, and what to tell.
struct Failure {
    code: Option<u16>,
    why: String,
}

impl Failure {
    fn temporary(self, mail: &OutgoingMail) -> SendError {
        SendError::Temporary { to: mail.to.clone(), why: self.why }
    }

    fn by_code(self, mail: &OutgoingMail) -> SendError {
        match self.code {
            Some(500..) => SendError::Permanent { to: mail.to.clone(), why: self.why },
            _ => self.temporary(mail),
        }
    }
}

async fn within<T>(limit: Duration, step: impl Future<Output = Result<T, SmtpError>>) -> Result<T, Failure> {
    match timeout(limit, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure { code: error.status().map(u16::from), why: told(&error) }),
        Err(_) => Err(Failure { code: None, why: format!("no answer within {} s", limit.as_secs_f64()) }),
    }
}

/// The error with its causes on one line: a server's words may have several.
fn told(error: &SmtpError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
