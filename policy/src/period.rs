//! Days and months as the calendar of a time zone has them.

use std::ops::Range;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use weir_limiter::Window;

/// One day or month.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// `2026-11-24` or `2026-11`.
    pub name: String,
    /// From its first second to that of the next one, since 1970.
    pub span_s: Range<i64>,
}

impl Period {
    /// The period that holds a moment; none for a window that slides.
    pub fn at(window: Window, zone: &TimeZone, now_s: i64) -> Option<Period> {
        let date = date(zone, now_s);
        let (name, first, next) = match window {
            Window::Sliding { .. } => return None,
            Window::Day => (date.to_string(), date, date.saturating_add(1.day())),
            Window::Month => {
                let first = date.first_of_month();
                let name = format!("{:04}-{:02}", date.year(), date.month());
                (name, first, first.saturating_add(1.month()))
            }
        };
        // Where clocks were set back over midnight a date comes twice, and the moment may lie in its
        // second part: whoever asks later finds out when that has ended.
        let end_s = start_s(zone, next).max(now_s.saturating_add(1));
        Some(Period { name, span_s: start_s(zone, first).min(now_s)..end_s })
    }

    pub fn length_ms(&self) -> u64 {
        let length_s = self.span_s.end.saturating_sub(self.span_s.start);
        u64::try_from(length_s).unwrap_or(0).saturating_mul(1_000)
    }
}

/// Moments beyond the years that jiff knows are clamped to them.
fn date(zone: &TimeZone, now_s: i64) -> Date {
    let known_s = now_s.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    zone.to_datetime(Timestamp::from_second(known_s).unwrap_or(Timestamp::UNIX_EPOCH)).date()
}

/// The first second of a date; where the clocks jump over midnight, that after the jump.
fn start_s(zone: &TimeZone, date: Date) -> i64 {
    zone.to_timestamp(date.at(0, 0, 0, 0)).map_or(i64::MAX, |start| start.as_second())
}

/// The time zones of a policy's clients.
pub(crate) struct Zones(Box<[TimeZone]>);

impl Zones {
    /// The parser looked each of them up already.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Zones {
        Zones(names.map(|name| TimeZone::get(name).unwrap_or(TimeZone::UTC)).collect())
    }

    /// UTC where nothing is said.
    fn get(&self, at: Option<usize>) -> &TimeZone {
        at.and_then(|at| self.0.get(at)).unwrap_or(const { &TimeZone::UTC })
    }
}

/// The time and whose calendar is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub zones: &'a Zones,
    /// Its position among the zones.
    pub zone: Option<usize>,
    pub now_s: i64,
}

