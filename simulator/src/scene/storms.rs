//! Worlds in which everything goes wrong that may.

use fastrand::Rng;

use super::{Kind, LimitSpec, Scene, Traffic, Whose, one_of};
use crate::fault::{Fault, Planned};

impl Scene {
    pub(super) fn storm(seed: u64, rng: &mut Rng) -> Scene {
        let amount = *one_of(rng, &[1, 3, 5, 20, 20, 100, 400]);
        let window_ms = *one_of(rng, &[1_000, 2_000, 5_000]);
        let mut scene = Scene::quiet(Kind::Storm, amount, window_ms);
        scene.seed = seed;
        scene.gateways = *one_of(rng, &[1, 1, 2, 2, 2, 3, 4, 8, 16, 64]);
        scene.workers = *one_of(rng, &[1, 1, 2, 2, 3, 4]);
        scene.clients = *one_of(rng, &[1, 1, 2, 3]);
        scene.small_zone = rng.u8(..25) == 0;
        if scene.small_zone {
            scene.clients = 20;
        }
        scene.add_limits(rng, amount, window_ms);
        scene.traffic =
            *one_of(rng, &[Traffic::Steady, Traffic::Cron, Traffic::Waves, Traffic::Moving, Traffic::Edges]);
        scene.skewed = rng.bool();
        scene.costs = rng.u8(..3) == 0;
        scene.loss = *one_of(rng, &[0.0, 0.0, 0.02, 0.2]);
        scene.delay_ms = *one_of(rng, &[1, 5, window_ms / 12, window_ms / 12, 300, 2 * window_ms]);
        scene.slow_one_in = *one_of(rng, &[4, 10, 20]);
        scene.late = rng.bool();
        scene.disorder = rng.bool();
        scene.drift_ppm = *one_of(rng, &[0, 0, 900, -900]);
        scene.lag_ms = *one_of(rng, &[0, 50, 500]);
        scene.reconnect_ms = *one_of(rng, &[5, 30, 500]);
        scene.length_ms = (3 + rng.u64(..4)) * window_ms;
        let pressure = *one_of(rng, &[0.5, 0.97, 2.0, 4.0, 8.0]);
        let most = 1_500.0 * 1000.0 / scene.length_ms as f64;
        let rate = scene.clients.min(4) as f64 * amount as f64 * 1000.0 / window_ms as f64 * pressure;
        scene.rate = rate.min(most);
        let faults = scene.troubles(rng);
        match rng.u8(..20) {
            0..4 => scene.make_lossy(rng),
            4..6 => scene.make_bytes(rng),
            6..9 => scene.make_hopping(rng),
            9..12 => scene.make_slow(rng),
            12..14 => scene.make_lowered(rng),
            14..16 => scene.make_stopped(rng),
            16..18 => scene.make_crowded(rng),
            _ => {}
        }
        // Half of the worlds with a weakness of their own have the usual faults beside it.
        if scene.plan.is_empty() || rng.bool() {
            scene.plan.extend(faults);
        }
        scene.plan.sort_by_key(|p| p.at_ms);
        scene
    }

    fn add_limits(&mut self, rng: &mut Rng, amount: u64, window_ms: u64) {
        if rng.u8(..5) < 2 {
            let times = 2 + rng.u64(..3);
            let amount = amount * times * 3 / 4;
            self.limits.push(LimitSpec {
                whose: Whose::EachClient,
                amount: amount.max(1),
                window_ms: window_ms * times,
            });
        }
        if rng.u8(..4) == 0 {
            let amount = (amount * self.clients as u64 * 3 / 4).max(1);
            self.limits.push(LimitSpec { whose: Whose::Everyone, amount, window_ms });
        }
        if rng.u8(..5) == 0 {
            let amount = amount * *one_of(rng, &[300, 900, 3_000]);
            self.limits.push(LimitSpec { whose: Whose::BytesOfEachClient, amount, window_ms });
        }
    }

    /// Faults after which windows are strict all the same.
    fn troubles(&self, rng: &mut Rng) -> Vec<Planned> {
        let mut plan = Vec::new();
        let mut some = |rng: &mut Rng, one_in: u8, most: usize, make: &dyn Fn(&mut Rng) -> Fault| {
            if rng.u8(..one_in) == 0 {
                for _ in 0..1 + rng.usize(..most) {
                    plan.push(Planned { at_ms: rng.u64(50..self.length_ms), fault: make(rng) });
                }
            }
        };
        let who = |rng: &mut Rng| (rng.usize(..self.gateways), rng.usize(..self.workers));
        some(rng, 4, 6, &|rng| {
            let (gateway, worker) = who(rng);
            Fault::WorkerDies { gateway, worker }
        });
        some(rng, 3, 8, &|rng| {
            let (gateway, worker) = who(rng);
            Fault::WorkerDiesAtStore { gateway, worker, store: rng.u32(1..80) }
        });
        some(rng, 4, 8, &|rng| {
            let (gateway, worker) = who(rng);
            Fault::WorkerStops { gateway, worker, store: rng.u32(1..30), for_ms: rng.u64(1..400) }
        });
        some(rng, 6, 3, &|rng| Fault::GatewayDies {
            gateway: rng.usize(..self.gateways),
            back_ms: rng.u64(1..1_000),
        });
        some(rng, 6, 3, &|rng| Fault::Reload { gateway: rng.usize(..self.gateways) });
        some(rng, 5, 4, &|rng| {
            let (gateway, worker) = who(rng);
            Fault::Cut { gateway, worker }
        });
        some(rng, 5, 4, &|rng| {
            let (gateway, worker) = who(rng);
            Fault::SecondConnection { gateway, worker }
        });
        some(rng, 8, 2, &|rng| Fault::ServerPauses { for_ms: rng.u64(10..1_000) });
        some(rng, 5, 2, &|_| Fault::ServerRestarts { keeps: true });
        some(rng, 10, 2, &|rng| Fault::ClockSteps { by_ms: -rng.i64(1..20_000) });
        some(rng, 3, 6, &|rng| {
            let limit = rng.usize(..self.limits.len());
            Fault::LimitChanges { limit, amount: rng.u64(1..=2 * self.limits[limit].amount) }
        });
        some(rng, 8, 2, &|rng| Fault::GatewaysCounted { n: rng.u32(1..=2 * self.gateways as u32) });
        plan.sort_by_key(|p| p.at_ms);
        plan
    }

