//! Anomalies for the pages.

use weir_analytics::anomaly::{self, Course};
use weir_analytics::calendar::MINUTE_US;
use weir_analytics::parquet_file::FileError;

use crate::installation::Installation;
use crate::render::FINDING_DAYS;

/// How long after an hour its last records are in the books, mostly.
const SETTLED_US: i64 = 5 * MINUTE_US;

/// The episodes of the last days, oldest first.
pub async fn find(installation: &Installation) -> Result<Vec<Course>, FileError> {
    let (store, holidays) = (&installation.store, installation.config.calendar.days());
    anomaly::find_with_courses(store, &holidays, installation.now_us - SETTLED_US, FINDING_DAYS).await
}
