//! `snapshot status|check|hashkv`: what a snapshot file is worth. Its bytes are only ever read.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::CliError;
use super::args::Global;
use super::context::Context;
use super::output;
use super::snapshot_contents::{Diff, Get, Ls};
use super::snapshot_file::SourceFlags;
use crate::api::ErrorClass;
use crate::etcd::known_problems;
use crate::repository::Level;
use crate::snapshot::{self, Digest, Finding, HashKv, Proof, Severity, Status};
use crate::verify::is_structure;

/// Look into a snapshot, with or without etcd's digest behind it; the file is never changed.
#[derive(Debug, Args)]
pub struct SnapshotVerbs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Save a snapshot of etcd to a file and prove it.
    Save(super::snapshot_save::Save),
    /// Say what a snapshot holds; exits with 3 when it is damaged.
    Status(StatusVerb),
    /// Check digest, pages, rows and history; exits with 3 when something forbids trusting the file.
    Check(Check),
    /// Compute the hash that etcd's HashKV gives for the same data.
    Hashkv(HashKvVerb),
    /// List keys, and what lies below each prefix.
    Ls(Ls),
    /// Print a key's value.
    Get(Get),
    /// Say which keys differ between two snapshots.
    Diff(Diff),
}

/// Say what a snapshot holds.
#[derive(Debug, Args)]
struct StatusVerb {
    /// Snapshot file, or URL of a store.
    file: String,
    #[command(flatten)]
    source: SourceFlags,
}

/// Check a snapshot.
#[derive(Debug, Args)]
struct Check {
    /// Snapshot file, or URL of a store.
    file: String,
    #[command(flatten)]
    source: SourceFlags,
}

/// Compute HashKV.
#[derive(Debug, Args)]
struct HashKvVerb {
    /// Snapshot file, or URL of a store.
    file: String,
    /// Up to this revision; the newest unless given.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    revision: Option<i64>,
    /// As if compacted here; as the file is unless given. A live hash is comparable at its own compact revision only.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    compact_revision: Option<i64>,
    #[command(flatten)]
    source: SourceFlags,
}

/// The JSON of `snapshot status`: more is known of a backup in a store than of a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(flatten)]
    status: &'a Status,
    /// The release that it was taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_version: Option<&'a str>,
    /// Why that release is a bad source of backups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The JSON of `snapshot check`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    ok: bool,
    /// Verified when the digest behind the image, the pages and the rows are right; Stored otherwise.
    level: Level,
    levels: Levels,
    /// What it holds; absent when it is too broken to say.
    status: Option<Status>,
    /// The hash at the newest revision.
    hash_kv: Option<HashKv>,
    findings: Vec<Finding>,
}

/// What was proved by itself, from the outside in; whether it agrees with the live cluster a file cannot say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Levels {
    /// The digest behind the image; absent when the file is too broken to find it.
    stored: Option<Digest>,
    /// The file as a whole and its pages.
    structure: bool,
    /// The rows and what they say of each other.
    rows: bool,
}

impl SnapshotVerbs {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "warn")?;
        match &self.verb {
            Verb::Save(verb) => verb.run(global, &context).await,
            Verb::Status(verb) => verb.run(global, &context).await,
            Verb::Check(verb) => verb.run(global, &context).await,
            Verb::Hashkv(verb) => verb.run(global, &context).await,
            Verb::Ls(verb) => verb.run(global, &context).await,
            Verb::Get(verb) => verb.run(global, &context).await,
            Verb::Diff(verb) => verb.run(global, &context).await,
        }
    }
}

impl StatusVerb {
    async fn run(&self, global: &Global, context: &Context) -> Result<ExitCode, CliError> {
        let file = self.source.open(context, &self.file).await?;
        let proof = snapshot::prove(file.bytes());
        let Some(status) = &proof.status else {
            return Err(unreadable(&self.file, &proof));
        };
        let etcd_version = file.etcd_version.as_deref();
        let told = Told {
            status,
            etcd_version,
            warnings: etcd_version.map(known_problems).unwrap_or_default(),
        };
        output::print(global.output, &told, status_words)?;
        if proof.ok() {
            return Ok(ExitCode::SUCCESS);
        }
        Err(unreadable(&self.file, &proof))
    }
}

impl Check {
    async fn run(&self, global: &Global, context: &Context) -> Result<ExitCode, CliError> {
        let file = self.source.open(context, &self.file).await?;
        let proof = snapshot::prove(file.bytes());
        let checked = checked(proof);
        output::print(global.output, &checked, check_words)?;
        let class = ErrorClass::VerificationFailed;
        Ok(if checked.ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(class.exit_code())
        })
    }
}

