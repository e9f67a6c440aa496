//! One or more gateways with a backend and an installation: what most end-to-end tests begin with.

use std::fs;

use crate::backend::{Backend, Behaviour};
use crate::gateway::{Gateway, Options};
use crate::load::{Plan, Shot};
use crate::redis::Redis;
use crate::weir::Installation;
use crate::{StartError, TempDir, parts, temp_dir};

/// Running gateways that meter into an installation of their own. Dropping it ends them and removes
/// the installation.
pub struct Scene {
    pub gateways: Vec<Gateway>,
    pub backend: Backend,
    pub installation: Installation,
    options: Vec<Options>,
    _dir: TempDir,
}

/// What a scene is made of.
pub struct Plot {
    policy: String,
    gateways: usize,
    behaviour: Behaviour,
    redis: Option<String>,
    change: Box<dyn Fn(usize, Options) -> Options>,
    debug: bool,
}

impl Plot {
    /// One gateway alone, with a backend that answers at once.
    pub fn new(policy: &str) -> Plot {
        Plot {
            policy: policy.to_owned(),
            gateways: 1,
            behaviour: Behaviour::instant(),
            redis: None,
            change: Box::new(|_, options| options),
            debug: false,
        }
    }

    /// Two gateways that share limits through the Redis at this URL.
    pub fn shared_by_two(self, redis: &str) -> Plot {
        self.shared_by(2, redis)
    }

    /// As many gateways as you like that do.
    pub fn shared_by(mut self, gateways: usize, redis: &str) -> Plot {
        (self.gateways, self.redis) = (gateways, Some(redis.to_owned()));
        self
    }

    /// One gateway that keeps its limits in Redis.
    pub fn redis(mut self, redis: &Redis) -> Plot {
        self.redis = Some(redis.url());
        self
    }

    pub fn backend(mut self, behaviour: Behaviour) -> Plot {
        self.behaviour = behaviour;
        self
    }

    /// Changes the options of each gateway.
    pub fn options(self, change: impl Fn(Options) -> Options + 'static) -> Plot {
        self.each(move |_, options| change(options))
    }

    /// Changes the options of each gateway, which it is told by its number, from 0.
    pub fn each(mut self, change: impl Fn(usize, Options) -> Options + 'static) -> Plot {
        self.change = Box::new(change);
        self
    }

    /// With the module's debug build, which has the test hooks.
    pub fn debug(mut self) -> Plot {
        self.debug = true;
        self
    }

    pub fn start(self) -> Result<Scene, StartError> {
        let (dir, backend) = (temp_dir(), Backend::start(self.behaviour)?);
        let mut installation = Installation::new(dir.path(), self.gateways)?;
        // What stands behind the address is for the gateways alone.
        if let Some(url) = self.redis.as_ref().and_then(|redis| redis.split(' ').next()) {
            installation = installation.redis(url);
        }
        fs::write(installation.policy(), &self.policy).map_err(StartError::io("writing the policy"))?;
        let module = if self.debug { parts::debug_module()? } else { parts::module()? };
        let options: Vec<Options> = (0..self.gateways)
            .map(|n| {
                let name = format!("gateway-{}", n + 1);
                let policy = installation.policy();
                let mut options = Options::new(&name, module.clone(), &policy, backend.port())
                    .spool(&installation.spool(n));
                options.redis = self.redis.clone();
                (self.change)(n, options)
            })
            .collect();
        let gateways: Result<Vec<Gateway>, StartError> = options.iter().map(Gateway::start).collect();
        Ok(Scene { gateways: gateways?, backend, installation, options, _dir: dir })
    }
}

impl Scene {
    /// The port of the first gateway.
    pub fn port(&self) -> u16 {
        self.gateways[0].port()
    }

    pub fn ports(&self) -> Vec<u16> {
        self.gateways.iter().map(Gateway::port).collect()
    }

    /// `rate` requests a second with this key for `seconds`, over all gateways in turn.
    pub fn plan(&self, key: &str, rate: f64, seconds: f64) -> Plan {
        let shots = self.ports().into_iter().map(|port| Shot::new("GET", "/orders", key, port)).collect();
        Plan::even(shots, rate, std::time::Duration::from_secs_f64(seconds), 128)
    }

    /// Waits until every gateway has its link to Redis, so that nothing is decided without it.
    pub fn linked(self) -> Result<Scene, StartError> {
        self.gateways.iter().try_for_each(Gateway::wait_for_redis)?;
        Ok(self)
    }

    /// Ends the gateways in order, so that every record lies in a sealed segment.
    pub fn close(&mut self) {
        for gateway in &mut self.gateways {
            assert!(gateway.nginx.quit(), "nginx did not end:\n{}", gateway.nginx.error_log());
        }
    }

    /// Starts the gateways again after [`close`](Scene::close), on the same spools.
    pub fn open_again(&mut self) -> Result<(), StartError> {
        let gateways: Result<Vec<Gateway>, StartError> = self.options.iter().map(Gateway::start).collect();
        self.gateways = gateways?;
        Ok(())
    }
}
