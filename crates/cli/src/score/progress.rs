//! A progress bar for a person's terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::summary::Tally;
use super::verdict::Verdict;
use crate::console;

/// Shows how far a run is, on standard error when that is a terminal.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(attempts: usize) -> Self {
        let target = if console::err_is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(attempts as u64), target);
        let template = "{bar:30} {pos}/{len} {msg} {per_sec} {eta} left";
        // The template is checked by a test; the default style is a bar too.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        Self(bar)
    }

    /// One more is done.
    pub(super) fn show(&self, tally: &Tally) {
        let passed = tally.count(Verdict::Passed);
        let others: usize = Verdict::ALL[1..].iter().map(|v| tally.count(*v)).sum();
        self.0.set_message(format!("passed {passed}, not passed {others}"));
        self.0.inc(1);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {per_sec} {eta} left").unwrap();
    }
}
