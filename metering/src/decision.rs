//! The words for what became of a request, after nginx's own `$limit_req_status`.

use std::fmt;

/// What was decided about one request. The discriminants are part of the spool's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Decision {
    Passed = 0,
    Delayed = 1,
    Rejected = 2,
    /// It would have been delayed or rejected, had it not been a dry run.
    DelayedDryRun = 3,
    RejectedDryRun = 4,
    /// Decided by `weir_fallback`, since Redis could not be asked.
    PassedDegraded = 5,
    DelayedDegraded = 6,
    RejectedDegraded = 7,
    /// Over a limit and let through, within the ceiling of `over = "degrade up to …"`.
    Over = 8,
    /// It would have been, had it not been a dry run.
    OverDryRun = 9,
    /// The same, decided by `weir_fallback`.
    OverDegraded = 10,
}

impl Decision {
    pub const ALL: [Decision; 11] = [
        Decision::Passed,
        Decision::Delayed,
        Decision::Rejected,
        Decision::DelayedDryRun,
        Decision::RejectedDryRun,
        Decision::PassedDegraded,
        Decision::DelayedDegraded,
        Decision::RejectedDegraded,
        Decision::Over,
        Decision::OverDryRun,
        Decision::OverDegraded,
    ];

    pub fn from_code(code: u8) -> Option<Decision> {
        Decision::ALL.get(usize::from(code)).copied()
    }

    /// The word in `$weir_status`, records, columns and pages.
    pub fn word(self) -> &'static str {
        match self {
            Decision::Passed => "PASSED",
            Decision::Delayed => "DELAYED",
            Decision::Rejected => "REJECTED",
            Decision::DelayedDryRun => "DELAYED_DRY_RUN",
            Decision::RejectedDryRun => "REJECTED_DRY_RUN",
            Decision::PassedDegraded => "PASSED_DEGRADED",
            Decision::DelayedDegraded => "DELAYED_DEGRADED",
            Decision::RejectedDegraded => "REJECTED_DEGRADED",
            Decision::Over => "OVER",
            Decision::OverDryRun => "OVER_DRY_RUN",
            Decision::OverDegraded => "OVER_DEGRADED",
        }
    }

    /// Whether the client was turned away.
    pub fn is_refusal(self) -> bool {
        matches!(self, Decision::Rejected | Decision::RejectedDegraded)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_positions() {
        for (i, d) in Decision::ALL.into_iter().enumerate() {
            assert_eq!(d as usize, i);
            assert_eq!(Decision::from_code(i as u8), Some(d));
        }
        assert_eq!(Decision::from_code(11), None);
    }
}
