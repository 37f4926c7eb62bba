//! An export of what changed since the newest one of its kind in the store, or the reason why everything is due.

use std::io::BufWriter;
use std::path::Path;

use kube::Client;

use super::PipelineError;
use super::export::{Tools, cluster_id, create, flush, told};
use super::plan;
use super::run::{Attempt, remove};
use crate::export::bundle::{About, Parent};
use crate::export::increment::{Increment, Since, export_changes};
use crate::export::proxy;
use crate::export::resources::Selection;
use crate::repository::Chain;

/// What came of asking for the changes alone.
pub(super) enum Changes {
    /// They are in the file, and this is their place in the chain.
    Chained(About, Chain),
    /// Everything is in the file, and why.
    Whole(About, String),
    /// There is no file, and everything is due, and why.
    Due(String),
}

impl Attempt<'_> {
    /// What changed, in `plain`.
    pub(super) async fn changed(
        &self,
        tools: &Tools<'_>,
        client: &Client,
        selection: &Selection,
        plain: &Path,
    ) -> Result<Changes, PipelineError> {
        let cluster = cluster_id(&proxy::about(client).await?);
        let catalog = tools.repository.catalog(Some(&cluster)).await?;
        let full_every = self.recording.full_every.as_ref();
        let now = self.request.started;
        let asked = selection.digest();
        let tip = plan::export_tip(&catalog.backups, self.request, &asked, full_every, now);
        let parent = match tip {
            Ok(parent) => parent,
            Err(why) => return Ok(Changes::Due(why)),
        };
        let since = Since {
            parent: Parent {
                id: parent.id.clone(),
                resource_version: parent.revision.to_string(),
            },
            kinds: parent.export.clone().unwrap_or_default().kinds,
        };
        let out = BufWriter::with_capacity(1 << 20, create(plain)?);
        let spools = tools.scratch.folder();
        let made = export_changes(client, selection, &since, out, Some(spools), &told).await?;
        match made {
            Increment::Promoted(why) => {
                remove(plain)?;
                Ok(Changes::Due(why))
            }
            Increment::Whole(out, about, why) => {
                flush(out, plain)?;
                Ok(Changes::Whole(*about, why))
            }
            Increment::Made(out, about) => {
                flush(out, plain)?;
                let base = parent.chain.as_ref().map(|chain| chain.base.clone());
                let chain = Chain {
                    base: base.unwrap_or_else(|| parent.id.clone()),
                    parent_sha256: parent.stored_sha256.clone(),
                    // A branch does no harm: an export is read back along its own parents.
                    epoch: 0,
                    merged: None,
                };
                Ok(Changes::Chained(*about, chain))
            }
        }
    }
}
