//! How far a quota goes: use so far, and the fan of what may come, up to the end of the period.

use std::fmt::Write;

use weir_analytics::forecast::{Band, Forecast};

use super::{Chart, Key, Shape, WIDTH, clamped, coordinate, frame, height_of, scale, y_ticks};
use crate::columns::Columns;
use crate::when::Zone;

/// `format` writes an amount with its unit.
pub fn fan(
    head: (String, String, String),
    forecast: &Forecast,
    zone: &Zone,
    format: &dyn Fn(f64) -> String,
) -> Chart {
    let columns = Columns {
        from_us: forecast.from_us,
        to_us: forecast.to_us,
        columns: Vec::new(),
        gaps: Vec::new(),
        step: String::new(),
    };
    let (id, title, unit) = head;
    let mut chart = frame(id, title, unit, &columns, zone);
    let amount = forecast.amount as f64;
    let (step, top) = scale::round_axis(forecast.at_end.p90.max(amount), 1.0);
    chart.y_ticks = y_ticks(step, top, |v| if v == 0.0 { "0".to_string() } else { format(v) });
    let plot = Plot { columns: &columns, top };
    let now = (forecast.known_to_us, forecast.used as f64);
    let to_come = |of: fn(&Band) -> f64| {
        std::iter::once(now).chain(forecast.ahead.iter().map(move |(us, band)| (*us, of(band))))
    };
    let shape = |class: &str, path: String| Shape { class: class.to_string(), path };
    let edge = to_come(|band| band.p10).collect::<Vec<_>>().into_iter().rev();
    chart.shapes = vec![
        shape("band", plot.line(to_come(|band| band.p90).chain(edge)) + "z"),
        shape("line expected", plot.line(to_come(|band| band.p50))),
        shape("line measured", plot.line(forecast.past.iter().copied())),
        shape("line quota", plot.line([(forecast.from_us, amount), (forecast.to_us, amount)].into_iter())),
    ];
    let keys =
        [("measured", "Used"), ("expected", "Likely (P50)"), ("band", "P10 to P90"), ("quota", "Quota")];
    chart.legend = keys.map(|(class, label)| Key { class, label }).into();
    let used = |(us, n): &(i64, f64)| vec![zone.moment(*us), format(*n), "–".to_string(), "–".to_string()];
    let likely = |(us, band): &(i64, Band)| {
        let range = format!("{} to {}", format(band.p10), format(band.p90));
        vec![zone.moment(*us), "–".to_string(), format(band.p50), range]
    };
    chart.table_head = vec!["By", "Used", "Likely (P50)", "P10 to P90"];
    chart.table_rows = forecast.past.iter().map(used).chain(forecast.ahead.iter().map(likely)).collect();
    chart.description = format!(
        "{} {}: {} used so far; at the end {} to {}, likely {}, of {}.",
        zone.range(forecast.from_us, forecast.to_us),
        zone.name(),
        format(forecast.used as f64),
        format(forecast.at_end.p10),
        format(forecast.at_end.p90),
        format(forecast.at_end.p50),
        format(amount)
    );
    chart
}

struct Plot<'a> {
    columns: &'a Columns,
    top: f64,
}

impl Plot<'_> {
    fn line(&self, points: impl Iterator<Item = (i64, f64)>) -> String {
        let mut path = String::new();
        for (us, value) in points {
            let (x, y) = (clamped(self.columns, us) * WIDTH, height_of(value, self.top));
            let pen = if path.is_empty() { 'M' } else { 'L' };
            // Writing to a String does not fail.
            let _ = write!(path, "{pen}{} {}", coordinate(x), coordinate(y));
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number;
    use crate::runout::tests::forecast;

    fn drawn(forecast: &Forecast) -> Chart {
        let head = ("f".to_string(), "Day".to_string(), "requests".to_string());
        fan(head, forecast, &Zone::utc(), &number::compact)
    }

    #[test]
    fn use_so_far_meets_the_fan_and_the_quota_is_a_line_across() {
        let chart = drawn(&forecast(1_000, 400, [900.0, 1_100.0, 1_400.0]));
        let path = |n: usize| chart.shapes[n].path.as_str();
        assert_eq!(path(3), "M0 72L10000 72", "1,000 of an axis to 1,500");
        let now = "5000 158.4";
        assert!(
            path(0).starts_with(&format!("M{now}")) && path(0).ends_with(&format!("L{now}z")),
            "{}",
            path(0)
        );
        assert!(path(1).starts_with(&format!("M{now}")) && path(2).ends_with(now), "{}", path(2));
        assert_eq!(chart.table_rows.last().unwrap()[2..], ["1,100", "900 to 1,400"]);
    }

    #[test]
    fn nothing_and_a_trillion_are_drawn_without_nonsense() {
        let mut bare = forecast(1, 0, [0.0; 3]);
        (bare.past, bare.ahead, bare.to_us) = (Vec::new(), Vec::new(), bare.from_us);
        for forecast in [bare, forecast(u64::MAX, 1_000_000_000_000, [1e12, 2e12, 1e20])] {
            let html = askama::Template::render(&drawn(&forecast)).unwrap();
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
    }
}
