//! What was reckoned from hours that are over, kept until they change: `reckoned/<what>/<hash>.json`.
//!
//! A partition of hours is a file that never changes: late records make another, under another name. So
//! the names of the files that a result rests on stand for what is in them, and the result's own name
//! follows from them. Of the day that goes on, whose file is another each minute, the rows of hours that
//! are over stand for themselves.

use std::ops::Range;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::calendar::partition_of_path;
use crate::generation::{Note, read_usage};
use crate::parquet_file::FileError;
use crate::rollup;
use crate::store::Store;
use crate::table::Table;
use crate::view::Grain;

const FOLDER: &str = "reckoned";

/// Results of one kind that stay: those of the hour before, and of other questions.
const KEPT: usize = 8;

/// All that a result follows from.
#[derive(Clone)]
pub struct Basis(Sha256);

impl Basis {
    /// The usage of the hours of a range, microseconds UTC, whole hours.
    pub async fn hours(store: &Store, range: Range<i64>) -> Result<Basis, FileError> {
        let mut basis = Basis(Sha256::new()).and(&(env!("CARGO_PKG_VERSION"), &range));
        for path in rollup::files(store, Grain::Hour).await? {
            let Some(day) = partition_of_path(Grain::Hour, &path) else { continue };
            if day.end_us() <= range.start || day.start_us >= range.end {
                continue;
            }
            if day.end_us() <= range.end {
                basis = basis.and(&path);
            } else {
                let (table, note): (Table, Note) = read_usage(store, &path).await?;
                basis = basis.and(&note.moved);
                basis.add_rows(&table, &range);
            }
        }
        Ok(basis)
    }

    /// And whatever else is asked.
    pub fn and(mut self, what: &impl Serialize) -> Basis {
        // A text that cannot be written stands for itself: it is the same each time.
        self.add(serde_json::to_string(what).unwrap_or_default().as_bytes());
        self
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn add_rows(&mut self, table: &Table, range: &Range<i64>) {
        for row in (0..table.len()).filter(|&row| range.contains(&table.time_us[row])) {
            table.texts.iter().for_each(|text| self.add(table.names.get(text[row]).as_bytes()));
            let sums = table.sums.iter().map(|sum| sum[row]);
            let counts = table.latency.row(row).chain(table.status.row(row));
            let counts = counts.flat_map(|(key, n)| [i64::from(key), n]);
            for number in [table.time_us[row]].into_iter().chain(sums).chain(counts) {
                self.0.update(number.to_be_bytes());
            }
        }
    }

    fn name(self) -> String {
        self.0.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The result that is kept of `basis`; where there is none, what `reckon` gives, which is kept.
///
/// What cannot be kept, or read again, is reckoned again the next time: that costs time, no more.
pub async fn once<T: Serialize + DeserializeOwned>(
    store: &Store,
    what: &str,
    basis: Basis,
    reckon: impl Future<Output = Result<T, FileError>>,
) -> Result<T, FileError> {
    let folder = format!("{FOLDER}/{what}");
    let path = format!("{folder}/{}.json", basis.name());
    if let Ok(bytes) = store.get(&path).await
        && let Ok(kept) = serde_json::from_slice(&bytes)
    {
        return Ok(kept);
    }
    let result = reckon.await?;
    let Ok(text) = serde_json::to_vec(&result) else { return Ok(result) };
    // The same, to the last digit, whether it was kept or not.
    let again = serde_json::from_slice(&text);
    if store.create(&path, Bytes::from(text)).await.is_ok()
        && let Ok(mut all) = store.list(&folder).await
    {
        all.sort_by_key(|object| std::cmp::Reverse(object.modified_us));
        for old in all.iter().skip(KEPT) {
            let _ = store.delete(&old.path).await;
        }
    }
    Ok(again.unwrap_or(result))
}
