//! The place of a scenario: gateways of both builds, a Redis, and the network between them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use weir_testbed::backend::{Behaviour, Endpoint};
use weir_testbed::gateway::Options;
use weir_testbed::parts;
use weir_testbed::proxy::Proxy;
use weir_testbed::redis::{Redis, RedisCluster, Sentinel};
use weir_testbed::scene::{Plot, Scene};

use crate::crowd::{COST_OF_PATH, Client, policy};

/// How a world is built.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub gateways: usize,
    /// The module's debug build runs in every other gateway, from the first or the second on; the
    /// first, third ... have one worker or two. Both builds share one Redis and so every scenario.
    pub turned: bool,
    /// `weir_fallback`.
    pub fallback: &'static str,
    pub timeout: &'static str,
    /// All gateways are the nginx 1.28 that the module was built for from a package.
    pub vendored: bool,
    pub kept_by: KeptBy,
}

/// Who counts for all gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBy {
    /// No Redis: one gateway alone.
    Nobody,
    /// One Redis, behind a network that can be disturbed.
    Redis,
    /// The same, and it knows after a kill what it knew before.
    DurableRedis,
    Cluster,
    Sentinel,
}

/// The servers themselves.
pub enum Store {
    Nobody,
    /// The one in charge, and the network before it.
    One(Redis, Proxy),
    Cluster(RedisCluster),
    Sentinel(Sentinel),
}

impl Store {
    fn start(kept_by: KeptBy) -> Store {
        match kept_by {
            KeptBy::Nobody => Store::Nobody,
            KeptBy::Redis | KeptBy::DurableRedis => {
                let durable = kept_by == KeptBy::DurableRedis;
                let redis = if durable { Redis::start_durable() } else { Redis::start() }.unwrap();
                let proxy = Proxy::to(redis.port()).unwrap();
                Store::One(redis, proxy)
            }
            KeptBy::Cluster => Store::Cluster(RedisCluster::start().unwrap()),
            KeptBy::Sentinel => Store::Sentinel(Sentinel::start().unwrap()),
        }
    }

    /// As `weir_redis` takes it.
    fn url(&self) -> Option<String> {
        match self {
            Store::Nobody => None,
            Store::One(_, proxy) => Some(format!("redis://127.0.0.1:{}", proxy.port())),
            Store::Cluster(cluster) => Some(cluster.url()),
            Store::Sentinel(sentinel) => Some(sentinel.url()),
        }
    }
}

impl Setting {
    pub fn new(gateways: usize) -> Setting {
        Setting {
            gateways,
            turned: false,
            fallback: "deny",
            timeout: "300ms",
            vendored: false,
            kept_by: KeptBy::Redis,
        }
    }

    /// How many workers a gateway has: with four gateways each build has one and two.
    pub fn workers(&self, gateway: usize) -> usize {
        1 + (gateway / 2 + gateway) % 2
    }

    /// Module and nginx of a gateway.
    fn build(&self, gateway: usize) -> (PathBuf, Option<PathBuf>) {
        if self.vendored {
            let (nginx, module) = parts::vendored().unwrap();
            return (module, Some(nginx));
        }
        let is_debug = (gateway % 2 == 1) != self.turned;
        let module = if is_debug { parts::debug_module() } else { parts::module() };
        (module.unwrap(), None)
    }
}

/// Everything that runs.
pub struct World {
    pub scene: Scene,
    pub store: Store,
    /// When it all began: times of samples and troubles count from here.
    pub epoch: Instant,
    /// When something was wrong, microseconds after the epoch.
    pub troubles: Vec<(u64, u64)>,
    /// Workers killed, by gateway.
    pub kills: Vec<usize>,
}

impl World {
    pub fn start(setting: Setting, clients: &[Client]) -> World {
        let store = Store::start(setting.kept_by);
        let big =
            Endpoint { path: "/big".into(), median: Duration::ZERO, spread: 0.0, errors: 0.0, bytes: 3_000 };
        let plot = Plot::new(&policy(clients))
            .backend(Behaviour { endpoints: vec![big], ..Behaviour::instant() })
            .each(move |n, options| configured(options, setting, n));
        let scene = match store.url() {
            Some(url) => plot.shared_by(setting.gateways, &url).start().and_then(Scene::linked),
            None => plot.start(),
        };
        World {
            scene: scene.unwrap(),
            store,
            epoch: Instant::now(),
            troubles: Vec::new(),
            kills: vec![0; setting.gateways],
        }
    }

    pub fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// The one Redis and the network before it.
    pub fn one(&mut self) -> (&mut Redis, &Proxy) {
        match &mut self.store {
            Store::One(redis, proxy) => (redis, proxy),
            _ => panic!("this trouble is made for one Redis"),
        }
    }

    pub fn cluster(&mut self) -> &mut RedisCluster {
        match &mut self.store {
            Store::Cluster(cluster) => cluster,
            _ => panic!("this trouble is made for a Cluster"),
        }
    }

    pub fn sentinel(&mut self) -> &mut Sentinel {
        match &mut self.store {
            Store::Sentinel(sentinel) => sentinel,
            _ => panic!("this trouble is made for servers that Sentinels watch"),
        }
    }
}

fn configured(mut options: Options, setting: Setting, gateway: usize) -> Options {
    (options.module, options.nginx) = setting.build(gateway);
    options
        .workers(setting.workers(gateway))
        .http(COST_OF_PATH)
        .http(&format!("weir_redis_timeout {};", setting.timeout))
        .http(&format!("weir_gateways_min {};", setting.gateways))
        .location("weir_cost $units;")
        .location(&format!("weir_fallback {};", setting.fallback))
}
