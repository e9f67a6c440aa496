//! The whole site: the platform team's pages and each client's portal.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use askama::Template;
use thiserror::Error;
use url::Url;
use weir_analytics::anomaly::Course;
use weir_analytics::books::endpoint_name;
use weir_analytics::cube::{CubeError, Data, File};
use weir_analytics::forecast::Forecast;
use weir_analytics::objective::Promise;
use weir_analytics::view::{QuotaFinding, Recent, Usage};
use weir_policy::Policy;

use crate::assets::Assets;
use crate::directories::Directories;
use crate::made::{Made, hash_usage, hasher};
use crate::map;
use crate::own::Own;
use crate::page::anomalies::Anomalies;
use crate::page::clients::Clients;
use crate::page::explore::Explore;
use crate::page::health::Health;
use crate::page::limits::Limits;
use crate::page::objectives::Objectives;
use crate::page::one::{ClientPage, EndpointPage};
use crate::page::overview::Overview;
use crate::page::{Frame, endpoint_link};
use crate::portals;
use crate::publish::{PublishError, Staged};
use crate::subject::Subject;

/// Everything the pages are made from. No clock and no store: the caller knows both.
pub struct SiteInput<'a> {
    /// Microseconds since the Unix epoch, UTC.
    pub now_us: i64,
    pub policy: &'a Policy,
    /// All clients together.
    pub overview: &'a Usage,
    /// The same of a week before, to compare with.
    pub previous: Option<&'a Usage>,
    /// Client id and its usage alone; a portal is rendered for each.
    pub clients: &'a [(String, Usage)],
    /// Each endpoint by its name, `GET /orders`, ascending.
    pub endpoints: &'a [(String, Usage)],
    pub findings: &'a [QuotaFinding],
    pub recent: &'a Recent,
    /// Oldest first.
    pub anomalies: &'a [Course],
    /// Of this month, by client and endpoint; `None` where they could not be reckoned.
    pub promises: Option<&'a [Promise]>,
    pub forecasts: &'a [Forecast],
    /// What pages explore; `None` keeps the data that was published before.
    pub data: Option<&'a Data>,
    /// Where each gateway's `weir_metrics` is reached by those who read the platform's pages.
    pub live: &'a [String],
    /// Where `weir_usage` is reached by those who read a portal.
    pub live_usage: Option<&'a str>,
    /// Where the portals are served: the address above `portal/`. Without it there are no links to
    /// portals.
    pub public_url: Option<&'a str>,
    /// Makes the names of portal directories.
    pub directories: &'a Directories,
}

/// What was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderReport {
    pub pages: usize,
    pub portals: usize,
    /// Portals that were taken over as they were.
    pub kept: usize,
    /// Pages of clients and endpoints that were taken over as they were.
    pub kept_pages: usize,
    pub bytes: u64,
}

