//! Worlds in which nothing goes wrong: what clients get there is judged.

use fastrand::Rng;

use super::{Kind, LimitSpec, Scene, Traffic, Whose, one_of};

impl Scene {
    pub(super) fn polite(seed: u64, rng: &mut Rng) -> Scene {
        let amount = *one_of(rng, &[100, 100, 200, 400]);
        let window_ms = *one_of(rng, &[10_000, 60_000]);
        let mut scene = Scene::quiet(Kind::Polite, amount, window_ms);
        scene.seed = seed;
        scene.gateways = *one_of(rng, &[1, 2, 3, 4, 8, 16]);
        scene.workers = *one_of(rng, &[1, 2, 4]);
        scene.traffic =
            *one_of(rng, &[Traffic::Steady, Traffic::Cron, Traffic::Waves, Traffic::Moving, Traffic::Edges]);
        scene.length_ms = 3 * window_ms;
        scene.rate = *one_of(rng, &[0.9, 1.5, 3.0]) * 1_000.0 * amount as f64 / window_ms as f64;
        if rng.u8(..3) == 0 {
            let (amount, window_ms) = (2 * amount, 2 * window_ms);
            scene.limits.push(LimitSpec { whose: Whose::EachClient, amount, window_ms });
        }
        scene
    }

    pub(super) fn cron(seed: u64, rng: &mut Rng) -> Scene {
        let mut scene = Scene::quiet(Kind::Cron, 100, 60_000);
        scene.seed = seed;
        scene.gateways = *one_of(rng, &[1, 2, 4, 8, 16]);
        scene.workers = *one_of(rng, &[1, 2, 4]);
        scene.length_ms = 360_000;
        scene
    }

    pub(super) fn flood(seed: u64, rng: &mut Rng) -> Scene {
        let amount = *one_of(rng, &[100, 100, 100, 1_000]);
        let mut scene = Scene::quiet(Kind::Flood, amount, 60_000);
        scene.seed = seed;
        scene.gateways = *one_of(rng, &[1, 2, 4, 8, 16]);
        scene.workers = *one_of(rng, &[1, 2]);
        // Ends while units are leaving the window, so that what counts too long shows.
        scene.length_ms = if amount == 100 { 320_000 } else { 140_000 };
        if rng.u8(..3) == 0 {
            // The first limit is the tighter one in its own window, the second in the long run.
            let (amount, window_ms) = (amount * 3 / 2, 120_000);
            scene.limits.push(LimitSpec { whose: Whose::EachClient, amount, window_ms });
        }
        scene
    }

    pub(super) fn comeback(seed: u64, rng: &mut Rng) -> Scene {
        let amount = *one_of(rng, &[1, 3, 10, 100]);
        let window_ms = *one_of(rng, &[1_000, 5_000, 60_000]);
        let mut scene = Scene::quiet(Kind::Comeback, amount, window_ms);
        scene.seed = seed;
        scene.gateways = *one_of(rng, &[1, 2, 4, 16]);
        scene.workers = *one_of(rng, &[1, 2, 4]);
        scene.costs = rng.u8(..3) == 0 && amount >= 10;
        if rng.u8(..3) == 0 {
            let (amount, window_ms) = (2 * amount, 3 * window_ms);
            scene.limits.push(LimitSpec { whose: Whose::EachClient, amount, window_ms });
        }
        scene.length_ms = 8 * window_ms;
        scene
    }
}
