//! Ticks, and reads back what the books say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir_testbed::smtp::Mail;

use crate::DemoError;
use crate::clients::Client;
use crate::stage::Stage;

/// What the books say after two ticks.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Records in the gateways' sealed spool segments, before the first tick.
    pub records: i64,
    /// Requests in the roll-up.
    pub rows: i64,
    /// Numbers that a stream skipped.
    pub missing: i64,
    /// Decided by the fallback, since Redis had not answered in time.
    pub degraded: i64,
    pub by_client: BTreeMap<String, i64>,
    /// How long the first tick took.
    pub tick: Duration,
    pub second_tick_changed_nothing: bool,
    pub mails: Vec<MailSeen>,
}

/// A mail as it was received.
#[derive(Clone, Debug)]
pub struct MailSeen {
    pub to: Vec<String>,
    pub subject: String,
}

impl MailSeen {
    fn of(mail: &Mail) -> MailSeen {
        MailSeen { to: mail.to.clone(), subject: mail.subject() }
    }

    /// Whether it tells this reader that this client came near its limit, or reached it.
    pub fn tells(&self, to: &str, client: &Client, reached: bool) -> bool {
        // A client's own mails call it "you".
        let about = to == client.contact() || self.subject.contains(client.name_start());
        let kind = if reached { "reached" } else { " % of " };
        self.to.iter().any(|t| t == to) && about && self.subject.contains(kind)
    }
}

impl Books {
    pub fn of(&self, client: &str) -> Option<i64> {
        self.by_client.get(client).copied()
    }
}

/// Counts the spooled records, ticks twice, and reads the books after each.
pub fn close(stage: &Stage) -> Result<Books, DemoError> {
    let installation = &stage.installation;
    let records = installation.record_count()?;
    let begun = Instant::now();
    installation.ok(&["tick"])?;
    let tick = begun.elapsed();
    let usage = installation.usage("minute")?;
    let by_client = usage.by_client();
    let mails = stage.mail.mails().map_err(DemoError::Mails)?;
    installation.ok(&["tick"])?;
    let mails_after = stage.mail.mails().map_err(DemoError::Mails)?;
    Ok(Books {
        records,
        rows: by_client.values().sum(),
        missing: usage.completeness.missing,
        degraded: usage.sum("passed_degraded") + usage.sum("rejected_degraded"),
        second_tick_changed_nothing: installation.usage("minute")?.by_client() == by_client
            && mails_after.len() == mails.len(),
        by_client,
        tick,
        mails: mails.iter().map(MailSeen::of).collect(),
    })
}
