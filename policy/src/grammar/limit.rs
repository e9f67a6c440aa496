//! `100 requests/minute`, `500 MB in/24 hours`.

use weir_limiter::{Limit, Unit, Window};

use crate::problem::{Fault, quote};
use crate::suggest::did_you_mean;

/// The largest amount of a limit: the largest integer that a `RateLimit` field can carry (RFC 9651,
/// section 3.3.1), which also leaves room for sums in 64 bits.
pub const MAX_AMOUNT: u64 = 999_999_999_999_999;

const SECOND_MS: u64 = 1_000;
const LONGEST_WINDOW_MS: u64 = 31 * 24 * 3_600 * SECOND_MS;

const EXAMPLE: &str = "write it like \"100 requests/minute\" or \"500 MB/24 hours\"";

/// Each word for a unit, what it counts, and how many of that one stands for.
const UNITS: [(&str, Unit, u64); 15] = [
    ("requests", Unit::Requests, 1),
    ("request", Unit::Requests, 1),
    ("units", Unit::Cost, 1),
    ("unit", Unit::Cost, 1),
    ("bytes", Unit::Bytes, 1),
    ("byte", Unit::Bytes, 1),
    ("B", Unit::Bytes, 1),
    ("KB", Unit::Bytes, 1_000),
    ("MB", Unit::Bytes, 1_000_000),
    ("GB", Unit::Bytes, 1_000_000_000),
    ("TB", Unit::Bytes, 1_000_000_000_000),
    ("KiB", Unit::Bytes, 1 << 10),
    ("MiB", Unit::Bytes, 1 << 20),
    ("GiB", Unit::Bytes, 1 << 30),
    ("TiB", Unit::Bytes, 1 << 40),
];

const WINDOWS: [(&str, u64); 6] = [
    ("second", SECOND_MS),
    ("minute", 60 * SECOND_MS),
    ("hour", 3_600 * SECOND_MS),
    ("seconds", SECOND_MS),
    ("minutes", 60 * SECOND_MS),
    ("hours", 3_600 * SECOND_MS),
];

const CALENDAR: [(&str, Window); 2] = [("day", Window::Day), ("month", Window::Month)];

/// Stretches of the calendar for which there are no quotas.
const NO_WINDOWS: [&str; 6] = ["days", "months", "week", "weeks", "year", "years"];

/// Usual short forms, too far from our words for a misspelling.
const SHORT_FORMS: [(&str, &str); 15] = [
    ("req", "requests"),
    ("reqs", "requests"),
    ("r", "requests"),
    ("calls", "requests"),
    ("hits", "requests"),
    ("cost", "units"),
    ("s", "second"),
    ("sec", "second"),
    ("secs", "seconds"),
    ("m", "minute"),
    ("min", "minute"),
    ("mins", "minutes"),
    ("h", "hour"),
    ("hr", "hour"),
    ("hrs", "hours"),
];

/// Parses `N unit/window`.
pub fn parse_limit(text: &str) -> Result<Limit, Fault> {
    let Some((quantity, window)) = text.split_once('/') else {
        return Err(Fault::new(format!("{} is not a limit", quote(text)), EXAMPLE));
    };
    let (amount, unit) = parse_quantity(quantity)?;
    let window = parse_window(window)?;
    Ok(Limit { amount, unit, window })
}

fn parse_quantity(text: &str) -> Result<(u64, Unit), Fault> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (number, unit, direction) = match words[..] {
        [number, unit] => (number, unit, None),
        [number, unit, direction] => (number, unit, Some(direction)),
        [glued] if glued.starts_with(|first: char| first.is_ascii_digit()) => {
            return Err(Fault::new(format!("{} has no unit", quote(glued)), EXAMPLE));
        }
        _ => {
            return Err(Fault::new(format!("{} is not an amount", quote(text.trim())), EXAMPLE));
        }
    };
    let number = parse_number(number)?;
    let (unit, factor) = parse_unit(unit, direction)?;
    match number.checked_mul(factor).filter(|&amount| amount <= MAX_AMOUNT) {
        Some(amount) => Ok((amount, unit)),
        None => Err(Fault::new(
            format!("{} is too much", quote(text.trim())),
            format!("the largest limit is {MAX_AMOUNT} of a unit"),
        )),
    }
}

/// A whole number, in digits alone.
fn parse_number(text: &str) -> Result<u64, Fault> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only a number beyond 64 bits fails now; a larger one than any allowed says so later.
        return Ok(text.parse().unwrap_or(u64::MAX));
    }
    let shown = quote(text);
    if text.starts_with('-') {
        return Err(Fault::new(
            format!("{shown} is negative"),
            "write 0 to refuse every request, or a positive number",
        ));
    }
    let plain: String = text.chars().filter(|char| !"_,'".contains(*char)).collect();
    if plain.len() < text.len() && plain.parse::<u64>().is_ok() {
        return Err(Fault::new(format!("{shown} is not a number"), format!("write {plain}")));
    }
    if text.parse::<f64>().is_ok() {
        let remedy = "write digits only, and change the unit or the window instead";
        return Err(Fault::new(format!("{shown} is not a whole number"), remedy));
    }
    Err(Fault::new(format!("{shown} is not a number"), EXAMPLE))
}

