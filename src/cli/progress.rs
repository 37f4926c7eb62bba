//! Progress on stderr while a verb works: a bar on a terminal, nothing elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::Global;
use crate::etcd::StreamProgress;
use crate::pipeline::{Progress, Stage};

/// What is shown of work that is counted in bytes, and of other work.
const COUNTED: &str = "{msg:10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const UNCOUNTED: &str = "{msg}…";

/// A word for what is being done, with a bar while its bytes are counted.
pub struct Bar {
    bar: ProgressBar,
    counted: AtomicBool,
}

impl Bar {
    /// A bar that says `what`; hidden without a terminal and with `--no-progress`.
    pub fn new(global: &Global, what: &'static str) -> Self {
        let bar = ProgressBar::new(0);
        if global.no_progress {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let counted = AtomicBool::new(false);
        let bar = Self { bar, counted };
        bar.begin(what);
        bar
    }

    fn begin(&self, what: &'static str) {
        self.counted.store(false, Ordering::Relaxed);
        self.shown_as(UNCOUNTED);
        self.bar.reset();
        self.bar.set_message(what);
    }

    fn shown_as(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    /// So many bytes of so many; a total of 0 is unknown.
    pub fn at(&self, done: u64, total: u64) {
        if !self.counted.swap(true, Ordering::Relaxed) {
            self.shown_as(COUNTED);
        }
        self.bar.set_length(total.max(done));
        self.bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn stage(&self, stage: Stage) {
        self.begin(stage.name());
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
