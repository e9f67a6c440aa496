//! All portals, each in its directory. One that would be the same as before is taken over, not
//! rendered again.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use askama::Template;
use weir_analytics::view::{QuotaFinding, Usage};

use crate::assets::Assets;
use crate::columns::MINUTE;
use crate::page::Frame;
use crate::page::explore::Explore;
use crate::page::month::Month;
use crate::page::portal::{Portal, PortalInput};
use crate::publish::Staged;
use crate::site::{RenderError, RenderReport, SiteInput, put, put_assets, put_data};
use crate::subject::Subject;

/// A portal in which nothing happened says up to when it is complete at least this often.
const RENEWED_EVERY: i64 = 15 * MINUTE;

/// What the directories that are in place were made from: a digest of what the pages show and one of
/// the data.
#[derive(Default)]
pub struct Made(BTreeMap<String, (u64, u64)>);

impl Made {
    /// Beside the portals, not among them. One that can't be read only means more work.
    fn path(portal_dir: &Path) -> PathBuf {
        let target = fs::canonicalize(portal_dir).unwrap_or_else(|_| portal_dir.to_path_buf());
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        target.with_file_name(format!(".{name}.made"))
    }

    fn read(portal_dir: &Path) -> Made {
        let text = fs::read_to_string(Made::path(portal_dir)).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.split(' ');
            let directory = words.next()?.to_owned();
            let mut digest = || u64::from_str_radix(words.next()?, 16).ok();
            Some((directory, (digest()?, digest()?)))
        };
        Made(text.lines().filter_map(entry).collect())
    }

    /// Called when the portals are in place: whoever is killed before renders again.
    pub fn write(&self, portal_dir: &Path) {
        let line =
            |(name, (pages, data)): (&String, &(u64, u64))| format!("{name} {pages:016x} {data:016x}\n");
        let text: String = self.0.iter().map(line).collect();
        // Failing here costs a rendering, no more.
        let _ = fs::write(Made::path(portal_dir), text);
    }
}

pub fn stage(
    input: &SiteInput,
    dir: &Path,
    assets: &Assets,
    report: &mut RenderReport,
) -> Result<(Staged, Made), RenderError> {
    let (staged, before) = (Staged::begin(dir)?, Made::read(dir));
    let mut made = Made::default();
    let mut findings: BTreeMap<&str, Vec<&QuotaFinding>> = BTreeMap::new();
    input.findings.iter().for_each(|finding| findings.entry(&finding.client).or_default().push(finding));
    for (id, usage) in input.clients {
        let findings = findings.remove(id.as_str()).unwrap_or_default();
        let subject = Subject::of(input.policy, id);
        let own = PortalInput {
            id,
            subject: &subject,
            usage,
            findings,
            now_us: input.now_us,
            live: input.live_usage,
        };
        let portal = One { input, own, assets, staged: &staged, directory: input.directories.of(id) };
        let known = before.0.get(&portal.directory).copied();
        let digests = portal.put(known, report)?;
        made.0.insert(portal.directory, digests);
        report.portals += 1;
    }
    Ok((staged, made))
}

/// One portal under way.
struct One<'a> {
    input: &'a SiteInput<'a>,
    own: PortalInput<'a>,
    assets: &'a Assets,
    staged: &'a Staged,
    directory: String,
}

impl One<'_> {
    fn put(&self, known: Option<(u64, u64)>, report: &mut RenderReport) -> Result<(u64, u64), RenderError> {
        let pages = self.page_digest();
        let same = known.is_some_and(|known| known.0 == pages);
        if same && self.kept(&["index.html", "explore.html", "assets"])? {
            report.kept += 1;
        } else {
            self.put_pages(report)?;
        }
        let data = self.data_digest().or(known.map(|known| known.1)).unwrap_or(0);
        let same = known.is_some_and(|known| known.1 == data);
        if !(same && self.kept(&["data", "month.html"])?) {
            self.put_numbers(report)?;
        }
        Ok((pages, data))
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// Takes over what is in place; `false` where some of it is not there.
    fn kept(&self, names: &[&str]) -> Result<bool, RenderError> {
        for name in names {
            if !self.staged.keep(&self.path(name))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn put_pages(&self, report: &mut RenderReport) -> Result<(), RenderError> {
        let page = Portal::new(&self.own, Frame::portal(self.assets, "index.html")).render()?;
        put(self.staged, &self.path("index.html"), &page, report)?;
        let frame = Frame::portal(self.assets, "explore.html").exploring(self.assets);
        let page =
            Explore::portal(self.own.usage, self.own.now_us, &self.own.subject.zone, frame).render()?;
        put(self.staged, &self.path("explore.html"), &page, report)?;
        put_assets(self.staged, &self.path(""), self.assets, report)
    }

    /// The data and what is made of it.
    fn put_numbers(&self, report: &mut RenderReport) -> Result<(), RenderError> {
        let Some(data) = self.input.data else {
            self.kept(&["data", "month.html"])?;
            return Ok(());
        };
        if let Some(files) = data.clients.get(self.own.id) {
            put_data(self.staged, &self.path(""), files, report)?;
        }
        if let Some(usage) = data.months.get(self.own.id) {
            let page = Month::new(&self.own, usage, Frame::portal(self.assets, "month.html")).render()?;
            put(self.staged, &self.path("month.html"), &page, report)?;
        }
        Ok(())
    }

    fn page_digest(&self) -> u64 {
        let mut hasher = self.hasher();
        self.own.subject.hash(&mut hasher);
        self.own.findings.hash(&mut hasher);
        self.own.live.hash(&mut hasher);
        hash_usage(self.own.usage, &mut hasher);
        hasher.finish()
    }

    /// `None` where there is nothing new.
    fn data_digest(&self) -> Option<u64> {
        let data = self.input.data?;
        let mut hasher = self.hasher();
        self.own.subject.hash(&mut hasher);
        data.clients.get(self.own.id).hash(&mut hasher);
        data.months.get(self.own.id).inspect(|usage| hash_usage(usage, &mut hasher));
        Some(hasher.finish())
    }

    /// Pages of another version are other pages, and so are those with other styles.
    fn hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        self.assets.all().map(|asset| &asset.name).hash(&mut hasher);
        hasher
    }
}

/// All but up to which moment it is complete, as long as that is not too long ago.
fn hash_usage(usage: &Usage, hasher: &mut DefaultHasher) {
    (usage.from_us, usage.to_us, &usage.totals, &usage.series, &usage.rows, &usage.status).hash(hasher);
    let complete = &usage.completeness;
    (complete.records, complete.missing, complete.complete_to_us.map(|us| us / RENEWED_EVERY)).hash(hasher);
}
