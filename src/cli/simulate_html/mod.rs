//! `schedule simulate -o html`: one self-contained page, "your history under the cron and under EtcdGuardian", to hand to a
//! sceptical colleague. It says what the JSON says, in words and plots, with what speaks against it.

use std::fmt::Write as _;

use crate::cli::simulate::Played;
use crate::schedule::Policy;
use crate::schedule::history::{instant_of, seconds_of};
use crate::schedule::simulate::facts::Facts;
use crate::schedule::simulate::report::{Report, Trace, TraceResult};
use crate::schedule::simulate::run::PolicyName;

mod chart;
mod plots;
mod words;

use chart::{escaped, number};

const STYLE: &str = include_str!("style.css");
const DAY: f64 = 86_400.0;

/// Everything that the page shows.
pub struct Page<'a> {
    /// The cron, the bounds and the target.
    pub policy: &'a Policy,
    /// The traces.
    pub traces: &'a [Trace],
    /// What each is like, in the same order.
    pub facts: &'a [Facts],
    /// Every policy on every trace.
    pub done: &'a [Played],
    /// Whether the forecasts were spoiled on purpose.
    pub spoiled: bool,
}

impl Page<'_> {
    /// The document.
    pub fn render(&self) -> String {
        let mut main = String::new();
        let means = Report::new(
            self.done
                .iter()
                .map(|played| played.result.clone())
                .collect(),
        );
        if self.traces.len() > 1 {
            self.means(&mut main, &means);
        }
        for (index, trace) in self.traces.iter().enumerate() {
            self.trace(&mut main, index, trace);
        }
        main.push_str("<section class=\"card\"><h2>Before you believe it</h2><ul>");
        for line in words::caveats(self) {
            let _ = write!(main, "<li>{}</li>", escaped(&line));
        }
        main.push_str("</ul></section>");
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\
             <title>Under the cron and under EtcdGuardian</title><style>{STYLE}</style></head>\n<body>\
             <header><h1>{}</h1><p class=\"lead\">{}</p></header>\n<main>{main}</main>\n<footer><p>{}</p></footer></body></html>\n",
            self.heading(),
            escaped(&self.lead()),
            escaped(&self.settings()),
        )
    }

    fn heading(&self) -> String {
        let what = match self.traces {
            [only] => format!("{:.0} days", self.days(only)),
            many => format!("{} clusters", many.len()),
        };
        format!("{what} of backups, under the cron and under EtcdGuardian")
    }

    fn days(&self, trace: &Trace) -> f64 {
        trace.series.len() as f64 * f64::from(trace.series.step_seconds()) / DAY
    }

    fn lead(&self) -> String {
        format!(
            "A recorded history, replayed twice: backups at the times of the cron {}, and at the times that EtcdGuardian would have \
             chosen, between {} and {} apart. What counts is how many backups it takes, and how much would have been lost.",
            self.cron(),
            words::span(self.policy.min_seconds()),
            words::span(self.policy.max_seconds())
        )
    }

    /// The cron and its zone, without the marks of a terminal.
    fn cron(&self) -> String {
        self.policy.cron.describe().replace('`', "")
    }

    fn settings(&self) -> String {
        format!(
            "etcdguardian {}, schedule simulate: cron {}, min {}, max {}, exposure target {} % of the cron's, planned {}. \
             Times in the plots are UTC. The same numbers for programs: -o json.",
            env!("CARGO_PKG_VERSION"),
            self.cron(),
            words::span(self.policy.min_seconds()),
            words::span(self.policy.max_seconds()),
            self.policy.exposure_target_percent,
            if self.policy.replan {
                "anew at every tick"
            } else {
                "once a backup"
            },
        )
    }

    /// The policy that stands for us: as deployed, if it was asked for.
    fn ours(&self, trace: usize) -> Option<&Played> {
        [PolicyName::Auto, PolicyName::Model, PolicyName::Reactive]
            .into_iter()
            .find_map(|name| {
                self.done
                    .iter()
                    .find(|played| played.trace == trace && played.result.policy == name)
            })
    }

    fn trace(&self, out: &mut String, index: usize, trace: &Trace) {
        let done: Vec<&Played> = self.done.iter().filter(|p| p.trace == index).collect();
        let _ = write!(
            out,
            "<section class=\"card\"><h2>{}</h2>",
            escaped(&trace.name)
        );
        let ours = self.ours(index).zip(self.facts.get(index));
        if let Some((us, facts)) = ours {
            let tone = match &us.result {
                result if result.mean_exposure_ratio > self.policy.target_ratio() + 0.02 => "bad",
                result if result.saved_percent >= 1.0 => "good",
                _ => "",
            };
            let _ = write!(
                out,
                "<p class=\"outcome {tone}\">{}.</p>",
                capital(&words::headline(&us.result))
            );
            let end = seconds_of(trace.series.end());
            let span = (
                instant_of(end - us.result.days * DAY),
                instant_of(end - 1.0),
            );
            for line in words::outcome(&us.result, &us.run, facts, self.policy, span) {
                let _ = write!(out, "<p>{}</p>", escaped(&line));
            }
        }
        out.push_str("<h3>Policy by policy</h3>");
        self.table(out, &done, ours.map(|(us, _)| us.result.policy));
        if let Some((us, _)) = ours {
            self.figures(out, trace, us);
        }
        figure(
            out,
            "All policies",
            &plots::policies(&done),
            "To the left is less at risk, below is fewer backups. The line is the cron with any other period: what lies below it is \
             better than every cron. Hollow dots are fitted in hindsight.",
        );
        out.push_str("</section>");
    }

    fn figures(&self, out: &mut String, trace: &Trace, us: &Played) {
        let drawing = plots::Drawing::new(self.policy, trace, us);
        let mut key = String::from("<span class=\"key slot\"></span>the cron");
        for (source, words) in plots::SOURCES {
            let _ = write!(key, "<span class=\"key {source:?}\"></span>{words}");
        }
        figure(
            out,
            "The last week",
            &drawing.week(),
            &format!(
                "Above: how fast etcd changes. Between: when each backs up, coloured by what decided:{key}. Below: the changes that a \
                 disaster would lose at each moment, under EtcdGuardian (filled) and under the cron (line, averaged over its \
                 phases); dashed: the changes of a cron period that it holds to be worth a backup."
            ),
        );
        figure(
            out,
            "Day by day",
            &drawing.days(),
            "Bars: backups under EtcdGuardian; the line is the cron's number. Below: the mean of the changes at risk, under \
             EtcdGuardian (heavy) and under the cron (light).",
        );
    }

    fn table(&self, out: &mut String, done: &[&Played], us: Option<PolicyName>) {
        let days = done.first().map_or(0.0, |played| played.result.days);
        let _ = write!(
            out,
            "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">in {} days; exposure in % of the cron's</th>",
            number(days)
        );
        for head in [
            "backups",
            "fewer than the cron",
            "mean at risk",
            "99th percentile at risk",
            "most at risk",
            "worst week, mean",
            "longest gap",
            "decided by the model",
            "fewer, from week 3",
        ] {
            let _ = write!(out, "<th scope=\"col\">{head}</th>");
        }
        out.push_str("</tr></thead><tbody>");
        for played in done {
            row(out, &played.result, us == Some(played.result.policy));
        }
        out.push_str("</tbody></table></div>");
    }

    fn means(&self, out: &mut String, report: &Report) {
        let _ = write!(
            out,
            "<section class=\"card\"><h2>Over all {} traces</h2><div class=\"scroll\"><table id=\"means\"><thead><tr>\
             <th scope=\"col\">means over the traces; exposure in % of the cron's</th><th scope=\"col\">fewer than the cron</th>\
             <th scope=\"col\">mean at risk</th><th scope=\"col\">99th percentile at risk</th><th scope=\"col\">smallest saving of a trace</th>\
             <th scope=\"col\">highest mean at risk of a trace</th></tr></thead><tbody>",
            self.traces.len()
        );
        for (policy, mean) in &report.means {
            let (name, what) = words::policy_name(*policy);
            let _ = write!(
                out,
                "<tr{}><th scope=\"row\">{name}<small>{what}</small></th>",
                if *policy == PolicyName::Auto {
                    " class=\"us\""
                } else {
                    ""
                }
            );
            percent(out, mean.saved_percent, 1.0);
            percent(out, mean.mean_exposure_ratio, 100.0);
            percent(out, mean.p99_exposure_ratio, 100.0);
            percent(out, mean.worst_saved_percent, 1.0);
            percent(out, mean.worst_mean_exposure_ratio, 100.0);
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div></section>");
    }
}

