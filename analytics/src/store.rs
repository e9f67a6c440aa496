//! The object store: local disk, S3 and what speaks S3, Google Cloud Storage, Azure.
//!
//! Everything here stands on one promise, the create-only put: of any number of writers of one name
//! exactly one wins, and nothing is ever overwritten. [`Store::check`] tests that promise once.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};

/// How often a create is tried again when the store answers "conflict" but holds no such object.
const CONFLICT_TRIES: u32 = 5;

/// Names of the objects by which [`Store::check`] tests the store.
const CHECK_FOLDER: &str = ".weir-check";

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "[storage] url `{url}`: {reason}; use a folder, file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    BadUrl { url: String, reason: String },
    #[error(
        "the store {store} let an object be created twice, so it would lose roll-ups; use a store that honours `If-None-Match: *`"
    )]
    Overwrites { store: String },
    #[error(
        "the store {store} does not exist; make the bucket or container, and check its name and region in [storage] url and the environment"
    )]
    NoStore { store: String },
    #[error(
        "the store {store} can't be used: {source}; check its URL, the network, and the credentials in the environment (AWS_…, GOOGLE_…, AZURE_…); nothing was deleted"
    )]
    Unusable { store: String, source: Error },
    #[error("could not {operation} `{path}` in the store: {source}; nothing was deleted, run it again")]
    Failed { operation: &'static str, path: String, source: Error },
    #[error("`{path}` is not in the store (any more)")]
    Missing { path: String },
}

impl StoreError {
    fn failed(operation: &'static str, path: &str, source: Error) -> StoreError {
        match source {
            Error::NotFound { .. } => StoreError::Missing { path: path.to_owned() },
            source => StoreError::Failed { operation, path: path.to_owned(), source },
        }
    }

    /// Whether the object went away: somebody else's work, so look again.
    pub fn is_missing(&self) -> bool {
        matches!(self, StoreError::Missing { .. })
    }
}

/// The outcome of a create-only put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    New,
    /// Another writer, or this one earlier, has made it.
    Existed,
}

/// One object as a listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub path: String,
    pub size: u64,
    /// When it was written, by the store's clock, microseconds UTC.
    pub modified_us: i64,
}

impl Object {
    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// An object store under one prefix.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// For messages.
    name: String,
}

impl Store {
    /// Opens the store that `url` names: a folder (made if absent), or a bucket with an optional
    /// prefix. Credentials and endpoints come from the environment (`AWS_…`, `GOOGLE_…`,
    /// `AZURE_…`), never from the URL or from weir.toml. No request is sent.
    pub fn open(url: &str) -> Result<Store, StoreError> {
        let bad = |reason: String| StoreError::BadUrl { url: without_password(url), reason };
        match url.split_once("://") {
            None if url.is_empty() => Err(bad("is empty".to_owned())),
            None => local(FilePath::new(url)).map_err(|e| bad(e.to_string())),
            Some(("file", folder)) => local(FilePath::new(folder)).map_err(|e| bad(e.to_string())),
            Some((scheme, rest)) => {
                let objects = remote(scheme, url).map_err(&bad)?;
                let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix);
                let prefix = Path::parse(prefix).map_err(|e| bad(e.to_string()))?;
                Ok(Store {
                    objects: Arc::new(PrefixStore::new(objects, prefix)),
                    name: without_password(url),
                })
            }
        }
    }

    /// Uses any implementation of a store; tests hand in ones that fail.
    pub fn new(objects: Arc<dyn ObjectStore>) -> Store {
        Store { name: objects.to_string(), objects }
    }

    /// Makes one object twice and refuses a store that lets it happen. `nonce` names the object, so
    /// that checks running at the same time don't meet; it is deleted afterwards.
    pub async fn check(&self, nonce: u128) -> Result<(), StoreError> {
        let path = format!("{CHECK_FOLDER}/{nonce:032x}");
        let first = self.create(&path, Bytes::from_static(b"one")).await.map_err(|e| match e {
            StoreError::Failed { source, .. } => StoreError::Unusable { store: self.name.clone(), source },
            told => told,
        })?;
        let second = self.create(&path, Bytes::from_static(b"two")).await;
        self.delete(&path).await?;
        match (first, second?) {
            (Created::New, Created::Existed) => Ok(()),
            _ => Err(StoreError::Overwrites { store: self.name.clone() }),
        }
    }

    /// Creates an object, never overwriting one.
    ///
    /// A store under load may answer "conflict" for a name that nobody has written in the end (two
    /// writers at once on S3); only an object that is really there counts as `Existed`.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let name = Path::from(path);
        for attempt in 0..CONFLICT_TRIES {
            let payload = PutPayload::from_bytes(bytes.clone());
            match self.objects.put_opts(&name, payload, PutMode::Create.into()).await {
                Ok(_) => return Ok(Created::New),
                Err(Error::AlreadyExists { .. }) if self.exists(path).await? => {
                    return Ok(Created::Existed);
                }
                Err(Error::AlreadyExists { .. }) => {
                    tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
                }
                // Folders need not exist, so it can only be the bucket that does not.
                Err(Error::NotFound { .. }) => {
                    return Err(StoreError::NoStore { store: self.name.clone() });
                }
                Err(e) => return Err(StoreError::failed("create", path, e)),
            }
        }
        let source = Error::Generic { store: "weir", source: "the store keeps answering conflict".into() };
        Err(StoreError::failed("create", path, source))
    }

    async fn exists(&self, path: &str) -> Result<bool, StoreError> {
        Ok(self.modified_us(path).await?.is_some())
    }

    /// When an object was written, by the store's clock, microseconds UTC; `None` if there is none.
    pub async fn modified_us(&self, path: &str) -> Result<Option<i64>, StoreError> {
        match self.objects.head(&Path::from(path)).await {
            Ok(meta) => Ok(Some(meta.last_modified.timestamp_micros())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(StoreError::failed("look for", path, e)),
        }
    }

    /// The whole object.
    pub async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        let got = self.objects.get(&Path::from(path)).await;
        let got = got.map_err(|e| StoreError::failed("read", path, e))?;
        got.bytes().await.map_err(|e| StoreError::failed("read", path, e))
    }

    /// The last `length` bytes of an object (all of it when it is shorter).
    pub async fn get_tail(&self, object: &Object, length: u64) -> Result<Bytes, StoreError> {
        let range = object.size.saturating_sub(length)..object.size;
        let got = self.objects.get_range(&Path::from(object.path.as_str()), range).await;
        got.map_err(|e| StoreError::failed("read", &object.path, e))
    }

    /// All objects under a folder, each once, in the order of their names.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let prefix = Path::from(folder);
        let listed = self.objects.list(Some(&prefix)).map_ok(|meta| Object {
            path: meta.location.to_string(),
            size: meta.size,
            modified_us: meta.last_modified.timestamp_micros(),
        });
        let listed: Vec<Object> =
            listed.try_collect().await.map_err(|e| StoreError::failed("list", folder, e))?;
        // Stores may list an object twice while they page through a changing folder.
        let unique: BTreeMap<String, Object> = listed.into_iter().map(|o| (o.path.clone(), o)).collect();
        Ok(unique.into_values().collect())
    }

    /// The names of the folders directly inside a folder, in order.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let listed = self.objects.list_with_delimiter(Some(&Path::from(folder))).await;
        let listed = listed.map_err(|e| StoreError::failed("list", folder, e))?;
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Deletes an object; one that is gone already is fine.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match self.objects.delete(&Path::from(path)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(StoreError::failed("delete", path, e)),
        }
    }
}

