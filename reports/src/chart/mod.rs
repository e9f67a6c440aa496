//! Charts as SVG that the server renders: no script, no inline style, a table behind each.
//!
//! A plot is as wide as its page: places along it are percentages, so that text keeps its size while
//! the shapes, which lie in a nested viewport, are stretched.

mod band;
mod bars;
mod fan;
mod lines;
mod scale;

use askama::Template;

use crate::columns::{Column, Columns, HOUR};
use crate::when::Zone;
pub use band::band;
pub use bars::{Formats, Layer, stacked};
pub use fan::fan;
pub use lines::{Curve, curves};

/// Height of the plot without its labels, in pixels; the template says it too.
const HEIGHT: f64 = 216.0;
/// Width of the viewport that shapes are drawn in, in its own units.
const WIDTH: f64 = 10_000.0;

/// One chart, ready to be written into a page.
#[derive(Clone, Debug, Template)]
#[template(path = "part/chart.html")]
pub struct Chart {
    /// Unique on its page.
    pub id: String,
    pub title: String,
    /// What the vertical axis counts: `requests per hour`.
    pub unit: String,
    /// What is to be seen, in a sentence, for those who cannot see it.
    pub description: String,
    pub zone: String,
    pub legend: Vec<Key>,
    pub y_ticks: Vec<YTick>,
    pub x_ticks: Vec<XTick>,
    pub gaps: Vec<Gap>,
    pub shapes: Vec<Shape>,
    pub hits: Vec<Hit>,
    pub table_head: Vec<&'static str>,
    pub table_rows: Vec<Vec<String>>,
}

/// A chart is HTML already: its own template has escaped what it holds.
impl askama::filters::HtmlSafe for Chart {}

#[derive(Clone, Debug)]
pub struct Key {
    pub class: &'static str,
    pub label: &'static str,
}

#[derive(Clone, Debug)]
pub struct YTick {
    pub y: String,
    pub label: String,
}

#[derive(Clone, Debug)]
pub struct XTick {
    /// Percent of the width.
    pub x: String,
    pub label: String,
    /// `start`, `middle` or `end`, so that a label at an edge stays inside.
    pub anchor: &'static str,
    /// Every second label gives way where the page is narrow.
    pub minor: bool,
}

#[derive(Clone, Debug)]
pub struct Gap {
    /// Percent of the width.
    pub x: String,
    pub width: String,
}

#[derive(Clone, Debug)]
pub struct Shape {
    pub class: String,
    pub path: String,
}

/// The area that tells a column's numbers to whoever points at it.
#[derive(Clone, Debug)]
pub struct Hit {
    pub x: String,
    pub width: String,
    pub text: String,
}

/// What every chart over time has, whatever it draws.
fn frame(
    id: impl Into<String>,
    title: impl Into<String>,
    unit: String,
    columns: &Columns,
    zone: &Zone,
) -> Chart {
    Chart {
        id: id.into(),
        title: title.into(),
        unit,
        description: String::new(),
        zone: zone.name().to_string(),
        legend: Vec::new(),
        y_ticks: Vec::new(),
        x_ticks: scale::time_ticks(columns, zone),
        gaps: columns.gaps.iter().map(|&(from, to)| gap(columns, from, to)).collect(),
        shapes: Vec::new(),
        hits: Vec::new(),
        table_head: Vec::new(),
        table_rows: Vec::new(),
    }
}

fn gap(columns: &Columns, from_us: i64, to_us: i64) -> Gap {
    let (from, to) = (clamped(columns, from_us), clamped(columns, to_us));
    Gap { x: percent(from), width: percent(to - from) }
}

fn y_ticks(step: f64, top: f64, label: impl Fn(f64) -> String) -> Vec<YTick> {
    let count = (top / step).round() as usize;
    (0..=count)
        .map(|i| {
            let value = step * i as f64;
            YTick { y: coordinate(height_of(value, top)), label: label(value) }
        })
        .collect()
}

fn hit(columns: &Columns, column: &Column, text: String) -> Hit {
    let (from, to) = edges(columns, column);
    Hit { x: coordinate(from), width: coordinate(to - from), text }
}

/// A column's edges in the units of the viewport.
fn edges(columns: &Columns, column: &Column) -> (f64, f64) {
    (clamped(columns, column.from_us) * WIDTH, clamped(columns, column.to_us) * WIDTH)
}

fn clamped(columns: &Columns, us: i64) -> f64 {
    columns.place(us).clamp(0.0, 1.0)
}

/// Where `value` lies on an axis from 0 at the bottom to `top`.
fn height_of(value: f64, top: f64) -> f64 {
    HEIGHT - HEIGHT * (value / top).clamp(0.0, 1.0)
}

/// A coordinate with as many digits as a screen can show.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// The name of a column: its start alone where it is short, both ends where it is not.
fn column_name(column: &Column, zone: &Zone) -> String {
    if column.to_us - column.from_us >= 24 * HOUR {
        return zone.at(column.from_us).strftime("%-d %b %Y").to_string();
    }
    format!("{} to {}", zone.moment(column.from_us), zone.time(column.to_us))
}
