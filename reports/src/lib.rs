//! Pages for the platform team and for each client, and mails: what the books say, made readable.
//!
//! [`render_site`] writes static HTML that says all that matters without script or server code. [`mail`] composes and
//! sends the mails. Neither knows the store, and no clock is read here: what is shown comes in as
//! [`weir_analytics::view`] data, with the time at which it is shown.

mod assets;
mod breakdown;
mod chart;
mod columns;
mod directories;
mod finding;
mod limits;
mod made;
pub mod mail;
mod map;
mod name;
mod number;
mod own;
mod page;
mod portals;
mod promise;
mod publish;
mod runout;
#[cfg(test)]
mod sample;
mod site;
mod subject;
mod when;

pub use directories::Directories;
pub use publish::PublishError;
pub use site::{RenderError, RenderReport, SiteInput, render_site};
