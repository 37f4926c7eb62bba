//! Kubernetes objects → a backup of kind Export: listed through the API, or taken out of a snapshot of etcd; then sealed, stored, read
//! back, and counted again.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use kube::core::SelectorExt;
use ring::digest::{SHA256, digest};

use super::export_changes::Changes;
use super::plan::How;
use super::run::{Attempt, Made, remove, scratch_failed};
use super::scratch::Scratch;
use super::seal_file::{Plain, provable};
use super::{PipelineError, Stage};
use crate::api::BackupMode;
use crate::etcd::{ConnectOptions, Etcd, EtcdError};
use crate::export::bundle::{self, About};
use crate::export::resources::{Selection, selector_of};
use crate::export::{ExportError, direct, proxy, ranged};
use crate::kms::Sealing;
use crate::repository::{Chain, Check, ExportScope, Kind, Level, Manifest, Repository};
use crate::seal::{Sealer, Unsealer};
use crate::verify;

/// How often an export out of etcd begins anew when etcd compacts the revision that it reads.
const COMPACTED_AGAIN: u32 = 3;

/// What an export is made with.
pub(super) struct Tools<'a> {
    pub repository: &'a Arc<Repository>,
    pub scratch: &'a Scratch,
    pub sealing: &'a Sealing,
    pub unsealer: Option<&'a Unsealer>,
}

/// A bundle on the local disk.
struct Exported {
    about: About,
    /// What was asked for.
    selection: Selection,
    /// What it builds on.
    chain: Option<Chain>,
    /// Why it is whole although changes were asked for.
    promoted: Option<String>,
}

