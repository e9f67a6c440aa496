//! A curve in the band that was expected of it.

use std::fmt::Write;

use weir_analytics::anomaly::{Course, Point};

use super::{Chart, HEIGHT, Hit, Key, Shape, WIDTH, clamped, coordinate, frame, height_of, scale, y_ticks};
use crate::columns::{Columns, HOUR};
use crate::when::Zone;

/// The hours of an episode; `format` writes a value with its unit.
pub fn band(
    head: (String, String, String),
    course: &Course,
    zone: &Zone,
    format: &dyn Fn(f64) -> String,
) -> Chart {
    let columns = columns(&course.points);
    let (id, title, unit) = head;
    let mut chart = frame(id, title, unit, &columns, zone);
    let highest = |p: &Point| p.value.unwrap_or(0.0).max(p.band.map_or(0.0, |(_, _, high)| high));
    let (step, top) = scale::round_axis(course.points.iter().map(highest).fold(0.0, f64::max), 0.0);
    let (step, top) = if step > 0.0 { (step, top) } else { (1.0, 1.0) };
    chart.y_ticks = y_ticks(step, top, |v| if v == 0.0 { "0".to_string() } else { format(v) });
    let plot = Plot { columns: &columns, points: &course.points, top };
    let shape = |class: &str, path: String| Shape { class: class.to_string(), path };
    chart.shapes = vec![
        shape("band", plot.area()),
        shape("line expected", plot.line(|p| p.band.map(|(expected, ..)| expected))),
        shape("line measured", plot.line(|p| p.value)),
        shape("dot outside", plot.outside()),
    ];
    let keys = [
        ("measured", "Measured"),
        ("expected", "Expected"),
        ("band", "Usual range"),
        ("outside", "Outside it"),
    ];
    chart.legend = keys.map(|(class, label)| Key { class, label }).into();
    let told = |value: Option<f64>| value.map_or("–".to_string(), format);
    let row = |p: &Point| {
        let (expected, low, high) =
            p.band.map_or((None, None, None), |(e, l, h)| (Some(e), Some(l), Some(h)));
        let range =
            low.zip(high).map_or("–".to_string(), |(l, h)| format!("{} to {}", format(l), format(h)));
        vec![zone.moment(p.at_us), told(p.value), told(expected), range]
    };
    chart.table_head = vec!["Hour", "Measured", "Expected", "Usual range"];
    chart.table_rows = course.points.iter().map(row).collect();
    let hit = |(p, row): (&Point, &Vec<String>)| {
        let (from, to) = plot.edges(p);
        let text = format!("{} {}\n{}, expected {} ({})", row[0], zone.name(), row[1], row[2], row[3]);
        Hit { x: coordinate(from), width: coordinate(to - from), text }
    };
    chart.hits = course.points.iter().zip(&chart.table_rows).map(hit).collect();
    let a = &course.anomaly;
    chart.description = format!(
        "{} {}: {} in the hour of {}, where {} was expected.",
        zone.range(columns.from_us, columns.to_us),
        zone.name(),
        format(a.value),
        zone.moment(a.worst_us),
        format(a.expected)
    );
    chart
}

fn columns(points: &[Point]) -> Columns {
    let from_us = points.first().map_or(0, |p| p.at_us);
    let to_us = points.last().map_or(from_us, |p| p.at_us + HOUR);
    let unknown = points.iter().filter(|p| p.value.is_none()).map(|p| (p.at_us, p.at_us + HOUR));
    Columns { from_us, to_us, columns: Vec::new(), gaps: unknown.collect(), step: "hour".to_string() }
}

struct Plot<'a> {
    columns: &'a Columns,
    points: &'a [Point],
    top: f64,
}

impl Plot<'_> {
    fn edges(&self, point: &Point) -> (f64, f64) {
        let place = |us| clamped(self.columns, us) * WIDTH;
        (place(point.at_us), place(point.at_us + HOUR))
    }

    fn at(&self, point: &Point, value: f64) -> String {
        let (from, to) = self.edges(point);
        format!("{} {}", coordinate((from + to) / 2.0), coordinate(height_of(value, self.top)))
    }

    /// Steps as wide as their hours, so that an hour alone is seen as well.
    fn area(&self) -> String {
        let mut path = String::new();
        for (point, (_, low, high)) in self.points.iter().filter_map(|p| Some((p, p.band?))) {
            let (from, to) = self.edges(point);
            let (lower, upper) = (height_of(low, self.top), height_of(high, self.top));
            let (x, y, width) = (coordinate(from), coordinate(upper), coordinate(to - from));
            // Writing to a String does not fail.
            let _ = write!(path, "M{x} {y}h{width}V{}h-{width}z", coordinate(lower.min(HEIGHT)));
        }
        path
    }

    /// Broken where there is no value.
    fn line(&self, value: impl Fn(&Point) -> Option<f64>) -> String {
        let (mut path, mut pen_is_down) = (String::new(), false);
        for point in self.points {
            if let Some(value) = value(point) {
                path += if pen_is_down { "L" } else { "M" };
                path += &self.at(point, value);
            }
            pen_is_down = value(point).is_some();
        }
        path
    }

    /// A dot on each value that left the band.
    fn outside(&self) -> String {
        let out = |p: &&Point| {
            p.value.zip(p.band).is_some_and(|(value, (_, low, high))| !(low..=high).contains(&value))
        };
        let dots = self.points.iter().filter(out);
        dots.map(|p| format!("M{}h0", self.at(p, p.value.unwrap_or(0.0)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number;
    use weir_analytics::anomaly::{Anomaly, Kind};

    pub fn course(values: &[Option<f64>], scale: f64) -> Course {
        let at_us = crate::sample::START;
        let point = |(hour, value): (usize, &Option<f64>)| Point {
            at_us: at_us + hour as i64 * HOUR,
            value: value.map(|v| v * scale),
            band: value.map(|_| (10.0 * scale, 5.0 * scale, 15.0 * scale)),
        };
        let anomaly = Anomaly {
            kind: Kind::Spike,
            client: None,
            endpoint: None,
            from_us: at_us,
            to_us: at_us + HOUR,
            worst_us: at_us,
            value: 90.0 * scale,
            expected: 10.0 * scale,
            score: 9.0,
            part: None,
        };
        Course { anomaly, points: values.iter().enumerate().map(point).collect() }
    }

    fn drawn(course: &Course) -> Chart {
        let head = ("a".to_string(), "Spike".to_string(), "requests per hour".to_string());
        band(head, course, &Zone::utc(), &number::compact)
    }

    #[test]
    fn what_lies_outside_is_dotted_and_what_is_unknown_breaks_the_curve() {
        let chart = drawn(&course(&[Some(10.0), Some(90.0), None, Some(1.0), Some(11.0)], 1.0));
        let count = |n: usize, c: &str| chart.shapes[n].path.matches(c).count();
        assert_eq!((count(0, "M"), count(2, "M"), count(3, "M")), (4, 2, 2));
        assert_eq!((chart.gaps.len(), chart.hits.len(), chart.table_rows.len()), (1, 5, 5));
        assert_eq!(chart.table_rows[1][1..], ["90", "10", "5 to 15"]);
        assert_eq!(chart.table_rows[2][1..], ["–", "–", "–"]);
    }

    #[test]
    fn nothing_and_a_trillion_are_drawn_without_nonsense() {
        for course in [course(&[], 1.0), course(&[Some(0.0)], 0.0), course(&[Some(90.0)], 1e12)] {
            let html = askama::Template::render(&drawn(&course)).unwrap();
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
    }
}
