//! Where the parts lie that `make` builds and installs.

use std::env;
use std::path::{Path, PathBuf};

use crate::StartError;

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testbed lies in the workspace").to_owned()
}

/// The release build of the nginx module; `WEIR_MODULE` names another.
pub fn module() -> Result<PathBuf, StartError> {
    made("the nginx module", "WEIR_MODULE", "build/ngx_http_weir_module.so", "build")
}

/// The module with debug assertions and test hooks; `WEIR_MODULE_DEBUG` names another.
pub fn debug_module() -> Result<PathBuf, StartError> {
    made(
        "the debug build of the nginx module",
        "WEIR_MODULE_DEBUG",
        "build/ngx_http_weir_module.debug.so",
        "build-tests",
    )
}

/// The system's nginx.
pub fn nginx() -> Result<PathBuf, StartError> {
    program("nginx", "/usr/sbin/nginx")
}

/// An nginx 1.28 and the module built for it.
pub fn vendored() -> Result<(PathBuf, PathBuf), StartError> {
    let nginx = made("nginx 1.28", "WEIR_NGINX_VENDORED", "build/nginx-vendored", "build-tests")?;
    let module = made(
        "the nginx module for nginx 1.28",
        "WEIR_MODULE_VENDORED",
        "build/ngx_http_weir_module.vendored.so",
        "build-tests",
    )?;
    Ok((nginx, module))
}

/// The `weir` command; `WEIR_BIN` names another.
pub fn weir() -> Result<PathBuf, StartError> {
    made("the weir command", "WEIR_BIN", "build/weir", "build")
}

/// The server that speaks S3.
pub fn moto() -> Result<PathBuf, StartError> {
    made("the S3 server", "WEIR_MOTO", "build/venv/bin/moto_server", "setup")
}

/// A Python with what testbed/requirements.txt names.
pub fn python() -> Result<PathBuf, StartError> {
    made("Python with its packages", "WEIR_PYTHON", "build/venv/bin/python", "setup")
}

/// The server that speaks Azure's blob storage: a script for node.
pub fn azurite() -> Result<PathBuf, StartError> {
    let script = "testbed/azure/node_modules/azurite/dist/src/blob/main.js";
    made("the Azure server", "WEIR_AZURITE", script, "setup")
}

/// A program of the system, first of the places where Debian puts them.
pub fn program(part: &'static str, path: &'static str) -> Result<PathBuf, StartError> {
    present(part, PathBuf::from(path), "setup")
}

/// Something that `make` leaves below the workspace.
pub fn made(
    part: &'static str,
    variable: &str,
    default: &str,
    target: &'static str,
) -> Result<PathBuf, StartError> {
    let path = env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from);
    present(part, path, target)
}

fn present(part: &'static str, path: PathBuf, target: &'static str) -> Result<PathBuf, StartError> {
    if path.exists() { Ok(path) } else { Err(StartError::Missing { part, path, target }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let error = made("a dragon", "WEIR_NO_SUCH_VARIABLE", "build/dragon", "setup").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("a dragon is missing at ") && text.ends_with("run `make setup`"));
    }

    #[test]
    fn the_root_is_that_of_the_workspace() {
        assert!(root().join("Cargo.lock").exists());
    }
}
