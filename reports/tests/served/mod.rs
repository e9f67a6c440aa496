//! A made-up site behind a real nginx.

use weir_testbed::nginx::{HTTP_PREAMBLE, Nginx, preamble};
use weir_testbed::{TempDir, ports, temp_dir};

// The same data as people look at while they work on templates.
#[allow(dead_code)]
#[path = "../../examples/sample_site.rs"]
pub mod sample_site;

pub struct Served {
    pub dir: TempDir,
    _nginx: Nginx,
    pub url: String,
}

/// What is asked for as `/published` is written down in `access.log`, so that a test can tell.
pub fn serve(case: &str) -> Served {
    let (dir, port) = (temp_dir(), ports::free());
    sample_site::write(&sample_site::case(case).unwrap(), dir.path()).unwrap();
    let config = format!(
        "{}events {{}}\nhttp {{\n{HTTP_PREAMBLE}include /etc/nginx/mime.types;\n\
         server {{ listen 127.0.0.1:{port}; root {root}; location = /published {{ access_log {root}/access.log; }} }}\n}}\n",
        preamble(1),
        root = dir.path().display()
    );
    let nginx = Nginx::start(dir.path(), &config, port).unwrap();
    Served { dir, _nginx: nginx, url: format!("http://127.0.0.1:{port}") }
}
