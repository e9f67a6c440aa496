//! What is done to the parts while they work.

use std::time::Duration;

use weir_testbed::wait;

use crate::world::World;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    /// kill -9 of one worker after the other.
    Kills,
    /// One gateway after the other.
    Reloads,
    /// Redis is stopped for three seconds and goes on.
    Pause,
    /// Redis is killed and comes back, with or without what it knew.
    Restart,
    Flush,
    /// A replica takes over that was cut off for two seconds.
    LaggedFailover,
    /// No packet passes, then no answer, then connections are reset.
    Cut,
    /// The network holds everything back, first by less than the time-out, then by more.
    Delay,
    /// A quarter of a primary's slots moves to another one and back.
    Reshard,
    /// A primary of a Cluster is killed, and replaced by its replica.
    ClusterFailover,
    /// The server that Sentinels watch is killed, and replaced by its replica.
    SentinelFailover,
}

/// Seconds without trouble before each.
pub const CALM_S: f64 = 3.0;
/// Seconds after it in which everybody is served again.
pub const RECOVERY_S: f64 = 8.0;
/// How long servers may take to agree on a successor.
const AGREED_WITHIN: Duration = Duration::from_secs(60);

impl Fault {
    /// How long it takes, about.
    pub fn seconds(self) -> f64 {
        match self {
            Fault::Nothing => 2.0,
            Fault::Kills | Fault::Pause | Fault::Cut | Fault::Delay => 5.0,
            Fault::Reshard => 12.0,
            Fault::ClusterFailover | Fault::SentinelFailover => 5.0,
            Fault::LaggedFailover => 3.5,
            Fault::Reloads => 3.0,
            Fault::Restart => 2.0,
            Fault::Flush => 0.1,
        }
    }

    /// Whether it breaks connections between clients and gateways.
    pub fn breaks_connections(self) -> bool {
        matches!(self, Fault::Kills | Fault::Reloads)
    }

    /// Does it and mends it. Notes from when until when.
    pub fn strike(self, world: &mut World) {
        let begun = world.now_us();
        match self {
            Fault::Nothing => return pass(self.seconds()),
            Fault::Kills => kill_workers(world),
            Fault::Reloads => world.scene.gateways.iter().for_each(|g| g.nginx.reload().unwrap()),
            Fault::Pause => {
                world.one().0.freeze();
                pass(3.0);
                world.one().0.thaw();
            }
            Fault::Restart => {
                world.one().0.kill();
                pass(1.0);
                world.one().0.start_again().unwrap();
            }
            Fault::Flush => drop(world.one().0.command(&["FLUSHALL"]).unwrap()),
            Fault::LaggedFailover => fail_over_late(world),
            Fault::Cut => cut(world),
            Fault::Delay => delay(world),
            Fault::Reshard => reshard(world),
            Fault::ClusterFailover => replace_primary(world),
            Fault::SentinelFailover => replace_watched(world),
        }
        let mended = world.now_us();
        world.troubles.push((begun, mended));
    }

    /// Makes whole what the trouble left short of a server, for the next round.
    pub fn tidy_up(self, world: &mut World) {
        match self {
            Fault::ClusterFailover => {
                let cluster = world.cluster();
                let dead = (0..6).find(|node| cluster.cli(*node, &["PING"]).is_err());
                dead.iter().for_each(|node| cluster.node_mut(*node).start_again().unwrap());
                cluster.await_whole().unwrap();
            }
            Fault::SentinelFailover => {
                let sentinel = world.sentinel();
                let dead = (0..2).find(|server| sentinel.cli(*server, &["PING"]).is_err());
                dead.iter().for_each(|server| sentinel.server_mut(*server).start_again().unwrap());
            }
            _ => {}
        }
    }
}

/// Lets time pass.
pub fn pass(seconds: f64) {
    wait::pass(Duration::from_secs_f64(seconds));
}

fn kill_workers(world: &mut World) {
    let gateways = world.scene.gateways.len();
    for n in 0..5 {
        world.scene.gateways[n % gateways].nginx.kill_worker().unwrap();
        world.kills[n % gateways] += 1;
        pass(0.8);
    }
}

fn fail_over_late(world: &mut World) {
    let (redis, proxy) = world.one();
    let replica = redis.start_replica().unwrap();
    // It keeps what it has, and follows nobody any more.
    replica.promote().unwrap();
    pass(2.0);
    redis.kill();
    pass(0.5);
    proxy.lead_to(replica.port());
    *redis = replica;
}

fn cut(world: &mut World) {
    let network = world.one().1;
    network.stall();
    pass(2.0);
    network.mend();
    pass(0.5);
    network.lose_answers();
    pass(1.0);
    network.mend();
    pass(0.5);
    network.cut();
    pass(1.0);
    network.mend();
}

fn delay(world: &mut World) {
    let network = world.one().1;
    network.delay(Duration::from_millis(80));
    pass(3.0);
    network.delay(Duration::from_millis(500));
    pass(2.0);
    network.mend();
}

fn reshard(world: &mut World) {
    let cluster = world.cluster();
    let primaries = cluster.primaries(0);
    for (from, to) in [(primaries[0], primaries[1]), (primaries[1], primaries[0])] {
        cluster.reshard(from, to, 700).unwrap();
        cluster.await_whole().unwrap();
    }
}

fn replace_primary(world: &mut World) {
    let cluster = world.cluster();
    let asked = (0..6).find(|node| !cluster.primaries(0).contains(node)).expect("three are replicas");
    let victim = *cluster.primaries(asked).iter().find(|node| **node != asked).expect("there are three");
    cluster.node_mut(victim).kill();
    let replaced = || {
        let primaries = cluster.primaries(asked);
        primaries.len() == 3 && !primaries.contains(&victim)
    };
    assert!(wait::until(AGREED_WITHIN, replaced), "no replica took over");
    cluster.await_whole().unwrap();
}

fn replace_watched(world: &mut World) {
    let sentinel = world.sentinel();
    let victim = sentinel.master(0).expect("a Sentinel names the server");
    sentinel.server_mut(victim).kill();
    let replaced = || sentinel.master(0).is_some_and(|now| now != victim);
    assert!(wait::until(AGREED_WITHIN, replaced), "no replica took over");
    let role = || sentinel.cli(1 - victim, &["ROLE"]).unwrap_or_default();
    assert!(wait::until(AGREED_WITHIN, || role().starts_with("master")), "no replica was promoted");
}
