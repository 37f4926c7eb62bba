//! What every kind of backup has in common on its way into the store: the manifest's own words, then the data is sealed, stored, and
//! its sizes and digests noted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use tracing::{Instrument, Span, info_span};

use super::PipelineError;
use super::run::{Attempt, scratch_failed};
use super::seal_file::{Plain, Sealing, most_sealed, seal_file};
use crate::repository::{Kind, Level, Manifest, Repository, RepositoryError};
use crate::seal::Sealer;
use crate::telemetry;

impl Attempt<'_> {
    /// What a manifest of this attempt says whatever was read; who read it adds what it is, where it lies and how far it reaches.
    pub(super) fn blank_manifest(
        &self,
        kind: Kind,
        created: Timestamp,
        sealer: &Sealer,
    ) -> Manifest {
        let request = self.request;
        Manifest {
            format_version: 1,
            id: String::new(),
            kind,
            cluster_id: String::new(),
            cluster_name: request.cluster_name.clone(),
            member_id: String::new(),
            etcd_version: String::new(),
            backup_name: request.name.clone(),
            namespace: request.namespace.clone(),
            schedule: request.schedule.clone(),
            run_id: request.run_id.clone(),
            created,
            settled: None,
            covered_to: None,
            completed: created,
            start_revision: None,
            revision: 0,
            compact_revision: -1,
            key_count: 0,
            data_key: String::new(),
            raw_size: 0,
            stored_size: 0,
            plain_sha256: String::new(),
            stored_sha256: String::new(),
            compression: sealer.compression(),
            seal: sealer.describe(),
            chain: None,
            level: Level::Stored,
            checks: Vec::new(),
            hash_kv: None,
            shares: Vec::new(),
            export: None,
            auth_revision: None,
            synthetic: None,
            trace_id: telemetry::trace_id(&Span::current()),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Seals a file and stores it under the manifest's data key, which goes again when the attempt fails.
    pub(super) async fn deposit(
        &self,
        repository: &Arc<Repository>,
        sealer: &Sealer,
        plain: Plain,
        manifest: &mut Manifest,
    ) -> Result<(), PipelineError> {
        self.store_sealed(repository, sealer, plain, manifest)
            .await?;
        self.remember(Some((Arc::clone(repository), manifest.clone())));
        Ok(())
    }

    /// Seals a file and stores it under the manifest's data key while it is sealed; the manifest then says what went in and what
    /// lies there.
    pub(super) async fn store_sealed(
        &self,
        repository: &Repository,
        sealer: &Sealer,
        plain: Plain,
        manifest: &mut Manifest,
    ) -> Result<(), PipelineError> {
        let total = std::fs::metadata(plain.path())
            .map_err(scratch_failed(plain.path()))?
            .len();
        let what = plain.path().display().to_string();
        let Sealing {
            mut stored,
            done,
            work,
        } = seal_file(
            sealer,
            plain,
            info_span!(parent: self.stages.span(), "seal"),
        );
        let told = |_: u64| self.stages.bytes(done.load(Ordering::Relaxed), total);
        let most = most_sealed(total);
        let sent = repository
            .store_until_end(&manifest.data_key, most, &what, &mut stored, &told)
            .instrument(info_span!(parent: self.stages.span(), "upload"))
            .await;
        // What nobody stores is not sealed to its end.
        drop(stored);
        let sealed = work.await.map_err(|_| PipelineError::Interrupted {
            what: "the sealing of the backup",
        })?;
        let (sent, sealed) = match (sent, sealed) {
            (Ok(sent), Ok(sealed)) => (sent, sealed),
            // The stream broke because the sealing did.
            (Ok(_) | Err(RepositoryError::Source { .. }), Err(error)) => return Err(error),
            (Err(error), _) => return Err(error.into()),
        };
        manifest.raw_size = sealed.size;
        manifest.plain_sha256 = sealed.sha256;
        manifest.stored_size = sent.size;
        manifest.stored_sha256 = sent.sha256;
        Ok(())
    }
}
