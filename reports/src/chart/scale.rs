//! Axes: where ticks stand and what they say.

use jiff::ToSpan;

use super::{XTick, percent};
use crate::columns::{Columns, DAY, HOUR, MINUTE};
use crate::when::Zone;

/// Labels along the time axis at most; every second one is left out on phones.
const MOST_LABELS: i64 = 7;

/// The step between ticks and the end of an axis from 0 to at least `largest`, both round numbers,
/// with three to five steps. `smallest_step` is 1 where only whole things are counted.
pub fn round_axis(largest: f64, smallest_step: f64) -> (f64, f64) {
    if !largest.is_finite() || largest <= 0.0 {
        return (smallest_step, smallest_step);
    }
    let raw = largest / 4.0;
    let magnitude = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * magnitude).find(|s| *s >= raw * 0.999_999);
    let step = whole(step.unwrap_or(magnitude * 10.0), smallest_step);
    (step, step * (largest / step).ceil())
}

fn whole(step: f64, smallest: f64) -> f64 {
    if smallest <= 0.0 { step } else { (step / smallest).ceil().max(1.0) * smallest }
}

/// Labels at round local times: midnight and noon, first days of months, not at odd moments.
pub fn time_ticks(columns: &Columns, zone: &Zone) -> Vec<XTick> {
    let length = columns.to_us - columns.from_us;
    if length <= 0 {
        return Vec::new();
    }
    let moments = if length > 200 * DAY { months(columns, zone) } else { clock(columns, zone, length) };
    moments.into_iter().enumerate().map(|(i, (us, label))| tick(columns, us, label, i % 2 == 1)).collect()
}

fn tick(columns: &Columns, us: i64, label: String, minor: bool) -> XTick {
    let place = columns.place(us);
    let anchor = match place {
        p if p < 0.03 => "start",
        p if p > 0.95 => "end",
        _ => "middle",
    };
    XTick { x: percent(place), label, anchor, minor }
}

fn clock(columns: &Columns, zone: &Zone, length: i64) -> Vec<(i64, String)> {
    const STEPS: [i64; 14] = [
        MINUTE,
        2 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        15 * MINUTE,
        30 * MINUTE,
        HOUR,
        2 * HOUR,
        3 * HOUR,
        6 * HOUR,
        12 * HOUR,
        DAY,
        7 * DAY,
        28 * DAY,
    ];
    let step = STEPS.into_iter().find(|s| length / s <= MOST_LABELS).unwrap_or(28 * DAY);
    // Rounding the local clock instead of the moment keeps ticks on whole hours in every zone.
    let offset = i64::from(zone.at(columns.from_us).offset().seconds()) * 1_000_000;
    let first = (columns.from_us + offset + step - 1).div_euclid(step) * step - offset;
    let moments = (0..=MOST_LABELS).map(|i| first + i * step).take_while(|us| *us <= columns.to_us);
    moments.map(|us| (us, clock_label(zone, us, step))).collect()
}

fn clock_label(zone: &Zone, us: i64, step: i64) -> String {
    let is_midnight = zone.time(us) == "00:00";
    if step >= DAY || is_midnight { zone.day(us) } else { zone.time(us) }
}

fn months(columns: &Columns, zone: &Zone) -> Vec<(i64, String)> {
    let total = (columns.to_us - columns.from_us) / (30 * DAY);
    let every = [1, 2, 3, 6, 12, 24, 60].into_iter().find(|n| total / n <= MOST_LABELS).unwrap_or(120);
    let Ok(mut month) = zone.at(columns.from_us).first_of_month().and_then(|day| day.start_of_day()) else {
        return Vec::new();
    };
    let mut moments = Vec::new();
    while month.timestamp().as_microsecond() <= columns.to_us {
        let us = month.timestamp().as_microsecond();
        if us >= columns.from_us && (i64::from(month.month()) - 1) % every.min(12) == 0 {
            moments.push((us, zone.month(us)));
        }
        match month.checked_add(1.month()) {
            Ok(next) => month = next,
            Err(_) => break,
        }
    }
    let skip = (every / 12).max(1) as usize;
    moments.into_iter().step_by(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from_us: i64, to_us: i64) -> Columns {
        Columns { from_us, to_us, columns: Vec::new(), gaps: Vec::new(), step: String::new() }
    }

    #[test]
    fn an_axis_ends_at_a_round_number_above_the_largest() {
        for (largest, smallest, want) in [
            (0.0, 1.0, (1.0, 1.0)),
            (f64::NAN, 1.0, (1.0, 1.0)),
            (1.0, 1.0, (1.0, 1.0)),
            (3.0, 1.0, (1.0, 3.0)),
            (97.0, 1.0, (25.0, 100.0)),
            (1_234.0, 1.0, (500.0, 1_500.0)),
            (1e12, 1.0, (2.5e11, 1e12)),
            (0.9, 0.0, (0.25, 1.0)),
        ] {
            assert_eq!(round_axis(largest, smallest), want, "{largest}");
        }
    }

    #[test]
    fn ticks_stand_on_round_local_times() {
        // 24 Nov 2026, 14:05 UTC is 19:50 in Kathmandu.
        let from = 1_795_529_100_000_000;
        let ticks = time_ticks(&range(from, from + 6 * HOUR), &Zone::named("Asia/Kathmandu"));
        let labels: Vec<&str> = ticks.iter().map(|t| t.label.as_str()).collect();
        assert_eq!(labels, ["20:00", "21:00", "22:00", "23:00", "25 Nov", "01:00"]);
    }

    #[test]
    fn no_range_has_more_labels_than_fit_or_fewer_than_two() {
        for minutes in [3, 12, 59, 60, 240, 1_440, 10_080, 43_200, 129_600, 525_600, 5_256_000] {
            let from = 1_795_529_100_000_000;
            let ticks = time_ticks(&range(from, from + minutes * MINUTE), &Zone::utc());
            assert!((2..=11).contains(&ticks.len()), "{minutes} minutes: {} labels", ticks.len());
        }
        assert!(time_ticks(&range(5, 5), &Zone::utc()).is_empty());
    }
}