fn parse_unit(word: &str, direction: Option<&str>) -> Result<(Unit, u64), Fault> {
    let Some(&(_, unit, factor)) = UNITS.iter().find(|(known, ..)| *known == word) else {
        return Err(not_a(word, "unit", UNITS.map(|(known, ..)| known)));
    };
    match (unit, direction) {
        (unit, None) => Ok((unit, factor)),
        (Unit::Bytes, Some("in")) => Ok((Unit::BytesIn, factor)),
        (Unit::Bytes, Some("out")) => Ok((Unit::BytesOut, factor)),
        (_, Some(other)) => Err(Fault::new(
            format!("{} cannot stand after {word}", quote(other)),
            "only bytes have a direction: \"in\" or \"out\"",
        )),
    }
}

/// `minute`, `10 seconds` or `day`.
fn parse_window(text: &str) -> Result<Window, Fault> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (number, word) = match words[..] {
        [word] => (1, word),
        [number, word] => (parse_number(number)?, word),
        _ => {
            return Err(Fault::new(format!("{} is not a window", quote(text.trim())), EXAMPLE));
        }
    };
    let calendar = CALENDAR.iter().find(|(known, _)| *known == word);
    if let (Some(&(_, window)), 1) = (calendar, number) {
        return Ok(window);
    }
    if calendar.is_some() || NO_WINDOWS.contains(&word) {
        return Err(Fault::new(
            format!("{} is not a window", quote(text.trim())),
            "a calendar quota is for one day or one month; for a sliding window write hours, such as \
             \"168 hours\"",
        ));
    }
    let Some(&(_, unit_ms)) = WINDOWS.iter().find(|(known, _)| *known == word) else {
        let known = WINDOWS.map(|(known, _)| known).into_iter().chain(CALENDAR.map(|(known, _)| known));
        return Err(not_a(word, "window", known));
    };
    match number.saturating_mul(unit_ms) {
        0 => Err(Fault::new("the window is 0", "a window is at least 1 second")),
        ms if ms > LONGEST_WINDOW_MS => Err(Fault::new(
            format!("the window {} is too long", quote(text.trim())),
            "a window is at most 744 hours (31 days)",
        )),
        ms => Ok(Window::Sliding { ms }),
    }
}

fn not_a<'a>(word: &str, what: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
    let remedy = match SHORT_FORMS.iter().find(|(short, _)| *short == word) {
        Some((_, long)) => format!("did you mean {long:?}?"),
        None => did_you_mean(word, known, || match what {
            "unit" => "units are requests, units, bytes, KB, MB, GB, TB, KiB, MiB, GiB, TiB".into(),
            _ => "windows are second, minute, hour, a number of them, day, month".into(),
        }),
    };
    Fault::new(format!("{} is not a {what}", quote(word)), remedy)
}

