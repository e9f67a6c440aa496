//! Who is refused by which limit, and who would be were it no trial.

use std::collections::BTreeMap;

use askama::Template;
use weir_analytics::view::LimitUse;

use super::{Books, Frame};
use crate::limits::words;
use crate::name::shown;
use crate::number;
use crate::own::Own;
use crate::site::SiteInput;
use crate::subject::Subject;
use crate::when::Zone;

/// Lines that are shown of a table; the rest is one line, so that sums stay whole.
const MOST_LINES: usize = 100;

#[derive(Template)]
#[template(path = "page/limits.html")]
pub struct Limits {
    pub frame: Frame,
    pub books: Books,
    /// One line for each limit.
    pub limits: Refusals,
    /// One line for each limit and client.
    pub clients: Refusals,
}

/// A table of refusals.
#[derive(Clone, Debug, Template)]
#[template(path = "part/refusals.html")]
pub struct Refusals {
    pub id: &'static str,
    pub title: &'static str,
    /// Since when; `None` where there are no records.
    pub since: Option<String>,
    /// The first column names clients besides limits.
    pub with_clients: bool,
    pub lines: Vec<Line>,
}

impl askama::filters::HtmlSafe for Refusals {}

#[derive(Clone, Debug)]
pub struct Line {
    pub limit: String,
    pub client: Option<String>,
    pub link: Option<String>,
    pub refused: String,
    pub dry_run: String,
    pub delayed: String,
    pub newest: String,
}

impl Limits {
    pub fn new(input: &SiteInput, frame: Frame, links: &dyn Fn(&str) -> Option<String>) -> Limits {
        let mut by_limit: BTreeMap<&str, LimitUse> = BTreeMap::new();
        for line in &input.recent.limits {
            let sum = by_limit
                .entry(&line.limit)
                .or_insert_with(|| LimitUse { client: String::new(), ..empty(line) });
            add(sum, line);
        }
        let mut sums: Vec<LimitUse> = by_limit.into_values().collect();
        sums.sort_by_key(|line| std::cmp::Reverse((line.refused, line.dry_run, line.delayed)));
        let (from_us, zone) = (input.recent.from_us, Zone::utc());
        let named = |id: &str| (Subject::of(input.policy, id).name, links(id));
        Limits {
            frame,
            books: Books::of(input.overview, input.now_us, &zone),
            limits: table(&zone, from_us, ("limits", "By limit"), sums.iter(), None),
            clients: table(
                &zone,
                from_us,
                ("clients", "By client"),
                input.recent.limits.iter(),
                Some(&named),
            ),
        }
    }
}

/// What a client is called, and where its page is.
type Named<'a> = &'a dyn Fn(&str) -> (String, Option<String>);

/// The refusals of one client, which needs no naming.
pub fn refusals_of(own: &Own, zone: &Zone) -> Refusals {
    table(zone, own.limits_from_us, ("refusals", "Refusals by limit"), own.limits.iter().copied(), None)
}

fn table<'a>(
    zone: &Zone,
    from_us: Option<i64>,
    (id, title): (&'static str, &'static str),
    lines: impl Iterator<Item = &'a LimitUse>,
    name: Option<Named>,
) -> Refusals {
    let all: Vec<&LimitUse> = lines.collect();
    let (named, rest) = all.split_at(all.len().min(MOST_LINES));
    let mut lines: Vec<Line> = named
        .iter()
        .map(|line| {
            let (client, link) = name.map(|name| name(&line.client)).unzip();
            Line { client, link: link.flatten(), ..shown_line(words(&line.limit), line, zone) }
        })
        .collect();
    if let Some(first) = rest.first() {
        let mut sum = empty(first);
        rest.iter().for_each(|line| add(&mut sum, line));
        let client = name.map(|_| String::new());
        lines.push(Line {
            client,
            ..shown_line(number::counted(rest.len() as i64, "other", "others"), &sum, zone)
        });
    }
    let since = from_us.map(|us| zone.moment_named(us));
    Refusals { id, title, since, with_clients: name.is_some(), lines }
}

fn shown_line(limit: String, line: &LimitUse, zone: &Zone) -> Line {
    Line {
        limit: if limit.is_empty() { "No limit is named".to_owned() } else { shown(&limit) },
        client: None,
        link: None,
        refused: number::integer(line.refused),
        dry_run: number::integer(line.dry_run),
        delayed: number::integer(line.delayed),
        newest: zone.moment_named(line.newest_us),
    }
}

fn empty(line: &LimitUse) -> LimitUse {
    LimitUse { refused: 0, dry_run: 0, delayed: 0, ..line.clone() }
}

fn add(sum: &mut LimitUse, line: &LimitUse) {
    sum.refused += line.refused;
    sum.dry_run += line.dry_run;
    sum.delayed += line.delayed;
    sum.newest_us = sum.newest_us.max(line.newest_us);
}
