//! What a limit counts, and over which window.

use std::fmt;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    Requests,
    /// `$request_length` + `$bytes_sent`.
    Bytes,
    /// `$request_length` alone ("MB in").
    BytesIn,
    /// `$bytes_sent` alone ("MB out").
    BytesOut,
    /// Units of `weir_cost`.
    Cost,
}

impl Unit {
    /// Whether the cost of a request is known only when it has been answered.
    pub fn is_known_afterwards(self) -> bool {
        matches!(self, Unit::Bytes | Unit::BytesIn | Unit::BytesOut)
    }

    /// The word used in the policy, in counter names and on pages.
    pub fn word(self) -> &'static str {
        match self {
            Unit::Requests => "requests",
            Unit::Bytes => "bytes",
            Unit::BytesIn => "bytes in",
            Unit::BytesOut => "bytes out",
            Unit::Cost => "units",
        }
    }
}

/// The stretch of time a limit looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// Any interval of this many milliseconds, wherever it starts.
    Sliding { ms: u64 },
    /// The calendar day in the client's time zone.
    Day,
    /// The calendar month in the client's time zone.
    Month,
}

/// "At most `amount` of `unit` in `window`."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    pub amount: u64,
    pub unit: Unit,
    pub window: Window,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, word) = match *self {
            Window::Day => return f.write_str("day"),
            Window::Month => return f.write_str("month"),
            Window::Sliding { ms } if ms % 3_600_000 == 0 => (ms / 3_600_000, "hour"),
            Window::Sliding { ms } if ms % 60_000 == 0 => (ms / 60_000, "minute"),
            Window::Sliding { ms } if ms % 1_000 == 0 => (ms / 1_000, "second"),
            Window::Sliding { ms } => return write!(f, "{ms} ms"),
        };
        if n == 1 { f.write_str(word) } else { write!(f, "{n} {word}s") }
    }
}

/// `100 requests/minute`, as the policy spells it.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.amount, self.unit.word(), self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_spelt_as_in_the_policy() {
        let limit = |amount, unit, window| Limit { amount, unit, window }.to_string();
        assert_eq!(limit(100, Unit::Requests, Window::Sliding { ms: 60_000 }), "100 requests/minute");
        assert_eq!(limit(5, Unit::Cost, Window::Sliding { ms: 10_000 }), "5 units/10 seconds");
        assert_eq!(limit(7, Unit::BytesIn, Window::Day), "7 bytes in/day");
        assert_eq!(limit(1, Unit::Requests, Window::Sliding { ms: 86_400_000 }), "1 requests/24 hours");
    }
}
