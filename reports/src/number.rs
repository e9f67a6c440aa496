//! Numbers as people read them: separators, units, and never a division by nothing.

/// Groups of three, split by commas: `1,234,567`.
pub fn integer(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 2);
    if n < 0 {
        out.push('-');
    }
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// [`integer`] for amounts of the policy, which may exceed what an `i64` holds.
pub fn amount(n: u64) -> String {
    i64::try_from(n).map_or_else(|_| n.to_string(), integer)
}

/// Three significant digits with an SI prefix from ten thousand on: `9,999`, `12.3 k`, `1 T`.
/// For the axes of charts, where room is short.
pub fn compact(n: f64) -> String {
    const PREFIXES: [&str; 6] = ["", " k", " M", " G", " T", " P"];
    if !n.is_finite() {
        return "–".to_string();
    }
    if n.abs() < 10_000.0 {
        return if n.fract() == 0.0 { integer(n as i64) } else { significant(n) };
    }
    let mut value = n;
    let mut prefix = 0;
    while value.abs() >= 999.5 && prefix < PREFIXES.len() - 1 {
        value /= 1000.0;
        prefix += 1;
    }
    format!("{}{}", significant(value), PREFIXES[prefix])
}

/// Bytes with decimal prefixes, as the policy's MB and GB: `999 B`, `482 MB`.
pub fn bytes(n: i64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value.abs() >= 999.5 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{} {}", significant(value), UNITS[unit])
}

/// A share of a whole. Nothing of nothing is a dash, a little of much is not zero, and almost all
/// is not all.
pub fn percent(part: i64, whole: i64) -> String {
    if whole <= 0 {
        return "–".to_string();
    }
    let share = 100.0 * part as f64 / whole as f64;
    match share {
        s if part == 0 || s <= 0.0 => "0 %".to_string(),
        s if s < 0.01 => "< 0.01 %".to_string(),
        s if part < whole && s > 99.99 => "> 99.99 %".to_string(),
        s if s >= 1e4 => format!("{} %", integer(s as i64)),
        s if s < 10.0 => format!("{} %", trimmed(s, 2)),
        s if part < whole && s > 99.9 => format!("{} %", trimmed((s * 100.0).floor() / 100.0, 2)),
        s => format!("{} %", trimmed((s * 10.0).floor() / 10.0, 1)),
    }
}

/// A latency in microseconds with the unit that suits it: `850 µs`, `34.2 ms`, `1.23 s`.
pub fn latency(us: Option<f64>) -> String {
    match us {
        None => "–".to_string(),
        Some(us) if us < 999.5 => format!("{} µs", significant(us)),
        Some(us) if us < 999_500.0 => format!("{} ms", significant(us / 1e3)),
        Some(us) if us < 600e6 => format!("{} s", significant(us / 1e6)),
        Some(us) => format!("{} min", integer((us / 60e6).round() as i64)),
    }
}

/// One word for one, another for any other number.
pub fn counted(n: i64, one: &str, many: &str) -> String {
    format!("{} {}", integer(n), if n == 1 { one } else { many })
}

/// Three significant digits, without zeros that say nothing.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    trimmed(value, decimals)
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if decimals == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_grouped() {
        for (n, want) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_000_000_000_000, "1,000,000,000,000"),
            (-12_345, "-12,345"),
            (i64::MIN, "-9,223,372,036,854,775,808"),
        ] {
            assert_eq!(integer(n), want);
        }
        assert_eq!(amount(u64::MAX), "18446744073709551615");
    }

    #[test]
    fn large_numbers_are_short_on_axes() {
        for (n, want) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (9_999.0, "9,999"),
            (10_000.0, "10 k"),
            (12_345.0, "12.3 k"),
            (999_999.0, "1 M"),
            (1e12, "1 T"),
            (2.5e15, "2.5 P"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ] {
            assert_eq!(compact(n), want, "{n}");
        }
    }

    #[test]
    fn bytes_and_latencies_choose_their_unit() {
        for (n, want) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1 kB"), (482_000_467, "482 MB"), (20_000_000_000, "20 GB")]
        {
            assert_eq!(bytes(n), want);
        }
        for (us, want) in [
            (None, "–"),
            (Some(1.0), "1 µs"),
            (Some(850.4), "850 µs"),
            (Some(3_421.0), "3.42 ms"),
            (Some(999_600.0), "1 s"),
            (Some(1_234_000.0), "1.23 s"),
            (Some(1_200e6), "20 min"),
        ] {
            assert_eq!(latency(us), want);
        }
    }

    #[test]
    fn a_share_never_lies_about_none_or_all() {
        for (part, whole, want) in [
            (0, 0, "–"),
            (5, 0, "–"),
            (0, 7, "0 %"),
            (1, 1_000_000_000_000, "< 0.01 %"),
            (999_999_999_999, 1_000_000_000_000, "> 99.99 %"),
            (99_949, 100_000, "99.94 %"),
            (1, 3, "33.3 %"),
            (1, 40, "2.5 %"),
            (7, 7, "100 %"),
            (8, 4, "200 %"),
            (26_370_137, 10_000, "263,701 %"),
        ] {
            assert_eq!(percent(part, whole), want, "{part} of {whole}");
        }
    }
}
