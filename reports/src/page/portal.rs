//! A client's own page.

use askama::Template;
use weir_analytics::anomaly::Anomaly;
use weir_analytics::view::{Grain, QuotaFinding, Usage};
use weir_limiter::Window;

use super::anomalies::Unusual;
use super::limits::{Refusals, refusals_of};
use super::overview::{endpoints, period, zone_for};
use super::{Books, Frame, StatusLine, Tile, charts, count, status_lines, tile, tiles};
use crate::breakdown::Breakdown;
use crate::chart::Chart;
use crate::finding::Facts;
use crate::limits::{highest_use, quantity, words};
use crate::name::shown;
use crate::number;
use crate::own::Own;
use crate::promise::Sla;
use crate::runout::{self, RunsOut};
use crate::subject::OwnLimit;
use crate::when::Zone;

/// Warnings of one kind that a page shows, the newest.
const MOST_WARNINGS: usize = 20;

#[derive(Template)]
#[template(path = "page/portal.html")]
pub struct Portal<'a> {
    pub frame: Frame,
    pub name: &'a str,
    pub tier: Option<String>,
    pub zone: &'a str,
    pub dry_run: bool,
    pub exempt: bool,
    pub period: String,
    pub books: Books,
    /// Where a gateway tells the caller of its limits.
    pub live: Option<&'a str>,
    /// As the gateways call this client; escaped, so that nothing invisible stands in the page.
    pub live_client: String,
    pub tiles: Vec<Tile>,
    pub limits: Vec<LimitCard>,
    pub warnings: Vec<Facts>,
    pub unusual: Vec<Unusual>,
    pub runs_out: Vec<RunsOut>,
    pub forecast_charts: Vec<Chart>,
    pub sla: Option<Sla>,
    pub charts: Vec<Chart>,
    pub refusals: Refusals,
    pub endpoints: Breakdown,
    pub status: Vec<StatusLine>,
    pub fields: Option<Fields>,
    /// Whether there are files to take home.
    pub exports: bool,
}

/// One limit and the use of it.
pub struct LimitCard {
    /// `2,000 requests per hour`
    pub title: String,
    pub endpoint: Option<String>,
    /// `1,600 requests (80 %)`, with "at least" where the roll-ups know no better.
    pub highest: Option<String>,
    /// `in any hour of this period`
    pub span: String,
    pub bar: String,
    /// `ok`, `warn` or `full`.
    pub class: &'static str,
}

/// An example of the RateLimit fields, with this client's own first limit.
pub struct Fields {
    pub policy: String,
    pub state: String,
    pub quota: String,
    pub window: String,
    pub left: String,
}

