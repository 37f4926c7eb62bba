//! Whether a drill proves that its backup restores: decided from what was seen.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::repository::{Check, Level};
use crate::restore::chain::Chain;
use crate::restore::run::Outcome;
use crate::snapshot::HashKv;

/// What was seen in a drill, as far as it got.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every backup of the chain was fetched with the right digests.
    pub fetched: bool,
    /// The live cluster's hash that base and increments came to.
    pub held_to: Option<HashKv>,
    /// What was restored and read back.
    pub restored: Option<Outcome>,
    /// What the booted etcd said, or why there is nothing; absent when none was booted.
    pub booted: Option<Result<Booted, String>>,
    /// Why the proof broke off.
    pub broken: Option<String>,
}

/// What a booted etcd says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Booted {
    /// Its version.
    pub version: String,
    /// Its newest revision.
    pub revision: i64,
    /// HashKV at that revision.
    pub hash: u32,
}

/// The result of a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drilled {
    /// Whether the backup restores.
    pub ok: bool,
    /// Drilled when it does; what the backup's manifest says otherwise.
    pub level: Level,
    /// Id of the newest backup of the chain.
    pub backup: String,
    /// Id of the full backup that it stands on.
    pub base: String,
    /// Increments that were merged.
    pub increments: usize,
    /// Restored revision; 0 when it did not get that far.
    pub revision: i64,
    /// Live keys.
    pub keys: u64,
    /// HashKV at that revision.
    pub hash: u32,
    /// The etcd that was booted on the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Booted>,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// Unsealed bytes of the chain.
    #[serde(default)]
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Drilled {
    /// The first check that failed, in words.
    pub fn problem(&self) -> Option<String> {
        let failed = self.checks.iter().find(|check| !check.ok)?;
        Some(format!("{}: {}", failed.name, failed.message))
    }
}

/// Judges a drill of `chain`.
pub fn judge(chain: &Chain<'_>, seen: Seen, took: Duration) -> Drilled {
    let newest = chain.increments.last().copied().unwrap_or(chain.base);
    let mut checks = Vec::new();
    let mut check = |name: &str, ok: bool, message: String| {
        checks.push(Check {
            name: name.to_owned(),
            ok,
            message,
        });
    };
    let parts = chain.increments.len() + 1;
    if seen.fetched {
        check(
            "fetched",
            true,
            match parts {
                1 => "the backup was read from the store, with its digests".to_owned(),
                _ => format!("{parts} backups were read from the store, each with its digests"),
            },
        );
    }
    if let Some(live) = seen.held_to {
        check(
            "live-hashkv",
            true,
            format!(
                "base and increments come to HashKV {} at revision {}, as the live cluster had it",
                live.hash, live.revision
            ),
        );
    }
    if let Some(restored) = &seen.restored {
        check(
            "restored",
            true,
            format!(
                "{} keys at revision {}, read back and compared: HashKV {}",
                restored.keys, restored.revision, restored.hash
            ),
        );
        if let Some(live) = newest.hash_kv.filter(|live| {
            (live.revision, live.compact_revision) == (restored.revision, restored.compact_revision)
        }) {
            check(
                "live-hash",
                live.hash == restored.hash,
                format!("the live cluster had HashKV {} at that revision", live.hash),
            );
        }
    }
    let mut etcd = None;
    match (seen.booted, &seen.restored) {
        (Some(Ok(booted)), Some(restored)) => {
            let same = (booted.revision, booted.hash) == (restored.revision, restored.hash);
            check(
                "booted",
                same,
                format!(
                    "etcd {} started on it and says revision {}, HashKV {}",
                    booted.version, booted.revision, booted.hash
                ),
            );
            etcd = Some(booted);
        }
        (Some(Err(problem)), _) => check("booted", false, format!("etcd did not start: {problem}")),
        _ => {}
    }
    if let Some(problem) = seen.broken {
        let name = if seen.fetched { "restored" } else { "fetched" };
        check(name, false, problem);
    }
    let ok = seen.restored.is_some() && checks.iter().all(|check| check.ok);
    Drilled {
        ok,
        level: if ok { Level::Drilled } else { newest.level },
        backup: newest.id.clone(),
        base: chain.base.id.clone(),
        increments: chain.increments.len(),
        revision: seen.restored.as_ref().map_or(0, |one| one.revision),
        keys: seen.restored.as_ref().map_or(0, |one| one.keys),
        hash: seen.restored.as_ref().map_or(0, |one| one.hash),
        etcd,
        checks,
        bytes: chain.increments.iter().map(|one| one.raw_size).sum::<u64>() + chain.base.raw_size,
        seconds: took.as_secs_f64(),
    }
}
