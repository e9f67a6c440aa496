//! A series cut into the columns that a chart has room for.

use jiff::ToSpan;
use weir_analytics::view::{Grain, Series, Totals, Usage};

use crate::when::Zone;

/// Microseconds.
pub const MINUTE: i64 = 60_000_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// As many columns as still are wider than a pixel on a phone; it bounds the size of a page too.
const MOST: i64 = 180;

/// As few steps as a chart shows, so that one point is not a column as wide as the page.
const FEWEST: i64 = 12;

/// The widths a column may have: those after which a clock or a calendar begins anew.
const WIDTHS: [i64; 16] = [
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
    2 * DAY,
    7 * DAY,
    28 * DAY,
    364 * DAY,
];

/// What a chart draws: a range of time and the columns in it that have records.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// Half open, microseconds UTC.
    pub from_us: i64,
    pub to_us: i64,
    pub columns: Vec<Column>,
    /// Stretches without a record of which nothing is known, up to the moment the books are complete
    /// to: drawn as gaps.
    pub gaps: Vec<(i64, i64)>,
    /// `minute`, `15 minutes`, `month`: what one column holds.
    pub step: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub from_us: i64,
    pub to_us: i64,
    pub totals: Totals,
}

impl Columns {
    /// The columns of `usage`, their edges on whole steps of `zone`'s clock.
    pub fn of(usage: &Usage, zone: &Zone) -> Columns {
        let edges = Edges::new(usage, zone);
        let columns = gather(&usage.series, &edges);
        let (from_us, to_us) = edges.frame(usage, columns.first().map(|c| c.from_us));
        let complete_to =
            usage.completeness.complete_to_us.unwrap_or(from_us).clamp(from_us, to_us.max(from_us));
        let mut gaps = gaps(&columns, from_us, complete_to);
        // A stretch in which every gateway was at work had no requests: that is no gap.
        gaps.retain(|&(from, to)| !usage.completeness.known.knows(from, to));
        Columns { from_us, to_us, columns, gaps, step: edges.word() }
    }

    /// Where `us` lies in the range, 0 at its start and 1 at its end.
    pub fn place(&self, us: i64) -> f64 {
        let length = self.to_us - self.from_us;
        if length <= 0 { 0.0 } else { (us - self.from_us) as f64 / length as f64 }
    }
}

/// Where columns begin and end.
enum Edges<'a> {
    /// `width` microseconds each; `origin` is a local midnight.
    Even { origin: i64, width: i64 },
    /// Months have no common width.
    Months { zone: &'a Zone },
}

impl Edges<'_> {
    fn new<'a>(usage: &Usage, zone: &'a Zone) -> Edges<'a> {
        let step = match usage.series.grain {
            Grain::Minute => MINUTE,
            Grain::Hour => HOUR,
            Grain::Day => DAY,
            Grain::Month => return Edges::Months { zone },
        };
        let length = usage.to_us.saturating_sub(usage.from_us);
        let width =
            WIDTHS.into_iter().find(|&w| w >= step && length / w <= MOST).unwrap_or(length / MOST + 1);
        let origin = if width <= HOUR { 0 } else { midnight(zone, usage.from_us) };
        Edges::Even { origin, width }
    }

    fn around(&self, us: i64) -> (i64, i64) {
        match *self {
            Edges::Even { origin, width } => {
                let from = us - (us - origin).rem_euclid(width);
                (from, from + width)
            }
            Edges::Months { zone } => month_around(zone, us),
        }
    }

    /// The range to draw. Time before the first record is left out as far as [`FEWEST`] allows:
    /// a week with ten minutes of records in it would be an empty chart.
    fn frame(&self, usage: &Usage, first: Option<i64>) -> (i64, i64) {
        let (from, to) = (usage.from_us, usage.to_us.max(usage.from_us));
        match (self, first) {
            (Edges::Even { width, .. }, Some(first)) => {
                let latest_start = self.around(to.saturating_sub(FEWEST * width)).0;
                (from.max(first.min(latest_start)), to)
            }
            _ => (from, to),
        }
    }

    fn word(&self) -> String {
        let Edges::Even { width, .. } = *self else { return "month".to_string() };
        let (n, unit) = match width {
            w if w % DAY == 0 => (w / DAY, "day"),
            w if w % HOUR == 0 => (w / HOUR, "hour"),
            w => (w / MINUTE, "minute"),
        };
        if n == 1 { unit.to_string() } else { format!("{n} {unit}s") }
    }
}

fn midnight(zone: &Zone, us: i64) -> i64 {
    let local = zone.at(us);
    local.start_of_day().map_or(us, |day| day.timestamp().as_microsecond())
}

