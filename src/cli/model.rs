//! `model fit|evaluate|show|export`: offline tuning of the forecast, with the functions that the loop uses.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::simulate::{BoundFlags, read_trace};
use super::{CliError, args::Global, output};
use crate::api::{ErrorClass, HumanDuration, PrometheusSource};
use crate::schedule::fit::{self, FitOptions};
use crate::schedule::history::History;
use crate::schedule::model::Model as Fitted;
use crate::schedule::prior;
use crate::schedule::score::{self, HorizonScore};
use crate::schedule::timescale::Timescale;
use crate::signals::series::Series;
use crate::signals::{PrometheusReader, Window, trace};

/// Fit, judge and show forecasts of the change rate offline.
#[derive(Debug, Args)]
pub struct Model {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fit a model on a recorded history.
    Fit(Fit),
    /// Score a model on traces, by distance, beside two plain forecasts.
    Evaluate(Evaluate),
    /// Show what a model file holds.
    Show(Show),
    /// Record a history from Prometheus as a trace.
    Export(Export),
}

#[derive(Debug, Args)]
struct Fit {
    /// Trace files: the history of one cluster, in one piece or several that follow each other.
    #[arg(long, required = true, num_args = 1.., value_name = "CSV")]
    traces: Vec<PathBuf>,
    /// Fit a prior: the traces are histories of several clusters, each counted in multiples of its mean rate, without the time of day.
    #[arg(long)]
    prior: bool,
    /// Where the model goes.
    #[arg(long, value_name = "JSON")]
    out: PathBuf,
    #[command(flatten)]
    bounds: BoundFlags,
}

#[derive(Debug, Args)]
struct Evaluate {
    /// The model file.
    #[arg(long, value_name = "JSON")]
    model: PathBuf,
    /// Trace files.
    #[arg(long, required = true, num_args = 1.., value_name = "CSV")]
    traces: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Show {
    /// The model file.
    model: PathBuf,
}

#[derive(Debug, Args)]
struct Export {
    /// The server's URL.
    #[arg(long, value_name = "URL")]
    prometheus: String,
    /// How far back.
    #[arg(long, default_value = "56d", value_name = "DURATION")]
    since: HumanDuration,
    /// The distance of the samples.
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    step: HumanDuration,
    /// PromQL for changes a second, in place of the built-in choice.
    #[arg(long, value_name = "PROMQL")]
    change_rate_query: Option<String>,
    /// Where the trace goes.
    #[arg(long, value_name = "CSV")]
    out: PathBuf,
}

/// A model's scores on a trace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TraceScore {
    trace: String,
    /// The first forecast: after the data that the model was trained on, where the trace goes on after it.
    from: Timestamp,
    horizons: Vec<HorizonScore>,
}

#[derive(Debug, Serialize)]
struct Scores {
    model: String,
    results: Vec<TraceScore>,
}