#[derive(Debug, Error)]
pub enum RenderError {
    #[error(
        "{url:?} is no address of a site; set [site] public_url to one that begins with https:// or http://"
    )]
    PublicUrl { url: String },
    #[error("{inner} lies within {outer}; set [site] dir and portal_dir to directories beside each other")]
    Nested { inner: PathBuf, outer: PathBuf },
    #[error("cannot render a page: {0}; this is a mistake in weir, please report it")]
    Template(#[from] askama::Error),
    #[error(transparent)]
    Data(#[from] CubeError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Renders and publishes everything: the overview to `site_dir/index.html`, each portal to
/// `portal_dir/<directory>/index.html`. Each of the two directories is replaced as a whole; on any
/// error before that both stay as they were.
pub fn render_site(
    input: &SiteInput,
    site_dir: &Path,
    portal_dir: &Path,
) -> Result<RenderReport, RenderError> {
    check_url(input.public_url)?;
    check_beside(site_dir, portal_dir)?;
    let assets = Assets::new();
    let clients = Own::all(input);
    // Two halves of the work that know nothing of each other.
    let (site, portals) = std::thread::scope(|scope| {
        let site = scope.spawn(|| stage_site(input, &clients, site_dir, &assets));
        let portals = portals::stage(input, &clients, portal_dir, &assets);
        (site.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), portals)
    });
    let ((site, made_site, mut report), (portals, made_portals, of_portals)) = (site?, portals?);
    report.portals = of_portals.portals;
    report.kept = of_portals.kept;
    report.bytes += of_portals.bytes;
    // Portals first: the overview links to them.
    portals.publish()?;
    made_portals.write(portal_dir);
    site.publish()?;
    made_site.write(site_dir);
    let whose = input.clients.iter().map(|(id, _)| (id.as_str(), input.directories.of(id)));
    map::write(&map::path_of(portal_dir), &map::lines(whose))?;
    Ok(report)
}

fn stage_site(
    input: &SiteInput,
    clients: &[Own],
    dir: &Path,
    assets: &Assets,
) -> Result<(Staged, Made, RenderReport), RenderError> {
    let staged = Staged::begin(dir)?;
    let mut report = RenderReport::default();
    let mut page = |name: &str, html: String| {
        report.pages += 1;
        put(&staged, name, &html, &mut report)
    };
    let links = |id: &str| client_link(input, "", id);
    let frame = |here: &str| Frame::platform(assets, "", here);
    page("index.html", Overview::new(input, frame("index.html"), &links).render()?)?;
    page("clients.html", Clients::new(input, clients, frame("clients.html"), &links).render()?)?;
    page("limits.html", Limits::new(input, frame("limits.html"), &links).render()?)?;
    page("anomalies.html", Anomalies::new(input, frame("anomalies.html"), &links).render()?)?;
    page("objectives.html", Objectives::new(input, frame("objectives.html"), &links).render()?)?;
    page("health.html", Health::new(input, frame("health.html")).render()?)?;
    let name = |id: &str| Subject::of(input.policy, id).name;
    let frame = frame("explore.html").exploring(assets);
    page("explore.html", Explore::platform(input.overview, input.now_us, frame, &name).render()?)?;
    let mut many = Many { input, assets, staged: &staged, before: Made::read(dir), made: Made::default() };
    clients.iter().try_for_each(|own| many.client(own, &mut report))?;
    input.endpoints.iter().try_for_each(|(name, usage)| many.endpoint(name, usage, &mut report))?;
    many.data(&mut report)?;
    let made = many.made;
    put_assets(&staged, "", assets, &mut report)?;
    Ok((staged, made, report))
}

/// The pages of which there is one for each client or endpoint.
struct Many<'a> {
    input: &'a SiteInput<'a>,
    assets: &'a Assets,
    staged: &'a Staged,
    before: Made,
    made: Made,
}

impl Many<'_> {
    fn client(&mut self, own: &Own, report: &mut RenderReport) -> Result<(), RenderError> {
        let portal = self.input.public_url.map(|url| self.input.directories.url(url, own.id));
        let links = |endpoint: &str| endpoint_link(self.input, "../", endpoint);
        let mut hasher = hasher(self.assets);
        own.hash(&mut hasher);
        portal.hash(&mut hasher);
        own.usage
            .rows
            .iter()
            .for_each(|row| links(&endpoint_name(&row.method, &row.endpoint)).hash(&mut hasher));
        let name = self.input.directories.page("client", own.id);
        let frame = Frame::platform(self.assets, "../", "clients.html");
        self.put(name, hasher.finish(), report, || ClientPage::new(own, frame, portal, &links).render())
    }

    fn endpoint(&mut self, name: &str, usage: &Usage, report: &mut RenderReport) -> Result<(), RenderError> {
        let links = |id: &str| client_link(self.input, "../", id);
        let names = |id: &str| Subject::of(self.input.policy, id).name;
        let mut hasher = hasher(self.assets);
        hash_usage(usage, &mut hasher);
        usage.rows.iter().for_each(|row| (names(&row.client), links(&row.client)).hash(&mut hasher));
        let frame = Frame::platform(self.assets, "../", "");
        let page = self.input.directories.page("endpoint", name);
        let now_us = self.input.now_us;
        self.put(page, hasher.finish(), report, || {
            EndpointPage::new(frame, name, usage, now_us, &names, &links).render()
        })
    }

    /// What the pages explore. Files that are taken over bear the time of this rendering, since they
    /// are as good as new.
    fn data(&mut self, report: &mut RenderReport) -> Result<(), RenderError> {
        let known = self.before.0.get("data").copied();
        let Some(data) = self.input.data else {
            self.made.0.extend(known.map(|known| ("data".to_owned(), known)));
            self.staged.keep("data")?;
            return Ok(());
        };
        let mut hasher = hasher(self.assets);
        data.hash_platform(&mut hasher);
        let digest = (hasher.finish(), 0);
        if known == Some(digest) && self.staged.keep("data")? {
            self.staged.touch("data", self.input.now_us)?;
        } else {
            data.platform().try_for_each(|file| put_data(self.staged, "", &file?, report))?;
        }
        self.made.0.insert("data".to_owned(), digest);
        Ok(())
    }

    fn put(
        &mut self,
        name: String,
        digest: u64,
        report: &mut RenderReport,
        render: impl FnOnce() -> askama::Result<String>,
    ) -> Result<(), RenderError> {
        report.pages += 1;
        let same = self.before.0.get(&name).is_some_and(|(known, _)| *known == digest);
        if same && self.staged.keep(&name)? {
            report.kept_pages += 1;
        } else {
            put(self.staged, &name, &render()?, report)?;
        }
        self.made.0.insert(name, (digest, 0));
        Ok(())
    }
}

