//! What the tests of the nginx module share: a policy, configurations of nginx's own making, and
//! requests that are looked at byte by byte.

#![allow(dead_code)] // Each test file uses its own part of this.

pub mod samples;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use weir_testbed::gateway::key_hash;
use weir_testbed::http::{Answer, Request};
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::weir::Installation;
use weir_testbed::{TempDir, parts, ports, temp_dir};

/// The API key of the client that most tests are about.
pub const KEY: &str = "canary-4f1c9a-key";

/// One client, `acme`, with these limits (`"5 requests/minute", ...`).
pub fn policy(limits: &str) -> String {
    format!(
        "default_tier = \"basic\"\n[tiers.basic]\nlimits = [{limits}]\n\
         [routes]\norder = \"* /orders/{{id}}\"\n\
         [clients.acme]\nname = \"Acme Corp\"\nkeys = [\"{}\"]\n",
        key_hash(KEY)
    )
}

/// A private nginx with the module, with a policy and a spool of its own.
pub struct Site {
    pub nginx: Nginx,
    pub port: u16,
    dir: TempDir,
}

/// How a site is built.
pub struct Plan {
    policy: String,
    head: String,
    http: String,
    server: String,
    workers: usize,
    debug: bool,
}

impl Plan {
    /// With this policy; `server` is what stands in the server block.
    pub fn new(policy: &str, server: &str) -> Plan {
        Plan {
            policy: policy.to_owned(),
            head: String::new(),
            http: String::new(),
            server: server.to_owned(),
            workers: 1,
            debug: false,
        }
    }

    pub fn head(mut self, lines: &str) -> Plan {
        self.head += lines;
        self
    }

    pub fn http(mut self, lines: &str) -> Plan {
        self.http += lines;
        self
    }

    pub fn workers(mut self, workers: usize) -> Plan {
        self.workers = workers;
        self
    }

    /// With the debug build, which has the test hooks.
    pub fn debug(mut self) -> Plan {
        self.debug = true;
        self
    }

    pub fn start(self) -> Site {
        let (dir, port) = self.lay_out();
        Site::start(dir, port, &self.config(port))
    }

    /// With one more page to serve.
    pub fn start_with(self, page: &str, text: &str) -> Site {
        let (dir, port) = self.lay_out();
        fs::write(dir.path().join("html").join(page), text).unwrap();
        Site::start(dir, port, &self.config(port))
    }

    /// A folder with all that the configuration names, and a port for it.
    pub fn lay_out(&self) -> (TempDir, u16) {
        let (dir, port) = (temp_dir(), ports::free());
        fs::write(dir.path().join("policy.toml"), &self.policy).unwrap();
        fs::create_dir_all(dir.path().join("html")).unwrap();
        fs::write(dir.path().join("html/index.html"), "here\n").unwrap();
        (dir, port)
    }

    pub fn config(&self, port: u16) -> String {
        let module = if self.debug { parts::debug_module() } else { parts::module() }.unwrap();
        format!(
            "{}load_module {};\n{}events {{ worker_connections 512; }}\nhttp {{\n{HTTP_PREAMBLE}\
             log_format w '$status $weir_status $weir_client $weir_endpoint';\n\
             weir_zone 4m;\nweir_policy policy.toml;\nweir_spool spool seal=1s;\n{}\
             server {{ listen 127.0.0.1:{port} backlog=4096; root html;\n\
             access_log requests.log w;\n{} }}\n}}\n",
            preamble(self.workers),
            module.display(),
            self.head,
            self.http,
            self.server,
        )
    }
}

impl Site {
    /// With a configuration of the test's own.
    pub fn start(dir: TempDir, port: u16, config: &str) -> Site {
        let nginx = Nginx::start(dir.path(), config, port).unwrap();
        Site { nginx, port, dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A GET with the client's key.
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send().unwrap()
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, self.port, path).key(KEY)
    }

    /// What is left of the nearest limit after one request.
    pub fn remaining(&self, path: &str) -> u64 {
        remaining(&self.get(path))
    }

    /// Sends bytes as they are and reads until nginx closes, or nothing comes for a second.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A time-out ends the reading as the end of the stream does.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        stream
    }

    /// Lines of the access log: `200 PASSED acme order`.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir().join("requests.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A counter as `weir_metrics` tells it at `/metrics`.
    pub fn counted(&self, name: &str) -> u64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{name}: {text}"))
    }

    /// Records in the sealed segments, once nginx has ended.
    pub fn records(&self) -> usize {
        records_in(self.dir())
    }

    /// Ends nginx, with every record in a sealed segment.
    pub fn close(&mut self) {
        assert!(self.nginx.quit(), "nginx did not end:\n{}", self.nginx.error_log());
    }

    /// Nothing in the error log says that something went wrong that nginx could not deal with.
    pub fn assert_quiet(&self) {
        let log = self.nginx.error_log();
        let loud = log
            .lines()
            .find(|line| ["[alert]", "[emerg]", "[crit]"].iter().any(|level| line.contains(level)));
        assert_eq!(loud, None, "{log}");
    }
}

/// Records in the sealed segments of the spool in this folder.
pub fn records_in(dir: &Path) -> usize {
    record_values(dir).len()
}

/// ... and what stands in them.
pub fn record_values(dir: &Path) -> Vec<Value> {
    let installation = Installation::new(&dir.join("books"), 1).unwrap();
    for entry in fs::read_dir(dir.join("spool")).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap();
        assert!(!name.to_string_lossy().starts_with("active"), "{name:?} is not sealed");
        fs::copy(&from, installation.spool(0).join(name)).unwrap();
    }
    installation.records().unwrap()
}

/// The `r` of the answer's `RateLimit` field.
pub fn remaining(answer: &Answer) -> u64 {
    let field = answer.header("RateLimit").unwrap_or_else(|| panic!("{answer:?}"));
    parameter(field, "r").unwrap_or_else(|| panic!("{field}"))
}

/// An integer parameter of a structured field's first item.
pub fn parameter(field: &str, name: &str) -> Option<u64> {
    let mut parameters = field.split(';').skip(1);
    parameters.find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}
