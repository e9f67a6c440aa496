//! Usage while it is being read: by client and by endpoint.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use futures::StreamExt;

use super::{Books, Each, OTHERS, REQUESTS_AT_ONCE, add_row, endpoint_name, newest_file};
use crate::calendar::Partition;
use crate::held::Held;
use crate::parquet_file::FileError;
use crate::store::Store;
use crate::table::Table;
use crate::view::{Completeness, Grain, Row, Series, Totals, Usage};

/// Client, tier, endpoint and method.
type Line = [String; 4];

/// The sums of one client or one endpoint while the books are being read.
#[derive(Default)]
struct Account {
    lines: HashMap<Line, Totals>,
    series: BTreeMap<i64, Totals>,
    status: BTreeMap<u16, i64>,
}

pub(super) struct Ledger<'a> {
    each: Each<'a>,
    /// Those of the others that are told one by one; all of them, as long as there are few.
    busiest: Option<HashSet<String>>,
    others: usize,
    accounts: BTreeMap<String, Account>,
    endpoints: BTreeMap<String, Account>,
    pub(super) held: Held,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(each: Each<'a>, busiest: Option<HashSet<String>>) -> Ledger<'a> {
        let (accounts, endpoints) = (BTreeMap::new(), BTreeMap::new());
        Ledger { each, busiest, others: 0, accounts, endpoints, held: Held::default() }
    }

    /// Whether there are more clients than can be told one by one.
    pub(super) fn is_full(&self) -> bool {
        self.busiest.is_none() && self.others > self.each.others
    }

    pub(super) async fn read(
        &mut self,
        store: &Store,
        partitions: &[Partition],
        range: Range<i64>,
    ) -> Result<(), FileError> {
        let reads = partitions.iter().map(|&partition| newest_file(store, partition));
        let mut reads = futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE);
        while let Some(read) = reads.next().await {
            let Some(file) = read? else { continue };
            self.held.union(&file.note.streams);
            file.tables(&mut |table| self.add(table, &range))?;
            if self.is_full() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn add(&mut self, table: &Table, range: &Range<i64>) {
        for row in (0..table.len()).filter(|&row| range.contains(&table.time_us[row])) {
            if self.is_full() {
                return;
            }
            let mut line: Line = std::array::from_fn(|i| table.names.get(table.texts[i][row]).to_owned());
            if !self.is_told(&line[0]) {
                OTHERS.clone_into(&mut line[0]);
            }
            let endpoint = endpoint_name(&line[3], &line[2]);
            self.endpoints.entry(endpoint).or_default().add(&line, table, row);
            self.accounts.entry(line[0].clone()).or_default().add(&line, table, row);
        }
    }

    fn is_told(&mut self, client: &str) -> bool {
        match &self.busiest {
            Some(busiest) => busiest.contains(client) || (self.each.named)(client),
            None => {
                let is_new = !self.accounts.contains_key(client) && !(self.each.named)(client);
                self.others += usize::from(is_new);
                true
            }
        }
    }

    pub(super) fn close(self, from_us: i64, to_us: i64, grain: Grain, mut told: Completeness) -> Books {
        let newest = self.accounts.values().filter_map(|a| a.series.keys().next_back()).max().copied();
        told.complete_to_us = newest.and(told.complete_to_us).or(newest);
        let empty = || Usage {
            from_us,
            to_us,
            totals: Totals::default(),
            series: Series { grain, points: Vec::new() },
            rows: Vec::new(),
            status: BTreeMap::new(),
            completeness: told.clone(),
        };
        let mut books = Books { platform: empty(), clients: BTreeMap::new(), endpoints: BTreeMap::new() };
        let mut series: BTreeMap<i64, Totals> = BTreeMap::new();
        for (client, account) in self.accounts {
            account.series.iter().for_each(|(&at, totals)| series.entry(at).or_default().add(totals));
            let usage = account.close(empty());
            books.platform.totals.add(&usage.totals);
            books.platform.rows.extend(usage.rows.iter().cloned());
            usage.status.iter().for_each(|(&code, n)| *books.platform.status.entry(code).or_default() += n);
            if client != OTHERS {
                books.clients.insert(client, usage);
            }
        }
        for (endpoint, account) in self.endpoints {
            books.endpoints.insert(endpoint, account.close(empty()));
        }
        books.platform.series.points = series.into_iter().collect();
        books.platform.completeness.records = books.platform.totals.requests;
        books
    }
}

impl Account {
    fn add(&mut self, line: &Line, table: &Table, row: usize) {
        if !self.lines.contains_key(line) {
            self.lines.insert(line.clone(), Totals::default());
        }
        if let Some(totals) = self.lines.get_mut(line) {
            add_row(totals, table, row);
        }
        add_row(self.series.entry(table.time_us[row]).or_default(), table, row);
        for (code, count) in table.status.row(row) {
            *self.status.entry(u16::try_from(code).unwrap_or(0)).or_default() += count;
        }
    }

    /// Fills a usage that has nothing in it yet.
    fn close(self, mut usage: Usage) -> Usage {
        let mut lines: Vec<(Line, Totals)> = self.lines.into_iter().collect();
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        for ([client, tier, endpoint, method], totals) in lines {
            usage.totals.add(&totals);
            usage.rows.push(Row { client, tier, endpoint, method, totals });
        }
        usage.series.points = self.series.into_iter().collect();
        usage.status = self.status;
        usage.completeness.records = usage.totals.requests;
        usage
    }
}
