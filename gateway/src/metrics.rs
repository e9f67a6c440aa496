//! What a gateway has done so far, counted over all its workers in shared memory, and how it is told
//! to a monitoring system.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};
use weir_limiter::Table;
use weir_metering::Decision;
use weir_policy::Tables;

use crate::clock::Now;
use crate::figures::{Figure, Figures};
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

/// One metric: its name without the suffix of its kind, what it is, and its values by their labels.
struct Metric {
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    values: Vec<(String, u64)>,
}

/// What is told of a gateway.
pub struct Metrics<'a> {
    metrics: Vec<Metric>,
    gateway: Seen<'a>,
}

/// A gateway, as far as it is told and not counted.
pub(crate) struct Seen<'a> {
    pub figures: Figures,
    pub book: &'a Tables,
    pub now: Now,
    /// Whether Redis answers the worker that is asked; `None` without one.
    pub link_up: Option<bool>,
    /// Gateways seen in the last minute.
    pub gateways: u32,
    /// Whether limits are enforced, and not switched off for a while.
    pub is_enforced: bool,
}

impl<'a> Metrics<'a> {
    pub(crate) fn of(counters: &Counters, table: Table, gateway: Seen<'a>) -> Metrics<'a> {
        let count = |name, help, count: Count| counter(name, help, counters.get(count as usize));
        let mut metrics = vec![
            Metric {
                name: "weir_requests",
                help: "Requests booked, by decision",
                is_counter: true,
                values: Decision::ALL.map(|d| (label("decision", d.word()), counters.get(d as usize))).into(),
            },
            tiers(gateway.figures),
            count("weir_waited", "Requests that waited for a lease", Count::Waited),
            count("weir_records", "Records written to the spool", Count::Records),
            count("weir_records_lost", "Records the spool could not take", Count::RecordsLost),
            count("weir_policy_problems", "Policies that could not be used", Count::PolicyProblems),
            counter("weir_shm_repaired", "Cells reset after a worker died", table.repaired()),
            counter("weir_shm_evicted", "Keys that gave way to others", table.evicted()),
            counter(
                "weir_shm_forgotten",
                "Keys that gave way with units that nobody else knew of",
                table.forgotten(),
            ),
            gauge("weir_shm_keys", "Keys in the shared zone", table.keys()),
            gauge("weir_shm_capacity", "Keys that fit into the shared zone", table.capacity()),
            gauge("weir_gateways", "Gateways seen in the last minute", u64::from(gateway.gateways)),
            Metric {
                name: "weir_policy_version",
                help: "The policy in force, by its version",
                is_counter: false,
                values: vec![(label("version", &Version(gateway.book.version()).to_string()), 1)],
            },
            gauge("weir_enforced", "Whether limits are enforced", u64::from(gateway.is_enforced)),
        ];
        if let Some(up) = gateway.link_up {
            metrics.push(gauge("weir_redis_up", "Whether Redis answers", u64::from(up)));
        }
        Metrics { metrics, gateway }
    }

    /// OpenMetrics 1.0 text.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for metric in &self.metrics {
            let (name, kind) = (metric.name, if metric.is_counter { "counter" } else { "gauge" });
            let suffix = if metric.is_counter { "_total" } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# TYPE {name} {kind}\n# HELP {name} {}.", metric.help);
            for (labels, value) in &metric.values {
                let _ = match labels.as_str() {
                    "" => writeln!(out, "{name}{suffix} {value}"),
                    _ => writeln!(out, "{name}{suffix}{{{labels}}} {value}"),
                };
            }
        }
        out + "# EOF\n"
    }

    /// The same as one JSON object, with what would be too much for a monitoring system: the figures
    /// of clients, and of callers that nobody knows.
    pub fn to_json(&self) -> String {
        let Seen { figures, book, now, .. } = &self.gateway;
        let plain = self.metrics.iter().filter_map(Metric::to_json);
        let mut object: Map<String, Value> = plain.collect();
        let told = |figures: Vec<Figure>| figures.iter().map(|figure| figure.to_json(book)).collect();
        let decisions: Map<String, Value> = self.metrics[0]
            .values
            .iter()
            .zip(Decision::ALL)
            .map(|((_, count), decision)| (decision.word().to_owned(), json!(count)))
            .collect();
        object.insert("weir_requests".into(), decisions.into());
        object.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        object.insert("policy".into(), Version(book.version()).to_string().into());
        object.insert("time_us".into(), now.unix_us.into());
        object.insert("tiers".into(), told(figures.tiers()));
        object.insert("clients".into(), told(figures.clients()));
        object.insert("unknown".into(), told(figures.unknown_callers()));
        format!("{}\n", Value::Object(object))
    }
}

impl Metric {
    /// `None` for one with labels.
    fn to_json(&self) -> Option<(String, Value)> {
        let value = self.values.iter().find(|(labels, _)| labels.is_empty())?.1;
        Some((self.name.to_owned(), json!(value)))
    }
}

/// By tier and decision: as many as the policy has tiers, not as many as there are clients.
fn tiers(figures: Figures) -> Metric {
    let of = |figure: Figure| {
        let tier = label("tier", &figure.name);
        let counts = Decision::ALL.into_iter().zip(figure.decisions);
        counts.map(move |(d, count)| (format!("{tier},{}", label("decision", d.word())), count))
    };
    Metric {
        name: "weir_tier_requests",
        help: "Requests booked, by tier and decision",
        is_counter: true,
        values: figures.tiers().into_iter().flat_map(of).collect(),
    }
}

/// A name and its value as the text format wants them.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric { name, help, is_counter: true, values: vec![(String::new(), value)] }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric { name, help, is_counter: false, values: vec![(String::new(), value)] }
}

#[cfg(test)]
mod tests;
