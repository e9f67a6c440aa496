//! Many samples in a few numbers.

use super::Sample;

/// How a set of requests fared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub requests: usize,
    /// Answers of class 2xx.
    pub served: usize,
    /// Answers 429.
    pub refused: usize,
    /// Answers of class 5xx, and requests that got none.
    pub errors: usize,
    /// Milliseconds from when a request was due to its answer, over those that were served (an error
    /// may be quick), by the nearest-rank rule; 0 when there is none.
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Summary {
    pub fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Summary {
        let mut summary = Summary::default();
        let mut latencies = Vec::new();
        for sample in samples {
            summary.requests += 1;
            match sample.status {
                200..=299 => {
                    summary.served += 1;
                    latencies.push(sample.latency_us());
                }
                429 => summary.refused += 1,
                0 | 500.. => summary.errors += 1,
                _ => {}
            }
        }
        latencies.sort_unstable();
        summary.p50_ms = quantile_us(&latencies, 0.50) as f64 / 1000.0;
        summary.p99_ms = quantile_us(&latencies, 0.99) as f64 / 1000.0;
        summary
    }

    /// Errors in percent of all requests.
    pub fn error_percent(&self) -> f64 {
        100.0 * self.errors as f64 / self.requests.max(1) as f64
    }
}

/// The nearest-rank quantile of ascending numbers; 0 when there is none.
pub fn quantile_us(sorted: &[u64], q: f64) -> u64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_by_class_and_takes_latency_from_what_was_served() {
        let sample =
            |status, done_us| Sample { client: 0, shot: 0, status, bytes: 0, due_us: 0, sent_us: 0, done_us };
        let samples = [
            sample(200, 10_000),
            sample(204, 30_000),
            sample(429, 1),
            sample(503, 20_000),
            sample(0, 90_000),
        ];
        let summary = Summary::of(&samples);
        let counts = (summary.requests, summary.served, summary.refused, summary.errors);
        assert_eq!(counts, (5, 2, 1, 2));
        assert_eq!((summary.p50_ms, summary.p99_ms), (10.0, 30.0));
        assert_eq!(summary.error_percent(), 40.0);
    }

    #[test]
    fn a_quantile_is_the_nearest_rank() {
        assert_eq!(quantile_us(&[1, 2, 3, 4], 0.5), 2);
        assert_eq!(quantile_us(&[1, 2, 3, 4], 0.99), 4);
        assert_eq!(quantile_us(&[], 0.5), 0);
    }
}
