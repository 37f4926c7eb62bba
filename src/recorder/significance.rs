//! How many significant changes the standing watch has seen: each row counts by the weight of its key's prefix or resource.
//! The engine samples the sum, and the schedule decides by its growth.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::group::{Row, Step};

/// Resources that are renewed or emitted all the time, percent; a node reports itself every few minutes.
const NOISE: [(&str, i64); 6] = [
    ("leases", 0),
    ("masterleases", 0),
    ("events", 0),
    ("endpoints", 0),
    ("endpointslices", 0),
    ("nodes", 20),
];

/// What a change of a key weighs, percent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    prefixes: Vec<(String, i64)>,
    resources: BTreeMap<String, i64>,
}

impl Weights {
    /// Weights by key prefix, which begins with a slash, or by resource. The longest prefix wins over the resource; what neither
    /// names weighs 100, leases and events and their kin nothing.
    #[must_use]
    pub fn new<'a>(weights: impl IntoIterator<Item = (&'a String, &'a i64)>) -> Self {
        let mut made = Self {
            prefixes: Vec::new(),
            resources: NOISE
                .iter()
                .map(|(name, weight)| ((*name).to_owned(), *weight))
                .collect(),
        };
        for (name, weight) in weights {
            if name.starts_with('/') {
                made.prefixes.push((name.clone(), *weight));
            } else {
                made.resources.insert(name.clone(), *weight);
            }
        }
        made.prefixes
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        made
    }

    /// The weight of a key, percent.
    #[must_use]
    pub fn of(&self, key: &[u8]) -> i64 {
        let longest = self
            .prefixes
            .iter()
            .find(|(prefix, _)| key.starts_with(prefix.as_bytes()));
        if let Some((_, weight)) = longest {
            return *weight;
        }
        std::str::from_utf8(key)
            .ok()
            .and_then(resource_of)
            .and_then(|(resource, _)| self.resources.get(resource))
            .copied()
            .unwrap_or(100)
    }
}

/// The resource that a key or key prefix of an API server is about, and what follows it: `configmaps` and `default/a` of
/// `/registry/configmaps/default/a`, `widgets` of `/registry/example.com/widgets`.
#[must_use]
pub fn resource_of(path: &str) -> Option<(&str, &str)> {
    let (_, rest) = path.strip_prefix('/')?.split_once('/')?;
    let (first, after) = cut(rest);
    let (second, last) = cut(after);
    let found = match (first, second) {
        ("minions", _) => ("nodes", after),
        ("services", "specs") => ("services", last),
        ("services", "endpoints") => ("endpoints", last),
        (group, _) if group.contains('.') => (second, last),
        _ => (first, after),
    };
    (!found.0.is_empty()).then_some(found)
}

fn cut(path: &str) -> (&str, &str) {
    path.split_once('/').unwrap_or((path, ""))
}

/// What was counted up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Which unbroken run of revisions the count belongs to: two counts of one run may be subtracted.
    pub run: u64,
    /// The last revision in it.
    pub reached: i64,
    /// Changes in hundredths, as weights are percentages.
    pub hundredths: i64,
}

/// Counts for as long as a schedule lives, whichever recording feeds it.
#[derive(Debug)]
pub struct Counter {
    weights: Weights,
    at: Mutex<At>,
}

#[derive(Debug)]
struct At {
    cluster: Option<u64>,
    counted: Counted,
    /// The changes of a revision that has begun.
    open: i64,
}

impl Counter {
    /// A counter whose runs are told from those of earlier processes by `first_run`.
    #[must_use]
    pub fn new(weights: Weights, first_run: u64) -> Arc<Self> {
        let counted = Counted {
            run: first_run,
            reached: 0,
            hundredths: 0,
        };
        Arc::new(Self {
            weights,
            at: Mutex::new(At {
                cluster: None,
                counted,
                open: 0,
            }),
        })
    }

    /// A recording begins after `revision`. When that is where the count stands, or before it, the count goes on.
    pub fn begin(&self, cluster: u64, revision: i64) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if at.cluster != Some(cluster) || revision > at.counted.reached {
            at.restart(cluster);
            at.counted.reached = revision;
        }
    }

    /// Takes in what a watch of a cluster saw. A recording that begins again repeats revisions, which count once; revisions that
    /// are skipped begin another run.
    pub fn take(&self, cluster: u64, steps: &[Step]) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        for step in steps {
            match step {
                Step::Begin(_) => at.open = 0,
                Step::Row(row) => at.open += self.weights.of(key_of(row)),
                Step::Commit(revision) => at.commit(cluster, *revision),
                Step::Idle => {}
            }
        }
    }

    /// The count so far; `None` before the first recording.
    #[must_use]
    pub fn counted(&self) -> Option<Counted> {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.cluster.map(|_| at.counted)
    }
}