impl<'a> Portal<'a> {
    pub fn new(input: &'a Own<'a>, live: Option<&'a str>, exports: bool, frame: Frame) -> Portal<'a> {
        let (subject, usage) = (&input.subject, input.usage);
        let zone = &subject.zone;
        let told = zone_for(usage, zone);
        let (runs_out, forecast_charts) = runout::told(&input.forecasts, zone);
        Portal {
            frame,
            name: &subject.name,
            tier: subject.tier.as_ref().map(|tier| shown(tier)),
            zone: zone.name(),
            dry_run: subject.dry_run,
            exempt: subject.exempt,
            period: period(usage, &told),
            live,
            live_client: super::component(input.id),
            books: Books::of(usage, input.now_us, zone),
            tiles: tiles(&usage.totals, busiest(usage, &told)),
            limits: cards(input, usage),
            warnings: warnings(&input.findings, zone),
            runs_out,
            forecast_charts,
            sla: Sla::of(&input.promises),
            unusual: unusual(&input.anomalies, zone),
            charts: charts(usage, &told),
            refusals: refusals_of(input, zone),
            endpoints: endpoints(usage, &|_| None),
            status: status_lines(usage),
            fields: subject.limits.first().map(fields),
            exports,
        }
    }
}

/// The busiest step of the series, and when it was.
pub fn busiest(usage: &Usage, zone: &Zone) -> Tile {
    let name = match usage.series.grain {
        Grain::Minute => "Busiest minute",
        Grain::Hour => "Busiest hour",
        Grain::Day => "Busiest day",
        Grain::Month => "Busiest month",
    };
    match usage.series.points.iter().max_by_key(|(_, totals)| totals.requests) {
        Some((us, totals)) => count(name, totals.requests, zone.moment_named(*us), ""),
        None => tile(name, "–".to_string(), String::new(), ""),
    }
}

pub fn warnings(findings: &[&QuotaFinding], zone: &Zone) -> Vec<Facts> {
    let mut findings = findings.to_vec();
    findings.sort_by_key(|finding| std::cmp::Reverse((finding.window_to_us, finding.threshold)));
    findings.iter().take(MOST_WARNINGS).map(|finding| Facts::of(finding, zone)).collect()
}

/// The newest episodes first.
pub fn unusual(anomalies: &[&Anomaly], zone: &Zone) -> Vec<Unusual> {
    anomalies.iter().rev().take(MOST_WARNINGS).map(|anomaly| Unusual::of(anomaly, zone)).collect()
}

/// A card for each limit of the client.
pub fn cards(input: &Own, usage: &Usage) -> Vec<LimitCard> {
    input.subject.limits.iter().map(|limit| card(limit, input, usage)).collect()
}

fn card(own: &OwnLimit, input: &Own, usage: &Usage) -> LimitCard {
    let highest = highest_use(own, usage, &input.findings, &input.subject.zone);
    let used = highest.map_or(0, |h| h.used);
    let amount = own.limit.amount;
    let told = highest.map(|h| {
        let share = number::percent(clamped(h.used), clamped(amount));
        let at_least = if h.at_least { "at least " } else { "" };
        format!("{at_least}{} ({share})", quantity(own.limit.unit, h.used))
    });
    LimitCard {
        title: words(&own.spelled).replacen('/', " per ", 1),
        endpoint: own.endpoint.as_deref().map(shown),
        highest: told,
        span: span(own.limit.window),
        bar: crate::breakdown::bar(clamped(used), clamped(amount)),
        class: match u128::from(used) * 100 {
            n if n >= u128::from(amount) * 100 => "full",
            n if n >= u128::from(amount) * 80 => "warn",
            _ => "ok",
        },
    }
}

fn clamped(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn span(window: Window) -> String {
    match window {
        Window::Sliding { .. } => format!("in any {window} of this period"),
        Window::Day | Window::Month => format!("in a calendar {window} of this period"),
    }
}

/// The fields as a client near its limit would see them: a fifth left, a third of the window to go.
fn fields(own: &OwnLimit) -> Fields {
    let seconds = window_seconds(own.limit.window);
    let unit = own.limit.unit;
    let id = match own.limit.window {
        Window::Sliding { .. } => format!("{}-{seconds}s", unit.word().replace(' ', "-")),
        period => format!("{}-{period}", unit.word().replace(' ', "-")),
    };
    let unit_word = if unit.is_known_afterwards() { ";qu=\"content-bytes\"" } else { "" };
    let (amount, left) = (own.limit.amount, own.limit.amount / 5);
    Fields {
        policy: format!("\"{id}\";q={amount}{unit_word};w={seconds}"),
        state: format!("\"{id}\";r={left};t={}", (seconds / 3).max(1)),
        quota: words(&own.spelled).replacen('/', " per ", 1),
        window: format!("{} s", number::amount((seconds / 3).max(1))),
        left: quantity(unit, left),
    }
}

fn window_seconds(window: Window) -> u64 {
    match window {
        Window::Sliding { ms } => ms.div_ceil(1000),
        Window::Day => 86_400,
        Window::Month => 30 * 86_400,
    }
}
