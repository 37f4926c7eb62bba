//! A bundle of Kubernetes objects → a backup of kind Export: sealed, stored, read back, counted again, committed.

use std::path::Path;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};

use super::PipelineError;
use super::seal_file::seal_file;
use crate::export::bundle::{self, About};
use crate::repository::{Check, Kind, Level, Manifest, Repository};
use crate::seal::{Sealer, Unsealer};
use crate::verify;

/// Whose export it is.
#[derive(Debug, Clone)]
pub struct Named {
    /// Name of the backup.
    pub name: String,
    /// Namespace of the backup.
    pub namespace: String,
    /// Identity of the attempt.
    pub run_id: String,
}

/// Stores the plain bundle `plain`, proves what lies in the store, and writes the manifest. Without a key that opens the
/// seal only the stored bytes are proved.
///
/// # Errors
/// When it cannot be sealed, stored or proved; nothing is committed then.
pub async fn store(
    repository: &Repository,
    sealer: &Sealer,
    unsealer: &Unsealer,
    plain: &Path,
    about: &About,
    named: &Named,
) -> Result<Manifest, PipelineError> {
    let created = about.created.unwrap_or_else(Timestamp::now);
    let sealed_file = plain.with_extension("sealed");
    let sealed = seal_file(sealer, plain, &sealed_file, &|_| {}).await?;
    let mut manifest = manifest(sealer, about, named, created);
    manifest.raw_size = sealed.size;
    manifest.plain_sha256 = sealed.sha256;
    let stored = repository
        .store(&manifest.data_key, &sealed_file, &|_| {})
        .await?;
    manifest.stored_size = stored.size;
    manifest.stored_sha256 = stored.sha256;
    super::run::remove(&sealed_file)?;
    let proved = prove(repository, &mut manifest, unsealer, plain).await;
    if let Err(error) = proved {
        // What is not proved must not stay; a sweep takes what cannot be deleted now.
        let _ = repository.delete(&manifest).await;
        return Err(error);
    }
    manifest.completed = Timestamp::now();
    repository.commit(&manifest).await?;
    Ok(manifest)
}

/// Reads the stored bundle back, and counts its objects anew when a key opens it.
async fn prove(
    repository: &Repository,
    manifest: &mut Manifest,
    unsealer: &Unsealer,
    plain: &Path,
) -> Result<(), PipelineError> {
    let mut checks = std::mem::take(&mut manifest.checks);
    if unsealer.opens(&manifest.seal) {
        let copy = plain.with_extension("read-back");
        verify::fetch(repository, manifest, unsealer, &copy, &|_| {}).await?;
        let file = std::fs::File::open(&copy).map_err(super::run::scratch_failed(&copy))?;
        let counted = tokio::task::spawn_blocking(move || {
            bundle::read(std::io::BufReader::new(file), |_| Ok(()))
        })
        .await
        .map_err(|_| PipelineError::Interrupted {
            what: "the reading of the bundle",
        })?
        .map_err(super::run::scratch_failed(&copy))?;
        super::run::remove(&copy)?;
        checks.push(Check {
            name: "bundle".to_owned(),
            ok: true,
            message: format!(
                "read back from the store: {} objects, counted and compared by kind",
                objects_of(&counted)
            ),
        });
        manifest.level = Level::Verified;
    } else {
        verify::read_back(repository, manifest, unsealer, &|_| {}).await?;
    }
    manifest.checks = checks;
    Ok(())
}

fn objects_of(about: &About) -> u64 {
    about.kinds.values().map(|kind| kind.objects).sum()
}

fn manifest(sealer: &Sealer, about: &About, named: &Named, created: Timestamp) -> Manifest {
    // A cluster behind an API server has no etcd id that we could know; its own UID gives one.
    let cluster_id: String = hex::encode(digest(&SHA256, about.cluster_uid.as_bytes()))
        .chars()
        .take(16)
        .collect();
    let revision = about.resource_version.parse().unwrap_or_default();
    let id = format!("{}-{}", created.strftime("%Y%m%dT%H%M%S%.fZ"), named.name);
    let seal = sealer.describe();
    let compression = sealer.compression();
    let skipped = about
        .skipped
        .iter()
        .filter(|skipped| skipped.reason.starts_with("not allowed"))
        .count();
    let check = |name: &str, message: String| Check {
        name: name.to_owned(),
        ok: true,
        message,
    };
    Manifest {
        format_version: 1,
        data_key: Repository::export_data_key(&cluster_id, &id, compression, &seal),
        id,
        kind: Kind::Export,
        cluster_id,
        cluster_name: about.platform.clone(),
        member_id: String::new(),
        etcd_version: format!("Kubernetes {}", about.server_version),
        backup_name: named.name.clone(),
        namespace: named.namespace.clone(),
        schedule: None,
        run_id: named.run_id.clone(),
        created,
        completed: created,
        start_revision: None,
        revision,
        compact_revision: -1,
        key_count: objects_of(about),
        raw_size: 0,
        stored_size: 0,
        plain_sha256: String::new(),
        stored_sha256: String::new(),
        compression,
        seal,
        chain: None,
        level: Level::Stored,
        checks: vec![check(
            "listed",
            format!(
                "{} objects of {} kinds at resourceVersion {}; {skipped} kinds were not allowed",
                objects_of(about),
                about.kinds.values().filter(|kind| kind.objects > 0).count(),
                about.resource_version
            ),
        )],
        hash_kv: None,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
