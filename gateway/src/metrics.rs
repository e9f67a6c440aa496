//! What a gateway has done so far, counted over all its workers in shared memory, and how it is told
//! to a monitoring system.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};
use weir_limiter::Table;
use weir_metering::Decision;

use crate::policy_file::Version;

/// One counter for each decision, then those of [`Count`].
const WORDS: usize = Decision::ALL.len() + 4;

/// What is counted besides decisions.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Count {
    /// Requests that waited for a lease.
    Waited = Decision::ALL.len(),
    /// Records that the spool took.
    Records,
    /// Records that it did not.
    RecordsLost,
    /// Policies that could not be used.
    PolicyProblems,
}

/// Counters of a gateway. All workers add to them; zero in every word is where they start.
#[repr(C)]
#[derive(Default)]
pub struct Counters([AtomicU64; WORDS]);

impl Counters {
    /// The counters at `memory`, which holds zeroes or what another process counts there.
    ///
    /// # Safety
    /// `memory` is aligned to 8, valid for `size_of::<Counters>()` bytes until the process ends, and
    /// used for nothing else.
    pub unsafe fn at(memory: *mut u8) -> &'static Counters {
        // SAFETY: the caller vouches for the memory; any bits are valid counters.
        unsafe { &*memory.cast::<Counters>() }
    }

    pub(crate) fn decided(&self, decision: Decision) {
        self.0[decision as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, count: Count, n: u64) {
        self.0[count as usize].fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self, word: usize) -> u64 {
        self.0[word].load(Ordering::Relaxed)
    }
}

/// One metric: its name without the suffix of its kind, what it is, and its values by label.
struct Metric {
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    /// What the values differ by; empty where there is one.
    label: &'static str,
    values: Vec<(Cow<'static, str>, u64)>,
}

/// What is told of a gateway.
pub struct Metrics(Vec<Metric>);

impl Metrics {
    /// `link_up`: whether Redis answers the worker that is asked; `None` without one.
    pub(crate) fn of(counters: &Counters, table: Table, link_up: Option<bool>) -> Metrics {
        let count = |name, help, count: Count| counter(name, help, counters.get(count as usize));
        let mut metrics = vec![
            Metric {
                name: "weir_requests",
                help: "Requests booked, by decision",
                is_counter: true,
                label: "decision",
                values: Decision::ALL.map(|d| (d.word().into(), counters.get(d as usize))).into(),
            },
            count("weir_waited", "Requests that waited for a lease", Count::Waited),
            count("weir_records", "Records written to the spool", Count::Records),
            count("weir_records_lost", "Records the spool could not take", Count::RecordsLost),
            count("weir_policy_problems", "Policies that could not be used", Count::PolicyProblems),
            counter("weir_shm_repaired", "Cells reset after a worker died", table.repaired()),
            counter("weir_shm_evicted", "Keys that gave way to others", table.evicted()),
            gauge("weir_shm_keys", "Keys in the shared zone", table.keys()),
            gauge("weir_shm_capacity", "Keys that fit into the shared zone", table.capacity()),
        ];
        if let Some(up) = link_up {
            metrics.push(gauge("weir_redis_up", "Whether Redis answers", u64::from(up)));
        }
        Metrics(metrics)
    }

    /// Adds which policy is in force, and whether its limits are.
    pub(crate) fn with_policy(mut self, version: u64, is_enforced: bool) -> Metrics {
        self.0.push(Metric {
            name: "weir_policy_in_force",
            help: "The policy in force, by its version",
            is_counter: false,
            label: "version",
            values: vec![(Version(version).to_string().into(), 1)],
        });
        self.0.push(gauge("weir_enforced", "Whether limits are enforced", u64::from(is_enforced)));
        self
    }

    /// OpenMetrics 1.0 text.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for metric in &self.0 {
            let (name, kind) = (metric.name, if metric.is_counter { "counter" } else { "gauge" });
            let suffix = if metric.is_counter { "_total" } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# TYPE {name} {kind}\n# HELP {name} {}.", metric.help);
            for (label, value) in &metric.values {
                let label = match metric.label {
                    "" => String::new(),
                    name => format!("{{{name}=\"{label}\"}}"),
                };
                let _ = writeln!(out, "{name}{suffix}{label} {value}");
            }
        }
        out + "# EOF\n"
    }

    /// The same as one JSON object.
    pub fn to_json(&self) -> String {
        let object: Map<String, Value> = self.0.iter().map(Metric::to_json).collect();
        format!("{}\n", Value::Object(object))
    }
}

impl Metric {
    fn to_json(&self) -> (String, Value) {
        let labelled = || self.values.iter().map(|(label, n)| (label.to_string(), json!(n))).collect();
        let value = match self.values.as_slice() {
            [(_, value)] if self.label.is_empty() => json!(value),
            _ => labelled(),
        };
        (self.name.to_owned(), value)
    }
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric { name, help, is_counter: true, label: "", values: vec![("".into(), value)] }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric { name, help, is_counter: false, label: "", values: vec![("".into(), value)] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::zone;

    fn metrics() -> Metrics {
        let counters = Counters::default();
        counters.decided(Decision::Passed);
        counters.decided(Decision::Passed);
        counters.decided(Decision::RejectedDegraded);
        counters.add(Count::RecordsLost, 7);
        Metrics::of(&counters, zone(), Some(true))
    }

    #[test]
    fn text_is_openmetrics() {
        let text = metrics().to_text();
        let wanted = [
            "# TYPE weir_requests counter\n# HELP weir_requests Requests booked, by decision.\n",
            "weir_requests_total{decision=\"PASSED\"} 2\n",
            "weir_requests_total{decision=\"REJECTED_DEGRADED\"} 1\n",
            "weir_records_lost_total 7\n",
            "# TYPE weir_shm_keys gauge\n",
            "\nweir_redis_up 1\n",
        ];
        for line in wanted {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn json_says_the_same() {
        let read: Value = serde_json::from_str(&metrics().to_json()).unwrap();
        assert_eq!(read["weir_requests"]["PASSED"], 2);
        assert_eq!(read["weir_records_lost"], 7);
        assert_eq!(read["weir_redis_up"], 1);
    }

    #[test]
    fn the_words_of_the_counters_do_not_overlap() {
        assert_eq!(Count::PolicyProblems as usize, WORDS - 1);
        assert_eq!(Count::Waited as usize, Decision::ALL.len());
    }
}
