//! Requests while Redis is dead, beside bare nginx at the same time: how many are slow.

use std::time::{Duration, Instant};

use weir_testbed::redis::Redis;
use weir_testbed::wait;

use crate::error::{BenchError, Result};
use crate::figures::Figures;
use crate::pace::{self, Lane, Sample};
use crate::settings::Settings;
use crate::variant::{Kind, Shape, Variant, keys};

/// To each of the two servers.
const RATE_PER_S: f64 = 3_000.0;
const BEFORE: Duration = Duration::from_secs(2);
/// What the break itself may take.
const BREAK: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(1);

/// How Redis goes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    Stopped,
}

/// Requests after the break, and the slow ones among them.
#[derive(Clone, Copy, Default)]
struct Share {
    slow: usize,
    all: usize,
}

pub fn measure(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let mut worst = f64::NEG_INFINITY;
    let mut shares = Vec::new();
    for (end, name) in [(End::Killed, "killed"), (End::Stopped, "stopped")] {
        let (mut bare, mut weir) = (Share::default(), Share::default());
        for round in 0..settings.outages {
            eprintln!("Redis {name}: round {} of {}", round + 1, settings.outages);
            one(end, settings, &mut bare, &mut weir)?;
        }
        let added = weir.share() - bare.share();
        worst = worst.max(added);
        shares.push((format!("redis_{name}_slow_share_weir"), weir.share()));
        shares.push((format!("redis_{name}_slow_share_bare"), bare.share()));
    }
    figures.at_most("redis_dead_slow_share", worst, 0.0001);
    shares.into_iter().for_each(|(name, share)| figures.add(name, share));
    Ok(())
}

fn one(end: End, settings: &Settings, bare: &mut Share, weir: &mut Share) -> Result<()> {
    let mut redis = Redis::start()?;
    let variants = [
        Variant::start(Kind::Bare, Shape::Worker, &redis)?,
        Variant::start(Kind::WeirRedisSpool, Shape::Worker, &redis)?,
    ];
    // Even lanes are bare nginx's, odd ones weir's.
    let lanes: Vec<Lane> = keys()
        .into_iter()
        .flat_map(|key| variants.iter().map(move |v| Lane { port: v.port, key: key.clone() }))
        .collect();
    let length = BEFORE.as_secs_f64() + settings.outage_seconds;
    let count = (2.0 * RATE_PER_S * length) as usize;
    pace::run(&lanes, f64::INFINITY, 50 * lanes.len())?;
    let (run, gone) = std::thread::scope(|scope| {
        let load = scope.spawn(|| pace::run(&lanes, 2.0 * RATE_PER_S, count));
        wait::pass(BEFORE);
        let gone = Instant::now();
        match end {
            End::Killed => redis.kill(),
            End::Stopped => redis.freeze(),
        }
        (load.join(), gone)
    });
    let run = run.map_err(|_| BenchError::wrong("load", "its thread panicked"))??;
    if let Some(odd) = run.samples.iter().find(|s| s.status != 200) {
        return Err(BenchError::wrong("an outage of Redis", format!("an answer was {}", odd.status)));
    }
    let after = gone.saturating_duration_since(run.begun) + BREAK;
    let samples = run.samples.iter().filter(|s| s.due >= after);
    let (ours, theirs): (Vec<&Sample>, Vec<&Sample>) = samples.partition(|s| s.lane % 2 == 1);
    weir.add(&ours);
    bare.add(&theirs);
    Ok(())
}

impl Share {
    fn add(&mut self, samples: &[&Sample]) {
        self.all += samples.len();
        self.slow += samples.iter().filter(|s| s.latency > SLOW).count();
    }

    fn share(self) -> f64 {
        self.slow as f64 / self.all as f64
    }
}
