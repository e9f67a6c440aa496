//! The state in the store: `alerts/<generation>.json`, each created once. Of two jobs at once one
//! creates the next generation; the other reads that and begins anew.

use bytes::Bytes;

use super::State;
use crate::quota::QuotaError;
use crate::store::{Created, Object, Store};

const FOLDER: &str = "alerts";

/// Old generations that stay, for a look at what went wrong.
const KEPT: usize = 3;

/// A loser begins anew so often.
const TRIES: usize = 5;

/// The newest state; an empty one where there is none yet.
pub async fn read(store: &Store) -> Result<State, QuotaError> {
    Ok(newest(store).await?.1)
}

/// Changes the state as `change` says, given the newest one, and returns what it is then. When this
/// returns it is on the disk; `None` when others were always faster, and the next tick goes on.
pub async fn update(
    store: &Store,
    mut change: impl FnMut(State) -> State,
) -> Result<Option<State>, QuotaError> {
    for _ in 0..TRIES {
        let (objects, state) = newest(store).await?;
        let changed = change(state.clone());
        if changed == state {
            return Ok(Some(state));
        }
        let number = objects.last().and_then(generation).unwrap_or(0) + 1;
        let path = format!("{FOLDER}/{number:012}.json");
        let bytes = serde_json::to_vec(&changed)
            .map_err(|e| QuotaError::Finding { path: path.clone(), reason: e.to_string() })?;
        if store.create(&path, Bytes::from(bytes)).await? == Created::New {
            for old in objects.iter().rev().skip(KEPT) {
                store.delete(&old.path).await?;
            }
            return Ok(Some(changed));
        }
    }
    Ok(None)
}

async fn newest(store: &Store) -> Result<(Vec<Object>, State), QuotaError> {
    for _ in 0..TRIES {
        let mut objects = store.list(FOLDER).await?;
        objects.retain(|object| generation(object).is_some());
        let Some(newest) = objects.last() else { return Ok((objects, State::default())) };
        let bytes = match store.get(&newest.path).await {
            // Others went on by more generations than are kept.
            Err(e) if e.is_missing() => continue,
            got => got?,
        };
        let state = serde_json::from_slice(&bytes)
            .map_err(|e| QuotaError::Finding { path: newest.path.clone(), reason: e.to_string() })?;
        return Ok((objects, state));
    }
    Ok((Vec::new(), State::default()))
}

fn generation(object: &Object) -> Option<u64> {
    object.name().strip_suffix(".json")?.parse().ok()
}
