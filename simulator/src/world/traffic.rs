//! Clients: when they send, what they are told, and what their answers cost.

use weir_limiter::{Decision, LimitState};

use super::{Event, World};
use crate::judge::Failure;
use crate::process::{Asked, Request};
use crate::scene::{Kind, Scene, Traffic, Whose};

/// A request waits for a lease at most so long, as `weir_redis_timeout` says.
const TIMEOUT_MS: u64 = 20;

impl World<'_> {
    pub(super) fn arrive(&mut self, client: usize) {
        let cost = if self.scene.costs { [1, 1, 1, 2, 5][self.dice[client].usize(..5)] } else { 1 };
        let bytes = self.dice[client].u64(1..2_000);
        if (self.scene.kind != Kind::Polite || self.keeps_to_its_limits(client, cost))
            && let Some(at) = self.somewhere(client)
        {
            self.send_to(at, client, cost, bytes);
        }
        if self.scene.kind != Kind::Comeback {
            self.plan_next(client);
        }
    }

    pub(super) fn come_back(&mut self, request: Request) {
        if let Some(at) = self.somewhere(request.client) {
            self.outcome.requests += 1;
            self.decide(at, request, true);
            self.flush(at);
        }
    }

    /// Whether a request keeps its client within 97 % of each limit in every 1.02 windows; if so it
    /// is noted as sent.
    fn keeps_to_its_limits(&mut self, client: usize, cost: u64) -> bool {
        let (now, keys) = (self.now, &self.keys_of[client]);
        let fits = keys.iter().all(|&k| self.keys[k].polite.has_room(now, cost));
        if fits {
            keys.iter().for_each(|&k| self.keys[k].polite.take(now, cost));
        }
        fits
    }

    /// A worker that takes the next request of a client.
    fn somewhere(&mut self, client: usize) -> Option<usize> {
        let n = self.scene.gateways;
        let first = match self.scene.traffic {
            Traffic::Moving => (self.now * 2 / self.scene.limits[0].window_ms) as usize % n,
            Traffic::Hopping => {
                let window = self.scene.limits[0].window_ms;
                ((self.now + window / 2) / window) as usize % n
            }
            _ => self.dice[client].usize(..n),
        };
        let which = self.dice[client].usize(..64);
        let gateway = (first..first + n).map(|g| g % n).find(|&g| !self.fleet.gateways[g].dead)?;
        let active = &self.fleet.gateways[gateway].active;
        (!active.is_empty()).then(|| active[which % active.len()])
    }

    fn send_to(&mut self, at: usize, client: usize, cost: u64, bytes: u64) {
        self.requests += 1;
        self.outcome.requests += 1;
        if self.scene.kind == Kind::Flood {
            self.judge.arrived(self.now, &self.keys_of[client], cost);
        }
        let request = Request { id: self.requests, client, cost, bytes, promised: false };
        self.decide(at, request, true);
        self.flush(at);
    }

    /// Plans the next request of a client that does not care what it is told.
    fn plan_next(&mut self, client: usize) {
        // Kept in fractions of a millisecond: bursts hold many requests in one.
        let next = self.next_arrival[client].max(self.now as f64) + self.pause(client);
        self.next_arrival[client] = next;
        self.at(next as u64, Event::Arrive { client });
    }

    /// Milliseconds to the next request of the same client.
    fn pause(&mut self, client: usize) -> f64 {
        let window = self.scene.limits[0].window_ms;
        let clients = self.scene.clients as f64;
        // With skew the first sends as much as all others together.
        let share = match (self.scene.skewed && clients > 1.0, client) {
            (true, 0) => 0.5,
            (true, _) => 0.5 / (clients - 1.0),
            (false, _) => 1.0 / clients,
        };
        let rate = self.scene.rate * share;
        let mut exponential = |rate: f64| -(1.0 - self.dice[client].f64()).ln() * 1000.0 / rate;
        let period = window + window / 600 + 1;
        match self.scene.traffic {
            _ if self.scene.kind == Kind::Cron => {
                // 80 within a second, every 60.1 s.
                let step = 1_000.0 / 80.0;
                if self.now % 60_100 < 1_000 - 13 { step } else { (60_100 - self.now % 60_100) as f64 }
            }
            Traffic::Steady | Traffic::Moving => exponential(rate),
            Traffic::Waves if (self.now * 3 / window).is_multiple_of(2) => exponential(rate * 2.0),
            Traffic::Waves => exponential(rate * 0.05),
            Traffic::Cron if self.now % period < window / 60 => exponential(rate * 60.0),
            Traffic::Cron => (period - self.now % period) as f64,
            Traffic::Edges | Traffic::Hopping => {
                let within = (self.now + window / 40) % window;
                let wait = exponential(rate * 20.0);
                if within < window / 20 { wait } else { (window - within) as f64 + wait }
            }
        }
    }

    /// The limits of a request as its worker knows them.
    fn asked(&self, at: usize, request: &Request) -> Vec<Asked> {
        let lag = self.fleet.processes[at].as_ref().map_or(0, |p| p.lag_ms);
        let ask = |&key: &usize| {
            let known = &self.keys[key];
            let spec = self.scene.limits[known.limit];
            let amounts = &self.judge.amounts[known.limit];
            let amount = amounts.iter().rev().find(|a| a.0 + lag <= self.now || a.0 == 0);
            let cost = if spec.whose == Whose::BytesOfEachClient { 0 } else { request.cost };
            let amount = amount.map_or(spec.amount, |a| a.1);
            let counter = known.counter.clone();
            Asked { key, counter, amount, window_ms: spec.window_ms, cost }
        };
        self.keys_of[request.client].iter().map(ask).collect()
    }

    /// Asks a worker. The answer may be that the request has to wait, or none if the worker dies.
    pub(super) fn decide(&mut self, at: usize, request: Request, first: bool) {
        if self.fleet.stopped_until(at).is_some() {
            // It lies in the socket of a worker that is stopped.
            self.outcome.undecided += 1;
            return;
        }
        let asked = self.asked(at, &request);
        if let Some(halt) = self.fleet.get(at).and_then(|p| p.halt.take()) {
            let decision = self.fleet.decide_and_stop(self.now, at, halt, &request, &asked, self.mutant);
            return match decision {
                Some(decision) => self.decided(at, self.now, request, &asked, decision, first),
                None => {
                    let name = self.name(at);
                    let sentence = || format!("{name} is stopped in the middle of a decision");
                    self.outcome.story.say(self.now, None, sentence);
                    self.at(self.now + halt.1, Event::Resume { at });
                }
            };
        }
        let decision = self.fleet.call(self.now, at, |worker, now| {
            let mut states: Vec<LimitState> = Vec::new();
            let asks: Vec<_> = asked.iter().map(Asked::ask).collect();
            worker.decide(now, &asks, &mut states)
        });
        match decision {
            Some(decision) => self.decided(at, self.now, request, &asked, decision, first),
            None => self.outcome.undecided += 1,
        }
    }

    /// A worker that was stopped goes on.
    pub(super) fn resume(&mut self, at: usize) {
        if let Some((stopping, decision)) = self.fleet.resume(at) {
            let name = self.name(at);
            self.outcome.story.say(self.now, None, || format!("{name} goes on"));
            self.decided(at, stopping.since, stopping.request, &stopping.asked, decision, true);
            self.flush(at);
        }
    }

    fn decided(
        &mut self,
        at: usize,
        when: u64,
        request: Request,
        asked: &[Asked],
        decision: Decision,
        first: bool,
    ) {
        let client = request.client;
        if self.outcome.story.is_wanted() {
            let line =
                format!("{}: request {} of {} units: {decision:?}", self.name(at), request.id, request.cost);
            self.outcome.story.say(when, Some(client), || line);
        }
        match decision {
            Decision::Allow => self.admit(at, when, &request, asked),
            Decision::Refuse { by, retry_after_ms } => {
                self.outcome.refused += 1;
                if when == self.now {
                    self.judge.told(when, client, retry_after_ms, asked[by].window_ms);
                }
                self.denied(when, &request, "refused");
                if self.scene.kind == Kind::Comeback {
                    let request = Request { promised: true, ..request };
                    self.at(self.now + retry_after_ms, Event::ComeBack { request });
                }
            }
            Decision::Wait => {
                let id = request.id;
                if let Some(process) = self.fleet.get(at) {
                    process.waiting.push(request);
                }
                if first {
                    self.outcome.waited += 1;
                    self.at(self.now + TIMEOUT_MS, Event::GiveUp { at, request: id });
                }
            }
            Decision::CannotDecide(_) => self.undecided(&request),
        }
    }

    fn admit(&mut self, at: usize, when: u64, request: &Request, asked: &[Asked]) {
        self.outcome.admitted += 1;
        self.judge.units += request.cost;
        let answer_ms = self.dice[request.client].u64(..self.scene.limits[0].window_ms / 10);
        for limit in asked {
            if limit.cost > 0 {
                self.judge.admitted(when, self.now, limit.key, limit.cost);
                continue;
            }
            if let Some(process) = self.fleet.get(at) {
                process.open.push((limit.key, request.bytes));
                let gateway = process.gateway;
                self.judge.under_way(self.now, limit.key, gateway, request.bytes as i64);
            }
            let charge = Event::Charge { at, key: limit.key, bytes: request.bytes };
            self.at(self.now + answer_ms, charge);
        }
        if self.scene.kind == Kind::Comeback {
            let soon = self.dice[request.client].u64(..2 + self.scene.limits[0].window_ms / 50);
            self.at(self.now + soon, Event::Arrive { client: request.client });
        }
    }

    /// An answer was sent: its bytes are charged.
    pub(super) fn charge(&mut self, at: usize, key: usize, bytes: u64) {
        if self.postponed(at, || Event::Charge { at, key, bytes }) {
            return;
        }
        let Some(process) = self.fleet.get(at) else {
            return;
        };
        let gateway = process.gateway;
        let open = process.open.iter().position(|o| *o == (key, bytes));
        open.map(|i| process.open.swap_remove(i));
        let client = self.keys[key].client;
        let request = Request { id: 0, client, cost: 1, bytes, promised: false };
        let asked = self.asked(at, &request).into_iter().find(|a| a.key == key);
        let Some(mut asked) = asked else {
            return;
        };
        asked.cost = bytes;
        if self.fleet.call(self.now, at, |worker, now| worker.charge(now, &asked.ask())).is_some() {
            self.judge.admitted(self.now, self.now, key, bytes);
            // Others can't know of them before the news has come to the server.
            let deaths = self.fleet.gateways[gateway].deaths;
            let limit = &self.scene.limits[self.keys[key].limit];
            let known = self.now + self.scene.news_ms(0) + self.scene.unaware_ms(limit);
            let lost = self.lost_on(gateway, key);
            self.at(known, Event::Known { gateway, key, bytes, deaths, lost });
            self.outcome
                .story
                .say(self.now, Some(client), || format!("{bytes} bytes were sent by gateway {gateway}"));
            self.flush(at);
        }
    }

    /// How many transactions on a key were lost on their way from a gateway.
    fn lost_on(&self, gateway: usize, key: usize) -> u64 {
        self.lost.get(&(gateway, key)).copied().unwrap_or(0)
    }

    /// The server knows of bytes that were sent: later by each transaction that was lost since, and
    /// never, if a process died with the news.
    pub(super) fn known(&mut self, gateway: usize, key: usize, bytes: u64, deaths: u64, lost: u64) {
        let (died, lost_now) = (self.fleet.gateways[gateway].deaths > deaths, self.lost_on(gateway, key));
        let (later, deaths) = if died {
            (self.scene.limits[self.keys[key].limit].window_ms, u64::MAX)
        } else {
            ((lost_now - lost) * Scene::LOSS_MS, deaths)
        };
        if later > 0 {
            self.at(self.now + later, Event::Known { gateway, key, bytes, deaths, lost: lost_now });
        } else {
            self.judge.under_way(self.now, key, gateway, -(bytes as i64));
        }
    }

    fn undecided(&mut self, request: &Request) {
        self.outcome.undecided += 1;
        self.denied(self.now, request, "not decided");
        if self.scene.kind == Kind::Comeback {
            self.at(self.now + 1, Event::Arrive { client: request.client });
        }
    }

    /// Somebody was not served: was that fair?
    fn denied(&mut self, when: u64, request: &Request, what: &'static str) {
        let client = request.client;
        if matches!(self.scene.kind, Kind::Polite | Kind::Cron) {
            self.judge.fail(Failure::Unduly { client, at_ms: when, what });
        }
        if request.promised {
            self.judge.fail(Failure::Broken { client, at_ms: when });
        }
    }

    pub(super) fn give_up(&mut self, at: usize, request: u64) {
        let Some(process) = self.fleet.get(at) else {
            return;
        };
        if let Some(i) = process.waiting.iter().position(|w| w.id == request) {
            let request = process.waiting.remove(i);
            self.undecided(&request);
        }
    }
}
