//! The questions asked of Prometheus: the defaults for etcd 3.4 to 3.7 and for the API server, and the user's own. Pure.

use std::collections::BTreeMap;

use crate::api::PrometheusSource;

/// Scrapes that a rate must see: two make a rate, four survive a lost one and a restart.
const SCRAPES_PER_RATE: f64 = 4.0;

/// Resources that are renewed or emitted all the time and whose loss no restore would notice, and reviews, which are
/// answered and not stored.
const NOISE: [&str; 9] = [
    "leases",
    "events",
    "endpoints",
    "endpointslices",
    "tokenreviews",
    "subjectaccessreviews",
    "selfsubjectaccessreviews",
    "localsubjectaccessreviews",
    "selfsubjectreviews",
];

/// Subresources whose requests store nothing, or what another request already counts.
const NOT_STORED: &str = "exec|attach|portforward|proxy|log|token|eviction|binding";

/// The weight of a status update, percent: a controller writes it again after a restore.
const STATUS_WEIGHT: i64 = 20;

/// A question with the name that errors give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) name: &'static str,
    pub(super) text: String,
}

/// Everything that one reading asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queries {
    pub(super) writes: Query,
    /// Absent when the user's own query says what counts.
    pub(super) significant: Option<Query>,
    pub(super) db_size: Query,
    pub(super) load: Query,
}

/// Counts scrapes, to learn how far apart they are. Whichever of the two sources is there answers.
pub(super) fn scrapes(span_seconds: u32) -> Query {
    Query {
        name: "scrape interval query",
        text: format!(
            "max(count_over_time(etcd_mvcc_put_total[{span_seconds}s])) or max(count_over_time(apiserver_request_total[{span_seconds}s]))"
        ),
    }
}

/// The range of every `rate(…)`, seconds: a step, so that no write is missed, and at least four scrapes. `scrape` is the
/// distance of two scrapes; a minute when unknown.
pub(super) fn rate_seconds(step_seconds: u32, scrape: Option<f64>) -> u32 {
    let scrape = scrape
        .filter(|seconds| seconds.is_finite())
        .unwrap_or(60.0)
        .clamp(1.0, 120.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 4..=480 above"
    )]
    let least = (SCRAPES_PER_RATE * scrape).ceil() as u32;
    step_seconds.max(least)
}

impl Queries {
    /// The questions for a source.
    pub(super) fn of(source: &PrometheusSource, step_seconds: u32, rate_seconds: u32) -> Self {
        let range = format!("{rate_seconds}s");
        let own = |text: &Option<String>| {
            let text = text
                .as_deref()
                .map(str::trim)
                .filter(|text| !text.is_empty())?;
            let text = text
                .replace("$__rate_interval", &range)
                .replace("$__interval", &format!("{step_seconds}s"));
            Some(text)
        };
        let custom = own(&source.change_rate_query);
        let significant = custom.is_none().then(|| Query {
            name: "API server query",
            text: api_server(&source.weights, &range),
        });
        Self {
            writes: Query {
                name: "changeRateQuery",
                text: custom.unwrap_or_else(|| etcd_writes(&range)),
            },
            significant,
            db_size: Query {
                name: "dbSizeQuery",
                text: own(&source.db_size_query).unwrap_or_else(|| etcd_size(&range)),
            },
            load: Query {
                name: "loadQuery",
                text: own(&source.load_query).unwrap_or_else(|| etcd_load(&range)),
            },
        }
    }
}

/// Every member counts every write, so the largest counts them once. Puts count alone where deletes are not kept. By job: two clusters in one Prometheus show as two
/// series, which is warned about.
fn etcd_writes(range: &str) -> String {
    format!(
        "max by (job) (rate(etcd_mvcc_put_total[{range}]) + (rate(etcd_mvcc_delete_total[{range}]) or 0 * rate(etcd_mvcc_put_total[{range}])))"
    )
}

/// The largest member. Over the range, as a lost scrape or a value that is no number would look like a shrunken database.
fn etcd_size(range: &str) -> String {
    format!("max(max_over_time(etcd_mvcc_db_total_size_in_bytes[{range}]))")
}

/// The slowest member's 99th percentile of log syncs, seconds.
fn etcd_load(range: &str) -> String {
    format!(
        "max(histogram_quantile(0.99, sum by (le, instance) (rate(etcd_disk_wal_fsync_duration_seconds_bucket[{range}]))))"
    )
}

