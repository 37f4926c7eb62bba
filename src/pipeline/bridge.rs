//! A new full backup and the chain before it: the old chain is led up to the new full's revision, so that no moment between the two
//! is lost, and what was recorded is held to the full's own rows. Whatever goes wrong here is said, and harms no full backup.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::increment::Tools;
use super::prove::on_map;
use super::run::Attempt;
use super::{Stage, plan};
use crate::cause::with_causes;
use crate::etcd::MemberStatus;
use crate::recorder::audit::{Agreement, AuditError, audit};
use crate::recorder::segment::SegmentReader;
use crate::recorder::spill::Ready as Segment;
use crate::recorder::watch::Recorder;
use crate::repository::{Check, LeaseTimes, Manifest, increments_of};
use crate::snapshot::Snapshot;
use crate::snapshot::bolt::Database;
use crate::verify;

/// So many published increments are read back to be compared: an etcd that is compacted every five minutes has fewer.
const MOST_COMPARED: usize = 32;

/// How the reason of a backup begins that is taken as the chain before it is contradicted.
pub(super) const DISAGREES: &str = "ChainDisagrees: ";

/// The drained full backup.
pub(super) struct Taken<'a> {
    pub(super) plain: &'a Path,
    pub(super) member: &'a MemberStatus,
    /// What was acknowledged before is in it.
    pub(super) created: Timestamp,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Bridged {
    pub(super) checks: Vec<Check>,
    pub(super) warnings: Vec<String>,
}

impl Attempt<'_> {
    /// Leads the chain before a new full backup up to it, with what `recorder` has of it, after comparing what both hold.
    pub(super) async fn bridge(
        &self,
        tools: &Tools<'_>,
        taken: &Taken<'_>,
        recorder: Option<&Recorder>,
        promoted: Option<&str>,
    ) -> Bridged {
        let mut bridged = Bridged::default();
        // What the live cluster contradicts is not published.
        if let Some(why) = promoted.filter(|why| why.starts_with(DISAGREES)) {
            bridged.warnings.push(why.to_owned());
            return bridged;
        }
        if let Err(problem) = self.try_bridge(tools, taken, recorder, &mut bridged).await {
            bridged.warnings.push(format!(
                "the chain before this full backup was not led up to it: {problem}"
            ));
        }
        bridged
    }

    async fn try_bridge(
        &self,
        tools: &Tools<'_>,
        taken: &Taken<'_>,
        recorder: Option<&Recorder>,
        bridged: &mut Bridged,
    ) -> Result<(), String> {
        let cluster_id = format!("{:016x}", taken.member.cluster_id);
        let catalog = tools.repository.catalog(Some(&cluster_id)).await;
        let backups = catalog.map_err(|error| with_causes(&error))?.backups;
        let Some(base) = plan::newest_base(&backups, self.request) else {
            return Ok(());
        };
        let increments = increments_of(base, &backups);
        let recorder = recorder.filter(|one| one.is_alive() && one.origin().base == base.id);
        if increments.is_empty() && recorder.is_none() {
            return Ok(());
        }
        self.stages.begin(Stage::Check);
        let tip = increments.last().copied().unwrap_or(base);
        let waiting: Vec<Segment> = match recorder {
            None => Vec::new(),
            Some(recorder) => {
                let cut = recorder.cut(taken.revision, Some(taken.created)).await;
                let cut = cut.map_err(|error| with_causes(&error))?;
                let later =
                    |segment: &Segment| segment.finished.footer.totals.last_revision > tip.revision;
                cut.segments.into_iter().filter(later).collect()
            }
        };
        let recorded = self
            .recorded_beyond(tools, &increments, taken.compact_revision)
            .await?;
        let waiting_files = waiting.iter().map(|segment| segment.path.clone());
        let files: Vec<PathBuf> = recorded.into_iter().chain(waiting_files).collect();
        match compare(taken.plain, files).await? {
            Ok(agreement) if agreement.rows > 0 => bridged.checks.push(Check {
                name: "recorded".to_owned(),
                ok: true,
                message: format!(
                    "its {} rows of revisions {} to {} are those that were recorded on {}",
                    agreement.rows, agreement.first, agreement.last, base.id
                ),
            }),
            Ok(_) => {}
            Err(error @ AuditError::Differs { .. }) => {
                bridged
                    .warnings
                    .push(format!("{DISAGREES}chain {}: {error}", base.id));
                bridged.checks.push(Check {
                    name: "recorded".to_owned(),
                    ok: false,
                    message: error.to_string(),
                });
                // What is not to be trusted is not published.
                return Ok(());
            }
            Err(other) => return Err(with_causes(&other)),
        }
        self.lead_up(tools, taken.member, base, tip, &waiting).await
    }

    /// Fetches the published increments that reach beyond a compaction: those whose rows the full backup still holds.
    async fn recorded_beyond(
        &self,
        tools: &Tools<'_>,
        increments: &[&Manifest],
        compacted: i64,
    ) -> Result<Vec<PathBuf>, String> {
        let Some(unsealer) = tools.unsealer else {
            return Ok(Vec::new());
        };
        let mut files = Vec::new();
        let newest = increments.len().saturating_sub(MOST_COMPARED);
        let newest = increments.iter().skip(newest);
        for increment in newest.filter(|one| one.revision > compacted) {
            let file = tools.scratch.file(&format!("recorded-{}", files.len()));
            verify::fetch(tools.repository, increment, unsealer, &file, &|_| {})
                .await
                .map_err(|error| with_causes(&error))?;
            files.push(file);
        }
        Ok(files)
    }

    /// Publishes what waits on disk as the old chain's last increments. It stays on disk, as what is beyond the full backup goes
    /// on standing on that.
    pub(super) async fn lead_up(
        &self,
        tools: &Tools<'_>,
        member: &MemberStatus,
        base: &Manifest,
        tip: &Manifest,
        waiting: &[Segment],
    ) -> Result<(), String> {
        if waiting.is_empty() {
            return Ok(());
        }
        let epoch = tip.chain.as_ref().map_or(0, |chain| chain.epoch);
        let (cluster, who) = (&tip.cluster_id, format!("backup {}", self.request.name));
        let times = LeaseTimes::default();
        let lease = tools
            .repository
            .lease(cluster, &base.id, &who, epoch, times);
        let lease = lease.await.map_err(|error| with_causes(&error))?;
        let mut parent = tip.clone();
        for segment in waiting {
            let made = self.follow_up(tools, &lease, segment, &parent, member);
            match made.await {
                Ok(manifest) => parent = manifest,
                Err(error) => {
                    self.clean_up().await;
                    lease.release().await;
                    return Err(with_causes(&error));
                }
            }
        }
        lease.release().await;
        tracing::info!(
            base = base.id,
            to = parent.revision,
            "what was recorded was added to the chain before more is made of it"
        );
        Ok(())
    }
}

async fn compare(
    plain: &Path,
    files: Vec<PathBuf>,
) -> Result<Result<Agreement, AuditError>, String> {
    let compared = on_map(plain, move |bytes| {
        let database = Database::open(Snapshot::split(bytes).image)?;
        let segments = files.iter().map(|path| {
            let file = File::open(path)?;
            SegmentReader::open(BufReader::with_capacity(256 << 10, file))
        });
        audit(&database, segments)
    });
    compared.await.map_err(|error| with_causes(&error))
}