fn row(out: &mut String, result: &TraceResult, us: bool) {
    let (name, what) = words::policy_name(result.policy);
    let _ = write!(
        out,
        "<tr{}><th scope=\"row\">{name}<small>{what}</small></th><td><data value=\"{}\">{}</data></td>",
        if us { " class=\"us\"" } else { "" },
        result.backups,
        number(result.backups as f64)
    );
    percent(out, result.saved_percent, 1.0);
    percent(out, result.mean_exposure_ratio, 100.0);
    percent(out, result.p99_exposure_ratio, 100.0);
    percent(out, result.max_exposure_ratio, 100.0);
    percent(out, result.worst_week_ratio, 100.0);
    let gap = result.max_gap_seconds;
    let _ = write!(
        out,
        "<td><data value=\"{gap}\">{}</data></td>",
        words::span(gap as f64)
    );
    percent(out, result.model_share, 100.0);
    match result.steady {
        Some(steady) => percent(out, steady.saved_percent, 1.0),
        None => out.push_str("<td>–</td>"),
    }
    out.push_str("</tr>");
}

/// A cell with the value as the JSON has it, shown as percent.
fn percent(out: &mut String, value: f64, factor: f64) {
    let shown = factor * value;
    let digits = usize::from(factor < 2.0);
    // What rounds to nothing has no sign.
    let shown = if shown.abs() < 0.05 { 0.0 } else { shown };
    let _ = write!(
        out,
        "<td><data value=\"{value}\">{shown:.digits$} %</data></td>"
    );
}

fn figure(out: &mut String, title: &str, svg: &str, caption: &str) {
    let _ = write!(
        out,
        "<h3>{title}</h3><figure>{svg}<figcaption>{caption}</figcaption></figure>"
    );
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
