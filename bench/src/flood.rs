//! How often Redis is asked while one client sends 200,000 requests a minute to two gateways.

use std::time::{Duration, Instant};

use weir_testbed::load::{self, Plan, Running, Shot};

use crate::error::{BenchError, Result};
use crate::figures::Figures;
use crate::pair::Pair;
use crate::settings::Settings;
use crate::stats;
use crate::variant::policy;

const RATE_PER_S: f64 = 200_000.0 / 60.0;
const CONNECTIONS: usize = 64;
const KEY: &str = "the-flood";

/// A flood under way.
pub struct Flood {
    amount: u64,
    bar: f64,
    pair: Pair,
    before: u64,
    load: Running,
}

impl Flood {
    pub fn start(amount: u64, bar: f64, settings: &Settings) -> Result<Flood> {
        let pair = Pair::start(&policy(&[KEY.to_owned()], &format!("\"{amount} requests/minute\"")), 1)?;
        let shots = pair.ports().into_iter().map(|port| Shot::new("GET", "/", KEY, port)).collect();
        let before = stats::transactions(&pair.redis)?;
        let length = Duration::from_secs(settings.flood_seconds);
        let load = load::start(Plan::even(shots, RATE_PER_S, length, CONNECTIONS), Instant::now());
        Ok(Flood { amount, bar, pair, before, load })
    }

    /// Transactions over requests, from the first to the last.
    pub fn end(self, figures: &mut Figures) -> Result<()> {
        let samples = self.load.join();
        let asked = stats::transactions(&self.pair.redis)? - self.before;
        let requests = samples.len();
        let count = |status| samples.iter().filter(|s| s.status == status).count();
        let (served, refused) = (count(200), count(429));
        if served == 0 || refused == 0 || served + refused != requests {
            let what = format!("of {requests} requests {served} were served and {refused} refused");
            return Err(BenchError::wrong(format!("flood against {}", self.amount), what));
        }
        let name = format!("redis_tx_per_request_flood_{}", self.amount);
        figures.at_most(&name, asked as f64 / requests as f64, self.bar);
        figures.add(format!("flood_{}_served", self.amount), served as f64);
        Ok(())
    }
}
