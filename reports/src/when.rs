//! Moments as people read them, in one time zone that is always named.

use jiff::{Timestamp, ZonedDateTime, tz::TimeZone};

/// The time zone of a page or a mail.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    zone: TimeZone,
    name: String,
}

impl std::hash::Hash for Zone {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Zone {
    pub fn utc() -> Zone {
        Zone { zone: TimeZone::UTC, name: "UTC".to_string() }
    }

    /// The zone of an IANA name. A name that nobody knows is UTC: the policy's check refuses it, and
    /// a page in UTC is better than none.
    pub fn named(name: &str) -> Zone {
        match TimeZone::get(name) {
            Ok(zone) => Zone { zone, name: name.to_string() },
            Err(_) => Zone::utc(),
        }
    }

    pub fn is_utc(&self) -> bool {
        self.zone == TimeZone::UTC
    }

    /// The name to print beside times: `America/Chicago`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Microseconds since the Unix epoch as local time. Moments beyond what a calendar holds are
    /// those at its ends.
    pub fn at(&self, us: i64) -> ZonedDateTime {
        let moment =
            Timestamp::from_microsecond(us).unwrap_or(if us < 0 { Timestamp::MIN } else { Timestamp::MAX });
        ZonedDateTime::new(moment, self.zone.clone())
    }

    /// `14:05`
    pub fn time(&self, us: i64) -> String {
        self.at(us).strftime("%H:%M").to_string()
    }

    /// `24 Nov`
    pub fn day(&self, us: i64) -> String {
        self.at(us).strftime("%-d %b").to_string()
    }

    /// `Nov 2026`
    pub fn month(&self, us: i64) -> String {
        self.at(us).strftime("%b %Y").to_string()
    }

    /// `24 Nov 2026, 14:05`
    pub fn moment(&self, us: i64) -> String {
        self.at(us).strftime("%-d %b %Y, %H:%M").to_string()
    }

    /// `24 Nov 2026, 14:05 UTC`, or with the abbreviation of another zone and UTC beside it:
    /// `24 Nov 2026, 08:05 CST (14:05 UTC)`.
    pub fn moment_named(&self, us: i64) -> String {
        self.named_as(us, "%-d %b %Y, %H:%M")
    }

    /// `14:05 UTC` or `08:05 CST (14:05 UTC)`.
    pub fn time_named(&self, us: i64) -> String {
        self.named_as(us, "%H:%M")
    }

    fn named_as(&self, us: i64, format: &str) -> String {
        let local = self.at(us);
        if self.is_utc() {
            return format!("{} UTC", local.strftime(format));
        }
        let utc = Zone::utc().at(us);
        let day = if utc.date() == local.date() { "" } else { "%-d %b, " };
        format!(
            "{} {} ({}UTC)",
            local.strftime(format),
            local.strftime("%Z"),
            utc.strftime(&format!("{day}%H:%M "))
        )
    }

    /// A range of time: `24 Nov 2026, 13:05 to 14:05`, with the day again when it is another.
    pub fn range(&self, from_us: i64, to_us: i64) -> String {
        let same_day = self.at(from_us).date() == self.at(to_us).date();
        let end = if same_day { self.time(to_us) } else { self.moment(to_us) };
        format!("{} to {end}", self.moment(from_us))
    }

    /// For `<time datetime>`: `2026-11-24T14:05:00Z`.
    pub fn machine(us: i64) -> String {
        Zone::utc().at(us).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// How long something lasts, in its one or two largest units: `3 h 20 min`.
pub fn lasting(us: i64) -> String {
    let minutes = us.max(0) / 60_000_000;
    match minutes {
        0 => "less than a minute".to_string(),
        1..60 => format!("{minutes} min"),
        60..1440 if minutes % 60 == 0 => format!("{} h", minutes / 60),
        60..1440 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ if minutes / 60 % 24 == 0 => format!("{} d", minutes / 1440),
        _ => format!("{} d {} h", minutes / 1440, minutes / 60 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 24 Nov 2026, 14:05 UTC.
    const MOMENT: i64 = 1_795_529_100_000_000;

    #[test]
    fn utc_is_named() {
        let utc = Zone::utc();
        assert_eq!(utc.moment_named(MOMENT), "24 Nov 2026, 14:05 UTC");
        assert_eq!(utc.time_named(MOMENT), "14:05 UTC");
        assert_eq!(Zone::machine(MOMENT), "2026-11-24T14:05:00Z");
    }

    #[test]
    fn another_zone_has_utc_beside_it() {
        let chicago = Zone::named("America/Chicago");
        assert_eq!(chicago.time_named(MOMENT), "08:05 CST (14:05 UTC)");
        let tokyo = Zone::named("Asia/Tokyo");
        assert_eq!(tokyo.time_named(MOMENT + 3_600_000_000), "00:05 JST (24 Nov, 15:05 UTC)");
        assert_eq!(Zone::named("Nowhere/Land"), Zone::utc());
    }

    #[test]
    fn a_range_names_a_day_once() {
        let utc = Zone::utc();
        let hour = 3_600_000_000;
        assert_eq!(utc.range(MOMENT - hour, MOMENT), "24 Nov 2026, 13:05 to 14:05");
        assert_eq!(utc.range(MOMENT - 24 * hour, MOMENT), "23 Nov 2026, 14:05 to 24 Nov 2026, 14:05");
    }

    #[test]
    fn moments_beyond_the_calendar_do_not_panic() {
        for us in [i64::MIN, i64::MAX, 0] {
            assert!(!Zone::named("Asia/Kathmandu").moment_named(us).is_empty());
        }
    }

    #[test]
    fn durations_are_in_their_largest_units() {
        let minute = 60_000_000;
        for (us, want) in [
            (-5, "less than a minute"),
            (7 * minute, "7 min"),
            (200 * minute, "3 h 20 min"),
            (120 * minute, "2 h"),
            (1440 * minute, "1 d"),
            (1500 * minute, "1 d 1 h"),
        ] {
            assert_eq!(lasting(us), want);
        }
    }
}
