//! One look: findings and policy in, the next state out. No clock, no store.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use weir_policy::{Policy, Quiet};

use super::{
    Episode, Item, MOST_AN_HOUR, MOST_SINGLE, Message, NEWS_US, Phase, REMEMBERED_US, Silence, State, To,
    hold_us, is_for_client, linger_us, tells_recovery,
};
use crate::calendar::{DAY_US, HOUR_US};
use crate::finding::{Finding, Kind, Severity};

/// What is known after a look at `now_us` that found `findings`: all that is on, and what was lately.
pub fn fold(mut state: State, findings: &[Finding], policy: &Policy, now_us: i64) -> State {
    let newest = newest_by_subject(findings);
    // After a step of the clock, or a day in which nobody looked, absence says nothing.
    let was_away = state.looked_us != 0 && (now_us - state.looked_us).abs() > DAY_US;
    let mut items = Vec::new();
    unsay(&mut state, policy, now_us);
    if !was_away {
        end(&mut state, &newest, now_us, &mut items);
        forget(&mut state, now_us);
    }
    let mut begun: Vec<&Finding> = newest.into_values().collect();
    // Wide ones first, and high ones: they silence the others.
    begun.sort_by_key(|f| {
        (f.client.is_some(), f.endpoint.is_some(), std::cmp::Reverse(height(f)), f.since_us)
    });
    let mut wide = Wide::of(&state);
    for finding in begun {
        look_at(&mut state, &mut wide, finding, policy, now_us, &mut items);
    }
    state.held.extend(items);
    release(&mut state, policy, now_us);
    state.looked_us = now_us;
    state
}

/// What was decided on and is muted by now is told to nobody.
fn unsay(state: &mut State, policy: &Policy, now_us: i64) {
    state.held.retain(|item| !is_muted(&item.finding, &item.to, policy, now_us));
    let is_muted = |m: &Message| m.findings.iter().all(|f| is_muted(f, &m.to, policy, now_us));
    state.outbox.retain(|message| !is_muted(message));
}

/// By the team for everybody, or by a client for its own contacts.
fn is_muted(finding: &Finding, to: &To, policy: &Policy, now_us: i64) -> bool {
    let (client, kind) = (finding.client.as_deref(), finding.kind.word());
    let by_client = match to {
        To::Platform => false,
        To::Client(id) => {
            let own = policy.alerts.clients.get(id.as_str());
            own.is_some_and(|own| own.mute.iter().any(|muted| **muted == *kind))
        }
    };
    by_client || policy.alerts.mute.iter().any(|m| m.covers(client, kind, now_us.div_euclid(1_000_000)))
}

fn newest_by_subject(findings: &[Finding]) -> BTreeMap<&str, &Finding> {
    let mut newest: BTreeMap<&str, &Finding> = BTreeMap::new();
    for finding in findings {
        let slot = newest.entry(finding.subject()).or_insert(finding);
        if finding.since_us > slot.since_us {
            *slot = finding;
        }
    }
    newest
}

/// When it was on last, as far as the finding tells.
fn on_us(finding: &Finding, now_us: i64) -> i64 {
    finding.until_us.map_or(now_us, |until_us| until_us.min(now_us)).max(finding.since_us)
}

/// Whether a finding is of an episode that is known.
fn is_same(episode: &Episode, finding: &Finding) -> bool {
    let same_key = episode.finding.key == finding.key;
    match finding.kind {
        Kind::QuotaThreshold | Kind::QuotaExhausted | Kind::SustainedRefusals => same_key,
        // Late records may have moved the beginning of what is reckoned anew each time.
        Kind::Anomaly => same_key || finding.since_us <= episode.last_on_us,
        // Found only while it is on, and from a beginning that moves along.
        Kind::ObjectiveBurn | Kind::Forecast => same_key || episode.phase != Phase::Recovered,
    }
}

