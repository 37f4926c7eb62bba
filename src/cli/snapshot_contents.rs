//! `snapshot ls|get|diff`: the keys in a snapshot.

use std::process::ExitCode;

use clap::Args;
use k8s_openapi::ByteString;
use serde::Serialize;

use super::CliError;
use super::args::Global;
use super::context::Context;
use super::output::{self, Format};
use super::snapshot_file::SourceFlags;
use crate::api::ErrorClass;
use crate::snapshot::contents::{self, Contents, Difference, PrefixSum};
use crate::snapshot::mvcc::KeyValue;

/// List keys.
#[derive(Debug, Args)]
pub struct Ls {
    /// Snapshot file, or URL of a store.
    file: String,
    /// Only keys that begin so.
    #[arg(default_value = "")]
    prefix: String,
    /// As of this revision; the newest unless given.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    revision: Option<i64>,
    /// Parts between slashes, behind PREFIX, by which sizes are summed.
    #[arg(long, default_value_t = 2, value_name = "N")]
    depth: usize,
    /// Print the sums by prefix only, the largest first.
    #[arg(long)]
    sums: bool,
    #[command(flatten)]
    source: SourceFlags,
}

/// Print a key's value.
#[derive(Debug, Args)]
pub struct Get {
    /// Snapshot file, or URL of a store.
    file: String,
    /// The key.
    key: String,
    /// KEY is hexadecimal, as `keyHex` of `ls -o json` is: for keys that are no text.
    #[arg(long)]
    hex: bool,
    /// As of this revision; the newest unless given.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    revision: Option<i64>,
    #[command(flatten)]
    source: SourceFlags,
}

/// Compare two snapshots.
#[derive(Debug, Args)]
pub struct Diff {
    /// The older snapshot: a file, or URL#ID of a backup.
    a: String,
    /// The newer snapshot: a file, or URL#ID of a backup.
    b: String,
    /// Only keys that begin so.
    #[arg(long, default_value = "", value_name = "PREFIX")]
    prefix: String,
    /// Parts between slashes, behind the prefix, by which changes are summed.
    #[arg(long, default_value_t = 2, value_name = "N")]
    depth: usize,
    #[command(flatten)]
    source: SourceFlags,
}

/// A key in the JSON of `snapshot ls`. Its size is that of key and value, in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    key: String,
    /// The key's bytes when they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    size: u64,
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: i64,
}

#[derive(Debug, Serialize)]
struct Listing {
    items: Vec<Item>,
    prefixes: Vec<PrefixSum>,
}

/// The JSON of `snapshot get`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    key: String,
    /// The key's bytes when they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    /// The value when it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// The value always.
    value_base64: ByteString,
    size: u64,
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: i64,
}

impl Ls {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let file = self.source.open(context, &self.file).await?;
        let prefix = self.prefix.as_bytes();
        let (keys, mut prefixes) = Contents::of(file.bytes(), prefix, self.revision, self.depth)?;
        if self.sums {
            prefixes.sort_by_key(|sum| std::cmp::Reverse(sum.bytes + sum.history));
        }
        let items = if self.sums {
            Vec::new()
        } else {
            keys.rows().map(|kv| item(&kv)).collect()
        };
        let listing = Listing { items, prefixes };
        output::print(global.output, &listing, |listing| {
            if self.sums {
                sums_table(&listing.prefixes)
            } else {
                listing
                    .items
                    .iter()
                    .map(|item| format!("{}\n", item.key.escape_debug()))
                    .collect()
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Get {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let file = self.source.open(context, &self.file).await?;
        let key = match self.hex {
            true => hex::decode(&self.key).map_err(|error| {
                let words = format!("KEY '{}' is not hexadecimal: {error}", self.key);
                CliError::new(ErrorClass::Usage, words)
            })?,
            false => self.key.as_bytes().to_vec(),
        };
        let found = contents::get(file.bytes(), &key, self.revision)?;
        let kv = found.ok_or_else(|| {
            let words = format!(
                "the key '{}' is not in {}; list keys with 'etcdguardian snapshot ls'",
                self.key, self.file
            );
            CliError::new(ErrorClass::NotFound, words)
        })?;
        if global.output == Format::Table {
            output::write_out(kv.value)?;
        } else {
            let found = Found {
                key: contents::text(kv.key),
                key_hex: key_hex(kv.key),
                value: std::str::from_utf8(kv.value).ok().map(str::to_owned),
                value_base64: ByteString(kv.value.to_vec()),
                size: contents::size(&kv),
                create_revision: kv.create_revision,
                mod_revision: kv.mod_revision,
                version: kv.version,
                lease: kv.lease,
            };
            output::print(global.output, &found, |_| String::new())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Diff {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let (first, second) = (
            self.source.open(context, &self.a).await?,
            self.source.open(context, &self.b).await?,
        );
        let prefix = self.prefix.as_bytes();
        let (before, _) = Contents::of(first.bytes(), prefix, None, self.depth)?;
        let (after, _) = Contents::of(second.bytes(), prefix, None, self.depth)?;
        let difference = before.difference(&after, prefix, self.depth);
        output::print(global.output, &difference, difference_words)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn key_hex(key: &[u8]) -> Option<String> {
    std::str::from_utf8(key).is_err().then(|| hex::encode(key))
}

fn item(kv: &KeyValue<'_>) -> Item {
    Item {
        key: contents::text(kv.key),
        key_hex: key_hex(kv.key),
        size: contents::size(kv),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn sums_table(sums: &[PrefixSum]) -> String {
    let rows: Vec<Vec<String>> = sums
        .iter()
        .map(|sum| {
            vec![
                sum.prefix.escape_debug().to_string(),
                sum.keys.to_string(),
                output::bytes(sum.bytes),
                output::bytes(sum.history),
            ]
        })
        .collect();
    output::table(&["PREFIX", "KEYS", "SIZE", "HISTORY"], &rows)
}

fn difference_words(difference: &Difference) -> String {
    let mut text = String::new();
    for (mark, keys) in [
        ('+', &difference.created),
        ('~', &difference.changed),
        ('-', &difference.deleted),
    ] {
        for key in keys {
            text.push_str(&format!("{mark} {}\n", key.escape_debug()));
        }
    }
    let rows: Vec<Vec<String>> = difference
        .prefixes
        .iter()
        .map(|sum| {
            vec![
                sum.prefix.escape_debug().to_string(),
                sum.created.to_string(),
                sum.changed.to_string(),
                sum.deleted.to_string(),
                output::bytes(sum.bytes),
                format!("{:+}", sum.growth),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let header = [
            "PREFIX", "CREATED", "CHANGED", "DELETED", "WRITTEN", "GROWTH",
        ];
        text.push_str(&output::table(&header, &rows));
    }
    text
}
