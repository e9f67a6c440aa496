//! The pages: one struct and one template each, one layout around them.

pub mod anomalies;
pub mod clients;
pub mod explore;
mod frame;
pub mod health;
pub mod limits;
pub mod month;
pub mod objectives;
pub mod one;
pub mod overview;
pub mod portal;

use weir_analytics::view::{Totals, Usage};

use crate::breakdown::errors;
use crate::chart::{Chart, Curve, Formats, Layer, curves, stacked};
use crate::columns::{Columns, MINUTE};
use crate::number;
use crate::site::SiteInput;
use crate::when::{Zone, lasting};
pub use frame::Frame;

/// How far the books may lie behind the clock before the page says so: a tick runs once a minute and
/// a segment is sealed within one, so this is late by any measure.
const LATE: i64 = 15 * MINUTE;

/// One figure with its name and what puts it into proportion.
pub struct Tile {
    pub name: &'static str,
    pub value: String,
    /// The number in full, where `value` is rounded.
    pub exact: Option<String>,
    pub note: String,
    /// `good`, `warn`, `bad` or nothing.
    pub class: &'static str,
}

/// How far the books go and whether anything is missing.
pub struct Books {
    pub complete_to: Option<Moment>,
    /// `12,345 records`
    pub records: String,
    pub missing: Option<String>,
    /// `1 h 5 min`: for how long some gateway was silent, so that nobody knows whether there were more.
    pub unknown: Option<String>,
    /// How far they lie behind, where that is worth saying.
    pub behind: Option<String>,
    pub rendered: String,
}

pub struct Moment {
    pub text: String,
    pub machine: String,
}

impl Books {
    pub fn of(usage: &Usage, now_us: i64, zone: &Zone) -> Books {
        let complete = &usage.completeness;
        let behind = complete.complete_to_us.map(|us| now_us.saturating_sub(us)).filter(|us| *us > LATE);
        Books {
            complete_to: complete
                .complete_to_us
                .map(|us| Moment { text: zone.moment_named(us), machine: Zone::machine(us) }),
            records: number::counted(complete.records, "record", "records"),
            missing: (complete.missing > 0).then(|| number::counted(complete.missing, "record", "records")),
            unknown: Some(complete.known.silent_us()).filter(|us| *us > 0).map(lasting),
            behind: behind.map(lasting),
            rendered: zone.moment_named(now_us),
        }
    }
}

/// The figures that every page begins with; `fourth` ends the first row.
fn tiles(totals: &Totals, fourth: Tile) -> Vec<Tile> {
    let (refused, failed) = (totals.refused(), errors(totals));
    let quantile = |q| number::latency(totals.latencies.quantile_us(q));
    vec![
        count("Requests", totals.requests, String::new(), ""),
        count("Refused", refused, share(refused, totals), if refused > 0 { "warn" } else { "" }),
        count("Errors", failed, share(failed, totals), if failed > 0 { "bad" } else { "" }),
        fourth,
        tile("p50", quantile(0.5), "half were faster".to_string(), ""),
        tile("p95", quantile(0.95), "19 of 20 were faster".to_string(), ""),
        tile("p99", quantile(0.99), "99 of 100 were faster".to_string(), ""),
        bytes_tile(totals),
    ]
}

fn tile(name: &'static str, value: String, note: String, class: &'static str) -> Tile {
    Tile { name, value, exact: None, note, class }
}

/// A tile of a number that may be too long to be shown in full.
fn count(name: &'static str, n: i64, note: String, class: &'static str) -> Tile {
    let exact = (n >= LONG).then(|| number::integer(n));
    Tile { exact, ..tile(name, short(n), note, class) }
}

/// Which way they went; in full to the byte, since somebody may want to reconcile it.
fn bytes_tile(totals: &Totals) -> Tile {
    let (bytes_in, bytes_out) = (totals.bytes_in, totals.bytes_out);
    let both = bytes_in + bytes_out;
    let note = format!("{} in, {} out", number::bytes(bytes_in), number::bytes(bytes_out));
    Tile {
        exact: Some(format!("{} B", number::integer(both))),
        ..tile("Bytes", number::bytes(both), note, "")
    }
}

/// Numbers from here on are too long to be read at a glance, and for a tile on a narrow phone.
const LONG: i64 = 100_000_000;

/// A number, rounded where it is too long.
fn short(n: i64) -> String {
    if n < LONG { number::integer(n) } else { number::compact(n as f64) }
}

