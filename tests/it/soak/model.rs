//! What etcd must hold after each write, worked out from the writes alone: the reference that restores are held to.

use std::collections::BTreeMap;

use etcd_client::proto::PbKeyValue;
use prost::Message;

/// A row of the bucket `key`: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// One operation of a write.
#[derive(Debug, Clone)]
pub enum Op {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        lease: i64,
    },
    /// All keys from the first on to the second, which is left out.
    Delete { from: Vec<u8>, to: Vec<u8> },
}

/// What a client asked for in one revision.
#[derive(Debug, Clone)]
pub enum Write {
    /// These, in this order.
    Txn(Vec<Op>),
    /// Every key of the lease goes.
    Revoke(i64),
}

impl Write {
    /// Whether it can have made these rows, as far as they show without knowing what was there before.
    pub fn may_have_made(&self, rows: &[Row]) -> bool {
        let tombstone = |row: &Row| row.0.len() == 18;
        let Self::Txn(ops) = self else {
            return rows.iter().all(tombstone);
        };
        rows.iter().all(|row| {
            let made = PbKeyValue::decode(row.1.as_slice()).expect("a KeyValue");
            ops.iter().any(|op| match op {
                Op::Put { key, value, lease } => {
                    !tombstone(row) && (&made.key, &made.value, made.lease) == (key, value, *lease)
                }
                Op::Delete { from, to } => tombstone(row) && (from..to).contains(&&made.key),
            })
        })
    }
}

/// The live keys at a revision.
pub type Keys = BTreeMap<Vec<u8>, PbKeyValue>;

/// The live keys, write by write.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub keys: Keys,
}

impl Model {
    /// The rows that the write makes at this revision; the model moves on.
    pub fn apply(&mut self, revision: i64, write: &Write) -> Vec<Row> {
        let mut rows = Vec::new();
        match write {
            Write::Txn(ops) => {
                for op in ops {
                    match op {
                        Op::Put { key, value, lease } => {
                            let old = self.keys.get(key);
                            let kv = PbKeyValue {
                                key: key.clone(),
                                create_revision: old.map_or(revision, |old| old.create_revision),
                                mod_revision: revision,
                                version: old.map_or(1, |old| old.version + 1),
                                value: value.clone(),
                                lease: *lease,
                            };
                            rows.push((row_key(revision, rows.len(), false), kv.encode_to_vec()));
                            self.keys.insert(key.clone(), kv);
                        }
                        Op::Delete { from, to } => {
                            let gone: Vec<Vec<u8>> = self
                                .keys
                                .range(from.clone()..to.clone())
                                .map(|(key, _)| key.clone())
                                .collect();
                            self.remove(revision, gone, &mut rows);
                        }
                    }
                }
            }
            Write::Revoke(lease) => {
                let held = self.keys.values().filter(|kv| kv.lease == *lease);
                let gone = held.map(|kv| kv.key.clone()).collect();
                self.remove(revision, gone, &mut rows);
            }
        }
        rows
    }

    fn remove(&mut self, revision: i64, gone: Vec<Vec<u8>>, rows: &mut Vec<Row>) {
        for key in gone {
            self.keys.remove(&key);
            let bare = PbKeyValue {
                key,
                ..PbKeyValue::default()
            };
            rows.push((row_key(revision, rows.len(), true), bare.encode_to_vec()));
        }
    }
}

/// The live keys that rows come to.
pub fn live<'a>(rows: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Keys {
    let mut keys = Keys::new();
    for (key, value) in rows {
        let kv = PbKeyValue::decode(value).expect("a KeyValue");
        if key.len() == 18 {
            keys.remove(&kv.key);
        } else {
            keys.insert(kv.key.clone(), kv);
        }
    }
    keys
}

fn row_key(revision: i64, ordinal: usize, tombstone: bool) -> Vec<u8> {
    let mut key = revision.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend((ordinal as u64).to_be_bytes());
    if tombstone {
        key.push(b't');
    }
    key
}
