//! A forecast that belongs to no cluster: one fit on the histories of several, each in units of its own mean rate and without the
//! time of the day. A schedule may begin with it until it has fitted its own.

use jiff::Timestamp;

use crate::signals::series::{Point, Series};

use super::fit::{FitError, FitOptions, fit_until};
use super::history::History;
use super::model::{Model, TrainedOn};

/// What lies between two histories, so that no feature of one looks into the other, seconds.
const APART: f64 = 7.0 * 86_400.0;

/// Fits a prior on whole histories, one a cluster.
///
/// # Errors
/// As [`super::fit::fit`], and when the steps differ.
pub fn pooled(parts: &[Series], options: &FitOptions) -> Result<Model, FitError> {
    let Some(first) = parts.first() else {
        return Err(FitError::NothingChanges);
    };
    let mut pool = first.range(0, 0);
    for part in parts {
        let (one, other) = (first.step_seconds(), part.step_seconds());
        if one != other {
            return Err(FitError::UnequalSteps { one, other });
        }
        let history = History::new(part);
        let mean = history.mean(0, history.len()).unwrap_or(0.0);
        if mean <= 0.0 {
            continue;
        }
        for rate in part.rates() {
            pool.push(&Point {
                significant: Some(rate / mean),
                ..Point::at(Timestamp::UNIX_EPOCH)
            });
        }
        for _ in 0..history.cells(APART) {
            pool.push(&Point::at(Timestamp::UNIX_EPOCH));
        }
    }
    let history = History::new(&pool);
    let options = FitOptions {
        window: history.len() as f64 * history.step(),
        // Hours of other clusters say nothing of this one's.
        seasonal: false,
        ..*options
    };
    let fitted = fit_until(&history, history.len(), &options)?;
    let from = parts.iter().map(Series::start).min();
    let to = parts.iter().map(Series::end).max();
    let created_at = to.unwrap_or(fitted.created_at);
    let digest = fitted.trained_on.digest.clone();
    Ok(Model {
        id: format!("prior-{}-{digest}", created_at.strftime("%Y%m%dT%H%MZ")),
        created_at,
        relative: true,
        trained_on: TrainedOn {
            from: from.unwrap_or(created_at),
            to: created_at,
            ..fitted.trained_on
        },
        ..fitted
    })
}
