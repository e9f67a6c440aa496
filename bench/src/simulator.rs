//! The figures of the simulator's example `quality`, which prints one JSON object a line.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

use serde_json::Value;

use crate::error::{BenchError, Result};
use crate::figures::{Bar, Figure, Figures};

pub fn measure(figures: &mut Figures) -> Result<()> {
    // Cargo puts examples beside the programs.
    let example = env::current_exe()?.with_file_name("examples").join("quality");
    if !example.exists() {
        let what = format!("{} is missing: run `make bench-simulator`", example.display());
        return Err(BenchError::wrong("the simulator", what));
    }
    eprintln!("simulator: {}", example.display());
    let output = Command::new(&example).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = read(&text).filter(|_| output.status.success());
    let wrong = || BenchError::wrong(example.display().to_string(), format!("{}, {text}", output.status));
    figures.0.extend(found.ok_or_else(wrong)?);
    Ok(())
}

/// Of several lines about one figure, as with more or fewer gateways, the worst counts. None when a
/// line is not understood or there is none.
fn read(text: &str) -> Option<Vec<Figure>> {
    let mut worst: BTreeMap<String, Figure> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let figure = parse(&serde_json::from_str(line).ok()?)?;
        let known = worst.entry(figure.name.clone()).or_insert_with(|| figure.clone());
        known.value = match figure.bar {
            Some(Bar::AtLeast(_)) => known.value.min(figure.value),
            _ => known.value.max(figure.value),
        };
    }
    (!worst.is_empty()).then(|| worst.into_values().collect())
}

fn parse(line: &Value) -> Option<Figure> {
    let number = |name: &str| line.get(name).and_then(Value::as_f64);
    let limit = number("limit").unwrap_or(0.0);
    let (name, value, bar) = match line.get("figure")?.as_str()? {
        "share_at_twice_the_limit" => {
            let bar = if limit < 1000.0 { 0.95 } else { 0.98 };
            (format!("share_at_2x_limit_{limit}"), number("share")?, Bar::AtLeast(bar))
        }
        "undue_refusals" if line.get("traffic")? == "cron" => {
            ("refused_cron_80".to_owned(), number("refused")?, Bar::AtMost(0.0))
        }
        "undue_refusals" => {
            let share = number("refused")? / number("requests")?;
            ("refused_share_at_97_percent".to_owned(), share, Bar::AtMost(0.0))
        }
        "transactions_per_request_of_a_flood" => {
            let bar = if limit < 1000.0 { 0.006 } else { 0.005 };
            let name = format!("redis_tx_per_request_flood_{limit}");
            (name, number("transactions_per_request")?, Bar::AtMost(bar))
        }
        "simulated_seconds_per_second" => {
            let speed = number("simulated_seconds_per_second")?;
            ("speed_16_gateways".to_owned(), speed, Bar::AtLeast(1000.0))
        }
        _ => return None,
    };
    Some(Figure { name, value, bar: Some(bar) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_worlds_counts() {
        let text = r#"{"figure":"share_at_twice_the_limit","limit":100,"gateways":1,"share":0.99}
{"figure":"share_at_twice_the_limit","limit":100,"gateways":2,"share":0.96}
{"figure":"share_at_twice_the_limit","limit":100,"gateways":4,"share":0.97}
{"figure":"undue_refusals","traffic":"polite","requests":200,"refused":1,"undecided":0}"#;
        let figure = |name: &str, value, bar| Figure { name: name.into(), value, bar: Some(bar) };
        let wanted = vec![
            figure("refused_share_at_97_percent", 0.005, Bar::AtMost(0.0)),
            figure("share_at_2x_limit_100", 0.96, Bar::AtLeast(0.95)),
        ];
        assert_eq!(read(text), Some(wanted));
    }

    #[test]
    fn what_is_not_understood_is_said_and_not_passed_over() {
        assert_eq!(read(r#"{"figure":"something_new","value":1}"#), None);
        assert_eq!(read("no figures"), None);
    }
}
