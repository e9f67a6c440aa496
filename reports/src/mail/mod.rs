//! Mails: composed from findings, sent by SMTP, each once.
//!
//! [`compose`] makes messages and touches nothing. [`Mailer`] talks to the mail server. [`deliver`]
//! brings the two together with a [`Ledger`], so that no mail is lost and none is sent twice but where
//! SMTP itself leaves no choice.

mod compose;
mod deliver;
mod general;
mod mailer;
mod server;

pub use compose::{Audience, ComposeError, ComposeInput, Composed, OutgoingMail, compose, compose_message};
pub use deliver::{Delivery, Ledger, LedgerError, deliver};
pub use mailer::{Mailer, Offered, SendError};
pub use server::{MailOptions, MailerError};
