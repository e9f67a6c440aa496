//! Who came near a limit of an hour or longer, or reached it.
//!
//! Two looks: the roll-ups say who can have come near at all, and only their records are then read,
//! for the exact moment. What was found is kept in the store under a name that follows from it, so
//! that every later run, on whatever machine, means the same finding.

mod exact;
mod ledger;
#[cfg(test)]
mod tests;
mod watch;
pub mod window;

use weir_policy::Book;

use crate::calendar::HOUR_US;
use crate::parquet_file::FileError;
use crate::store::{Store, StoreError};
use crate::view::QuotaFinding;

use watch::Watch;

/// Limits with shorter windows come and go too fast to be mailed about.
const SHORTEST_WINDOW_US: i64 = HOUR_US;

/// How far back a crossing is still looked for, when nobody has looked in between.
const LOOKBACK_US: i64 = 6 * HOUR_US;

/// Why findings could not be made. The next run finds the same.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{path}` is not a finding: {reason}; delete it")]
    Finding { path: String, reason: String },
}

impl From<StoreError> for QuotaError {
    fn from(e: StoreError) -> QuotaError {
        QuotaError::File(e.into())
    }
}

/// Looks for new crossings, keeps them, and returns all findings of at least the last `days` days,
/// oldest first.
///
/// A limit's crossing of a threshold is found once as long as it goes on: a further one within the
/// window, or within the policy's cool-down, is the same finding.
pub async fn find(
    store: &Store,
    book: &Book,
    now_us: i64,
    days: u32,
) -> Result<Vec<QuotaFinding>, QuotaError> {
    let mut known = ledger::read(store, now_us, days).await?;
    let mut windows: Vec<i64> = watch::windows(book.policy()).into_iter().collect();
    windows.sort_unstable();
    for window_us in windows {
        let span = now_us - LOOKBACK_US - 2 * window_us..now_us;
        let watches = watch::suspicious(store, book, window_us, span.clone()).await?;
        let open = |w: &Watch| w.thresholds(book).any(|t| !known.covers(book, w, t, now_us));
        let open: Vec<Watch> = watches.into_iter().filter(open).collect();
        if open.is_empty() {
            continue;
        }
        let seen = exact::find(store, book, &open, span).await?;
        for finding in seen.findings {
            known.keep(store, book, finding, window_us).await?;
        }
        for (watch, threshold, last_us) in seen.last_reached {
            known.keep_last(store, book, &open[watch], threshold, last_us, now_us).await?;
        }
    }
    Ok(known.into_findings())
}
