//! Storms that press on one weakness each.

use fastrand::Rng;

use super::{LimitSpec, Scene, Traffic, Whose, one_of};
use crate::fault::{Fault, Planned};

impl Scene {
    /// Small limits, always full, on a bad network.
    pub(super) fn make_lossy(&mut self, rng: &mut Rng) {
        self.limits.truncate(1);
        let window_ms = self.limits[0].window_ms;
        self.limits[0].amount = *one_of(rng, &[5, 20, 50]);
        // Several that wait together are granted a part of what they need.
        self.costs = rng.bool();
        (self.gateways, self.workers, self.clients) = (*one_of(rng, &[2, 3, 4]), 1, 1);
        self.loss = *one_of(rng, &[0.1, 0.3]);
        (self.delay_ms, self.slow_one_in) = (*one_of(rng, &[5, window_ms / 40, window_ms / 12]), 2);
        self.traffic = *one_of(rng, &[Traffic::Steady, Traffic::Edges]);
        self.small_zone = false;
        self.length_ms = 12 * window_ms;
        let pressure = *one_of(rng, &[1.5, 3.0, 6.0]);
        let rate = pressure * self.limits[0].amount as f64 * 1_000.0 / window_ms as f64;
        self.rate = rate.min(1_500_000.0 / self.length_ms as f64);
    }

    /// Answers that come after the end of the lease that they grant.
    pub(super) fn make_slow(&mut self, rng: &mut Rng) {
        self.limits.truncate(1);
        let window_ms = self.limits[0].window_ms;
        self.limits[0].amount = *one_of(rng, &[5, 20, 50]);
        (self.gateways, self.workers, self.clients) = (*one_of(rng, &[3, 4, 8]), 1, 1);
        (self.loss, self.small_zone, self.slow_one_in) = (*one_of(rng, &[0.0, 0.1]), false, 12);
        self.delay_ms = *one_of(rng, &[window_ms / 3, 2 * window_ms]);
        self.traffic = Traffic::Steady;
        self.length_ms = 10 * window_ms;
        self.rate = 3_000.0 * self.limits[0].amount as f64 / window_ms as f64;
    }

    /// Workers of one gateway that are stopped in the middle of decisions, again and again.
    pub(super) fn make_stopped(&mut self, rng: &mut Rng) {
        self.limits.truncate(1);
        let window_ms = self.limits[0].window_ms;
        self.limits[0].amount = *one_of(rng, &[20, 60]);
        (self.gateways, self.workers, self.clients) = (1, 4, 1);
        (self.loss, self.delay_ms, self.small_zone) = (0.0, 1, false);
        self.traffic = *one_of(rng, &[Traffic::Steady, Traffic::Edges]);
        self.length_ms = 6 * window_ms;
        self.rate = 3_000.0 * self.limits[0].amount as f64 / window_ms as f64;
        for _ in 0..24 {
            let (worker, store) = (rng.usize(..4), rng.u32(2..24));
            let fault = Fault::WorkerStops { gateway: 0, worker, store, for_ms: rng.u64(5..100) };
            self.plan.push(Planned { at_ms: rng.u64(50..self.length_ms), fault });
        }
    }

    /// Bursts a window apart, each on one gateway, which dies thereafter with what it had in mind.
    pub(super) fn make_hopping(&mut self, rng: &mut Rng) {
        self.limits.truncate(1);
        let window_ms = self.limits[0].window_ms;
        self.limits[0].amount = *one_of(rng, &[1, 2]);
        (self.gateways, self.workers, self.clients) = (*one_of(rng, &[2, 3]), 1, 1);
        (self.loss, self.small_zone, self.slow_one_in) = (0.0, false, 2);
        self.delay_ms = window_ms / 12;
        self.traffic = Traffic::Hopping;
        self.length_ms = 8 * window_ms;
        // Some 1.5 limits in each burst, which takes about a twentieth of a window.
        self.rate = 1.5 * self.limits[0].amount as f64 * 1_000.0 / window_ms as f64;
        for burst in 1..8 {
            let gateway = burst as usize % self.gateways;
            let at_ms = burst * window_ms + window_ms / 40 + rng.u64(..window_ms / 30);
            let back_ms = rng.u64(1..window_ms / 2);
            self.plan.push(Planned { at_ms, fault: Fault::GatewayDies { gateway, back_ms } });
        }
    }

    /// A limit that is hardly reached, and lowered again and again while it is used, on a network that
    /// is slow.
    pub(super) fn make_lowered(&mut self, rng: &mut Rng) {
        self.limits.truncate(1);
        let (amount, window_ms) = (*one_of(rng, &[50, 200]), 5_000);
        self.limits[0] = LimitSpec { whose: Whose::EachClient, amount, window_ms };
        (self.gateways, self.clients, self.small_zone) = (*one_of(rng, &[2, 3]), 1, false);
        (self.loss, self.delay_ms, self.lag_ms, self.length_ms) = (0.0, window_ms / 12, 0, 30_000);
        (self.traffic, self.slow_one_in) = (Traffic::Edges, 4);
        // Each burst asks for about the whole limit, which is lowered in the middle of it.
        self.rate = amount as f64 * 1_000.0 / window_ms as f64;
        for edge in 1..6 {
            let early = edge * window_ms - window_ms / 40 + rng.u64(..window_ms / 20);
            let lower = rng.u64(amount * 2 / 10..amount * 8 / 10);
            for (at_ms, amount) in [(early, lower), (edge * window_ms + window_ms / 2, amount)] {
                self.plan.push(Planned { at_ms, fault: Fault::LimitChanges { limit: 0, amount } });
            }
        }
    }

    /// Bytes, mostly beyond what is on lease, on a network that loses much.
    pub(super) fn make_bytes(&mut self, rng: &mut Rng) {
        let window_ms = 20_000;
        let spec = |whose, amount| LimitSpec { whose, amount, window_ms };
        let bytes = *one_of(rng, &[60_000, 150_000]);
        self.limits = vec![spec(Whose::EachClient, 1_000), spec(Whose::BytesOfEachClient, bytes)];
        (self.gateways, self.clients, self.small_zone) = (*one_of(rng, &[1, 2, 4]), 1, false);
        (self.loss, self.delay_ms) = (*one_of(rng, &[0.0, 0.4]), 5);
        self.traffic = Traffic::Steady;
        (self.length_ms, self.rate) = (60_000, 25.0);
        self.reconnect_ms = 5;
    }

    /// More keys than the zone has room for, with bytes that others hear of late.
    pub(super) fn make_crowded(&mut self, rng: &mut Rng) {
        let (amount, window_ms) = (*one_of(rng, &[5, 20]), 2_000);
        let spec = |whose, amount, window_ms| LimitSpec { whose, amount, window_ms };
        self.limits = vec![
            spec(Whose::EachClient, amount, window_ms),
            spec(Whose::EachClient, 3 * amount, 4 * window_ms),
            spec(Whose::BytesOfEachClient, 300 * amount, *one_of(rng, &[1, 4]) * window_ms),
        ];
        (self.gateways, self.clients, self.small_zone) = (*one_of(rng, &[1, 2, 4]), 20, true);
        (self.loss, self.delay_ms) = (*one_of(rng, &[0.0, 0.1]), *one_of(rng, &[5, 100]));
        self.traffic = *one_of(rng, &[Traffic::Steady, Traffic::Moving]);
        (self.length_ms, self.rate, self.skewed) = (12_000, 150.0, false);
    }
}
