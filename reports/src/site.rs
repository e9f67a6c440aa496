//! The whole site: the platform team's pages and each client's portal.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use askama::Template;
use sha2::{Digest, Sha256};
use thiserror::Error;
use url::Url;
use weir_analytics::view::{QuotaFinding, Usage};
use weir_policy::Policy;

use crate::page::overview::Overview;
use crate::page::portal::{Portal, PortalInput};
use crate::publish::{PublishError, Staged};
use crate::subject::Subject;

const CSS: &str = include_str!("../assets/weir.css");
const ICON: &str = include_str!("../assets/weir.svg");

/// The files that stand beside each page, by names that change with what is in them, so that a
/// browser may keep them for ever.
pub struct Assets {
    pub css: String,
    pub icon: String,
}

impl Assets {
    fn new() -> Assets {
        let name =
            |end: &str, content: &str| format!("assets/weir-{}.{end}", hex(&Sha256::digest(content)[..6]));
        Assets { css: name("css", CSS), icon: name("svg", ICON) }
    }
}

/// Everything the pages are made from. No clock and no store: the caller knows both.
pub struct SiteInput<'a> {
    /// Microseconds since the Unix epoch, UTC.
    pub now_us: i64,
    pub policy: &'a Policy,
    /// All clients together.
    pub overview: &'a Usage,
    /// Client id and its usage alone; a portal is rendered for each.
    pub clients: &'a [(String, Usage)],
    pub findings: &'a [QuotaFinding],
    /// Where the portals are served: the address above `portal/`. Without it the overview links to
    /// no portal.
    pub public_url: Option<&'a str>,
    /// Makes the names of portal directories; see [`portal_directory`].
    pub portal_secret: [u8; 32],
}

/// What was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderReport {
    pub pages: usize,
    pub portals: usize,
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
    Publish(#[from] PublishError),
}

/// The directory of a client's portal: 128 bits in hex that nobody can guess without `secret`, and
/// that say nothing about the id. The same id has the same directory as long as the secret lives; a
/// new secret gives every portal a new one.
pub fn portal_directory(secret: &[u8; 32], client_id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(secret);
    hash.update(client_id.as_bytes());
    hex(&hash.finalize()[..16])
}

/// The address of a client's portal below `public_url`.
pub fn portal_url(public_url: &str, secret: &[u8; 32], client_id: &str) -> String {
    format!("{}/portal/{}/", public_url.trim_end_matches('/'), portal_directory(secret, client_id))
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
    let mut report = RenderReport::default();
    let site = stage_site(input, site_dir, &assets, &mut report)?;
    let portals = stage_portals(input, portal_dir, &assets, &mut report)?;
    // Portals first: the overview links to them.
    portals.publish()?;
    site.publish()?;
    Ok(report)
}

fn stage_site(
    input: &SiteInput,
    dir: &Path,
    assets: &Assets,
    report: &mut RenderReport,
) -> Result<Staged, RenderError> {
    let staged = Staged::begin(dir)?;
    let with_portal: BTreeSet<&str> = input.clients.iter().map(|(id, _)| id.as_str()).collect();
    let links = |id: &str| {
        let url = input.public_url.filter(|_| with_portal.contains(id))?;
        Some(portal_url(url, &input.portal_secret, id))
    };
    let page = Overview::new(input, assets, &links).render()?;
    put(&staged, "index.html", &page, report)?;
    put_assets(&staged, "", assets, report)?;
    report.pages += 1;
    Ok(staged)
}

fn stage_portals(
    input: &SiteInput,
    dir: &Path,
    assets: &Assets,
    report: &mut RenderReport,
) -> Result<Staged, RenderError> {
    let staged = Staged::begin(dir)?;
    for (id, usage) in input.clients {
        let subject = Subject::of(input.policy, id);
        let findings = input.findings.iter().filter(|finding| finding.client == *id).collect();
        let own = PortalInput { subject: &subject, usage, findings, now_us: input.now_us };
        let directory = portal_directory(&input.portal_secret, id);
        put(&staged, &format!("{directory}/index.html"), &Portal::new(&own, assets).render()?, report)?;
        put_assets(&staged, &format!("{directory}/"), assets, report)?;
        report.portals += 1;
    }
    Ok(staged)
}

fn put(staged: &Staged, path: &str, content: &str, report: &mut RenderReport) -> Result<(), RenderError> {
    report.bytes += content.len() as u64;
    Ok(staged.write(path, content.as_bytes())?)
}

fn put_assets(
    staged: &Staged,
    below: &str,
    assets: &Assets,
    report: &mut RenderReport,
) -> Result<(), RenderError> {
    put(staged, &format!("{below}{}", assets.css), CSS, report)?;
    put(staged, &format!("{below}{}", assets.icon), ICON, report)
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
    fn directories_are_128_bits_of_hex_whatever_the_id() {
        let ids = ["acme", "Acme", "../../etc/passwd", "%2e%2e", "CON", "a/b", "\0", "é", "e\u{301}", ""];
        let mut seen: BTreeSet<String> = ids.iter().map(|id| portal_directory(&[7; 32], id)).collect();
        seen.insert(portal_directory(&[7; 32], &"x".repeat(300)));
        seen.insert(portal_directory(&[8; 32], "acme"));
        assert_eq!(seen.len(), ids.len() + 2, "no two are the same");
        assert!(seen.iter().all(|d| d.len() == 32 && d.bytes().all(|b| b.is_ascii_hexdigit())));
        assert_eq!(portal_directory(&[7; 32], "acme"), portal_directory(&[7; 32], "acme"));
    }

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
