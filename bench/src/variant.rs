//! The variants: one nginx each, all of them running at once.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use weir_testbed::gateway::key_hash;
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::redis::Redis;
use weir_testbed::{StartError, TempDir, parts, ports, temp_dir};

/// Clients whose requests are sent in turn.
pub const CLIENTS: usize = 100;

/// What stands before the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Bare,
    LimitReq,
    LimitReqLog,
    WeirAlone,
    WeirRedisSpool,
    /// The same two with limits that refuse everything.
    LimitReqLogRefused,
    WeirRedisSpoolRefused,
}

impl Kind {
    pub const ALL: [Kind; 7] = [
        Kind::Bare,
        Kind::LimitReq,
        Kind::LimitReqLog,
        Kind::WeirAlone,
        Kind::WeirRedisSpool,
        Kind::LimitReqLogRefused,
        Kind::WeirRedisSpoolRefused,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare nginx",
            Kind::LimitReq => "limit_req",
            Kind::LimitReqLog => "limit_req + buffered JSON log",
            Kind::WeirAlone => "weir alone",
            Kind::WeirRedisSpool => "weir + Redis + spool",
            Kind::LimitReqLogRefused => "limit_req + log, refused",
            Kind::WeirRedisSpoolRefused => "weir + Redis + spool, refused",
        }
    }

    /// As in the names of figures.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::LimitReq => "limit_req",
            Kind::LimitReqLog => "limit_req_log",
            Kind::WeirAlone => "weir_alone",
            Kind::WeirRedisSpool => "weir_redis_spool",
            Kind::LimitReqLogRefused => "limit_req_log_refused",
            Kind::WeirRedisSpoolRefused => "weir_redis_spool_refused",
        }
    }

    pub fn refuses(self) -> bool {
        matches!(self, Kind::LimitReqLogRefused | Kind::WeirRedisSpoolRefused)
    }
}

/// A variant that is running.
pub struct Variant {
    pub kind: Kind,
    pub port: u16,
    pub nginx: Nginx,
    _dir: TempDir,
}

/// All variants and what they need.
pub struct Bench {
    pub variants: Vec<Variant>,
    /// One API key a client.
    pub keys: Vec<String>,
    _redis: Redis,
}

impl Bench {
    pub fn start() -> Result<Bench, StartError> {
        let redis = Redis::start()?;
        let keys: Vec<String> = (0..CLIENTS).map(|n| format!("bench-key-{n:03}")).collect();
        let variants: Result<Vec<Variant>, StartError> =
            Kind::ALL.into_iter().map(|kind| Variant::start(kind, &keys, &redis)).collect();
        Ok(Bench { variants: variants?, keys, _redis: redis })
    }
}

impl Variant {
    fn start(kind: Kind, keys: &[String], redis: &Redis) -> Result<Variant, StartError> {
        let (dir, port) = (temp_dir(), ports::free());
        fs::create_dir(dir.path().join("spool")).map_err(StartError::io("making the spool"))?;
        fs::write(dir.path().join("policy.toml"), policy(keys, kind.refuses()))
            .map_err(StartError::io("writing the policy"))?;
        let config = config(kind, port, dir.path(), redis)?;
        let nginx = Nginx::start(dir.path(), &config, port)?;
        Ok(Variant { kind, port, nginx, _dir: dir })
    }
}

fn policy(keys: &[String], refuses: bool) -> String {
    let amount = if refuses { 1 } else { 1_000_000_000 };
    let mut text = format!(
        "default_tier = \"bench\"\n[unknown]\naction = \"reject\"\n\
         [tiers.bench]\nlimits = [\"{amount} requests/hour\"]\n"
    );
    for (n, key) in keys.iter().enumerate() {
        let _ = writeln!(text, "[clients.client-{n:03}]\nkeys = [\"{}\"]", key_hash(key));
    }
    text
}

fn config(kind: Kind, port: u16, dir: &Path, redis: &Redis) -> Result<String, StartError> {
    let (main, http, location) = match kind {
        Kind::Bare => Default::default(),
        Kind::LimitReq => limit_req(false, false),
        Kind::LimitReqLog => limit_req(false, true),
        Kind::LimitReqLogRefused => limit_req(true, true),
        Kind::WeirAlone => weir(dir, None)?,
        Kind::WeirRedisSpool | Kind::WeirRedisSpoolRefused => weir(dir, Some(redis))?,
    };
    // Where a log is part of the variant it replaces "off".
    let head = preamble(1).replace("notice", "crit");
    let log = if http.contains("access_log ") { "" } else { "access_log off;" };
    let shared = HTTP_PREAMBLE.replace("access_log off;\n", "");
    Ok(format!(
        "{head}worker_cpu_affinity 01;\n{main}events {{ worker_connections 1024; }}
http {{\n{shared}    {log}\n    keepalive_requests 1000000000;\n{http}
    server {{
        listen 127.0.0.1:{port};
        location / {{ {location} empty_gif; }}
    }}\n}}\n"
    ))
}

type Blocks = (String, String, String);

fn limit_req(refuses: bool, log: bool) -> Blocks {
    let (rate, burst) = if refuses { ("1r/m", "") } else { ("1000000r/s", " burst=1000000 nodelay") };
    let mut http = format!("limit_req_zone $http_x_api_key zone=clients:10m rate={rate};\n");
    if log {
        http += concat!(
            r#"log_format books escape=json '{"time":"$time_iso8601","client":"$http_x_api_key","#,
            r#""method":"$request_method","uri":"$uri","status":$status,"in":$request_length,"#,
            r#""out":$bytes_sent,"latency":$request_time,"limit":"$limit_req_status"}';"#,
            "\naccess_log access.log books buffer=64k flush=1s;\n"
        );
    }
    let location = format!("limit_req zone=clients{burst}; limit_req_status 429;");
    (String::new(), http, location)
}

fn weir(dir: &Path, shared: Option<&Redis>) -> Result<Blocks, StartError> {
    let main = format!("load_module {};\n", parts::module()?.display());
    let dir = dir.display();
    let mut http = format!("weir_zone 16m;\nweir_policy {dir}/policy.toml;\nweir_gateway bench;\n");
    if let Some(redis) = shared {
        let _ = writeln!(http, "weir_redis {};\nweir_spool {dir}/spool max=2g;", redis.url());
    }
    Ok((main, http, "weir on;".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ_only_in_what_they_measure() {
        let redis = Redis::start().unwrap();
        let dir = Path::new("/d");
        let weir = [Kind::WeirAlone, Kind::WeirRedisSpool, Kind::WeirRedisSpoolRefused];
        for kind in Kind::ALL.into_iter().filter(|kind| !weir.contains(kind)) {
            let text = config(kind, 80, dir, &redis).unwrap();
            assert!(text.contains("empty_gif;") && text.contains("keepalive_requests"));
            assert_eq!(text.contains("limit_req zone"), kind != Kind::Bare);
            let logs = matches!(kind, Kind::LimitReqLog | Kind::LimitReqLogRefused);
            assert_eq!(text.contains("access_log off"), !logs, "{text}");
        }
    }
}
