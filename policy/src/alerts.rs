//! Who is told of what, and when not: `[alerts]` and `[clients.ID.alerts]`.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What can be muted: the kinds of findings.
pub const ALERT_KINDS: [&str; 6] =
    ["quota_threshold", "quota_exhausted", "sustained_refusals", "anomaly", "objective_burn", "forecast"];

/// `[alerts]`: what the platform team is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// Mail addresses; empty where the policy has no `[alerts]`.
    pub to: Vec<Box<str>>,
    /// Percent of a limit, ascending.
    pub thresholds: Vec<u16>,
    /// The shortest time between two mails about the same thing, in seconds.
    pub cooldown_s: u64,
    pub quiet: Option<Quiet>,
    /// Of the quiet hours, and of the times in mails; UTC where there is none.
    pub timezone: Option<Arc<str>>,
    pub mute: Vec<Mute>,
    /// By the client's id; most say nothing.
    pub clients: BTreeMap<Box<str>, ClientAlerts>,
}

impl Default for Alerts {
    fn default() -> Alerts {
        Alerts {
            to: Vec::new(),
            thresholds: vec![80, 90, 100],
            cooldown_s: 6 * 3_600,
            quiet: None,
            timezone: None,
            mute: Vec::new(),
            clients: BTreeMap::new(),
        }
    }
}

/// `[clients.ID.alerts]`: what one client's contacts want to hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAlerts {
    /// Over those of `[alerts]`.
    pub thresholds: Option<Vec<u16>>,
    pub quiet: Option<Quiet>,
    /// Of [`ALERT_KINDS`].
    pub mute: Vec<Box<str>>,
}

/// `quiet = "22:00-07:00"`: hours in which only what can't wait is sent. Minutes of the day in the
/// recipient's time zone; they go over midnight where the first is not before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    pub from_min: u16,
    pub to_min: u16,
}

impl Quiet {
    pub fn covers(self, minute_of_day: u16) -> bool {
        let (after, before) = (minute_of_day >= self.from_min, minute_of_day < self.to_min);
        if self.from_min < self.to_min { after && before } else { after || before }
    }
}

/// `[[alerts.mute]]`: what is told to nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mute {
    /// Of this client alone; of all, and of the service as a whole, where there is none.
    pub client: Option<Box<str>>,
    /// One of [`ALERT_KINDS`]; all where there is none.
    pub kind: Option<Box<str>>,
    /// Seconds since 1970; `i64::MAX` where no end is said.
    pub until_s: i64,
}

impl Mute {
    pub fn covers(&self, client: Option<&str>, kind: &str, now_s: i64) -> bool {
        now_s < self.until_s
            && self.client.as_deref().is_none_or(|muted| Some(muted) == client)
            && self.kind.as_deref().is_none_or(|muted| muted == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_may_go_over_midnight() {
        let night = Quiet { from_min: 22 * 60, to_min: 7 * 60 };
        let quiet: Vec<u16> = (0..24).filter(|hour| night.covers(hour * 60)).collect();
        assert_eq!(quiet, [0, 1, 2, 3, 4, 5, 6, 22, 23]);
        let noon = Quiet { from_min: 12 * 60, to_min: 13 * 60 };
        assert!(!noon.covers(719) && noon.covers(720) && noon.covers(779) && !noon.covers(780));
    }

    #[test]
    fn a_mute_covers_what_it_names_until_it_ends() {
        let mute = Mute { client: Some("a".into()), kind: Some("anomaly".into()), until_s: 100 };
        assert!(mute.covers(Some("a"), "anomaly", 99));
        assert!(!mute.covers(Some("a"), "anomaly", 100));
        assert!(!mute.covers(Some("b"), "anomaly", 99) && !mute.covers(None, "anomaly", 99));
        assert!(!mute.covers(Some("a"), "forecast", 99));
        let all = Mute { client: None, kind: None, until_s: i64::MAX };
        assert!(all.covers(None, "forecast", 0) && all.covers(Some("b"), "anomaly", 0));
    }
}
