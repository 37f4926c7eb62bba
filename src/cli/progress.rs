//! Progress on stderr while a verb works: a bar on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::Global;
use crate::etcd::StreamProgress;
use crate::pipeline::{Progress, Stage};

/// A bar with a word for what is being done.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that says `what`; hidden without a terminal and with `--no-progress`.
    pub fn new(global: &Global, what: &'static str) -> Self {
        let bar = ProgressBar::new(0);
        if global.no_progress {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = "{msg:10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self(bar)
    }

    /// So many bytes of so many; a total of 0 is unknown.
    pub fn at(&self, done: u64, total: u64) {
        self.0.set_length(total.max(done));
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn stage(&self, stage: Stage) {
        self.0.reset();
        self.0.set_message(stage.name());
    }

    fn bytes(&self, done: u64, total: u64) {
        self.at(done, total);
    }
}

impl StreamProgress for Bar {
    fn bytes(&self, done: u64, total: u64) {
        self.at(done, total);
    }
}
