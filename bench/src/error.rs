//! Why there is no figure.

use weir_testbed::StartError;

#[derive(Debug)]
pub enum BenchError {
    Start(StartError),
    /// Something else was seen than the measurement is about.
    Wrong {
        place: String,
        what: String,
    },
    Io(std::io::Error),
}

pub type Result<T> = std::result::Result<T, BenchError>;

impl BenchError {
    pub fn wrong(place: impl Into<String>, what: impl Into<String>) -> BenchError {
        BenchError::Wrong { place: place.into(), what: what.into() }
    }
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BenchError::Start(error) => write!(f, "{error}"),
            BenchError::Wrong { place, what } => write!(f, "{place}: {what}"),
            BenchError::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<StartError> for BenchError {
    fn from(error: StartError) -> BenchError {
        BenchError::Start(error)
    }
}

impl From<std::io::Error> for BenchError {
    fn from(error: std::io::Error) -> BenchError {
        BenchError::Io(error)
    }
}
