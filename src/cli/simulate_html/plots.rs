//! The report's plots: a week of decisions, every day of the trace, and all policies beside each other.

use std::fmt::Write as _;

use super::chart::{Frame, WIDTH, ceiling, escaped, number};
use super::words;
use crate::cli::simulate::{Played, word};
use crate::schedule::Policy;
use crate::schedule::decide::Source;
use crate::schedule::history::{instant_of, seconds_of};
use crate::schedule::shadow;
use crate::schedule::simulate::report::{Stage, Trace};
use crate::schedule::simulate::run::PolicyName;

const DAY: f64 = 86_400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 12.0;

/// What the plots of one trace are drawn from; a value a cell, all equally long.
pub struct Drawing<'a> {
    policy: &'a Policy,
    us: &'a Played,
    start: f64,
    step: f64,
    period_cells: usize,
    rates: Vec<f64>,
    /// Changes at risk at the end of each cell.
    exposure: Vec<f64>,
    /// The same under the cron, averaged over its phases.
    cron: Vec<f64>,
    /// The changes of a cron period that are worth a backup.
    budget: Vec<f64>,
}

impl<'a> Drawing<'a> {
    /// Computes the curves.
    pub fn new(policy: &'a Policy, trace: &Trace, us: &'a Played) -> Self {
        let stage = Stage::new(trace, policy);
        let rates = stage.rates().to_vec();
        let step = f64::from(trace.series.step_seconds());
        let period = policy.period_seconds();
        let period_cells = ((period / step).round() as usize).max(1);
        let cron = (1..=rates.len())
            .map(|now| {
                let mut sum = 0.0;
                shadow::phases(&rates, now, period_cells, step, |changes, count| {
                    sum += changes * count as f64;
                });
                sum / period_cells as f64
            })
            .collect();
        let budget = |area: f64| 2.0 * area / period;
        Self {
            policy,
            us,
            start: seconds_of(trace.series.start()),
            step,
            period_cells,
            exposure: stage.exposure(&us.run),
            cron,
            budget: us.run.ticks.iter().map(|t| budget(t.area_budget)).collect(),
            rates,
        }
    }

    fn time(&self, cell: usize) -> f64 {
        self.start + cell as f64 * self.step
    }

    /// The last week: change rate, both schedules, exposure against the budget.
    pub fn week(&self) -> String {
        let cells = self.rates.len();
        let first = cells.saturating_sub((7.0 * DAY / self.step) as usize);
        let part = |values: &[f64]| values.get(first..).unwrap_or_default().to_vec();
        let (rates, exposure) = (part(&self.rates), part(&self.exposure));
        let (cron, budget) = (part(&self.cron), part(&self.budget));
        let highest = |lists: &[&[f64]]| {
            lists
                .iter()
                .flat_map(|l| l.iter())
                .copied()
                .fold(0.0, f64::max)
        };
        let (from, to) = (self.time(first), self.time(cells));
        let frame = |upper: f64, lower: f64, top: f64| Frame {
            left: LEFT,
            right: RIGHT,
            upper,
            lower,
            from,
            to,
            top,
        };
        let upper = frame(26.0, 170.0, ceiling(highest(&[&rates])));
        let lower = frame(290.0, 440.0, ceiling(highest(&[&exposure, &cron, &budget])));
        let mut svg = opened(
            462.0,
            "The last week: the change rate, the backups of the cron and of EtcdGuardian, and the changes at risk",
        );
        title(&mut svg, 14.0, "changes a second");
        upper.values(&mut svg, "");
        upper.days(&mut svg);
        upper.area(&mut svg, "rate", &rates);
        self.lanes(&mut svg, &upper, first);
        title(&mut svg, 278.0, "changes at risk");
        lower.values(&mut svg, "");
        lower.days(&mut svg);
        lower.area(&mut svg, "risk", &exposure);
        lower.line(&mut svg, "cron", &cron);
        lower.line(&mut svg, "budget", &budget);
        svg + "</svg>"
    }

