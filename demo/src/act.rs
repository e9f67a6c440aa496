//! The play: calm, then a retry loop without limits, then with them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir_testbed::load::{self, Sample, Summary};
use weir_testbed::wait;
use weir_testbed::windows::most_certain_in_any;

use crate::DemoError;
use crate::clients::{self, Client, OVER, PARTNER};
use crate::stage::Stage;
use crate::{interrupt, traffic};

const PHASES: u32 = 3;
/// After limits came into force, the time in which the backend works off its queue.
const SETTLE_US: u64 = 500_000;

/// How often the time is told.
const STEP: Duration = Duration::from_secs(1);

/// Everything that was seen from the clients' side.
pub struct Seen {
    /// The clients' own traffic, all phases.
    everyday: Vec<Sample>,
    /// The retry loop.
    storm: Vec<Sample>,
    /// The starts of the three phases, and the end, in microseconds.
    starts_us: [u64; 4],
    /// When the policy with limits was written.
    switched_us: u64,
    /// Whether the workers of before the switch were those of the end.
    pub same_workers: bool,
}

/// How the partner fared once limits were on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Partner {
    /// Requests of the loop a minute, as sent while limits were on.
    pub sent_per_minute: f64,
    pub admitted: usize,
    pub refused: usize,
    pub worst_second: usize,
    pub worst_minute: usize,
}

/// Sends everything. `tell` is called again and again with the number of the phase and the time
/// spent in it.
pub fn play(
    stage: &Stage,
    clients: &[Client],
    length: Duration,
    tell: impl Fn(usize, Duration),
) -> Result<Seen, DemoError> {
    let (epoch, workers) = (Instant::now(), stage.workers());
    let micros = || epoch.elapsed().as_micros() as u64;
    let everyday = load::start(traffic::everyday(clients, stage.ports(), PHASES, length), epoch);
    pass(length, |spent| tell(0, spent))?;
    let off_us = micros();
    let storm = load::start(traffic::storm(clients, stage.ports(), length * 2), epoch);
    pass(length, |spent| tell(1, spent))?;
    let switched_us = micros();
    stage.limits_on(clients)?;
    pass(length, |spent| tell(2, spent))?;
    let (everyday, storm) = (everyday.join(), storm.join());
    let starts_us = [0, off_us, switched_us, micros()];
    let same_workers = stage.workers() == workers;
    Ok(Seen { everyday, storm, starts_us, switched_us, same_workers })
}

/// Lets time pass and tells it each second, unless somebody wants an end.
fn pass(length: Duration, tell: impl Fn(Duration)) -> Result<(), DemoError> {
    let begun = Instant::now();
    loop {
        let spent = begun.elapsed().min(length);
        tell(spent);
        if spent == length {
            return Ok(());
        }
        if wait::until(STEP.min(length - spent), interrupt::asked) {
            return Err(DemoError::Interrupted);
        }
    }
}

impl Seen {
    /// How all clients but the partner fared in a phase (0 to 2); the last one counts from when
    /// limits were in force.
    pub fn others(&self, phase: usize) -> Summary {
        let from = if phase == 2 { self.settled_us() } else { self.starts_us[phase] };
        let until = self.starts_us[phase + 1];
        let due = |s: &&Sample| (from..until).contains(&s.due_us);
        Summary::of(self.everyday.iter().filter(|s| s.client != PARTNER as u32).filter(due))
    }

    /// Refusals of clients that kept to their limits: all but the partner and the one that was
    /// made to use up its hourly limit.
    pub fn undue_refusals(&self) -> usize {
        let bound = [PARTNER as u32, OVER as u32];
        self.everyday.iter().filter(|s| s.status == 429 && !bound.contains(&s.client)).count()
    }

    /// When the partner had been refused by both gateways, in microseconds; `None` when one of them
    /// never did.
    fn in_force_us(&self) -> Option<u64> {
        let first = |gateway: u32| {
            self.storm.iter().filter(|s| s.shot == gateway && s.status == 429).map(|s| s.done_us).min()
        };
        Some(first(0)?.max(first(1)?))
    }

    fn settled_us(&self) -> u64 {
        self.in_force_us().unwrap_or(self.switched_us) + SETTLE_US
    }

    /// How long the switch took to be in force on both gateways.
    pub fn switch(&self) -> Option<Duration> {
        self.in_force_us().map(|us| Duration::from_micros(us.saturating_sub(self.switched_us)))
    }

