//! Anomalies for the pages. They are found once an hour, when one more hour can be judged, and kept
//! beside the pages until the next: looking at six weeks of hours every minute would be waste.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weir_analytics::anomaly::{self, Course};
use weir_analytics::calendar::{HOUR_US, MINUTE_US};
use weir_analytics::parquet_file::FileError;

use crate::installation::Installation;
use crate::render::FINDING_DAYS;

/// How long after an hour its last records are in the books, mostly.
const SETTLED_US: i64 = 5 * MINUTE_US;

#[derive(Serialize, Deserialize)]
struct Kept {
    /// The newest hour that may have been judged, microseconds UTC.
    hour_us: i64,
    found: Vec<Course>,
}

/// The episodes of the last days, oldest first.
pub async fn find(installation: &Installation, site: &Path) -> Result<Vec<Course>, FileError> {
    let hour_us = (installation.now_us - SETTLED_US).div_euclid(HOUR_US) * HOUR_US;
    let path = beside(site);
    let kept = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    if let Some(kept) = kept.filter(|kept| kept.hour_us == hour_us) {
        return Ok(kept.found);
    }
    let (store, holidays) = (&installation.store, installation.config.calendar.days());
    let found = anomaly::find_with_courses(store, &holidays, hour_us, FINDING_DAYS).await?;
    let kept = Kept { hour_us, found };
    // Failing here costs another look, no more; a file that is half written can't be read.
    if let Ok(text) = serde_json::to_vec(&kept) {
        let _ = path.parent().map(fs::create_dir_all);
        let _ = fs::write(&path, text);
    }
    Ok(kept.found)
}

fn beside(site: &Path) -> PathBuf {
    let site = fs::canonicalize(site).unwrap_or_else(|_| site.to_path_buf());
    let name = site.file_name().unwrap_or_default().to_string_lossy().into_owned();
    site.with_file_name(format!(".{name}.anomalies"))
}