/// Requests that changed something, summed with their weights. `weights` goes by resource, `resource/subresource` or
/// `*/subresource`, percent; what it does not name weighs 100, noise 0, a status 20.
///
/// The terms go from the most special to the most general. `or` keeps the left one of two equal label sets, so each
/// request counts in the first term that it fits; a term of weight 0 takes its requests out of the later ones.
fn api_server(weights: &BTreeMap<String, i64>, range: &str) -> String {
    let mut resources: BTreeMap<&str, i64> = NOISE.iter().map(|name| (*name, 0)).collect();
    let mut pairs = Vec::new();
    let mut subresources = BTreeMap::from([("status", STATUS_WEIGHT)]);
    for (name, weight) in weights {
        match name.split_once('/') {
            Some(("*", subresource)) => {
                subresources.insert(subresource, *weight);
            }
            Some((resource, subresource)) => pairs.push((resource, subresource, *weight)),
            None => {
                resources.insert(name, *weight);
            }
        }
    }
    let ignored: Vec<String> = resources
        .iter()
        .filter(|(_, weight)| **weight <= 0)
        .map(|(resource, _)| pattern(resource))
        .collect();
    let counted = format!("resource!~\"{}\"", ignored.join("|"));
    let term = |weight: i64, selector: &str| {
        format!("{} * {}", percent(weight), requests(selector, range))
    };
    let mut terms = Vec::new();
    for (resource, subresource, weight) in pairs {
        let (resource, subresource) = (literal(resource), literal(subresource));
        terms.push(term(
            weight,
            &format!("resource=\"{resource}\",subresource=\"{subresource}\""),
        ));
    }
    for (subresource, weight) in &subresources {
        terms.push(term(
            *weight,
            &format!("{counted},subresource=\"{}\"", literal(subresource)),
        ));
    }
    let stored = format!("subresource!~\"{NOT_STORED}\"");
    for (resource, weight) in resources
        .iter()
        .filter(|(_, weight)| **weight > 0 && **weight != 100)
    {
        terms.push(term(
            *weight,
            &format!("resource=\"{}\",{stored}", literal(resource)),
        ));
    }
    terms.push(term(100, &format!("{counted},resource!=\"\",{stored}")));
    format!("sum({})", terms.join(" or "))
}

fn requests(selector: &str, range: &str) -> String {
    format!(
        "rate(apiserver_request_total{{verb=~\"POST|PUT|PATCH|APPLY|DELETE|DELETECOLLECTION\",code=~\"2..\",dry_run=\"\",{selector}}}[{range}])"
    )
}

/// A percentage as a PromQL number.
fn percent(weight: i64) -> String {
    let weight = weight.clamp(0, 1_000_000);
    format!("{}.{:02}", weight / 100, weight % 100)
}

/// A text inside a quoted PromQL string.
fn literal(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// A text inside a quoted PromQL regular expression, meaning itself.
fn pattern(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if !letter.is_alphanumeric() && letter != '-' && letter != '_' {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    literal(&escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_sees_a_step_and_four_scrapes() {
        for (step, scrape, wanted) in [
            (300, Some(30.0), 300),
            (60, Some(30.0), 120),
            (60, None, 240),
            (5, Some(1.0), 5),
            (1, Some(1.0), 4),
            (300, Some(f64::NAN), 300),
            (60, Some(1e9), 480),
        ] {
            assert_eq!(rate_seconds(step, scrape), wanted, "{step} {scrape:?}");
        }
    }

    #[test]
    fn every_member_counts_every_write_so_the_largest_counts() {
        let queries = Queries::of(&PrometheusSource::default(), 300, 300);
        assert_eq!(
            queries.writes.text,
            "max by (job) (rate(etcd_mvcc_put_total[300s]) + (rate(etcd_mvcc_delete_total[300s]) or 0 * rate(etcd_mvcc_put_total[300s])))"
        );
    }

    #[test]
    fn an_own_query_replaces_both_rates_and_knows_the_range() {
        let source = PrometheusSource {
            change_rate_query: Some("  sum(rate(my_total[$__rate_interval])) ".to_owned()),
            load_query: Some(String::new()),
            ..PrometheusSource::default()
        };
        let queries = Queries::of(&source, 60, 240);
        assert_eq!(queries.writes.text, "sum(rate(my_total[240s]))");
        assert_eq!(queries.significant, None);
        assert!(
            queries.load.text.contains("wal_fsync"),
            "an empty query is none"
        );
    }

    #[test]
    fn weights_make_disjoint_terms_and_cannot_break_out_of_their_quotes() {
        let weights = BTreeMap::from([
            ("configmaps".to_owned(), 50),
            ("events".to_owned(), 10),
            ("*/status".to_owned(), 0),
            ("nodes/status".to_owned(), 5),
            ("bad\"} or vector(9)".to_owned(), 7),
        ]);
        let text = api_server(&weights, "5m");
        assert!(text.contains("0.50 * rate("), "{text}");
        assert!(
            text.contains("resource=\"nodes\",subresource=\"status\""),
            "{text}"
        );
        assert!(
            text.contains("resource=\"bad\\\"} or vector(9)\""),
            "{text}"
        );
        assert!(text.contains("0.10 * rate("), "{text}");
        assert!(
            text.contains("0.00 * rate("),
            "a zero shadows the later terms: {text}"
        );
        assert!(!text.contains("|events|"), "{text}");
        let plain = api_server(&BTreeMap::new(), "5m");
        assert_eq!(plain.matches(" or ").count(), 1, "{plain}");
        assert!(plain.contains("0.20 * rate("), "{plain}");
    }
}
