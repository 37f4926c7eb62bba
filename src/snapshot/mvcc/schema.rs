//! The small buckets: etcd's own marks, leases, alarms, users, members (etcd-format.md §3, §7 L2d and L2e).

use std::collections::BTreeSet;

use serde::Deserialize;

use super::proto::{Field, Fields};
use super::revision::RowKey;
use super::{BUCKETS, LEASE_BUCKET};
use crate::snapshot::bolt::{Bucket, Database, Row};
use crate::snapshot::findings::Findings;

/// Those without which it is no etcd database.
const REQUIRED: [&[u8]; 2] = [b"key", b"meta"];
/// Clusters have seven members at most; beyond this the lists are not kept, so that a hostile file cannot fill the memory.
const MOST_LISTED: usize = 1000;
/// The user and the role that etcd builds in.
const ROOT: &[u8] = b"root";
/// JSON records of members are some hundred bytes.
const MOST_JSON: usize = 1 << 20;

/// What the small buckets say.
#[derive(Debug, Default)]
pub struct About {
    /// etcd's storage version.
    pub storage_version: Option<String>,
    /// Leases.
    pub leases: u64,
    /// Raised alarms.
    pub alarms: Vec<String>,
    /// Whether users are on.
    pub auth_enabled: bool,
    /// The revision of users and roles.
    pub auth_revision: u64,
}

/// Whether a lease exists; the last answer is kept, since the keys of a lease often lie side by side.
pub struct LeaseTable<'a> {
    bucket: Option<Bucket<'a>>,
    last: Option<(i64, bool)>,
}

impl<'a> LeaseTable<'a> {
    /// The leases of a database.
    pub fn of(database: &Database<'a>) -> Self {
        Self {
            bucket: database.bucket(LEASE_BUCKET).ok().flatten(),
            last: None,
        }
    }

    /// Whether the lease is in the file.
    pub fn has(&mut self, id: i64) -> bool {
        if let Some((last, found)) = self.last
            && last == id
        {
            return found;
        }
        let found = self
            .bucket
            .is_some_and(|bucket| matches!(bucket.get(&id.to_be_bytes()), Ok(Some(_))));
        self.last = Some((id, found));
        found
    }
}

/// Reads and checks the rows of all buckets but `key`.
pub struct Schema<'a> {
    database: Database<'a>,
    bucket: &'a [u8],
    seen: BTreeSet<&'static [u8]>,
    about: About,
    consistent_index: bool,
    scheduled: Option<i64>,
    finished: Option<i64>,
    voters: Option<BTreeSet<u64>>,
    voting_members: BTreeSet<u64>,
}

#[derive(Deserialize)]
struct Member {
    id: u64,
    #[serde(default, rename = "isLearner")]
    is_learner: bool,
}

#[derive(Deserialize)]
struct ConfState {
    #[serde(default)]
    voters: BTreeSet<u64>,
}

impl<'a> Schema<'a> {
    /// Nothing seen yet.
    pub fn new(database: &Database<'a>) -> Self {
        Self {
            database: *database,
            bucket: b"",
            seen: BTreeSet::new(),
            about: About::default(),
            consistent_index: false,
            scheduled: None,
            finished: None,
            voters: None,
            voting_members: BTreeSet::new(),
        }
    }

    /// A bucket begins.
    pub fn bucket(&mut self, name: &'a [u8], findings: &mut Findings) {
        self.bucket = name;
        match BUCKETS.iter().find(|known| **known == name) {
            Some(known) => {
                self.seen.insert(known);
            }
            None => findings.warning(
                "BucketUnknown",
                format_args!("bucket {}", name.escape_ascii()),
                "etcd 3.4 to 3.7 make no such bucket",
            ),
        }
    }

    /// A row of the bucket.
    pub fn row(&mut self, row: &Row<'a>, findings: &mut Findings) {
        let problem = match self.bucket {
            b"meta" => self.meta(row),
            b"lease" => self.lease(row),
            b"alarm" => self.alarm(row, findings),
            b"auth" => self.auth(row),
            b"authUsers" => self.user(row, findings),
            b"authRoles" => named(row, 1),
            b"members" => self.member(row),
            b"members_removed" => self.removed(row, findings),
            b"cluster" => cluster(row),
            _ => Ok(()),
        };
        if let Err(problem) = problem {
            findings.error("RecordMalformed", self.place(row), problem);
        }
    }

