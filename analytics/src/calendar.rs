//! Steps of time and the partitions of the store. Everything is UTC.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::view::Grain;

pub const MINUTE_US: i64 = 60 * 1_000_000;
pub const HOUR_US: i64 = 60 * MINUTE_US;
pub const DAY_US: i64 = 24 * HOUR_US;

impl Grain {
    pub const ALL: [Grain; 4] = [Grain::Minute, Grain::Hour, Grain::Day, Grain::Month];

    pub fn word(self) -> &'static str {
        match self {
            Grain::Minute => "minute",
            Grain::Hour => "hour",
            Grain::Day => "day",
            Grain::Month => "month",
        }
    }

    /// Start of the step that holds the moment, both in microseconds UTC.
    pub fn floor(self, time_us: i64) -> i64 {
        match self {
            Grain::Minute => time_us - time_us.rem_euclid(MINUTE_US),
            Grain::Hour => time_us - time_us.rem_euclid(HOUR_US),
            Grain::Day => time_us - time_us.rem_euclid(DAY_US),
            Grain::Month => start_of(civil(time_us).date().first_of_month()),
        }
    }

    /// Start of the step after the one that starts at `start_us`.
    pub fn next(self, start_us: i64) -> i64 {
        match self {
            Grain::Minute => start_us + MINUTE_US,
            Grain::Hour => start_us + HOUR_US,
            Grain::Day => start_us + DAY_US,
            Grain::Month => start_of(civil(start_us).date().first_of_month().saturating_add(1.month())),
        }
    }

    /// The grain that is rolled up from this one.
    pub fn coarser(self) -> Option<Grain> {
        Grain::ALL.get(self as usize + 1).copied()
    }
}

/// One folder of usage: what a generation replaces as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    pub grain: Grain,
    /// Its start: of an hour for minutes, a day for hours, a month for days, a year for months.
    pub start_us: i64,
}

impl Partition {
    /// The partition of a grain that holds a moment.
    pub fn at(grain: Grain, time_us: i64) -> Partition {
        let start_us = match grain.coarser() {
            Some(span) => span.floor(time_us),
            None => start_of(civil(time_us).date().first_of_year()),
        };
        Partition { grain, start_us }
    }

    /// The partition of the next coarser grain that its rows go into.
    pub fn parent(self) -> Option<Partition> {
        self.grain.coarser().map(|grain| Partition::at(grain, self.start_us))
    }

    /// The first moment after it.
    pub fn end_us(self) -> i64 {
        match self.grain.coarser() {
            Some(span) => span.next(self.start_us),
            None => start_of(civil(self.start_us).date().saturating_add(1.year())),
        }
    }

    /// `date=2026-11-24/hour=13`, `date=2026-11-24`, `month=2026-11` or `year=2026`.
    pub fn key(self) -> String {
        let t = civil(self.start_us);
        match self.grain {
            Grain::Minute => format!("date={}/hour={:02}", t.date(), t.hour()),
            Grain::Hour => format!("date={}", t.date()),
            Grain::Day => format!("month={:04}-{:02}", t.year(), t.month()),
            Grain::Month => format!("year={:04}", t.year()),
        }
    }

    /// Its folder in the store.
    pub fn folder(self) -> String {
        format!("usage/grain={}/{}", self.grain.word(), self.key())
    }

    /// The partitions of a grain that overlap a half-open range.
    pub fn covering(grain: Grain, from_us: i64, to_us: i64) -> Vec<Partition> {
        let mut found = Vec::new();
        let mut next = Partition::at(grain, from_us);
        while next.start_us < to_us {
            found.push(next);
            next = Partition::at(grain, next.end_us());
        }
        found
    }
}

/// The partition of minutes that a folder `…/date=2026-11-24/hour=13` stands for.
pub fn hour_of_folder(path: &str) -> Option<Partition> {
    let part = |key: &str| path.split('/').find_map(|folder| folder.strip_prefix(key));
    let date: Date = part("date=")?.parse().ok()?;
    let hour: i8 = part("hour=")?.parse().ok()?;
    let start = date.at(hour.clamp(0, 23), 0, 0, 0);
    Some(Partition { grain: Grain::Minute, start_us: micros(start) })
}

/// The partition of a finer grain than days that a path lies in.
pub fn partition_of_path(grain: Grain, path: &str) -> Option<Partition> {
    match grain {
        Grain::Minute => hour_of_folder(path),
        Grain::Hour => path.split('/').find_map(day_of_folder),
        Grain::Day | Grain::Month => None,
    }
}

/// The partition of hours that a folder `date=2026-11-24` stands for.
pub fn day_of_folder(folder: &str) -> Option<Partition> {
    let date: Date = folder.strip_prefix("date=")?.parse().ok()?;
    Some(Partition { grain: Grain::Hour, start_us: start_of(date) })
}

/// The civil date and time, UTC. Moments beyond the years that jiff knows are clamped to them.
pub fn civil(time_us: i64) -> DateTime {
    let clamped = time_us.clamp(Timestamp::MIN.as_microsecond(), Timestamp::MAX.as_microsecond());
    let timestamp = Timestamp::from_microsecond(clamped).unwrap_or(Timestamp::UNIX_EPOCH);
    TimeZone::UTC.to_datetime(timestamp)
}

fn start_of(date: Date) -> i64 {
    micros(date.at(0, 0, 0, 0))
}

fn micros(time: DateTime) -> i64 {
    TimeZone::UTC.to_timestamp(time).map_or(i64::MAX, |t| t.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn a_moment_falls_into_the_step_that_holds_it() {
        let t = us("2024-02-29T23:59:59.999999Z");
        let starts: Vec<i64> = Grain::ALL.iter().map(|g| g.floor(t)).collect();
        let want =
            ["2024-02-29T23:59:00Z", "2024-02-29T23:00:00Z", "2024-02-29T00:00:00Z", "2024-02-01T00:00:00Z"];
        assert_eq!(starts, want.map(us));
        assert_eq!(Grain::Month.next(us("2024-12-01T00:00:00Z")), us("2025-01-01T00:00:00Z"));
        assert_eq!(Grain::Hour.floor(us("1969-12-31T23:30:00Z")), us("1969-12-31T23:00:00Z"));
    }

    #[test]
    fn partitions_name_their_folders_and_parents() {
        let minutes = Partition::at(Grain::Minute, us("2026-11-24T13:05:00Z"));
        let chain: Vec<String> =
            std::iter::successors(Some(minutes), |p| p.parent()).map(Partition::folder).collect();
        assert_eq!(
            chain,
            [
                "usage/grain=minute/date=2026-11-24/hour=13",
                "usage/grain=hour/date=2026-11-24",
                "usage/grain=day/month=2026-11",
                "usage/grain=month/year=2026"
            ]
        );
        assert_eq!(hour_of_folder("records/date=2026-11-24/hour=13/x.parquet"), Some(minutes));
        assert_eq!(hour_of_folder("records/date=2026-13-24/hour=13"), None);
    }

    #[test]
    fn a_range_is_covered_without_holes() {
        let found = Partition::covering(Grain::Day, us("2026-11-24T13:00:00Z"), us("2027-02-01T00:00:00Z"));
        let keys: Vec<String> = found.into_iter().map(Partition::key).collect();
        assert_eq!(keys, ["month=2026-11", "month=2026-12", "month=2027-01"]);
        assert!(Partition::covering(Grain::Minute, 5, 5).len() <= 1);
    }
}
