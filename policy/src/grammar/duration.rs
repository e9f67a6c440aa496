//! `6h`, `30d`: a time to wait or to look back, no window of a limit.

use crate::problem::{Fault, quote};

const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];

/// The longest duration: nothing looks further back than a year and a day.
const LONGEST_S: u64 = 366 * 86_400;

/// Seconds, at least 1.
pub fn parse(text: &str) -> Result<u64, Fault> {
    let unit = UNITS.iter().find(|(letter, _)| text.ends_with(*letter));
    let seconds = unit.and_then(|(_, seconds)| {
        let digits = &text[..text.len() - 1];
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(*seconds)
    });
    match seconds {
        Some(seconds @ 1..=LONGEST_S) => Ok(seconds),
        Some(_) => {
            Err(Fault::new(format!("{} is out of bounds", quote(text)), "write at least 1s and at most 366d"))
        }
        None => Err(Fault::new(
            format!("{} is not a duration", quote(text)),
            "write a whole number and s, m, h or d, such as \"6h\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_and_bounded() {
        assert_eq!(parse("1s"), Ok(1));
        assert_eq!(parse("90m"), Ok(5_400));
        assert_eq!(parse("6h"), Ok(21_600));
        assert_eq!(parse("30d"), Ok(2_592_000));
        for text in ["", "h", "6", "6 h", "-6h", "+6h", "1.5h", "6H", "6hours", "0s", "367d", "6\u{e9}"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse("99999999999999999999d").is_err());
    }
}
