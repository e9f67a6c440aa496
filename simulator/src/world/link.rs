//! Messages between workers and the server: late, lost, out of order, on connections that break.

use weir_limiter::{Answer, Transaction};

use super::{Event, World};
use crate::judge::Failure;
use crate::scene::{Kind, Whose};

/// After so long a message that was lost on the way is known to be lost.
const LOST_AFTER_MS: u64 = 200;

impl World<'_> {
    fn delay(&mut self) -> u64 {
        let long = self.scene.delay_ms;
        if self.network.u8(..self.scene.slow_one_in) == 0 {
            self.network.u64(..=long)
        } else {
            self.network.u64(..=1.min(long))
        }
    }

    fn is_lost(&mut self) -> bool {
        self.scene.loss > 0.0 && self.network.f64() < self.scene.loss
    }

    /// Sends what a worker has to say, and sees that its timer is set.
    pub(super) fn flush(&mut self, at: usize) {
        let Some((out, now, due)) =
            self.fleet.call(self.now, at, |worker, now| (worker.outgoing(), now, worker.next_due()))
        else {
            return;
        };
        for transaction in out {
            self.send(at, transaction);
        }
        let Some(process) = self.fleet.get(at) else {
            return;
        };
        if let Some(waiting) = process.waiting.first().filter(|_| process.in_flight.is_empty()) {
            let client = waiting.client;
            self.judge.fail(Failure::Stuck { client, at_ms: self.now });
        }
        let next = due.map(|t| self.now + t.max(now + 1) - now);
        if let (Some(next), Some(process)) = (next, self.fleet.get(at))
            && next < process.next_tick
        {
            process.next_tick = next;
            self.at(next, Event::Tick { at });
        }
    }

    fn send(&mut self, from: usize, transaction: Transaction) {
        let (delay, lost) = (self.delay(), self.is_lost());
        let Some(process) = self.fleet.get(from) else {
            return;
        };
        process.in_flight.push(transaction.id);
        let connection = process.connection;
        if self.outcome.story.is_wanted() {
            let words = transaction.parts.iter().map(|p| format!("{} {:?}", p.counter.name, p.add));
            let words = words.collect::<Vec<_>>().join(", ");
            let fate = if lost { ", which will be lost" } else { "" };
            let line = format!("{} sends {}: {words}{fate}", self.name(from), transaction.id);
            self.outcome.story.say(self.now, None, || line);
        }
        if lost {
            self.note_loss(from, &transaction);
            self.lose(from, connection, transaction);
            return;
        }
        let arrives = self.in_order(from, self.now + delay, |p| &mut p.last_executed);
        self.at(arrives, Event::Execute { from, connection, transaction: Box::new(transaction) });
    }

    /// What a transaction says of bytes comes to the server later.
    fn note_loss(&mut self, from: usize, transaction: &Transaction) {
        let Some(process) = self.fleet.processes[from].as_ref() else {
            return;
        };
        let of_bytes = |k: &usize| {
            let key = &self.keys[*k];
            let counts_bytes = self.scene.limits[key.limit].whose == Whose::BytesOfEachClient;
            counts_bytes && transaction.parts.iter().any(|part| part.counter.name == key.counter.name)
        };
        for key in (0..self.keys.len()).filter(of_bytes) {
            *self.lost.entry((process.gateway, key)).or_default() += 1;
        }
    }

    /// A message is lost. A link that repeated it would break a rule.
    fn lose(&mut self, from: usize, connection: u32, transaction: Transaction) {
        let (id, at) = (transaction.id, self.now + LOST_AFTER_MS);
        if self.mutant == Some(weir_limiter::trial::Mutant::LostRepeated) {
            self.at(at, Event::Execute { from, connection, transaction: Box::new(transaction) });
        } else {
            self.at(at, Event::Reply { to: from, connection, id, answer: None });
        }
    }

    /// Messages of one connection do not overtake one another, but in a world of disorder.
    fn in_order(
        &mut self,
        id: usize,
        time: u64,
        last: impl FnOnce(&mut crate::process::Process) -> &mut u64,
    ) -> u64 {
        let disorder = self.scene.disorder;
        let Some(process) = self.fleet.get(id) else {
            return time;
        };
        let last = last(process);
        if disorder {
            return time;
        }
        *last = time.max(*last);
        *last
    }

    pub(super) fn execute(&mut self, from: usize, connection: u32, transaction: Box<Transaction>) {
        if self.now < self.busy_until {
            let until = self.busy_until;
            self.at(until, Event::Execute { from, connection, transaction });
            return;
        }
        let id = transaction.id;
        let answer = self.server.execute(self.now, &transaction);
        self.tell_execution(from, &transaction, answer.as_ref());
        if answer.is_none() {
            // Made for another life: the link finds out, and connects anew.
            self.note_loss(from, &transaction);
            self.at(self.now, Event::Connect { to: from });
        }
        if answer.is_some() && self.is_lost() {
            self.lose(from, connection, *transaction);
            return;
        }
        let delay = self.delay();
        let arrives = self.in_order(from, self.now + delay, |p| &mut p.last_answered);
        self.at(arrives, Event::Reply { to: from, connection, id, answer: answer.map(Box::new) });
    }

    fn tell_execution(&mut self, from: usize, transaction: &Transaction, answer: Option<&Answer>) {
        if !self.outcome.story.is_wanted() {
            return;
        }
        let what = match answer {
            None => "is not executed, it was made for another life".to_owned(),
            Some(answer) => {
                let sums = answer.fields.iter().zip(&transaction.parts).map(|(fields, part)| {
                    let sum: i64 = fields.iter().map(|f| f.1.max(0)).sum();
                    format!("{} has {sum} units in {} fields", part.counter.name, fields.len())
                });
                let sums = sums.collect::<Vec<_>>().join(", ");
                format!("is executed at server time {}: {sums}", answer.time_ms)
            }
        };
        let line = format!("{} of {} {what}", transaction.id, self.name(from));
        self.outcome.story.say(self.now, None, || line);
    }

    pub(super) fn reply(&mut self, to: usize, connection: u32, id: u64, answer: Option<Box<Answer>>) {
        if let Some(until) = self.fleet.stopped_until(to) {
            self.at(until + 1, Event::Reply { to, connection, id, answer });
            return;
        }
        let Some(process) = self.fleet.get(to) else {
            return;
        };
        if connection != process.connection && !self.scene.late {
            // That connection is closed; what was under way on it was given up.
            return;
        }
        let known = process.in_flight.iter().position(|&i| i == id);
        let Some(known) = known else {
            return;
        };
        process.in_flight.swap_remove(known);
        let what = if answer.is_some() { "gets the answer to" } else { "gives up" };
        if self.outcome.story.is_wanted() {
            let line = format!("{} {what} {id}", self.name(to));
            self.outcome.story.say(self.now, None, || line);
        }
        self.fleet.call(self.now, to, |worker, now| match &answer {
            Some(answer) => worker.answered(now, id, answer),
            None => worker.lost(now, id),
        });
        self.decide_waiting(to);
    }

    /// Asks again for all that wait for a worker's answers.
    pub(super) fn decide_waiting(&mut self, at: usize) {
        let waiting = self.fleet.get(at).map(|p| std::mem::take(&mut p.waiting));
        for request in waiting.unwrap_or_default() {
            self.decide(at, request, false);
        }
        self.flush(at);
    }

    pub(super) fn tick(&mut self, at: usize) {
        if self.postponed(at, || Event::Tick { at }) {
            return;
        }
        if let Some(process) = self.fleet.get(at) {
            process.next_tick = u64::MAX;
            self.fleet.call(self.now, at, |worker, now| worker.tick(now));
            self.flush(at);
        }
    }

    pub(super) fn connect(&mut self, to: usize) {
        if self.scene.kind == Kind::Alone {
            return;
        }
        let (there, back) = (self.delay(), self.delay());
        let Some(process) = self.fleet.get(to) else {
            return;
        };
        let gateway = process.gateway;
        let sent = self.now + self.fleet.gateways[gateway].offset_ms;
        let read = (self.now + there).max(self.busy_until);
        let (time_ms, life) = (self.server.time_ms(read), self.server.life);
        self.at(read + back, Event::Connected { to, sent, time_ms, life });
    }

    pub(super) fn connected(&mut self, to: usize, sent: u64, time_ms: u64, life: u64) {
        if self.postponed(to, || Event::Connected { to, sent, time_ms, life }) {
            return;
        }
        if life != self.server.life {
            // That server is gone already.
            self.at(self.now + 1, Event::Connect { to });
            return;
        }
        self.fleet.call(self.now, to, |worker, now| worker.connected(sent, now, time_ms, life));
        self.flush(to);
    }

    /// What is under way on a connection that broke is given up; whether it is executed is open.
    pub(super) fn give_up_all(&mut self, to: usize) {
        let Some(process) = self.fleet.get(to) else {
            return;
        };
        process.connection += 1;
        let connection = process.connection;
        if let Some(until) = process.stopped.as_ref().map(|s| s.until) {
            // It learns of it when it goes on.
            for id in process.in_flight.clone() {
                self.at(until + 1, Event::Reply { to, connection, id, answer: None });
            }
            return;
        }
        (process.last_executed, process.last_answered) = (0, 0);
        for transaction in std::mem::take(&mut process.in_flight) {
            self.fleet.call(self.now, to, |worker, now| worker.lost(now, transaction));
        }
        self.decide_waiting(to);
    }
}
