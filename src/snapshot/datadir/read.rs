//! Reads a member's log and raft snapshot back and believes nothing: frames, checksums, order and ends are checked
//! (etcd-format.md §5.4 to §5.6).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Cluster, Member, TERM};
use crate::snapshot::bolt::page::u64_at;
use crate::snapshot::mvcc::proto::{Field, Fields};

const METADATA: u64 = 1;
const ENTRY: u64 = 2;
const HARD_STATE: u64 = 3;
const CHECKSUM: u64 = 4;
const SNAPSHOT: u64 = 5;
/// The type of an entry that changes the membership.
const CONFIGURATION_CHANGE: u64 = 1;
/// The low bits of a frame's first word; above them is the padding.
const LENGTH_BITS: u32 = 56;

/// Why a file beside the database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is damaged at byte {at}: {problem}")]
pub struct Damage {
    /// Where.
    pub at: usize,
    /// What is wrong, in words.
    pub problem: &'static str,
}

/// What a write-ahead log says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// Whose log it is.
    pub member_id: u64,
    /// Of which cluster.
    pub cluster_id: u64,
    /// Its entries, without those that later ones replaced.
    pub entries: Vec<Entry>,
    /// Raft's state, as it was written last.
    pub hard_state: Option<HardState>,
    /// The snapshot that was recorded last.
    pub snapshot: Option<Point>,
    /// Bytes of its records.
    pub length: usize,
}

/// An entry of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its term.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// Who joins by it, when it changes the membership: id and the member's JSON.
    pub joining: Option<(u64, String)>,
}

/// Raft's own state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HardState {
    /// The term.
    pub term: u64,
    /// Who was voted for.
    pub vote: u64,
    /// The index up to which everything is decided.
    pub commit: u64,
}

/// A place in raft's history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Point {
    /// The index.
    pub index: u64,
    /// The term.
    pub term: u64,
    /// Who votes there.
    pub voters: Vec<u64>,
}

/// What a raft snapshot says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftSnapshot {
    /// Where it was taken.
    pub at: Point,
    /// The members of the old store: hexadecimal id and peer URLs.
    pub members: BTreeMap<String, Vec<String>>,
}

/// Reads a log: one file of it, or its beginning up to the zeros behind the last record.
///
/// # Errors
/// When a record is cut off, out of order, or does not have its checksum.
pub fn read_log(bytes: &[u8]) -> Result<Log, Damage> {
    let mut log = Log::default();
    let mut sum = 0_u32;
    let mut has_metadata = false;
    while let Some((record, next)) = frame(bytes, log.length)? {
        let at = log.length;
        let damage = |problem| Damage { at, problem };
        let (mut kind, mut stored, mut data) = (0, 0, None);
        for field in Fields::of(record) {
            match field.map_err(damage)? {
                (1, Field::Number(number)) => kind = number,
                (2, Field::Number(number)) => stored = number,
                (3, Field::Bytes(bytes)) => data = Some(bytes),
                _ => return Err(damage("a record has a field that etcd does not write")),
            }
        }
        let stored = u32::try_from(stored).map_err(|_| damage("a checksum has 32 bits"))?;
        let data = data.unwrap_or_default();
        if kind == CHECKSUM {
            // It begins a file, and carries on the sum of the file before.
            if at != 0 && stored != sum {
                return Err(damage("the running checksum is wrong"));
            }
            sum = stored;
        } else {
            sum = crc32c::crc32c_append(sum, data);
            if stored != sum {
                return Err(damage("a record does not have its checksum"));
            }
            if kind != METADATA && !has_metadata {
                return Err(damage("a record lies before the member's ids"));
            }
        }
        match kind {
            CHECKSUM => {}
            METADATA => {
                let [member_id, cluster_id] = numbers(data, [1, 2]).map_err(damage)?;
                if has_metadata && (member_id, cluster_id) != (log.member_id, log.cluster_id) {
                    return Err(damage("it changes to another member"));
                }
                (log.member_id, log.cluster_id, has_metadata) = (member_id, cluster_id, true);
            }
            ENTRY => {
                let entry = entry(data).map_err(damage)?;
                let first = log.entries.first().map_or(entry.index, |first| first.index);
                let keep = entry
                    .index
                    .checked_sub(first)
                    .and_then(|keep| usize::try_from(keep).ok());
                // An entry of an index that was there before replaces it and what follows on it.
                match keep.filter(|keep| *keep <= log.entries.len()) {
                    Some(keep) => log.entries.truncate(keep),
                    None => return Err(damage("entries are missing before this one")),
                }
                log.entries.push(entry);
            }
            HARD_STATE => {
                let [term, vote, commit] = numbers(data, [1, 2, 3]).map_err(damage)?;
                log.hard_state = Some(HardState { term, vote, commit });
            }
            SNAPSHOT => {
                let [index, term] = numbers(data, [1, 2]).map_err(damage)?;
                let voters = voters(sub_message(data, 3).map_err(damage)?).map_err(damage)?;
                log.snapshot = Some(Point {
                    index,
                    term,
                    voters,
                });
            }
            _ => return Err(damage("a record is of a kind that etcd does not write")),
        }
        log.length = next;
    }
    if !has_metadata {
        let (at, problem) = (log.length, "it ends before the member's ids");
        return Err(Damage { at, problem });
    }
    Ok(log)
}

