//! From watch responses to committed revisions, or to a named gap. Pure: whatever way etcd cuts the stream into messages, the
//! same rows are committed, and never a part of a revision (etcd-format.md §6.2–6.5).

use etcd_client::proto::{PbEvent, PbKeyValue, PbWatchResponse};
use prost::Message;

/// One row of the bucket `key` without its revision, which its place in the stream gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whether the key was deleted.
    pub tombstone: bool,
    /// The row's value, byte for byte as etcd stores it.
    pub value: Vec<u8>,
    /// The lease that a put attached the key to; 0 for none.
    pub lease: i64,
}

/// What a response means, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A revision begins.
    Begin(i64),
    /// The next row of the revision that was begun.
    Row(Row),
    /// The revision is whole.
    Commit(i64),
    /// Nothing was written after the last committed revision, up to now.
    Idle,
}

/// Why the stream cannot be continued: the recording ends at the last committed revision, and a full backup is due.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// etcd compacted what was not yet read.
    #[error(
        "etcd compacted up to revision {compact_revision} before revision {wanted} was recorded"
    )]
    Compacted {
        /// The first revision that is missing.
        wanted: i64,
        /// etcd's compact revision.
        compact_revision: i64,
    },
    /// A revision is missing between two that arrived.
    #[error("revision {found} came where {wanted} was due")]
    Hole {
        /// The first revision that is missing.
        wanted: i64,
        /// The revision that came.
        found: i64,
    },
    /// Another cluster answers.
    #[error("cluster {found:x} answers where {expected:x} was recorded")]
    ClusterChanged {
        /// The cluster that is recorded.
        expected: u64,
        /// The cluster that answered.
        found: u64,
    },
    /// Raft's term went back: the cluster was rebuilt from older data.
    #[error("raft's term went back from {seen} to {found}: the cluster was rebuilt")]
    TermWentBack {
        /// The highest term seen.
        seen: u64,
        /// The term that came.
        found: u64,
    },
    /// The cluster's revision went back: it was restored from older data.
    #[error("the cluster is at revision {found}, before the recorded {recorded}: it was restored")]
    RevisionWentBack {
        /// The last committed revision.
        recorded: i64,
        /// The cluster's revision.
        found: i64,
    },
    /// An event that cannot be.
    #[error("the event of revision {revision} cannot be: {problem}")]
    Malformed {
        /// Its revision.
        revision: i64,
        /// What is wrong.
        problem: &'static str,
    },
    /// The disk or the budget for segments is used up.
    #[error("unpublished segments fill their {budget} bytes: the store was away too long")]
    SpillFull {
        /// The budget.
        budget: u64,
    },
    /// What was recorded on disk is damaged.
    #[error("the recorded segments on disk are damaged: {problem}")]
    SpillDamaged {
        /// What is wrong.
        problem: String,
    },
}

impl Gap {
    /// Whether etcd itself cannot give what follows any more, so that only a new full backup goes on; what went wrong on this side
    /// is fetched anew.
    pub fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::Hole { .. }
                | Self::Malformed { .. }
                | Self::SpillFull { .. }
                | Self::SpillDamaged { .. }
        )
    }

    /// A CamelCase word for status and events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Compacted { .. } => "Compacted",
            Self::Hole { .. } => "Hole",
            Self::ClusterChanged { .. } => "ClusterChanged",
            Self::TermWentBack { .. } => "TermWentBack",
            Self::RevisionWentBack { .. } => "RevisionWentBack",
            Self::Malformed { .. } => "Malformed",
            Self::SpillFull { .. } => "SpillFull",
            Self::SpillDamaged { .. } => "SpillDamaged",
        }
    }
}

/// Where the stream stands.
#[derive(Debug, Clone)]
pub struct Grouper {
    cluster_id: u64,
    raft_term: u64,
    committed: i64,
    open: Option<i64>,
}

impl Grouper {
    /// Continues after `committed`, on the cluster that was recorded up to there.
    pub fn new(cluster_id: u64, raft_term: u64, committed: i64) -> Self {
        Self {
            cluster_id,
            raft_term,
            committed,
            open: None,
        }
    }

    /// The last whole revision.
    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// Whether a revision was begun and not finished.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The highest raft term seen.
    pub fn raft_term(&self) -> u64 {
        self.raft_term
    }

