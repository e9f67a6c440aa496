//! Deaths, reloads, restarts and changes.

use super::{Event, World};
use crate::fault::Fault;

impl World<'_> {
    pub(super) fn trouble(&mut self, fault: Fault) {
        self.outcome.story.say(self.now, None, || fault);
        match fault {
            Fault::WorkerDies { gateway, worker } => {
                if let Some(id) = self.worker(gateway, worker) {
                    self.worker_died(id);
                }
            }
            Fault::WorkerDiesAtStore { gateway, worker, store } => {
                if let Some(process) = self.worker(gateway, worker).and_then(|id| self.fleet.get(id)) {
                    process.doom = Some(store);
                }
            }
            Fault::WorkerStops { gateway, worker, store, for_ms } => {
                if let Some(process) = self.worker(gateway, worker).and_then(|id| self.fleet.get(id)) {
                    process.halt = Some((store, for_ms));
                }
            }
            Fault::GatewayDies { gateway, back_ms } => {
                self.gateway_dies(gateway % self.scene.gateways, back_ms)
            }
            Fault::Reload { gateway } => self.reload(gateway % self.scene.gateways),
            Fault::Cut { gateway, worker } => {
                if let Some(id) = self.worker(gateway, worker) {
                    self.cut(id);
                }
            }
            Fault::SecondConnection { gateway, worker } => {
                if let Some(id) = self.worker(gateway, worker) {
                    self.at(self.now, Event::Connect { to: id });
                    if let Some(process) = self.fleet.get(id) {
                        // Nothing on the new one has to wait for what is on the old one.
                        (process.last_executed, process.last_answered) = (0, 0);
                    }
                }
            }
            Fault::ServerPauses { for_ms } => self.busy_until = self.now + for_ms,
            Fault::ServerRestarts { keeps } => {
                self.server.restart(keeps);
                self.cut_all();
            }
            Fault::Failover { .. } => {
                self.server.fail_over();
                self.cut_all();
            }
            Fault::Flush => self.server.flush(),
            Fault::Evict { limit, client } => self.evict(limit, client),
            Fault::ClockSteps { by_ms } => self.server.offset_ms += by_ms,
            Fault::LimitChanges { limit, amount } => {
                let limit = limit % self.scene.limits.len();
                self.judge.amounts[limit].push((self.now, amount));
            }
            Fault::GatewaysCounted { n } => {
                self.fleet.counted = n;
                for id in 0..self.fleet.processes.len() {
                    self.fleet.call(self.now, id, |worker, _| worker.set_gateways(n));
                }
            }
        }
    }

    /// A process by the numbers of a plan, which may be meant for a larger scene.
    fn worker(&self, gateway: usize, worker: usize) -> Option<usize> {
        let active = &self.fleet.gateways[gateway % self.scene.gateways].active;
        (!active.is_empty()).then(|| active[worker % active.len()])
    }

    /// A process is gone, whatever it was doing, and another one starts.
    pub(super) fn worker_died(&mut self, id: usize) {
        let name = self.name(id);
        self.outcome.story.say(self.now, None, || format!("{name} is dead"));
        let closing = self.fleet.get(id).is_none_or(|p| p.closing);
        let Some(gateway) = self.bury(id) else {
            return;
        };
        if !closing && !self.fleet.gateways[gateway].dead {
            self.spawn(gateway);
        }
    }

    /// The end of a process; says at which gateway.
    fn bury(&mut self, id: usize) -> Option<usize> {
        let process = self.fleet.bury(id)?;
        self.outcome.undecided += process.waiting.len() as u64;
        for (key, bytes) in process.open {
            self.judge.under_way(self.now, key, process.gateway, -(bytes as i64));
        }
        Some(process.gateway)
    }

    fn gateway_dies(&mut self, gateway: usize, back_ms: u64) {
        if self.fleet.gateways[gateway].dead {
            return;
        }
        self.fleet.gateways[gateway].dead = true;
        for id in 0..self.fleet.processes.len() {
            if self.fleet.get(id).is_some_and(|p| p.gateway == gateway) {
                self.bury(id);
            }
        }
        self.at(self.now + back_ms, Event::GatewayBack { gateway });
    }

    pub(super) fn gateway_back(&mut self, gateway: usize) {
        self.outcome.story.say(self.now, None, || format!("gateway {gateway} is back, its memory empty"));
        self.fleet.renew_memory(gateway);
        for _ in 0..self.scene.workers {
            self.spawn(gateway);
        }
    }

    /// New workers take over; the old ones get no more requests and close when theirs are done.
    fn reload(&mut self, gateway: usize) {
        if self.fleet.gateways[gateway].dead {
            return;
        }
        let old = std::mem::take(&mut self.fleet.gateways[gateway].active);
        for _ in 0..self.scene.workers {
            self.spawn(gateway);
        }
        for id in old {
            if let Some(process) = self.fleet.get(id) {
                process.closing = true;
            }
            let wait = self.network.u64(..self.scene.limits[0].window_ms / 5);
            self.at(self.now + wait, Event::Close { at: id });
        }
    }

    pub(super) fn close(&mut self, at: usize) {
        if self.postponed(at, || Event::Close { at }) {
            return;
        }
        let Some(process) = self.fleet.get(at) else {
            return;
        };
        if !process.open.is_empty() || !process.waiting.is_empty() {
            self.at(self.now + 10, Event::Close { at });
            return;
        }
        self.fleet.call(self.now, at, |worker, now| worker.close(now));
        self.flush(at);
        self.at(self.now + 50, Event::Gone { at });
    }

    /// A worker that closed ends, whether its last words were answered or not.
    pub(super) fn gone(&mut self, at: usize) {
        if !self.postponed(at, || Event::Gone { at }) {
            self.bury(at);
        }
    }

    /// One connection breaks, and comes up again.
    fn cut(&mut self, id: usize) {
        self.fleet.call(self.now, id, |worker, _| worker.link(false));
        if self.scene.late {
            // The worker goes on waiting for late answers of its old connection.
            self.fleet.get(id).into_iter().for_each(|p| p.last_executed = 0);
        } else {
            self.give_up_all(id);
        }
        let wait = self.network.u64(..self.scene.reconnect_ms.max(1));
        self.at(self.now + wait, Event::Connect { to: id });
    }

    fn cut_all(&mut self) {
        for id in 0..self.fleet.processes.len() {
            if self.fleet.get(id).is_some() {
                self.cut(id);
            }
        }
    }

    fn evict(&mut self, limit: usize, client: usize) {
        let (limit, client) = (limit % self.scene.limits.len(), client % self.scene.clients);
        let key = self.keys_of[client][limit];
        self.server.evict(&self.keys[key].counter.name);
    }
}