impl Moment<'_> {
    /// See [`Period::at`].
    pub fn period(&self, window: Window) -> Option<Period> {
        match window {
            Window::Sliding { .. } => None,
            Window::Day | Window::Month => Period::at(window, self.zones.get(self.zone), self.now_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    /// Name, beginning, end and length in hours.
    fn period(window: Window, zone: &str, at: &str) -> (String, String, String, u64) {
        let zone = TimeZone::get(zone).unwrap();
        let period = Period::at(window, &zone, second(at)).unwrap();
        let spelt = |s| Timestamp::from_second(s).unwrap().to_string();
        let hours = period.length_ms() / 3_600_000;
        (period.name, spelt(period.span_s.start), spelt(period.span_s.end), hours)
    }

    fn assert_period(window: Window, zone: &str, at: &str, expected: (&str, &str, &str, u64)) {
        let (name, from, to, hours) = period(window, zone, at);
        assert_eq!((&*name, &*from, &*to, hours), expected, "{zone} at {at}");
    }

    #[test]
    fn days_have_the_length_that_the_zone_gives_them() {
        let day = |zone, at, expected| assert_period(Window::Day, zone, at, expected);
        let utc = ("2026-11-24", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z", 24);
        day("UTC", "2026-11-24T00:00:00Z", utc);
        day("UTC", "2026-11-24T23:59:59Z", utc);
        let ahead = ("2026-11-25", "2026-11-24T10:00:00Z", "2026-11-25T10:00:00Z", 24);
        day("Pacific/Kiritimati", "2026-11-24T10:00:00Z", ahead);
        let short = ("2026-03-08", "2026-03-08T06:00:00Z", "2026-03-09T05:00:00Z", 23);
        day("America/Chicago", "2026-03-08T06:00:00Z", short);
        let long = ("2026-11-01", "2026-11-01T05:00:00Z", "2026-11-02T06:00:00Z", 25);
        day("America/Chicago", "2026-11-01T07:30:00Z", long);
        let leap = ("2028-02-29", "2028-02-29T06:00:00Z", "2028-03-01T06:00:00Z", 24);
        day("America/Chicago", "2028-03-01T05:59:59Z", leap);
        let before_1970 = ("1969-12-31", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z", 24);
        day("UTC", "1969-12-31T23:00:00Z", before_1970);
    }

    #[test]
    fn months_end_where_they_end() {
        let month = |zone, at, expected| assert_period(Window::Month, zone, at, expected);
        let november = ("2026-11", "2026-11-01T05:00:00Z", "2026-12-01T06:00:00Z", 30 * 24 + 1);
        month("America/Chicago", "2026-11-30T23:59:59Z", november);
        let leap = ("2028-02", "2028-01-31T10:00:00Z", "2028-02-29T10:00:00Z", 29 * 24);
        month("Pacific/Kiritimati", "2028-02-15T00:00:00Z", leap);
        let december = ("2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", 31 * 24);
        month("UTC", "2026-12-31T23:59:59Z", december);
        // The longest there is.
        let october = ("2026-10", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z", 31 * 24 + 1);
        month("Europe/Berlin", "2026-10-25T00:30:00Z", october);
    }

    #[test]
    fn days_that_begin_or_end_oddly_still_hold_the_moment() {
        let day = |zone, at, expected| assert_period(Window::Day, zone, at, expected);
        // Clocks jump from midnight to one.
        let beirut = ("2026-03-29", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z", 23);
        day("Asia/Beirut", "2026-03-28T22:00:00Z", beirut);
        // Midnight comes twice: the first one begins the day.
        let havana = ("2020-11-01", "2020-11-01T04:00:00Z", "2020-11-02T05:00:00Z", 25);
        day("America/Havana", "2020-11-01T05:30:00Z", havana);
        // The 30th did not take place.
        let apia = ("2011-12-29", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", 24);
        day("Pacific/Apia", "2011-12-30T09:59:59Z", apia);
        // At 0:01 it was 23:01 again.
        let (name, .., end, _) = period(Window::Day, "America/St_Johns", "2010-11-07T03:00:00Z");
        assert_eq!((&*name, &*end), ("2010-11-06", "2010-11-07T03:00:01Z"));
    }

    #[test]
    fn every_second_lies_in_its_period_and_the_next_one_begins_where_it_ends() {
        let mut random = fastrand::Rng::with_seed(3);
        let names = ["UTC", "America/Chicago", "Pacific/Kiritimati", "Australia/Lord_Howe", "Asia/Beirut"];
        for name in names {
            let zone = TimeZone::get(name).unwrap();
            for _ in 0..2_000 {
                let now_s = random.i64(second("2015-01-01T00:00:00Z")..second("2040-01-01T00:00:00Z"));
                for window in [Window::Day, Window::Month] {
                    let period = Period::at(window, &zone, now_s).unwrap();
                    assert!(period.span_s.contains(&now_s), "{name} {now_s} {period:?}");
                    let last = Period::at(window, &zone, period.span_s.end - 1).unwrap();
                    assert_eq!(last, period, "{name}");
                    let next = Period::at(window, &zone, period.span_s.end).unwrap();
                    assert!(next.span_s.start == period.span_s.end && next.name > period.name, "{name}");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_shows_nonsense_finds_some_period() {
        for now_s in [i64::MIN, -1, i64::MAX] {
            let period = Period::at(Window::Month, &TimeZone::UTC, now_s).unwrap();
            assert!(period.span_s.start <= now_s && period.span_s.end >= now_s, "{period:?}");
        }
    }
}
