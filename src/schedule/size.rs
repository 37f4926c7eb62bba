//! How large the next backup will be and how long it will take: linear regressions over the last backups, with the range
//! that nine in ten of them kept to. For timeouts, the floor on the interval, and to notice a size that nobody expected.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

/// As many past backups as are looked at: a change of hardware or workload is forgotten after these.
pub const KEPT: usize = 64;
/// With fewer than this a line says nothing; the last backup stands for the next, and no size is a surprise.
pub const LEAST: usize = 4;
/// The range of a guess from one or two backups: half to twice.
const UNSURE: (f64, f64) = (0.5, 2.0);
/// A backup beyond these multiples of what was expected is worth a look (scheduling.md §4: mass delete, runaway writer).
pub const USUAL: (f64, f64) = (0.8, 1.5);

/// A backup that was made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// Size of etcd's database just before, bytes.
    pub db_size: f64,
    /// Bytes of the snapshot.
    pub raw_size: f64,
    /// Bytes that were stored.
    pub stored_size: f64,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// A value and the range that nine in ten kept to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// The most likely value.
    pub likely: f64,
    /// Rarely below this.
    pub low: f64,
    /// Rarely above this.
    pub high: f64,
}

/// What is expected of the next backup.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// Bytes of the snapshot.
    pub raw_size: Range,
    /// Bytes that will be stored.
    pub stored_size: Range,
    /// Seconds that it will take.
    pub seconds: Range,
}

/// How a backup's size compares with what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surprise {
    /// Within the usual.
    None,
    /// Much smaller: a mass delete, or a database that is not the one it was.
    Smaller,
    /// Much larger: a runaway writer, or events that are not compacted.
    Larger,
}

/// Expects the next backup from the past ones, oldest first, and the database's size now; `None` without any.
#[must_use]
pub fn expect(past: &[Past], db_size_now: Option<f64>) -> Option<Expected> {
    let past: Vec<Past> = past
        .iter()
        .rev()
        .filter(|one| one.is_sound())
        .take(KEPT)
        .copied()
        .collect();
    let last = past.first()?;
    let db_size = db_size_now
        .filter(|size| size.is_finite() && *size > 0.0)
        .unwrap_or(last.db_size);
    let raw_size = line(&past, |one| one.db_size, |one| one.raw_size, db_size)?;
    Some(Expected {
        raw_size,
        stored_size: line(
            &past,
            |one| one.raw_size,
            |one| one.stored_size,
            raw_size.likely,
        )?,
        seconds: line(
            &past,
            |one| one.raw_size,
            |one| one.seconds,
            raw_size.likely,
        )?,
    })
}

/// Compares an outcome with what was expected of it.
#[must_use]
pub fn surprise(expected: &Expected, raw_size: f64) -> Surprise {
    // Small databases change by large factors for small reasons: bbolt grows in whole pages.
    const SMALL: f64 = 4.0 * 1024.0 * 1024.0;
    let likely = expected.raw_size.likely;
    if (raw_size - likely).abs() < SMALL {
        Surprise::None
    } else if raw_size < USUAL.0 * likely {
        Surprise::Smaller
    } else if raw_size > USUAL.1 * likely {
        Surprise::Larger
    } else {
        Surprise::None
    }
}

/// How well one quantity was expected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// The mean of |expected − seen| / seen, percent.
    pub mean_error_percent: f64,
    /// How many lay within the range, percent.
    pub within_percent: f64,
}

/// How well backups were expected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scores {
    /// Backups compared.
    pub count: usize,
    /// Bytes of the snapshot.
    pub raw_size: Score,
    /// Bytes that were stored.
    pub stored_size: Score,
    /// Seconds that it took.
    pub seconds: Score,
}

