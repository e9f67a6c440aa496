//! Which times the books know of. A time without records is one without traffic only if every gateway
//! was alive to say so: a sealed segment says from when to when its worker lived, also without a
//! record in it (docs/record.md), and what became of the worker.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::calendar::{DAY_US, MINUTE_US};
use crate::held::Held;

/// A pause between two lives of a gateway's workers that is no silence: a worker that died is replaced
/// within it, and a life is noted this exactly.
pub const BRIDGED_US: i64 = 15_000_000;

/// What is newer than this may be on its way still.
pub const ON_ITS_WAY_US: i64 = 5 * MINUTE_US;

/// A gateway that was silent for so long is not waited for any more.
pub const FORGOTTEN_US: i64 = DAY_US;

/// What became of a worker after the last that is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It goes on: more of it has to come.
    #[default]
    Open,
    /// It is gone and left nothing behind that is not here; whether another took its place, others say.
    Died,
    /// It was told to end.
    Closed,
}

/// When a worker is known to have lived, booking whatever it served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    pub gateway: String,
    /// The boot of its machine, hex; empty for imports.
    pub boot: String,
    /// Microseconds UTC.
    pub from_us: i64,
    pub to_us: i64,
    pub end: End,
}

impl Life {
    /// Numbers prove that nothing of a stream is missing between two of its segments, so its life is
    /// all that lies between the first and the last.
    pub fn union(&mut self, other: &Life) {
        self.from_us = self.from_us.min(other.from_us);
        self.to_us = self.to_us.max(other.to_us);
        self.end = self.end.max(other.end);
    }
}

/// A time of which nobody knows what one gateway did.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Silence {
    pub gateway: String,
    /// Microseconds UTC, half open.
    pub from_us: i64,
    pub to_us: i64,
}

/// What the books know of a range of time, and what they don't.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Known {
    /// The first sign of life of any gateway, microseconds UTC, looked for from a month before the
    /// range on. `None`: no gateway has left one (all are of a version that leaves none).
    pub since_us: Option<i64>,
    /// The newest of them, or up to when the collector says that all is in.
    pub to_us: Option<i64>,
    /// Within the range, by gateway and time.
    pub silent: Vec<Silence>,
    /// Of the numbers that are missing, those that a gateway said itself that it lost, by its reason.
    pub lost: BTreeMap<String, i64>,
}

impl Known {
    /// `held`: what the range holds; `all`: what is held of the same streams at any time.
    pub fn of(held: &Held, all: &Held, range: Range<i64>, complete_to_us: Option<i64>) -> Known {
        let mut gateways: BTreeMap<&str, Vec<&Life>> = BTreeMap::new();
        for life in all.0.values().filter_map(|stream| stream.life.as_ref()) {
            gateways.entry(&life.gateway).or_default().push(life);
        }
        let lives = || gateways.values().flatten();
        let to_us = lives().map(|life| life.to_us).max().map(|us| complete_to_us.unwrap_or(us).max(us));
        let mut known = Known { since_us: lives().map(|l| l.from_us).min(), to_us, ..Known::default() };
        for (gateway, lives) in gateways {
            for (from_us, to_us) in silences(lives, to_us.unwrap_or(0)) {
                let (from_us, to_us) = (from_us.max(range.start), to_us.min(range.end));
                if from_us < to_us {
                    known.silent.push(Silence { gateway: gateway.to_owned(), from_us, to_us });
                }
            }
        }
        for (id, stream) in &held.0 {
            for (reason, numbers) in &stream.lost {
                let found = all.0.get(id).map_or(0, |all| numbers.common(&all.held));
                let lost = i64::try_from(numbers.count() - found).unwrap_or(i64::MAX);
                if lost > 0 {
                    *known.lost.entry(reason.clone()).or_default() += lost;
                }
            }
        }
        known
    }

    /// Whether every gateway is known to have been there, or to have been stopped, all that time
    /// (microseconds UTC, half open): a step without records is then one without traffic. Not so before
    /// the first sign of life and after the newest.
    pub fn knows(&self, from_us: i64, to_us: i64) -> bool {
        let within =
            self.since_us.is_some_and(|us| us <= from_us) && self.to_us.is_some_and(|us| to_us <= us);
        within && !self.silent.iter().any(|s| s.from_us < to_us && from_us < s.to_us)
    }

    /// How long at least one gateway was silent, microseconds.
    pub fn silent_us(&self) -> i64 {
        let all = merged(self.silent.iter().map(|s| (s.from_us, s.to_us)).collect());
        all.iter().map(|(from, to)| to - from).sum()
    }
}

/// When a gateway with these lives was silent.
fn silences(mut lives: Vec<&Life>, newest_us: i64) -> Vec<(i64, i64)> {
    lives.sort_by_key(|life| life.from_us);
    let until = |from_us: i64, to_us: i64| (from_us, to_us.min(from_us.saturating_add(FORGOTTEN_US)));
    let late = |us: i64| newest_us - us > ON_ITS_WAY_US;
    let mut found = Vec::new();
    // Up to when somebody lived, and whether the last of them was told to end.
    let mut last: Option<(i64, bool)> = None;
    for life in &lives {
        if let Some((to_us, closed)) = last
            && !closed
            && life.from_us - to_us > BRIDGED_US
        {
            found.push(until(to_us, life.from_us));
        }
        if last.is_none_or(|(to_us, _)| life.to_us >= to_us) {
            last = Some((life.to_us, life.end == End::Closed));
        }
    }
    found.extend(last.filter(|(to_us, closed)| !closed && late(*to_us)).map(|(us, _)| until(us, newest_us)));
    // Others may have lived on, but of this worker there is more to come.
    let open = lives.iter().filter(|life| life.end == End::Open && late(life.to_us));
    found.extend(open.map(|life| until(life.to_us, newest_us)));
    merged(found)
}

