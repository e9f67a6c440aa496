//! Names that others chose, made fit to be read.
//!
//! Markup is not dealt with here: templates escape it. This is about what escaping leaves: line
//! ends that would break a mail's header, characters that turn the direction of the text around
//! them, names that are invisible or fill the page.

use std::fmt::Write;

/// The longest name that is shown whole, in characters. One longer name must not fill a page.
const LONGEST: usize = 80;

/// `name` as text that shows what it is: control characters, line and paragraph separators and
/// direction marks appear as `\u{202e}`, nothing is invisible, and nothing is longer than a line.
pub fn shown(name: &str) -> String {
    shown_within(name, LONGEST)
}

/// The same for a text that may be longer, such as a sentence with names in it.
pub fn shown_within(name: &str, longest: usize) -> String {
    let mut out = String::with_capacity(name.len());
    for (i, c) in name.chars().enumerate() {
        if i == longest {
            out.push('…');
            break;
        }
        if is_invisible(c) {
            // Writing to a String does not fail.
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    if out.chars().all(is_blank) { format!("\"{out}\"") } else { out }
}

/// Joiners are part of how Persian, Hindi or an emoji is written, so they stay; alone they show
/// nothing.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_stays_as_it_is() {
        for name in ["Acme Corp", "Ünïcode 株式会社", "نمی\u{200c}خواهم", "<script>alert(1)</script>"]
        {
            assert_eq!(shown(name), name);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_spelled_out() {
        assert_eq!(shown("a\r\nBcc: b"), "a\\u{d}\\u{a}Bcc: b");
        assert_eq!(shown("\u{202e}evil"), "\\u{202e}evil");
        assert_eq!(shown("a\u{2028}b\0"), "a\\u{2028}b\\u{0}");
    }

    #[test]
    fn empty_and_endless_names_are_bounded() {
        assert_eq!(shown(""), "\"\"");
        assert_eq!(shown("   "), "\"   \"");
        assert_eq!(shown("\u{200d}"), "\"\u{200d}\"");
        let long = shown(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
    }
}