impl Model {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        match &self.verb {
            Verb::Fit(verb) => verb.run(global),
            Verb::Evaluate(verb) => verb.run(global),
            Verb::Show(verb) => show(global, &load(&verb.model)?),
            Verb::Export(verb) => verb.run().await,
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Fit {
    fn run(&self, global: &Global) -> Result<(), CliError> {
        let policy = self.bounds.policy()?;
        let mut parts = self
            .traces
            .iter()
            .map(|path| Ok(read_trace(path)?.series))
            .collect::<Result<Vec<Series>, CliError>>()?;
        parts.sort_by_key(Series::start);
        let step = parts.first().map_or(300, Series::step_seconds);
        let options = FitOptions::new(&Timescale::new(&policy, step.into(), step.into()));
        let model = if self.prior {
            prior::pooled(&parts, &options)
        } else {
            fit::fit(&joined(parts)?, &options)
        };
        let model = model.map_err(|error| CliError::from_error(ErrorClass::Refused, &error))?;
        let text = model
            .to_json()
            .map_err(|error| CliError::from_error(ErrorClass::Failed, &error))?;
        std::fs::write(&self.out, text + "\n")
            .map_err(|error| CliError::from(error).about(&self.out))?;
        show(global, &model)
    }
}

/// One series of parts in order of time. Coefficients are one cluster's own, so histories beside each other are refused; a prior takes them.
fn joined(parts: Vec<Series>) -> Result<Series, CliError> {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else {
        return Err(CliError::new(ErrorClass::Usage, "no trace was given"));
    };
    let step = first.step_seconds();
    let (mut end, mut points) = (first.end(), points_of(&first));
    for part in parts {
        if part.start() < end {
            return Err(CliError::new(
                ErrorClass::Usage,
                "the traces overlap in time, so they are not the history of one cluster in parts; fit a model for each",
            ));
        }
        end = part.end();
        points.extend(points_of(&part));
    }
    Series::from_points(step, points)
        .map_err(|error| CliError::from_error(ErrorClass::Usage, &error))
}

fn points_of(series: &Series) -> Vec<crate::signals::series::Point> {
    (0..series.len())
        .filter_map(|index| series.point(index))
        .collect()
}

impl Evaluate {
    fn run(&self, global: &Global) -> Result<(), CliError> {
        let model = load(&self.model)?;
        let mut results = Vec::new();
        for path in &self.traces {
            let trace = read_trace(path)?;
            let history = History::new(&trace.series);
            if (history.step() - model.step_seconds).abs() > 0.5 {
                return Err(CliError::new(
                    ErrorClass::Refused,
                    format!(
                        "its step is {} s, the model's {} s; fit a model on traces of this step",
                        history.step(),
                        model.step_seconds
                    ),
                )
                .about(path));
            }
            let from = score::first_unseen(&model, &history);
            results.push(TraceScore {
                trace: trace.name,
                from: crate::schedule::history::instant_of(history.time_of(from)),
                horizons: score::score(&model, &history, from),
            });
        }
        let scores = Scores {
            model: model.id,
            results,
        };
        output::print(global.output, &scores, scores_table)
    }
}

fn scores_table(scores: &Scores) -> String {
    let header = [
        "TRACE",
        "AHEAD",
        "FORECASTS",
        "WAPE",
        "PERSISTENCE",
        "PROFILE",
    ];
    let rows: Vec<Vec<String>> = scores
        .results
        .iter()
        .flat_map(|result| result.horizons.iter().map(move |score| (result, score)))
        .map(|(result, score)| {
            vec![
                result.trace.clone(),
                output::span(jiff::SignedDuration::from_secs(score.ahead_seconds as i64)),
                score.count.to_string(),
                format!("{:.2}", score.model),
                format!("{:.2}", score.persistence),
                format!("{:.2}", score.profile),
            ]
        })
        .collect();
    output::table(&header, &rows)
}

impl Export {
    async fn run(&self) -> Result<(), CliError> {
        let failed =
            |error: &dyn std::error::Error| CliError::from_error(ErrorClass::Failed, error);
        let source = PrometheusSource {
            url: Some(self.prometheus.clone()),
            change_rate_query: self.change_rate_query.clone(),
            ..PrometheusSource::default()
        };
        let reader = PrometheusReader::new(&source, None).map_err(|error| failed(&error))?;
        let step = u32::try_from(self.step.as_signed().as_secs()).unwrap_or(u32::MAX);
        let window = Window::before(Timestamp::now(), self.since.as_signed(), step);
        let (series, report) = reader.read(&window).await.map_err(|error| failed(&error))?;
        for warning in &report.warnings {
            output::say(format!("warning: {warning}"));
        }
        if report.samples == 0 {
            return Err(CliError::new(
                ErrorClass::NotFound,
                "Prometheus knows no change rate in this span; check --since and the scrape of etcd or the API server",
            ));
        }
        std::fs::write(&self.out, trace::write(&series))
            .map_err(|error| CliError::from(error).about(&self.out))?;
        output::say(format!(
            "{} samples, {} gaps: {}",
            report.samples, report.gaps, report.why
        ));
        Ok(())
    }
}

fn load(path: &std::path::Path) -> Result<Fitted, CliError> {
    let text = super::context::read_text(path)?;
    Fitted::from_json(&text)
        .map_err(|error| CliError::from_error(ErrorClass::Failed, &error).about(path))
}

fn show(global: &Global, model: &Fitted) -> Result<(), CliError> {
    output::print(global.output, model, |model| {
        output::fields(&[
            ("model", model.id.clone()),
            ("created", output::moment(model.created_at)),
            ("trained from", output::moment(model.trained_on.from)),
            ("trained to", output::moment(model.trained_on.to)),
            ("rows", model.trained_on.rows.to_string()),
            ("data digest", model.trained_on.digest.clone()),
            ("step", format!("{} s", model.step_seconds)),
            (
                "counts in",
                if model.relative {
                    "multiples of its cluster's mean rate"
                } else {
                    "changes a second"
                }
                .to_owned(),
            ),
            (
                "bins",
                format!("{} of {} s", model.horizons.len(), model.bin_seconds),
            ),
            ("features", model.features.join(", ")),
        ])
    })
}
