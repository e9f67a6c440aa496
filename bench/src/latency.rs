//! What limiting adds to the p99 of bare nginx at 70 % of its peak rate.

use weir_testbed::StartError;
use weir_testbed::redis::Redis;

use crate::error::{BenchError, Result};
use crate::figures::{Figures, median};
use crate::pace::{self, Lane, Sample};
use crate::settings::Settings;
use crate::variant::{Kind, Shape, Variant, keys};

const SHARE_OF_PEAK: f64 = 0.70;
/// For the peak: a second or two.
const PEAK_REQUESTS: usize = 100_000;
const KINDS: [Kind; 3] = [Kind::Bare, Kind::LimitReqLog, Kind::WeirRedisSpool];

pub fn measure(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let redis = Redis::start()?;
    let start = |kind| Variant::start(kind, Shape::Worker, &redis);
    let variants: Vec<Variant> =
        KINDS.map(start).into_iter().collect::<std::result::Result<_, StartError>>()?;
    // The first is warm-up; it makes the keys warm, too.
    let mut peaks = Vec::new();
    for variant in variants.iter().rev() {
        pace::peak_per_s(&lanes(variant), PEAK_REQUESTS / 4)?;
    }
    for _ in 0..3 {
        peaks.push(pace::peak_per_s(&lanes(&variants[0]), PEAK_REQUESTS)?);
    }
    let peak = median(peaks);
    let rate = SHARE_OF_PEAK * peak;
    let mut runs: [Vec<(f64, f64)>; KINDS.len()] = Default::default();
    for pair in 0..settings.pairs {
        eprintln!("latency at {rate:.0} a second: run {} of {}", pair + 1, settings.pairs);
        for turn in 0..KINDS.len() {
            let i = (turn + pair) % KINDS.len();
            runs[i].push(one(&variants[i], rate, settings)?);
        }
    }
    let added = |i: usize| median(runs[i].iter().zip(&runs[0]).map(|(with, bare)| with.1 - bare.1).collect());
    figures.at_most("p99_added_us", added(2), 50.0);
    figures.add("p99_added_us_limit_req_log", added(1));
    figures.add("peak_per_s_bare", peak);
    for (kind, seen) in KINDS.iter().zip(&runs) {
        figures.add(format!("p50_us_{}", kind.key()), median(seen.iter().map(|s| s.0).collect()));
        figures.add(format!("p99_us_{}", kind.key()), median(seen.iter().map(|s| s.1).collect()));
    }
    Ok(())
}

fn lanes(variant: &Variant) -> Vec<Lane> {
    keys().into_iter().map(|key| Lane { port: variant.port, key }).collect()
}

/// p50 and p99 of one run; what is due in its first tenth opens the connections and is left out.
fn one(variant: &Variant, rate: f64, settings: &Settings) -> Result<(f64, f64)> {
    let count = (rate * settings.pair_seconds) as usize;
    let samples = pace::run(&lanes(variant), rate, count)?.samples;
    if let Some(odd) = samples.iter().find(|s| s.status != 200) {
        return Err(BenchError::wrong(variant.kind.key(), format!("answered {}", odd.status)));
    }
    let steady: Vec<&Sample> =
        samples.iter().filter(|s| s.due.as_secs_f64() >= settings.pair_seconds / 10.0).collect();
    Ok((pace::quantile_us(steady.iter().copied(), 0.50), pace::quantile_us(steady.iter().copied(), 0.99)))
}
