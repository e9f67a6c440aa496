//! The sample configurations of nginx/, run as they stand.

use std::fs;

use weir_testbed::http::Request;
use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::{TempDir, parts, ports, temp_dir};

/// A sample as it stands in nginx/, with only addresses and folders changed to those of the test.
pub fn sample(name: &str, changes: &[(&str, String)]) -> String {
    let mut text = fs::read_to_string(parts::root().join("nginx").join(name)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from} in {name}");
        text = text.replace(from, to);
    }
    text
}

/// Runs a sample under Debian's layout: policy beside nginx.conf, the module loaded at its head.
pub fn run(name: &str, changes: &[(&str, String)], check: impl FnOnce(u16)) {
    run_with(&sample("policy.toml", &[]), name, changes, check);
}

pub fn run_with(policy: &str, name: &str, changes: &[(&str, String)], check: impl FnOnce(u16)) {
    let (dir, port, backend) = (temp_dir(), ports::free(), ports::free());
    fs::write(dir.path().join("policy.toml"), policy).unwrap();
    let mut all = vec![
        ("listen 8080", format!("listen 127.0.0.1:{port}")),
        ("127.0.0.1:9000", format!("127.0.0.1:{backend}")),
        ("/var/spool/weir", dir.path().join("spool").display().to_string()),
    ];
    all.extend_from_slice(changes);
    fs::write(dir.path().join("sample.conf"), sample(name, &all)).unwrap();
    let config = format!(
        "{}load_module {};\nevents {{}}\nhttp {{\n{HTTP_PREAMBLE}include sample.conf;\n\
         server {{ listen 127.0.0.1:{backend}; return 200 backend; }} }}\n",
        preamble(1),
        parts::module().unwrap().display()
    );
    let nginx = Nginx::start(dir.path(), &config, port).unwrap();
    check(port);
    let log = nginx.error_log();
    assert!(!log.contains("[emerg]") && !log.contains("[alert]"), "{log}");
}

pub fn ask(port: u16, path: &str, header: &str, value: &str) -> (u16, Option<String>) {
    let answer = Request::get(port, path).header(header, value).send().unwrap();
    (answer.status, answer.header("RateLimit-Policy").map(str::to_owned))
}

/// Another nginx that answers with this.
pub fn service(port: u16, answer: &str) -> (Nginx, TempDir) {
    let dir = temp_dir();
    let config = format!(
        "{}events {{}}\nhttp {{\n{HTTP_PREAMBLE}server {{ listen 127.0.0.1:{port}; location / {{ {answer} }} }} }}\n",
        preamble(1)
    );
    (Nginx::start(dir.path(), &config, port).unwrap(), dir)
}
