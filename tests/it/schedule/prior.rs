//! The prior that a schedule may begin with (`models/prior.json`): what it was fitted on, and what it is worth on the first days of
//! clusters that it never saw.

use etcdguardian::schedule::State;
use etcdguardian::schedule::advance::advance;
use etcdguardian::schedule::backtest::Archive;
use etcdguardian::schedule::history::{History, instant_of};
use etcdguardian::schedule::model::Model;
use etcdguardian::schedule::score;

use super::cli::short;
use super::{DAY, development_names, policy, series, write_csv};
use crate::support::clusters::REPORTED;
use crate::support::traces::UNSEEN;
use crate::support::{guardian, repository};

fn shipped() -> Model {
    let text = std::fs::read_to_string(repository("models/prior.json")).unwrap();
    Model::from_json(&text).unwrap()
}

#[test]
fn it_is_the_fit_of_four_weeks_of_the_development_traces() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("prior.json").display().to_string();
    let files: Vec<String> = development_names()
        .iter()
        .map(|name| write_csv(folder.path(), name, &short(name, 28)))
        .collect();
    let mut words = vec!["model", "fit", "--prior", "--out", &out, "--traces"];
    words.extend(files.iter().map(String::as_str));
    let said = guardian(&words).ok();
    assert!(
        said.contains("multiples of its cluster's mean rate"),
        "{said}"
    );

    let fitted = Model::from_json(&std::fs::read_to_string(&out).unwrap()).unwrap();
    let shipped = shipped();
    assert_eq!(fitted.id, shipped.id);
    assert!(shipped.relative);
    for (one, other) in fitted.horizons.iter().zip(&shipped.horizons) {
        for (one, other) in one.coefficients.iter().zip(&other.coefficients) {
            assert!((one - other).abs() < 1e-6, "{one} {other}");
        }
    }
    let shown = guardian(&[
        "model",
        "show",
        &repository("models/prior.json").display().to_string(),
    ]);
    assert!(shown.ok().contains(&shipped.id));
}

#[test]
fn it_serves_clusters_that_it_never_saw_from_their_first_hours_on() {
    let prior = shipped();
    let mut errors = [[0.0; 2]; 2];
    let families: Vec<_> = UNSEEN.iter().chain(&REPORTED).collect();
    for family in &families {
        let rates = family.history(5, 3);
        let history = History::new(&series(rates.iter().copied()));
        let scores = score::score(&prior, &history, 72);
        for (sums, index) in errors.iter_mut().zip([0, 11]) {
            let at = scores[index];
            sums[0] += at.model / families.len() as f64;
            sums[1] += at.persistence / families.len() as f64;
        }
        // Whatever a cluster's rates are counted in.
        let larger = History::new(&series(rates.iter().map(|rate| 1024.0 * rate)));
        let (one, other) = (prior.forecast(&history, 500), prior.forecast(&larger, 500));
        for (one, other) in one.unwrap().rates.iter().zip(other.unwrap().rates) {
            assert!(
                (1024.0 * one - other).abs() <= 1e-9 * other,
                "{one} {other}"
            );
        }
    }
    eprintln!(
        "Σ|forecast − seen| / Σ seen, of the prior and of persistence, at 30 min and 6 h: {errors:.3?}"
    );
    let [near, far] = errors;
    assert!(near[0] < near[1] && far[0] < 0.9 * far[1], "{errors:?}");
}

#[test]
fn a_schedule_begins_with_it_and_goes_on_with_its_own() {
    let policy = policy();
    let history = History::new(&series(UNSEEN[7].history(3, 4)));
    let mut state = State::new(instant_of(history.time_of(0)));
    state.adopt(shipped());
    let mut archive = Archive::default();
    for cell in 0..history.len() {
        let now = instant_of(history.time_of(cell));
        advance(&policy, &mut state, &history, &mut archive, now);
        let model = &state.model().unwrap().id;
        let own = cell >= 3 * DAY;
        assert_eq!(model.starts_with("ridge-"), own, "{cell} {model}");
        assert_eq!(state.outlook.is_some(), cell > 0, "{cell}");
    }
}