/// Reads a raft snapshot file.
///
/// # Errors
/// When it does not have its checksum, or is no snapshot of etcd's.
pub fn read_raft_snapshot(bytes: &[u8]) -> Result<RaftSnapshot, Damage> {
    let damage = |problem| Damage { at: 0, problem };
    let [stored] = numbers(bytes, [1]).map_err(damage)?;
    let snapshot = sub_message(bytes, 2).map_err(damage)?;
    if snapshot.is_empty() || u64::from(crc32c::crc32c(snapshot)) != stored {
        return Err(damage("it does not have its checksum"));
    }
    let metadata = sub_message(snapshot, 2).map_err(damage)?;
    let [index, term] = numbers(metadata, [2, 3]).map_err(damage)?;
    let voters = voters(sub_message(metadata, 1).map_err(damage)?).map_err(damage)?;
    let store = sub_message(snapshot, 1).map_err(damage)?;
    Ok(RaftSnapshot {
        at: Point {
            index,
            term,
            voters,
        },
        members: old_members(store).map_err(damage)?,
    })
}

/// The record at `at` and where the next one begins; nothing at the end, or where zeros take over.
fn frame(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Damage> {
    let damage = |problem| Damage { at, problem };
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(None);
    }
    let word = u64_at(rest, 0).ok_or_else(|| damage("the length of a record is cut off"))?;
    if word == 0 {
        return if rest.iter().all(|byte| *byte == 0) {
            Ok(None)
        } else {
            Err(damage("bytes lie behind its end"))
        };
    }
    let length = word & ((1 << LENGTH_BITS) - 1);
    let padding = (8 - length % 8) % 8;
    let mark = if padding == 0 { 0 } else { 0x80 | padding };
    if word >> LENGTH_BITS != mark {
        return Err(damage("the padding of a record is wrong"));
    }
    let split = usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(8..)?.split_at_checked(length));
    let (record, behind) = split.ok_or_else(|| damage("a record is cut off"))?;
    // The padding is below eight.
    let padded = usize::try_from(padding).ok().and_then(|n| behind.get(..n));
    match padded {
        Some(zeros) if zeros.iter().all(|byte| *byte == 0) => {
            Ok(Some((record, at + 8 + record.len() + zeros.len())))
        }
        Some(_) => Err(damage("the padding of a record is not zeros")),
        None => Err(damage("the padding of a record is cut off")),
    }
}

fn entry(data: &[u8]) -> Result<Entry, &'static str> {
    let [kind, term, index] = numbers(data, [1, 2, 3])?;
    let mut entry = Entry {
        term,
        index,
        joining: None,
    };
    if kind == CONFIGURATION_CHANGE {
        let change = sub_message(data, 4)?;
        let [what, member] = numbers(change, [2, 3])?;
        let context = sub_message(change, 4)?;
        // Only additions say who it is.
        if what == 0 {
            let json = std::str::from_utf8(context).map_err(|_| "a member is not text")?;
            entry.joining = Some((member, json.to_owned()));
        }
    }
    Ok(entry)
}

