//! Hours of everything that is looked at, from the roll-ups.

use std::collections::BTreeMap;

use super::LEAST_SAMPLE;
use crate::books;
use crate::calendar::HOUR_US;
use crate::completeness::Known;
use crate::held::Held;
use crate::parquet_file::FileError;
use crate::store::Store;
use crate::table::{LATENCY_SUM_US, REQUESTS, STATUS_0, Table};
use crate::view::Grain;

/// What a series is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub client: Option<String>,
    pub endpoint: Option<String>,
}

/// One entry an hour; `NAN` where nothing is known.
#[derive(Clone, Debug)]
pub struct Hours {
    pub requests: Vec<f64>,
    pub errors: Vec<f64>,
    pub latency_sum_us: Vec<f64>,
}

impl Hours {
    fn zero(hours: usize) -> Hours {
        Hours { requests: vec![0.0; hours], errors: vec![0.0; hours], latency_sum_us: vec![0.0; hours] }
    }

    /// A sum by the requests of its hour, where these are enough to tell.
    pub fn share_of(&self, sums: &[f64]) -> Vec<f64> {
        let share = |(&n, &sum): (&f64, &f64)| if n >= LEAST_SAMPLE { sum / n } else { f64::NAN };
        self.requests.iter().zip(sums).map(share).collect()
    }
}

/// Of which hours of a range it is known that all gateways were there.
pub async fn known(store: &Store, from_us: i64, to_us: i64) -> Result<Vec<bool>, FileError> {
    let held = books::all_held(store, from_us, to_us).await?;
    let known = Known::of(&Held::default(), &held, from_us..to_us, None);
    let hours = (0..(to_us - from_us) / HOUR_US).map(|hour| from_us + hour * HOUR_US);
    Ok(hours.map(|at_us| known.knows(at_us, at_us + HOUR_US)).collect())
}

/// The hours of a range, microseconds UTC, whole hours, of some of which all is `known`.
pub async fn read(
    store: &Store,
    from_us: i64,
    to_us: i64,
    known: &[bool],
) -> Result<BTreeMap<Subject, Hours>, FileError> {
    let count = usize::try_from((to_us - from_us) / HOUR_US).unwrap_or(0);
    let mut all: BTreeMap<Subject, Hours> = BTreeMap::new();
    books::rows(store, Grain::Hour, from_us..to_us, &mut |table, rows| {
        rows.iter().for_each(|&row| add(&mut all, table, row, from_us, count));
    })
    .await?;
    let whole = all.get(&Subject::default()).map(|h| h.requests.clone()).unwrap_or_default();
    let is_known = |(requests, known): (&f64, &bool)| *requests > 0.0 || *known;
    let known: Vec<bool> = whole.iter().zip(known).map(is_known).collect();
    all.values_mut().for_each(|hours| forget(hours, &known));
    Ok(all)
}

fn add(all: &mut BTreeMap<Subject, Hours>, table: &Table, row: usize, from_us: i64, count: usize) {
    let Ok(hour) = usize::try_from((table.time_us[row] - from_us) / HOUR_US) else { return };
    let text = |i: usize| table.names.get(table.texts[i][row]);
    let client = Some(text(0).to_owned());
    let endpoint = Some(format!("{} {}", text(3), text(2)));
    let of_client = Subject { client: client.clone(), endpoint: None };
    for subject in [Subject::default(), of_client, Subject { client, endpoint }] {
        let hours = all.entry(subject).or_insert_with(|| Hours::zero(count));
        hours.requests[hour] += table.sums[REQUESTS][row] as f64;
        hours.errors[hour] += table.sums[STATUS_0 + 5][row] as f64;
        hours.latency_sum_us[hour] += table.sums[LATENCY_SUM_US][row] as f64;
    }
}

/// Before a subject's first request it was not there. In an hour without any request at all nobody can
/// say whether clients were silent or gateways, unless gateways gave a sign of life.
fn forget(hours: &mut Hours, known: &[bool]) {
    let first = hours.requests.iter().position(|&n| n > 0.0).unwrap_or(0);
    for (at, requests) in hours.requests.iter_mut().enumerate() {
        if at < first || !known[at] {
            *requests = f64::NAN;
        }
    }
}
