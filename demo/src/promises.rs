//! What the demo promises, and whether it was seen.

use crate::act::Seen;
use crate::books::Books;
use crate::clients::{Client, NEAR, OVER, PARTNER_PER_MINUTE, PARTNER_PER_SECOND, PLATFORM};
use crate::pages::Shown;

/// One promise with the numbers that show whether it was kept.
#[derive(Clone, Debug)]
pub struct Promise {
    pub kept: bool,
    pub text: String,
}

fn promise(kept: bool, text: String) -> Promise {
    Promise { kept, text }
}

/// All of them, in the order of the story.
pub fn all(seen: &Seen, books: &Books, shown: &Shown, clients: &[Client]) -> Vec<Promise> {
    let mut promises = others(seen);
    promises.extend(partner(seen));
    promises.extend(in_the_books(seen, books, clients));
    promises.extend(mails(books, clients));
    promises.push(pages(shown));
    promises
}

fn others(seen: &Seen) -> Vec<Promise> {
    let [calm, off, on] = [0, 1, 2].map(|phase| seen.others(phase));
    let suffered =
        off.error_percent() > 10.0 * calm.error_percent().max(0.5) || off.p50_ms > 3.0 * calm.p50_ms;
    let relieved = on.error_percent() < calm.error_percent() + 1.0
        && on.p50_ms < 1.5 * calm.p50_ms + 3.0
        && on.p99_ms < 1.5 * calm.p99_ms + 20.0;
    let undue = seen.undue_refusals();
    vec![
        promise(
            suffered,
            format!(
                "Without limits the retry loop hurts everyone: {:.1} % errors and a median of \
                 {:.0} ms, where {:.1} % and {:.0} ms are normal",
                off.error_percent(),
                off.p50_ms,
                calm.error_percent(),
                calm.p50_ms
            ),
        ),
        promise(
            relieved,
            format!(
                "With limits the same loop hurts nobody else: {:.1} % errors, median {:.0} ms, \
                 p99 {:.0} ms against {:.0} ms when calm",
                on.error_percent(),
                on.p50_ms,
                on.p99_ms,
                calm.p99_ms
            ),
        ),
        promise(undue == 0, format!("{undue} requests refused of clients that kept to their limits")),
    ]
}

fn partner(seen: &Seen) -> Vec<Promise> {
    let partner = seen.partner();
    let strict = partner.worst_second <= PARTNER_PER_SECOND && partner.worst_minute <= PARTNER_PER_MINUTE;
    let served = partner.worst_second * 10 >= PARTNER_PER_SECOND * 8 && partner.refused > 0;
    let switch = seen.switch().map(|d| d.as_secs_f64());
    vec![
        promise(
            strict && served,
            format!(
                "Over both gateways the partner got {} requests in its worst second (limit \
                 {PARTNER_PER_SECOND}) and {} in its worst minute (limit {PARTNER_PER_MINUTE}), \
                 counted from its side",
                partner.worst_second, partner.worst_minute
            ),
        ),
        promise(
            switch.is_some_and(|s| s < 5.0) && seen.same_workers,
            match switch {
                Some(s) => {
                    format!("The new policy was in force on both gateways after {s:.1} s, without a reload")
                }
                None => "The new policy never came into force".to_owned(),
            },
        ),
    ]
}

fn in_the_books(seen: &Seen, books: &Books, clients: &[Client]) -> Vec<Promise> {
    let (answered, lost) = seen.answered();
    let same = books.records == answered as i64 && books.rows == answered as i64;
    let differing = clients.iter().filter(|c| books.of(&c.id) != seen.by_client(clients).get(&c.id).copied());
    let differing = differing.count();
    vec![
        promise(
            same && lost == 0 && books.missing == 0,
            format!(
                "{answered} requests answered = {} records = {} in the roll-up ({} known missing, \
                 {lost} without an answer)",
                books.records, books.rows, books.missing
            ),
        ),
        promise(
            differing == 0,
            format!(
                "{} of {} clients have the same count on both sides",
                clients.len() - differing,
                clients.len()
            ),
        ),
        promise(
            books.second_tick_changed_nothing,
            "A second tick changed no row and sent no mail".to_owned(),
        ),
    ]
}

fn mails(books: &Books, clients: &[Client]) -> Vec<Promise> {
    let once = |client: &Client, reached: bool| {
        [client.contact(), PLATFORM.to_owned()]
            .iter()
            .all(|to| books.mails.iter().filter(|m| m.tells(to, client, reached)).count() == 1)
    };
    let told = |client: &Client, what: &str| {
        format!("{} and the platform team were each mailed once when {what}", client.id)
    };
    let (near, over) = (&clients[NEAR], &clients[OVER]);
    vec![
        promise(once(near, false), told(near, "80 % of its hourly limit were used")),
        promise(once(over, true), told(over, "its hourly limit was reached")),
    ]
}

fn pages(shown: &Shown) -> Promise {
    promise(
        shown.overview && shown.portals == shown.portals_expected,
        format!(
            "The overview and {} of {} client pages are served and show their totals",
            shown.portals, shown.portals_expected
        ),
    )
}
