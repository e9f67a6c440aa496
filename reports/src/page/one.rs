//! One client, or one endpoint, as the platform team sees it.

use askama::Template;
use weir_analytics::view::Usage;

use super::anomalies::Unusual;
use super::limits::{Refusals, refusals_of};
use super::overview::{endpoints, period};
use super::portal::{LimitCard, busiest, cards, unusual, warnings};
use super::{Books, Frame, StatusLine, Tile, charts, compared, status_lines, tiles};
use crate::breakdown::{Breakdown, Label, grouped};
use crate::chart::Chart;
use crate::finding::Facts;
use crate::name::shown;
use crate::own::Own;
use crate::promise::Sla;
use crate::runout::{self, RunsOut};
use crate::when::Zone;

/// Lines of the table of an endpoint's clients.
const MOST_CLIENTS: usize = 100;

#[derive(Template)]
#[template(path = "page/client.html")]
pub struct ClientPage {
    pub frame: Frame,
    pub name: String,
    pub id: String,
    pub tier: Option<String>,
    pub zone: String,
    /// Where the client itself looks.
    pub portal: Option<String>,
    pub explore: String,
    pub dry_run: bool,
    pub exempt: bool,
    pub period: String,
    pub books: Books,
    pub tiles: Vec<Tile>,
    pub warnings: Vec<Facts>,
    pub unusual: Vec<Unusual>,
    pub runs_out: Vec<RunsOut>,
    pub forecast_charts: Vec<Chart>,
    pub sla: Option<Sla>,
    pub limits: Vec<LimitCard>,
    pub refusals: Refusals,
    pub charts: Vec<Chart>,
    pub endpoints: Breakdown,
    pub status: Vec<StatusLine>,
}

impl ClientPage {
    /// `links` gives the address of an endpoint's page.
    pub fn new(
        own: &Own,
        frame: Frame,
        portal: Option<String>,
        links: &dyn Fn(&str) -> Option<String>,
    ) -> ClientPage {
        let (subject, usage, zone) = (&own.subject, own.usage, Zone::utc());
        let mut tiles = tiles(&usage.totals, busiest(usage, &zone));
        let (runs_out, forecast_charts) = runout::told(&own.forecasts, &zone);
        compared(&mut tiles, usage.totals.requests, own.before);
        ClientPage {
            frame,
            name: subject.name.clone(),
            id: shown(own.id),
            tier: subject.tier.as_deref().map(shown),
            zone: subject.zone.name().to_owned(),
            portal,
            explore: format!("../explore.html?client={}", super::component(own.id)),
            dry_run: subject.dry_run,
            exempt: subject.exempt,
            period: period(usage, &zone),
            books: Books::of(usage, own.now_us, &zone),
            tiles,
            warnings: warnings(&own.findings, &zone),
            runs_out,
            forecast_charts,
            sla: Sla::of(&own.promises),
            unusual: unusual(&own.anomalies, &zone),
            limits: cards(own, usage),
            refusals: refusals_of(own, &zone),
            charts: charts(usage, &zone),
            endpoints: endpoints(usage, links),
            status: status_lines(usage),
        }
    }
}

#[derive(Template)]
#[template(path = "page/endpoint.html")]
pub struct EndpointPage {
    pub frame: Frame,
    pub name: String,
    pub explore: String,
    pub period: String,
    pub books: Books,
    pub tiles: Vec<Tile>,
    pub charts: Vec<Chart>,
    pub clients: Breakdown,
    pub status: Vec<StatusLine>,
}

impl EndpointPage {
    pub fn new(
        frame: Frame,
        name: &str,
        usage: &Usage,
        now_us: i64,
        names: &dyn Fn(&str) -> String,
        links: &dyn Fn(&str) -> Option<String>,
    ) -> EndpointPage {
        let zone = Zone::utc();
        let rows = usage.rows.iter().map(|row| (row.client.as_str(), &row.totals));
        let clients =
            Breakdown::new(("clients", "Clients", "Client"), &grouped(rows), MOST_CLIENTS, |client| Label {
                name: names(client),
                note: None,
                link: links(client),
            });
        EndpointPage {
            frame,
            name: shown(name),
            explore: format!("../explore.html?endpoint={}", super::component(name)),
            period: period(usage, &zone),
            books: Books::of(usage, now_us, &zone),
            tiles: tiles(&usage.totals, busiest(usage, &zone)),
            charts: charts(usage, &zone),
            clients,
            status: status_lines(usage),
        }
    }
}
