//! Counts a scenario twice, from the clients' side and from the records, and holds both against what
//! docs/limiter.md promises. It knows nothing of leases.

use std::collections::{BTreeMap, HashMap};

use weir_metering::Decision;
use weir_testbed::load::{Sample, quantile_us};
use weir_testbed::windows::{Span, fullest_for_certain, most_possible_in_any};

use crate::books::Booked;
use crate::crowd::{Client, Counted, Limit, Manners, Place, TOGETHER};
use crate::faults::{Fault, RECOVERY_S};
use crate::world::{KeptBy, Setting, World};

/// Who tries so long after the end of a trouble, and was not served since, is not served again.
const PATIENCE_US: u64 = 5_000_000;

/// A machine that has time for the scenario sends 99 of 100 requests within so long of when they are due.
const PUNCTUAL_MS: u64 = 50;

/// What there is to look at.
pub struct Evidence<'a> {
    pub clients: &'a [Client],
    pub samples: &'a [Sample],
    /// For each shot: gateway and cost.
    pub shots: &'a [(usize, u64)],
    pub booked: &'a [Booked],
    pub world: &'a World,
    pub setting: Setting,
    pub fault: Fault,
    pub length_us: u64,
}

/// Figures for the reader, and what breaks a promise.
#[derive(Default)]
pub struct Report {
    pub lines: Vec<String>,
    pub breaches: Vec<String>,
    /// What may also come of a machine that was busy with something else.
    pub complaints: Vec<String>,
    /// Whether it was: requests were sent much later than they were due.
    pub was_busy: bool,
}

/// What was admitted, by client and limit; the last client stands for all together.
type Admitted = HashMap<(usize, Counted), Vec<Span>>;