impl At {
    fn restart(&mut self, cluster: u64) {
        if self.cluster.is_some() {
            self.counted.run += 1;
            self.counted.hundredths = 0;
        }
        self.cluster = Some(cluster);
    }

    fn commit(&mut self, cluster: u64, revision: i64) {
        let changes = std::mem::take(&mut self.open);
        let same = self.cluster == Some(cluster);
        if same && revision <= self.counted.reached {
            return;
        }
        if !same || revision != self.counted.reached + 1 {
            self.restart(cluster);
        }
        self.counted.reached = revision;
        self.counted.hundredths = self.counted.hundredths.saturating_add(changes);
    }
}

/// The key of a row's value, an encoded KeyValue, which etcd writes with the key in front; empty when it is not.
fn key_of(row: &Row) -> &[u8] {
    const KEY_FIELD: u8 = 0x0A;
    let Some((&KEY_FIELD, mut rest)) = row.value.split_first() else {
        return &[];
    };
    let length = prost::decode_length_delimiter(&mut rest).unwrap_or(0);
    rest.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use etcd_client::proto::PbKeyValue;
    use prost::Message;

    use super::*;

    fn row(key: &str) -> Step {
        let pair = PbKeyValue {
            key: key.as_bytes().to_vec(),
            value: b"v".to_vec(),
            ..PbKeyValue::default()
        };
        Step::Row(Row {
            tombstone: false,
            value: pair.encode_to_vec(),
            lease: 0,
        })
    }

    fn weights(pairs: &[(&str, i64)]) -> Weights {
        let map: BTreeMap<String, i64> = pairs
            .iter()
            .map(|(name, weight)| ((*name).to_owned(), *weight))
            .collect();
        Weights::new(&map)
    }

    #[test]
    fn the_longest_prefix_wins_then_the_resource_and_noise_weighs_nothing() {
        let own = [
            ("/registry/pods/", 50),
            ("/registry/pods/prod/", 300),
            ("widgets", 7),
            ("events", 10),
        ];
        let weights = weights(&own);
        for (key, wanted) in [
            ("/registry/pods/prod/a", 300),
            ("/registry/pods/dev/a", 50),
            ("/registry/example.com/widgets/dev/a", 7),
            ("/registry/events/dev/a", 10),
            ("/registry/leases/kube-node-lease/n", 0),
            ("/registry/services/endpoints/dev/a", 0),
            ("/registry/services/specs/dev/a", 100),
            ("/registry/minions/n", 20),
            ("/registry/secrets/dev/a", 100),
            ("no slash", 100),
            ("/", 100),
            ("", 100),
        ] {
            assert_eq!(weights.of(key.as_bytes()), wanted, "{key}");
        }
        assert_eq!(weights.of(b"\xff/\xfe"), 100);
    }

    #[test]
    fn each_revision_counts_once_and_a_skipped_one_begins_another_run() {
        let counter = Counter::new(weights(&[("secrets", 250)]), 9);
        assert_eq!(counter.counted(), None);
        let revision = |at: i64, keys: &[&str]| {
            let mut steps = vec![Step::Begin(at)];
            steps.extend(keys.iter().map(|key| row(key)));
            steps.push(Step::Commit(at));
            steps
        };
        counter.take(
            1,
            &revision(5, &["/registry/secrets/a", "/registry/leases/b"]),
        );
        let first = counter.counted().unwrap();
        assert_eq!((first.run, first.reached, first.hundredths), (9, 5, 250));
        // A stream that broke in the middle of a revision gives it again from its beginning.
        counter.take(1, &[Step::Begin(6), row("/registry/pods/a")]);
        assert_eq!(counter.counted(), Some(first));
        counter.take(1, &revision(5, &["/registry/secrets/a"]));
        counter.take(1, &revision(6, &["/registry/pods/a", "/registry/pods/b"]));
        let second = counter.counted().unwrap();
        assert_eq!((second.run, second.reached, second.hundredths), (9, 6, 450));
        counter.take(1, &revision(8, &["/registry/pods/a"]));
        assert_eq!(counter.counted().unwrap().run, 10);
        counter.take(2, &revision(9, &["/registry/pods/a"]));
        let other = counter.counted().unwrap();
        assert_eq!((other.run, other.hundredths), (11, 100));
        // The recording after a full backup repeats what the one before it saw; one that begins later has missed something.
        counter.begin(2, 7);
        assert_eq!(counter.counted(), Some(other));
        counter.begin(2, 12);
        let later = counter.counted().unwrap();
        assert_eq!((later.run, later.reached, later.hundredths), (12, 12, 0));
    }
}