/// The limit as one writes it: `500 MB in/hour` rather than `500000000 bytes in/hour`.
/// [`parse_limit`] reads it back.
pub fn spell_limit(limit: &Limit) -> String {
    let (word, direction) = match limit.unit {
        Unit::Bytes => ("bytes", ""),
        Unit::BytesIn => ("bytes", " in"),
        Unit::BytesOut => ("bytes", " out"),
        unit => (unit.word(), ""),
    };
    let whole = UNITS.iter().filter(|(_, unit, factor)| {
        word == "bytes" && *unit == Unit::Bytes && *factor > 1 && limit.amount.is_multiple_of(*factor)
    });
    // The spelling with the smallest number is the one that was meant: 500 MiB, not 524288 KB.
    let largest = whole.filter(|_| limit.amount > 0).max_by_key(|(.., factor)| *factor);
    let (word, factor) = largest.map_or((word, 1), |&(word, _, factor)| (word, factor));
    format!("{} {word}{direction}/{}", limit.amount / factor, limit.window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (u64, Unit, u64) {
        match parse_limit(text) {
            Ok(Limit { amount, unit, window: Window::Sliding { ms } }) => (amount, unit, ms),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn refused(text: &str) -> String {
        parse_limit(text).expect_err(text).to_string()
    }

    #[test]
    fn every_unit_and_window_of_the_contract_is_read() {
        assert_eq!(parsed("100 requests/minute"), (100, Unit::Requests, 60_000));
        assert_eq!(parsed("1 request / hour"), (1, Unit::Requests, 3_600_000));
        assert_eq!(parsed("200 requests/10 seconds"), (200, Unit::Requests, 10_000));
        assert_eq!(parsed("20 GB/24 hours"), (20_000_000_000, Unit::Bytes, 86_400_000));
        assert_eq!(parsed("500 MB in/hour"), (500_000_000, Unit::BytesIn, 3_600_000));
        assert_eq!(parsed("2 KiB out/1 second"), (2_048, Unit::BytesOut, 1_000));
        assert_eq!(parsed("5 units/minute"), (5, Unit::Cost, 60_000));
        assert_eq!(parsed("0 requests/minute"), (0, Unit::Requests, 60_000), "0 refuses all");
        assert_eq!(parsed("1 requests/744 hours").2, LONGEST_WINDOW_MS);
    }

    #[test]
    fn misspellings_are_named_with_what_was_probably_meant() {
        assert_eq!(refused("9 reqests/minute"), r#""reqests" is not a unit; did you mean "requests"?"#);
        assert_eq!(refused("9 requests/mintue"), r#""mintue" is not a window; did you mean "minute"?"#);
        assert_eq!(refused("9 requests/min"), r#""min" is not a window; did you mean "minute"?"#);
        assert_eq!(refused("9 mb/hour"), r#""mb" is not a unit; did you mean "MB"?"#);
        assert!(refused("9 elephants/hour").contains("units are requests"));
        assert!(refused("9 requests/fortnight").contains("windows are second"));
        assert!(refused("9 requests out/hour").contains("only bytes have a direction"));
    }

    #[test]
    fn numbers_that_are_not_whole_and_positive_are_refused() {
        assert!(refused("-5 requests/minute").contains("is negative"));
        assert!(refused("1.5 requests/minute").contains("not a whole number"));
        assert!(refused("1e3 requests/minute").contains("not a whole number"));
        assert!(refused("2_000 requests/minute").contains("write 2000"));
        assert!(refused("2,000 requests/minute").contains("write 2000"));
        assert!(refused("many requests/minute").contains("not a number"));
        assert!(refused("+1 requests/minute").contains("not a whole number"));
        assert!(refused("\u{0663} requests/minute").contains("not a number"));
        assert!(refused("1000 TB/hour").contains("too much"), "the product overflows the field");
        assert!(refused("99999999999999999999999 requests/minute").contains("too much"));
        assert!(refused("18446744073709551615 TB/hour").contains("too much"));
    }

    #[test]
    fn windows_out_of_bounds_are_refused() {
        assert!(refused("5 requests/0 minutes").contains("the window is 0"));
        assert!(refused("5 requests/-1 minutes").contains("negative"));
        assert!(refused("5 requests/0.5 seconds").contains("not a whole number"));
        assert!(refused("5 requests/745 hours").contains("too long"));
        assert!(refused("5 requests/99999999999999999999 hours").contains("too long"));
    }

    #[test]
    fn calendar_quotas_are_for_one_day_or_one_month() {
        let window = |text: &str| parse_limit(&format!("5 requests/{text}")).unwrap().window;
        assert_eq!(
            [window("day"), window("1 day"), window(" month ")],
            [Window::Day, Window::Day, Window::Month]
        );
        assert_ne!(window("day"), window("24 hours"));
        for window in ["7 days", "2 day", "0 month", "week", "2 weeks", "year"] {
            let text = refused(&format!("5 requests/{window}"));
            assert!(text.contains("for one day or one month; for a sliding window write hours"), "{text}");
        }
    }

    #[test]
    fn incomplete_limits_are_refused() {
        for text in ["", "/", "100", "requests/minute", "100 requests", "100requests/minute", "a/b/c"] {
            assert!(parse_limit(text).is_err(), "{text:?}");
        }
        assert!(refused("100requests/minute").contains("has no unit"));
        assert!(refused("1 requests/minute/hour").contains("is not a window"));
    }

    #[test]
    fn a_limit_is_spelt_so_that_it_reads_back() {
        let mut random = fastrand::Rng::with_seed(7);
        let units = [Unit::Requests, Unit::Cost, Unit::Bytes, Unit::BytesIn, Unit::BytesOut];
        for _ in 0..5_000 {
            let factor = UNITS[random.usize(..UNITS.len())].2;
            let amount = (random.u64(..1_000) * factor).min(MAX_AMOUNT);
            let window = match random.u8(..8) {
                0 => Window::Day,
                1 => Window::Month,
                _ => Window::Sliding { ms: random.u64(1..=LONGEST_WINDOW_MS / 1_000) * 1_000 },
            };
            let limit = Limit { amount, unit: units[random.usize(..5)], window };
            let text = spell_limit(&limit);
            assert_eq!(parse_limit(&text).as_ref(), Ok(&limit), "{text}");
        }
        for text in ["500 MB in/hour", "500 MiB/hour", "0 bytes/minute", "20 GB out/24 hours", "20 GB/day"] {
            assert_eq!(spell_limit(&parse_limit(text).unwrap()), text);
        }
    }
}
