//! `10%`: a share of a tier's clients.

use crate::problem::{Fault, quote};

/// Whole percent, 0 to 100.
pub fn parse(text: &str) -> Result<u8, Fault> {
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).filter(|percent| *percent <= 100).ok_or_else(|| {
        Fault::new(
            format!("{} is not a share", quote(text)),
            "write true, false, or whole percent such as \"10%\"",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_whole_percent() {
        assert_eq!(parse("0%"), Ok(0));
        assert_eq!(parse("100%"), Ok(100));
        for text in ["", "%", "10", "101%", "-1%", "+1%", "1.5%", "10 %", "300%"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
