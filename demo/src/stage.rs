//! Everything the demo starts, and where it keeps it.

use std::fs;
use std::path::Path;

use weir_testbed::backend::Backend;
use weir_testbed::gateway::{Gateway, Options, write_policy};
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::redis::Redis;
use weir_testbed::smtp::Smtp;
use weir_testbed::weir::Installation;
use weir_testbed::{StartError, parts, ports};

use crate::clients::{self, Client};
use crate::service;

/// The running parts. Dropping it ends them all.
pub struct Stage {
    pub redis: Redis,
    pub backend: Backend,
    pub gateways: [Gateway; 2],
    pub mail: Smtp,
    pub installation: Installation,
    pub pages: Pages,
}

/// An nginx that serves the pages.
pub struct Pages {
    _nginx: Nginx,
    pub url: String,
    pub port: u16,
}

impl Stage {
    /// Starts everything in `dir`, which is emptied first. Limits are off for the partner.
    pub fn set(dir: &Path, clients: &[Client]) -> Result<Stage, StartError> {
        let redis = Redis::start()?;
        let backend = Backend::start(service::behaviour(1))?;
        let _ = fs::remove_dir_all(dir);
        let mail = Smtp::start_plain(&dir.join("mails"))?;
        let pages = Pages::start(dir)?;
        let installation = Installation::new(dir, 2)?
            .mail(&format!("smtp+plain://127.0.0.1:{}", mail.port()))
            .public_url(&pages.url);
        fs::write(installation.policy(), clients::policy(clients, false))
            .map_err(StartError::io("writing the policy"))?;
        let gateways =
            [gateway(0, &installation, &redis, &backend)?, gateway(1, &installation, &redis, &backend)?];
        Ok(Stage { redis, backend, gateways, mail, installation, pages })
    }

    pub fn ports(&self) -> [u16; 2] {
        [self.gateways[0].port(), self.gateways[1].port()]
    }

    /// Transactions that Redis has run so far.
    pub fn transactions(&self) -> Option<u64> {
        let stats = self.redis.command(&["INFO", "commandstats"]).ok()?;
        let (_, rest) = stats.split_once("cmdstat_exec:calls=")?;
        rest.split(',').next()?.parse().ok()
    }

    /// The pids of all workers, which a reload would change.
    pub fn workers(&self) -> Vec<u32> {
        self.gateways.iter().flat_map(|gateway| gateway.nginx.workers()).collect()
    }

    /// Writes the policy that limits the partner too. Nothing is reloaded.
    pub fn limits_on(&self, clients: &[Client]) -> Result<(), StartError> {
        write_policy(&self.installation.policy(), &clients::policy(clients, true))
            .map_err(StartError::io("writing the policy"))
    }

    /// Ends the gateways in order, so that their spools are sealed.
    pub fn close_gateways(&mut self) -> bool {
        self.gateways.iter_mut().all(|gateway| gateway.nginx.quit())
    }
}

fn gateway(
    n: usize,
    installation: &Installation,
    redis: &Redis,
    backend: &Backend,
) -> Result<Gateway, StartError> {
    let name = format!("gateway-{}", n + 1);
    let options = Options::new(&name, parts::module()?, &installation.policy(), backend.port());
    let options = options.redis(&redis.url()).spool(&installation.spool(n));
    // On this one machine the load, the service, nginx and Redis share the processors; a gateway that
    // has its own does with the default of 20 ms.
    let options = options.http("weir_redis_timeout 250ms;");
    let gateway = Gateway::start(&options)?;
    gateway.wait_for_redis()?;
    Ok(gateway)
}

impl Pages {
    fn start(dir: &Path) -> Result<Pages, StartError> {
        let (own, port) = (dir.join("pages"), ports::free());
        fs::create_dir_all(&own).map_err(StartError::io("making the pages' folder"))?;
        let (head, root) = (preamble(1), dir.display());
        let config = format!(
            "{head}events {{}}\nhttp {{\n{HTTP_PREAMBLE}    include /etc/nginx/mime.types;
    server {{
        listen 127.0.0.1:{port};
        location / {{ root {root}/site; }}
        location /portal/ {{ root {root}; }}
    }}\n}}\n"
        );
        let nginx = Nginx::start(&own, &config, port)?;
        Ok(Pages { _nginx: nginx, url: format!("http://127.0.0.1:{port}"), port })
    }
}
