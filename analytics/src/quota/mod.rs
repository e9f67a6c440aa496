//! Who came near a limit of an hour or longer, or reached it.
//!
//! Two looks: the roll-ups say who can have come near at all, and only their records are then read,
//! for the exact moment. What was found is kept in the store under a name that follows from it, so
//! that every later run, on whatever machine, means the same finding.

mod calendar;
mod exact;
mod kept;
mod ledger;
pub mod refusals;
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

/// The same, however long ago the last look was.
const LONGEST_LOOKBACK_US: i64 = 72 * HOUR_US;

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
/// window, or within the policy's cool-down, is the same finding. A calendar quota's is found once in
/// its period.
pub async fn find(
    store: &Store,
    book: &Book,
    now_us: i64,
    days: u32,
) -> Result<Vec<QuotaFinding>, QuotaError> {
    find_since(store, book, now_us, now_us, days).await
}

/// The same, when nobody has looked since `last_look_us`.
pub async fn find_since(
    store: &Store,
    book: &Book,
    last_look_us: i64,
    now_us: i64,
    days: u32,
) -> Result<Vec<QuotaFinding>, QuotaError> {
    let back_us = (now_us - last_look_us).clamp(LOOKBACK_US, LONGEST_LOOKBACK_US);
    let has_calendar = calendar::is_used(book.policy());
    // What was found in this month is not found again.
    let known_days = if has_calendar { days.max(32) } else { days };
    let mut known = ledger::read(store, now_us, known_days).await?;
    let mut windows: Vec<i64> = watch::windows(book.policy()).into_iter().collect();
    windows.sort_unstable();
    for window_us in windows {
        let span = now_us - back_us - 2 * window_us..now_us;
        let watches = watch::suspicious(store, book, window_us, span.clone()).await?;
        let open = |w: &Watch| w.thresholds(book).iter().any(|&t| !known.covers(book, w, t, now_us));
        let open: Vec<Watch> = watches.into_iter().filter(open).collect();
        if open.is_empty() {
            continue;
        }
        let seen = exact::find(store, book, &open, span).await?;
        for finding in seen.findings {
            known.keep(book, finding, window_us);
        }
        for (watch, threshold, last_us) in seen.last_reached {
            known.keep_last(book, &open[watch], threshold, last_us, now_us);
        }
    }
    if has_calendar {
        calendar::find(store, book, now_us - back_us, now_us, &mut known).await?;
    }
    known.close(store, now_us).await
}
