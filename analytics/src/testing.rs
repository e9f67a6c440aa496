//! A store that misbehaves on demand, for tests only.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use weir_metering::{Decision, Record};

use crate::generation::{self, Note};
use crate::held::Numbers;
use crate::part::{self, PartError, PartNote};
use crate::records::Records;
use crate::rollup::{self, RolledUp, RollupError};
use crate::store::Store;
use crate::table::Table;
use crate::view::Grain;

/// A runtime that runs one test's futures.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// A store in memory whose operations start to fail after a number of them, like a process that is
/// killed there: nothing after it happens.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: Arc<InMemory>,
    /// Operations left before everything fails.
    left: Arc<AtomicI64>,
    overwrites: bool,
    conflicts: Arc<AtomicI64>,
    /// Puts to come whose answer is lost on the way.
    unanswered: Arc<AtomicI64>,
}

impl Faulty {
    /// Fails for ever after `left` operations.
    pub fn after(inner: Arc<InMemory>, left: i64) -> Faulty {
        Faulty {
            inner,
            left: Arc::new(AtomicI64::new(left)),
            overwrites: false,
            conflicts: Arc::new(AtomicI64::new(0)),
            unanswered: Arc::new(AtomicI64::new(0)),
        }
    }

    /// Ignores create-only, as some servers do.
    pub fn overwriting() -> Faulty {
        Faulty { overwrites: true, ..Faulty::after(Arc::default(), i64::MAX) }
    }

    /// Answers the first `n` puts with a conflict without storing anything.
    pub fn conflicting(n: i64) -> Faulty {
        Faulty { conflicts: Arc::new(AtomicI64::new(n)), ..Faulty::after(Arc::default(), i64::MAX) }
    }

    /// Does what it is asked for, but answers every put with a time-out.
    pub fn unanswering(inner: Arc<InMemory>) -> Faulty {
        Faulty { unanswered: Arc::new(AtomicI64::new(i64::MAX)), ..Faulty::after(inner, i64::MAX) }
    }

    /// Whether the point of failure was reached.
    pub fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// Counts one operation; fails once there are none left.
    fn step(&self) -> Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => Ok(()),
            _ => Err(Faulty::gone()),
        }
    }

    fn gone() -> Error {
        Error::Generic { store: "faulty", source: "killed here".into() }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.step()?;
        if self.conflicts.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(Error::AlreadyExists { path: path.to_string(), source: "409".into() });
        }
        if self.overwrites {
            options.mode = PutMode::Overwrite;
        }
        let put = self.inner.put_opts(path, payload, options).await?;
        match self.unanswered.fetch_sub(1, Ordering::SeqCst) {
            1.. => Err(Faulty::gone()),
            _ => Ok(put),
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.step()?;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.step()?;
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let delete = move |path: Path| {
            let this = this.clone();
            async move {
                this.step()?;
                this.inner.delete(&path).await?;
                Ok(path)
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.step() {
            Ok(()) => self.inner.list(prefix),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.step()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Record `n` of a seed, always the same, and whether its latency is known: few clients, some
/// endpoints, every decision.
pub fn sample_record<T>(seed: u64, number: u64, take: impl FnOnce(&Record<'_>, bool) -> T) -> T {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003) ^ number);
    let record = Record {
        time_us: SAMPLE_START_US + number * 997_001,
        client: ["acme", "globex", "initech"][rng.usize(0..3)],
        tier: ["basic", "enterprise"][rng.usize(0..2)],
        endpoint: ["/orders", "/search", "\"<odd>\n"][rng.usize(0..3)],
        method: ["GET", "POST"][rng.usize(0..2)],
        status: [200, 201, 304, 404, 429, 500, 0, 999][rng.usize(0..8)],
        latency_us: rng.u64(0..3_000_000),
        upstream_us: rng.bool().then(|| rng.u64(0..1_000)),
        bytes_in: rng.u64(100..5_000),
        bytes_out: rng.u64(0..50_000),
        decision: Decision::ALL[rng.usize(0..Decision::ALL.len())],
        limit: ["", "100 requests/minute"][rng.usize(0..2)],
        policy_version: rng.u64(..),
    };
    take(&record, rng.u8(0..10) > 0)
}

/// Records that look like traffic.
pub fn sample_records(seed: u64, numbers: Range<u64>) -> Records {
    let mut records = Records::default();
    for number in numbers {
        sample_record(seed, number, |record, timed| records.push(number, record, timed));
    }
    records
}

/// Time of record 0 of [`sample_records`]: ten to midnight, so that some lie in the next day, month
/// and year.
pub const SAMPLE_START_US: u64 = 1_798_761_000_000_000;

/// The name of a seed's stream.
pub fn stream_name(seed: u64) -> String {
    format!("{seed:032x}")
}

/// Stores sample records as one segment of a stream named after the seed.
pub async fn put_segment(
    store: &Store,
    seed: u64,
    segment: u32,
    numbers: Range<u64>,
) -> Result<(), PartError> {
    let note = PartNote {
        gateway: "gw".to_owned(),
        stream: stream_name(seed),
        segment,
        boot: "b".to_owned(),
        held: Numbers::default(),
        first: numbers.start,
        next: numbers.end,
        gaps: Vec::new(),
        ..PartNote::default()
    };
    for (hour, records) in sample_records(seed, numbers).by_hour() {
        let note = PartNote { held: records.numbers(), ..note.clone() };
        part::put(store, hour, &note, records).await?;
    }
    Ok(())
}

/// A table's rows as text, in their order.
pub fn told(table: &Table) -> Vec<String> {
    let row = |r: usize| {
        let texts: Vec<&str> = table.texts.iter().map(|t| table.names.get(t[r])).collect();
        let sums: Vec<i64> = table.sums.iter().map(|s| s[r]).collect();
        let maps = (table.latency.row(r).collect::<Vec<_>>(), table.status.row(r).collect::<Vec<_>>());
        let ends = (table.latency_min_us[r], table.latency_max_us[r]);
        format!("{} {texts:?} {sums:?} {ends:?} {maps:?}", table.time_us[r])
    };
    (0..table.len()).map(row).collect()
}

/// All rows that count in a store, of every grain.
pub async fn all_rows(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    for grain in Grain::ALL {
        for path in rollup::files(store, grain).await.unwrap() {
            let (table, _): (Table, Note) = generation::read_usage(store, &path).await.unwrap();
            all.extend(told(&table).into_iter().map(|row| format!("{} {row}", grain.word())));
        }
    }
    all
}

/// Rolls up with nobody watching.
pub async fn roll_up(store: &Store, now_us: i64) -> Result<RolledUp, RollupError> {
    rollup::roll_up(store, now_us, &mut |_, _| {}).await
}
