//! Figures, their bars, the table on the terminal and the file in `bench/results/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};
use weir_testbed::parts;

use crate::error::Result;

/// What a figure has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    pub fn met_by(self, value: f64) -> bool {
        match self {
            Bar::AtMost(bar) => value <= bar,
            Bar::AtLeast(bar) => value >= bar,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bar::AtMost(bar) => write!(f, "<= {bar}"),
            Bar::AtLeast(bar) => write!(f, ">= {bar}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub bar: Option<Bar>,
}

/// What was measured, in the order in which it is shown.
#[derive(Default)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    pub fn add(&mut self, name: impl Into<String>, value: f64) {
        self.0.push(Figure { name: name.into(), value, bar: None });
    }

    pub fn at_most(&mut self, name: &str, value: f64, bar: f64) {
        self.0.push(Figure { name: name.into(), value, bar: Some(Bar::AtMost(bar)) });
    }

    /// The figures of one group, those with a bar first.
    pub fn print(&self, title: &str) {
        println!("\n{title:<46}{:>14}{:>12}  met", "value", "bar");
        let (with, without): (Vec<&Figure>, Vec<&Figure>) = self.0.iter().partition(|f| f.bar.is_some());
        for figure in with.into_iter().chain(without) {
            let bar = figure.bar.map_or(String::new(), |bar| bar.to_string());
            let met = figure.bar.map_or("", |bar| if bar.met_by(figure.value) { "yes" } else { "NO" });
            println!("{:<46}{:>14}{bar:>12}  {met}", figure.name, rounded(figure.value));
        }
    }

    /// Writes `bench/results/<name>.json` and returns where.
    pub fn write(&self, name: &str, runs: usize) -> Result<PathBuf> {
        let dir = parts::root().join("bench/results");
        fs::create_dir_all(&dir)?;
        let file = dir.join(format!("{name}.json"));
        let bars = self.0.iter().filter_map(|f| Some((f.name.clone(), f.bar?.to_string().into())));
        let document = json!({
            "date": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            "commit": said("git", &["describe", "--always", "--dirty"]),
            "machine": machine(),
            "versions": {
                "nginx": said("/usr/sbin/nginx", &["-v"]),
                "redis": said("redis-server", &["--version"]),
                "rustc": said("rustc", &["--version"]),
                "wrk": said("wrk", &["-v"]).lines().next(),
            },
            "runs": runs,
            "figures": self.0.iter().map(|f| (f.name.clone(), rounded(f.value))).collect::<Map<_, _>>(),
            "bars": bars.collect::<Map<String, Value>>(),
        });
        fs::write(&file, serde_json::to_string_pretty(&document)? + "\n")?;
        Ok(file)
    }
}

impl From<serde_json::Error> for crate::error::BenchError {
    fn from(error: serde_json::Error) -> Self {
        crate::error::BenchError::Io(error.into())
    }
}

/// Four digits that count, and three behind the point at least; a figure that is not a number is
/// null.
fn rounded(value: f64) -> Value {
    let digits = (3 - value.abs().log10().floor().clamp(-12.0, 12.0) as i32).clamp(3, 9);
    let scale = 10_f64.powi(digits);
    json!((value * scale).round() / scale)
}

/// The median; of an even number of values the mean of the middle two. NaN of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// All processors of the machine, whichever this process was left with.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    format!("{} x {}, {}", cores, model.trim_start_matches([' ', '\t', ':']), said("uname", &["-sr"]))
}

/// What a program says about itself; nginx does it on standard error.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(parts::root()).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |o| String::from_utf8_lossy(&[o.stdout, o.stderr].concat()).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn small_figures_keep_digits_that_count() {
        assert_eq!(rounded(0.001_234_567), json!(0.001_235));
        assert_eq!(rounded(123_456.789_12), json!(123_456.789));
        assert_eq!(rounded(0.0), json!(0.0));
        assert_eq!(rounded(f64::NAN), Value::Null);
    }

    #[test]
    fn a_bar_is_met_when_it_is_reached() {
        assert!(Bar::AtMost(0.22).met_by(0.22) && !Bar::AtMost(0.22).met_by(0.221));
        assert!(Bar::AtLeast(98.0).met_by(98.0) && !Bar::AtLeast(98.0).met_by(f64::NAN));
    }
}
