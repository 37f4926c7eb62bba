//! A span of time on a grid, and its pages for a server that limits the points of one answer.

use jiff::{SignedDuration, Timestamp};

/// Points asked for in one range query. Prometheus refuses more than 11,000, and stops at 50 million samples in memory:
/// the API server's counters are thousands of series.
const PAGE_POINTS: i64 = 2_000;

/// A span of time on a grid that is aligned to the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Length of a cell, seconds.
    pub step_seconds: u32,
}

impl Window {
    /// The whole cells of the `span` before `now`: the last one ends at or before `now`.
    #[must_use]
    pub fn before(now: Timestamp, span: SignedDuration, step_seconds: u32) -> Self {
        let step = i64::from(step_seconds.max(1));
        let to = now.as_second().div_euclid(step) * step;
        let cells = (span.as_secs() / step).max(0);
        let from = to.saturating_sub(cells.saturating_mul(step));
        let at = |second| Timestamp::from_second(second).unwrap_or(Timestamp::MIN);
        Self {
            from: at(from),
            to: at(to),
            step_seconds: step_seconds.max(1),
        }
    }

    /// The ends of the first and last cell of each page, Unix seconds: a rate looks back, so the cell that ends at `t`
    /// is asked for at `t`.
    pub(super) fn pages(&self) -> Vec<(i64, i64)> {
        let step = i64::from(self.step_seconds.max(1));
        let last = self.to.as_second();
        let mut first = self.from.as_second() + step;
        let mut pages = Vec::new();
        while first <= last {
            let end = last.min(first + (PAGE_POINTS - 1) * step);
            pages.push((first, end));
            first = end + step;
        }
        pages
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_window_holds_whole_cells_that_ended() {
        let window = Window::before(second(1_000_123), SignedDuration::from_secs(1_000), 300);
        assert_eq!((window.from, window.to), (second(999_000), second(999_900)));
        let nothing = Window::before(second(1_000_123), SignedDuration::from_secs(-5), 300);
        assert_eq!(nothing.pages(), []);
    }

    #[test]
    fn pages_cover_every_cell_once_and_stay_under_the_servers_limit() {
        let span = SignedDuration::from_secs(16_384 * 300);
        let window = Window::before(second(2_000_000_000), span, 300);
        let pages = window.pages();
        let mut ends = Vec::new();
        for (first, last) in &pages {
            assert!((last - first) / 300 < 11_000);
            ends.extend((*first..=*last).step_by(300));
        }
        assert_eq!(ends.len(), 16_384);
        assert_eq!(ends.first(), Some(&(window.from.as_second() + 300)));
        assert_eq!(ends.last(), Some(&window.to.as_second()));
        assert!(ends.windows(2).all(|pair| pair[1] - pair[0] == 300));
    }
}
