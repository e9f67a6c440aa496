//! Spans of time that lie apart.

use std::ops::Range;

use crate::calendar::HOUR_US;

/// Ascending, none touching another; microseconds UTC, half open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<Range<i64>>);

impl Spans {
    pub fn of(spans: impl IntoIterator<Item = Range<i64>>) -> Spans {
        let mut spans: Vec<Range<i64>> = spans.into_iter().filter(|s| s.start < s.end).collect();
        spans.sort_unstable_by_key(|span| span.start);
        let mut apart: Vec<Range<i64>> = Vec::new();
        for span in spans {
            match apart.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => apart.push(span),
            }
        }
        Spans(apart)
    }

    /// Each whole hour of a range that is not among the active ones (ascending). Where the range
    /// begins with the day of the first usage there is, the hours before the first active one do not
    /// count: weir was not there yet.
    pub fn gaps(active: &[i64], range: Range<i64>, first_day_us: i64) -> Vec<Range<i64>> {
        let is_first = range.start == first_day_us;
        let start = active.first().copied().filter(|_| is_first).unwrap_or(range.start);
        let hours = (start..range.end).step_by(HOUR_US as usize);
        let silent = hours.filter(|hour| active.binary_search(hour).is_err());
        silent.map(|hour| hour..hour + HOUR_US).collect()
    }

    /// How much of a range they cover, microseconds.
    pub fn within(&self, from_us: i64, to_us: i64) -> i64 {
        self.0.iter().map(|s| (s.end.min(to_us) - s.start.max(from_us)).max(0)).sum()
    }

    /// How much of a range they cover that `other` does not.
    pub fn without(&self, other: &Spans, from_us: i64, to_us: i64) -> i64 {
        let own = |s: &Range<i64>| {
            let (from, to) = (s.start.max(from_us), s.end.min(to_us));
            if from < to { to - from - other.within(from, to) } else { 0 }
        };
        self.0.iter().map(own).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_merged_and_measured() {
        let spans = Spans::of([10..20, 0..5, 15..30, 40..40]);
        assert_eq!(spans, Spans(vec![0..5, 10..30]));
        assert_eq!((spans.within(3, 12), spans.within(5, 10)), (4, 0));
        assert_eq!(spans.without(&Spans::of(std::iter::once(12..14)), 0, 20), 13);
    }

    #[test]
    fn hours_without_anything_are_gaps_but_not_before_the_first_there_ever_was() {
        let active = [2 * HOUR_US, 4 * HOUR_US];
        let gaps = |first| Spans::gaps(&active, 0..6 * HOUR_US, first).len();
        assert_eq!((gaps(0), gaps(-24 * HOUR_US)), (2, 4));
    }
}
