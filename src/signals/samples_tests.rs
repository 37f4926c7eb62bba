//! Tests of the samples: rates, breaks, clocks, and the exact exposure.

#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use proptest::prelude::*;

use super::samples::{Exposure, Sample, Samples, Taken};

const STEP: u32 = 300;

fn sample(second: i64, cluster_id: u64, revision: i64) -> Sample {
    let at = Timestamp::from_second(second).unwrap();
    Sample {
        at,
        cluster_id,
        revision,
        db_size: 1000 + revision,
    }
}

fn taken(samples: &[(i64, u64, i64)]) -> Samples {
    let mut history = Samples::new(STEP);
    for (second, cluster, revision) in samples {
        history.take(sample(*second, *cluster, *revision));
    }
    history
}

fn rates(history: &Samples) -> Vec<Option<f64>> {
    let series = history.series(STEP).unwrap();
    series
        .writes()
        .iter()
        .map(|rate| rate.is_finite().then_some(*rate))
        .collect()
}

#[test]
fn revisions_become_changes_a_second_in_whole_cells() {
    // Samples in the middle of cells: the changes between two are spread over both cells.
    let history = taken(&[(150, 1, 0), (450, 1, 300), (750, 1, 300), (1050, 1, 900)]);
    assert_eq!(rates(&history), [Some(1.0), Some(0.5), Some(1.0)]);
    assert_eq!(
        history.series(STEP).unwrap().db_size(),
        [1000.0, 1300.0, 1300.0]
    );
}

#[test]
fn a_hole_stays_a_hole_and_what_came_after_is_known() {
    let history = taken(&[(0, 1, 0), (300, 1, 30), (3000, 1, 300), (3300, 1, 330)]);
    let rates = rates(&history);
    assert_eq!(rates.len(), 11);
    assert_eq!(
        (rates[0], rates[5], rates[10]),
        (Some(0.1), None, Some(0.1))
    );
}

#[test]
fn a_revision_that_goes_back_or_another_cluster_is_a_gap_and_a_new_epoch() {
    for next in [(600, 1, 40), (600, 2, 5000)] {
        let (_, cluster, revision) = next;
        let history = taken(&[
            (0, 1, 1000),
            (300, 1, 1030),
            next,
            (900, cluster, revision + 60),
        ]);
        assert_eq!(rates(&history), [Some(0.1), None, Some(0.2)], "{next:?}");
    }
}

#[test]
fn within_a_cell_the_newest_sample_stays() {
    let mut history = taken(&[(0, 1, 0)]);
    for second in 1..=600 {
        assert_eq!(history.take(sample(second, 1, second)), Taken::Appended);
    }
    assert_eq!(history.len(), 3);
    assert_eq!(
        rates(&history),
        [None, Some(1.0)],
        "the newest of the first cell is at its end"
    );
}

#[test]
fn a_clock_that_goes_back_drops_the_samples_from_its_future() {
    let mut history = taken(&[(0, 1, 0), (300, 1, 10), (900_000, 1, 20), (900_300, 1, 30)]);
    assert_eq!(history.take(sample(600, 1, 40)), Taken::Rewound(2));
    assert_eq!(rates(&history), [Some(10.0 / 300.0), Some(0.1)]);
}

#[test]
fn the_exposure_is_exact_only_where_the_history_says_so() {
    let exact = |changes| {
        Some(Exposure {
            changes,
            exact: true,
        })
    };
    let doubtful = |changes| {
        Some(Exposure {
            changes,
            exact: false,
        })
    };
    let steady = taken(&[(0, 1, 100), (300, 1, 250)]);
    assert_eq!(Samples::new(STEP).exposure_since(1, 5), None);
    assert_eq!(steady.exposure_since(1, 200), exact(50));
    assert_eq!(
        steady.exposure_since(1, 20),
        exact(230),
        "a backup older than the history"
    );
    assert_eq!(
        steady.exposure_since(1, 300),
        doubtful(0),
        "the revision went back unseen"
    );
    assert_eq!(
        steady.exposure_since(2, 200),
        doubtful(250),
        "another cluster"
    );
    // Restored from 250 to 120; a backup of 200 could belong to either life.
    let restored = taken(&[(0, 1, 100), (300, 1, 250), (600, 1, 120), (900, 1, 280)]);
    assert_eq!(restored.exposure_since(1, 200), doubtful(160));
    assert_eq!(
        restored.exposure_since(1, 260),
        exact(20),
        "taken after the old life's end"
    );
}

#[test]
fn a_follower_that_lags_costs_a_cell_and_no_more() {
    let history = taken(&[(0, 1, 100), (300, 1, 400), (600, 1, 395), (900, 1, 700)]);
    assert_eq!(rates(&history), [Some(1.0), None, Some(305.0 / 300.0)]);
    assert_eq!(
        history.exposure_since(1, 650),
        Some(Exposure {
            changes: 50,
            exact: true
        })
    );
}

proptest! {
    #[test]
    fn any_sequence_gives_bounded_finite_rates_that_add_up(
        steps in prop::collection::vec((-2000i64..4000, 0u64..2, -500i64..2000), 1..80)
    ) {
        let mut history = Samples::new(STEP);
        let (mut at, mut revision) = (1_000_000, 10_000);
        for (ahead, cluster, changes) in steps {
            at += ahead;
            revision += changes;
            history.take(sample(at, cluster, revision));
            let times: Vec<_> = history.iter().map(|sample| sample.at).collect();
            prop_assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert_eq!(history.newest(), Some(sample(at, cluster, revision)));
        }
        let series = history.series(STEP).unwrap();
        prop_assert!(series.end() <= history.newest().unwrap().at);
        let total: f64 = series.writes().iter().filter(|rate| rate.is_finite()).sum();
        let all: Vec<_> = history.iter().collect();
        let risen: i64 = all.windows(2).map(|p| (p[1].revision - p[0].revision).max(0)).sum();
        prop_assert!(series.writes().iter().all(|rate| rate.is_nan() || *rate >= 0.0));
        // A half-covered cell counts as a whole one, so at most twice the true sum.
        prop_assert!(total * f64::from(STEP) <= 2.0 * risen as f64 + 1e-6);
    }
}
