//! `reject`, `delay 2s burst 50`, `degrade up to 150%`: what happens beyond a limit.

use crate::model::Over;
use crate::problem::{Fault, quote};
use crate::suggest::did_you_mean;

/// Whoever is held back longer has given up.
const LONGEST_MS: u64 = 60_000;
const MAX_BURST: u64 = 10_000;
/// Percent of a limit; up to ten times as much.
const MAX_PERCENT: u64 = 1_000;

pub fn parse(text: &str) -> Result<Over, Fault> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["reject"] => Ok(Over::Reject),
        ["delay", time, "burst", burst] => delay(time, burst),
        ["degrade", "up", "to", share] => degrade(share),
        ["delay", ..] => Err(Fault::new(
            format!("{} does not say how long and how many", quote(text)),
            "write \"delay 2s burst 50\"",
        )),
        ["degrade", ..] => {
            Err(Fault::new(format!("{} does not say how far", quote(text)), "write \"degrade up to 150%\""))
        }
        _ => Err(unknown(text, words.first().copied().unwrap_or_default())),
    }
}

fn unknown(text: &str, word: &str) -> Fault {
    let remedy = did_you_mean(word, ["reject", "delay", "degrade"], || {
        "write \"reject\", \"delay 2s burst 50\" or \"degrade up to 150%\"".to_owned()
    });
    Fault::new(format!("{} is not known here", quote(text)), remedy)
}

fn delay(time: &str, burst: &str) -> Result<Over, Fault> {
    let ms = milliseconds(time).filter(|ms| (1..=LONGEST_MS).contains(ms)).ok_or_else(|| {
        Fault::new(format!("nobody is held back for {}", quote(time)), "write 1ms to 60s, such as \"2s\"")
    })?;
    let burst = number(burst).filter(|n| (1..=MAX_BURST).contains(n)).ok_or_else(|| {
        Fault::new(
            format!("a burst of {} is not possible", quote(burst)),
            format!("write how many requests are held back at most, 1 to {MAX_BURST}"),
        )
    })?;
    Ok(Over::Delay { ms, burst })
}

fn degrade(share: &str) -> Result<Over, Fault> {
    let percent = share.strip_suffix('%').and_then(number);
    let percent = percent.filter(|percent| (101..=MAX_PERCENT).contains(percent)).ok_or_else(|| {
        Fault::new(
            format!("a limit cannot go up to {}", quote(share)),
            format!("write whole percent of the limit, 101% to {MAX_PERCENT}%"),
        )
    })?;
    Ok(Over::Degrade { percent })
}

fn milliseconds(text: &str) -> Option<u64> {
    match text.strip_suffix("ms") {
        Some(digits) => number(digits),
        None => number(text.strip_suffix('s')?)?.checked_mul(1_000),
    }
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways_to_deal_with_what_is_over_a_limit() {
        assert_eq!(parse("reject"), Ok(Over::Reject));
        assert_eq!(parse("delay 2s burst 50"), Ok(Over::Delay { ms: 2_000, burst: 50 }));
        assert_eq!(parse("delay  250ms burst 1"), Ok(Over::Delay { ms: 250, burst: 1 }));
        assert_eq!(parse("degrade up to 150%"), Ok(Over::Degrade { percent: 150 }));
    }

    #[test]
    fn what_is_not_bounded_is_refused_with_what_would_be_right() {
        let cases = [
            ("", "write \"reject\""),
            ("rejct", "did you mean \"reject\"?"),
            ("delay", "write \"delay 2s burst 50\""),
            ("delay 2s", "write \"delay 2s burst 50\""),
            ("delay 2 burst 50", "write 1ms to 60s"),
            ("delay 0s burst 50", "write 1ms to 60s"),
            ("delay 61s burst 50", "write 1ms to 60s"),
            ("delay -1s burst 50", "write 1ms to 60s"),
            ("delay 99999999999999999999s burst 5", "write 1ms to 60s"),
            ("delay 2s burst 0", "1 to 10000"),
            ("delay 2s burst x", "1 to 10000"),
            ("degrade", "write \"degrade up to 150%\""),
            ("degrade up to 100%", "101% to 1000%"),
            ("degrade up to 150", "101% to 1000%"),
            ("degrade up to 1001%", "101% to 1000%"),
        ];
        for (text, remedy) in cases {
            let fault = parse(text).unwrap_err();
            assert!(fault.remedy.contains(remedy), "{text:?}: {fault:?}");
        }
    }
}
