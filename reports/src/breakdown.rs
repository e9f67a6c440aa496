//! Tables of who or what used how much: the largest by name, the rest as one line, so that a page
//! stays small with any number of endpoints and its sums stay whole.

use std::collections::BTreeMap;

use askama::Template;
use weir_analytics::view::Totals;

use crate::number;

/// A table of shares of a whole.
#[derive(Clone, Debug, Template)]
#[template(path = "part/breakdown.html")]
pub struct Breakdown {
    pub id: &'static str,
    pub title: &'static str,
    /// Head of the first column.
    pub of: &'static str,
    pub lines: Vec<Line>,
    /// Further lines, folded away until someone asks for them.
    pub more: Vec<Line>,
    pub total: Line,
}

/// Lines that are always in sight.
const IN_SIGHT: usize = 20;

impl askama::filters::HtmlSafe for Breakdown {}

/// One line: a name and what was counted under it, ready to be shown.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    /// Beside the name: the tier of a client.
    pub note: Option<String>,
    pub link: Option<String>,
    /// 0 to 100, the width of the bar.
    pub bar: String,
    pub requests: String,
    pub share: String,
    pub refused: String,
    pub refused_share: String,
    pub errors: String,
    pub errors_share: String,
    pub p50: String,
    pub p95: String,
    pub p99: String,
    pub bytes: String,
}

/// How a group is shown: its name, a note, a link.
pub struct Label {
    pub name: String,
    pub note: Option<String>,
    pub link: Option<String>,
}

impl Label {
    pub fn plain(name: String) -> Label {
        Label { name, note: None, link: None }
    }
}

/// Sums by group, largest first; equal ones by name, so that two renderings are the same.
pub fn grouped<'a, K: Ord>(rows: impl Iterator<Item = (K, &'a Totals)>) -> Vec<(K, Totals)> {
    let mut sums: BTreeMap<K, Totals> = BTreeMap::new();
    for (key, totals) in rows {
        sums.entry(key).or_default().add(totals);
    }
    let mut groups: Vec<(K, Totals)> = sums.into_iter().collect();
    groups.sort_by_key(|(_, totals)| std::cmp::Reverse(totals.requests));
    groups
}

impl Breakdown {
    /// The `most` largest of `groups`, labelled by `label`, and the sum of the others.
    pub fn new<K>(
        (id, title, of): (&'static str, &'static str, &'static str),
        groups: &[(K, Totals)],
        most: usize,
        label: impl Fn(&K) -> Label,
    ) -> Breakdown {
        let whole = sum(groups);
        let (named, rest) = groups.split_at(groups.len().min(most));
        let largest = groups.first().map_or(0, |(_, totals)| totals.requests);
        let mut lines: Vec<Line> = named.iter().map(|(k, t)| line(label(k), t, &whole, largest)).collect();
        if !rest.is_empty() {
            let name = number::counted(rest.len() as i64, "other", "others");
            lines.push(line(Label::plain(name), &sum(rest), &whole, largest));
        }
        let total = line(Label::plain("Total".to_string()), &whole, &whole, whole.requests);
        // Folding three lines away saves nobody anything.
        let in_sight = if lines.len() <= IN_SIGHT + 3 { lines.len() } else { IN_SIGHT };
        let more = lines.split_off(in_sight);
        Breakdown { id, title, of, lines, more, total }
    }
}

fn sum<K>(groups: &[(K, Totals)]) -> Totals {
    let mut whole = Totals::default();
    groups.iter().for_each(|(_, totals)| whole.add(totals));
    whole
}

fn line(label: Label, totals: &Totals, whole: &Totals, largest: i64) -> Line {
    let quantile = |q| number::latency(totals.latencies.quantile_us(q));
    Line {
        name: label.name,
        note: label.note,
        link: label.link,
        bar: bar(totals.requests, largest),
        requests: number::integer(totals.requests),
        share: number::percent(totals.requests, whole.requests),
        refused: number::integer(totals.refused()),
        refused_share: number::percent(totals.refused(), totals.requests),
        errors: number::integer(errors(totals)),
        errors_share: number::percent(errors(totals), totals.requests),
        p50: quantile(0.5),
        p95: quantile(0.95),
        p99: quantile(0.99),
        bytes: number::bytes(totals.bytes_in + totals.bytes_out),
    }
}

/// Errors of the service. Where refusals are answered with a 5xx (`weir_status 503`) they would be
/// among them; what was refused is no error.
pub fn errors(totals: &Totals) -> i64 {
    totals.errors().min(totals.requests - totals.refused()).max(0)
}

/// The width of a bar among bars of which the longest is 100.
pub fn bar(value: i64, largest: i64) -> String {
    if largest <= 0 {
        "0".to_string()
    } else {
        format!("{:.1}", (100.0 * value as f64 / largest as f64).clamp(0.0, 100.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::requests;

    #[test]
    fn the_largest_are_named_and_all_lines_sum_to_the_total() {
        let rows: Vec<(String, Totals)> =
            (1..=100_000).map(|i| (format!("/e{i}"), requests(i % 1_000))).collect();
        let groups = grouped(rows.iter().map(|(k, t)| (k.clone(), t)));
        let table = Breakdown::new(("e", "Endpoints", "Endpoint"), &groups, 20, |k| Label::plain(k.clone()));
        assert_eq!((table.lines.len(), table.more.len()), (21, 0));
        assert_eq!(table.lines[0].name, "/e10999", "the first by name of the largest");
        assert_eq!(table.lines[20].name, "99,980 others");
        let parsed: i64 =
            table.lines.iter().map(|l| l.requests.replace(',', "").parse::<i64>().unwrap()).sum();
        assert_eq!(number::integer(parsed), table.total.requests);
        assert!(table.render().unwrap().len() < 40_000);
    }

    #[test]
    fn many_lines_are_folded() {
        let groups: Vec<(i64, Totals)> = (0..80).map(|i| (i, requests(1))).collect();
        let table =
            Breakdown::new(("e", "Endpoints", "Endpoint"), &groups, 60, |k| Label::plain(k.to_string()));
        assert_eq!((table.lines.len(), table.more.len()), (20, 41));
        assert!(table.render().unwrap().contains("41 more"));
    }

    #[test]
    fn nothing_is_a_table_without_nonsense() {
        let table = Breakdown::new(("e", "Endpoints", "Endpoint"), &[("x", Totals::default())], 5, |k| {
            Label::plain(k.to_string())
        });
        let html = table.render().unwrap();
        assert!(!html.contains("NaN"), "{html}");
        assert_eq!((table.lines[0].bar.as_str(), table.lines[0].share.as_str()), ("0", "–"));
    }

    #[test]
    fn refusals_answered_with_503_are_no_errors() {
        let mut totals = requests(10);
        totals.decisions = [4, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0];
        totals.status_class = [0, 0, 3, 0, 0, 7];
        assert_eq!(errors(&totals), 4);
    }
}
