//! What clients were promised, and how it is kept: the worst kept first.

use askama::Template;
use weir_analytics::objective::{Kept, Promise};

use super::{Books, Frame, Tile, endpoint_link, tile};
use crate::number;
use crate::promise::{Told, burn, by_urgency, firing, maintenance, unknown};
use crate::site::SiteInput;
use crate::subject::Subject;
use crate::when::Zone;

/// Lines of each table.
const MOST_LINES: usize = 500;

#[derive(Template)]
#[template(path = "page/objectives.html")]
pub struct Objectives {
    pub frame: Frame,
    pub books: Books,
    /// They could not be reckoned.
    pub failed: bool,
    /// Some tier has an objective.
    pub promised: bool,
    pub month: String,
    pub tiles: Vec<Tile>,
    pub unknown: Option<String>,
    pub maintenance: Option<String>,
    pub clients: Vec<Line>,
    /// Those that burn or are missed.
    pub endpoints: Vec<Line>,
    pub more: Option<String>,
    pub more_endpoints: Option<String>,
}

pub struct Line {
    pub told: Told,
    pub client: String,
    pub link: Option<String>,
    pub endpoint_link: Option<String>,
    pub burn: String,
    pub firing: bool,
}

impl Objectives {
    pub fn new(input: &SiteInput, frame: Frame, links: &dyn Fn(&str) -> Option<String>) -> Objectives {
        let promises = input.promises.unwrap_or_default();
        let (clients, endpoints): (Vec<&Promise>, Vec<&Promise>) =
            promises.iter().partition(|promise| promise.endpoint.is_none());
        let is_bad = |promise: &&Promise| firing(promise).is_some() || promise.month.kept == Kept::Missed;
        let endpoints: Vec<&Promise> = endpoints.into_iter().filter(is_bad).collect();
        let month = promises.first().map(|promise| &promise.month);
        let tiles = figures(&clients, &endpoints);
        let (clients, more) = lines(input, clients, links);
        let (endpoints, more_endpoints) = lines(input, endpoints, links);
        Objectives {
            frame,
            books: Books::of(input.overview, input.now_us, &Zone::utc()),
            failed: input.promises.is_none(),
            promised: !promises.is_empty() || input.policy.tiers.iter().any(|tier| tier.objective.is_some()),
            month: month.map_or_else(String::new, |month| Zone::utc().month(month.from_us)),
            tiles,
            unknown: month.and_then(unknown),
            maintenance: month.and_then(maintenance),
            clients,
            endpoints,
            more,
            more_endpoints,
        }
    }
}

fn figures(clients: &[&Promise], endpoints: &[&Promise]) -> Vec<Tile> {
    let count = |kept: Kept| clients.iter().filter(|promise| promise.month.kept == kept).count() as i64;
    let (met, missed, few) = (count(Kept::Met), count(Kept::Missed), count(Kept::TooFew));
    let burning = clients.iter().chain(endpoints).filter(|promise| firing(promise).is_some()).count() as i64;
    let of = format!("of {}", number::counted(clients.len() as i64, "promise", "promises"));
    let bad = |n: i64| if n > 0 { "bad" } else { "good" };
    vec![
        tile("Met", number::integer(met), of.clone(), ""),
        tile("Missed", number::integer(missed), of.clone(), bad(missed)),
        tile("Burning", number::integer(burning), "alerts that fire now".to_owned(), bad(burning)),
        tile("Too few requests", number::integer(few), "for a verdict".to_owned(), ""),
    ]
}

fn lines(
    input: &SiteInput,
    mut promises: Vec<&Promise>,
    links: &dyn Fn(&str) -> Option<String>,
) -> (Vec<Line>, Option<String>) {
    promises.sort_by(by_urgency);
    let more = promises.len().saturating_sub(MOST_LINES) as i64;
    let line = |promise: &&Promise| Line {
        told: Told::of(promise),
        client: Subject::of(input.policy, &promise.client).name,
        link: links(&promise.client),
        endpoint_link: promise.endpoint.as_deref().and_then(|endpoint| endpoint_link(input, "", endpoint)),
        burn: burn(promise),
        firing: firing(promise).is_some(),
    };
    let more = (more > 0).then(|| number::counted(more, "better kept one", "better kept ones"));
    (promises.iter().take(MOST_LINES).map(line).collect(), more)
}
