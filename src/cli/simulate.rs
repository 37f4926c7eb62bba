//! `schedule simulate`: recorded traces through the deployed scheduler, against the cron and the offline optimum.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::output::{self, Format};
use super::simulate_html::Page;
use super::{CliError, args::Global, simulate_csv};
use crate::api::{ErrorClass, HumanDuration};
use crate::cause::with_causes;
use crate::schedule::simulate::facts::Facts;
use crate::schedule::simulate::report::{Report, Stage, Trace, TraceResult};
use crate::schedule::simulate::run::{PolicyName, Run};
use crate::schedule::simulate::spoil::Spoiled;
use crate::schedule::{Cron, Policy};
use crate::signals::trace;

/// Replay recorded traces: what each policy would have done.
#[derive(Debug, Args)]
pub struct Simulate {
    /// Trace files: CSV with timestamp, writes_per_s, db_size_bytes and, if known, load, significant_writes_per_s.
    #[arg(long, required = true, num_args = 1.., value_name = "CSV")]
    traces: Vec<PathBuf>,
    #[command(flatten)]
    bounds: BoundFlags,
    /// The mean exposure allowed, percent of the cron's.
    #[arg(
        long,
        visible_alias = "exposure-target",
        default_value_t = 100,
        value_name = "PERCENT"
    )]
    budget: u32,
    /// Plan each interval once, at the backup before it.
    #[arg(long)]
    no_replan: bool,
    /// Which policies; repeat for more [default: all].
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1.., value_name = "POLICY")]
    policy: Vec<PolicyFlag>,
    /// Write every backup of the deployed policies: trace, policy, timestamp, source, reason.
    #[arg(long, value_name = "CSV")]
    decisions: Option<PathBuf>,
    /// Write every tick of every policy: rate, exposure, and what the deployed ones weighed.
    #[arg(long, value_name = "CSV")]
    ticks: Option<PathBuf>,
    /// Spoil every forecast on purpose, to see that the bounds hold whatever a model says.
    #[arg(long, value_enum, value_name = "HOW")]
    spoil_forecast: Option<SpoilFlag>,
}

/// A spoiled forecast as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SpoilFlag {
    /// A tenth of what it should be.
    Tenth,
    /// Ten times what it should be.
    Tenfold,
    /// Twelve hours late.
    Late,
    /// The same number always.
    Constant,
    /// Wrong by a factor of 4.5 as a rule, both ways.
    Noisy,
    /// Nothing and a billion changes a second in turn.
    Hostile,
}

impl From<SpoilFlag> for Spoiled {
    fn from(flag: SpoilFlag) -> Self {
        match flag {
            SpoilFlag::Tenth => Self::TenthOf,
            SpoilFlag::Tenfold => Self::TenTimes,
            SpoilFlag::Late => Self::HalfDayLate,
            SpoilFlag::Constant => Self::Constant,
            SpoilFlag::Noisy => Self::Noisy,
            SpoilFlag::Hostile => Self::Hostile,
        }
    }
}

/// The cron and the bounds around it, where no resource names them.
#[derive(Debug, Args)]
pub(super) struct BoundFlags {
    /// The cron to beat.
    #[arg(long, default_value = "0 */2 * * *", value_name = "EXPRESSION")]
    cron: String,
    /// The time zone of the cron.
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    time_zone: String,
    /// The shortest interval.
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    min: HumanDuration,
    /// The longest interval.
    #[arg(long, default_value = "6h", value_name = "DURATION")]
    max: HumanDuration,
}

impl BoundFlags {
    /// The policy of these flags.
    pub(super) fn policy(&self) -> Result<Policy, CliError> {
        let cron = Cron::parse(&self.cron, &self.time_zone)
            .map_err(|error| CliError::from_error(ErrorClass::Usage, &error))?;
        Ok(Policy {
            min_interval: self.min.as_signed(),
            max_interval: self.max.as_signed(),
            ..Policy::with_defaults(cron)
        })
    }
}

/// A policy as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum PolicyFlag {
    /// The cron's period, always.
    #[value(alias = "cron")]
    Fixed,
    /// At so many changes; the number fitted in hindsight.
    Threshold,
    /// At so much exposure × time; fitted in hindsight.
    Area,
    /// As deployed, without a forecast.
    Reactive,
    /// As deployed, with the forecast always in force.
    Model,
    /// As deployed.
    Auto,
    /// The cheapest in hindsight.
    Oracle,
}

impl From<PolicyFlag> for PolicyName {
    fn from(flag: PolicyFlag) -> Self {
        match flag {
            PolicyFlag::Fixed => Self::Fixed,
            PolicyFlag::Threshold => Self::Threshold,
            PolicyFlag::Area => Self::Area,
            PolicyFlag::Reactive => Self::Reactive,
            PolicyFlag::Model => Self::Model,
            PolicyFlag::Auto => Self::Auto,
            PolicyFlag::Oracle => Self::Oracle,
        }
    }
}

