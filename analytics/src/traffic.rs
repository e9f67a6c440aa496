//! Traffic made for a test: booked as segments and rolled up.

use std::sync::Arc;

use object_store::memory::InMemory;
use weir_metering::{Decision, Record};

use crate::calendar::{HOUR_US, MINUTE_US};
use crate::held::Numbers;
use crate::part::{self, PartNote};
use crate::records::Records;
use crate::store::Store;
use crate::testing::{roll_up, stream_name};

/// Monday, 4 January 2027, 00:00 UTC.
pub const MONDAY_US: i64 = 499_728 * HOUR_US;

/// Requests that are all alike.
#[derive(Clone, Copy)]
pub struct Like {
    pub client: &'static str,
    pub tier: &'static str,
    pub endpoint: &'static str,
    pub status: u16,
    pub latency_us: u64,
    pub decision: Decision,
}

impl Default for Like {
    fn default() -> Like {
        let (client, tier, endpoint, decision) = ("acme", "t", "/orders", Decision::Passed);
        Like { client, tier, endpoint, status: 200, latency_us: 10_000, decision }
    }
}

pub struct Traffic {
    pub store: Store,
    records: Records,
    next: u64,
}

impl Traffic {
    pub fn new() -> Traffic {
        let store = Store::new(Arc::new(InMemory::new()));
        Traffic { store, records: Records::default(), next: 0 }
    }

    /// So many requests, evenly over `MINUTES` from a moment on.
    pub fn add(&mut self, from_us: i64, minutes: i64, requests: u64, like: Like) {
        for i in 0..requests {
            let record = Record {
                time_us: from_us as u64 + i * (minutes * MINUTE_US) as u64 / requests,
                client: like.client,
                tier: like.tier,
                endpoint: like.endpoint,
                method: "POST",
                status: like.status,
                latency_us: like.latency_us,
                upstream_us: None,
                bytes_in: 1,
                bytes_out: 1,
                decision: like.decision,
                limit: "",
                policy_version: 1,
            };
            self.records.push(self.next, &record, true);
            self.next += 1;
        }
    }

    /// Books all of it and rolls it up.
    pub async fn roll_up(&mut self, now_us: i64) {
        let note = PartNote {
            gateway: "gw".to_owned(),
            stream: stream_name(1),
            segment: 0,
            boot: "b".to_owned(),
            held: Numbers::default(),
            first: 0,
            next: self.next,
            gaps: Vec::new(),
            ..PartNote::default()
        };
        for (hour, records) in std::mem::take(&mut self.records).by_hour() {
            let note = PartNote { held: records.numbers(), ..note.clone() };
            part::put(&self.store, hour, &note, records).await.unwrap();
        }
        roll_up(&self.store, now_us).await.unwrap();
    }
}
