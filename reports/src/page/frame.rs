//! What lies around every page: its styles, its scripts, the way to the other pages.

use crate::assets::{Asset, Assets};

/// Names of files and pages, relative to the page.
#[derive(Clone, Debug)]
pub struct Frame {
    pub styles: Vec<String>,
    pub icon: String,
    pub scripts: Vec<String>,
    pub links: Vec<Link>,
}

#[derive(Clone, Debug)]
pub struct Link {
    pub name: &'static str,
    pub href: String,
    pub here: bool,
}

/// The pages that each page of the platform leads to.
const PLATFORM: [(&str, &str); 7] = [
    ("Overview", "index.html"),
    ("Explore", "explore.html"),
    ("Clients", "clients.html"),
    ("Limits", "limits.html"),
    ("Anomalies", "anomalies.html"),
    ("Objectives", "objectives.html"),
    ("Health", "health.html"),
];

/// Those of a client's portal.
const PORTAL: [(&str, &str); 3] =
    [("Usage", "index.html"), ("Explore", "explore.html"), ("Month", "month.html")];

impl Frame {
    /// A page of the platform; `up` leads from it to the first: nothing, or `../`.
    pub fn platform(assets: &Assets, up: &str, here: &str) -> Frame {
        Frame::new(assets, up, &PLATFORM, here)
    }

    /// A page of a portal; `has_month` where there is a month to lead to.
    pub fn portal(assets: &Assets, here: &str, has_month: bool) -> Frame {
        let pages = if has_month { &PORTAL[..] } else { &PORTAL[..2] };
        Frame::new(assets, "", pages, here)
    }

    fn new(assets: &Assets, up: &str, pages: &[(&'static str, &str)], here: &str) -> Frame {
        let beside = |asset: &Asset| format!("{up}{}", asset.name);
        let link = |&(name, page): &(&'static str, &str)| Link {
            name,
            href: format!("{up}{page}"),
            here: page == here,
        };
        Frame {
            styles: vec![beside(&assets.css)],
            icon: beside(&assets.icon),
            scripts: vec![beside(&assets.page)],
            links: pages.iter().map(link).collect(),
        }
    }

    /// The same with what the explorer needs.
    pub fn exploring(mut self, assets: &Assets) -> Frame {
        self.styles.push(assets.explore_css.name.clone());
        self.scripts.push(assets.explore.name.clone());
        self
    }
}
