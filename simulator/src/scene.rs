//! What a seed decides: how many gateways, which limits, which traffic, which faults.

use fastrand::Rng;

use crate::fault::{Fault, Planned};

/// What a scene is about, which says by what it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything goes wrong that may without a server that forgets: strict.
    Storm,
    /// The server forgets once.
    Forgetful,
    /// One gateway without a server; its workers die, stop and are reloaded: strict.
    Alone,
    /// Clients keep to 97 % of their limits in every 1.02 windows; nothing goes wrong: none is refused.
    Polite,
    /// 80 within a second, every 60.1 s, against 100 a minute: none is refused.
    Cron,
    /// Twice the limit, steadily: almost all of the limit is had.
    Flood,
    /// A client that comes back when it was told to is served.
    Comeback,
}

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
    /// Bursts just before and just after each edge of a window.
    Edges,
    /// The same, each on one gateway after the other.
    Hopping,
}

/// Whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    EachClient,
    /// All clients together, in another slot.
    Everyone,
    /// Bytes of each client, known only when an answer was sent.
    BytesOfEachClient,
}

/// One limit of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    pub whose: Whose,
    pub amount: u64,
    pub window_ms: u64,
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    pub seed: u64,
    /// Another number is another throw of all dice in the same scene.
    pub luck: u64,
    pub kind: Kind,
    pub gateways: usize,
    pub workers: usize,
    pub clients: usize,
    /// All of them apply to each request.
    pub limits: Vec<LimitSpec>,
    pub length_ms: u64,
    /// Requests a second, all clients and gateways together.
    pub rate: f64,
    pub traffic: Traffic,
    /// The first client sends most.
    pub skewed: bool,
    /// Costs above 1 occur.
    pub costs: bool,
    /// Share of messages that are lost, each way.
    pub loss: f64,
    /// Longest delay of a message each way, ms; most take one or two ...
    pub delay_ms: u64,
    /// ... but one in so many.
    pub slow_one_in: u8,
    /// Whether messages of one connection overtake one another.
    pub disorder: bool,
    /// The server's clock against the gateways', parts per million.
    pub drift_ppm: i64,
    /// Workers learn of a changed limit within so long.
    pub lag_ms: u64,
    /// Whether a worker still hears what is under way on a connection when that breaks.
    pub late: bool,
    /// A broken connection comes up again within so long.
    pub reconnect_ms: u64,
    /// Shared memory for 32 keys.
    pub small_zone: bool,
    pub plan: Vec<Planned>,
}

impl Scene {
    /// The scene of a seed: everything about it follows from the number.
    pub fn of_seed(seed: u64) -> Scene {
        let mut rng = Rng::with_seed(seed ^ 0x7765_6972);
        match rng.u8(..100) {
            0..55 => Scene::storm(seed, &mut rng),
            55..70 => Scene::forgetful(seed, &mut rng),
            70..78 => Scene::alone(seed, &mut rng),
            78..84 => Scene::polite(seed, &mut rng),
            84..86 => Scene::cron(seed, &mut rng),
            86..90 => Scene::flood(seed, &mut rng),
            _ => Scene::comeback(seed, &mut rng),
        }
    }

    /// One gateway, one client, one limit, and nothing goes wrong.
    pub fn quiet(kind: Kind, amount: u64, window_ms: u64) -> Scene {
        Scene {
            seed: 0,
            luck: 0,
            kind,
            gateways: 1,
            workers: 1,
            clients: 1,
            limits: vec![LimitSpec { whose: Whose::EachClient, amount, window_ms }],
            length_ms: 5 * window_ms,
            rate: 2_000.0 * amount as f64 / window_ms as f64,
            traffic: Traffic::Steady,
            skewed: false,
            costs: false,
            loss: 0.0,
            delay_ms: 1,
            slow_one_in: 10,
            disorder: false,
            drift_ppm: 0,
            lag_ms: 0,
            late: false,
            reconnect_ms: 30,
            small_zone: false,
            plan: Vec::new(),
        }
    }

    fn storm(seed: u64, rng: &mut Rng) -> Scene {
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

    /// Small limits, always full, on a bad network.
    fn make_lossy(&mut self, rng: &mut Rng) {
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
    fn make_slow(&mut self, rng: &mut Rng) {
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
    fn make_stopped(&mut self, rng: &mut Rng) {
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
    fn make_hopping(&mut self, rng: &mut Rng) {
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
    fn make_lowered(&mut self, rng: &mut Rng) {
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
    fn make_bytes(&mut self, rng: &mut Rng) {
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
    fn make_crowded(&mut self, rng: &mut Rng) {
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
    fn forgetful(seed: u64, rng: &mut Rng) -> Scene {
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

    fn alone(seed: u64, rng: &mut Rng) -> Scene {
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

    fn polite(seed: u64, rng: &mut Rng) -> Scene {
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

    fn cron(seed: u64, rng: &mut Rng) -> Scene {
        let mut scene = Scene::quiet(Kind::Cron, 100, 60_000);
        scene.seed = seed;
        scene.gateways = *one_of(rng, &[1, 2, 4, 8, 16]);
        scene.workers = *one_of(rng, &[1, 2, 4]);
        scene.length_ms = 360_000;
        scene
    }

    fn flood(seed: u64, rng: &mut Rng) -> Scene {
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

    fn comeback(seed: u64, rng: &mut Rng) -> Scene {
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

    /// Within how long the server knows of bytes that were sent, ms: they count as under way until
    /// then. What is beyond a lease is published after 100 ms; when that is lost, again.
    pub fn news_ms(&self) -> u64 {
        let paused = |p: &Planned| match p.fault {
            Fault::ServerPauses { for_ms } | Fault::WorkerStops { for_ms, .. } => for_ms,
            _ => 0,
        };
        let cut = |p: &Planned| matches!(p.fault, Fault::Cut { .. } | Fault::ServerRestarts { .. });
        let often = if self.loss > 0.0 { 1 + (self.loss * 10.0) as u64 } else { 0 };
        let cuts = self.plan.iter().filter(|p| cut(p)).count() as u64;
        150 + 2 * self.delay_ms
            + 500 * often
            + (300 + self.reconnect_ms) * cuts
            + self.plan.iter().map(paused).sum::<u64>()
    }

    /// How long a worker may go on by what it was granted before it heard of what others sent, ms: while
    /// that lease lasts. Who is alone hears of all at once.
    pub fn unaware_ms(&self, limit: &LimitSpec) -> u64 {
        let reloaded = self.plan.iter().any(|p| matches!(p.fault, Fault::Reload { .. }));
        if self.gateways * self.workers > 1 || reloaded { (limit.window_ms / 10).max(50) } else { 0 }
    }

    /// Whether nothing goes wrong but that the server forgets.
    pub fn is_calm(&self) -> bool {
        self.loss == 0.0
            && self.delay_ms <= 1
            && !self.disorder
            && self.plan.iter().all(|p| p.fault.forgets())
    }
}

fn one_of<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}