fn local(folder: &FilePath) -> Result<Store, Error> {
    let unusable = |source: std::io::Error| Error::Generic { store: "folder", source: source.into() };
    std::fs::create_dir_all(folder).map_err(unusable)?;
    // A segment is deleted once its parts are in the store, so they must survive a power cut.
    let objects = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
    Ok(Store::new(Arc::new(objects)))
}

fn remote(scheme: &str, url: &str) -> Result<Arc<dyn ObjectStore>, String> {
    // Fewer and shorter retries than the library's three minutes: a tick that fails is followed by
    // another a minute later.
    let retry =
        RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
    let built: Result<Arc<dyn ObjectStore>, Error> = match scheme {
        "s3" | "s3a" => {
            let builder = AmazonS3Builder::from_env().with_url(url).with_retry(retry);
            builder.build().map(|s| Arc::new(s) as _)
        }
        "gs" => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry);
            builder.build().map(|s| Arc::new(s) as _)
        }
        "az" | "azure" | "abfs" | "abfss" => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry);
            builder.build().map(|s| Arc::new(s) as _)
        }
        other => return Err(format!("unknown scheme `{other}`")),
    };
    built.map_err(|e| e.to_string())
}

/// The URL for messages: whatever stands before an `@` is left out.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Faulty, runtime};

    #[test]
    fn an_object_is_created_once_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        runtime().block_on(async {
            store.check(7).await.unwrap();
            let create = |text: &'static str| store.create("a/b", Bytes::from_static(text.as_bytes()));
            assert_eq!(create("one").await.unwrap(), Created::New);
            assert_eq!(create("two").await.unwrap(), Created::Existed);
            assert_eq!(store.get("a/b").await.unwrap(), "one");
            let listed = store.list("").await.unwrap();
            assert_eq!(listed.iter().map(|o| o.path.as_str()).collect::<Vec<_>>(), ["a/b"]);
            assert_eq!(store.get_tail(&listed[0], 2).await.unwrap(), "ne");
            store.delete("a/b").await.unwrap();
            store.delete("a/b").await.unwrap();
            assert!(store.get("a/b").await.unwrap_err().is_missing());
        });
    }

    #[test]
    fn a_store_that_overwrites_is_refused() {
        let store = Store::new(Arc::new(Faulty::overwriting()));
        let refused = runtime().block_on(store.check(1)).unwrap_err();
        assert!(matches!(refused, StoreError::Overwrites { .. }), "{refused}");
    }

    #[test]
    fn a_conflict_about_an_object_that_is_not_there_is_tried_again() {
        let store = Store::new(Arc::new(Faulty::conflicting(2)));
        let created = runtime().block_on(store.create("x", Bytes::from_static(b"1"))).unwrap();
        assert_eq!(created, Created::New);
    }

    #[test]
    fn a_url_that_cannot_be_used_is_told_without_its_password() {
        let told = Store::open("ftp://me:secret@host/x").unwrap_err().to_string();
        assert!(told.contains("ftp") && !told.contains("secret"), "{told}");
        assert!(Store::open("").is_err());
    }
}
