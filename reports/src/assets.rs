//! The files that stand beside each page, by names that change with what is in them, so that a
//! browser may keep them for ever.
//!
//! Scripts are bundled by `build.rs` from `web/`; a page says all that matters without them.

use sha2::{Digest, Sha256};

use crate::site::hex;

const CSS: &str = include_str!("../assets/weir.css");
const ICON: &str = include_str!("../assets/weir.svg");
/// Sorts and searches tables, and speaks to the page that embeds this one.
const PAGE: &str = include_str!(concat!(env!("OUT_DIR"), "/page.js"));
/// Filters and charts over the page's data.
const EXPLORE: &str = include_str!(concat!(env!("OUT_DIR"), "/explore.js"));
const EXPLORE_CSS: &str = include_str!(concat!(env!("OUT_DIR"), "/explore.css"));

/// One file by its name.
pub struct Asset {
    pub name: String,
    pub content: &'static str,
}

pub struct Assets {
    pub css: Asset,
    pub icon: Asset,
    pub page: Asset,
    pub explore: Asset,
    pub explore_css: Asset,
}

impl Assets {
    pub fn new() -> Assets {
        let asset = |stem: &str, end: &str, content: &'static str| Asset {
            name: format!("assets/{stem}-{}.{end}", hex(&Sha256::digest(content)[..6])),
            content,
        };
        Assets {
            css: asset("weir", "css", CSS),
            icon: asset("weir", "svg", ICON),
            page: asset("page", "js", PAGE),
            explore: asset("explore", "js", EXPLORE),
            explore_css: asset("explore", "css", EXPLORE_CSS),
        }
    }

    pub fn all(&self) -> [&Asset; 5] {
        [&self.css, &self.icon, &self.page, &self.explore, &self.explore_css]
    }
}
