//! Usage as columns in memory: what the roll-up computes on, between Parquet and Polars.

use crate::names::Names;
use crate::records::Records;
use crate::view::Latencies;

/// The summed columns of a usage row, in the order of [`Table::sums`].
pub const SUMS: [&str; 21] = [
    "requests",
    "status_0",
    "status_1",
    "status_2",
    "status_3",
    "status_4",
    "status_5",
    "passed",
    "delayed",
    "rejected",
    "delayed_dry_run",
    "rejected_dry_run",
    "passed_degraded",
    "delayed_degraded",
    "rejected_degraded",
    "over",
    "over_dry_run",
    "over_degraded",
    "bytes_in",
    "bytes_out",
    "latency_sum_us",
];

/// Positions in [`SUMS`].
pub const REQUESTS: usize = 0;
pub const STATUS_0: usize = 1;
pub const PASSED: usize = 7;
pub const BYTES_IN: usize = 18;
pub const BYTES_OUT: usize = 19;
pub const LATENCY_SUM_US: usize = 20;

/// The text columns of the key, in the order of [`Table::texts`].
pub const TEXTS: [&str; 4] = ["client", "tier", "endpoint", "method"];

/// One map from number to count per row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Row `i` owns the entries from `offsets[i]` to `offsets[i + 1]`, keys ascending.
    pub offsets: Vec<i32>,
    pub keys: Vec<i32>,
    pub counts: Vec<i64>,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { offsets: vec![0], keys: Vec::new(), counts: Vec::new() }
    }
}

impl Counts {
    /// The entries of one row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (i32, i64)> + '_ {
        let range = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        self.keys[range.clone()].iter().copied().zip(self.counts[range].iter().copied())
    }

    fn take_front(&mut self, rows: usize) -> Counts {
        let at = self.offsets[rows];
        let rest = Counts {
            offsets: self.offsets[rows..].iter().map(|offset| offset - at).collect(),
            keys: self.keys.split_off(at as usize),
            counts: self.counts.split_off(at as usize),
        };
        self.offsets.truncate(rows + 1);
        std::mem::replace(self, rest)
    }

    /// Ends a row that holds the sum of `entries`, which this sorts.
    pub fn push_sum(&mut self, entries: &mut [(i32, i64)]) {
        entries.sort_unstable();
        let begin = self.keys.len();
        for &(key, count) in entries.iter() {
            if self.keys.len() > begin && self.keys.last() == Some(&key) {
                *self.counts.last_mut().unwrap_or(&mut 0) += count;
            } else {
                self.keys.push(key);
                self.counts.push(count);
            }
        }
        self.offsets.push(self.keys.len() as i32);
    }
}

/// Usage rows, column by column. All columns have [`Table::len`] rows.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub names: Names,
    /// Start of the step, microseconds UTC.
    pub time_us: Vec<i64>,
    /// Client, tier, endpoint and method as positions in `names`.
    pub texts: [Vec<u32>; 4],
    pub sums: [Vec<i64>; SUMS.len()],
    /// `None` where no record of the row has a latency (imports).
    pub latency_min_us: Vec<Option<i64>>,
    pub latency_max_us: Vec<Option<i64>>,
    /// Bin of [`Latencies`] to records.
    pub latency: Counts,
    /// Exact status code to records.
    pub status: Counts,
}

impl Table {
    pub fn len(&self) -> usize {
        self.time_us.len()
    }

    pub fn is_empty(&self) -> bool {
        self.time_us.is_empty()
    }

    pub fn requests(&self) -> i64 {
        self.sums[REQUESTS].iter().sum()
    }

    /// One row for each record, not yet summed.
    pub fn of_records(records: &Records) -> Table {
        let mut table = Table { names: records.names().clone(), ..Table::default() };
        for row in records.rows() {
            table.time_us.push(row.time_us);
            for (column, text) in table.texts.iter_mut().zip([row.client, row.tier, row.endpoint, row.method])
            {
                column.push(text);
            }
            for (column, value) in table.sums.iter_mut().zip(row.sums()) {
                column.push(value);
            }
            table.latency_min_us.push(row.latency_us);
            table.latency_max_us.push(row.latency_us);
            let mut bin = row.latency_us.map(|us| (Latencies::bin(us.max(0) as u64), 1));
            table.latency.push_sum(bin.as_mut_slice());
            table.status.push_sum(&mut [(row.status, 1)]);
        }
        table
    }

    /// Takes the first rows out of it. What stays behind keeps the names that it uses and no others.
    pub fn take_front(&mut self, rows: usize) -> Table {
        if rows >= self.len() {
            return std::mem::take(self);
        }
        if rows == 0 {
            return Table::default();
        }
        fn front<T>(column: &mut Vec<T>, rows: usize) -> Vec<T> {
            let rest = column.split_off(rows);
            std::mem::replace(column, rest)
        }
        let taken = Table {
            names: std::mem::take(&mut self.names),
            time_us: front(&mut self.time_us, rows),
            texts: self.texts.each_mut().map(|column| front(column, rows)),
            sums: self.sums.each_mut().map(|column| front(column, rows)),
            latency_min_us: front(&mut self.latency_min_us, rows),
            latency_max_us: front(&mut self.latency_max_us, rows),
            latency: self.latency.take_front(rows),
            status: self.status.take_front(rows),
        };
        for text in self.texts.iter_mut().flatten() {
            *text = self.names.intern(taken.names.get(*text));
        }
        taken
    }

    /// The first row that does not fulfil a condition which all rows before it do, and none after it.
    pub fn partition_point(&self, is_before: impl Fn(usize) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            if is_before(middle) { from = middle + 1 } else { to = middle }
        }
        from
    }

    /// The rows whose time fulfils a condition.
    pub fn filtered(&self, keep: impl Fn(i64) -> bool) -> Table {
        self.picked(&(0..self.len()).filter(|&row| keep(self.time_us[row])).collect::<Vec<_>>())
    }

    /// Some of the rows, by their positions.
    pub fn picked(&self, rows: &[usize]) -> Table {
        let pick = |column: &[i64]| rows.iter().map(|&r| column[r]).collect::<Vec<i64>>();
        let pick_option = |column: &[Option<i64>]| rows.iter().map(|&r| column[r]).collect();
        let pick_counts = |counts: &Counts| {
            let mut picked = Counts::default();
            for &row in rows {
                picked.push_sum(&mut counts.row(row).collect::<Vec<_>>());
            }
            picked
        };
        Table {
            names: self.names.clone(),
            time_us: pick(&self.time_us),
            texts: std::array::from_fn(|t| rows.iter().map(|&r| self.texts[t][r]).collect()),
            sums: std::array::from_fn(|s| pick(&self.sums[s])),
            latency_min_us: pick_option(&self.latency_min_us),
            latency_max_us: pick_option(&self.latency_max_us),
            latency: pick_counts(&self.latency),
            status: pick_counts(&self.status),
        }
    }
}