    /// What shows only when everything was seen.
    pub fn finish(self, findings: &mut Findings) -> About {
        for required in REQUIRED {
            if !self.seen.contains(required) {
                findings.error(
                    "BucketMissing",
                    format_args!("bucket {}", required.escape_ascii()),
                    "an etcd database has this bucket",
                );
            }
        }
        if !self.consistent_index {
            let problem = "the raft index of the last change is missing; a restore sets its own";
            findings.warning("ConsistentIndexMissing", "bucket meta", problem);
        }
        if self.finished > self.scheduled {
            let problem = "a compaction is marked as finished that was never begun";
            findings.error("CompactionMarksWrong", "bucket meta", problem);
        }
        if let Some(voters) = &self.voters
            && *voters != self.voting_members
            && !self.voting_members.is_empty()
        {
            let problem =
                "the voters of confState are not the voting members; after a restore that is usual";
            findings.info("VotersDiffer", "bucket meta, key confState", problem);
        }
        if self.about.auth_enabled {
            self.check_root(findings);
        }
        self.about
    }

    fn place(&self, row: &Row<'_>) -> String {
        let (bucket, key) = (self.bucket.escape_ascii(), row.key.escape_ascii());
        format!("bucket {bucket}, key {key}")
    }

    fn meta(&mut self, row: &Row<'a>) -> Result<(), &'static str> {
        match row.key {
            b"consistent_index" => {
                self.consistent_index = true;
                positive(row.value).map(drop)
            }
            b"term" => positive(row.value).map(drop),
            b"confState" => {
                let state: ConfState = json(row.value)?;
                self.voters = Some(state.voters);
                Ok(())
            }
            b"scheduledCompactRev" | b"finishedCompactRev" => {
                let mark = RowKey::decode(row.value).filter(|mark| !mark.tombstone);
                let mark = mark.ok_or("it is not a revision")?.revision.main;
                if row.key == b"finishedCompactRev" {
                    self.finished = Some(mark);
                } else {
                    self.scheduled = Some(mark);
                }
                Ok(())
            }
            b"storageVersion" => {
                let version = version(row.value)?;
                self.about.storage_version = Some(version.to_owned());
                Ok(())
            }
            // A later etcd may keep more marks; none that we know changes what the rows mean.
            _ => Ok(()),
        }
    }

    fn lease(&mut self, row: &Row<'a>) -> Result<(), &'static str> {
        self.about.leases += 1;
        let key: &[u8; 8] = row.key.try_into().map_err(|_| "a lease has eight bytes")?;
        let (mut id, mut ttl) = (0, 0);
        for field in Fields::of(row.value) {
            match field? {
                (1, Field::Number(number)) => id = number.cast_signed(),
                (2, Field::Number(number)) => ttl = number.cast_signed(),
                _ => {}
            }
        }
        if id != i64::from_be_bytes(*key) {
            return Err("the lease in it is another one");
        }
        if ttl <= 0 {
            return Err("its time to live is not positive");
        }
        Ok(())
    }

    fn alarm(&mut self, row: &Row<'a>, findings: &mut Findings) -> Result<(), &'static str> {
        let (mut member, mut kind) = (0, 0);
        for field in Fields::of(row.key) {
            match field? {
                (1, Field::Number(number)) => member = number,
                (2, Field::Number(number)) => kind = number,
                _ => return Err("it has a field that etcd does not write"),
            }
        }
        let name = match kind {
            1 => "NOSPACE",
            2 => "CORRUPT",
            _ => return Err("it is no alarm that etcd raises"),
        };
        findings.warning(
            "AlarmRaised",
            format_args!("member {member:x}"),
            format_args!("the alarm {name} was raised, and is so again after a restore"),
        );
        if self.about.alarms.len() < MOST_LISTED {
            self.about.alarms.push(name.to_owned());
        }
        Ok(())
    }

    fn auth(&mut self, row: &Row<'a>) -> Result<(), &'static str> {
        match row.key {
            b"authEnabled" => {
                self.about.auth_enabled = match row.value {
                    [0] => false,
                    [1] => true,
                    _ => return Err("it is neither 0 nor 1"),
                };
                Ok(())
            }
            b"authRevision" => {
                self.about.auth_revision = positive(row.value)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn user(&mut self, row: &Row<'a>, findings: &mut Findings) -> Result<(), &'static str> {
        named(row, 1)?;
        let roles = self.database.bucket(b"authRoles").ok().flatten();
        for field in Fields::of(row.value) {
            let (3, Field::Bytes(role)) = field? else {
                continue;
            };
            // The role root is built in: etcd grants it without a row of its own.
            let known =
                role == ROOT || roles.is_some_and(|roles| matches!(roles.get(role), Ok(Some(_))));
            if !known {
                findings.warning(
                    "RoleMissing",
                    self.place(row),
                    format_args!("its role {} does not exist", role.escape_ascii()),
                );
            }
        }
        Ok(())
    }

    fn member(&mut self, row: &Row<'a>) -> Result<(), &'static str> {
        let member: Member = json(row.value)?;
        if member_id(row.key)? != member.id {
            return Err("the member in it is another one");
        }
        if !member.is_learner && self.voting_members.len() < MOST_LISTED {
            self.voting_members.insert(member.id);
        }
        Ok(())
    }

    fn removed(&mut self, row: &Row<'a>, findings: &mut Findings) -> Result<(), &'static str> {
        member_id(row.key)?;
        let members = self.database.bucket(b"members").ok().flatten();
        if members.is_some_and(|members| matches!(members.get(row.key), Ok(Some(_)))) {
            let problem = "the member is removed and present at once";
            findings.warning("MemberRemoved", self.place(row), problem);
        }
        Ok(())
    }

    fn check_root(&self, findings: &mut Findings) {
        let users = self.database.bucket(b"authUsers").ok().flatten();
        let root = users.and_then(|users| users.get(ROOT).ok().flatten());
        let problem = match root {
            None => "there is no user root to use it with",
            Some(user) if !has_role_root(user) => "the user root does not have the role root",
            Some(_) => return,
        };
        findings.error(
            "RootMissing",
            format_args!("user root"),
            format_args!("user management is on, but {problem}"),
        );
    }
}

/// Whether a user's row grants the role root.
fn has_role_root(user: &[u8]) -> bool {
    Fields::of(user).any(|field| matches!(field, Ok((3, Field::Bytes(ROOT)))))
}

fn positive(value: &[u8]) -> Result<u64, &'static str> {
    let bytes: &[u8; 8] = value.try_into().map_err(|_| "it is not eight bytes long")?;
    match u64::from_be_bytes(*bytes) {
        0 => Err("it is 0"),
        positive => Ok(positive),
    }
}

fn json<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, &'static str> {
    if value.len() > MOST_JSON {
        return Err("it is longer than etcd's record can be");
    }
    serde_json::from_slice(value).map_err(|_| "it is not the JSON that etcd writes")
}

fn version(value: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(value).map_err(|_| "it is not a version")?;
    let numbers = text.split('.').take(4);
    let plain =
        numbers.clone().count() == 3 && numbers.clone().all(|part| part.parse::<u32>().is_ok());
    if plain {
        Ok(text)
    } else {
        Err("it is not a version")
    }
}

fn cluster(row: &Row<'_>) -> Result<(), &'static str> {
    match row.key {
        b"clusterVersion" => version(row.value).map(|_| ()),
        b"downgrade" => json::<serde::de::IgnoredAny>(row.value).map(|_| ()),
        _ => Ok(()),
    }
}

/// The record's own name, in a field of its message, is its key.
fn named(row: &Row<'_>, number: u64) -> Result<(), &'static str> {
    let mut name: &[u8] = b"";
    for field in Fields::of(row.value) {
        if let (found, Field::Bytes(bytes)) = field?
            && found == number
        {
            name = bytes;
        }
    }
    if name == row.key {
        Ok(())
    } else {
        Err("the name in it is another one")
    }
}

fn member_id(key: &[u8]) -> Result<u64, &'static str> {
    std::str::from_utf8(key)
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or("its key is not a member's id")
}
