//! Two gateways that share a Redis, for what is counted and not timed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_testbed::gateway::{Gateway, write_policy};
use weir_testbed::http::Request;
use weir_testbed::nginx::{HTTP_PREAMBLE, preamble};
use weir_testbed::redis::Redis;
use weir_testbed::{StartError, TempDir, parts, temp_dir, wait};

use crate::error::{BenchError, Result};

const READ_WITHIN: Duration = Duration::from_secs(20);

pub struct Pair {
    pub redis: Redis,
    pub gateways: Vec<Gateway>,
    policy: PathBuf,
    _dir: TempDir,
}

impl Pair {
    /// Without records.
    pub fn start(policy: &str, workers: usize) -> Result<Pair> {
        let lines = |file: &Path, _: &Path| format!("weir_policy {};", file.display());
        Pair::start_with(policy, workers, "", lines)
    }

    /// `head`: before the blocks; `lines`: of the http block, from the policy file and a folder for each
    /// gateway.
    pub fn start_with(
        policy: &str,
        workers: usize,
        head: &str,
        lines: impl Fn(&Path, &Path) -> String,
    ) -> Result<Pair> {
        let (redis, dir) = (Redis::start()?, temp_dir());
        let file = dir.path().join("policy.toml");
        fs::write(&file, policy)?;
        let head = format!("{head}load_module {};\n", parts::module()?.display());
        let gateways = (1..=2).map(|n| {
            let name = format!("gateway-{n}");
            let lines = lines(&file, &dir.path().join(&name));
            Gateway::start_with(|port| config(&head, &lines, &redis, &name, workers, port))
        });
        let gateways: Vec<Gateway> = gateways.collect::<std::result::Result<_, StartError>>()?;
        gateways.iter().try_for_each(Gateway::wait_for_redis)?;
        Ok(Pair { redis, gateways, policy: file, _dir: dir })
    }

    pub fn ports(&self) -> Vec<u16> {
        self.gateways.iter().map(Gateway::port).collect()
    }

    /// Puts another policy in the place of the one in force, as one saves a file.
    pub fn save(&self, policy: &str) -> Result<()> {
        Ok(write_policy(&self.policy, policy)?)
    }
}

fn config(head: &str, lines: &str, redis: &Redis, name: &str, workers: usize, port: u16) -> String {
    let mut text = preamble(workers).replace("notice", "crit");
    let _ = write!(
        text,
        "{head}events {{ worker_connections 1024; }}
http {{\n{HTTP_PREAMBLE}    keepalive_requests 1000000000;
    weir_zone 16m;
    {lines}
    weir_gateway {name};
    weir_redis {redis};
    server {{
        listen 127.0.0.1:{port} reuseport;
        add_header X-Worker $pid always;
        location / {{ weir on; empty_gif; }}
        location = /weir/metrics {{ weir_metrics; }}
    }}\n}}\n",
        redis = redis.url(),
    );
    text
}

/// A metric of a gateway, by its name in OpenMetrics.
pub fn metric(port: u16, path: &str, name: &str) -> Result<f64> {
    let read = || {
        let text = Request::get(port, path).send().ok()?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    };
    wait::until_some(READ_WITHIN, read).ok_or_else(|| BenchError::wrong("metrics", format!("no {name}")))
}
