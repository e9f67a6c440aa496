//! An episode with the hours around it: what pages draw.

use serde::{Deserialize, Serialize};

use super::judge::{Band, band, count_floor};
use super::mix::{LEAST_MOVED, Parts};
use super::series::Hours;
use super::{Anomaly, Kind, margin, mean_floor, share_floor, share_margin};
use crate::calendar::HOUR_US;

/// Hours that are told before an episode and after it.
const BEFORE: i64 = 24;
const AFTER: i64 = 6;
/// Hours that are told at most.
const MOST: usize = 7 * 24;

/// An episode and its hours, in the units of its `value`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    pub anomaly: Anomaly,
    pub points: Vec<Point>,
}

/// One hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its beginning, microseconds UTC.
    pub at_us: i64,
    /// `None` where nothing is known.
    pub value: Option<f64>,
    /// What was expected, and between what it might have lain without a word: expected, low, high.
    pub band: Option<(f64, f64, f64)>,
}

impl Course {
    /// `from_us`: when the first of `hours` begins.
    pub(super) fn of(anomaly: Anomaly, hours: &Hours, parts: &Parts, from_us: i64) -> Course {
        let place = |us: i64| (us - from_us).div_euclid(HOUR_US);
        let end = usize::try_from(place(anomaly.to_us) + AFTER).unwrap_or(0).min(hours.requests.len());
        let begin = usize::try_from(place(anomaly.from_us) - BEFORE).unwrap_or(0).min(end);
        let at_us = |hour: usize| from_us + hour as i64 * HOUR_US;
        let told = |series: &[f64], band: &dyn Fn(usize) -> Option<Band>| {
            let point = |hour: usize| Point {
                at_us: at_us(hour),
                value: Some(series[hour]).filter(|v| !v.is_nan()),
                band: band(hour).map(|b| (b.expected, b.low, b.high)),
            };
            (begin..end.min(begin + MOST)).map(point).collect()
        };
        let points = match anomaly.kind {
            Kind::Spike | Kind::Drop | Kind::Silence => {
                let series = &hours.requests;
                told(series, &|hour| band(series, hour, |_, e| count_floor(e), margin))
            }
            Kind::Errors => {
                let series = hours.share_of(&hours.errors);
                told(&series, &|hour| band(&series, hour, share_floor(&hours.requests), share_margin))
            }
            Kind::Latency => {
                let series = hours.share_of(&hours.latency_sum_us);
                told(&series, &|hour| band(&series, hour, mean_floor, margin))
            }
            Kind::Mix => {
                let name = anomaly.part.as_ref().map_or("", |part| &part.name);
                let part = |hour: usize| parts.share(name, hour);
                let point = |hour: usize| Point {
                    at_us: at_us(hour),
                    value: part(hour).map(|part| part.share),
                    band: part(hour).map(|part| {
                        let (low, high) = (part.usual - LEAST_MOVED, part.usual + LEAST_MOVED);
                        (part.usual, low.max(0.0), high.min(1.0))
                    }),
                };
                (begin..end.min(begin + MOST)).map(point).collect()
            }
        };
        Course { anomaly, points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anomaly::series::Subject;

    #[test]
    fn a_burst_lies_outside_its_band_and_the_hours_before_within() {
        let mut requests: Vec<f64> = (0..24 * 21).map(|h| 100.0 + f64::from(h % 24)).collect();
        let at = requests.len();
        requests.extend([900.0, 105.0]);
        let zeros = vec![0.0; requests.len()];
        let hours = Hours { requests, errors: zeros.clone(), latency_sum_us: zeros };
        let from_us = at as i64 * HOUR_US;
        let anomaly = Anomaly {
            kind: Kind::Spike,
            client: None,
            endpoint: None,
            from_us,
            to_us: from_us + HOUR_US,
            worst_us: from_us,
            value: 900.0,
            expected: 100.0,
            score: 20.0,
            part: None,
        };
        let subject = Subject::default();
        let all = [(subject.clone(), hours.clone())].into();
        let course = Course::of(anomaly, &hours, &Parts::of(&subject, &hours, &all), 0);
        assert_eq!(course.points.len(), 24 + 2, "a day before, and what there is after");
        for point in &course.points {
            let (expected, low, high) = point.band.unwrap();
            assert!(low <= expected && expected <= high);
            let within = (low..=high).contains(&point.value.unwrap());
            assert_eq!(within, point.at_us != from_us, "{point:?}");
        }
        let text = serde_json::to_string(&course).unwrap();
        let read: Course = serde_json::from_str(&text).unwrap();
        assert_eq!((&read.anomaly, read.points.len()), (&course.anomaly, course.points.len()));
    }
}
