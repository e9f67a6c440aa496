//! Things that are done once, or agreed on once, by whoever is first: small objects under `ledger/`.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::calendar::MINUTE_US;
use crate::store::{Created, Store, StoreError};

/// Where the secret lies that the names of portal directories are made with.
const PORTAL_SECRET: &str = "ledger/portal-secret";

/// The secret that the names of portal directories are made with: `fresh` if there was none yet. All
/// who render into the same store agree on it.
pub async fn portal_secret(store: &Store, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
    let found = match store.get(PORTAL_SECRET).await {
        Err(e) if e.is_missing() => {
            store.create(PORTAL_SECRET, Bytes::copy_from_slice(&fresh)).await?;
            store.get(PORTAL_SECRET).await?
        }
        found => found?,
    };
    // Whatever is in the object is as secret as it was; a hash of it has the length that is needed.
    Ok(<[u8; 32]>::try_from(&found[..]).unwrap_or_else(|_| Sha256::digest(&found).into()))
}

/// How often each client's portal directory was given up for a new one, by the client's id.
pub async fn renewed(store: &Store) -> Result<BTreeMap<String, u32>, StoreError> {
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for object in store.list("ledger/portal").await? {
        let Some((id, number)) = object.name().split_once('.') else { continue };
        let (Some(id), Ok(number)) = (unhex(id), number.parse::<u32>()) else { continue };
        let newest = times.entry(id).or_default();
        *newest = number.max(*newest);
    }
    Ok(times)
}

/// Gives up a client's portal directory: from the next rendering on it has another, and says which
/// time it is.
pub async fn renew(store: &Store, client: &str) -> Result<u32, StoreError> {
    let hex: String = client.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut number = renewed(store).await?.get(client).copied().unwrap_or(0);
    loop {
        number += 1;
        // Somebody else may do the same at this moment: then it is another time.
        if store.create(&format!("ledger/portal/{hex}.{number}"), Bytes::new()).await? == Created::New {
            return Ok(number);
        }
    }
}

fn unhex(text: &str) -> Option<String> {
    let digits =
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(digits.collect::<Option<Vec<u8>>>()?).ok()
}

/// How long an attempt without an outcome is believed to be under way, microseconds.
pub const UNDER_WAY_US: i64 = 10 * MINUTE_US;

/// Where it is written down which mails were sent. Names are created once; those of attempts end in
/// `.1`, `.2` and so on.
#[derive(Clone, Debug)]
pub struct MailLedger<'a> {
    pub store: &'a Store,
    pub now_us: i64,
}

impl MailLedger<'_> {
    /// Creates a name unless it exists, and says whether it was created.
    ///
    /// A further attempt is not created while the one before may be under way on another machine:
    /// for ten minutes. It belongs to a sender that was killed only after that.
    pub async fn create(&self, name: &str) -> Result<bool, StoreError> {
        if let Some(before) = attempt_before(name)
            && let Some(at_us) = self.store.modified_us(&path(&before)).await?
            && at_us > self.now_us - UNDER_WAY_US
        {
            return Ok(false);
        }
        Ok(self.store.create(&path(name), Bytes::new()).await? == Created::New)
    }

    pub async fn contains(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.store.modified_us(&path(name)).await?.is_some())
    }

    /// Removes a name; it may be gone already.
    pub async fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.store.delete(&path(name)).await
    }
}

fn path(name: &str) -> String {
    format!("ledger/mail/{name}")
}

/// The attempt before the one that is named.
fn attempt_before(name: &str) -> Option<String> {
    let (mail, number) = name.rsplit_once('.')?;
    let before = number.parse::<u32>().ok()?.checked_sub(1).filter(|n| *n > 0)?;
    Some(format!("{mail}.{before}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::runtime;

    fn store() -> Store {
        Store::new(Arc::new(object_store::memory::InMemory::new()))
    }

    #[test]
    fn a_directory_is_renewed_again_and_again() {
        let store = store();
        runtime().block_on(async {
            assert!(renewed(&store).await.unwrap().is_empty());
            let mut told = Vec::new();
            for id in ["acme", "../a b", "acme"] {
                told.push(renew(&store, id).await.unwrap());
            }
            assert_eq!(told, [1, 1, 2]);
            let all = renewed(&store).await.unwrap();
            assert_eq!(all, BTreeMap::from([("acme".to_owned(), 2), ("../a b".to_owned(), 1)]));
        });
    }

    #[test]
    fn a_name_is_created_once_and_may_be_taken_back() {
        let store = store();
        runtime().block_on(async {
            let ledger = MailLedger { store: &store, now_us: 0 };
            assert!(!ledger.contains("m.1").await.unwrap());
            assert!(ledger.create("m.1").await.unwrap());
            assert!(!ledger.create("m.1").await.unwrap());
            assert!(ledger.contains("m.1").await.unwrap());
            ledger.remove("m.1").await.unwrap();
            ledger.remove("m.1").await.unwrap();
            assert!(ledger.create("m.1").await.unwrap());
            assert!(ledger.create("m.done").await.unwrap());
        });
    }

    #[test]
    fn a_second_attempt_waits_until_the_first_can_no_longer_be_under_way() {
        let store = store();
        runtime().block_on(async {
            let first = MailLedger { store: &store, now_us: 0 };
            assert!(first.create("m.1").await.unwrap());
            let begun_us = store.modified_us("ledger/mail/m.1").await.unwrap().unwrap();
            let at = |now_us| MailLedger { store: &store, now_us };
            assert!(!at(begun_us + UNDER_WAY_US - 1).create("m.2").await.unwrap());
            assert!(at(begun_us + UNDER_WAY_US).create("m.2").await.unwrap());
        });
    }

    #[test]
    fn all_agree_on_the_first_secret() {
        let store = store();
        let secret = |fresh| runtime().block_on(portal_secret(&store, fresh)).unwrap();
        assert_eq!(secret([1; 32]), [1; 32]);
        assert_eq!(secret([2; 32]), [1; 32]);
    }
}
