//! Bundles the scripts of the pages: `scripts/web.sh` fetches the packages that
//! `web/package-lock.json` names, once, and puts page.js, explore.js and explore.css into `OUT_DIR`.

// Cargo tells a build script where it is by the environment.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    println!("cargo::rerun-if-changed=web");
    println!("cargo::rerun-if-changed=../scripts/web.sh");
    let script = here.join("../scripts/web.sh");
    let status = Command::new("bash").arg(&script).arg(&out).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the scripts of the pages could not be bundled: `scripts/setup.sh build` installs node and npm, which {} needs",
        script.display()
    );
}
