//! Progress of what takes longer than a second, on a terminal only.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on standard error; nothing when that is no terminal.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new(unit: &'static str) -> Bar {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(4),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = format!("{{elapsed}} {{wide_bar}} {{pos}} of {{len}} {unit}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Bar(bar)
    }

    /// The first second shows nothing: most work is done by then.
    pub fn set(&self, done: u64, all: u64) {
        if self.0.elapsed() >= Duration::from_secs(1) {
            self.0.set_length(all);
            self.0.set_position(done);
        }
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