/// Episodes that have been absent for long enough.
fn end(state: &mut State, newest: &BTreeMap<&str, &Finding>, now_us: i64, items: &mut Vec<Item>) {
    for (subject, episode) in state.episodes.iter_mut().filter(|(_, e)| e.phase != Phase::Recovered) {
        if let Some(finding) = newest.get(subject.as_str()).filter(|f| is_same(episode, f)) {
            episode.last_on_us = on_us(finding, now_us);
        }
        if now_us - episode.last_on_us < linger_us(episode.finding.kind).max(1) {
            continue;
        }
        if episode.phase == Phase::Firing && episode.silence.is_none() && tells_recovery(episode.finding.kind)
        {
            let mut finding = episode.finding.clone();
            finding.until_us = Some(episode.last_on_us);
            match state.held.iter_mut().find(|item| item.finding.key == finding.key) {
                // Nobody has heard of it yet: they hear of both at once.
                Some(item) => item.finding = finding,
                None => items.push(Item { to: To::Platform, finding, recovered: true, since_us: now_us }),
            }
        }
        episode.phase = Phase::Recovered;
    }
}

fn forget(state: &mut State, now_us: i64) {
    state
        .episodes
        .retain(|_, e| e.phase != Phase::Recovered || (now_us - e.last_on_us).abs() < REMEMBERED_US);
    state.told.retain(|_, told_us| (now_us - *told_us).abs() < REMEMBERED_US);
    state.platform_us.retain(|at_us| (now_us - at_us).abs() < HOUR_US);
}

fn look_at(
    state: &mut State,
    wide: &mut Wide,
    finding: &Finding,
    policy: &Policy,
    now_us: i64,
    items: &mut Vec<Item>,
) {
    let (subject, last_on_us) = (finding.subject(), on_us(finding, now_us));
    let known = state.episodes.get(subject).filter(|episode| is_same(episode, finding));
    let first_seen_us = match known {
        Some(episode) if episode.phase == Phase::Pending => episode.first_seen_us,
        Some(_) => return,
        None => now_us,
    };
    let is_history = now_us - last_on_us > NEWS_US;
    let waits = now_us - first_seen_us < hold_us(finding) && !is_history;
    let told_us = state.told.get(subject).copied();
    let silence = if is_history {
        Some(Silence::History)
    } else if is_muted(finding, &To::Platform, policy, now_us) {
        Some(Silence::Muted)
    } else if wide.covers(finding) {
        Some(Silence::Inhibited)
    } else if told_us.is_some_and(|told_us| (now_us - told_us).abs() < cooldown_us(policy)) {
        Some(Silence::CoolDown)
    } else {
        None
    };
    if !waits && silence.is_none() {
        state.told.insert(subject.to_owned(), now_us);
        items.extend(recipients(finding, policy, now_us).into_iter().map(|to| Item {
            to,
            finding: finding.clone(),
            recovered: false,
            since_us: now_us,
        }));
    }
    let phase = if waits { Phase::Pending } else { Phase::Firing };
    if !is_history {
        wide.add(finding);
    }
    let episode = Episode { finding: finding.clone(), phase, silence, first_seen_us, last_on_us };
    state.episodes.insert(subject.to_owned(), episode);
}

