//! What is to be told: decided, written down, sent, crossed off.

use std::collections::HashSet;

use weir_analytics::alerts::{GIVEN_UP_US, Message, State, To, book, fold};
use weir_analytics::calendar::MINUTE_US;
use weir_analytics::finding::Finding;
use weir_analytics::view::QuotaFinding;
use weir_policy::Policy;

use crate::config::Webhook;
use crate::installation::{CommandError, Installation};
use crate::mail::{self, Mailed};
use crate::step::{Told, counted};
use crate::webhook::{self, PostError, Secret};

/// When somebody looked last, microseconds UTC; now, where nobody has.
pub async fn last_look_us(installation: &Installation) -> Result<i64, CommandError> {
    let looked_us = book::read(&installation.store).await?.looked_us;
    Ok(if looked_us == 0 { installation.now_us } else { looked_us })
}

/// Folds the findings into the state, which is on the disk before anything is sent, and sends what is
/// in the outbox: what this look adds, and what earlier ones could not send.
pub async fn step(
    installation: &Installation,
    policy: &Policy,
    quotas: &[QuotaFinding],
    findings: &[Finding],
) -> Result<Told, CommandError> {
    let (store, now_us) = (&installation.store, installation.now_us);
    let Some(state) = book::update(store, |state| fold(state, findings, policy, now_us)).await? else {
        return Ok(Told::skipped("alert", "others are at it"));
    };
    let config = &installation.config;
    let mailed = match &config.mail {
        // Without mail, or a webhook, nothing waits for it.
        None => Mailed { done: ids(&state.outbox), ..Mailed::default() },
        Some(settings) => mail::send(installation, settings, policy, quotas, &state.outbox).await?,
    };
    let (posted, mut failed) = match &config.webhook {
        None => (ids(&state.outbox), Vec::new()),
        Some(settings) => post(settings, &state.outbox, now_us).await,
    };
    let post_count = if config.webhook.is_some() { posted.len() as u64 } else { 0 };
    let is_old = |m: &Message| (now_us - m.decided_us).abs() > GIVEN_UP_US;
    let settle = |mut state: State| {
        for message in &mut state.outbox {
            message.mailed |= mailed.done.contains(&message.id);
            message.posted |= posted.contains(&message.id);
        }
        state.outbox.retain(|m| !(is_old(m) || m.mailed && m.posted));
        state
    };
    let given_up = state.outbox.iter().filter(|m| is_old(m)).count();
    failed.extend(mailed.failed);
    if given_up > 0 {
        failed.push(format!(
            "{given_up} messages could not be sent for 3 days and are given up; see `weir findings`"
        ));
    }
    let left = book::update(store, settle).await?.map_or(state.outbox.len(), |state| state.outbox.len());
    let line = format!(
        "{} and {} sent, {left} waiting, {} held back",
        counted(mailed.sent, "mail"),
        counted(post_count, "post"),
        state.held.len()
    );
    let done = serde_json::json!({
        "mails": mailed.sent, "posts": post_count, "waiting": left, "held": state.held.len()
    });
    Ok(Told::new("alert", line, &done, failed))
}

fn ids(messages: &[Message]) -> HashSet<String> {
    messages.iter().map(|m| m.id.clone()).collect()
}

/// Messages in a row that come to nothing at all, not even a refusal, before the rest waits.
const MOST_UNANSWERED: usize = 3;

/// Posts what the platform team is told, each message by itself: one that is refused does not hold the
/// others back. Whatever is for clients alone counts as posted.
async fn post(settings: &Webhook, outbox: &[Message], now_us: i64) -> (HashSet<String>, Vec<String>) {
    let (mut ours, others): (Vec<&Message>, Vec<&Message>) =
        outbox.iter().partition(|m| m.to == To::Platform && !m.posted);
    let mut done: HashSet<String> = others.iter().map(|m| m.id.clone()).collect();
    if ours.is_empty() {
        return (done, Vec::new());
    }
    let secret = match Secret::read(settings) {
        Ok(secret) => secret,
        Err(error) => return (done, vec![error]),
    };
    // Another one is the first at each tick, so that those that are never answered don't keep all
    // others waiting.
    let minute = usize::try_from(now_us / MINUTE_US).unwrap_or(0);
    let turn = minute % ours.len();
    ours.rotate_left(turn);
    let (mut first, mut unanswered) = (None, 0);
    for message in &ours {
        match webhook::post(settings, &secret, message).await {
            Ok(()) => {
                done.insert(message.id.clone());
                unanswered = 0;
            }
            Err(error) => {
                unanswered = if matches!(error, PostError::Refused(_)) { 0 } else { unanswered + 1 };
                first.get_or_insert(error);
            }
        }
        if unanswered == MOST_UNANSWERED {
            break;
        }
    }
    let left = ours.iter().filter(|m| !done.contains(&m.id)).count();
    let of = counted(ours.len() as u64, "message");
    let line = |error: PostError| {
        format!("the webhook did not take {left} of {of}: {error}; the next tick tries again")
    };
    (done, first.map(line).into_iter().collect())
}
