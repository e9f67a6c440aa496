//! Each mail once: what is written down before, and what after.
//!
//! A mail is claimed in the ledger at the last moment, when the server has accepted sender and
//! recipient and only the content is still to come. Then
//!
//! - the server takes it: it is written down as done;
//! - the server refuses it for good: done as well, and reported;
//! - it was certainly not sent: the claim is taken back, and the next tick tries again;
//! - nobody knows (the connection broke between the content and its answer, or this process died):
//!   the claim stands, and the next tick tries a second time, with the same Message-ID. If that, too,
//!   ends without an answer it is given up.
//!
//! So a mail is sent twice at most, and only where SMTP itself leaves no choice; it is lost only where
//! two attempts in a row ended in the very moment between content and answer, both without success.
//!
//! One caller at a time: a claim that stands is taken for that of a dead one.

use std::future::Future;

use thiserror::Error;

use super::compose::OutgoingMail;
use super::mailer::{Mailer, SendError};

/// Attempts whose end may stay unknown: the second may be a duplicate, a third would be another.
const ATTEMPTS: u32 = 2;

/// Where it is written down which mails were sent: names that are created once and stay.
///
/// Names are letters, digits and dots, so that they may be names of files or objects. What
/// [`Ledger::create`] and [`Ledger::remove`] have done must survive a crash.
pub trait Ledger {
    /// Creates `name` unless it exists, and says whether it was created: one of several that try at
    /// the same time is told so.
    fn create(&self, name: &str) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Whether `name` exists.
    fn contains(&self, name: &str) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Removes `name`; it may be gone already.
    fn remove(&self, name: &str) -> impl Future<Output = Result<(), LedgerError>> + Send;
}

/// The ledger could not be asked or written.
#[derive(Debug, Error)]
#[error("cannot use the ledger of mails: {0}; mails are kept and tried again by the next tick")]
pub struct LedgerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What became of some mails.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Ids of the mails that the server took.
    pub sent: Vec<String>,
    /// How many had been sent before, or given up.
    pub known: usize,
    /// To whom a mail may or may not have come: both attempts ended without an outcome.
    pub given_up: Vec<String>,
    /// Ids of those that somebody else may be sending at this moment.
    pub under_way: Vec<String>,
    /// Not sent, but to be tried again, with the reason of each.
    pub postponed: Vec<(String, SendError)>,
    /// Refused for good.
    pub refused: Vec<(String, SendError)>,
    /// The ledger failed; what came after was left for the next tick.
    pub ledger: Option<LedgerError>,
}

impl Delivery {
    /// Whether nothing is left to be done for any of the mails that were asked for.
    pub fn is_settled(&self) -> bool {
        self.postponed.is_empty() && self.under_way.is_empty() && self.ledger.is_none()
    }

    /// Whether trying more mails now is of no use.
    pub fn is_useless(&self) -> bool {
        let unreachable = |(_, error): &(String, SendError)| matches!(error, SendError::Unreachable { .. });
        self.ledger.is_some() || self.postponed.iter().any(unreachable)
    }
}

/// Sends the mails that were not sent before, in this order. It ends early when the server or the
/// ledger is of no use; the next call with the same mails goes on from there.
pub async fn deliver(mailer: &Mailer, mails: &[OutgoingMail], ledger: &impl Ledger) -> Delivery {
    let mut delivery = Delivery::default();
    for mail in mails {
        match deliver_one(mailer, mail, ledger).await {
            Ok(End::Sent) => delivery.sent.push(mail.id.clone()),
            Ok(End::Known) => delivery.known += 1,
            Ok(End::GivenUp) => delivery.given_up.push(mail.to.clone()),
            Ok(End::UnderWay) => delivery.under_way.push(mail.id.clone()),
            Ok(End::Failed(error @ SendError::Permanent { .. })) => {
                delivery.refused.push((mail.id.clone(), error))
            }
            Ok(End::Failed(error)) => {
                let useless = matches!(error, SendError::Unreachable { .. });
                delivery.postponed.push((mail.id.clone(), error));
                if useless {
                    break;
                }
            }
            Err(error) => {
                delivery.ledger = Some(error);
                break;
            }
        }
    }
    delivery
}

enum End {
    Sent,
    Known,
    UnderWay,
    GivenUp,
    Failed(SendError),
}

async fn deliver_one(mailer: &Mailer, mail: &OutgoingMail, ledger: &impl Ledger) -> Result<End, LedgerError> {
    let (done, last) = (format!("{}.done", mail.id), attempt(mail, ATTEMPTS));
    let (is_done, was_last) = tokio::try_join!(ledger.contains(&done), ledger.contains(&last))?;
    if is_done {
        return Ok(End::Known);
    }
    if was_last {
        return give_up(mail, ledger).await;
    }
    let offered = match mailer.offer(mail).await {
        Ok(offered) => offered,
        Err(error) => return settle(mail, ledger, None, Err(error)).await,
    };
    match claim(mail, ledger).await {
        Ok(Some(claimed)) => settle(mail, ledger, Some(claimed), offered.send().await).await,
        Ok(None) => {
            offered.withdraw().await;
            Ok(End::UnderWay)
        }
        Err(error) => {
            offered.withdraw().await;
            Err(error)
        }
    }
}

/// The last attempt had no outcome: that is told once, when it can no longer be under way.
async fn give_up(mail: &OutgoingMail, ledger: &impl Ledger) -> Result<End, LedgerError> {
    let told = attempt(mail, ATTEMPTS + 1);
    Ok(match ledger.contains(&told).await? {
        true => End::Known,
        false if ledger.create(&told).await? => End::GivenUp,
        false => End::UnderWay,
    })
}

fn attempt(mail: &OutgoingMail, number: u32) -> String {
    format!("{}.{number}", mail.id)
}

/// The first attempt that nobody has claimed.
async fn claim(mail: &OutgoingMail, ledger: &impl Ledger) -> Result<Option<String>, LedgerError> {
    for number in 1..=ATTEMPTS {
        let name = attempt(mail, number);
        if ledger.create(&name).await? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

async fn settle(
    mail: &OutgoingMail,
    ledger: &impl Ledger,
    claimed: Option<String>,
    result: Result<(), SendError>,
) -> Result<End, LedgerError> {
    match (result, claimed) {
        (Ok(()), _) => {
            ledger.create(&format!("{}.done", mail.id)).await?;
            Ok(End::Sent)
        }
        (Err(error @ SendError::Permanent { .. }), _) => {
            ledger.create(&format!("{}.done", mail.id)).await?;
            Ok(End::Failed(error))
        }
        (Err(error @ SendError::Unknown { .. }), _) | (Err(error), None) => Ok(End::Failed(error)),
        (Err(error), Some(claimed)) => {
            ledger.remove(&claimed).await?;
            Ok(End::Failed(error))
        }
    }
}
