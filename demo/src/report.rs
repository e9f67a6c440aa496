//! What the demo prints.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use weir_testbed::load::Summary;

use crate::act::Seen;
use crate::books::Books;
use crate::pages::Shown;
use crate::promises::Promise;
use crate::stage::Stage;

/// Text with colours on a terminal, without anywhere else.
pub struct Report {
    colours: bool,
}

const WIDTH: usize = 96;
const BAR: usize = 18;

/// How much of a phase has passed, and how much is left.
fn bar(spent: Duration, length: Duration) -> (String, String) {
    let done = (BAR as f64 * spent.as_secs_f64() / length.as_secs_f64()).round() as usize;
    let done = done.min(BAR);
    ("━".repeat(done), "─".repeat(BAR - done))
}

impl Report {
    pub fn new() -> Report {
        Report { colours: stdout().is_terminal() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn heading(&self, text: &str) {
        let rule = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 4));
        self.line(&format!("\n{} {}", self.paint("1", &format!("── {text}")), self.paint("2", &rule)));
    }

    pub fn line(&self, text: &str) {
        println!("{text}");
        let _ = stdout().flush();
    }

    /// A phase that is going on: on a terminal one line that grows, elsewhere a line at its end.
    pub fn phase(&self, what: &str, spent: Duration, length: Duration) {
        let ended = spent == length;
        if self.colours {
            let (done, left) = bar(spent, length);
            let (done, left) = (self.paint("36", &done), self.paint("2", &left));
            print!("\r  {done}{left} {:>3} s  {what}{}", spent.as_secs(), if ended { "\n" } else { "" });
            let _ = stdout().flush();
        } else if ended {
            self.line(&format!("  {} s  {what}", length.as_secs()));
        }
    }

    /// Small print.
    pub fn note(&self, text: &str) {
        self.line(&self.paint("2", text));
    }

    /// The other clients, phase by phase.
    pub fn others(&self, seen: &Seen) {
        self.heading("The other 79 clients");
        self.note(&format!(
            "{:<26}{:>10}{:>12}{:>12}{:>10}{:>12}",
            "", "requests", "p50 served", "p99 served", "errors", "share"
        ));
        let names = ["calm", "retry loop, limits off", "retry loop, limits on"];
        for (phase, name) in names.into_iter().enumerate() {
            self.line(&self.row(name, seen.others(phase), phase == 1));
        }
    }

    fn row(&self, name: &str, of: Summary, bad: bool) -> String {
        let errors = format!("{:>10.2} %", of.error_percent());
        let numbers = format!("{:>10}{:>9.1} ms{:>9.1} ms", of.requests, of.p50_ms, of.p99_ms);
        let errors = format!("{:>8}{errors}", of.errors);
        let text = format!("{numbers}{errors}");
        format!("{name:<26}{}", if bad { self.paint("31", &text) } else { self.paint("32", &text) })
    }

    /// What the partner got.
    pub fn partner(&self, seen: &Seen, name: &str, stage: &Stage) {
        let partner = seen.partner();
        self.heading(&format!("The partner with the retry loop ({name}), limits on"));
        self.line(&format!(
            "{:.0} requests a minute sent, {} admitted, {} refused with 429",
            partner.sent_per_minute, partner.admitted, partner.refused
        ));
        self.note(&format!(
            "In the whole play the backend turned {} requests away; Redis ran {} transactions for {} requests.",
            stage.backend.turned_away(),
            stage.transactions().unwrap_or_default(),
            seen.answered().0
        ));
    }

    /// What came of the records.
    pub fn books(&self, books: &Books) {
        self.heading("The books");
        self.line(&format!(
            "{} records collected, rolled up, shown and mailed in {:.1} s",
            books.records,
            books.tick.as_secs_f64()
        ));
        self.note(&format!("{} were decided without Redis, which had not answered in time", books.degraded));
        for mail in &books.mails {
            self.line(&format!("  mail to {:<34} {}", mail.to.join(", "), mail.subject));
        }
    }

    /// Addresses and folders.
    pub fn where_to_look(&self, stage: &Stage, shown: &Shown) {
        self.heading("Where to look");
        let dir = stage.installation.dir().display();
        self.line(&format!("overview       {}/", stage.pages.url));
        if let Some(example) = &shown.example {
            self.line(&format!("a client's page {example}"));
        }
        self.line(&format!("mails          {dir}/mails"));
        self.line(&format!("books          {dir}/store"));
        self.line(&format!("policy         {dir}/policy.toml"));
    }

    /// The promises, and whether all were kept.
    pub fn promises(&self, promises: &[Promise]) -> bool {
        self.heading("Promised and seen");
        for promise in promises {
            let mark = if promise.kept { self.paint("32", "✓") } else { self.paint("1;31", "✗") };
            self.line(&format!("{mark} {}", promise.text));
        }
        let kept = promises.iter().filter(|p| p.kept).count();
        self.note(&format!("{kept} of {} promises kept", promises.len()));
        kept == promises.len()
    }
}
