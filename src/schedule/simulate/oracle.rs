//! The cheapest schedule in hindsight: dynamic programming over the whole trace.

/// The bounds of an interval, in cells.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The shortest.
    pub shortest: usize,
    /// The longest.
    pub longest: usize,
}

/// The cells before which backups lie in the schedule that minimises K·N + ∫U dt on gapless `rates`
/// (`step` seconds each), starting from a backup at cell 0.
#[must_use]
pub fn cheapest(rates: &[f64], step: f64, budget: f64, bounds: Bounds) -> Vec<usize> {
    let cells = rates.len();
    let mut changes = vec![0.0; cells + 1];
    let mut areas = vec![0.0; cells + 1];
    for (cell, rate) in rates.iter().enumerate() {
        areas[cell + 1] = areas[cell] + (changes[cell] + 0.5 * rate * step) * step;
        changes[cell + 1] = changes[cell] + rate * step;
    }
    let area = |from: usize, to: usize| {
        areas[to] - areas[from] - changes[from] * ((to - from) as f64 * step)
    };
    let mut cost = vec![f64::INFINITY; cells + 1];
    let mut next = vec![cells; cells + 1];
    cost[cells] = 0.0;
    for from in (0..cells).rev() {
        if cells - from <= bounds.longest {
            cost[from] = area(from, cells);
        }
        let latest = (from + bounds.longest).min(cells.saturating_sub(1));
        for to in (from + bounds.shortest)..=latest {
            let candidate = area(from, to) + budget + cost[to];
            if candidate < cost[from] {
                cost[from] = candidate;
                next[from] = to;
            }
        }
    }
    let mut backups = Vec::new();
    let mut at = next.first().copied().unwrap_or(cells);
    while at < cells {
        backups.push(at);
        at = next[at];
    }
    backups
}
