//! Stacked bars: what adds up to a whole, over time.

use std::fmt::Write;

use weir_analytics::view::Totals;

use super::{
    Chart, HEIGHT, Key, Shape, column_name, coordinate, edges, frame, height_of, hit, scale, y_ticks,
};
use crate::columns::{Column, Columns};
use crate::when::Zone;

/// One layer of the stack, from the bottom up.
pub struct Layer {
    pub class: &'static str,
    pub label: &'static str,
    pub value: fn(&Totals) -> i64,
}

/// How a chart's numbers are written.
#[derive(Clone, Copy)]
pub struct Formats {
    /// Short, for ticks.
    pub axis: fn(f64) -> String,
    /// In full.
    pub full: fn(i64) -> String,
}

/// Bars of `layers` over time.
pub fn stacked(
    head: (&'static str, &'static str, &str),
    columns: &Columns,
    zone: &Zone,
    layers: &[Layer],
    formats: Formats,
) -> Chart {
    let (id, title, unit) = head;
    let mut chart = frame(id, title, format!("{unit} per {}", columns.step), columns, zone);
    let largest = columns.columns.iter().map(|c| sum(layers, c)).fold(0.0, f64::max);
    let (step, top) = scale::round_axis(largest, 1.0);
    chart.y_ticks = y_ticks(step, top, formats.axis);
    chart.shapes = shapes(columns, layers, top);
    chart.legend = layers.iter().map(|l| Key { class: l.class, label: l.label }).collect();
    chart.hits =
        columns.columns.iter().map(|c| hit(columns, c, told(c, zone, layers, formats.full))).collect();
    chart.table_head = std::iter::once("Time").chain(layers.iter().map(|l| l.label)).collect();
    chart.table_rows = columns.columns.iter().map(|c| row(c, zone, layers, formats.full)).collect();
    chart.description = describe(columns, zone, layers, formats.full);
    chart
}

fn value(layer: &Layer, column: &Column) -> i64 {
    (layer.value)(&column.totals).max(0)
}

fn sum(layers: &[Layer], column: &Column) -> f64 {
    layers.iter().map(|layer| value(layer, column) as f64).sum()
}

fn shapes(columns: &Columns, layers: &[Layer], top: f64) -> Vec<Shape> {
    let mut paths = vec![String::new(); layers.len()];
    for column in &columns.columns {
        let mut below = 0.0;
        for (layer, path) in layers.iter().zip(&mut paths) {
            let value = value(layer, column) as f64;
            bar(path, edges(columns, column), (below, below + value), top);
            below += value;
        }
    }
    let class = |layer: &Layer| format!("bar {}", layer.class);
    layers.iter().zip(paths).map(|(layer, path)| Shape { class: class(layer), path }).collect()
}

/// Appends one rectangle. A value that is not zero is at least one pixel high: one error among a
/// million requests has to be seen.
fn bar(path: &mut String, (left, right): (f64, f64), (low, high): (f64, f64), top: f64) {
    if high <= low {
        return;
    }
    let inset = (right - left) * 0.12;
    let (bottom, upper) = (height_of(low, top), height_of(high, top));
    let height = (bottom - upper).max(1.0);
    let y = (bottom - height).clamp(0.0, HEIGHT);
    let (x, width) = (coordinate(left + inset), coordinate(right - left - 2.0 * inset));
    // Writing to a String does not fail.
    let _ = write!(path, "M{x} {}h{width}v{}h-{width}z", coordinate(y), coordinate(height));
}

fn told(column: &Column, zone: &Zone, layers: &[Layer], format: fn(i64) -> String) -> String {
    let values = layers.iter().map(|l| format!("{}: {}", l.label, format(value(l, column))));
    let head = format!("{} {}", column_name(column, zone), zone.name());
    std::iter::once(head).chain(values).collect::<Vec<_>>().join("\n")
}

fn row(column: &Column, zone: &Zone, layers: &[Layer], format: fn(i64) -> String) -> Vec<String> {
    let values = layers.iter().map(|l| format(value(l, column)));
    std::iter::once(column_name(column, zone)).chain(values).collect()
}

fn describe(columns: &Columns, zone: &Zone, layers: &[Layer], format: fn(i64) -> String) -> String {
    let total = |layer: &Layer| columns.columns.iter().map(|c| value(layer, c)).sum::<i64>();
    let sums: Vec<String> =
        layers.iter().map(|l| format!("{} {}", format(total(l)), l.label.to_lowercase())).collect();
    let range = zone.range(columns.from_us, columns.to_us);
    format!("{range} {}: {} in all.", zone.name(), sums.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number;
    use crate::sample::{requests, usage};
    use weir_analytics::view::{Grain, Usage};

    const LAYERS: [Layer; 2] = [
        Layer { class: "passed", label: "Passed", value: |t| t.requests - t.refused() },
        Layer { class: "refused", label: "Refused", value: |t| t.refused() },
    ];

    fn chart(usage: &Usage) -> Chart {
        let columns = Columns::of(usage, &Zone::utc());
        let formats = Formats { axis: number::compact, full: number::integer };
        stacked(("c", "Requests", "requests"), &columns, &Zone::utc(), &LAYERS, formats)
    }

    #[test]
    fn a_bar_stands_for_each_column_and_none_for_a_gap() {
        let chart = chart(&usage(Grain::Hour, 24, |hour| (hour != 3).then(|| requests(100))));
        assert_eq!(chart.shapes[0].path.matches('M').count(), 23);
        assert_eq!(chart.shapes[1].path, "", "nothing was refused");
        assert_eq!((chart.gaps.len(), chart.hits.len(), chart.table_rows.len()), (1, 23, 23));
    }

    #[test]
    fn one_among_a_trillion_is_still_seen() {
        let chart = chart(&usage(Grain::Hour, 24, |_| {
            let mut totals = requests(1_000_000_000_000);
            totals.decisions[2] = 1;
            Some(totals)
        }));
        assert!(chart.shapes[1].path.contains("v1h"), "{}", &chart.shapes[1].path[..60]);
        assert_eq!(chart.y_ticks.last().map(|t| t.label.as_str()), Some("1 T"));
    }

    #[test]
    fn what_is_drawn_is_told_too() {
        let chart = chart(&usage(Grain::Hour, 12, |_| Some(requests(1_500))));
        assert_eq!(chart.table_rows[0][1], "1,500");
        assert!(chart.hits[0].text.ends_with("UTC\nPassed: 1,500\nRefused: 0"), "{}", chart.hits[0].text);
        assert!(chart.description.ends_with("18,000 passed, 0 refused in all."), "{}", chart.description);
    }

    #[test]
    fn all_zero_has_an_axis_and_no_nonsense() {
        let html = askama::Template::render(&chart(&usage(Grain::Hour, 12, |_| Some(requests(0))))).unwrap();
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    }
}
