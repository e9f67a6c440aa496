//! What a seed decides: how many gateways, which traffic, which faults.

use fastrand::Rng;

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// At random, at a constant rate.
    Steady,
    /// A burst once per window, as a cron job sends it.
    Cron,
    /// High and low in turn.
    Waves,
    /// On one gateway after the other.
    Moving,
}

/// What goes wrong. Rates are per second of world time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Share of messages that are lost, each way.
    pub loss: f64,
    /// Longest delay of a message each way, ms; most take one or two.
    pub delay_ms: u64,
    pub worker_deaths: f64,
    pub server_restarts: f64,
    /// Whether a restarted server forgets. With it windows may exceed the limit, see docs.
    pub amnesia: bool,
    /// Whether the limit changes under way.
    pub limit_changes: bool,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Scene {
    pub seed: u64,
    pub gateways: usize,
    pub workers: usize,
    pub clients: usize,
    pub amount: u64,
    pub window_ms: u64,
    pub length_ms: u64,
    /// Requests a second of each client, all gateways together.
    pub rate: f64,
    pub traffic: Traffic,
    /// Clients keep to 97 % of the limit in every interval of 1.02 windows, whatever their traffic.
    pub polite: bool,
    /// Costs above 1 occur.
    pub costs: bool,
    pub faults: Faults,
}

impl Scene {
    /// The scene of a seed: everything about it follows from the number.
    pub fn of_seed(seed: u64) -> Scene {
        let mut rng = Rng::with_seed(seed ^ 0x7765_6972);
        let amount = [5, 20, 100, 400][rng.usize(..4)];
        let window_ms = [1_000, 2_000, 5_000][rng.usize(..3)];
        let pressure = [0.5, 0.97, 2.0, 8.0][rng.usize(..4)];
        let clients = 1 + rng.usize(..3);
        Scene {
            seed,
            gateways: [1, 2, 3, 4, 8][rng.usize(..5)],
            workers: 1 + rng.usize(..2),
            clients,
            amount,
            window_ms,
            length_ms: 6 * window_ms,
            rate: amount as f64 * 1000.0 / window_ms as f64 * pressure,
            traffic: [Traffic::Steady, Traffic::Cron, Traffic::Waves, Traffic::Moving][rng.usize(..4)],
            polite: rng.u8(..4) == 0,
            costs: rng.u8(..3) == 0,
            faults: Scene::faults(&mut rng, window_ms),
        }
    }

    fn faults(rng: &mut Rng, window_ms: u64) -> Faults {
        let often = |rng: &mut Rng, rate: f64| {
            if rng.bool() { rate * 1000.0 / window_ms as f64 } else { 0.0 }
        };
        Faults {
            loss: [0.0, 0.0, 0.02, 0.2][rng.usize(..4)],
            delay_ms: [1, 5, 300, 5_000][rng.usize(..4)],
            worker_deaths: often(rng, 1.0),
            server_restarts: often(rng, 0.5),
            amnesia: false,
            limit_changes: rng.u8(..3) == 0,
        }
    }

    /// The same scene where nothing goes wrong.
    pub fn without_faults(self) -> Scene {
        Scene { faults: Faults { delay_ms: 1, ..Faults::default() }, ..self }
    }
}
