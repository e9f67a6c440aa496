//! "Did you mean …?"

/// Words longer than this are no misspelling of ours, and comparing them would only take time.
const LONGEST: usize = 40;

/// The candidate that `word` is most probably a misspelling of: at most one slip in three
/// characters, letter case aside. The first of equals wins.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = folded(word)?;
    let slips = |candidate: &str| Some(distance(&word, &folded(candidate)?));
    candidates
        .into_iter()
        .filter_map(|candidate| Some((slips(candidate)?, candidate)))
        .filter(|&(slips, candidate)| slips <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "minute"?`, or `otherwise` when nothing is near.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    match nearest(word, candidates) {
        Some(candidate) => format!("did you mean {candidate:?}?"),
        None => otherwise(),
    }
}

fn folded(word: &str) -> Option<Vec<char>> {
    (word.len() <= LONGEST).then(|| word.chars().flat_map(char::to_lowercase).collect())
}

/// Edit distance in which swapping two neighbours is one slip (optimal string alignment).
pub(crate) fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j - 1] + differs).min(last[j] + 1).min(row[j - 1] + 1);
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if swapped {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slips(a: &str, b: &str) -> usize {
        let chars = |word: &str| word.chars().collect::<Vec<_>>();
        distance(&chars(a), &chars(b))
    }

    #[test]
    fn slips_are_counted() {
        assert_eq!(slips("", ""), 0);
        assert_eq!(slips("", "abc"), 3);
        assert_eq!(slips("reqests", "requests"), 1);
        assert_eq!(slips("psot", "post"), 1, "neighbours swapped");
        assert_eq!(slips("kitten", "sitting"), 3);
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let words = ["second", "minute", "hour"];
        assert_eq!(nearest("mintue", words), Some("minute"));
        assert_eq!(nearest("MINUTE", words), Some("minute"));
        assert_eq!(nearest("fortnight", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"m".repeat(10_000), words), None);
    }
}
