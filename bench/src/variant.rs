//! The variants: what may stand before the same 43 bytes from memory.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use weir_testbed::gateway::key_hash;
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::redis::Redis;
use weir_testbed::{StartError, TempDir, parts, ports, temp_dir};

/// Clients whose requests are sent in turn, each with a key of its own.
pub const CLIENTS: usize = 80;

/// What stands before the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Bare,
    LimitReq,
    LimitReqLog,
    LuaRedis,
    WeirAlone,
    WeirRedisSpool,
    /// The same with a minute and an hour to keep to, as tiers have.
    WeirTwoLimits,
    /// With limits that refuse everything.
    LimitReqLogRefused,
    LuaRedisRefused,
    WeirRedisSpoolRefused,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Bare,
        Kind::LimitReq,
        Kind::LimitReqLog,
        Kind::LuaRedis,
        Kind::WeirAlone,
        Kind::WeirRedisSpool,
        Kind::WeirTwoLimits,
        Kind::LimitReqLogRefused,
        Kind::LuaRedisRefused,
        Kind::WeirRedisSpoolRefused,
    ];

    /// As in the names of figures.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::LimitReq => "limit_req",
            Kind::LimitReqLog => "limit_req_log",
            Kind::LuaRedis => "lua_redis",
            Kind::WeirAlone => "weir_alone",
            Kind::WeirRedisSpool => "weir_redis_spool",
            Kind::WeirTwoLimits => "weir_two_limits",
            Kind::LimitReqLogRefused => "limit_req_log_refused",
            Kind::LuaRedisRefused => "lua_redis_refused",
            Kind::WeirRedisSpoolRefused => "weir_redis_spool_refused",
        }
    }

    pub fn refuses(self) -> bool {
        matches!(self, Kind::LimitReqLogRefused | Kind::LuaRedisRefused | Kind::WeirRedisSpoolRefused)
    }

    fn has_weir(self) -> bool {
        matches!(self, Kind::WeirAlone | Kind::WeirRedisSpool | Kind::WeirTwoLimits)
            || self == Kind::WeirRedisSpoolRefused
    }

    fn limits(self) -> &'static str {
        match self {
            _ if self.refuses() => r#""1 requests/hour""#,
            Kind::WeirTwoLimits => r#""1000000000 requests/minute", "1000000000 requests/hour""#,
            _ => r#""1000000000 requests/hour""#,
        }
    }
}

/// How nginx is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// One worker that pins itself to the first processor.
    Worker,
    /// One process that is all, run by this launcher.
    Single(&'a [String]),
}

/// A variant that is running.
pub struct Variant {
    pub kind: Kind,
    pub port: u16,
    pub nginx: Nginx,
    _dir: TempDir,
}

/// The API keys, one a client.
pub fn keys() -> Vec<String> {
    (0..CLIENTS).map(|n| format!("bench-key-{n:03}")).collect()
}

impl Variant {
    pub fn start(kind: Kind, shape: Shape, redis: &Redis) -> Result<Variant, StartError> {
        let (dir, port) = (temp_dir(), ports::free());
        fs::create_dir(dir.path().join("spool")).map_err(StartError::io("making the spool"))?;
        fs::write(dir.path().join("policy.toml"), policy(&keys(), kind.limits()))
            .map_err(StartError::io("writing the policy"))?;
        let config = config(kind, shape, port, dir.path(), redis)?;
        let mut launcher = match shape {
            Shape::Worker => Vec::new(),
            Shape::Single(launcher) => launcher.to_vec(),
        };
        if matches!(kind, Kind::LuaRedis | Kind::LuaRedisRefused) {
            let lib = format!("LD_LIBRARY_PATH={}:{}", lua("usr/lib")?.display(), lua("lib")?.display());
            launcher.splice(0..0, ["/usr/bin/env".to_owned(), lib]);
        }
        let nginx = Nginx::start_by(&launcher, dir.path(), &config, port)?;
        Ok(Variant { kind, port, nginx, _dir: dir })
    }
}

/// A policy that holds these clients to these limits.
pub fn policy(keys: &[String], limits: &str) -> String {
    let mut text = format!(
        "default_tier = \"bench\"\n[unknown]\naction = \"reject\"\n[tiers.bench]\nlimits = [{limits}]\n"
    );
    for (n, key) in keys.iter().enumerate() {
        let _ = writeln!(text, "[clients.client-{n:03}]\nkeys = [\"{}\"]", key_hash(key));
    }
    text
}

