//! The metrics in Prometheus' older text format, for who does not ask for OpenMetrics: curl, promtool, older scrapers.

use std::collections::HashSet;

/// The media type of what [`plain`] writes.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The media type of OpenMetrics, without its parameters.
pub const OPEN: &str = "application/openmetrics-text";

/// OpenMetrics text in the format 0.0.4: there a counter's family has the name of its series, and nothing is said of units,
/// exemplars and the end
/// (<https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md>).
pub fn plain(open: &str) -> String {
    let kind = |line: &'_ str| -> Option<(String, String)> {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    let counters: HashSet<String> = open
        .lines()
        .filter_map(kind)
        .filter(|(_, kind)| kind == "counter")
        .map(|(name, _)| name)
        .collect();
    let mut text = String::with_capacity(open.len());
    for line in open.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        match line.strip_prefix("# ").and_then(split_head) {
            Some((word, name, rest)) => {
                let suffix = if counters.contains(name) {
                    "_total"
                } else {
                    ""
                };
                text.push_str(&format!("# {word} {name}{suffix} {rest}"));
            }
            // Only a bucket has an exemplar.
            None => text.push_str(line.split(" # {").next().unwrap_or(line)),
        }
        text.push('\n');
    }
    text
}

/// `HELP name words` or `TYPE name kind`.
fn split_head(line: &str) -> Option<(&str, &str, &str)> {
    let (word, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    ["HELP", "TYPE"]
        .contains(&word)
        .then_some((word, name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_like_their_series_and_the_rest_stays() {
        let open = "# HELP g_size How large.\n# TYPE g_size gauge\n# UNIT g_size bytes\ng_size{a=\"b\"} 1.5\n\
            # HELP g_backup Backups.\n# TYPE g_backup counter\ng_backup_total{status=\"failed\"} 0\n\
            # HELP g_took Time.\n# TYPE g_took histogram\n\
            g_took_bucket{le=\"1.0\"} 1 # {trace_id=\"abc\"} 0.5 1.0\n# EOF\n";
        let wanted = "# HELP g_size How large.\n# TYPE g_size gauge\ng_size{a=\"b\"} 1.5\n\
            # HELP g_backup_total Backups.\n# TYPE g_backup_total counter\ng_backup_total{status=\"failed\"} 0\n\
            # HELP g_took Time.\n# TYPE g_took histogram\n\
            g_took_bucket{le=\"1.0\"} 1\n";
        assert_eq!(plain(open), wanted);
    }
}
