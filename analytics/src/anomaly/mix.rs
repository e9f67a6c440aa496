//! What the requests of an hour are made of: whether a client asks for other endpoints than it usually
//! does, and who or what most of a burst is. The formulas are in docs/findings.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judge::{AS_GRAVE, DAY, HISTORY, Judged, is_rare, median, past_of, same_hours, scatter};
use super::series::{Hours, Subject};
use super::{Kind, LEAST_SAMPLE};

/// The least part of the requests that has to be of other endpoints than usual.
pub const LEAST_MOVED: f64 = 0.25;

/// The least that this part scatters by.
const LEAST_SCATTER: f64 = 0.03;

const LEAST_SCORE: f64 = 5.0;

/// Less than half is not most.
const MOST: f64 = 0.5;

/// A part of all requests of an hour, and what is usual then; 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `POST /orders`; a client.
    pub name: String,
    pub share: f64,
    pub usual: f64,
}

/// The requests of a subject by the hour, and those of its parts.
pub struct Parts<'a> {
    whole: &'a [f64],
    of: Vec<(&'a str, &'a [f64])>,
}

/// How far an hour is from others: the part of its requests that went elsewhere, and how much of that is
/// chance.
#[derive(Clone, Copy)]
struct Away {
    moved: f64,
    chance: f64,
}

impl<'a> Parts<'a> {
    /// The endpoints of a client; the clients of the whole; an endpoint has none.
    pub fn of(subject: &Subject, hours: &'a Hours, all: &'a BTreeMap<Subject, Hours>) -> Parts<'a> {
        let named = |(part, hours): (&'a Subject, &'a Hours)| {
            let name = if subject.client.is_some() { &part.endpoint } else { &part.client };
            Some((name.as_deref()?, hours.requests.as_slice()))
        };
        let of = match (&subject.client, &subject.endpoint) {
            (_, Some(_)) => Vec::new(),
            (Some(_), None) => all
                .range(subject..)
                .take_while(|(s, _)| s.client == subject.client)
                .filter_map(named)
                .collect(),
            (None, None) => all.iter().filter(|(s, _)| s.endpoint.is_none()).filter_map(named).collect(),
        };
        Parts { whole: &hours.requests, of }
    }

    /// Judges the mix of an hour by those before it. The value is a share: that of the part that changed
    /// most.
    pub fn judge(&self, at: usize) -> Option<(Kind, Judged)> {
        let from = (at + 1).saturating_sub(HISTORY);
        let Away { moved, chance } = self.away(at, from)?;
        // The hours of the past are only asked for when there is a reason to.
        if moved - chance <= LEAST_MOVED {
            return None;
        }
        let judge_hour = |hour| Some((hour, self.away(hour, from)?.moved));
        let past: Vec<(usize, f64)> = past_of(at, from).filter_map(judge_hour).collect();
        let usual = median(past.iter().map(|(_, moved)| *moved).collect())?;
        let scatter = scatter(past.iter().map(|(_, moved)| moved - usual))?.max(chance).max(LEAST_SCATTER);
        let score = (moved - usual) / scatter;
        let as_far = past.iter().filter(|(_, other)| *other >= moved).map(|(hour, _)| *hour);
        if score <= LEAST_SCORE || !is_rare(as_far, past.len(), AS_GRAVE) {
            return None;
        }
        let part = self.changed_most(at)?;
        Some((Kind::Mix, Judged { value: part.share, expected: part.usual, usual: scatter, score }))
    }

    /// From the hours that it should be like, or from the day before, whichever is nearer: what changed
    /// for good is usual after a day.
    fn away(&self, at: usize, from: usize) -> Option<Away> {
        let like = self.away_from(at, &self.alike(at, from)?)?;
        let day: Vec<usize> = (at.saturating_sub(DAY).max(from)..at).collect();
        let day = self.away_from(at, &day).unwrap_or(like);
        Some(if day.moved < like.moved { day } else { like })
    }

    /// The same hours of the last weeks, or days, of which something is known.
    fn alike(&self, at: usize, from: usize) -> Option<Vec<usize>> {
        let known = |step, times| -> Vec<usize> {
            same_hours(at, from, step, times).filter(|&hour| self.whole[hour] > 0.0).collect()
        };
        let weeks = known(7 * DAY, 4);
        let found = if weeks.len() >= 6 { weeks } else { known(DAY, 7) };
        (at >= from + 2 * DAY && found.len() >= 3).then_some(found)
    }

    fn away_from(&self, at: usize, hours: &[usize]) -> Option<Away> {
        let n = self.whole[at];
        let m: f64 = hours.iter().map(|&hour| known(self.whole, hour)).sum();
        if n.is_nan() || n < LEAST_SAMPLE || m < LEAST_SAMPLE {
            return None;
        }
        let mut away = Away { moved: 0.0, chance: 0.0 };
        for (_, part) in &self.of {
            let (is, was) = (known(part, at), hours.iter().map(|&hour| known(part, hour)).sum::<f64>());
            let both = (is + was) / (n + m);
            away.moved += (is / n - was / m).abs() / 2.0;
            // The mean of |x| of a normal deviate is its deviation times the root of 2 / π.
            let deviation = (both * (1.0 - both).max(0.0) * (1.0 / n + 1.0 / m)).sqrt();
            away.chance += deviation * std::f64::consts::FRAC_2_PI.sqrt() / 2.0;
        }
        Some(away)
    }

    /// A part at an hour.
    fn part(&self, (name, part): &(&str, &[f64]), at: usize, alike: &[usize]) -> Part {
        let sum = |series: &[f64]| alike.iter().map(|&hour| known(series, hour)).sum::<f64>();
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        Part {
            name: (*name).to_owned(),
            share: share(known(part, at), known(self.whole, at)),
            usual: share(sum(part), sum(self.whole)),
        }
    }

    fn parts(&self, at: usize) -> Vec<Part> {
        let alike = self.alike(at, (at + 1).saturating_sub(HISTORY)).unwrap_or_default();
        self.of.iter().map(|part| self.part(part, at, &alike)).collect()
    }

    /// The part whose share changed most at an hour.
    pub fn changed_most(&self, at: usize) -> Option<Part> {
        let changed = |part: &Part| (part.share - part.usual).abs();
        self.parts(at).into_iter().max_by(|a, b| changed(a).total_cmp(&changed(b)))
    }

    /// The part that most of an hour is, where there are several.
    pub fn most(&self, at: usize) -> Option<Part> {
        let largest = self.parts(at).into_iter().max_by(|a, b| a.share.total_cmp(&b.share));
        largest.filter(|part| part.share >= MOST && self.of.len() > 1)
    }

    /// What a part's share was at an hour and what was usual; `None` where nothing is known.
    pub fn share(&self, name: &str, at: usize) -> Option<Part> {
        let part = self.of.iter().find(|(other, _)| *other == name).filter(|_| self.whole[at] > 0.0)?;
        let alike = self.alike(at, (at + 1).saturating_sub(HISTORY)).unwrap_or_default();
        Some(self.part(part, at, &alike))
    }
}