/// Expects each backup from those before it, as soon as there are [`LEAST`] of them, and compares; `None` when there is nothing to
/// compare. What the model card reports.
#[must_use]
pub fn score(past: &[Past]) -> Option<Scores> {
    let compared: Vec<(Expected, &Past)> = (LEAST..past.len())
        .filter_map(|index| {
            let (before, rest) = past.split_at(index);
            let actual = rest
                .first()
                .filter(|one| one.is_sound() && one.seconds > 0.0)?;
            Some((expect(before, Some(actual.db_size))?, actual))
        })
        .collect();
    let count = compared.len();
    let of = |expected: fn(&Expected) -> Range, actual: fn(&Past) -> f64| {
        let (mut error, mut within) = (0.0, 0usize);
        for (said, seen) in &compared {
            let (said, seen) = (expected(said), actual(seen));
            error += (said.likely - seen).abs() / seen;
            within += usize::from((said.low..=said.high).contains(&seen));
        }
        Score {
            mean_error_percent: 100.0 * error / count as f64,
            within_percent: 100.0 * within as f64 / count as f64,
        }
    };
    (count > 0).then(|| Scores {
        count,
        raw_size: of(|expected| expected.raw_size, |past| past.raw_size),
        stored_size: of(|expected| expected.stored_size, |past| past.stored_size),
        seconds: of(|expected| expected.seconds, |past| past.seconds),
    })
}

impl Past {
    fn is_sound(&self) -> bool {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        positive(self.db_size)
            && positive(self.raw_size)
            && positive(self.stored_size)
            && self.seconds.is_finite()
            && self.seconds >= 0.0
    }
}

/// A straight line through the past, never leaving the range that was seen by more than its own width.
fn line(
    past: &[Past],
    from: impl Fn(&Past) -> f64,
    to: impl Fn(&Past) -> f64,
    at: f64,
) -> Option<Range> {
    let last = past.first()?;
    let proportional = || {
        // The size of the database may have been asked for well before the snapshot was taken.
        let likely = to(last) * (at / from(last)).clamp(UNSURE.0, UNSURE.1);
        Range {
            likely,
            low: likely * UNSURE.0,
            high: likely * UNSURE.1,
        }
    };
    if past.len() < LEAST {
        return Some(proportional());
    }
    // Scaled to about one, so that bytes squared do not swamp the intercept.
    let unit = from(last);
    let records = Array2::from_shape_fn((past.len(), 1), |(row, _)| {
        past.get(row).map_or(0.0, |one| from(one) / unit)
    });
    let targets: Vec<f64> = past.iter().map(&to).collect();
    let (least, most) = targets.iter().fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(least, most), value| (least.min(*value), most.max(*value)),
    );
    let fitted = LinearRegression::default()
        .fit(&Dataset::new(records, Array1::from(targets)))
        .ok();
    let weights = fitted.and_then(|model| Some((*model.params().first()?, model.intercept())));
    // Sizes that never differed have no slope; negative slopes are noise.
    let Some((slope, intercept)) = weights
        .filter(|(slope, intercept)| slope.is_finite() && intercept.is_finite() && *slope >= 0.0)
    else {
        return Some(settled(proportional(), past, &from, &to, |_| None));
    };
    let says = |value: f64| intercept + slope * value / unit;
    let width = (most - least).max(0.05 * most);
    let likely = says(at).clamp((least - width).max(0.0), most + width);
    Some(settled(
        Range {
            likely,
            low: likely,
            high: likely,
        },
        past,
        &from,
        &to,
        |value| Some(says(value)),
    ))
}

