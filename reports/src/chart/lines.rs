//! Curves over time that break where there is nothing to connect.

use std::fmt::Write;

use weir_analytics::view::Totals;

use super::{Chart, Key, Shape, column_name, coordinate, edges, frame, height_of, hit, scale, y_ticks};
use crate::columns::{Column, Columns};
use crate::number;
use crate::when::Zone;

/// One curve; a column without a value breaks it.
pub struct Curve {
    pub class: &'static str,
    pub label: &'static str,
    /// Microseconds.
    pub value: fn(&Totals) -> Option<f64>,
}

/// Latencies over time, one curve each.
pub fn curves(
    id: &'static str,
    title: &'static str,
    columns: &Columns,
    zone: &Zone,
    list: &[Curve],
) -> Chart {
    let unit = format!("time to answer, by {}", columns.step);
    let mut chart = frame(id, title, unit, columns, zone);
    let values = columns.columns.iter().flat_map(|c| list.iter().filter_map(|k| (k.value)(&c.totals)));
    let (step, top) = scale::round_axis(values.fold(0.0, f64::max), 0.0);
    let (step, top) = if step > 0.0 { (step, top) } else { (1_000.0, 1_000.0) };
    chart.y_ticks =
        y_ticks(step, top, |us| if us == 0.0 { "0".to_string() } else { number::latency(Some(us)) });
    chart.shapes = list.iter().flat_map(|curve| shapes(columns, curve, top)).collect();
    chart.legend = list.iter().map(|k| Key { class: k.class, label: k.label }).collect();
    chart.hits = columns.columns.iter().map(|c| hit(columns, c, told(c, zone, list))).collect();
    chart.table_head = std::iter::once("Time").chain(list.iter().map(|k| k.label)).collect();
    chart.table_rows = columns.columns.iter().map(|c| row(c, zone, list)).collect();
    chart.description = describe(columns, zone, list);
    chart
}

/// The curve where neighbours have values, and dots where a value stands alone.
fn shapes(columns: &Columns, curve: &Curve, top: f64) -> [Shape; 2] {
    let (mut line, mut dots) = (String::new(), String::new());
    for run in runs(columns, curve) {
        let points = run.iter().map(|(column, value)| {
            let (left, right) = edges(columns, column);
            (coordinate((left + right) / 2.0), coordinate(height_of(*value, top)))
        });
        let path = if run.len() == 1 { &mut dots } else { &mut line };
        for (i, (x, y)) in points.enumerate() {
            // Writing to a String does not fail.
            let _ = write!(path, "{}{x} {y}", if i == 0 { 'M' } else { 'L' });
        }
        if run.len() == 1 {
            dots.push_str("h0");
        }
    }
    [
        Shape { class: format!("line {}", curve.class), path: line },
        Shape { class: format!("dot {}", curve.class), path: dots },
    ]
}

/// Stretches of columns that touch and all have a value.
fn runs<'a>(columns: &'a Columns, curve: &Curve) -> Vec<Vec<(&'a Column, f64)>> {
    let mut runs: Vec<Vec<(&Column, f64)>> = Vec::new();
    for column in &columns.columns {
        let Some(value) = (curve.value)(&column.totals) else { continue };
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|(last, _)| last.to_us == column.from_us) => {
                run.push((column, value));
            }
            _ => runs.push(vec![(column, value)]),
        }
    }
    runs
}

fn told(column: &Column, zone: &Zone, list: &[Curve]) -> String {
    let values = list.iter().map(|k| format!("{}: {}", k.label, number::latency((k.value)(&column.totals))));
    let head = format!("{} {}", column_name(column, zone), zone.name());
    std::iter::once(head).chain(values).collect::<Vec<_>>().join("\n")
}

fn row(column: &Column, zone: &Zone, list: &[Curve]) -> Vec<String> {
    let values = list.iter().map(|k| number::latency((k.value)(&column.totals)));
    std::iter::once(column_name(column, zone)).chain(values).collect()
}

fn describe(columns: &Columns, zone: &Zone, list: &[Curve]) -> String {
    let ranges: Vec<String> = list
        .iter()
        .filter_map(|curve| {
            let values: Vec<f64> = columns.columns.iter().filter_map(|c| (curve.value)(&c.totals)).collect();
            let (low, high) = values.iter().fold((f64::MAX, 0f64), |(l, h), v| (l.min(*v), h.max(*v)));
            (!values.is_empty()).then(|| {
                format!(
                    "{} from {} to {}",
                    curve.label,
                    number::latency(Some(low)),
                    number::latency(Some(high))
                )
            })
        })
        .collect();
    let range = zone.range(columns.from_us, columns.to_us);
    format!("{range} {}: {}.", zone.name(), ranges.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{answered_in, requests, usage};
    use weir_analytics::view::{Grain, Usage};

    const MEDIAN: [Curve; 1] =
        [Curve { class: "p50", label: "p50", value: |t| t.latencies.quantile_us(0.5) }];

    fn chart(usage: &Usage) -> Chart {
        curves("l", "Latency", &Columns::of(usage, &Zone::utc()), &Zone::utc(), &MEDIAN)
    }

    #[test]
    fn a_gap_breaks_the_curve_and_a_lone_point_is_a_dot() {
        let chart =
            chart(&usage(Grain::Hour, 24, |hour| (!matches!(hour, 10 | 12)).then(|| answered_in(5, 20_000))));
        assert_eq!(chart.shapes[0].path.matches('M').count(), 2, "before and after the gap");
        assert_eq!(chart.shapes[1].path.matches("h0").count(), 1, "the hour between two gaps");
    }

    #[test]
    fn requests_without_latency_have_no_curve_and_no_nonsense() {
        let chart = chart(&usage(Grain::Hour, 24, |_| Some(requests(3))));
        let html = askama::Template::render(&chart).unwrap();
        assert!(chart.shapes.iter().all(|s| s.path.is_empty()));
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    }

    #[test]
    fn the_axis_bears_units() {
        let chart = chart(&usage(Grain::Hour, 24, |_| Some(answered_in(5, 97_000))));
        let labels: Vec<&str> = chart.y_ticks.iter().map(|t| t.label.as_str()).collect();
        assert_eq!(labels, ["0", "25 ms", "50 ms", "75 ms", "100 ms"]);
    }
}
