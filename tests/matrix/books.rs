//! What the gateways wrote down, read with the metering crate.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use weir_metering::{Decision, Entry, Segment, sealed_segments, unsealed_segments};
use weir_testbed::scene::Scene;

use crate::crowd::{Client, cost_of_endpoint};

/// One record, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Booked {
    pub gateway: usize,
    /// Index into the clients.
    pub client: u32,
    pub status: u16,
    pub decision: Decision,
    pub together: bool,
    pub cost: u64,
    pub bytes: u64,
    /// Microseconds since 1970.
    pub begun_us: u64,
    pub ended_us: u64,
}

/// All records of a scene whose gateways were ended.
///
/// # Panics
/// Where the spools themselves say that something is missing.
pub fn read(scene: &Scene, clients: &[Client]) -> Vec<Booked> {
    let numbers: HashMap<&str, u32> = clients.iter().map(|c| c.id.as_str()).zip(0..).collect();
    let mut booked = Vec::new();
    for gateway in 0..scene.gateways.len() {
        read_spool(&scene.installation.spool(gateway), gateway, &numbers, &mut booked);
    }
    booked
}

fn read_spool(dir: &Path, gateway: usize, numbers: &HashMap<&str, u32>, booked: &mut Vec<Booked>) {
    // For each stream, the numbers of its segments.
    let mut streams: BTreeMap<u128, Vec<(u64, u64)>> = BTreeMap::new();
    let paths = sealed_segments(dir).unwrap().into_iter().chain(unsealed_segments(dir).unwrap());
    // A spare, made ahead, is no segment yet.
    for segment in paths.filter_map(|path| Segment::open(path).ok()) {
        let header = segment.header();
        streams.entry(header.stream).or_default().push((header.first_number, segment.next_number()));
        for entry in segment.records() {
            let Entry::Record { record, .. } = entry else { panic!("{}: {entry:?}", dir.display()) };
            booked.push(Booked {
                gateway,
                client: numbers[record.client],
                status: record.status,
                decision: record.decision,
                together: record.endpoint == "together",
                cost: cost_of_endpoint(record.endpoint),
                bytes: record.bytes_in + record.bytes_out,
                begun_us: record.time_us - record.latency_us,
                ended_us: record.time_us,
            });
        }
    }
    for (stream, mut segments) in streams {
        segments.sort_unstable();
        let mut expected = 0;
        for (first, next) in segments {
            assert_eq!(first, expected, "stream {stream:032x}: numbers are missing or there twice");
            expected = next;
        }
    }
}