fn merged(mut spans: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    spans.sort_unstable();
    let mut all: Vec<(i64, i64)> = Vec::new();
    for (from, to) in spans {
        match all.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => all.push((from, to)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::{Numbers, Stream};

    const HOUR: i64 = 60 * MINUTE_US;

    fn life(gateway: &str, from: i64, to: i64, end: End) -> Life {
        let (from_us, to_us) = (from * MINUTE_US, to * MINUTE_US);
        Life { gateway: gateway.to_owned(), boot: "b".to_owned(), from_us, to_us, end }
    }

    fn held(lives: &[Life]) -> Held {
        let stream = |life: &Life| Stream { life: Some(life.clone()), ..Stream::default() };
        Held(lives.iter().enumerate().map(|(n, life)| (format!("{n:032x}"), stream(life))).collect())
    }

    /// Silences in minutes.
    fn silent(lives: &[Life], complete_to: Option<i64>) -> Vec<(String, i64, i64)> {
        let held = held(lives);
        let known = Known::of(&held, &held, 0..100 * HOUR, complete_to.map(|m| m * MINUTE_US));
        known.silent.into_iter().map(|s| (s.gateway, s.from_us / MINUTE_US, s.to_us / MINUTE_US)).collect()
    }

    fn named(gateway: &str, from: i64, to: i64) -> (String, i64, i64) {
        (gateway.to_owned(), from, to)
    }

    #[test]
    fn a_gateway_that_is_replaced_by_itself_is_not_silent() {
        let reload =
            [life("a", 0, 30, End::Closed), life("a", 29, 60, End::Died), life("a", 60, 90, End::Open)];
        assert_eq!(silent(&reload, Some(92)), []);
        // Killed, and back within moments: a pause that is too short to say anything.
        let mut back = life("a", 30, 60, End::Open);
        back.from_us += BRIDGED_US;
        assert_eq!(silent(&[life("a", 0, 30, End::Died), back], None), []);
    }

    #[test]
    fn a_gateway_that_was_told_to_stop_is_known_to_have_none_and_one_that_died_is_not() {
        let others = life("b", 0, 300, End::Open);
        for (end, want) in [(End::Closed, vec![]), (End::Died, vec![named("a", 30, 90)])] {
            let lives = [life("a", 0, 30, end), life("a", 90, 300, End::Open), others.clone()];
            assert_eq!(silent(&lives, None), want);
        }
        assert_eq!(silent(&[life("a", 0, 30, End::Closed), others.clone()], None), []);
        assert_eq!(silent(&[life("a", 0, 30, End::Died), others], None), [named("a", 30, 300)]);
    }

    #[test]
    fn a_worker_that_goes_on_and_is_not_heard_makes_its_gateway_silent_though_others_speak() {
        let lives = [life("a", 0, 30, End::Open), life("a", 0, 300, End::Open)];
        assert_eq!(silent(&lives, None), [named("a", 30, 300)]);
        let late = [life("a", 0, 297, End::Open), life("a", 0, 300, End::Open)];
        assert_eq!(silent(&late, None), []);
        assert_eq!(silent(&late[..1], Some(310)), [named("a", 297, 310)]);
    }

    #[test]
    fn a_gateway_that_never_comes_back_is_waited_for_a_day() {
        let lives = [life("a", 0, 10, End::Open), life("b", 0, 3_000, End::Open)];
        assert_eq!(silent(&lives, None), [named("a", 10, 10 + 24 * 60)]);
    }

    #[test]
    fn what_is_known_lies_between_the_first_sign_of_life_and_the_newest() {
        let lives =
            [life("a", 10, 30, End::Died), life("a", 60, 90, End::Open), life("b", 40, 90, End::Open)];
        let held = held(&lives);
        let known = Known::of(&held, &held, 0..HOUR, None);
        assert_eq!((known.since_us, known.to_us), (Some(10 * MINUTE_US), Some(90 * MINUTE_US)));
        for (from, to, knows) in
            [(9, 12, false), (10, 30, true), (29, 31, false), (60, 90, true), (85, 91, false)]
        {
            assert_eq!(known.knows(from * MINUTE_US, to * MINUTE_US), knows, "{from} to {to}");
        }
        assert_eq!(known.silent_us(), 30 * MINUTE_US);
        assert_eq!(Known::of(&Held::default(), &Held::default(), 0..HOUR, Some(HOUR)), Known::default());
    }

    #[test]
    fn what_a_gateway_says_it_lost_counts_unless_it_came_after_all() {
        let mut numbers = Numbers::default();
        (10..20).for_each(|n| numbers.insert(n));
        let lost = BTreeMap::from([("no_room".to_owned(), numbers)]);
        let stream = Stream { lost, ..Stream::default() };
        let held = Held(BTreeMap::from([("s".to_owned(), stream)]));
        let mut all = held.clone();
        let told = |all: &Held| Known::of(&held, all, 0..HOUR, None).lost;
        assert_eq!(told(&all), BTreeMap::from([("no_room".to_owned(), 10)]));
        all.0.get_mut("s").unwrap().held.insert(12);
        assert_eq!(told(&all), BTreeMap::from([("no_room".to_owned(), 9)]));
    }
}