    /// The server forgets once, in the middle. Half of these scenes are otherwise calm: there the
    /// bound is tight.
    pub(super) fn forgetful(seed: u64, rng: &mut Rng) -> Scene {
        let mut scene = Scene::storm(seed, rng);
        scene.kind = Kind::Forgetful;
        scene.length_ms = scene.length_ms.max(4 * scene.limits[0].window_ms);
        scene.limits.truncate(1);
        scene.small_zone = false;
        scene.clients = scene.clients.min(3);
        scene.plan.retain(|p| !matches!(p.fault, Fault::LimitChanges { .. } | Fault::ClockSteps { .. }));
        if rng.u8(..3) > 0 {
            scene.plan.clear();
            (scene.loss, scene.delay_ms, scene.disorder) = (0.0, 1, false);
            scene.limits[0].amount = *one_of(rng, &[20, 100, 200]);
            scene.clients = 1;
            scene.gateways = *one_of(rng, &[1, 1, 2, 4, 8]);
            scene.traffic = Traffic::Steady;
            scene.reconnect_ms = *one_of(rng, &[30, 1_800]);
            if scene.reconnect_ms > 30 {
                // Who comes first could take all that the others have not published yet.
                scene.gateways = *one_of(rng, &[2, 4, 8]);
                scene.limits[0].window_ms = 2_000;
                scene.length_ms = 10_000;
            }
            scene.rate = 8_000.0 * scene.limits[0].amount as f64 / scene.limits[0].window_ms as f64;
            scene.rate = scene.rate.min(3_000_000.0 / scene.length_ms as f64);
        }
        if rng.bool() {
            // One worker whose messages come in order: what is late is of a former life.
            (scene.gateways, scene.workers, scene.disorder) = (1, 1, false);
            scene.plan.clear();
            (scene.loss, scene.late, scene.reconnect_ms) = (0.0, true, 5);
            scene.delay_ms = *one_of(rng, &[1, 100, 300, 300]);
            if scene.delay_ms > 1 {
                // Requests of several units leave some on lease while they wait for more.
                (scene.slow_one_in, scene.costs) = (3, true);
                scene.limits[0].amount = *one_of(rng, &[20, 100]);
                scene.limits[0].window_ms = 5_000;
                scene.traffic = Traffic::Steady;
                scene.rate = scene.limits[0].amount as f64 * *one_of(rng, &[0.3, 0.5]);
                scene.length_ms = 40_000;
            }
        }
        let window = scene.limits[0].window_ms;
        let fault = match rng.u8(..8) {
            0..5 => Fault::ServerRestarts { keeps: false },
            5 => Fault::Failover { lag_ms: rng.u64(1..window) },
            6 => Fault::Flush,
            _ => Fault::Evict { limit: 0, client: 0 },
        };
        // In order a gateway that is alone loses nothing, however often its server forgets.
        let new_life = matches!(fault, Fault::ServerRestarts { .. } | Fault::Failover { .. });
        let times =
            if scene.late && scene.plan.is_empty() && new_life && scene.gateways == 1 { 12 } else { 1 };
        for _ in 0..times {
            scene.plan.push(Planned { at_ms: rng.u64(window..scene.length_ms - window), fault });
        }
        scene.plan.sort_by_key(|p| p.at_ms);
        scene
    }

    pub(super) fn alone(seed: u64, rng: &mut Rng) -> Scene {
        let mut scene = Scene::storm(seed, rng);
        scene.kind = Kind::Alone;
        scene.gateways = 1;
        scene.small_zone = false;
        scene.clients = scene.clients.min(3);
        if rng.bool() {
            // Long rings that are always full, and workers that die in the middle of it.
            scene.limits.truncate(1);
            scene.limits[0].amount = *one_of(rng, &[60, 100, 200]);
            scene.traffic = Traffic::Steady;
            scene.rate = 3_000.0 * scene.limits[0].amount as f64 / scene.limits[0].window_ms as f64;
            scene.clients = 1;
        }
        let die = |rng: &mut Rng| Planned {
            at_ms: rng.u64(50..scene.length_ms),
            fault: Fault::WorkerDiesAtStore { gateway: 0, worker: 0, store: rng.u32(1..80) },
        };
        let deaths = (0..20).map(|_| die(rng)).collect::<Vec<_>>();
        scene.plan = scene.troubles(rng);
        scene.plan.extend(deaths);
        scene.plan.retain(|p| !matches!(p.fault, Fault::GatewayDies { .. }));
        scene.plan.sort_by_key(|p| p.at_ms);
        scene
    }
}
