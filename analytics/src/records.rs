//! Records on their way from the spool to Parquet and into the roll-up.

use std::collections::BTreeMap;

use weir_metering::{Decision, Record};

use crate::calendar::Partition;
use crate::held::Numbers;
use crate::names::Names;
use crate::table::{BYTES_IN, BYTES_OUT, LATENCY_SUM_US, PASSED, REQUESTS, STATUS_0, SUMS};
use crate::view::Grain;

/// One record; texts are positions in [`Records::names`].
#[derive(Clone, Debug)]
pub struct Row {
    /// When the request ended, microseconds UTC.
    pub time_us: i64,
    /// Whose record it is; see [`Records::of`].
    pub gateway: u32,
    pub stream: u32,
    pub number: u64,
    pub client: u32,
    pub tier: u32,
    pub endpoint: u32,
    pub method: u32,
    pub limit: u32,
    pub status: i32,
    /// `None` when imported from a log that has none.
    pub latency_us: Option<i64>,
    pub upstream_us: Option<i64>,
    pub bytes_in: i64,
    pub bytes_out: i64,
    pub decision: Decision,
    pub policy_version: u64,
}

impl Row {
    fn texts(&mut self) -> [&mut u32; 7] {
        let Row { gateway, stream, client, tier, endpoint, method, limit, .. } = self;
        [gateway, stream, client, tier, endpoint, method, limit]
    }

    /// What the record adds to each of [`SUMS`].
    pub fn sums(&self) -> [i64; SUMS.len()] {
        let mut sums = [0; SUMS.len()];
        sums[REQUESTS] = 1;
        let class = usize::try_from(self.status / 100).ok().filter(|c| (1..=5).contains(c));
        sums[STATUS_0 + class.unwrap_or(0)] = 1;
        sums[PASSED + self.decision as usize] = 1;
        sums[BYTES_IN] = self.bytes_in;
        sums[BYTES_OUT] = self.bytes_out;
        sums[LATENCY_SUM_US] = self.latency_us.unwrap_or(0);
        sums
    }
}

/// Records, of one stream mostly.
#[derive(Clone, Debug, Default)]
pub struct Records {
    names: Names,
    rows: Vec<Row>,
}

impl Records {
    /// Adds a record; `timed` says whether its latency was measured.
    pub fn push(&mut self, number: u64, record: &Record<'_>, timed: bool) {
        let row = Row {
            time_us: signed(record.time_us),
            gateway: self.names.intern(""),
            stream: self.names.intern(""),
            number,
            client: self.names.intern(record.client),
            tier: self.names.intern(record.tier),
            endpoint: self.names.intern(record.endpoint),
            method: self.names.intern(record.method),
            limit: self.names.intern(record.limit),
            status: i32::from(record.status),
            latency_us: timed.then(|| signed(record.latency_us)),
            upstream_us: record.upstream_us.map(signed),
            bytes_in: signed(record.bytes_in),
            bytes_out: signed(record.bytes_out),
            decision: record.decision,
            policy_version: record.policy_version,
        };
        self.rows.push(row);
    }

    /// Says whose records all of these are.
    pub fn of(&mut self, gateway: &str, stream: &str) {
        let (gateway, stream) = (self.names.intern(gateway), self.names.intern(stream));
        for row in &mut self.rows {
            (row.gateway, row.stream) = (gateway, stream);
        }
    }

    /// Adds the rows of others.
    pub fn append(&mut self, more: &Records) {
        let moved: Vec<u32> = more.names.list().iter().map(|name| self.names.intern(name)).collect();
        self.rows.extend(more.rows.iter().cloned().map(|mut row| {
            row.texts().into_iter().for_each(|text| *text = moved[*text as usize]);
            row
        }));
    }

    /// Puts rows together that came from elsewhere; their texts are positions in `names`.
    pub fn from_parts(names: Names, rows: Vec<Row>) -> Records {
        Records { names, rows }
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The numbers of these records, which are of one stream.
    pub fn numbers(&self) -> Numbers {
        Numbers::of(self.rows.iter().map(|r| r.number).collect())
    }

    /// The same records by the hour they ended in.
    pub fn by_hour(self) -> BTreeMap<Partition, Records> {
        let mut hours: BTreeMap<Partition, Records> = BTreeMap::new();
        for row in self.rows {
            let hour = hours.entry(Partition::at(Grain::Minute, row.time_us)).or_default();
            hour.rows.push(row);
        }
        for hour in hours.values_mut() {
            hour.names = self.names.clone();
        }
        hours
    }

    /// Sorts by client, endpoint, time, stream and number: neighbours in a file are what is asked for
    /// together, and compress well.
    pub fn sort(&mut self) {
        let (sorted, moved) = Names::merged(std::iter::once(&self.names));
        for row in &mut self.rows {
            row.texts().into_iter().for_each(|text| *text = moved[0][*text as usize]);
        }
        self.names = sorted;
        self.rows.sort_unstable_by_key(|r| (r.client, r.endpoint, r.time_us, r.stream, r.number));
    }
}

/// Published files hold signed numbers only; what does not fit is told as the largest.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
