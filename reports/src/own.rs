//! What there is to say of one client, picked out of everything once.
//!
//! Pages of a client are made from this and from nothing else: there is no way for another client's
//! name or number to get in.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash};

use weir_analytics::anomaly::Anomaly;
use weir_analytics::forecast::Forecast;
use weir_analytics::objective::Promise;
use weir_analytics::view::{LimitUse, QuotaFinding, Usage};

use crate::made::hash_usage;
use crate::promise;
use crate::runout;
use crate::site::SiteInput;
use crate::subject::Subject;

/// One client's own.
pub struct Own<'a> {
    pub id: &'a str,
    pub subject: Subject,
    pub usage: &'a Usage,
    pub findings: Vec<&'a QuotaFinding>,
    /// What its limits did to it.
    pub limits: Vec<&'a LimitUse>,
    /// Since when that is known; `None` where there are no records.
    pub limits_from_us: Option<i64>,
    /// Oldest first.
    pub anomalies: Vec<&'a Anomaly>,
    pub promises: Vec<&'a Promise>,
    /// Quotas that may run out.
    pub forecasts: Vec<&'a Forecast>,
    /// Its requests a week before; `None` where nothing is known of then.
    pub before: Option<i64>,
    pub now_us: i64,
}

impl<'a> Own<'a> {
    /// Every client of the input, in its order.
    pub fn all(input: &SiteInput<'a>) -> Vec<Own<'a>> {
        let mut findings = grouped(input.findings, |finding| &finding.client);
        let mut anomalies: HashMap<&str, Vec<&Anomaly>> = HashMap::new();
        for anomaly in input.anomalies.iter().map(|course| &course.anomaly) {
            anomaly.client.iter().for_each(|id| anomalies.entry(id).or_default().push(anomaly));
        }
        let mut limits = grouped(&input.recent.limits, |line| &line.client);
        let mut promises = grouped(input.promises.unwrap_or_default(), |promise| &promise.client);
        let mut forecasts = grouped(input.forecasts, |forecast| &forecast.client);
        let mut before: HashMap<&str, i64> = HashMap::new();
        for row in input.previous.iter().flat_map(|usage| &usage.rows) {
            *before.entry(&row.client).or_default() += row.totals.requests;
        }
        let own = |(id, usage): &'a (String, Usage)| Own {
            id,
            subject: Subject::of(input.policy, id),
            usage,
            findings: findings.remove(id.as_str()).unwrap_or_default(),
            limits: limits.remove(id.as_str()).unwrap_or_default(),
            anomalies: anomalies.remove(id.as_str()).unwrap_or_default(),
            limits_from_us: input.recent.from_us,
            promises: promises.remove(id.as_str()).unwrap_or_default(),
            forecasts: forecasts.remove(id.as_str()).unwrap_or_default(),
            before: before.get(id.as_str()).copied(),
            now_us: input.now_us,
        };
        input.clients.iter().map(own).collect()
    }

    /// Everything but the clock and the client's id, which its page is named after.
    pub fn hash(&self, hasher: &mut DefaultHasher) {
        self.subject.hash(hasher);
        self.findings.hash(hasher);
        self.limits.hash(hasher);
        for a in &self.anomalies {
            (a.kind, &a.endpoint, a.from_us, a.to_us, thousandths(a.value), thousandths(a.expected))
                .hash(hasher);
        }
        self.promises.iter().for_each(|promise| promise::hash(promise, hasher));
        self.forecasts.iter().filter(|f| runout::is_told(f)).for_each(|f| runout::hash(f, hasher));
        self.before.hash(hasher);
        hash_usage(self.usage, hasher);
    }
}

/// What was kept as text may differ in its last digit.
fn thousandths(value: f64) -> i64 {
    (value * 1e3).round() as i64
}

fn grouped<'a, T>(all: &'a [T], client: impl Fn(&'a T) -> &'a str) -> HashMap<&'a str, Vec<&'a T>> {
    let mut by: HashMap<&str, Vec<&T>> = HashMap::new();
    all.iter().for_each(|one| by.entry(client(one)).or_default().push(one));
    by
}
