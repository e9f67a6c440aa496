//! Whether more was admitted than a limit allows in any of its windows, for certain.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_limiter::{Counter, Unit, Window};
use weir_metering::Decision;
use weir_policy::Book;

use crate::calendar::civil;
use crate::records::Records;

/// Client, tier, endpoint and method.
type Line = (String, String, String, String);

/// When one request came and when it was done: it was admitted in between.
type Span = (i64, i64);

/// What was admitted under each limit.
pub struct Admitted<'a> {
    book: &'a Book,
    /// Positions in `limits`.
    by_line: HashMap<Line, Vec<usize>>,
    by_counter: BTreeMap<String, usize>,
    limits: Vec<Watched>,
}

/// A limit, and when each request came and was done that was admitted under it.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What gateways count it by in Redis.
    pub counter: Arc<Counter>,
    /// For how long that counts a unit.
    pub counted_ms: u64,
    name: String,
    amount: u64,
    window_us: i64,
    spans: Vec<Span>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Watched) -> bool {
        (&self.counter.name, &self.spans) == (&other.counter.name, &other.spans)
    }
}

impl Eq for Watched {}

impl<'a> Admitted<'a> {
    pub fn new(book: &'a Book) -> Admitted<'a> {
        Admitted { book, by_line: HashMap::new(), by_counter: BTreeMap::new(), limits: Vec::new() }
    }

    /// Takes what was decided under the present policy, with Redis at hand, and not on trial.
    pub fn add(&mut self, records: &Records) {
        for row in records.rows() {
            let decided = matches!(row.decision, Decision::Passed | Decision::Delayed);
            if !decided || row.policy_version != self.book.version() {
                continue;
            }
            let text = |at: u32| records.names().get(at).to_owned();
            let line = (text(row.client), text(row.tier), text(row.endpoint), text(row.method));
            if !self.by_line.contains_key(&line) {
                let limits = self.limits_of(&line);
                self.by_line.insert(line.clone(), limits);
            }
            let span = (row.time_us - row.latency_us.unwrap_or(0), row.time_us);
            for &at in &self.by_line[&line] {
                self.limits[at].spans.push(span);
            }
        }
    }

    /// Limits on requests in windows that slide: bytes are known when they have been sent, and the
    /// cost of a request is not in its record.
    fn limits_of(&mut self, (client, tier, endpoint, method): &Line) -> Vec<usize> {
        let mut applied = Vec::new();
        let caller = self.book.by_client(client, Some(tier));
        self.book.limits(&caller, method, endpoint, 0, &mut applied);
        let mut found = Vec::new();
        for one in applied {
            let Window::Sliding { ms } = one.limit.window else { continue };
            if one.limit.unit != Unit::Requests {
                continue;
            }
            let (counter, counted_ms) = (one.counter, one.counted_ms);
            let at = *self.by_counter.entry(counter.name.clone()).or_insert(self.limits.len());
            if at == self.limits.len() {
                let window_us = i64::try_from(ms).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000);
                let (name, amount) = (one.name.to_string(), one.limit.amount);
                let spans = Vec::new();
                self.limits.push(Watched { counter, counted_ms, name, amount, window_us, spans });
            }
            found.push(at);
        }
        found
    }

    /// What was admitted under each limit.
    pub fn close(self) -> Vec<Watched> {
        self.limits
    }
}

impl Watched {
    /// What was admitted beyond the limit, in its fullest window.
    pub(super) fn breach(&mut self, skew_us: i64) -> Option<String> {
        let (most, at_us) = fullest(&mut self.spans, self.window_us.saturating_sub(skew_us));
        (most > self.amount).then(|| {
            let Watched { counter, name, amount, .. } = self;
            let end = civil(at_us);
            format!(
                "{}, limit {name}: {most} admitted in the window that ends at {end}Z, {amount} allowed",
                counter.name
            )
        })
    }

    /// How many were admitted for certain within the window that ends then.
    pub(super) fn admitted(&self, at_us: i64, skew_us: i64) -> u64 {
        let from_us = at_us - self.window_us + skew_us;
        self.spans.iter().filter(|&&(from, to)| from > from_us && to <= at_us).count() as u64
    }

    /// What Redis counts less than that.
    pub(super) fn missed(&self, at_us: i64, skew_us: i64, counted: u64) -> Option<String> {
        let admitted = self.admitted(at_us, skew_us);
        (admitted > counted).then(|| {
            format!(
                "{}, limit {}: Redis counts {counted} in the window that ends at {}Z, records say that {admitted} were admitted in it",
                self.counter.name,
                self.name,
                civil(at_us)
            )
        })
    }
}

/// The most spans that lie wholly within a window of this length, and where that window ends.
fn fullest(spans: &mut [Span], window_us: i64) -> (u64, i64) {
    spans.sort_unstable_by_key(|&(from, to)| (to, from));
    let (mut most, mut at_us) = (0, 0);
    // Beginnings of the spans that ended so far and began within the window.
    let mut open: BTreeMap<i64, u64> = BTreeMap::new();
    let mut count = 0;
    for &mut (from, to) in spans {
        *open.entry(from).or_default() += 1;
        count += 1;
        while let Some(first) = open.first_entry().filter(|first| *first.key() <= to - window_us) {
            count -= first.remove();
        }
        if count > most {
            (most, at_us) = (count, to);
        }
    }
    (most, at_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_window_is_that_of_the_naive_count() {
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..100 {
            let span = |rng: &mut fastrand::Rng| {
                let from = rng.i64(0..300);
                (from, from + rng.i64(0..30))
            };
            let mut spans: Vec<Span> = (0..60).map(|_| span(&mut rng)).collect();
            let window = rng.i64(1..100);
            let inside = |end: i64| spans.iter().filter(|s| s.0 > end - window && s.1 <= end).count() as u64;
            let naive = spans.iter().map(|s| inside(s.1)).max().unwrap();
            assert_eq!(fullest(&mut spans, window).0, naive);
        }
    }
}
