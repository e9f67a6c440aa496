//! A client's month, made to be printed or kept as PDF.

use askama::Template;
use weir_analytics::view::Usage;

use super::overview::endpoints;
use super::portal::{LimitCard, busiest, cards};
use super::{Books, Frame, StatusLine, Tile, charts, status_lines, tiles};
use crate::breakdown::Breakdown;
use crate::chart::Chart;
use crate::own::Own;
use crate::promise::Sla;
use crate::when::Zone;

#[derive(Template)]
#[template(path = "page/month.html")]
pub struct Month {
    pub frame: Frame,
    pub name: String,
    pub tier: Option<String>,
    pub month: String,
    pub books: Books,
    pub tiles: Vec<Tile>,
    pub dry_run: bool,
    pub exempt: bool,
    pub limits: Vec<LimitCard>,
    pub sla: Option<Sla>,
    pub charts: Vec<Chart>,
    pub endpoints: Breakdown,
    pub status: Vec<StatusLine>,
    /// Whether there are files to take home.
    pub exports: bool,
}

impl Month {
    /// `usage` is that of the month, by the day of UTC.
    pub fn new(input: &Own, usage: &Usage, exports: bool, frame: Frame) -> Month {
        let zone = Zone::utc();
        Month {
            frame,
            name: input.subject.name.clone(),
            tier: input.subject.tier.as_deref().map(crate::name::shown),
            month: zone.month(usage.from_us),
            books: Books::of(usage, input.now_us, &input.subject.zone),
            tiles: tiles(&usage.totals, busiest(usage, &zone)),
            dry_run: input.subject.dry_run,
            exempt: input.subject.exempt,
            limits: cards(input, usage),
            sla: Sla::of(&input.promises),
            charts: charts(usage, &zone),
            endpoints: endpoints(usage, &|_| None),
            status: status_lines(usage),
            exports,
        }
    }
}