impl Simulate {
    pub(super) fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let policy = self.checked_policy()?;
        let traces = self
            .traces
            .iter()
            .map(|path| read_trace(path))
            .collect::<Result<Vec<_>, _>>()?;
        let names = self.policy_names();
        let done = simulate(
            &traces,
            &names,
            &policy,
            self.spoil_forecast.map(Spoiled::from),
        );
        if let Some(path) = &self.decisions {
            write(path, simulate_csv::decisions(&traces, &done))?;
        }
        if let Some(path) = &self.ticks {
            write(path, simulate_csv::ticks(&traces, &done, &policy))?;
        }
        let facts: Vec<Facts> = traces
            .iter()
            .map(|trace| Facts::of(&trace.name, &trace.series, &policy))
            .collect();
        if global.output == Format::Html {
            let page = Page {
                policy: &policy,
                traces: &traces,
                facts: &facts,
                done: &done,
                spoiled: self.spoil_forecast.is_some(),
            };
            output::write_out(page.render().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let report = Report::new(done.into_iter().map(|played| played.result).collect());
        let printed = Printed {
            report,
            traces: facts,
        };
        output::print(global.output, &printed, |printed| table(&printed.report))?;
        Ok(ExitCode::SUCCESS)
    }

    fn checked_policy(&self) -> Result<Policy, CliError> {
        let policy = Policy {
            exposure_target_percent: self.budget,
            replan: !self.no_replan,
            ..self.bounds.policy()?
        };
        policy
            .validate()
            .map_err(|error| CliError::from_error(ErrorClass::Usage, &error))?;
        for advice in policy.advice() {
            output::say(format!("advice: {}", advice.message));
        }
        Ok(policy)
    }

    /// Each policy once, in the order of the help.
    fn policy_names(&self) -> Vec<PolicyName> {
        let all = PolicyFlag::value_variants();
        let wanted: BTreeSet<PolicyFlag> = if self.policy.is_empty() {
            all.iter().copied().collect()
        } else {
            self.policy.iter().copied().collect()
        };
        wanted.into_iter().map(PolicyName::from).collect()
    }
}

/// What is printed: the report, and what each trace is like.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    report: Report,
    traces: Vec<Facts>,
}

fn write(path: &Path, text: String) -> Result<(), CliError> {
    std::fs::write(path, text)
        .map_err(|error| CliError::from_error(ErrorClass::Failed, &error).about(path))
}

/// A trace under a policy, played and scored.
pub(super) struct Played {
    /// Which of the traces.
    pub trace: usize,
    /// What happened.
    pub run: Run,
    /// What it came to.
    pub result: TraceResult,
}

/// Plays every pair of a trace and a policy on all cores; the order of the results is that of the arguments.
fn simulate(
    traces: &[Trace],
    names: &[PolicyName],
    policy: &Policy,
    spoiled: Option<Spoiled>,
) -> Vec<Played> {
    let next = AtomicUsize::new(0);
    let pairs = traces.len() * names.len();
    let done: Mutex<Vec<(usize, Played)>> = Mutex::new(Vec::with_capacity(pairs));
    let work = || {
        loop {
            let pair = next.fetch_add(1, Ordering::Relaxed);
            let (Some(trace), Some(name)) = (
                traces.get(pair / names.len().max(1)),
                names.get(pair % names.len().max(1)),
            ) else {
                return;
            };
            let stage = Stage::new(trace, policy);
            let run = stage.run(*name, spoiled.map(Spoiled::predict));
            let result = stage.result(*name, &run);
            let played = Played {
                trace: pair / names.len(),
                run,
                result,
            };
            done.lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push((pair, played));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..cores.min(pairs) {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(pair, _)| *pair);
    done.into_iter().map(|(_, played)| played).collect()
}

/// Reads a trace file; it is named after the file.
pub(super) fn read_trace(path: &Path) -> Result<Trace, CliError> {
    let text = super::context::read_text(path)?;
    let series = trace::read(&text)
        .map_err(|error| CliError::new(ErrorClass::Usage, with_causes(&error)).about(path))?;
    let name = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(Trace {
        name,
        series,
        truth: None,
    })
}

/// The word that a plain enum has in JSON.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn table(report: &Report) -> String {
    let header = [
        "TRACE",
        "POLICY",
        "DAYS",
        "BACKUPS",
        "SAVED %",
        "MEAN",
        "P99",
        "MAX",
        "WORST WEEK",
        "MODEL %",
    ];
    let mut rows: Vec<Vec<String>> = report
        .results
        .iter()
        .map(|result| {
            vec![
                result.trace.clone(),
                word(&result.policy),
                format!("{:.1}", result.days),
                result.backups.to_string(),
                format!("{:.1}", result.saved_percent),
                format!("{:.2}", result.mean_exposure_ratio),
                format!("{:.2}", result.p99_exposure_ratio),
                format!("{:.2}", result.max_exposure_ratio),
                format!("{:.2}", result.worst_week_ratio),
                format!("{:.0}", 100.0 * result.model_share),
            ]
        })
        .collect();
    for (name, mean) in &report.means {
        rows.push(vec![
            "(mean)".to_owned(),
            word(name),
            String::new(),
            String::new(),
            format!("{:.1}", mean.saved_percent),
            format!("{:.2}", mean.mean_exposure_ratio),
            format!("{:.2}", mean.p99_exposure_ratio),
        ]);
    }
    output::table(&header, &rows)
}
