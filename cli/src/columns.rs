//! Columns of text, for terminals and for whatever reads lines.

/// Rows below their titles, each column as wide as its widest cell. Columns that begin with `>` in
/// their title stand to the right.
pub fn aligned(titles: &[&str], rows: &[Vec<String>]) -> String {
    let bare: Vec<String> = titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).chain(bare.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut out = String::new();
    for row in std::iter::once(&bare).chain(rows) {
        let cells = row.iter().zip(&widths).zip(titles).map(|((cell, width), title)| {
            let room = " ".repeat(width.saturating_sub(cell.chars().count()));
            if title.starts_with('>') { format!("{room}{cell}") } else { format!("{cell}{room}") }
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A name that somebody chose, as one harmless piece of text.
pub fn shown(name: &str) -> String {
    name.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// `532`, `12.3 k`, `4.1 M`
pub fn short(number: f64) -> String {
    let scales = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    match scales.into_iter().find(|(scale, _)| number >= *scale) {
        Some((scale, unit)) => format!("{:.1}{unit}", number / scale),
        None if number.fract() == 0.0 || number >= 100.0 => format!("{number:.0}"),
        None => format!("{number:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_does() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "20".to_owned()]];
        assert_eq!(aligned(&["NAME", ">N"], &rows), "NAME     N\na        1\nlonger  20\n");
        let left = vec![vec!["x".to_owned(), "y".to_owned()]];
        assert_eq!(aligned(&["A", "LONG"], &left), "A  LONG\nx  y\n");
    }

    #[test]
    fn numbers_are_short_and_names_harmless() {
        assert_eq!([0.0, 2.5, 999.0, 1_000.0, 4.1e6].map(short), ["0", "2.5", "999", "1.0 k", "4.1 M"]);
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