impl Attempt<'_> {
    /// Makes an export whose data is stored and proved, and whose manifest is not written yet.
    pub(super) async fn export(&self, tools: &Tools<'_>, how: How) -> Result<Made, PipelineError> {
        let mut warnings = Vec::new();
        self.stages.begin(Stage::Snapshot);
        let plain = tools.scratch.file("bundle.tar");
        let exported = match how {
            How::Api => self.through_api(tools, &plain).await?,
            How::Etcd | How::EtcdObjects => self.out_of_etcd(&plain).await?,
        };
        let Exported {
            about,
            selection,
            chain,
            promoted,
        } = exported;
        warnings.extend(
            promoted.map(|why| format!("BackupPromotedToFull: {why}; so everything was exported")),
        );
        if objects_of(&about) == 0 && chain.is_none() {
            return Err(self.refused(
                "nothing was listed, so nothing is stored: look at the rights of who lists, and at the namespaces that are asked for",
            ));
        }
        for skipped in about
            .skipped
            .iter()
            .filter(|one| one.reason.starts_with(NOT_ALLOWED))
        {
            warnings.push(format!(
                "ExportIncomplete: {} was left out: {}",
                skipped.resource, skipped.reason
            ));
        }

        self.stages.begin(Stage::Store);
        let created = about.created.unwrap_or(self.request.started);
        let id = format!(
            "{}-{}",
            created.strftime("%Y%m%dT%H%M%S%.fZ"),
            self.request.name
        );
        let sealer = tools.sealing.of_backup(&cluster_id(&about), &id).await?;
        let (sealer, unsealer) = provable(sealer, tools.unsealer);
        let mut manifest = self.export_manifest(&sealer, &about, id, created);
        manifest.start_revision = about
            .parent
            .as_ref()
            .and_then(|parent| parent.resource_version.parse().ok());
        manifest.chain = chain;
        manifest.export = Some(ExportScope {
            selection: selection.digest(),
            kinds: about
                .kinds
                .iter()
                .map(|(resource, kind)| (resource.clone(), kind.api_version.clone()))
                .collect(),
        });
        let spent = Plain::spent(&plain, None);
        self.deposit(tools.repository, &sealer, spent, &mut manifest)
            .await?;

        if let Some(unsealer) = &unsealer {
            self.stages.begin(Stage::Verify);
            let check = self.prove_bundle(tools, &manifest, unsealer).await?;
            manifest.checks.push(check);
            manifest.level = Level::Verified;
        }
        Ok(Made {
            idle: None,
            merging: None,
            repository: Arc::clone(tools.repository),
            manifest,
            lease: None,
            warnings,
            about: Some(about),
        })
    }

    fn refused(&self, why: &str) -> PipelineError {
        PipelineError::Refused {
            name: self.request.name.clone(),
            why: why.to_owned(),
        }
    }

    /// What is exported: the namespaces that were named, else those that the spec selects among `all`.
    async fn selection(
        &self,
        all: impl AsyncFnOnce() -> Result<Vec<direct::Named>, ExportError>,
    ) -> Result<Selection, PipelineError> {
        let mut selection = self.request.export.clone();
        if let Some(resources) = &self.request.spec.export_resources {
            selection.include.clone_from(&resources.include);
            selection.exclude.clone_from(&resources.exclude);
            selection.add.clone_from(&resources.add);
        }
        let Some(selector) = &self.request.spec.namespace_selector else {
            return Ok(selection);
        };
        if selection.namespaces.is_empty() {
            let selector = selector_of(selector).map_err(|why| self.refused(&why))?;
            let matching = all().await?.into_iter();
            selection.namespaces = matching
                .filter(|one| selector.matches(&one.labels))
                .map(|one| one.name)
                .collect();
        }
        if selection.namespaces.is_empty() {
            return Err(self.refused("namespaceSelector selects no namespace that is there"));
        }
        Ok(selection)
    }

    async fn through_api(
        &self,
        tools: &Tools<'_>,
        plain: &Path,
    ) -> Result<Exported, PipelineError> {
        let client = self.services.api.client().await?;
        let selection = self
            .selection(async || proxy::namespaces(&client).await)
            .await?;
        let mut promoted = None;
        if self.request.spec.backup_mode == BackupMode::Incremental {
            let (about, chain, why) = match self.changed(tools, &client, &selection, plain).await? {
                Changes::Chained(about, chain) => (Some(about), Some(chain), None),
                Changes::Whole(about, why) => (Some(about), None, Some(why)),
                Changes::Due(why) => (None, None, Some(why)),
            };
            promoted = why;
            if let Some(about) = about {
                return Ok(Exported {
                    about,
                    selection,
                    chain,
                    promoted,
                });
            }
        }
        let out = BufWriter::with_capacity(1 << 20, create(plain)?);
        let spools = tools.scratch.folder();
        let (out, about) = proxy::export(&client, &selection, out, Some(spools), &told).await?;
        flush(out, plain)?;
        Ok(Exported {
            about,
            selection,
            chain: None,
            promoted,
        })
    }

    async fn out_of_etcd(&self, plain: &Path) -> Result<Exported, PipelineError> {
        let namespace = self.request.namespace.as_str();
        let secrets = self.services.secrets.as_ref();
        let options = ConnectOptions::resolve(&self.request.cluster, namespace, secrets).await?;
        let etcd = Etcd::connect(&options).await?;
        etcd.require_leader().await?;
        let mut again = 0;
        let (about, selection) = loop {
            match self.ranged(&etcd, plain).await {
                Err(PipelineError::Export(ExportError::Etcd(EtcdError::Compacted { .. })))
                    if again < COMPACTED_AGAIN =>
                {
                    again += 1;
                    remove(plain)?;
                }
                made => break made?,
            }
        };
        let whole = "an export out of etcd is whole each time".to_owned();
        Ok(Exported {
            about,
            selection,
            chain: None,
            promoted: (self.request.spec.backup_mode == BackupMode::Incremental).then_some(whole),
        })
    }

    /// The objects of the selected namespaces as of the newest revision, in `plain`.
    async fn ranged(&self, etcd: &Etcd, plain: &Path) -> Result<(About, Selection), PipelineError> {
        let created = Timestamp::now();
        let out = BufWriter::with_capacity(1 << 20, create(plain)?);
        let below = format!("{}/", direct::PREFIX);
        let mut pinned = etcd.pin(below.as_bytes()).await?;
        let all = ranged::namespaces(&mut pinned, direct::PREFIX).await?;
        let selection = self.selection(async || Ok(all.clone())).await?;
        let made = ranged::export(&mut pinned, &all, direct::PREFIX, &selection, created, out);
        let (out, mut about) = made.await?;
        flush(out, plain)?;
        if about.cluster_uid.is_empty() {
            about.cluster_uid = format!("{:016x}", pinned.member.cluster_id);
        }
        Ok((about, selection))
    }

    /// Reads the stored bundle back, and counts its objects anew.
    async fn prove_bundle(
        &self,
        tools: &Tools<'_>,
        manifest: &Manifest,
        unsealer: &Unsealer,
    ) -> Result<Check, PipelineError> {
        let copy = tools.scratch.file("read-back");
        let told = |done: u64| self.stages.bytes(done, manifest.stored_size);
        verify::fetch(tools.repository, manifest, unsealer, &copy, &told).await?;
        let file = File::open(&copy).map_err(scratch_failed(&copy))?;
        let reading = tokio::task::spawn_blocking(move || {
            bundle::read(BufReader::with_capacity(1 << 20, file), |_| Ok(()))
        });
        let counted = reading.await.map_err(|_| PipelineError::Interrupted {
            what: "the reading of the bundle",
        })?;
        let counted = counted.map_err(|source| ExportError::Bundle {
            action: "read",
            source,
        })?;
        remove(&copy)?;
        Ok(check(
            "bundle",
            format!(
                "read back from the store: {} objects, counted and compared by kind",
                objects_of(&counted)
            ),
        ))
    }

    fn export_manifest(
        &self,
        sealer: &Sealer,
        about: &About,
        id: String,
        created: Timestamp,
    ) -> Manifest {
        let cluster_id = cluster_id(about);
        let blank = self.blank_manifest(Kind::Export, created, sealer);
        let refused = about.skipped.iter();
        let refused = refused.filter(|one| one.reason.starts_with(NOT_ALLOWED));
        let listed = format!(
            "{} objects of {} kinds at resourceVersion {}; {} kinds were not allowed",
            objects_of(about),
            about.kinds.values().filter(|kind| kind.objects > 0).count(),
            about.resource_version,
            refused.count()
        );
        let cluster_name = if blank.cluster_name.is_empty() {
            about.platform.clone()
        } else {
            blank.cluster_name.clone()
        };
        Manifest {
            data_key: Repository::export_data_key(&cluster_id, &id, blank.compression, &blank.seal),
            id,
            cluster_id,
            cluster_name,
            etcd_version: format!("Kubernetes {}", about.server_version),
            revision: about.resource_version.parse().unwrap_or_default(),
            key_count: objects_of(about),
            checks: vec![check("listed", listed)],
            ..blank
        }
    }
}

const NOT_ALLOWED: &str = "not allowed";

/// Says how far a listing is.
pub(super) fn told(resource: &str, objects: u64) {
    tracing::info!(resource, objects, "listed");
}

pub(super) fn create(file: &Path) -> Result<File, PipelineError> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(scratch_failed(file))
}

/// Writes what is still in memory.
pub(super) fn flush(out: BufWriter<File>, file: &Path) -> Result<(), PipelineError> {
    let written = out.into_inner();
    written.map_err(|error| scratch_failed(file)(error.into_error()))?;
    Ok(())
}

fn check(name: &str, message: String) -> Check {
    Check {
        name: name.to_owned(),
        ok: true,
        message,
    }
}

fn objects_of(about: &About) -> u64 {
    about.kinds.values().map(|kind| kind.objects).sum()
}

/// A cluster behind an API server has no etcd id that we could know; its own UID gives one.
pub(super) fn cluster_id(about: &About) -> String {
    let digest = hex::encode(digest(&SHA256, about.cluster_uid.as_bytes()));
    digest.chars().take(16).collect()
}