/// The platform's page of a client that has one.
fn client_link(input: &SiteInput, up: &str, id: &str) -> Option<String> {
    let is_known = input.clients.binary_search_by(|(other, _)| other.as_str().cmp(id)).is_ok();
    is_known.then(|| format!("{up}{}", input.directories.page("client", id)))
}

pub(crate) fn put(
    staged: &Staged,
    path: &str,
    content: &str,
    report: &mut RenderReport,
) -> Result<(), RenderError> {
    report.bytes += content.len() as u64;
    Ok(staged.write(path, content.as_bytes())?)
}

pub(crate) fn put_data(
    staged: &Staged,
    below: &str,
    (name, content): &File,
    report: &mut RenderReport,
) -> Result<(), RenderError> {
    report.bytes += content.len() as u64;
    Ok(staged.write(&format!("{below}data/{name}"), content)?)
}

pub(crate) fn put_assets(
    staged: &Staged,
    below: &str,
    assets: &Assets,
    report: &mut RenderReport,
) -> Result<(), RenderError> {
    for asset in assets.all() {
        put(staged, &format!("{below}{}", asset.name), asset.content, report)?;
    }
    Ok(())
}

/// Only addresses of sites: what is configured ends up in links.
fn check_url(url: Option<&str>) -> Result<(), RenderError> {
    let Some(url) = url else { return Ok(()) };
    let is_site = Url::parse(url).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.host().is_some());
    if is_site { Ok(()) } else { Err(RenderError::PublicUrl { url: url.to_string() }) }
}

/// Replacing one directory must not take the other with it.
fn check_beside(site: &Path, portal: &Path) -> Result<(), RenderError> {
    let absolute = |path: &Path| {
        path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_path_buf())
    };
    let (site, portal) = (absolute(site), absolute(portal));
    match (portal.starts_with(&site), site.starts_with(&portal)) {
        (true, _) => Err(RenderError::Nested { inner: portal, outer: site }),
        (_, true) => Err(RenderError::Nested { inner: site, outer: portal }),
        _ => Ok(()),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_sites_become_links() {
        for url in ["javascript:alert(1)", "data:text/html,x", "/portal", "https://", ""] {
            assert!(check_url(Some(url)).is_err(), "{url}");
        }
        assert!(check_url(Some("https://usage.example.com/weir")).is_ok() && check_url(None).is_ok());
    }

    #[test]
    fn one_directory_within_the_other_is_refused() {
        for (site, portal) in
            [("/srv/site", "/srv/site/portal"), ("/srv/p/site", "/srv/p"), ("/srv/x", "/srv/x")]
        {
            let error = check_beside(Path::new(site), Path::new(portal)).unwrap_err();
            assert!(matches!(error, RenderError::Nested { .. }));
        }
        assert!(check_beside(Path::new("/srv/site"), Path::new("/srv/site-portal")).is_ok());
    }
}