    /// Forgets a revision that was begun and not finished: the stream broke, and the next one starts after the last commit.
    pub fn reset(&mut self) {
        self.open = None;
    }

    /// Takes a response in; `steps` grows by what it means. After a gap the steps up to the last commit still hold, and
    /// nothing more may be fed.
    ///
    /// # Errors
    /// The gap.
    pub fn feed(&mut self, response: PbWatchResponse, steps: &mut Vec<Step>) -> Result<(), Gap> {
        if let Some(header) = &response.header {
            self.check_header(header.cluster_id, header.raft_term, header.revision)?;
        }
        if response.compact_revision > 0 {
            return Err(Gap::Compacted {
                wanted: self.committed + 1,
                compact_revision: response.compact_revision,
            });
        }
        if response.created || response.canceled {
            return Ok(());
        }
        if response.events.is_empty() && !response.fragment {
            let revision = response.header.map_or(0, |header| header.revision);
            // Old servers let a progress notice overtake events: it proves nothing unless it names what was committed.
            if self.open.is_none() && revision == self.committed {
                steps.push(Step::Idle);
            }
            return Ok(());
        }
        for event in response.events {
            self.event(event, steps)?;
        }
        if !response.fragment {
            self.commit(steps);
        }
        Ok(())
    }

    fn check_header(&mut self, cluster: u64, term: u64, revision: i64) -> Result<(), Gap> {
        if cluster != self.cluster_id {
            return Err(Gap::ClusterChanged {
                expected: self.cluster_id,
                found: cluster,
            });
        }
        if term < self.raft_term {
            return Err(Gap::TermWentBack {
                seen: self.raft_term,
                found: term,
            });
        }
        self.raft_term = term;
        if revision < self.committed {
            return Err(Gap::RevisionWentBack {
                recorded: self.committed,
                found: revision,
            });
        }
        Ok(())
    }

    fn event(&mut self, event: PbEvent, steps: &mut Vec<Step>) -> Result<(), Gap> {
        let tombstone = match event.r#type {
            0 => false,
            1 => true,
            _ => return Err(malformed(0, "it is neither a put nor a delete")),
        };
        let kv = event
            .kv
            .ok_or_else(|| malformed(0, "it holds no key and value"))?;
        let revision = kv.mod_revision;
        // A member that installed a snapshot may send again what it sent before.
        if revision <= self.committed {
            return Ok(());
        }
        if self.open.is_some_and(|open| revision > open) {
            self.commit(steps);
        }
        let wanted = self.open.unwrap_or(self.committed + 1);
        if revision != wanted {
            return Err(Gap::Hole {
                wanted,
                found: revision,
            });
        }
        let row = row(kv, tombstone)?;
        if self.open.is_none() {
            self.open = Some(revision);
            steps.push(Step::Begin(revision));
        }
        steps.push(Step::Row(row));
        Ok(())
    }

    fn commit(&mut self, steps: &mut Vec<Step>) {
        if let Some(revision) = self.open.take() {
            self.committed = revision;
            steps.push(Step::Commit(revision));
        }
    }
}

fn malformed(revision: i64, problem: &'static str) -> Gap {
    Gap::Malformed { revision, problem }
}

/// The row that etcd stored for an event. A tombstone's value holds nothing but the key; the server adds the revision on its way out.
fn row(kv: PbKeyValue, tombstone: bool) -> Result<Row, Gap> {
    let revision = kv.mod_revision;
    if kv.key.is_empty() {
        return Err(malformed(revision, "the key is empty"));
    }
    if tombstone {
        let bare = PbKeyValue {
            key: kv.key,
            ..PbKeyValue::default()
        };
        return Ok(Row {
            tombstone,
            value: bare.encode_to_vec(),
            lease: 0,
        });
    }
    if kv.create_revision < 1 || kv.create_revision > revision {
        return Err(malformed(
            revision,
            "the key was created after it was written",
        ));
    }
    if kv.version < 1 || (kv.version == 1) != (kv.create_revision == revision) {
        return Err(malformed(
            revision,
            "the key's version does not fit its creation",
        ));
    }
    Ok(Row {
        tombstone,
        value: kv.encode_to_vec(),
        lease: kv.lease,
    })
}

#[cfg(test)]
mod tests;
