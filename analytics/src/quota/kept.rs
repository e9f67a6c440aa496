//! Lists in the store, by day: `FOLDER/date=…/<ms>-<hash>.json`, each the whole list of one look, so
//! that ten thousand clients at once are one object. Written once, under a name that follows from the
//! content; whoever reads puts up with the same thing in two of them.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::QuotaError;
use crate::calendar::{DAY_US, civil};
use crate::store::{Object, Store};

/// Requests to the store under way at a time.
const REQUESTS_AT_ONCE: usize = 8;

/// All that was kept in the days before `now_us` and in its own, oldest first. After a clock that was
/// ahead there is more in the day to come.
pub async fn read<T: DeserializeOwned>(
    store: &Store,
    folder: &str,
    now_us: i64,
    days: u32,
) -> Result<Vec<T>, QuotaError> {
    let last = now_us.div_euclid(DAY_US);
    let mut objects: Vec<Object> = Vec::new();
    for day in last - i64::from(days)..=last + 1 {
        objects.extend(store.list(&of_day(folder, day * DAY_US)).await?);
    }
    let reads = objects.iter().map(|object| async move {
        let bytes = store.get(&object.path).await?;
        serde_json::from_slice::<Vec<T>>(&bytes)
            .map_err(|e| QuotaError::Finding { path: object.path.clone(), reason: e.to_string() })
    });
    let lists: Vec<Vec<T>> = futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE).try_collect().await?;
    Ok(lists.into_iter().flatten().collect())
}

/// Keeps what was found at `now_us`; nothing when there is nothing.
pub async fn put<T: Serialize>(
    store: &Store,
    folder: &str,
    now_us: i64,
    list: &[T],
) -> Result<(), QuotaError> {
    if list.is_empty() {
        return Ok(());
    }
    let folder = of_day(folder, now_us);
    let bytes = serde_json::to_vec(list)
        .map_err(|e| QuotaError::Finding { path: folder.clone(), reason: e.to_string() })?;
    let hash: String = Sha256::digest(&bytes)[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let path = format!("{folder}/{:015}-{hash}.json", now_us.div_euclid(1000));
    store.create(&path, Bytes::from(bytes)).await?;
    Ok(())
}

fn of_day(folder: &str, time_us: i64) -> String {
    format!("{folder}/date={}", civil(time_us).date())
}
