//! What the pages that are in place were made from, so that those that would be the same are taken over
//! and not rendered again.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use weir_analytics::view::Usage;

use crate::assets::Assets;
use crate::columns::MINUTE;

/// A page in which nothing happened says up to when it is complete at least this often.
const RENEWED_EVERY: i64 = 15 * MINUTE;

/// Digests of a page or a directory: of what the pages show, and of the data beside them.
pub type Digests = (u64, u64);

/// By the name of the page or directory.
#[derive(Default)]
pub struct Made(pub BTreeMap<String, Digests>);

impl Made {
    /// Beside the pages, not among them. One that can't be read only means more work.
    fn path(dir: &Path) -> PathBuf {
        let target = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        target.with_file_name(format!(".{name}.made"))
    }

    pub fn read(dir: &Path) -> Made {
        let text = fs::read_to_string(Made::path(dir)).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.split(' ');
            let name = words.next()?.to_owned();
            let mut digest = || u64::from_str_radix(words.next()?, 16).ok();
            Some((name, (digest()?, digest()?)))
        };
        Made(text.lines().filter_map(entry).collect())
    }

    /// Called when the pages are in place: whoever is killed before renders again.
    pub fn write(&self, dir: &Path) {
        let line = |(name, (pages, data)): (&String, &Digests)| format!("{name} {pages:016x} {data:016x}\n");
        let text: String = self.0.iter().map(line).collect();
        // Failing here costs a rendering, no more.
        let _ = fs::write(Made::path(dir), text);
    }
}

/// Pages of another version are other pages, and so are those with other styles.
pub fn hasher(assets: &Assets) -> DefaultHasher {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    assets.all().map(|asset| &asset.name).hash(&mut hasher);
    hasher
}

/// All but up to which moment it is complete, as long as that is not too long ago.
pub fn hash_usage(usage: &Usage, hasher: &mut DefaultHasher) {
    (usage.from_us, usage.to_us, &usage.totals, &usage.series, &usage.rows, &usage.status).hash(hasher);
    let complete = &usage.completeness;
    (&complete.known.silent, &complete.known.lost).hash(hasher);
    (complete.records, complete.missing, complete.complete_to_us.map(|us| us / RENEWED_EVERY)).hash(hasher);
}
