//! Why a server could not be had.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why a part did not start. `Debug` prints the same text as `Display`, so that a test's `unwrap`
/// shows the server's own log and not a quoted dump of it.
#[derive(thiserror::Error)]
pub enum StartError {
    #[error("{part} is missing at {path}: run `make {target}`")]
    Missing { part: &'static str, path: PathBuf, target: &'static str },
    #[error("{name} could not be run: {source}; `make setup` installs what is needed")]
    Spawn { name: String, source: std::io::Error },
    #[error("{name} ended ({status}) before it was ready; the end of its log:\n{log}")]
    Ended { name: String, status: String, log: String },
    #[error("{name} was not ready within {}s; the end of its log:\n{log}", waited.as_secs())]
    NotReady { name: String, waited: Duration, log: String },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{name} answered {got}, where {wanted} was expected")]
    Answer { name: String, wanted: String, got: String },
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StartError {
    /// Wraps an I/O error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
        let what = what.into();
        move |source| StartError::Io { what, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_part_names_the_target_that_makes_it() {
        let error = StartError::Missing { part: "the module", path: "x.so".into(), target: "build" };
        assert_eq!(format!("{error:?}"), "the module is missing at x.so: run `make build`");
    }
}