/// The numbers of these fields; 0 for those that are not there.
fn numbers<const N: usize>(message: &[u8], wanted: [u64; N]) -> Result<[u64; N], &'static str> {
    let mut found = [0; N];
    for field in Fields::of(message) {
        let (number, field) = field?;
        for (wanted, slot) in wanted.iter().zip(&mut found) {
            if let (true, Field::Number(value)) = (*wanted == number, field) {
                *slot = value;
            }
        }
    }
    Ok(found)
}

/// The bytes of a field; none when it is not there.
fn sub_message(message: &[u8], wanted: u64) -> Result<&[u8], &'static str> {
    let mut found: &[u8] = &[];
    for field in Fields::of(message) {
        if let (number, Field::Bytes(bytes)) = field?
            && number == wanted
        {
            found = bytes;
        }
    }
    Ok(found)
}

fn voters(conf_state: &[u8]) -> Result<Vec<u64>, &'static str> {
    let mut voters = Vec::new();
    for field in Fields::of(conf_state) {
        if let (1, Field::Number(voter)) = field? {
            voters.push(voter);
        }
    }
    Ok(voters)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Store {
    root: Node,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    value: String,
    children: Option<BTreeMap<String, Node>>,
}

impl Node {
    fn child(&self, name: &str) -> Option<&Node> {
        self.children.as_ref()?.get(name)
    }
}

#[derive(Deserialize)]
struct RaftAttributes {
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
}

fn old_members(store: &[u8]) -> Result<BTreeMap<String, Vec<String>>, &'static str> {
    if store.is_empty() {
        return Ok(BTreeMap::new());
    }
    let store: Store = serde_json::from_slice(store).map_err(|_| "the old store cannot be read")?;
    let members = store.root.child("0").and_then(|zero| zero.child("members"));
    let mut found = BTreeMap::new();
    for (id, member) in members
        .and_then(|node| node.children.as_ref())
        .into_iter()
        .flatten()
    {
        let attributes = member.child("raftAttributes");
        let attributes = attributes.ok_or("a member of the old store has no attributes")?;
        let attributes: RaftAttributes = serde_json::from_str(&attributes.value)
            .map_err(|_| "a member of the old store cannot be read")?;
        found.insert(id.clone(), attributes.peer_urls);
    }
    Ok(found)
}

/// What keeps a member's files from being those of this member of this cluster, right after a restore.
pub fn restored_problem(
    cluster: &Cluster,
    member: &Member,
    log: &[u8],
    raft_snapshot: &[u8],
) -> Option<String> {
    let ids: Vec<u64> = cluster.members.iter().map(|member| member.id).collect();
    let at = Point {
        index: cluster.index(),
        term: TERM,
        voters: ids,
    };
    let log = match read_log(log) {
        Ok(log) => log,
        Err(damage) => return Some(format!("the write-ahead log: {damage}")),
    };
    let snapshot = match read_raft_snapshot(raft_snapshot) {
        Ok(snapshot) => snapshot,
        Err(damage) => return Some(format!("the raft snapshot: {damage}")),
    };
    let joined: Vec<Entry> = (1..)
        .zip(&cluster.members)
        .map(|(index, member)| Entry {
            term: TERM,
            index,
            joining: Some((member.id, member.json())),
        })
        .collect();
    let members: BTreeMap<String, Vec<String>> = cluster
        .members
        .iter()
        .map(|member| (member.key(), member.peer_urls.clone()))
        .collect();
    let checks = [
        (log.member_id == member.id, "the log is another member's"),
        (log.cluster_id == cluster.id, "the log is another cluster's"),
        (log.entries == joined, "the log has other members join"),
        (
            log.hard_state
                .is_some_and(|state| (state.term, state.commit) == (TERM, at.index)),
            "the log's raft state is not that of a new cluster",
        ),
        (
            log.snapshot.as_ref() == Some(&at),
            "the log records another snapshot",
        ),
        (snapshot.at == at, "the raft snapshot was taken elsewhere"),
        (
            snapshot.members == members,
            "the raft snapshot has other members",
        ),
    ];
    let wrong = checks.into_iter().find(|(right, _)| !right);
    wrong.map(|(_, problem)| problem.to_owned())
}
