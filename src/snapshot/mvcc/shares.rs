//! What fills the database, by the first parts of Kubernetes' keys: a bounded tally in the one pass over all rows.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Where API servers keep their objects: Kubernetes', and those of OpenShift.
const ROOTS: [&[u8]; 3] = [b"/registry/", b"/kubernetes.io/", b"/openshift.io/"];
/// So many prefixes are told apart; a cluster has one for each kind of object.
const TOLD_APART: usize = 512;
/// So many are named in the end; the rest is one sum.
pub const NAMED: usize = 24;
/// No kind's group or name is longer.
const LONGEST: usize = 253;

/// The rows below a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Share {
    /// The prefix, as `/registry/pods/`; empty for all keys that are in no named one.
    pub prefix: String,
    /// Live keys.
    pub keys: u64,
    /// Rows, those that are no longer the newest of their key included.
    pub rows: u64,
    /// Bytes of these rows.
    pub bytes: u64,
}

/// Counts rows by prefix.
#[derive(Default)]
pub struct Tally<'a> {
    places: HashMap<&'a [u8], usize>,
    counts: Vec<Count<'a>>,
    /// Rows that follow on one another are often of one kind.
    last: usize,
}

#[derive(Default)]
struct Count<'a> {
    prefix: &'a [u8],
    keys: i64,
    rows: u64,
    bytes: u64,
}

impl<'a> Tally<'a> {
    /// A row of a key; `keys` is by how many live keys it changes their number.
    pub fn row(&mut self, key: &'a [u8], bytes: usize, keys: i64) {
        // No user has the empty key: a revision that was raised left its row.
        if key.is_empty() {
            return;
        }
        let place = match self.counts.get(self.last) {
            // What begins as a kind does is of that kind.
            Some(same) if !same.prefix.is_empty() && key.starts_with(same.prefix) => self.last,
            _ => self.place(family(key)),
        };
        if let Some(count) = self.counts.get_mut(place) {
            count.keys += keys;
            count.rows += 1;
            count.bytes += bytes as u64;
        }
    }

    fn place(&mut self, prefix: &'a [u8]) -> usize {
        let same = self.counts.get(self.last);
        if same.is_some_and(|count| count.prefix == prefix) {
            return self.last;
        }
        let full = self.counts.len() >= TOLD_APART;
        let known = self.places.get(prefix).copied();
        // Of too many kinds the later ones are counted with the keys that are of none.
        let prefix = if full && known.is_none() { b"" } else { prefix };
        self.last = *self.places.entry(prefix).or_insert_with(|| {
            self.counts.push(Count {
                prefix,
                ..Count::default()
            });
            self.counts.len() - 1
        });
        self.last
    }

    /// The largest by bytes, then the sum of all others.
    pub fn finish(self) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        let mut rest = Share::default();
        let mut counts = self.counts;
        counts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.prefix.cmp(b.prefix)));
        for count in counts {
            let keys = count.keys.max(0).cast_unsigned();
            if count.prefix.is_empty() || shares.len() >= NAMED {
                rest.keys += keys;
                rest.rows += count.rows;
                rest.bytes += count.bytes;
            } else {
                shares.push(Share {
                    prefix: String::from_utf8_lossy(count.prefix).into_owned(),
                    keys,
                    rows: count.rows,
                    bytes: count.bytes,
                });
            }
        }
        if rest.rows > 0 {
            shares.push(rest);
        }
        shares
    }
}

/// The part of a key that names a kind and no object: `/registry/pods/`, `/registry/example.com/widgets/`; empty for every
/// other key, of which nothing may be shown.
fn family(key: &[u8]) -> &[u8] {
    let Some(root) = ROOTS.iter().find(|root| key.starts_with(root)) else {
        return b"";
    };
    let mut end = root.len();
    for _ in 0..2 {
        let rest = key.get(end..).unwrap_or_default();
        let part = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
        let named = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        let ends = rest.len() > part.len();
        if !ends || part.is_empty() || part.len() > LONGEST || !part.iter().all(named) {
            return b"";
        }
        end += part.len() + 1;
        // A group has a dot; the kind follows on it.
        if !part.contains(&b'.') {
            break;
        }
    }
    key.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn a_family_is_a_kind_and_never_an_object() {
        let all: [(&[u8], &[u8]); 9] = [
            (b"/registry/pods/shop/web-0", b"/registry/pods/"),
            (
                b"/registry/example.com/widgets/shop/w",
                b"/registry/example.com/widgets/",
            ),
            (b"/registry/namespaces/shop", b"/registry/namespaces/"),
            (b"/kubernetes.io/pods/a/b", b"/kubernetes.io/pods/"),
            (b"/registry/health", b""),
            (b"/registry/example.com/secret-name", b""),
            (b"/registry/Pods/a/b", b""),
            (b"customers/4711/card", b""),
            (b"", b""),
        ];
        for (key, wanted) in all {
            assert_eq!(family(key), wanted, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn the_largest_are_named_and_nothing_is_lost() {
        let mut keys: Vec<String> = (0..2000)
            .map(|kind| format!("/registry/kind{kind}/a/b"))
            .collect();
        keys.push("secret/of/mine".to_owned());
        let mut tally = Tally::default();
        for (place, key) in keys.iter().enumerate() {
            tally.row(key.as_bytes(), 10 + place, 1);
        }
        tally.row(keys[7].as_bytes(), 1_000_000, 0);
        tally.row(keys[7].as_bytes(), 5, -1);
        let shares = tally.finish();
        assert_eq!(shares.len(), NAMED + 1);
        let first = &shares[0];
        assert_eq!(
            (first.prefix.as_str(), first.keys, first.rows, first.bytes),
            ("/registry/kind7/", 0, 3, 1_000_022)
        );
        let rest = &shares[NAMED];
        assert_eq!(rest.prefix, "");
        let sum = |of: fn(&Share) -> u64| shares.iter().map(of).sum::<u64>();
        assert_eq!(sum(|share| share.rows), 2003);
        assert_eq!(sum(|share| share.keys), 2000);
        assert!(shares.iter().all(|share| !share.prefix.contains("mine")));
    }
}
