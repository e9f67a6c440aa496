//! All portals, each in its directory. One that would be the same as before is taken over, not
//! rendered again.

use std::hash::{Hash, Hasher};
use std::path::Path;

use askama::Template;

use crate::assets::Assets;
use crate::made::{Digests, Made, hash_usage, hasher};
use crate::own::Own;
use crate::page::Frame;
use crate::page::explore::Explore;
use crate::page::month::Month;
use crate::page::portal::Portal;
use crate::promise;
use crate::publish::Staged;
use crate::site::{RenderError, RenderReport, SiteInput, put, put_assets, put_data};

pub fn stage(
    input: &SiteInput,
    clients: &[Own],
    dir: &Path,
    assets: &Assets,
) -> Result<(Staged, Made, RenderReport), RenderError> {
    let (staged, before) = (Staged::begin(dir)?, Made::read(dir));
    let (mut made, mut report) = (Made::default(), RenderReport::default());
    // Where the styles and scripts were written; other portals get the same files by links.
    let mut first = None;
    for own in clients {
        let directory = input.directories.of(own.id);
        let portal = One { input, own, assets, staged: &staged, directory };
        let known = before.0.get(&portal.directory).copied();
        let digests = portal.put(known, &mut first, &mut report)?;
        made.0.insert(portal.directory, digests);
        report.portals += 1;
    }
    Ok((staged, made, report))
}

/// What a portal's pages may lead to.
#[derive(Clone, Copy, Hash)]
struct Beside {
    exports: bool,
    month: bool,
}

/// One portal under way.
struct One<'a> {
    input: &'a SiteInput<'a>,
    own: &'a Own<'a>,
    assets: &'a Assets,
    staged: &'a Staged,
    directory: String,
}

impl One<'_> {
    fn put(
        &self,
        known: Option<Digests>,
        first: &mut Option<String>,
        report: &mut RenderReport,
    ) -> Result<Digests, RenderError> {
        let data = self.data_digest().or(known.map(|known| known.1)).unwrap_or(0);
        let same = known.is_some_and(|known| known.1 == data);
        if !(same && self.kept(&["data", "month.html"])?) {
            self.put_numbers(report)?;
        }
        // Of a new client nothing but its use is known at first: pages lead to what is there.
        let beside = Beside {
            exports: self.staged.has(&self.path("data/day.csv")),
            month: self.staged.has(&self.path("month.html")),
        };
        let pages = self.page_digest(beside);
        let same = known.is_some_and(|known| known.0 == pages);
        if same && self.kept(&["index.html", "explore.html", "assets"])? {
            report.kept += 1;
        } else {
            self.put_pages(beside, first, report)?;
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

    fn put_pages(
        &self,
        beside: Beside,
        first: &mut Option<String>,
        report: &mut RenderReport,
    ) -> Result<(), RenderError> {
        let frame = Frame::portal(self.assets, "index.html", beside.month);
        let page = Portal::new(self.own, self.input.live_usage, beside.exports, frame);
        put(self.staged, &self.path("index.html"), &page.render()?, report)?;
        let frame = Frame::portal(self.assets, "explore.html", beside.month).exploring(self.assets);
        let zone = &self.own.subject.zone;
        let page = Explore::portal(self.own.usage, self.own.now_us, zone, frame, page.charts);
        put(self.staged, &self.path("explore.html"), &page.render()?, report)?;
        let assets = self.path("assets");
        match first {
            Some(first) => Ok(self.staged.link(first, &assets)?),
            None => {
                *first = Some(assets);
                put_assets(self.staged, &self.path(""), self.assets, report)
            }
        }
    }

    /// The data and what is made of it.
    fn put_numbers(&self, report: &mut RenderReport) -> Result<(), RenderError> {
        let Some(data) = self.input.data else {
            self.kept(&["data", "month.html"])?;
            return Ok(());
        };
        for file in data.client(self.own.id)? {
            put_data(self.staged, &self.path(""), &file, report)?;
        }
        if let Some(usage) = data.months.get(self.own.id) {
            let frame = Frame::portal(self.assets, "month.html", true);
            let exports = self.staged.has(&self.path("data/day.csv"));
            let page = Month::new(self.own, usage, exports, frame).render()?;
            put(self.staged, &self.path("month.html"), &page, report)?;
        }
        Ok(())
    }

    fn page_digest(&self, beside: Beside) -> u64 {
        let mut hasher = hasher(self.assets);
        beside.hash(&mut hasher);
        self.own.hash(&mut hasher);
        self.input.live_usage.hash(&mut hasher);
        hasher.finish()
    }

    /// `None` where there is nothing new.
    fn data_digest(&self) -> Option<u64> {
        let data = self.input.data?;
        let mut hasher = hasher(self.assets);
        self.own.subject.hash(&mut hasher);
        self.own.promises.iter().for_each(|promise| promise::hash(promise, &mut hasher));
        data.hash_client(self.own.id, &mut hasher);
        data.months.get(self.own.id).inspect(|usage| hash_usage(usage, &mut hasher));
        Some(hasher.finish())
    }
}