    /// The backups of both between the two halves of the week's plot.
    fn lanes(&self, svg: &mut String, frame: &Frame, first: usize) {
        let (cron_y, own_y) = (206.0, 234.0);
        for (y, name) in [(cron_y, "cron"), (own_y, "ours")] {
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
                 <line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y}\" y2=\"{y}\"/>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        let mut mark = |at: f64, y: f64, class: &str, words: &str| {
            let x = frame.x(at);
            let _ = write!(
                svg,
                "<line class=\"mark {class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"><title>{}</title></line>",
                y - 9.0,
                y + 9.0,
                escaped(words)
            );
        };
        let mut slot = instant_of(frame.from - 1.0);
        // No more slots than cells: a cron faster than the samples would only paint a bar.
        for _ in first..self.rates.len() {
            match self.policy.cron.next_after(slot) {
                Some(next) if seconds_of(next) < frame.to => slot = next,
                _ => break,
            }
            mark(
                seconds_of(slot),
                cron_y,
                "slot",
                &format!("cron, {}", slot.strftime("%a %H:%M")),
            );
        }
        for backup in self.us.run.backups.iter().filter(|b| b.cell >= first) {
            let source = word(&backup.source);
            let words = format!(
                "{}: {source}, {}",
                backup.at.strftime("%a %H:%M"),
                word(&backup.reason)
            );
            mark(self.time(backup.cell), own_y, &source, &words);
        }
    }

    /// Backups and mean exposure of every whole day.
    pub fn days(&self) -> String {
        let width = ((DAY / self.step).round() as usize).max(1);
        let days = self.rates.len() / width;
        let mut backups = vec![0.0f64; days];
        for backup in &self.us.run.backups {
            if let Some(count) = backups.get_mut(backup.cell / width) {
                *count += 1.0;
            }
        }
        let daily = |values: &[f64]| -> Vec<f64> {
            values
                .chunks_exact(width)
                .map(|day| day.iter().sum::<f64>() / width as f64)
                .collect()
        };
        let (own, cron) = (daily(&self.exposure), daily(&self.cron));
        let cron_backups = width as f64 / self.period_cells as f64;
        let highest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let frame = |upper: f64, lower: f64, top: f64| Frame {
            left: LEFT,
            right: RIGHT,
            upper,
            lower,
            from: self.start,
            to: self.time(days * width),
            top,
        };
        let upper = frame(26.0, 150.0, ceiling(highest(&backups).max(cron_backups)));
        let lower = frame(206.0, 330.0, ceiling(highest(&own).max(highest(&cron))));
        let mut svg = opened(
            352.0,
            "Every day of the trace: backups, and the mean of the changes at risk",
        );
        title(&mut svg, 14.0, "backups a day");
        upper.values(&mut svg, "");
        let wide = (RIGHT - LEFT) / days.max(1) as f64;
        for (day, count) in backups.iter().enumerate() {
            let _ = write!(
                svg,
                "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}: {count} backups</title></rect>",
                LEFT + wide * (day as f64 + 0.12),
                upper.y(*count),
                wide * 0.76,
                upper.lower - upper.y(*count),
                instant_of(self.time(day * width)).strftime("%a %-d %b")
            );
        }
        let y = upper.y(cron_backups);
        let _ = write!(
            svg,
            "<line class=\"cron\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        );
        title(&mut svg, 194.0, "changes at risk, mean of the day");
        lower.values(&mut svg, "");
        lower.days(&mut svg);
        // A line through the middles of the days.
        let inner = Frame {
            left: LEFT + 0.5 * wide,
            right: RIGHT - 0.5 * wide,
            ..lower
        };
        inner.line(&mut svg, "cron", &cron);
        inner.line(&mut svg, "own", &own);
        svg + "</svg>"
    }
}

/// Every policy of a trace by its backups and its mean exposure, both in percent of the cron's.
pub fn policies(done: &[&Played]) -> String {
    let place = |played: &Played| {
        (
            100.0 * played.result.mean_exposure_ratio,
            100.0 - played.result.saved_percent,
        )
    };
    let most = |axis: fn((f64, f64)) -> f64| {
        let highest = done.iter().map(|p| axis(place(p))).fold(110.0, f64::max);
        ceiling(highest * 1.04)
    };
    let frame = Frame {
        left: LEFT,
        right: RIGHT,
        upper: 26.0,
        lower: 330.0,
        from: 0.0,
        to: most(|(risk, _)| risk),
        top: most(|(_, backups)| backups),
    };
    let mut svg = opened(
        374.0,
        "All policies: backups against mean exposure, in percent of the cron's",
    );
    title(&mut svg, 14.0, "backups, % of the cron's");
    frame.values(&mut svg, "");
    let mut risk = 0.0;
    while risk <= frame.to {
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"346\" text-anchor=\"middle\">{}</text>",
            frame.x(risk),
            number(risk)
        );
        risk += 25.0;
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"{RIGHT}\" y=\"364\" text-anchor=\"end\">changes at risk on average, % of the cron's</text>"
    );
    // The cron with another period: twice the period is half the backups at twice the exposure.
    let mut curve = String::new();
    for risk in (0..=200)
        .map(|part| 100.0 * frame.to / frame.top / 2.0 + f64::from(part) * frame.to / 200.0)
    {
        let backups = 10_000.0 / risk;
        if risk <= frame.to && backups <= frame.top {
            let letter = if curve.is_empty() { 'M' } else { 'L' };
            let _ = write!(
                curve,
                "{letter}{:.1} {:.1}",
                frame.x(risk),
                frame.y(backups)
            );
        }
    }
    let _ = write!(svg, "<path class=\"cron\" d=\"{curve}\"/>");
    // Names stand in one column beside the dots, from the top down, so that none covers another.
    let mut order: Vec<&&Played> = done.iter().collect();
    order.sort_by(|a, b| place(b).1.total_cmp(&place(a).1));
    let rightmost = done
        .iter()
        .map(|p| frame.x(place(p).0))
        .fold(LEFT, f64::max);
    let column = (rightmost + 28.0).min(RIGHT - 200.0);
    let mut lowest = 0.0;
    for played in order {
        let (risk, backups) = place(played);
        let (x, y) = (frame.x(risk), frame.y(backups));
        let name = words::policy_name(played.result.policy).0;
        let class = match played.result.policy {
            PolicyName::Fixed => "cronpoint",
            PolicyName::Threshold | PolicyName::Area | PolicyName::Oracle => "hindsight",
            PolicyName::Reactive | PolicyName::Model | PolicyName::Auto => "deployed",
        };
        let label = (y + 4.0).max(lowest + 15.0);
        lowest = label;
        let _ = write!(
            svg,
            "<line class=\"lead\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>\
             <circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>\
             <text class=\"name\" x=\"{column:.1}\" y=\"{label:.1}\">{name}</text>",
            column - 3.0,
            label - 4.0
        );
    }
    svg + "</svg>"
}

fn opened(height: f64, words: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escaped(words)
    )
}

fn title(svg: &mut String, y: f64, words: &str) {
    let _ = write!(
        svg,
        "<text class=\"axis\" x=\"{LEFT}\" y=\"{y}\">{words}</text>"
    );
}

/// The key of the lanes' colours.
pub const SOURCES: [(Source, &str); 4] = [
    (Source::Model, Source::Model.name()),
    (Source::Reactive, Source::Reactive.name()),
    (Source::Guard, Source::Guard.name()),
    (Source::Fallback, Source::Fallback.name()),
];