/// Widens a guess by what nine in ten of the past kept to, each measured from the line through the others: the residual over 1 − h, with
/// h = 1/n + (x − x̄)²/Σ(x − x̄)² its own pull on the line. A line through few points passes too near to them.
fn settled(
    guess: Range,
    past: &[Past],
    from: &impl Fn(&Past) -> f64,
    to: &impl Fn(&Past) -> f64,
    says: impl Fn(f64) -> Option<f64>,
) -> Range {
    let count = past.len() as f64;
    let mean = past.iter().map(from).sum::<f64>() / count;
    let spread: f64 = past.iter().map(|one| (from(one) - mean).powi(2)).sum();
    let mut residuals: Vec<f64> = past
        .iter()
        .filter_map(|one| {
            let pull = 1.0 / count + (from(one) - mean).powi(2) / spread;
            let others = if pull < 0.99 { 1.0 - pull } else { 1.0 };
            Some((to(one) - says(from(one))?).abs() / others)
        })
        .collect();
    if residuals.is_empty() {
        return guess;
    }
    residuals.sort_by(f64::total_cmp);
    // Of n that came before and the one that comes, each is as likely to be the largest.
    let index = (0.9 * (count + 1.0)).ceil() as usize;
    let index = index.clamp(1, residuals.len()) - 1;
    let margin = residuals.get(index).copied().unwrap_or(0.0);
    Range {
        likely: guess.likely,
        low: (guess.likely - margin).max(0.0),
        high: guess.likely + margin,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    fn past(db_size: f64) -> Past {
        Past {
            db_size,
            raw_size: db_size + 32.0,
            stored_size: db_size / 3.0,
            seconds: 1.0 + db_size / (100.0 * MIB),
        }
    }

    #[test]
    fn a_line_is_found_and_its_range_is_narrow() {
        let history: Vec<Past> = (10..40).map(|n| past(f64::from(n) * 10.0 * MIB)).collect();
        let expected = expect(&history, Some(420.0 * MIB)).unwrap();
        assert!((expected.raw_size.likely / (420.0 * MIB) - 1.0).abs() < 0.01);
        assert!((expected.seconds.likely - 5.2).abs() < 0.05, "{expected:?}");
        assert!(expected.seconds.high < 5.5);
        let scores = score(&history).unwrap();
        assert_eq!(scores.count, 26);
        assert!(scores.raw_size.mean_error_percent < 1.0, "{scores:?}");
        assert!(scores.seconds.mean_error_percent < 10.0, "{scores:?}");
        assert!(score(&history[..LEAST]).is_none());
    }

    #[test]
    fn one_backup_stands_for_the_next_with_a_wide_range() {
        let expected = expect(&[past(100.0 * MIB)], Some(200.0 * MIB)).unwrap();
        assert!((expected.raw_size.likely / (200.0 * MIB) - 1.0).abs() < 0.01);
        assert!(expected.raw_size.high > 1.9 * expected.raw_size.likely);
        assert!(expect(&[], Some(1.0)).is_none());
    }

    #[test]
    fn equal_sizes_and_absurd_values_break_nothing() {
        let flat = vec![past(64.0 * MIB); 20];
        let expected = expect(&flat, None).unwrap();
        assert!((expected.raw_size.likely - 64.0 * MIB).abs() < MIB);
        let mut wild = flat;
        for value in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            wild.push(Past {
                db_size: value,
                ..past(1.0)
            });
        }
        let expected = expect(&wild, Some(f64::NAN)).unwrap();
        assert!(expected.raw_size.likely.is_finite() && expected.raw_size.high.is_finite());
    }

    #[test]
    fn surprises_are_noticed_beyond_the_usual() {
        let flat = vec![past(100.0 * MIB); 10];
        let expected = expect(&flat, Some(100.0 * MIB)).unwrap();
        assert_eq!(surprise(&expected, 110.0 * MIB), Surprise::None);
        assert_eq!(surprise(&expected, 151.0 * MIB), Surprise::Larger);
        assert_eq!(surprise(&expected, 79.0 * MIB), Surprise::Smaller);
        let tiny = expect(&[past(64.0 * 1024.0)], None).unwrap();
        assert_eq!(
            surprise(&tiny, 256.0 * 1024.0),
            Surprise::None,
            "a few pages are no news"
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_happened_the_guess_is_finite_and_ordered(
            sizes in proptest::collection::vec((1.0f64..1e12, 0.1f64..2.0, 0.0f64..1e5), 1..80),
            now in 1.0f64..1e12,
        ) {
            let history: Vec<Past> = sizes
                .iter()
                .map(|(size, ratio, seconds)| Past { db_size: *size, raw_size: size * ratio, stored_size: size * ratio, seconds: *seconds })
                .collect();
            let expected = expect(&history, Some(now)).unwrap();
            for range in [expected.raw_size, expected.stored_size, expected.seconds] {
                proptest::prop_assert!(range.likely.is_finite() && range.low >= 0.0);
                proptest::prop_assert!(range.low <= range.likely && range.likely <= range.high);
            }
        }
    }
}
