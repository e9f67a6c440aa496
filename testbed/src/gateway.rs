//! A gateway: nginx with the weir module before a backend.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::http::Request;
use crate::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use crate::{StartError, TempDir, ports, temp_dir, wait};

const LINKED_WITHIN: Duration = Duration::from_secs(60);

/// What a gateway is made of; every path absolute.
#[derive(Clone, Debug)]
pub struct Options {
    /// `weir_gateway`.
    pub name: String,
    pub module: PathBuf,
    /// The nginx that the module was built for; `None` for the system's.
    pub nginx: Option<PathBuf>,
    pub policy: PathBuf,
    /// The port of the backend.
    pub backend: u16,
    pub workers: usize,
    /// The arguments of `weir_redis`; `None` for a gateway alone.
    pub redis: Option<String>,
    /// The arguments of `weir_spool`; `None` for no records.
    pub spool: Option<String>,
    /// Further lines of the http block.
    pub http: String,
    /// Further lines of the server block.
    pub server: String,
    /// Further lines of the location that is limited and metered.
    pub location: String,
}

impl Options {
    /// A gateway alone, without records, with one worker.
    pub fn new(name: &str, module: PathBuf, policy: &Path, backend: u16) -> Options {
        Options {
            name: name.to_owned(),
            module,
            nginx: None,
            policy: policy.to_owned(),
            backend,
            workers: 1,
            redis: None,
            spool: None,
            http: String::new(),
            server: String::new(),
            location: String::new(),
        }
    }

    pub fn workers(mut self, workers: usize) -> Options {
        self.workers = workers;
        self
    }

    /// Shares its limits through this server.
    pub fn redis(mut self, url: &str) -> Options {
        self.redis = Some(url.to_owned());
        self
    }

    /// Goes by the published policy instead of a file.
    pub fn published(mut self) -> Options {
        self.policy = "redis".into();
        self
    }

    /// Writes records into this folder, in segments sealed after a second.
    pub fn spool(mut self, dir: &Path) -> Options {
        self.spool = Some(format!("{} seal=1s", dir.display()));
        self
    }

    /// Adds a line to the http block.
    pub fn http(mut self, line: &str) -> Options {
        self.http += line;
        self.http.push('\n');
        self
    }

    /// Adds a line to the limited location.
    pub fn location(mut self, line: &str) -> Options {
        self.location += line;
        self.location.push('\n');
        self
    }

    /// The whole configuration.
    pub fn config(&self, port: u16) -> String {
        let mut text = preamble(self.workers);
        let module = self.module.display();
        let _ = writeln!(text, "load_module {module};\nevents {{ worker_connections 4096; }}");
        let _ = writeln!(text, "http {{\n{HTTP_PREAMBLE}    weir_zone 16m;");
        let _ = writeln!(text, "    weir_policy {};", self.policy.display());
        let _ = writeln!(text, "    weir_gateway {};", self.name);
        for (directive, arguments) in [("weir_redis", &self.redis), ("weir_spool", &self.spool)] {
            if let Some(arguments) = arguments {
                let _ = writeln!(text, "    {directive} {arguments};");
            }
        }
        let _ = writeln!(text, "{}{}", self.http, self.server_block(port));
        text + "}\n"
    }

    fn server_block(&self, port: u16) -> String {
        format!(
            "    upstream backend {{ server 127.0.0.1:{backend}; keepalive 512; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        keepalive_requests 1000000;
        {server}
        location / {{
            weir on;
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            {location}
        }}
        location = /weir/usage {{ weir_usage; }}
        location = /weir/metrics {{ weir_metrics; }}
    }}",
            backend = self.backend,
            server = self.server,
            location = self.location,
        )
    }
}

/// A running gateway. Dropping it ends it.
pub struct Gateway {
    pub nginx: Nginx,
    port: u16,
    _dir: TempDir,
}

impl Gateway {
    pub fn start(options: &Options) -> Result<Gateway, StartError> {
        let (dir, port) = (temp_dir(), ports::free());
        let config = options.config(port);
        let nginx = match &options.nginx {
            Some(program) => Nginx::start_as(program, dir.path(), &config, port)?,
            None => Nginx::start(dir.path(), &config, port)?,
        };
        Ok(Gateway { nginx, port, _dir: dir })
    }

    /// With a configuration of the caller's own, made for the port it is given.
    pub fn start_with(config: impl FnOnce(u16) -> String) -> Result<Gateway, StartError> {
        let (dir, port) = (temp_dir(), ports::free());
        let nginx = Nginx::start(dir.path(), &config(port), port)?;
        Ok(Gateway { nginx, port, _dir: dir })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until the gateway says that its link to Redis is up.
    pub fn wait_for_redis(&self) -> Result<(), StartError> {
        let up = || {
            let metrics = Request::get(self.port, "/weir/metrics").send();
            metrics.is_ok_and(|answer| answer.text().lines().any(|line| line == "weir_redis_up 1"))
        };
        if wait::until(LINKED_WITHIN, up) {
            return Ok(());
        }
        let log = self.nginx.error_log();
        Err(StartError::NotReady { name: "the link to Redis".into(), waited: LINKED_WITHIN, log })
    }
}

/// An API key as the policy names it: `sha256:` and the SHA-256 of its bytes in hex.
pub fn key_hash(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Replaces a policy in one step, as a watched file should be.
pub fn write_policy(file: &Path, text: &str) -> std::io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_hash() {
        // The test vector of FIPS 180-2, B.1.
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(key_hash("abc"), abc);
    }

    #[test]
    fn only_what_was_asked_for_stands_in_the_configuration() {
        let options = Options::new("gw1", "m.so".into(), Path::new("/p.toml"), 1234);
        let alone = options.config(80);
        assert!(!alone.contains("weir_redis ") && !alone.contains("weir_spool "));
        let whole = options.redis("redis://r").spool(Path::new("/s")).location("weir_cost 2;");
        let whole = whole.config(80);
        for line in ["weir_redis redis://r;", "weir_spool /s seal=1s;", "weir_cost 2;"] {
            assert!(whole.contains(line), "{line} in {whole}");
        }
    }
}