    /// What both gateways together let the partner have, its own traffic included.
    pub fn partner(&self) -> Partner {
        let Some(from) = self.in_force_us() else {
            return Partner::default();
        };
        let all: Vec<&Sample> = self.of(PARTNER).filter(|s| s.sent_us >= from).collect();
        let passed = all.iter().filter(|s| s.status != 429 && s.status != 0);
        let mut spans: Vec<(u64, u64)> = passed.map(|s| (s.sent_us, s.done_us)).collect();
        let last = all.iter().map(|s| s.sent_us).max().unwrap_or(from);
        Partner {
            sent_per_minute: all.len() as f64 * 60e6 / (last - from).max(1) as f64,
            admitted: spans.len(),
            refused: all.iter().filter(|s| s.status == 429).count(),
            worst_second: most_certain_in_any(&mut spans, 1_000_000),
            worst_minute: most_certain_in_any(&mut spans, 60_000_000),
        }
    }

    fn of(&self, client: usize) -> impl Iterator<Item = &Sample> {
        self.all().filter(move |s| s.client as usize == client)
    }

    fn all(&self) -> impl Iterator<Item = &Sample> {
        self.everyday.iter().chain(&self.storm)
    }

    /// Requests that got an answer, and those that did not.
    pub fn answered(&self) -> (usize, usize) {
        let answered = self.all().filter(|s| s.status != 0).count();
        (answered, self.everyday.len() + self.storm.len() - answered)
    }

    /// Answered requests by client id.
    pub fn by_client(&self, clients: &[Client]) -> BTreeMap<String, i64> {
        let mut sums = BTreeMap::new();
        for sample in self.all().filter(|s| s.status != 0) {
            *sums.entry(clients[sample.client as usize].id.clone()).or_default() += 1;
        }
        sums
    }
}

/// Gives two clients an hourly limit that this play's traffic brings to 87 % and beyond 100 %.
pub fn set_hourly_limits(clients: &mut [Client], length: Duration) {
    let plan = traffic::everyday(clients, [1, 2], PHASES, length);
    let (near, over) = (traffic::calls_of(&plan, clients::NEAR), traffic::calls_of(&plan, OVER));
    clients[clients::NEAR].per_hour = Some(near * 100 / 87);
    clients[OVER].per_hour = Some(over * 70 / 100);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(client: usize, shot: u32, status: u16, at_us: u64) -> Sample {
        let (client, done_us) = (client as u32, at_us + 1_000);
        Sample { client, shot, status, bytes: 0, due_us: at_us, sent_us: at_us, done_us }
    }

    fn seen() -> Seen {
        let second = 1_000_000;
        let mut storm = vec![sample(PARTNER, 0, 200, 15 * second), sample(PARTNER, 1, 503, 16 * second)];
        storm.extend([sample(PARTNER, 0, 429, 21 * second), sample(PARTNER, 1, 429, 22 * second)]);
        storm.extend((0..5).map(|i| sample(PARTNER, i % 2, 200, 23 * second + u64::from(i))));
        storm.push(sample(PARTNER, 0, 200, 25 * second));
        let everyday = vec![
            sample(3, 0, 200, 5 * second),
            sample(3, 0, 500, 15 * second),
            sample(3, 0, 503, 21 * second),
            sample(3, 0, 200, 25 * second),
            sample(OVER, 0, 429, 26 * second),
            sample(4, 0, 0, 27 * second),
        ];
        let starts_us = [0, 10, 20, 30].map(|s| s * second);
        Seen { everyday, storm, starts_us, switched_us: 20 * second, same_workers: true }
    }

    #[test]
    fn the_partner_is_counted_from_when_both_gateways_refuse() {
        let seen = seen();
        assert_eq!(seen.switch(), Some(Duration::from_millis(2_001)));
        let partner = seen.partner();
        assert_eq!((partner.admitted, partner.refused), (6, 0));
        assert_eq!((partner.worst_second, partner.worst_minute), (5, 6));
    }

    #[test]
    fn the_others_are_counted_without_the_partner_phase_by_phase() {
        let seen = seen();
        let shares: Vec<(usize, usize)> =
            (0..3).map(|p| seen.others(p)).map(|s| (s.requests, s.errors)).collect();
        // The 503 at second 21 came before limits were in force.
        assert_eq!(shares, [(1, 0), (1, 1), (3, 1)]);
        assert_eq!(seen.undue_refusals(), 0);
        assert_eq!(seen.answered(), (15, 1));
    }

    #[test]
    fn two_clients_come_to_87_and_beyond_100_percent() {
        let (mut all, length) = (clients::all(), Duration::from_secs(18));
        set_hourly_limits(&mut all, length);
        let plan = traffic::everyday(&all, [1, 2], PHASES, length);
        let share = |c: usize| traffic::calls_of(&plan, c) as f64 / all[c].per_hour.unwrap() as f64;
        assert!((0.85..0.90).contains(&share(clients::NEAR)), "{}", share(clients::NEAR));
        assert!(share(OVER) > 1.3);
    }
}
