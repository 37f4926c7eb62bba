//! What the report says in sentences: the outcome of a trace, and what to bear in mind when reading it.

use jiff::{SignedDuration, Timestamp};

use super::Page;
use crate::cli::output;
use crate::schedule::Policy;
use crate::schedule::decide::Source;
use crate::schedule::simulate::facts::Facts;
use crate::schedule::simulate::report::TraceResult;
use crate::schedule::simulate::run::{PolicyName, Run};

const DAY: f64 = 86_400.0;
/// A difference of less than this, percent, is none.
const SAME: f64 = 0.5;

/// A policy's name for people, and what it is.
pub fn policy_name(policy: PolicyName) -> (&'static str, &'static str) {
    match policy {
        PolicyName::Fixed => ("The cron", "its period, always"),
        PolicyName::Threshold => (
            "After so many changes",
            "the number is fitted in hindsight, so this is flattered",
        ),
        PolicyName::Area => (
            "After so much exposure × time",
            "fitted in hindsight, so this is flattered",
        ),
        PolicyName::Reactive => (
            "EtcdGuardian, no forecast",
            "the recent rate only; knew nothing in advance",
        ),
        PolicyName::Model => (
            "EtcdGuardian, forecast always",
            "whether it pays or not; knew nothing in advance",
        ),
        PolicyName::Auto => ("EtcdGuardian", "as it is deployed; knew nothing in advance"),
        PolicyName::Oracle => (
            "The best in hindsight",
            "what nobody can reach without knowing the future",
        ),
    }
}

/// How long people say a duration is: `2h`, `5h 30m`.
pub fn span(seconds: f64) -> String {
    let text = output::span(SignedDuration::from_secs(seconds.round() as i64));
    text.strip_suffix(" 0m")
        .or(text.strip_suffix(" 0s"))
        .or(text.strip_suffix(" 0h"))
        .unwrap_or(&text)
        .to_owned()
}

/// The backups that the cron takes in the days scored.
pub fn cron_backups(result: &TraceResult, policy: &Policy) -> f64 {
    result.days * DAY / policy.period_seconds()
}

/// The heading of a trace: the outcome in one line.
pub fn headline(result: &TraceResult) -> String {
    let saved = result.saved_percent;
    let risk = result.mean_exposure_ratio;
    let backups = if saved.abs() < SAME {
        "as many backups as the cron".to_owned()
    } else {
        format!(
            "{:.0} % {} backups than the cron",
            saved.abs(),
            if saved > 0.0 { "fewer" } else { "more" }
        )
    };
    let exposure = match 100.0 * (risk - 1.0) {
        more if more > 2.0 => format!("with {more:.0} % more at risk on average"),
        less if less < -2.0 => format!("with {:.0} % less at risk on average", -less),
        _ => "with as much at risk on average".to_owned(),
    };
    format!("{backups}, {exposure}")
}

/// The outcome of a trace, sentence by sentence.
pub fn outcome(
    result: &TraceResult,
    run: &Run,
    facts: &Facts,
    policy: &Policy,
    (from, to): (Timestamp, Timestamp),
) -> Vec<String> {
    let cron = cron_backups(result, policy);
    let difference = match result.saved_percent {
        saved if saved.abs() < SAME => "about as many".to_owned(),
        saved if saved > 0.0 => format!("{saved:.1} % fewer"),
        saved => format!("{:.1} % more", -saved),
    };
    let mut lines = vec![
        format!(
            "From {} to {} ({:.0} days; the first day of a trace is not counted), the cron would have taken {cron:.0} backups, \
             one every {}. EtcdGuardian would have taken {}: {difference}.",
            from.strftime("%-d %B %Y"),
            to.strftime("%-d %B %Y"),
            result.days,
            span(policy.period_seconds()),
            result.backups,
        ),
        format!(
            "Had etcd died at a random moment, {:.0} % of the changes that the cron would lose would have been lost on average. \
             In the worst hundredth of the time it is {:.0} % of what the cron loses in its worst hundredth.",
            100.0 * result.mean_exposure_ratio,
            100.0 * result.p99_exposure_ratio
        ),
        format!(
            "The longest time between two backups was {} (allowed: {} to {}).",
            span(result.max_gap_seconds as f64),
            span(policy.min_seconds()),
            span(policy.max_seconds())
        ),
    ];
    let target = policy.target_ratio();
    if result.mean_exposure_ratio > target + 0.02 {
        lines.push(format!(
            "That is more at risk than was allowed ({:.0} % of the cron's): part of the saving is bought with exposure.",
            100.0 * target
        ));
    }
    if let (Some(potential), Some(predicted)) = (facts.potential, facts.predicted_percent) {
        lines.push(format!(
            "How much can be saved is a property of the cluster: the unevenness of its changes, V = {potential:.2}, lets one expect \
             about {predicted:.0} %. A cluster that changes evenly has V = 0, and nothing to save."
        ));
    }
    lines.push(deciders(run));
    lines
}

fn deciders(run: &Run) -> String {
    let count = |source: Source| run.backups.iter().filter(|b| b.source == source).count();
    let parts: Vec<String> = Source::ALL
        .into_iter()
        .filter(|source| count(*source) > 0)
        .map(|source| format!("{} by {}", count(source), source.name()))
        .collect();
    format!(
        "What decided its backups, the first day's included: {}. A fixed rule is one that no model can move, as maxInterval is.",
        parts.join("; ")
    )
}

/// What a sceptical reader should know, the serious first.
pub fn caveats(page: &Page<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if page.spoiled {
        lines.push(
            "The forecast was spoiled on purpose in this run (--spoil-forecast): it shows what the bounds are worth, not what to expect."
                .to_owned(),
        );
    }
    lines.push(
        "This is a replay of recorded change rates through the code that runs live, in the same order, tick by tick. The deployed \
         policies knew nothing in advance; those said to be fitted in hindsight did, and are here for comparison."
            .to_owned(),
    );
    lines.push(
        "In a replay each backup succeeds at once. Real ones take time and can fail; the live loop then carries the exposure on and \
         tries again."
            .to_owned(),
    );
    if page.facts.iter().any(|facts| facts.signal == "all") {
        lines.push(
            "A trace without the column significant_writes_per_s counts every write, renewals of leases and events included. Those \
             drown the changes that matter: expect a smaller saving here than with a better signal."
                .to_owned(),
        );
    }
    for facts in page.facts.iter().filter(|facts| facts.known_percent < 99.0) {
        lines.push(format!(
            "{:.0} % of {} has no samples. Those gaps are bridged by what lies on either side, for the cron and for us alike.",
            100.0 - facts.known_percent,
            facts.trace
        ));
    }
    if page.facts.iter().any(|facts| facts.days < 21.0) {
        lines.push(
            "A trace of less than three weeks is short: the first fourteen days are spent learning, and the rest is little to judge by."
                .to_owned(),
        );
    }
    lines.push(
        "Every change counts the same, and a disaster is taken to be as likely at any moment. Where changes cause the disasters, or one \
         change matters more than a thousand, mean exposure is the wrong measure: set maxUnprotectedWrites."
            .to_owned(),
    );
    lines.push(
        "The cron's exposure is averaged over the times at which it could start; a certain cron may be luckier or unluckier with this trace."
            .to_owned(),
    );
    lines.push(
        "Fewer full backups save store requests, load on etcd and bytes, but not the same share of each. The past month promises nothing \
         for the next; the live schedule keeps this comparison up to date in its status."
            .to_owned(),
    );
    lines
}
