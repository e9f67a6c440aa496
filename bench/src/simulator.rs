//! The figures of the simulator's example `quality`: one JSON object a line,
//! `{"figure": name, "value": x, "bar": y or null}`.

use std::env;
use std::process::Command;

use serde_json::Value;

use crate::error::{BenchError, Result};
use crate::figures::{Bar, Figure, Figures};

/// Of these more is better; of all others less.
const MORE: [&str; 2] = ["share_", "speed_"];

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
    let found: Vec<Figure> = text.lines().filter_map(parse).collect();
    if !output.status.success() || found.is_empty() {
        let what = format!("gave no figures ({}): {text}", output.status);
        return Err(BenchError::wrong(example.display().to_string(), what));
    }
    figures.0.extend(found);
    Ok(())
}

/// Other lines are for readers.
fn parse(line: &str) -> Option<Figure> {
    let object: Value = serde_json::from_str(line).ok()?;
    let name = object.get("figure")?.as_str()?.to_owned();
    let more = MORE.iter().any(|start| name.starts_with(start));
    let bar = object.get("bar").and_then(Value::as_f64);
    let bar = bar.map(if more { Bar::AtLeast } else { Bar::AtMost });
    Some(Figure { value: object.get("value")?.as_f64()?, name, bar })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_between_other_lines() {
        let figure = |name: &str, value, bar| Some(Figure { name: name.into(), value, bar });
        let line = r#"{"figure": "share_at_2x_limit_100", "value": 96.5, "bar": 95}"#;
        assert_eq!(parse(line), figure("share_at_2x_limit_100", 96.5, Some(Bar::AtLeast(95.0))));
        let line = r#"{"figure": "undue_refusals", "value": 0, "bar": 0}"#;
        assert_eq!(parse(line), figure("undue_refusals", 0.0, Some(Bar::AtMost(0.0))));
        let line = r#"{"figure": "seeds", "value": 7, "bar": null}"#;
        assert_eq!(parse(line), figure("seeds", 7.0, None));
        assert_eq!(parse("Steady 100 4 | 98 %"), None);
    }
}