fn month_around(zone: &Zone, us: i64) -> (i64, i64) {
    let first = zone.at(us).first_of_month().and_then(|day| day.start_of_day());
    let next = first.as_ref().ok().and_then(|first| first.checked_add(1.month()).ok());
    match (first, next) {
        (Ok(first), Some(next)) => (first.timestamp().as_microsecond(), next.timestamp().as_microsecond()),
        _ => (us, us.saturating_add(30 * DAY)),
    }
}

fn gather(series: &Series, edges: &Edges) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for (us, totals) in &series.points {
        match columns.last_mut() {
            Some(last) if *us < last.to_us => last.totals.add(totals),
            _ => {
                let (from_us, to_us) = edges.around(*us);
                columns.push(Column { from_us, to_us, totals: totals.clone() });
            }
        }
    }
    columns
}

fn gaps(columns: &[Column], from_us: i64, complete_to: i64) -> Vec<(i64, i64)> {
    let mut gaps = Vec::new();
    let mut reached = from_us;
    for column in columns {
        if column.from_us > reached {
            gaps.push((reached, column.from_us));
        }
        reached = reached.max(column.to_us);
    }
    if complete_to > reached {
        gaps.push((reached, complete_to));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{requests, usage};
    use weir_analytics::completeness::Silence;

    #[test]
    fn a_gap_is_neither_a_zero_nor_a_column() {
        let usage = usage(Grain::Hour, 24, |hour| (!(5..9).contains(&hour)).then(|| requests(10)));
        let columns = Columns::of(&usage, &Zone::utc());
        assert_eq!(columns.columns.len(), 20);
        let start = usage.from_us;
        assert_eq!(columns.gaps, [(start + 5 * HOUR, start + 9 * HOUR)]);
    }

    #[test]
    fn an_hour_without_requests_is_no_gap_where_every_gateway_was_at_work() {
        let mut usage = usage(Grain::Hour, 24, |hour| (!matches!(hour, 5 | 9)).then(|| requests(10)));
        let start = usage.from_us;
        let known = &mut usage.completeness.known;
        (known.since_us, known.to_us) = (Some(start), Some(start + 24 * HOUR));
        let gateway = "gateway-1".to_string();
        known.silent = vec![Silence { gateway, from_us: start + 9 * HOUR, to_us: start + 10 * HOUR }];
        let columns = Columns::of(&usage, &Zone::utc());
        assert_eq!(columns.gaps, [(start + 9 * HOUR, start + 10 * HOUR)]);
    }

    #[test]
    fn many_steps_become_few_columns_with_equal_sums() {
        let usage = usage(Grain::Minute, 1440, |minute| Some(requests(minute + 1)));
        let columns = Columns::of(&usage, &Zone::utc());
        assert_eq!((columns.columns.len(), columns.step.as_str()), (144, "10 minutes"));
        let sum: i64 = columns.columns.iter().map(|c| c.totals.requests).sum();
        assert_eq!(sum, 1440 * 1441 / 2);
    }

    #[test]
    fn wide_columns_begin_at_local_midnight() {
        let usage = usage(Grain::Hour, 24 * 30, |_| Some(requests(1)));
        let zone = Zone::named("Asia/Kathmandu");
        for column in Columns::of(&usage, &zone).columns {
            assert_eq!(zone.at(column.from_us).hour() % 6, 0);
            assert_eq!(zone.at(column.from_us).minute(), 0);
        }
    }

    #[test]
    fn one_point_has_room_around_it() {
        let usage = usage(Grain::Hour, 168, |hour| (hour == 167).then(|| requests(1)));
        let columns = Columns::of(&usage, &Zone::utc());
        assert_eq!((columns.to_us - columns.from_us) / HOUR, FEWEST);
        assert_eq!(columns.gaps.len(), 1);
    }

    #[test]
    fn nothing_at_all_is_an_empty_range() {
        let mut usage = usage(Grain::Month, 0, |_| None);
        usage.to_us = usage.from_us - 5;
        let columns = Columns::of(&usage, &Zone::utc());
        assert!(columns.columns.is_empty() && columns.gaps.is_empty());
        assert_eq!(columns.place(usage.from_us), 0.0);
    }

    #[test]
    fn months_keep_their_lengths() {
        let zone = Zone::utc();
        let (from, to) = month_around(&zone, 1_770_000_000_000_000);
        assert_eq!((zone.moment(from), (to - from) / DAY), ("1 Feb 2026, 00:00".to_string(), 28));
    }
}
