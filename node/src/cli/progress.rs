//! How far something is that is counted in bytes: a bar on a terminal, a line now and then elsewhere; on standard error.

use super::table::grouped;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Without a terminal a line is printed this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The bar.
pub(super) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    all_bytes: u64,
    done_bytes: u64,
    told: Instant,
}

impl Progress {
    /// Begins with nothing done of `all_bytes`.
    pub(super) fn new(what: &'static str, all_bytes: u64) -> Progress {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(all_bytes),
            false => ProgressBar::hidden(),
        };
        let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} [{elapsed}, {eta} left]";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Progress {
            bar,
            what,
            all_bytes,
            done_bytes: 0,
            told: Instant::now(),
        }
    }

    /// So many more are done.
    pub(super) fn add(&mut self, bytes: u64) {
        self.done_bytes += bytes;
        if !self.bar.is_hidden() {
            self.bar.set_position(self.done_bytes);
        } else if self.told.elapsed() >= LINE_EVERY {
            let (done, all) = (grouped(self.done_bytes), grouped(self.all_bytes));
            eprintln!("{}: {done} of {all} bytes", self.what);
            self.told = Instant::now();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