/// Says beside the number of requests how many there were a week before, where that is known.
fn compared(tiles: &mut [Tile], now: i64, before: Option<i64>) {
    let (Some(first), Some(before)) = (tiles.first_mut(), before.filter(|before| *before > 0)) else {
        return;
    };
    let percent = 100.0 * (now - before) as f64 / before as f64;
    let change = format!("{percent:+.1} %").replace('-', "−");
    let separator = if first.note.is_empty() { "" } else { "; " };
    first.note += &format!("{separator}{change} against {} a week before", short(before));
}

/// Says beside the other figures what they were a week before, where there was anything.
fn a_week_before(tiles: &mut [Tile], before: Option<&Totals>) {
    let Some(before) = before.filter(|before| before.requests > 0) else { return };
    let quantile = |q| number::latency(before.latencies.quantile_us(q));
    for tile in tiles {
        let was = match tile.name {
            "Refused" => short(before.refused()),
            "Errors" => short(errors(before)),
            "p50" => quantile(0.5),
            "p95" => quantile(0.95),
            "p99" => quantile(0.99),
            "Bytes" => number::bytes(before.bytes_in + before.bytes_out),
            _ => continue,
        };
        tile.note += &format!("; {was} a week before");
    }
}

/// The page of an endpoint, if it has one; `up` leads to the first page.
pub fn endpoint_link(input: &SiteInput, up: &str, endpoint: &str) -> Option<String> {
    let is_known = input.endpoints.binary_search_by(|(name, _)| name.as_str().cmp(endpoint)).is_ok();
    is_known.then(|| format!("{up}{}", input.directories.page("endpoint", endpoint)))
}

/// Text as a part of an address, byte for byte as scripts escape it (`encodeURIComponent`).
fn component(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

fn share(part: i64, totals: &Totals) -> String {
    format!("{} of requests", number::percent(part, totals.requests))
}

/// Charts over time; none where there is nothing to draw.
fn charts(usage: &Usage, zone: &Zone) -> Vec<Chart> {
    let columns = Columns::of(usage, zone);
    if columns.columns.is_empty() {
        return Vec::new();
    }
    vec![requests_chart(&columns, zone), latency_chart(&columns, zone), bytes_chart(&columns, zone)]
}

fn requests_chart(columns: &Columns, zone: &Zone) -> Chart {
    let layers = [
        Layer { class: "passed", label: "Passed", value: |t| t.requests - t.refused() - errors(t) },
        Layer { class: "refused", label: "Refused", value: |t| t.refused() },
        Layer { class: "errors", label: "Errors", value: errors },
    ];
    let formats = Formats { axis: number::compact, full: number::integer };
    stacked(("requests", "Requests", "requests"), columns, zone, &layers, formats)
}

fn latency_chart(columns: &Columns, zone: &Zone) -> Chart {
    let list = [
        Curve { class: "p99", label: "p99", value: |t| t.latencies.quantile_us(0.99) },
        Curve { class: "p95", label: "p95", value: |t| t.latencies.quantile_us(0.95) },
        Curve { class: "p50", label: "p50", value: |t| t.latencies.quantile_us(0.5) },
    ];
    curves("latency", "Latency", columns, zone, &list)
}

fn bytes_chart(columns: &Columns, zone: &Zone) -> Chart {
    let layers = [
        Layer { class: "out", label: "Out", value: |t| t.bytes_out },
        Layer { class: "in", label: "In", value: |t| t.bytes_in },
    ];
    let formats = Formats { axis: |n| number::bytes(n as i64), full: number::bytes };
    stacked(("bytes", "Bytes", "bytes"), columns, zone, &layers, formats)
}

/// One exact status code.
pub struct StatusLine {
    pub code: u16,
    pub meaning: &'static str,
    pub requests: String,
    pub share: String,
    pub bar: String,
    /// `ok`, `redirect`, `client` or `server`.
    pub class: &'static str,
}

fn status_lines(usage: &Usage) -> Vec<StatusLine> {
    let whole: i64 = usage.status.values().sum();
    let largest = usage.status.values().copied().max().unwrap_or(0);
    usage
        .status
        .iter()
        .map(|(&code, &n)| StatusLine {
            code,
            meaning: meaning(code),
            requests: number::integer(n),
            share: number::percent(n, whole),
            bar: crate::breakdown::bar(n, largest),
            class: match code {
                0..300 => "ok",
                300..400 => "redirect",
                400..500 => "client",
                _ => "server",
            },
        })
        .collect()
}

/// The reason phrases of RFC 9110 for what an API answers, and nginx's own codes.
fn meaning(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}
