//! Grains and moments as arguments.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use weir_analytics::view::Grain;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum GrainArg {
    Minute,
    Hour,
    Day,
    Month,
}

impl GrainArg {
    pub fn grain(self) -> Grain {
        match self {
            GrainArg::Minute => Grain::Minute,
            GrainArg::Hour => Grain::Hour,
            GrainArg::Day => Grain::Day,
            GrainArg::Month => Grain::Month,
        }
    }
}

/// What an export has rows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RowsArg {
    /// Every single request
    Record,
    Minute,
    Hour,
    Day,
    Month,
}

impl RowsArg {
    /// The roll-up; `None` for single records.
    pub fn grain(self) -> Option<Grain> {
        match self {
            RowsArg::Record => None,
            RowsArg::Minute => Some(Grain::Minute),
            RowsArg::Hour => Some(Grain::Hour),
            RowsArg::Day => Some(Grain::Day),
            RowsArg::Month => Some(Grain::Month),
        }
    }
}

/// A moment: `2026-11-24` (its beginning, UTC) or `2026-11-24T13:00:00Z`.
pub fn moment(text: &str) -> Result<i64, String> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_microsecond());
    }
    let date: Date = text.parse().map_err(|_| "use 2026-11-24 or 2026-11-24T13:00:00Z".to_owned())?;
    let start = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).map_err(|e| e.to_string())?;
    Ok(start.as_microsecond())
}

/// A moment as text, UTC.
pub fn spelled(time_us: i64) -> String {
    Timestamp::from_microsecond(time_us).map_or_else(|_| time_us.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_or_times_in_utc() {
        assert_eq!(moment("1970-01-02"), Ok(86_400_000_000));
        assert_eq!(moment("1970-01-01T01:00:00+01:00"), Ok(0));
        assert!(moment("noon").is_err());
        assert_eq!(spelled(86_400_000_000), "1970-01-02T00:00:00Z");
    }
}