impl Evidence<'_> {
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        self.statuses(&mut report);
        let (seen, written) = (self.seen(), self.written());
        self.windows("clients", &seen, &mut report);
        self.windows("records", &written, &mut report);
        self.records(&mut report);
        self.recovery(&mut report);
        if self.fault == Fault::Nothing {
            self.greedy(&seen, &mut report);
            self.polite(&mut report);
        }
        report
    }

    fn all_together(&self) -> usize {
        self.clients.len()
    }

    /// What the clients know to be admitted.
    fn seen(&self) -> Admitted {
        let mut admitted = Admitted::new();
        for sample in self.samples.iter().filter(|s| s.status == 200) {
            let cost = self.shots[sample.shot as usize].1;
            let span = |units| Span { from_us: sample.sent_us, to_us: sample.done_us, units };
            let together = self.clients[sample.client as usize].kind.place == Place::Together;
            let units = |counted| match counted {
                Counted::Requests => 1,
                Counted::Cost => cost,
                Counted::Bytes => u64::from(sample.bytes),
            };
            self.add(&mut admitted, sample.client as usize, together, |counted| span(units(counted)));
        }
        admitted
    }

    /// What the gateways wrote down as admitted.
    fn written(&self) -> Admitted {
        let mut admitted = Admitted::new();
        let passed = |b: &&Booked| matches!(b.decision, Decision::Passed | Decision::PassedDegraded);
        for booked in self.booked.iter().filter(passed) {
            let span = |units| Span { from_us: booked.begun_us, to_us: booked.ended_us, units };
            let units = |counted| match counted {
                Counted::Requests => 1,
                Counted::Cost => booked.cost,
                Counted::Bytes => booked.bytes,
            };
            self.add(&mut admitted, booked.client as usize, booked.together, |counted| span(units(counted)));
        }
        admitted
    }

    fn add(&self, to: &mut Admitted, client: usize, together: bool, span: impl Fn(Counted) -> Span) {
        let limits = self.clients[client].limits();
        for (n, limit) in limits.iter().enumerate() {
            // Two limits may count the same.
            if limits[..n].iter().all(|other| other.counted != limit.counted) {
                to.entry((client, limit.counted)).or_default().push(span(limit.counted));
            }
        }
        if together {
            to.entry((self.all_together(), Counted::Requests)).or_default().push(span(Counted::Requests));
        }
    }

    /// Every limit there is, with whom it binds.
    fn limits(&self) -> impl Iterator<Item = (usize, &'static Limit)> {
        let own = |(n, client): (usize, &Client)| client.limits().iter().map(move |limit| (n, limit));
        static OVER_ALL: Limit = TOGETHER;
        self.clients.iter().enumerate().flat_map(own).chain([(self.all_together(), &OVER_ALL)])
    }

    fn name(&self, client: usize) -> &str {
        self.clients.get(client).map_or("together", |client| client.kind.name)
    }

    /// No window over its limit, but by what the document states.
    fn windows(&self, side: &str, admitted: &Admitted, report: &mut Report) {
        let forgives = self.may_forget() || self.setting.fallback == "local";
        // Kind and limit: the fullest window in percent of the limit.
        let mut fullest_of: BTreeMap<String, u64> = BTreeMap::new();
        for (client, limit) in self.limits() {
            let Some(spans) = admitted.get(&(client, limit.counted)) else {
                continue;
            };
            let fullest = fullest_for_certain(&mut spans.clone(), limit.window_us());
            let most = if forgives { 2 * limit.amount - 1 } else { limit.amount };
            let most = most + self.overrun(limit, spans);
            let percent = fullest_of.entry(self.name(client).to_owned()).or_default();
            *percent = (*percent).max(100 * fullest.units / limit.amount);
            if fullest.units > most {
                let who = self.clients.get(client).map_or("together", |client| &client.id);
                let from_s = fullest.from_us as f64 / 1e6;
                report.breaches.push(format!(
                    "{side}: {who} had {} of {limit} in the window from {from_s:.3} s",
                    fullest.units
                ));
            }
        }
        let line: Vec<String> = fullest_of.iter().map(|(name, n)| format!("{name} {n}")).collect();
        report.lines.push(format!("fullest windows in % of the limit, by {side}: {}", line.join(", ")));
    }

    /// Whether the server forgets what it was told: then windows stay below 2 L around that moment.
    fn may_forget(&self) -> bool {
        match self.fault {
            Fault::Restart => self.setting.kept_by != KeptBy::DurableRedis,
            // A replica follows its primary without the primary's waiting for it.
            Fault::ClusterFailover | Fault::SentinelFailover => true,
            Fault::Flush | Fault::LaggedFailover => true,
            Fault::Nothing | Fault::Kills | Fault::Reloads => false,
            Fault::Pause | Fault::Cut | Fault::Delay | Fault::Reshard => false,
        }
    }

    /// Bytes are known only afterwards: on each worker the answers in flight when its lease ran out
    /// come on top, at least one.
    fn overrun(&self, limit: &Limit, spans: &[Span]) -> u64 {
        let workers = (0..self.setting.gateways).map(|n| self.setting.workers(n) as u64).sum::<u64>();
        if limit.counted == Counted::Bytes { workers * most_possible_in_any(spans, 0) } else { 0 }
    }

    /// Every request was answered, with a status that says what was decided.
    fn statuses(&self, report: &mut Report) {
        let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
        for sample in self.samples {
            *counts.entry(sample.status).or_default() += 1;
        }
        let mut late: Vec<u64> = self.samples.iter().map(|s| s.sent_us - s.due_us).collect();
        late.sort_unstable();
        let late_ms = quantile_us(&late, 0.99) / 1_000;
        report.was_busy = late_ms > PUNCTUAL_MS;
        report.lines.push(format!("requests by status: {counts:?}; sent late by {late_ms} ms (p99)"));
        let mut decisions: BTreeMap<&str, usize> = BTreeMap::new();
        for booked in self.booked {
            *decisions.entry(booked.decision.word()).or_default() += 1;
        }
        report.lines.push(format!("records by decision: {decisions:?}"));
        let is_odd = |status: u16| match status {
            200 | 429 => false,
            0 => !self.fault.breaks_connections(),
            503 if self.setting.fallback == "deny" => self.fault == Fault::Nothing && !self.stood_still(),
            _ => true,
        };
        for (status, n) in counts.into_iter().filter(|c| is_odd(c.0)) {
            let took = self.samples.iter().filter(|s| s.status == status).map(Sample::latency_us);
            let (least, most) = (took.clone().min().unwrap_or(0), took.max().unwrap_or(0));
            report.complaints.push(format!("{n} requests with status {status} after {least} to {most} us"));
        }
        if self.setting.fallback == "deny" && decisions.contains_key(Decision::PassedDegraded.word()) {
            report.breaches.push("a request passed undecided under `deny`".to_owned());
        }
    }

    /// Requests answered are records, but for the whole answers of killed workers: at most one each.
    fn records(&self, report: &mut Report) {
        let mut missing = vec![0; self.world.kills.len()];
        let mut answers: HashMap<(usize, u32, u16), usize> = HashMap::new();
        let mut sent = vec![0; self.world.kills.len()];
        for sample in self.samples {
            let gateway = self.shots[sample.shot as usize].0;
            sent[gateway] += 1;
            if sample.status != 0 {
                *answers.entry((gateway, sample.client, sample.status)).or_default() += 1;
            }
        }
        let mut booked: HashMap<(usize, u32, u16), usize> = HashMap::new();
        let mut written = vec![0; self.world.kills.len()];
        for record in self.booked {
            written[record.gateway] += 1;
            *booked.entry((record.gateway, record.client, record.status)).or_default() += 1;
        }
        for (key, n) in answers {
            missing[key.0] += n.saturating_sub(booked.get(&key).copied().unwrap_or(0));
        }
        for (gateway, &kills) in self.world.kills.iter().enumerate() {
            if missing[gateway] > kills || written[gateway] > sent[gateway] {
                report.breaches.push(format!(
                    "gateway {gateway}: {} answers without a record ({kills} kills), {} records of {} requests",
                    missing[gateway], written[gateway], sent[gateway]
                ));
            }
        }
        let (written, sent): (usize, usize) = (written.iter().sum(), sent.iter().sum());
        let (missing, kills): (usize, usize) = (missing.iter().sum(), self.world.kills.iter().sum());
        report.lines.push(format!(
            "{written} records of {sent} requests; {missing} answers without a record after {kills} kills"
        ));
    }

    /// When a trouble has ended, everybody who still calls is served again within a few seconds.
    fn recovery(&self, report: &mut Report) {
        let mut took: Vec<u64> = Vec::new();
        for &(_, mended) in &self.world.troubles {
            let until = mended + (RECOVERY_S * 1e6) as u64;
            // Of each client, when it was first served and when it last tried.
            let mut fared = vec![(u64::MAX, 0); self.clients.len()];
            for sample in self.samples.iter().filter(|s| s.sent_us >= mended && s.done_us <= until) {
                let (served, tried) = &mut fared[sample.client as usize];
                *tried = sample.sent_us;
                *served = if sample.status == 200 { sample.done_us.min(*served) } else { *served };
            }
            for (client, (served, tried)) in self.clients.iter().zip(fared) {
                if served < u64::MAX {
                    took.push(served - mended);
                } else if tried >= mended + PATIENCE_US {
                    let mended_s = mended as f64 / 1e6;
                    report.breaches.push(format!("{}: nothing admitted after {mended_s:.3} s", client.id));
                }
            }
        }
        took.sort_unstable();
        if took.is_empty() && self.fault != Fault::Nothing {
            report.breaches.push("the load ended before the trouble did".to_owned());
        }
        if let Some(last) = took.last() {
            let (half, most) = (quantile_us(&took, 0.5) / 1_000, last / 1_000);
            report.lines.push(format!("served again after {half} ms (half of the clients), {most} ms (all)"));
        }
    }

    /// Who asks for a multiple of a limit gets at least 90 % of it.
    fn greedy(&self, admitted: &Admitted, report: &mut Report) {
        let mut least: BTreeMap<&str, u64> = BTreeMap::new();
        for (client, limit) in self.limits() {
            if self.clients.get(client).is_some_and(|client| client.kind.manners != Manners::Greedy) {
                continue;
            }
            // The shorter of two limits is not the one that binds over time.
            let others = self.clients.get(client).map_or(&[][..], |client| client.limits());
            let rate = |limit: &Limit| limit.amount as f64 / limit.window_s as f64;
            if others.iter().any(|other| rate(other) < rate(limit)) {
                continue;
            }
            let (from, to) = (limit.window_us(), self.length_us);
            let spans = admitted.get(&(client, limit.counted)).map_or(&[][..], Vec::as_slice);
            let inside = spans.iter().filter(|s| s.from_us >= from && s.to_us < to);
            let got: u64 = inside.map(|s| s.units).sum();
            let due = rate(limit) * (to - from) as f64 / 1e6;
            let percent = (100.0 * got as f64 / due) as u64;
            let known = least.entry(self.name(client)).or_insert(percent);
            *known = percent.min(*known);
        }
        report.lines.push(format!("got of its limit in %, the least of each kind: {least:?}"));
        for (name, percent) in least.into_iter().filter(|l| l.1 < 90) {
            report.complaints.push(format!("a {name} client got only {percent} % of its limit"));
        }
    }

    /// Who keeps to its limit is refused nothing. On a busy machine requests bunch up on the way and
    /// leases run out on theirs: a refusal counts where the client has kept to 97 % of L in every
    /// interval of 1.02 W before and the machine has not stood still for half of a lease.
    fn polite(&self, report: &mut Report) {
        let mut by_client: HashMap<u32, Vec<&Sample>> = HashMap::new();
        for sample in self.samples {
            by_client.entry(sample.client).or_default().push(sample);
        }
        let (mut excused, stalls) = (0, self.stalls());
        for (number, samples) in by_client {
            let client = &self.clients[number as usize];
            if client.kind.manners != Manners::Polite {
                continue;
            }
            for refused in samples.iter().filter(|s| s.status == 429) {
                let is_wrong = |limit: &Limit| {
                    let since = refused.sent_us.saturating_sub(2 * limit.window_us());
                    let stalled = stalls.range(since..=refused.done_us);
                    kept_to(limit, &samples, refused)
                        && !stalled.into_iter().any(|(_, us)| *us > limit.window_us() / 20)
                };
                if client.limits().iter().all(is_wrong) {
                    let at_s = refused.sent_us as f64 / 1e6;
                    report.complaints.push(format!("{} was refused at {at_s:.3} s", client.id));
                } else {
                    excused += 1;
                }
            }
        }
        report.lines.push(format!("refusals of polite clients for which the machine stood still: {excused}"));
    }

    /// Whether something kept requests waiting that were then decided all the same: the machine was
    /// busy, and an answer of Redis may have been late, too.
    fn stood_still(&self) -> bool {
        let decided = self.samples.iter().filter(|s| s.status == 200 || s.status == 429);
        decided.map(Sample::latency_us).max().is_some_and(|longest| longest > 250_000)
    }

    /// How long requests took, by when they were sent.
    fn stalls(&self) -> BTreeMap<u64, u64> {
        let mut stalls = BTreeMap::new();
        for sample in self.samples {
            let longest = stalls.entry(sample.sent_us).or_default();
            *longest = sample.latency_us().max(*longest);
        }
        stalls
    }
}

/// Whether a client has certainly kept to a limit in the two windows before a refusal.
fn kept_to(limit: &Limit, samples: &[&Sample], refused: &Sample) -> bool {
    let since = refused.sent_us.saturating_sub(2 * limit.window_us());
    let before = samples.iter().filter(|s| s.done_us >= since && s.sent_us <= refused.done_us);
    let spans: Vec<Span> = before.map(|s| Span { from_us: s.sent_us, to_us: s.done_us, units: 1 }).collect();
    100 * most_possible_in_any(&spans, limit.window_us() * 102 / 100) <= 97 * limit.amount
}