impl HashKvVerb {
    async fn run(&self, global: &Global, context: &Context) -> Result<ExitCode, CliError> {
        let file = self.source.open(context, &self.file).await?;
        let found = snapshot::hash_kv(file.bytes(), self.revision, self.compact_revision)?;
        output::print(global.output, &found, hash_words)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A file that was read whole is not proved by that: the digest must be there and right.
fn checked(proof: Proof) -> Checked {
    let ok = proof.ok() && proof.status.is_some();
    let digest = proof.status.as_ref().map(|status| status.digest);
    let sound = |structure| {
        proof.status.is_some()
            && proof
                .findings
                .iter()
                .filter(|finding| finding.severity == Severity::Error)
                .all(|finding| is_structure(finding) != structure)
    };
    let levels = Levels {
        stored: digest,
        structure: sound(true),
        rows: sound(false),
    };
    Checked {
        levels,
        ok,
        level: if ok && digest == Some(Digest::Ok) {
            Level::Verified
        } else {
            Level::Stored
        },
        status: proof.status,
        hash_kv: proof.hash_kv,
        findings: proof.findings,
    }
}

fn unreadable(file: &str, proof: &Proof) -> CliError {
    CliError::new(ErrorClass::VerificationFailed, damage(file, proof))
}

/// The first finding, which is the worst, and where to read the others.
fn damage(file: &str, proof: &Proof) -> String {
    let worst = proof.findings.first().map_or_else(
        || "a part of it cannot be reached".to_owned(),
        |worst| format!("{} at {}: {}", worst.code, worst.place, worst.message),
    );
    format!(
        "{file} is damaged: {worst}; see all with 'etcdguardian snapshot check', and use another backup"
    )
}

fn status_words(told: &Told<'_>) -> String {
    let status = told.status;
    let digest = match status.digest {
        Digest::Ok => "ok",
        Digest::Missing => "missing",
        Digest::Mismatch => "MISMATCH",
    };
    let version = status.storage_version.clone();
    let mut text = output::fields(&[
        ("revision", status.revision.to_string()),
        ("compacted", output::compacted(status.compact_revision)),
        ("keys", status.total_keys.to_string()),
        ("rows", status.rows.to_string()),
        ("database", output::bytes(status.db_size)),
        ("file", output::bytes(status.file_size)),
        ("digest", digest.to_owned()),
        ("hash", format!("{:x}", status.hash)),
        ("version", version.unwrap_or_else(|| "-".to_owned())),
        ("leases", status.leases.to_string()),
        (
            "alarms",
            if status.alarms.is_empty() {
                "-".to_owned()
            } else {
                status.alarms.join(", ")
            },
        ),
        (
            "auth",
            if status.auth_enabled { "on" } else { "off" }.to_owned(),
        ),
        ("etcd", told.etcd_version.unwrap_or("-").to_owned()),
    ]);
    for warning in &told.warnings {
        text.push_str(&format!("WARNING: {warning}\n"));
    }
    text
}

fn check_words(checked: &Checked) -> String {
    let rows: Vec<Vec<String>> = checked
        .findings
        .iter()
        .map(|finding| {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Info => "info",
            };
            vec![
                severity.to_owned(),
                finding.code.clone(),
                finding.place.clone(),
                finding.message.clone(),
            ]
        })
        .collect();
    let verdict = match (checked.ok, checked.level) {
        (true, Level::Stored) => "ok, as far as can be said without etcd's digest",
        (true, _) => "ok: digest, pages and rows are right",
        (false, _) => "DAMAGED: do not restore this file",
    };
    let mut text = format!("{verdict}\n");
    if let (Some(status), Some(found)) = (&checked.status, &checked.hash_kv) {
        text.push_str(&format!(
            "revision {}, {} keys, {} rows, {}; HashKV {} (compacted: {})\n",
            status.revision,
            status.total_keys,
            status.rows,
            output::bytes(status.db_size),
            found.hash,
            output::compacted(found.compact_revision)
        ));
    }
    if !rows.is_empty() {
        text.push_str(&output::table(
            &["SEVERITY", "CODE", "PLACE", "MESSAGE"],
            &rows,
        ));
    }
    text
}

fn hash_words(found: &HashKv) -> String {
    output::fields(&[
        ("hash", found.hash.to_string()),
        ("revision", found.revision.to_string()),
        ("compacted", output::compacted(found.compact_revision)),
    ])
}