fn cooldown_us(policy: &Policy) -> i64 {
    i64::try_from(policy.alerts.cooldown_s).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// The threshold of a quota; the same for all others.
fn height(finding: &Finding) -> u64 {
    finding.figure("threshold").unwrap_or(0.0) as u64
}

/// What silences others: the service as a whole its clients, a client its endpoints, a higher
/// threshold the lower ones of the same limit that were not told before.
#[derive(Default)]
struct Wide {
    /// Kind, about, client, endpoint.
    on: HashSet<(Kind, String, Option<String>, Option<String>)>,
    /// Client and limit -> the highest threshold.
    highest: HashMap<(Option<String>, String), u64>,
}

impl Wide {
    fn of(state: &State) -> Wide {
        let mut wide = Wide::default();
        for episode in state.episodes.values().filter(|e| e.phase != Phase::Recovered) {
            wide.add(&episode.finding);
        }
        wide
    }

    fn add(&mut self, f: &Finding) {
        if is_quota(f.kind) {
            let highest = self.highest.entry((f.client.clone(), f.about.clone())).or_default();
            *highest = height(f).max(*highest);
        } else {
            self.on.insert((f.kind, f.about.clone(), f.client.clone(), f.endpoint.clone()));
        }
    }

    fn covers(&self, f: &Finding) -> bool {
        if is_quota(f.kind) {
            let highest = self.highest.get(&(f.client.clone(), f.about.clone()));
            return highest.is_some_and(|&highest| highest > height(f));
        }
        let is_on = |client: Option<&String>, endpoint: Option<&String>| {
            self.on.contains(&(f.kind, f.about.clone(), client.cloned(), endpoint.cloned()))
        };
        let (client, endpoint) = (f.client.as_ref(), f.endpoint.as_ref());
        client.is_some() && (is_on(None, None) || endpoint.is_some() && is_on(client, None))
    }
}

fn is_quota(kind: Kind) -> bool {
    matches!(kind, Kind::QuotaThreshold | Kind::QuotaExhausted)
}

/// Who wants to hear of it: the platform team, and the client if it is the client's business.
fn recipients(finding: &Finding, policy: &Policy, now_us: i64) -> Vec<To> {
    let alerts = &policy.alerts;
    let wants = |thresholds: &[u16]| {
        !is_quota(finding.kind) || thresholds.iter().any(|&t| u64::from(t) == height(finding))
    };
    let mut to = Vec::new();
    if wants(&alerts.thresholds) {
        to.push(To::Platform);
    }
    let Some(id) = finding.client.as_deref().filter(|_| is_for_client(finding.kind)) else { return to };
    let Some(client) = policy.client(id).filter(|client| !client.contacts.is_empty()) else { return to };
    let own = alerts.clients.get(&client.id);
    let thresholds = own.and_then(|own| own.thresholds.as_deref()).unwrap_or(&alerts.thresholds);
    let contacts = To::Client(id.to_owned());
    if wants(thresholds) && !is_muted(finding, &contacts, policy, now_us) {
        to.push(contacts);
    }
    to
}

/// Makes messages of what need not wait any longer.
fn release(state: &mut State, policy: &Policy, now_us: i64) {
    let mut by: BTreeMap<(To, bool), Vec<Item>> = BTreeMap::new();
    for item in std::mem::take(&mut state.held) {
        if is_quiet(&item.to, policy, now_us) && item.finding.severity < Severity::Critical {
            state.held.push(item);
        } else {
            by.entry((item.to.clone(), item.recovered)).or_default().push(item);
        }
    }
    for ((to, recovered), items) in by {
        let is_platform = to == To::Platform;
        if is_platform && state.platform_us.len() >= MOST_AN_HOUR {
            state.held.extend(items);
            continue;
        }
        let room = MOST_SINGLE.min(MOST_AN_HOUR - state.platform_us.len().min(MOST_AN_HOUR));
        let most = if is_platform { room } else { 1 };
        let findings: Vec<Finding> = items.into_iter().map(|item| item.finding).collect();
        let groups: Vec<Vec<Finding>> = if findings.len() > most {
            vec![findings]
        } else {
            findings.into_iter().map(|f| vec![f]).collect()
        };
        for group in groups {
            if is_platform {
                state.platform_us.push(now_us);
            }
            state.outbox.push(Message::new(to.clone(), recovered, group, now_us));
        }
    }
}

fn is_quiet(to: &To, policy: &Policy, now_us: i64) -> bool {
    let alerts = &policy.alerts;
    let (quiet, zone): (Option<Quiet>, Option<&str>) = match to {
        To::Platform => (alerts.quiet, alerts.timezone.as_deref()),
        To::Client(id) => {
            let quiet = alerts.clients.get(id.as_str()).and_then(|own| own.quiet);
            (quiet, policy.client(id).and_then(|client| client.timezone.as_deref()))
        }
    };
    let zone = zone.and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    quiet.is_some_and(|quiet| {
        let moment = Timestamp::from_microsecond(now_us).unwrap_or(Timestamp::UNIX_EPOCH);
        let local = zone.to_datetime(moment);
        quiet.covers(local.hour() as u16 * 60 + local.minute() as u16)
    })
}