/// A folder of the unpacked Lua packages; of libraries that of this machine's architecture.
fn lua(folder: &str) -> Result<PathBuf, StartError> {
    let found = parts::made("the Lua module of nginx", "WEIR_LUA", "build/lua", "bench-setup")?.join(folder);
    Ok(if folder.ends_with("lib") {
        found.join(format!("{}-linux-gnu", std::env::consts::ARCH))
    } else {
        found
    })
}

fn config(kind: Kind, shape: Shape, port: u16, dir: &Path, redis: &Redis) -> Result<String, StartError> {
    let (main, http, location) = match kind {
        Kind::Bare => Default::default(),
        Kind::LimitReq => limit_req(false, false),
        Kind::LimitReqLog | Kind::LimitReqLogRefused => limit_req(kind.refuses(), true),
        Kind::LuaRedis | Kind::LuaRedisRefused => lua_redis(kind.refuses(), redis)?,
        Kind::WeirAlone => weir(dir, None)?,
        _ => weir(dir, Some((redis, kind.key())))?,
    };
    // Where a log is part of the variant it replaces "off".
    let head = preamble(1).replace("notice", "crit");
    let process = match shape {
        Shape::Worker => "worker_cpu_affinity 01;",
        Shape::Single(_) => "master_process off;",
    };
    let patience = match shape {
        // All is some fifty times as slow there.
        Shape::Single(_) if http.contains("weir_redis") => "weir_redis_timeout 1s;",
        _ => "",
    };
    let log = if http.contains("access_log ") { "" } else { "access_log off;" };
    let shared = HTTP_PREAMBLE.replace("access_log off;\n", "");
    Ok(format!(
        "{head}{process}\n{main}events {{ worker_connections 1024; }}
http {{\n{shared}    {log}\n    keepalive_requests 1000000000;\n{http}{patience}
    server {{
        listen 127.0.0.1:{port};
        location / {{ {location} empty_gif; }}
        location = /metrics {{ {} }}
    }}\n}}\n",
        if kind.has_weir() { "weir_metrics;" } else { "return 404;" }
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

fn lua_redis(refuses: bool, redis: &Redis) -> Result<Blocks, StartError> {
    let modules = lua("usr/lib/nginx/modules")?;
    let main = ["ndk_http", "ngx_http_lua"]
        .map(|name| format!("load_module {}/{name}_module.so;\n", modules.display()))
        .concat();
    let (ours, theirs) = (parts::root().join("bench/lua"), lua("usr/share/lua/5.1")?);
    let http = format!("lua_package_path \"{}/?.lua;{}/?.lua;;\";\n", ours.display(), theirs.display());
    let amount = if refuses { 1 } else { 1_000_000_000 };
    let call = format!("require(\"window\").limit({}, {amount}, 3600)", redis.port());
    Ok((main, http, format!("access_by_lua_block {{ {call} }}")))
}

/// Each variant keeps its keys in Redis apart from those of the others.
fn weir(dir: &Path, shared: Option<(&Redis, &str)>) -> Result<Blocks, StartError> {
    let main = format!("load_module {};\n", parts::module()?.display());
    let dir = dir.display();
    let mut http = format!("weir_zone 16m;\nweir_policy {dir}/policy.toml;\nweir_gateway bench;\n");
    if let Some((redis, prefix)) = shared {
        let prefix = prefix.replace('_', "-");
        let _ = writeln!(http, "weir_redis {} prefix={prefix};\nweir_spool {dir}/spool max=2g;", redis.url());
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
        let builtin = [Kind::Bare, Kind::LimitReq, Kind::LimitReqLog, Kind::LimitReqLogRefused];
        for kind in builtin {
            let text = config(kind, Shape::Worker, 80, dir, &redis).unwrap();
            assert!(text.contains("empty_gif;") && text.contains("keepalive_requests"));
            assert_eq!(text.contains("limit_req zone"), kind != Kind::Bare);
            let logs = matches!(kind, Kind::LimitReqLog | Kind::LimitReqLogRefused);
            assert_eq!(text.contains("access_log off"), !logs, "{text}");
        }
    }
}