/// Before a part's first request there was none of it.
fn known(series: &[f64], hour: usize) -> f64 {
    if series[hour].is_nan() { 0.0 } else { series[hour] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOURS: usize = 8 * 7 * DAY;
    const FROM: usize = 6 * 7 * DAY;

    /// So many of `n` requests by chance.
    fn chance(rng: &mut fastrand::Rng, n: u32, share: f64) -> f64 {
        f64::from((0..n).map(|_| u32::from(rng.f64() < share)).sum::<u32>())
    }

    /// A client with `n` requests an hour to four endpoints; a batch of reports every night, and shares
    /// that wander a little by the hour.
    fn client(rng: &mut fastrand::Rng, n: u32) -> Vec<Vec<f64>> {
        let mut parts = vec![Vec::new(); 4];
        for hour in 0..HOURS {
            let reports = if hour % DAY < 3 { 0.6 } else { 0.05 };
            let wander = 0.85 + 0.3 * rng.f64();
            let mut left = n;
            for (part, share) in [(0, reports), (1, 0.5 * wander), (2, 0.6)] {
                let asked = chance(rng, left, share);
                parts[part].push(asked);
                left -= asked as u32;
            }
            parts[3].push(f64::from(left));
        }
        parts
    }

    fn judged(parts: &[Vec<f64>], at: usize) -> Option<(Judged, Part)> {
        let whole: Vec<f64> = (0..HOURS).map(|hour| parts.iter().map(|part| part[hour]).sum()).collect();
        let names = ["reports", "items", "search", "orders"];
        let of = names.into_iter().zip(parts.iter().map(Vec::as_slice)).collect();
        let parts = Parts { whole: &whole, of };
        Some((parts.judge(at)?.1, parts.changed_most(at)?))
    }

    #[test]
    fn another_mix_is_told_with_what_changed_most() {
        let mut rng = fastrand::Rng::with_seed(4);
        for n in [60, 600] {
            let found = (0..20).filter(|_| {
                let mut parts = client(&mut rng, n);
                let at = rng.usize(FROM..HOURS);
                // As many requests as ever, nearly all of them to one endpoint.
                let moved: f64 = parts[..3].iter().map(|part| (part[at] * 0.9).floor()).sum();
                parts[..3].iter_mut().for_each(|part| part[at] -= (part[at] * 0.9).floor());
                parts[3][at] += moved;
                judged(&parts, at).is_some_and(|(judged, part)| {
                    part.name == "orders" && judged.value > 0.8 && judged.expected < 0.4
                })
            });
            assert!(found.count() >= 19, "of 20 with {n} requests an hour");
        }
    }

    #[test]
    fn chance_and_the_batch_of_every_night_are_nothing_to_tell() {
        let mut rng = fastrand::Rng::with_seed(5);
        let told = |n| {
            let parts = client(&mut rng, n);
            (FROM..HOURS).filter(|&at| judged(&parts, at).is_some()).count()
        };
        let told: usize = [20, 55, 60, 80, 100, 300].map(told).into_iter().sum();
        assert_eq!(told, 0, "of {} hours", 6 * (HOURS - FROM));
    }

    #[test]
    fn a_mix_that_changes_for_good_is_usual_after_a_day() {
        let mut rng = fastrand::Rng::with_seed(6);
        let mut parts = client(&mut rng, 200);
        // The client asks through another endpoint now.
        let [_, _, search, orders] = &mut parts[..] else { panic!() };
        for (from, to) in search[FROM..].iter_mut().zip(&mut orders[FROM..]) {
            *to += std::mem::take(from);
        }
        assert!(judged(&parts, FROM + 4).is_some());
        assert!((FROM + DAY..HOURS).all(|at| judged(&parts, at).is_none()));
    }
}
