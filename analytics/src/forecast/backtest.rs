//! How the forecasts fare on the shared series: prints a table, and holds what was reached.
//! `cargo test -p weir-analytics -p weir-cli --lib backtest -- --nocapture`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;

use super::method::{DAY, WEEK, ahead};

/// Sums by the hour; the first and the last hour, which may be cut off, are left out.
fn read(path: &Path) -> Vec<f64> {
    let text = fs::read_to_string(path).unwrap();
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    for (time, value) in text.lines().skip(1).filter_map(|line| line.split_once(',')) {
        let moment: DateTime = time.replace(' ', "T").parse().unwrap();
        let second = jiff::tz::TimeZone::UTC.to_timestamp(moment).unwrap().as_second();
        *sums.entry(second.div_euclid(3600)).or_default() += value.parse::<f64>().unwrap();
    }
    let (first, last) = (*sums.keys().next().unwrap(), *sums.keys().next_back().unwrap());
    (first + 1..last).map(|hour| sums.get(&hour).copied().unwrap_or(0.0)).collect()
}

/// What came of the forecasts of one series, or of several.
#[derive(Default)]
struct Outcome {
    forecasts: usize,
    held: usize,
    /// Outcomes of which four in five were to be above.
    above_p20: usize,
    error: f64,
    naive_error: f64,
}

impl Outcome {
    fn add(&mut self, other: &Outcome) {
        self.forecasts += other.forecasts;
        self.held += other.held;
        self.above_p20 += other.above_p20;
    }

    fn share(&self) -> f64 {
        self.held as f64 / self.forecasts as f64
    }
}

/// One forecast a day, each from the hours before it alone.
fn outcome(series: &[f64], hours: usize) -> Outcome {
    let mut told = Outcome::default();
    for at in (2 * WEEK..series.len().saturating_sub(hours)).step_by(DAY) {
        let Some(forecast) = ahead(&series[..at], hours) else { continue };
        let sum: f64 = series[at..at + hours].iter().sum();
        let naive: f64 = (0..hours).map(|h| series[at + h - WEEK * (1 + h / WEEK)]).sum();
        told.forecasts += 1;
        told.held += usize::from((forecast.p10()..=forecast.p90()).contains(&sum));
        told.above_p20 += usize::from(sum >= forecast.p20());
        told.error += (forecast.p50() - sum).abs();
        told.naive_error += (naive - sum).abs();
    }
    told
}

fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(option_env!("CI").is_none(), "the series have to be at {}", folder.display());
    println!("not run: the series are not at {}", folder.display());
    None
}

#[test]
fn on_the_shared_series_the_band_holds_as_much_as_it_says_and_the_error_is_below_the_naive_one() {
    let Some(folder) = folder() else { return };
    let twitter = ["AAPL", "CRM", "CVS", "FB", "GOOG", "IBM", "KO", "PFE"];
    let mut paths: Vec<PathBuf> =
        twitter.iter().map(|name| folder.join(format!("nab/realTweets/Twitter_volume_{name}.csv"))).collect();
    paths.push(folder.join("nab/realAWSCloudwatch/elb_request_count_8c0756.csv"));
    paths.push(folder.join("worldcup98/invocation_count.csv"));
    let series: Vec<(String, Vec<f64>)> = paths
        .iter()
        .filter(|path| path.exists())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(path)))
        .collect();
    for hours in [DAY, 3 * DAY, WEEK, 10 * DAY, 2 * WEEK] {
        let (mut all, mut twitter, mut skills) = (Outcome::default(), Outcome::default(), Vec::new());
        for (name, series) in &series {
            let told = outcome(series, hours);
            if told.forecasts == 0 {
                println!("{hours:>4} h  {name:<28} history too short");
                continue;
            }
            let (skill, share) = (told.error / told.naive_error, told.share());
            println!(
                "{hours:>4} h  {name:<28} {:>3} forecasts, {:>5.1} % held, error {skill:.2} of naive",
                told.forecasts,
                share * 100.0
            );
            all.add(&told);
            skills.push(skill);
            match name.starts_with("Twitter") {
                true => twitter.add(&told),
                // The one series that nothing was pooled with. Beyond a week its band is wide.
                false => {
                    let is_sharp = hours > WEEK || share <= 0.85;
                    assert!(share >= 0.75 && is_sharp, "{hours} h of {name}: {share} held");
                }
            }
        }
        let skill = skills.iter().sum::<f64>() / skills.len() as f64;
        let above = all.above_p20 as f64 / all.forecasts as f64;
        println!(
            "{hours:>4} h  all: {} forecasts, {:.1} % held (Twitter: {:.1} %), {:.1} % above P20, error {skill:.2} of naive",
            all.forecasts,
            all.share() * 100.0,
            twitter.share() * 100.0,
            above * 100.0
        );
        for share in [all.share(), twitter.share()] {
            let is_held = share.is_nan() || share >= 0.75;
            let is_sharp = hours > WEEK || share <= 0.85 && skill < 1.0;
            assert!(is_held && is_sharp, "{hours} h: {share} held, {skill}");
        }
    }
}
