//! What the forecast looks at: recent log rates over eight windows, the same time a day and a week ago, and where in the
//! day and the week we are (scheduling.md §4). Thirty numbers, all known at the time of the forecast.

use std::f64::consts::TAU;
use std::ops::Range;

use super::history::History;

const DAY: f64 = 86_400.0;
const WEEK: f64 = 7.0 * DAY;
/// Windows of the log rates, seconds: 5 min to 7 days.
const WINDOWS: [f64; 8] = [300.0, 900.0, 1800.0, 3600.0, 10_800.0, 21_600.0, DAY, WEEK];

/// How many features there are.
pub const COUNT: usize = 30;
/// Features that are the same for every horizon: the windows and the Fourier terms.
pub(super) const SHARED: usize = 22;
/// Features of the clock alone: the Fourier terms, and the weekend with its own.
pub(super) const CLOCK: (Range<usize>, Range<usize>) = (8..22, 25..30);

/// The names, in order, as they stand in a model file and in explanations.
pub const NAMES: [&str; COUNT] = [
    "rate5m",
    "rate15m",
    "rate30m",
    "rate1h",
    "rate3h",
    "rate6h",
    "rate24h",
    "rate7d",
    "daySin1",
    "dayCos1",
    "daySin2",
    "dayCos2",
    "daySin3",
    "dayCos3",
    "daySin4",
    "dayCos4",
    "weekSin1",
    "weekCos1",
    "weekSin2",
    "weekCos2",
    "weekSin3",
    "weekCos3",
    "dayAgo",
    "weekAgo",
    "weekMean",
    "weekend",
    "weekendDaySin1",
    "weekendDayCos1",
    "weekendDaySin2",
    "weekendDayCos2",
];

/// A row of features.
pub type Row = [f64; COUNT];

/// Fills the features that do not depend on the horizon, at cell `now`, on the scale `reference` (changes a second).
/// `None` when nothing is known of the past six hours.
#[must_use]
pub fn shared(history: &History, now: usize, reference: f64) -> Option<Row> {
    let mut row = [0.0; COUNT];
    let fallback = history.mean_back(now, WINDOWS[5])?;
    let scale = |rate: f64| (rate / reference).ln_1p();
    // A short window without samples says what the next longer one with samples says.
    let mut longer = fallback;
    for (slot, window) in row[..WINDOWS.len()].iter_mut().zip(WINDOWS).rev() {
        let rate = history.mean_back(now, window).unwrap_or(longer);
        longer = rate;
        *slot = scale(rate);
    }
    let at = history.time_of(now);
    let day = TAU * at.rem_euclid(DAY) / DAY;
    let week = TAU * at.rem_euclid(WEEK) / WEEK;
    let waves = [(day, 4), (week, 3)]
        .into_iter()
        .flat_map(|(angle, count)| (1..=count).map(move |k| (angle * f64::from(k)).sin_cos()));
    for (slots, (sin, cos)) in row[WINDOWS.len()..SHARED].chunks_exact_mut(2).zip(waves) {
        slots.copy_from_slice(&[sin, cos]);
    }
    Some(row)
}

/// What is known at a forecast bin's row of the same bin a day and a week ago, as scaled logarithms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    day_ago: f64,
    week_ago: f64,
    week_mean: f64,
    weekend: f64,
}

/// Looks at a forecast bin's past; `now` is the row's cell.
pub(super) fn past(history: &History, now: usize, span: Span, reference: f64) -> Past {
    let target = now + span.ahead;
    let scale = |rate: f64| (rate / reference).ln_1p();
    let day_cells = history.cells(DAY);
    let ago = |days: usize| {
        let back = days * day_cells;
        // Look only at what has happened by `now`: a bin further ahead than the lag reads the part that exists.
        let from = target.checked_sub(back)?;
        history
            .mean(from, (from + span.width).min(now))
            .filter(|_| from < now)
    };
    let mut seen = [None; 7];
    let (mut sum, mut count) = (0.0, 0u32);
    for (slot, days) in seen.iter_mut().zip(1..) {
        *slot = ago(days);
        if let Some(rate) = *slot {
            sum += rate;
            count += 1;
        }
    }
    let profile = if count == 0 {
        history.mean_back(now, WEEK).unwrap_or(0.0)
    } else {
        sum / f64::from(count)
    };
    let [first, .., last] = seen;
    Past {
        day_ago: scale(first.unwrap_or(profile)),
        week_ago: scale(last.unwrap_or(profile)),
        week_mean: scale(profile),
        weekend: is_weekend(history.time_of(target) + 0.5 * span.width as f64 * history.step()),
    }
}

/// A whole row: the shared features and those of the bin.
pub(super) fn completed(shared: &Row, past: &Past) -> Row {
    let mut row = *shared;
    let weekend = past.weekend;
    let tail = [
        past.day_ago,
        past.week_ago,
        past.week_mean,
        weekend,
        weekend * row[8],
        weekend * row[9],
        weekend * row[10],
        weekend * row[11],
    ];
    row[SHARED..].copy_from_slice(&tail);
    row
}

/// Completes a row for a forecast bin of `width` cells that begins `ahead` cells after `now`.
#[must_use]
pub fn at_horizon(history: &History, now: usize, span: Span, reference: f64, shared: &Row) -> Row {
    completed(shared, &past(history, now, span, reference))
}

/// Where a forecast bin lies, in cells.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// From now to its beginning.
    pub ahead: usize,
    /// Its width.
    pub width: usize,
}

/// 1 on Saturday and Sunday (UTC), else 0. The epoch was a Thursday.
fn is_weekend(at: f64) -> f64 {
    let day = (at / DAY).floor().rem_euclid(7.0);
    f64::from(u8::from((2.0..4.0).contains(&day)))
}
